"""The event bus: kinds, reserved namespaces, replay."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

import otel_runtime as rt
from otel_runtime.errors import ReservedKind
from otel_runtime.hooks.background import Background
from otel_runtime.hooks.bus import EventBus, Subscriptions
from otel_runtime.hooks.kinds import RESERVED_PREFIXES, check_custom_kind
from otel_runtime.values.trace import EventEnvelope
from otel_runtime.wrap.ambient import SUBSCRIPTIONS


@pytest.fixture
def subscriptions() -> Subscriptions:
    """Subscriptions of one runtime."""
    return Subscriptions()


@pytest.fixture
def background() -> Iterator[Background]:
    """A loop for asynchronous handlers."""
    made = Background("test")
    yield made
    made.stop()


@pytest.fixture
def bus(subscriptions: Subscriptions, background: Background) -> EventBus:
    """A bus that keeps three events."""
    return EventBus(Subscriptions(), subscriptions, background, keep=3)


class TestPublish:
    """Events reach those who asked for them."""

    @pytest.mark.parametrize(
        ("pattern", "expected"), [("myapp.a", ["myapp.a"]), ("myapp.*", ["myapp.a", "myapp.b"]), ("*", ["myapp.a", "other", "myapp.b"])]
    )
    def test_by_kind_prefix_or_all(self, bus: EventBus, subscriptions: Subscriptions, pattern: str, expected: list[str]) -> None:
        """A subscriber gets the kinds of its pattern, in order."""
        seen: list[str] = []
        subscriptions.add(pattern, lambda event: seen.append(event.kind))
        for kind in ("myapp.a", "other", "myapp.b"):
            bus.publish(kind)
        assert seen == expected

    def test_envelopes_are_numbered_without_gaps(self, bus: EventBus) -> None:
        """The sequence starts at 1 and counts every event of the bus."""
        assert [bus.publish("myapp.x", {"n": n}, session_id="s").seq for n in range(3)] == [1, 2, 3]

    def test_a_failing_handler_is_isolated(self, bus: EventBus, subscriptions: Subscriptions) -> None:
        """The next handler still gets the event, and the failure is counted."""
        seen: list[EventEnvelope] = []

        def fail(event: EventEnvelope) -> None:
            raise ValueError("handler")

        subscriptions.add("*", fail)
        subscriptions.add("*", seen.append)
        bus.publish("myapp.x")
        assert (len(seen), bus.errors["myapp.x"]) == (1, 1)

    @pytest.mark.parametrize("pattern", ["", "a*", "*a", "a.*.b"])
    def test_malformed_patterns_are_refused(self, subscriptions: Subscriptions, pattern: str) -> None:
        """A pattern that could never match is a mistake."""
        with pytest.raises(ValueError, match="expected an event kind"):
            subscriptions.add(pattern, print)

    def test_terminal_kinds_are_marked(self, bus: EventBus) -> None:
        """The one event that ends a turn says so."""
        assert [bus.emit(kind).terminal for kind in ("turn.started", "turn.completed")] == [False, True]


class TestReservedKinds:
    """Namespaces of the runtime are closed to applications."""

    @pytest.mark.parametrize("prefix", RESERVED_PREFIXES)
    def test_published_prefixes_are_refused(self, bus: EventBus, prefix: str) -> None:
        """Every prefix of the published list is refused."""
        with pytest.raises(ReservedKind):
            bus.publish(f"{prefix}mine")

    @pytest.mark.parametrize(
        "kind",
        ["Turn.x", "TURN.x", "tu\u200brn.x", "\uff54urn.x", "\u0455ession.x", "pr\u043empt.x", "turn\u2024x", "turn", "t\u0301urn.x"],
    )
    def test_look_alikes_are_refused(self, kind: str) -> None:
        """A kind that a reader would take for the runtime's is refused too."""
        with pytest.raises(ReservedKind):
            check_custom_kind(kind)

    @pytest.mark.parametrize("kind", ["myapp.x", "turnip.x", "bridge.turn.x", "capability.mail.sent", "sessions.x"])
    def test_others_are_free(self, kind: str) -> None:
        """Only the namespace itself is reserved."""
        check_custom_kind(kind)
        assert not kind.startswith(RESERVED_PREFIXES)

    @pytest.mark.parametrize("kind", ["", "a b", "a\n", "x" * 257])
    def test_malformed_kinds_are_refused(self, kind: str) -> None:
        """White space, control characters and endless kinds are mistakes."""
        with pytest.raises(ValueError, match="expected an event kind"):
            check_custom_kind(kind)


class TestReplay:
    """Past events for those who come late."""

    def test_after_a_sequence_number(self, bus: EventBus) -> None:
        """A subscriber gets what it missed, marked as replay; what left the buffer is gone."""
        for number in range(5):
            bus.publish("myapp.x", {"n": number})
        seen: list[EventEnvelope] = []
        assert bus.replay(seen.append, after_seq=3) == 2
        assert [(event.seq, event.replay) for event in seen] == [(4, True), (5, True)]
        assert bus.replay(lambda event: None) == 3

    def test_an_asynchronous_handler_gets_them_in_order(self, bus: EventBus, background: Background) -> None:
        """One after the other, finished by a flush, which also says how it failed."""
        seen: list[int] = []

        async def handle(event: EventEnvelope) -> None:
            await asyncio.sleep(0.002 if event.seq == 3 else 0)
            seen.append(event.seq)
            if event.seq == 5:
                raise ValueError("handler")

        for _ in range(5):
            bus.publish("myapp.x")
        assert 3 == bus.replay(handle, after_seq=2)
        with pytest.raises(ValueError, match="handler"):
            background.flush(60)
        assert [3, 4, 5] == seen


