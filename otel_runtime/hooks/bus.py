"""The event bus: publish and subscribe by kind, in the shape of the Dreadnode runtime page.

Synchronous handlers run in the order of registration where the event is published, and see every event. Asynchronous ones, and those
registered with a queue, get events one after the other from a bounded queue of their own; one that is too slow loses events, is told so
by `transport.lagged`, and can catch up with `replay(after_seq=...)`. A failing handler is isolated and counted. The last events are kept
for replay.
"""

from __future__ import annotations

import itertools
import logging
import threading
import uuid
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from inspect import isawaitable
from typing import TYPE_CHECKING, NamedTuple

from otel_runtime.hooks.kinds import check_custom_kind
from otel_runtime.hooks.queued import Queued, is_asynchronous
from otel_runtime.values.trace import EventEnvelope

if TYPE_CHECKING:
    from otel_runtime.hooks.background import Background

__all__ = ["QUEUE", "EventBus", "Handler", "Subscription", "Subscriptions"]

Handler = Callable[[EventEnvelope], object]
_log = logging.getLogger("otel_runtime.hooks")
# Events that may wait for an asynchronous handler.
QUEUE = 1_024
_TERMINAL = frozenset({"turn.completed", "turn.failed", "turn.cancelled"})


class Subscription(NamedTuple):
    """One registration.

    Args:
        pattern: A kind, `prefix.*` or `*`.
        handler: Takes each envelope.
        queue: Events that may wait for it; 0 for a handler that runs where the event is published.
    """

    pattern: str
    handler: Handler
    queue: int = 0


