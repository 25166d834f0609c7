from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from otel_runtime.errors import StoreError
from otel_runtime.policy.budgets import NO_LIMIT, window_of
from otel_runtime.policy.counters import CalendarCounter, SlidingCounter
from otel_runtime.policy.facts_memory import MemoryFacts
from otel_runtime.policy.loading import LoadedPolicy, load_policy_text
from otel_runtime.policy.protocol import CounterKey, Hold, Needs, Reservation, Spent, Start
from otel_runtime.values.action import Action

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
KEY = CounterKey("r:calls", "all", "sliding:60")


def load(over: str, decision: str = "deny", more: str = "") -> LoadedPolicy:
    terms = ", approval: {approvers: [anyone]}" if decision == "require-approval" else ""
    return load_policy_text(
        f"version: 1\ndefault: allow\ntools: {{pay: {{args: {{amount: number}}}}}}\nrules:\n"
        f"  - {{id: limit, tool: pay, over: {over}, decision: {decision}{terms}{more}}}\n"
    )


def call(amount: object = 1, **more: Any) -> Action:
    given: dict[str, Any] = {"session": "s", "user": "carla", "tenant": "t", "args": {"amount": amount}, **more}
    return Action("tool", "pay", **given)


def run(loaded: LoadedPolicy, facts: MemoryFacts, action: Action, now: datetime = NOW) -> str:
    """One admission by the protocol's order: needs, peek, decide, begin; decided again where a limit was reached meanwhile."""
    engine = loaded.engine
    while True:
        needs = engine.needs(action, now)
        ruling = engine.decide(action, None if needs is None else facts.peek(needs, now), now)
        if ruling.decision.value != "allow" or ruling.start is None or facts.begin(ruling.start, now) is not None:
            return ruling.decision.value


