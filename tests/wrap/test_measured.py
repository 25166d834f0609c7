"""What a guarded call leaves in the metrics."""

from __future__ import annotations

import time
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


class TestDuration:
    def test_the_reading_of_a_result_is_not_its_time(self, otel_runtime_memory: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        """What it takes to find the usage of an answer, and its price, stands on no span and in no metric."""
        real, late, hour = time.perf_counter, [0.0], 3600.0
        monkeypatch.setattr(time, "perf_counter", lambda: real() + late[0])

        class Answer:
            @property
            def usage(self) -> dict[str, int]:
                late[0] += hour
                return {"input_tokens": 3, "output_tokens": 4}

        @rt.model
        def ask() -> Answer:
            return Answer()

        ask()
        (span,) = otel_runtime_memory.spans()
        assert (True, 3) == (late[0] >= hour, span.attributes["gen_ai.usage.input_tokens"])
        assert (span.end_time - span.start_time) / 1e9 < hour
        assert all(value < hour for _, value in otel_runtime_memory.metrics()["gen_ai.client.operation.duration"])