class Subscriptions:
    """Handlers by kind pattern: an exact kind, `prefix.*`, or `*`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._all: tuple[Subscription, ...] = ()

    def add(self, pattern: str, handler: Handler, *, queue: int | None = None) -> None:
        """Register a handler.

        Args:
            pattern: A kind, `prefix.*` or `*`.
            handler: Takes each envelope; it may be asynchronous.
            queue: Events that may wait for it, at least 1; None queues for asynchronous handlers only.

        Raises:
            ValueError: The pattern is empty or has a `*` anywhere but at its end; the queue has no place.
            TypeError: The handler cannot be called.
        """
        if (
            not isinstance(pattern, str)
            or not pattern
            or "*" in pattern[:-1]
            or (pattern.endswith("*") and pattern != "*" and not pattern.endswith(".*"))
        ):
            raise ValueError(f"expected an event kind, `prefix.*` or `*`, got `{pattern}`")
        if not callable(handler):
            raise TypeError(f"expected a function for event kind `{pattern}`, got `{type(handler).__name__}`")
        if queue is not None and queue < 1:
            raise ValueError(
                f"expected a queue of at least 1 event for `{pattern}`, got `{queue}`; leave it out to run where events are published"
            )
        size = queue if queue is not None else QUEUE if is_asynchronous(handler) else 0
        with self._lock:
            self._all = (*self._all, Subscription(pattern, handler, size))

    def remove(self, handler: Handler) -> None:
        """Forget every registration of a handler; an unknown one is no error."""
        with self._lock:
            self._all = tuple(known for known in self._all if known.handler != handler)

    def matching(self, kind: str) -> list[Subscription]:
        """Registrations for a kind, in their order."""
        return [known for known in self._all if _fits(known.pattern, kind)]


class EventBus:
    """The bus of one runtime.

    Args:
        everywhere: Subscriptions made with `rt.on_event`.
        own: Subscriptions of this runtime.
        background: Where coroutines of asynchronous handlers go.
        keep: Number of past events kept for replay.
    """

    def __init__(self, everywhere: Subscriptions, own: Subscriptions, background: Background, keep: int = 1_024) -> None:
        self._everywhere = everywhere
        self._own = own
        self._background = background
        self._numbers = itertools.count(1)
        # Re-entrant: a loop that starts tasks eagerly runs a handler where its event is queued, and that may publish.
        self._lock = threading.RLock()
        self._past: deque[EventEnvelope] = deque(maxlen=keep)
        # By identity: a handler need not be hashable.
        self._queues: dict[int, tuple[Subscription, Queued]] = {}
        self.errors: Counter[str] = Counter()

    @property
    def lost(self) -> int:
        """Events that slow subscribers never got."""
        return sum(queue.lost for _, queue in list(self._queues.values()))

    def publish(self, kind: str, payload: Mapping[str, object] | None = None, *, session_id: str | None = None) -> EventEnvelope:
        """Publish an event of the application's own.

        Args:
            kind: Dotted kind outside the reserved namespaces.
            payload: Plain data.
            session_id: The session it belongs to; None for the runtime as a whole.

        Raises:
            ReservedKind: The kind belongs to the runtime.
            ValueError: The kind is malformed.
        """
        check_custom_kind(kind)
        return self.emit(kind, payload, session_id=session_id)

    def emit(
        self, kind: str, payload: Mapping[str, object] | None = None, *, session_id: str | None = None, turn_id: str | None = None
    ) -> EventEnvelope:
        """Publish an event of the runtime itself; reserved kinds are allowed."""
        with self._lock:
            envelope = EventEnvelope(
                kind=kind,
                payload=dict(payload or {}),
                event_id=uuid.uuid4().hex,
                seq=next(self._numbers),
                timestamp=datetime.now(UTC),
                session_id=session_id,
                turn_id=turn_id,
                terminal=kind in _TERMINAL,
            )
            self._past.append(envelope)
            told = (*self._everywhere.matching(kind), *self._own.matching(kind))
            # Under the lock: two publishers at once must not swap their events in a queue.
            for known in told:
                if known.queue:
                    self._queue_of(known).offer(envelope)
        for known in told:
            if not known.queue:
                self._call(known.handler, envelope)
        return envelope

    def replay(self, handler: Handler, *, after_seq: int = 0, kind: str = "*") -> int:
        """Hand past events to a handler again, marked as replay.

        Args:
            handler: Takes each envelope; its failures are raised here, because the caller asked. An asynchronous one gets them one after
                the other on the background's loop; its failure is raised by the next flush.
            after_seq: Only events with a higher number.
            kind: Kind, `prefix.*` or `*`.

        Returns:
            How many were handed over; events older than the buffer are gone.
        """
        with self._lock:
            past = [item for item in self._past if item.seq > after_seq and _fits(kind, item.kind)]
        again = [replace(item, replay=True) for item in past]
        if is_asynchronous(handler):
            self._background.add(_one_by_one(handler, again))
        else:
            for item in again:
                handler(item)
        return len(past)

    def _queue_of(self, known: Subscription) -> Queued:
        found = self._queues.get(id(known))
        if found is None:
            found = self._queues[id(known)] = known, Queued(known.handler, known.queue, self._background, self._count)
        return found[1]

    def _call(self, handler: Handler, envelope: EventEnvelope) -> None:
        try:
            result = handler(envelope)
            if isawaitable(result):
                # A plain function that returned a coroutine: it could not be known for asynchronous.
                Queued(_given(result), 1, self._background, self._count).offer(envelope)
        except Exception as error:  # noqa: BLE001  # a handler may raise anything; the publisher must not notice
            self._count(envelope.kind, error)

    def _count(self, kind: str, error: Exception) -> None:
        self.errors[kind] += 1
        if self.errors[kind] == 1:
            _log.warning("a handler of event kind `%s` failed; later failures are only counted", kind, exc_info=error)


async def _one_by_one(handler: Handler, envelopes: Sequence[EventEnvelope]) -> None:
    for envelope in envelopes:
        result = handler(envelope)
        if isawaitable(result):
            await result


def _fits(pattern: str, kind: str) -> bool:
    return pattern in ("*", kind) or (pattern.endswith(".*") and kind.startswith(pattern[:-1]))


def _given(result: Awaitable[object]) -> Handler:
    async def wait(_: EventEnvelope) -> object:
        return await result

    return wait