class TestLimits:
    def test_calls(self) -> None:
        """As many calls as the limit says run, the next does not."""
        loaded, facts = load("{calls: 3, by: session, per: 1min}", "retryable-failure"), MemoryFacts()
        assert ["allow"] * 3 + ["retryable-failure"] * 2 == [run(loaded, facts, call()) for _ in range(5)]

    def test_zero(self) -> None:
        """A limit of zero lets nothing through."""
        assert run(load("{calls: 0, by: all, per: 1min}"), MemoryFacts(), call()) == "deny"

    def test_sliding(self) -> None:
        """A sliding window forgets a call exactly one window later."""
        loaded, facts = load("{calls: 1, by: all, per: 1min}"), MemoryFacts()
        moments = [0, 59.999, 60, 60.5]
        assert ["allow", "deny", "allow", "deny"] == [run(loaded, facts, call(), NOW + timedelta(seconds=moment)) for moment in moments]

    def test_calendar(self) -> None:
        """A calendar day begins at midnight of its zone."""
        loaded, facts = load("{calls: 1, by: all, per: day, tz: Europe/Berlin}"), MemoryFacts()
        moments = [
            datetime(2026, 11, 20, 22, 30, tzinfo=UTC),
            datetime(2026, 11, 20, 22, 59, tzinfo=UTC),
            datetime(2026, 11, 20, 23, 0, tzinfo=UTC),
        ]
        assert ["allow", "deny", "allow"] == [run(loaded, facts, call(), moment) for moment in moments]

    @pytest.mark.parametrize(
        ("by", "other"),
        [("session", {"session": "x"}), ("user", {"user": "x"}), ("tenant", {"tenant": "x"}), ("agent", {"agents": ("b",)})],
    )
    def test_whose(self, by: str, other: dict[str, Any]) -> None:
        """Each session, user, tenant or agent has its own counter."""
        loaded, facts = load(f"{{calls: 1, by: {by}, per: 1min}}"), MemoryFacts()
        assert ["allow", "deny", "allow"] == [run(loaded, facts, call(**({"agents": ("a",)} | more))) for more in ({}, {}, other)]

    @pytest.mark.parametrize("by", ["session", "user", "tenant", "agent"])
    def test_nobody(self, by: str) -> None:
        """Where it is not known whose call it is, a limit that denies denies."""
        nobody = call(session=None, user=None, tenant=None)
        assert run(load(f"{{calls: 5, by: {by}, per: 1min}}"), MemoryFacts(), nobody) == "deny"

    def test_ancestors_are_charged(self) -> None:
        """What a sub-agent does counts on every agent above it."""
        loaded, facts = load("{calls: 2, by: agent, per: 1min}"), MemoryFacts()
        chains = [("top", "a"), ("top", "b"), ("top", "c"), ("a",), ("a",)]
        assert ["allow", "allow", "deny", "allow", "deny"] == [run(loaded, facts, call(agents=chain)) for chain in chains]

    def test_sum(self) -> None:
        """An argument is summed up exactly, in decimals."""
        loaded, facts = load("{sum: args.amount, max: 0.3, by: user, per: day, tz: UTC}", "require-approval"), MemoryFacts()
        assert ["allow", "allow", "allow", "require-approval"] == [run(loaded, facts, call(0.1)) for _ in range(4)]

    @pytest.mark.parametrize("amount", [-5, Decimal("-0.01")])
    def test_negative_sum(self, amount: object) -> None:
        """A negative amount makes no room: it is unknown, and the limit binds."""
        assert run(load("{sum: args.amount, max: 100, by: user, per: 1d}"), MemoryFacts(), call(amount)) == "deny"

    def test_approved_call_counts(self) -> None:
        """A call that people approve although it passes the limit is still counted, and refused by no limit."""
        loaded, facts = load("{sum: args.amount, max: 10, by: user, per: 1d}", "require-approval"), MemoryFacts()
        action = call(50)
        needs = loaded.engine.needs(action, NOW)
        assert needs is not None
        start = loaded.engine.decide(action, facts.peek(needs, NOW), NOW).start
        assert start is not None
        assert (NO_LIMIT, Decimal(50)) == (start.reservations[0].limit, start.reservations[0].amount)
        assert facts.begin(start, NOW) is not None
        assert Decimal(50) == facts.peek(needs, NOW).counters[needs.counters[0]]

    def test_shadow_counts_and_does_not_refuse(self) -> None:
        """A shadow limit counts what runs and refuses nothing."""
        loaded, facts = load("{calls: 1, by: all, per: 1d}", more=", mode: shadow"), MemoryFacts()
        assert ["allow"] * 3 == [run(loaded, facts, call()) for _ in range(3)]

    def test_doubt_beside_a_passed_limit(self) -> None:
        """A passed limit does not make certain what else is unknown of the rule."""
        loaded = load("{calls: 0, by: all, per: 1d}", "retryable-failure", more=", role: clerk")
        needs = loaded.engine.needs(call(), NOW)
        assert needs is not None
        decision = loaded.engine.decide(call(), MemoryFacts().peek(needs, NOW), NOW).decision
        assert ("deny", "policy.unknown") == (decision.value, decision.code)

    def test_other_conditions_first(self) -> None:
        """A call the rule is not about does not count on its limit."""
        loaded, facts = load("{calls: 1, by: all, per: 1d}", more=", args: {amount: {gt: 10}}"), MemoryFacts()
        assert ["allow", "allow", "allow", "deny"] == [run(loaded, facts, call(amount)) for amount in (1, 1, 11, 11)]


