"""Limits of attempts, which refused calls count on too, and of tokens, which are held before and settled after."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from otel_runtime.integrations.claude_code_facts import decide_with_facts
from otel_runtime.policy.catalogue import ToolEntry
from otel_runtime.policy.engine_cedar import load_cedar
from otel_runtime.policy.engine_joint import JointEngine
from otel_runtime.policy.facts_memory import MemoryFacts
from otel_runtime.policy.facts_schema import FACTS
from otel_runtime.policy.facts_sql import SqlFacts
from otel_runtime.policy.loading import LoadedPolicy, load_policy_text
from otel_runtime.policy.preserving import ruleset_from, ruleset_json
from otel_runtime.policy.protocol import Engine, Hold, Needs, Ruling, Spent
from otel_runtime.policy.recorded import Caller, RecordedCall
from otel_runtime.policy.replay import replay
from otel_runtime.storage.sqlite import Database
from otel_runtime.storage.sqlite_transactions import SqliteTransactions
from otel_runtime.values.action import Action

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
LOGIN = """
version: 1
default: allow
tools: {login: {args: {name: str}}}
rules:
  - {id: guesses, tool: login, over: {attempts: 3, by: session, per: 1min}, decision: deny, reason: "Too many guesses."}
  - {id: root, tool: login, args: {name: {eq: root}}, decision: deny}
  - {id: ask, tool: login, args: {name: {eq: boss}}, decision: require-approval, approval: {approvers: [anyone]}}
"""
TOKENS = """
version: 1
default: allow
rules:
  - {id: words, kind: model, over: {tokens: 1000, by: user, per: day, tz: UTC, reserve: 300}, decision: deny}