class TestQueues:
    """Subscribers that work at their own pace."""

    def test_asynchronous_handlers_get_events_in_order(self, bus: EventBus, subscriptions: Subscriptions, background: Background) -> None:
        """One after the other, however long each takes."""
        seen: list[int] = []

        async def handle(event: EventEnvelope) -> None:
            await asyncio.sleep(0.002 if event.seq % 2 else 0)
            seen.append(event.seq)

        subscriptions.add("myapp.*", handle)
        for _ in range(20):
            bus.publish("myapp.x")
        assert background.flush(60) is True
        assert list(range(1, 21)) == seen

    def test_several_publishers_keep_the_order_of_numbers(
        self, bus: EventBus, subscriptions: Subscriptions, background: Background
    ) -> None:
        """Events of one session reach a subscriber in the order of their numbers."""
        seen: list[tuple[str | None, int]] = []

        async def handle(event: EventEnvelope) -> None:
            seen.append((event.session_id, event.seq))

        subscriptions.add("*", handle)
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda n: bus.publish("myapp.x", session_id=f"s{n % 3}"), range(200)))
        background.flush(60)
        for session in ("s0", "s1", "s2"):
            numbers = [seq for name, seq in seen if name == session]
            assert sorted(numbers) == numbers
        assert 200 == len(seen)

    def test_a_slow_one_loses_events_and_is_told(self, bus: EventBus, subscriptions: Subscriptions, background: Background) -> None:
        """Its own queue is bounded; others lose nothing; it can ask for what it missed."""
        gate, slow, quick = threading.Event(), list[EventEnvelope](), list[int]()

        def handle(event: EventEnvelope) -> None:
            gate.wait(60)
            slow.append(event)

        subscriptions.add("*", handle, queue=2)
        subscriptions.add("*", lambda event: quick.append(event.seq))
        for _ in range(10):
            bus.publish("myapp.x")
        gate.set()
        background.flush(60)
        told = next(event for event in slow if event.kind == "transport.lagged")
        got = [event.seq for event in slow if event.kind == "myapp.x"]
        assert list(range(1, 11)) == quick
        assert (bus.lost, 10 - len(got)) == (told.payload["lost"], told.payload["lost"])
        assert told.payload["last_seq"] == 10
        assert bus.replay(lambda event: None, after_seq=9) == 1

    def test_outlives_its_loop(self, bus: EventBus, subscriptions: Subscriptions, background: Background) -> None:
        """A loop that ends while events wait, as `asyncio.run` does, takes only the event in hand with it: the others come, and later ones too."""
        seen: list[object] = []
        started = asyncio.Event()

        async def handler(event: EventEnvelope) -> None:
            if event.payload["n"] == 0:
                started.set()
                await asyncio.Event().wait()
            seen.append(event.payload["n"])

        subscriptions.add("myapp.*", handler)

        async def main() -> None:
            for n in range(3):
                bus.publish("myapp.x", {"n": n})
            await started.wait()

        asyncio.run(main())
        assert background.flush(30)
        bus.publish("myapp.x", {"n": 3})
        assert background.flush(30)
        assert seen == [1, 2, 3]

    def test_a_failing_queued_handler_is_isolated(self, bus: EventBus, subscriptions: Subscriptions, background: Background) -> None:
        """The next event still comes, and a flush raises nothing."""
        seen: list[int] = []

        async def handle(event: EventEnvelope) -> None:
            seen.append(event.seq)
            raise ValueError("handler")

        subscriptions.add("*", handle)
        for _ in range(2):
            bus.publish("myapp.x")
        assert background.flush(60) is True
        assert ([1, 2], 2) == (seen, bus.errors["myapp.x"])

    def test_one_that_was_removed_gets_nothing(self, bus: EventBus, subscriptions: Subscriptions) -> None:
        """Forgetting a handler forgets all its patterns."""
        seen: list[EventEnvelope] = []
        subscriptions.add("*", seen.append)
        subscriptions.add("myapp.*", seen.append)
        subscriptions.remove(seen.append)
        bus.publish("myapp.x")
        assert [] == seen

    def test_the_public_face_takes_a_queue(self, bus: EventBus, background: Background) -> None:
        """`rt.on_event(kind, queue=...)` gives a synchronous handler a queue and a pace of its own."""
        gate, seen = threading.Event(), list[str]()

        @rt.on_event("queued.test", queue=1)
        def handle(event: EventEnvelope) -> None:
            gate.wait(60)
            seen.append(event.kind)

        public = EventBus(SUBSCRIPTIONS, Subscriptions(), background)
        try:
            for _ in range(4):
                public.publish("queued.test")
        finally:
            SUBSCRIPTIONS.remove(handle)
        gate.set()
        background.flush(60)
        assert (True, True) == ("transport.lagged" in seen, 1 <= public.lost <= 3)

    def test_an_empty_queue_is_refused(self, subscriptions: Subscriptions) -> None:
        """It could hold no event at all."""
        with pytest.raises(ValueError, match="at least 1 event"):
            subscriptions.add("*", print, queue=0)