class TestMoney:
    loaded = load('{usd: "1.00", by: user, per: day, tz: UTC, reserve: "0.30"}')

    def begin(self, facts: MemoryFacts) -> Hold | None:
        needs = self.loaded.engine.needs(call(), NOW)
        assert needs is not None
        ruling = self.loaded.engine.decide(call(), facts.peek(needs, NOW), NOW)
        return facts.begin(ruling.start, NOW) if ruling.start is not None else None

    def test_reserve_bounds_parallel_calls(self) -> None:
        """What a call may cost is held until its cost is known."""
        facts = MemoryFacts()
        assert [True, True, True, False] == [self.begin(facts) is not None for _ in range(4)]

    def test_settle(self) -> None:
        """The real cost takes the place of the reserve, once."""
        facts = MemoryFacts()
        hold = self.begin(facts)
        assert hold is not None
        for cost in ("0.95", "0.01"):
            facts.settle(hold, Spent(usd=Decimal(cost)), NOW)
        key = hold.start.reservations[0].key
        assert Decimal("0.95") == facts.peek(Needs((key,)), NOW).counters[key]
        assert self.begin(facts) is None

    def test_release(self) -> None:
        """A body that never started costs nothing; releasing twice gives nothing twice."""
        facts = MemoryFacts()
        hold = self.begin(facts)
        assert hold is not None
        facts.release(hold)
        facts.release(hold)
        key = hold.start.reservations[0].key
        assert Decimal(0) == facts.peek(Needs((key,)), NOW).counters[key]

    def test_used_up_without_reserve(self) -> None:
        """A budget that is exactly used up lets no further call through, even one that reserves nothing."""
        loaded, facts = load('{usd: "1.00", by: user, per: day, tz: UTC}'), MemoryFacts()
        needs = loaded.engine.needs(call(), NOW)
        assert needs is not None
        start = loaded.engine.decide(call(), facts.peek(needs, NOW), NOW).start
        assert start is not None
        hold = facts.begin(start, NOW)
        assert hold is not None
        facts.settle(hold, Spent(usd=Decimal("1.00")), NOW)
        assert (None, "deny") == (facts.begin(start, NOW), run(loaded, facts, call()))

    def test_unknown_cost_leaves_the_reserve(self) -> None:
        """Where the cost stays unknown the reserved amount stands."""
        facts = MemoryFacts()
        hold = self.begin(facts)
        assert hold is not None
        facts.settle(hold, Spent(), NOW)
        key = hold.start.reservations[0].key
        assert Decimal("0.30") == facts.peek(Needs((key,)), NOW).counters[key]


class TestParallel:
    @pytest.mark.parametrize("over", ["{calls: 20, by: user, per: 1h}", "{sum: args.amount, max: 20, by: user, per: day, tz: UTC}"])
    def test_fifty_threads_never_pass_a_limit(self, over: str) -> None:
        """Fifty threads that decide at once together get exactly what the limit holds."""
        loaded, facts, gate = load(over), MemoryFacts(), threading.Barrier(50)

        def worker(_number: int) -> str:
            gate.wait()
            return run(loaded, facts, call())

        with ThreadPoolExecutor(50) as pool:
            verdicts = list(pool.map(worker, range(50)))
        assert (20, 30) == (verdicts.count("allow"), verdicts.count("deny"))


class TestWindows:
    @pytest.mark.parametrize(
        ("per", "tz", "said"),
        [
            ("day", None, "needs `tz`"),
            ("1min", "UTC", "sliding"),
            ("week", None, "expected a duration"),
            ("0s", None, "above zero"),
            ("day", "Mars/X", "Mars/X"),
        ],
    )
    def test_refused(self, per: str, tz: str | None, said: str) -> None:
        """A window that does not exist is refused with what is expected."""
        with pytest.raises(ValueError, match=said):
            window_of(per, tz)


class TestSlidingCounter:
    def test_clock_that_was_ahead(self) -> None:
        """What left while the clock was ahead is in the window again, keeps the counter alive, and leaves when its time comes."""
        counter = SlidingCounter(60)
        counter.add(0, Decimal(5))
        assert [0, 5] == [counter.total(at) for at in (100, 30)]
        assert not counter.over(30)
        assert [5, 0] == [counter.total(at) for at in (59, 60)]


class TestCalendarCounter:
    @pytest.mark.parametrize(("unit", "days"), [("day", 3), ("month", 34)])
    def test_over(self, unit: str, days: int) -> None:
        """A day or month is kept until it has ended everywhere, and no longer."""
        counter = CalendarCounter(unit)
        counter.add(0, Decimal(5))
        assert [False, True] == [counter.over(days * 86400 + late) for late in (0, 1)]


