"""What a guarded call leaves in the metrics."""

from __future__ import annotations

from typing import Any

import pytest

import otel_runtime as rt

POLICY = "version: 1\nname: t\ndefault: deny\nrules:\n  - {id: ok, tool: read, decision: allow}\n"


@rt.tool
def read(item: str) -> str:
    """Read."""
    return item


@rt.tool
def write(item: str) -> str:
    """Write."""
    return item


@pytest.mark.otel_runtime(policy_text=POLICY)
class TestDecisions:
    """Decisions are counted and timed."""

    def test_by_decision_rule_and_tool(self, otel_runtime_memory: Any) -> None:
        """Each decision is counted once under bounded labels."""
        read("x")
        read("y")
        with pytest.raises(rt.PolicyDenied):
            write("x")
        counted = {
            (labels["otel_runtime.policy.decision"], labels["otel_runtime.policy.rule"]): value
            for labels, value in otel_runtime_memory.metrics()["otel_runtime.policy.decisions"]
        }
        assert counted == {("allow", "ok"): 2, ("deny", "policy.default"): 1}

    def test_take_time(self, otel_runtime_memory: Any) -> None:
        """The duration of a decision is measured, allowed or not."""
        read("x")
        with pytest.raises(rt.PolicyDenied):
            write("x")
        seconds = {
            labels["otel_runtime.policy.decision"]: value for labels, value in otel_runtime_memory.metrics()["otel_runtime.policy.duration"]
        }
        assert set(seconds) == {"allow", "deny"}
        assert all(0 < value < 60 for value in seconds.values())