"""


def login(name: object = "ann", session: str | None = "s", **more: Any) -> Action:
    return Action("tool", "login", {"name": name}, session=session, **more)


def attempt(engine: Engine, facts: Any, action: Action, now: datetime = NOW) -> str:
    """One admission as the protocol orders it, with the attempt counted where the body does not run."""
    for _ in range(1000):
        needs = engine.needs(action, now)
        ruling = engine.decide(action, None if needs is None else facts.peek(needs, now), now)
        start = ruling.start if ruling.decision.value == "allow" else ruling.tried
        if start is None or facts.begin(start, now) is not None:
            return ruling.decision.value
    raise AssertionError("never decided")


@pytest.fixture(params=["memory", "sqlite"])
def facts(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    memory = request.param == "memory"
    made = MemoryFacts() if memory else SqlFacts(SqliteTransactions(Database(tmp_path / "home" / "state.db", [FACTS])))
    yield made
    made.close()


class TestAttempts:
    loaded: LoadedPolicy = load_policy_text(LOGIN)

    def test_refused_calls_count(self, facts: Any) -> None:
        """A denied and an asked call are attempts like one that ran; the fourth is refused whatever it is."""
        names = ["root", "boss", "ann", "ann", "root"]
        assert ["deny", "require-approval", "allow", "deny", "deny"] == [attempt(self.loaded.engine, facts, login(name)) for name in names]

    def test_calls_do_not(self, facts: Any) -> None:
        """A limit of calls counts those that run and no others."""
        loaded = load_policy_text(LOGIN.replace("attempts", "calls"))
        names = ["root", "boss", "ann", "ann", "ann", "ann"]
        expected = ["deny", "require-approval", "allow", "allow", "allow", "deny"]
        assert expected == [attempt(loaded.engine, facts, login(name)) for name in names]

    def test_misfits_count(self, facts: Any) -> None:
        """A call that does not fit its tool, or names one that does not exist, is an attempt too."""
        loaded = load_policy_text(LOGIN.replace("id: guesses, tool: login", 'id: guesses, tool: "*"'))
        nowhere = Action("tool", "log_in", {}, session="s", registered=False)
        calls = [login(5), nowhere, login(), login()]
        assert ["deny", "deny", "allow", "deny"] == [attempt(loaded.engine, facts, call) for call in calls]

    def test_forgotten_after_the_window(self, facts: Any) -> None:
        """Attempts leave their window like calls; refused ones prolong it."""
        moments = [0, 10, 20, 30, 61, 140]
        got = [attempt(self.loaded.engine, facts, login(), NOW + timedelta(seconds=moment)) for moment in moments]
        assert ["allow", "allow", "allow", "deny", "deny", "allow"] == got

    def test_another_session(self, facts: Any) -> None:
        """Whose attempts are counted says `by`; without a session nobody knows, and the limit binds."""
        assert ["allow"] * 3 == [attempt(self.loaded.engine, facts, login()) for _ in range(3)]
        assert ["allow", "deny"] == [attempt(self.loaded.engine, facts, login(session=session)) for session in ("t", None)]

    def test_looking_counts_nothing(self, facts: Any) -> None:
        """Reading and deciding alone, as `rt.decide` does, leave the counter where it is."""
        for _ in range(5):
            needs = self.loaded.engine.needs(login("root"), NOW)
            assert needs is not None
            view = facts.peek(needs, NOW)
            ruling = self.loaded.engine.decide(login("root"), view, NOW)
            assert ("root", Decimal(0)) == (ruling.decision.rule, view.counters[needs.counters[0]])

    def test_not_twice(self, facts: Any) -> None:
        """A call that comes back with its approval is neither counted nor refused for attempts again."""
        for _ in range(3):
            attempt(self.loaded.engine, facts, login("boss"))
        ruling = self.decided(facts, tried=True)
        assert ("require-approval", None, None) == (ruling.decision.value, ruling.tried, ruling.start)
        assert ("deny", "guesses") == (self.decided(facts).decision.value, self.decided(facts).decision.rule)

    def decided(self, facts: Any, **more: Any) -> Ruling:
        needs = self.loaded.engine.needs(login("boss"), NOW)
        assert needs is not None
        return self.loaded.engine.decide(login("boss"), replace(facts.peek(needs, NOW), **more), NOW)

    def test_stand_when_the_body_never_started(self, facts: Any) -> None:
        """What is given back because the body never started are calls, not attempts."""
        needs = self.loaded.engine.needs(login(), NOW)
        assert needs is not None
        start = self.loaded.engine.decide(login(), facts.peek(needs, NOW), NOW).start
        assert start is not None
        facts.release(facts.begin(start, NOW))
        assert Decimal(1) == facts.peek(needs, NOW).counters[needs.counters[0]]

    @pytest.mark.parametrize("name", ["ann", "boss"])
    def test_never_jointly_passed(self, facts: Any, name: str) -> None:
        """Of thirty threads at once three run, or reach a person, and no more."""
        gate = threading.Barrier(30)

        def work(_at: int) -> str:
            gate.wait()
            return attempt(self.loaded.engine, facts, login(name))

        with ThreadPoolExecutor(30) as pool:
            got = list(pool.map(work, range(30)))
        assert (27, 3) == (got.count("deny"), len(got) - got.count("deny"))
        assert Decimal(30) == next(iter(facts.peek(Needs(self.keys()), NOW).counters.values()))

    def keys(self) -> tuple[Any, ...]:
        needs = self.loaded.engine.needs(login(), NOW)
        assert needs is not None
        return needs.counters

    def test_shadow(self, facts: Any) -> None:
        """A limit in shadow mode counts all and refuses none."""
        shadow = load_policy_text(LOGIN.replace("id: guesses,", "id: guesses, mode: shadow,"))
        assert ["allow"] * 5 == [attempt(shadow.engine, facts, login()) for _ in range(5)]
        assert "deny" == attempt(self.loaded.engine, facts, login())

    def test_beside_another_engine(self, facts: Any, tmp_path: Path) -> None:
        """What another engine denies is an attempt for our limits."""
        theirs = tmp_path / "theirs.cedar"
        theirs.write_text('permit (principal, action, resource) unless { context.args.name == "eve" };')
        never = load_cedar([theirs], {"login": ToolEntry("login")})
        joint = JointEngine(self.loaded.engine, never)
        names = ["eve", "eve", "ann", "ann"]
        assert ["deny", "deny", "allow", "deny"] == [attempt(joint, facts, login(name)) for name in names]

    def test_over_processes_of_a_host(self, tmp_path: Path) -> None:
        """Hooks of a host, each a process of its own, count what they refuse too."""
        names = ["root", "root", "boss", "ann"]
        rulings = [decide_with_facts(self.loaded.engine, login(name), NOW, tmp_path / "facts.jsonl") for name in names]
        assert ["deny", "deny", "require-approval", "deny"] == [ruling.decision.value for ruling in rulings]
        assert "guesses" == rulings[-1].decision.rule

    def test_replayed(self) -> None:
        """Calls that were refused when they were recorded count on a limit of attempts under trial."""
        names = ["root", "root", "root", "ann"]
        calls = [
            RecordedCall(
                "tool",
                "login",
                NOW + timedelta(seconds=at),
                {"name": name},
                caller=Caller(),
                agents=(),
                session="s",
                decided="deny",
                ran=name == "ann",
            )
            for at, name in enumerate(names)
        ]
        found = replay(calls, [], self.loaded.engine, {})
        assert [("deny", "root")] * 3 + [("deny", "guesses")] == [(one.verdict, one.decision.rule) for one in found]

    def test_kept_in_json(self) -> None:
        """A compiled policy that is written down and read again has the same limits."""
        again = ruleset_from(ruleset_json(self.loaded.ruleset))
        assert [rule.over for rule, _ in self.loaded.ruleset.rules] == [rule.over for rule, _ in again.rules]
        assert 3 == again.rules[0][0].over.attempts  # type: ignore[union-attr]


class TestTokens:
    loaded: LoadedPolicy = load_policy_text(TOKENS)

    def begun(self, facts: Any) -> Hold | None:
        action = Action("model", "m", {}, user="carla")
        needs = self.loaded.engine.needs(action, NOW)
        assert needs is not None
        ruling = self.loaded.engine.decide(action, facts.peek(needs, NOW), NOW)
        hold: Hold | None = facts.begin(ruling.start, NOW) if ruling.start is not None else None
        return hold

    def test_reserve_bounds_parallel_calls(self, facts: Any) -> None:
        """What a call may use is held until it is known what it used."""
        assert [True, True, True, False] == [self.begun(facts) is not None for _ in range(4)]

    def test_settled(self, facts: Any) -> None:
        """The real number takes the place of what was held."""
        for used in (900, 50, 49):
            hold = self.begun(facts)
            assert (hold is None) is (used != 900)
            if hold is not None:
                facts.settle(hold, Spent(tokens=used), NOW)

    def test_less_makes_room(self, facts: Any) -> None:
        """A call that used less than was held leaves the rest to others."""
        for _ in range(3):
            hold = self.begun(facts)
            assert hold is not None
            facts.settle(hold, Spent(tokens=10), NOW)
        assert [True, True, True, False] == [self.begun(facts) is not None for _ in range(4)]

    def test_unknown_leaves_the_reserve(self, facts: Any) -> None:
        """Where a provider does not say, what was held stands."""
        for _ in range(3):
            hold = self.begun(facts)
            assert hold is not None
            facts.settle(hold, Spent(usd=Decimal(1)), NOW)
        assert self.begun(facts) is None