class TestMemory:
    def start(self, key: CounterKey = KEY, amount: int = 1, limit: int = 10, unit: str = "calls") -> Start:
        return Start((Reservation(key, Decimal(amount), Decimal(limit), unit),))

    def test_all_or_nothing(self) -> None:
        """Where one of several limits is reached, none is charged."""
        facts = MemoryFacts()
        other = CounterKey("o:calls", "all", "sliding:60")
        both = Start((Reservation(KEY, Decimal(1), Decimal(10)), Reservation(other, Decimal(5), Decimal(4))))
        assert (None, Decimal(0)) == (facts.begin(both, NOW), facts.peek(Needs((KEY,)), NOW).counters[KEY])

    def test_marks(self) -> None:
        """Labels carry their sources, history the names; another session has neither."""
        facts = MemoryFacts()
        facts.begin(Start(session="s", tool="web", labels=frozenset({"untrusted"})), NOW)
        facts.begin(Start(session="s", tool="mail", labels=frozenset({"untrusted"})), NOW)
        view, fresh = facts.peek(Needs(session="s"), NOW), facts.peek(Needs(session="t"), NOW)
        assert ({"untrusted": frozenset({"web", "mail"})}, frozenset({"web", "mail"})) == (view.labels, view.history)
        assert ({}, frozenset(), None) == (fresh.labels, fresh.history, facts.peek(Needs(), NOW).labels)

    def test_forgotten_session_is_unknown(self) -> None:
        """A session whose marks had to go is unknown from then on, not clean, even when it is marked again."""
        facts = MemoryFacts(max_sessions=2)
        for session in ("a", "b", "c"):
            facts.begin(Start(session=session, tool="web"), NOW)
        assert facts.peek(Needs(session="a"), NOW).labels is None
        facts.begin(Start(session="a", tool="mail"), NOW)
        assert facts.peek(Needs(session="a"), NOW).history is None
        assert facts.peek(Needs(session="c"), NOW).history == frozenset({"web"})

    def test_full(self) -> None:
        """Without room for another counter a start is refused; counters that are over make room."""
        facts = MemoryFacts(max_counters=2)
        keys = [CounterKey("r:calls", f"user:{name}", "sliding:60") for name in "abc"]
        for key in keys[:2]:
            facts.begin(self.start(key), NOW)
        with pytest.raises(StoreError, match="full"):
            facts.begin(self.start(keys[2]), NOW)
        assert facts.begin(self.start(keys[2]), NOW + timedelta(seconds=61)) is not None

    def test_many_entries_stay_exact_and_bounded(self) -> None:
        """Thousands of amounts in one window keep their sum, and late corrections find their place."""
        facts = MemoryFacts()
        holds = [facts.begin(self.start(limit=10_000, unit="usd"), NOW + timedelta(seconds=at / 100)) for at in range(3000)]
        assert None not in holds
        for hold in holds:
            assert hold is not None
            facts.settle(hold, Spent(usd=Decimal(2)), NOW)
        assert Decimal(6000) == facts.peek(Needs((KEY,)), NOW + timedelta(seconds=30)).counters[KEY]
        counter: Any = facts._counters[KEY]
        assert len(counter._entries) <= 1024
        assert Decimal(0) == facts.peek(Needs((KEY,)), NOW + timedelta(seconds=120)).counters[KEY]

    def test_correction_after_the_window(self) -> None:
        """A cost that comes after its window left no trace is in no sum."""
        facts = MemoryFacts()
        hold = facts.begin(self.start(unit="usd"), NOW)
        assert hold is not None
        later = NOW + timedelta(seconds=61)
        facts.begin(self.start(unit="usd"), later)
        facts.settle(hold, Spent(usd=Decimal(9)), later)
        assert Decimal(1) == facts.peek(Needs((KEY,)), later).counters[KEY]

    def test_clock_set_back(self) -> None:
        """A clock that jumps back forgets nothing early."""
        facts = MemoryFacts()
        facts.begin(self.start(), NOW)
        facts.begin(self.start(), NOW - timedelta(hours=1))
        assert Decimal(2) == facts.peek(Needs((KEY,)), NOW + timedelta(seconds=59)).counters[KEY]
