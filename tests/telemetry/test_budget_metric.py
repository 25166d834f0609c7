"""How far limits are used, as a gauge."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from opentelemetry.metrics import CallbackOptions

import otel_runtime as rt
from otel_runtime.policy.protocol import Use
from otel_runtime.telemetry.peaks import Peaks

NAME = "otel_runtime.policy.budget.utilization"
POLICY = """
version: 1
name: t
default: deny
rules:
  - {id: few, tool: read, over: {calls: 4, by: session, per: 1h}, decision: deny, reason: "Enough."}
  - {id: read, tool: read, decision: allow}
  - {id: free, tool: look, decision: allow}
  - {id: nothing, tool: never, over: {calls: 0, by: all, per: day, tz: UTC}, decision: deny, reason: "Not today."}
  - {id: rate, tool: quick, over: {calls: 10, by: all, per: 60s}, decision: retryable-failure, retry: {after: 1s, max_attempts: 2}}
  - {id: quick, tool: quick, decision: allow}
  - {id: never, tool: never, decision: allow}
  - {id: money, kind: model, over: {usd: "1", by: session, per: month, tz: UTC, reserve: "0.25"}, decision: deny, reason: "Spent."}
"""


@rt.tool
def read(item: str) -> str:
    """Read."""
    return item


@rt.tool
def look(item: str) -> str:
    """Look."""
    return item


@rt.tool
def quick() -> None:
    """Quick."""


@rt.tool
def never() -> None:
    """Never."""


@rt.model("m", provider="openai")
def ask(cost: float | None) -> dict[str, object]:
    """Ask."""
    used = {"prompt_tokens": 1, "completion_tokens": 1}
    return {"model": "m", "usage": used if cost is None else {**used, "cost": cost}}


def shares(memory: Any) -> dict[tuple[object, object], object]:
    """The gauge by rule and window."""
    points = memory.metrics().get(NAME, [])
    assert all({"otel_runtime.policy.rule", "otel_runtime.policy.window"} == set(labels) for labels, _ in points)
    return {(labels["otel_runtime.policy.rule"], labels["otel_runtime.policy.window"]): value for labels, value in points}


@pytest.mark.otel_runtime(policy_text=POLICY)
class TestCalls:
    """A limit of calls."""

    def test_the_fullest_of_all_sessions(self, otel_runtime_memory: Any) -> None:
        """Each call adds its share; of several sessions the fullest is shown, and none of them is named."""
        for session, calls in (("one", 1), ("two", 3), ("three", 2)):
            with rt.session(session):
                for _ in range(calls):
                    read("x")
        assert {("few", "sliding"): 0.75} == shares(otel_runtime_memory)

    def test_a_refused_call(self, otel_runtime_memory: Any) -> None:
        """A limit that is used up is shown as such by the call that it refuses, which counts nothing itself."""
        with rt.session("one"):
            for _ in range(4):
                read("x")
            with pytest.raises(rt.PolicyDenied):
                read("x")
        assert {("few", "sliding"): 1.0} == shares(otel_runtime_memory)

    def test_a_limit_of_nothing(self, otel_runtime_memory: Any) -> None:
        """Of nothing everything is used."""
        with pytest.raises(rt.PolicyDenied):
            never()
        assert {("nothing", "day"): 1.0} == shares(otel_runtime_memory)

    def test_a_rate(self, otel_runtime_memory: Any) -> None:
        """A window of at most a minute is told apart: it is meant to be used up, and over before anybody could look."""
        quick()
        assert {("rate", "rate"): 0.1} == shares(otel_runtime_memory)

    def test_without_a_limit_nothing(self, otel_runtime_memory: Any) -> None:
        """Calls that no limit counts leave nothing."""
        look("x")
        assert {} == shares(otel_runtime_memory)


@pytest.mark.otel_runtime(policy_text=POLICY)
class TestMoney:
    """A limit of money."""

    def test_what_it_really_cost(self, otel_runtime_memory: Any) -> None:
        """A call that cost more than was held for it is shown with what it cost, once it has ended."""
        with rt.session("one"):
            ask(0.5)
        assert {("money", "month"): 0.5} == shares(otel_runtime_memory)

    def test_what_is_held(self, otel_runtime_memory: Any) -> None:
        """While nothing is known of the cost, what is held counts."""
        with rt.session("one"):
            ask(None)
        assert {("money", "month"): 0.25} == shares(otel_runtime_memory)


class TestApproval:
    """A limit that people may let a call pass."""

    TEXT = (
        "version: 1\nname: t\ndefault: allow\nrules:\n"
        "  - {id: few, tool: read, over: {calls: 1, by: all, per: 1h}, decision: require-approval, approval: {approvers: [anyone]}}\n"
    )

    @pytest.mark.otel_runtime(policy_text=TEXT, people={"alice": {"roles": []}}, wait_at_most=0)
    def test_beyond_the_limit(self, otel_runtime_memory: Any) -> None:
        """A call that waits counts nothing; one that people let pass counts beyond the whole."""
        read("x")
        with pytest.raises(rt.ApprovalPending):
            read("y")
        assert {("few", "sliding"): 1.0} == shares(otel_runtime_memory)
        approvals = otel_runtime_memory.runtime.approvals
        (waiting,) = approvals.list(["awaiting-approval"])
        approvals.answer(waiting.id, approver="os:alice", approved=True)
        assert "y" == otel_runtime_memory.runtime.resume(waiting.id)
        assert {("few", "sliding"): 2.0} == shares(otel_runtime_memory)


class TestUnits:
    """What stands on a counter after a call, by unit."""

    @pytest.mark.parametrize(
        ("unit", "held", "spent", "share"),
        [
            ("calls", True, Decimal(9), 0.5),
            ("calls", False, None, 0.4),
            ("usd", True, None, 0.5),
            ("usd", True, Decimal(3), 0.7),
            ("attempts", False, None, 0.5),
        ],
    )
    def test_unit(self, bench: Any, unit: str, held: bool, spent: Decimal | None, share: float) -> None:
        """Money is what it turned out to be, an attempt counts also when it was refused, the rest as it was held."""
        bench.tracing.budgets_used([Use("r", "day", unit, Decimal(4), Decimal(1), Decimal(10))], held=held, spent_usd=spent)
        assert [share] == [point.value for point in bench.points()[NAME]]


class TestTelemetryFailsOpen:
    def test_a_use_that_cannot_be_measured(self, bench: Any) -> None:
        """What cannot be divided is a problem for `doctor`, not for the call."""
        bench.tracing.budgets_used([Use("r", "sliding", "calls", Decimal("sNaN"), Decimal(1), Decimal(2))], held=True)
        assert "budgets" in bench.tracing.report()["problems"]

    def test_after_the_end(self, bench: Any) -> None:
        """A call that outlives its runtime measures nothing and raises nothing."""
        bench.tracing.shutdown(60)
        bench.tracing.budgets_used([Use("r", "sliding", "calls", Decimal(1), Decimal(1), Decimal(2))], held=True)


class TestPeaks:
    """The most since the last reading."""

    def read(self, peaks: Peaks) -> dict[tuple[Any, ...], float]:
        return {tuple((point.attributes or {}).values()): float(point.value) for point in peaks.observe(CallbackOptions())}

    def test_a_new_interval_begins_empty(self) -> None:
        """What was shown is not shown again in the next interval; what was not measured is not made up."""
        now = [0.0]
        peaks = Peaks(lambda: None, lambda: now[0])
        for value in (0.5, 0.9, 0.2):
            peaks.record(value, {"rule": "a"})
        assert {("a",): 0.9} == self.read(peaks)
        now[0] = 60.0
        peaks.record(0.1, {"rule": "a"})
        assert {("a",): 0.1} == self.read(peaks)
        now[0] = 120.0
        assert {} == self.read(peaks)

    def test_readers_that_read_together(self) -> None:
        """Two exporters that read one after the other are told the same, and what came in between besides."""
        now = [0.0]
        peaks = Peaks(lambda: None, lambda: now[0])
        peaks.record(0.5, {"rule": "a"})
        assert {("a",): 0.5} == self.read(peaks)
        peaks.record(0.7, {"rule": "a"})
        peaks.record(0.1, {"rule": "b"})
        now[0] = 0.5
        assert {("a",): 0.7, ("b",): 0.1} == self.read(peaks)

    def test_what_is_queued_is_recorded_first(self) -> None:
        """A reading sees what was measured a moment before it."""
        peaks = Peaks(lambda: peaks.record(0.4, {"rule": "a"}))
        assert {("a",): 0.4} == self.read(peaks)

    def test_forgets(self) -> None:
        """A forked child begins with nothing."""
        peaks = Peaks(lambda: None)
        peaks.record(0.4, {"rule": "a"})
        peaks.clear()
        assert {} == self.read(peaks)
