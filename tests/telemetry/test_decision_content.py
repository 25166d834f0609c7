"""With capture on, a decision span carries what the decision was made on, so that it can be made again."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

import otel_runtime as rt
from otel_runtime.errors import ApprovalPending, PolicyDenied
from otel_runtime.testing.memory import MemoryRuntime

POLICY = "version: 1\ndefault: deny\nrules:\n  - {id: small, tool: pay, args: {amount: {lte: 10}}, decision: allow}\n"

ASKS = "version: 1\ndefault: require-approval\napproval: {approvers: [anyone]}\nrules:\n  - {id: never, tool: wipe, decision: deny}\n"


@rt.tool(tags=["money"])
def pay(amount: int, api_key: str = "k") -> int:
    return amount


@rt.tool(name="pay", capture_input=False)
def pay_quietly(amount: int, api_key: str = "k") -> int:
    return amount


@rt.agent
def clerk(tool: Callable[..., int], amount: int) -> int:
    return tool(amount)


def attributes(memory: MemoryRuntime, tool: Callable[..., int], amount: int, name: str) -> dict[str, Any]:
    with rt.session("s1", user="carla", roles=["clerk"], risk="low"), suppress(PolicyDenied, ApprovalPending):
        clerk(tool, amount)
    (span,) = [span for span in memory.spans() if span.name == name]
    return dict(span.attributes or {})


class TestDecisionContent:
    @pytest.mark.otel_runtime(policy_text=POLICY, capture="SPAN_ONLY")
    def test_refusal(self, otel_runtime_memory: MemoryRuntime) -> None:
        """A refused call's span says its arguments, redacted, and who asked."""
        found = attributes(otel_runtime_memory, pay, 500, "policy deny pay")
        assert {"amount": 500, "api_key": "[redacted]"} == json.loads(found["otel_runtime.arguments"])
        caller = {
            "user": "carla",
            "roles": ["clerk"],
            "tenant": None,
            "agents": ["clerk"],
            "tags": ["money"],
            "around": [],
            "context": {"risk": "low"},
        }
        assert caller == json.loads(found["otel_runtime.caller"])

    @pytest.mark.otel_runtime(policy_text=POLICY, capture="SPAN_ONLY", decision_spans="all")
    def test_allow(self, otel_runtime_memory: MemoryRuntime) -> None:
        """With `decision_spans: all` an allow says the same."""
        assert '"amount":5' in attributes(otel_runtime_memory, pay, 5, "policy allow pay")["otel_runtime.arguments"]

    @pytest.mark.otel_runtime(policy_text=ASKS, capture="SPAN_ONLY", wait_at_most="0s")
    def test_question(self, otel_runtime_memory: MemoryRuntime) -> None:
        """A call that people are asked about says the same."""
        assert '"amount":5' in attributes(otel_runtime_memory, pay, 5, "policy require-approval pay")["otel_runtime.arguments"]

    @pytest.mark.otel_runtime(policy_text=POLICY, capture="SPAN_ONLY")
    def test_kept_out(self, otel_runtime_memory: MemoryRuntime) -> None:
        """A decorator that keeps its arguments out of spans keeps them out of this one."""
        assert "otel_runtime.arguments" not in attributes(otel_runtime_memory, pay_quietly, 500, "policy deny pay")

    @pytest.mark.otel_runtime(policy_text=POLICY)
    def test_off_by_default(self, otel_runtime_memory: MemoryRuntime) -> None:
        """Without capture nothing of it leaves."""
        assert "otel_runtime.caller" not in attributes(otel_runtime_memory, pay, 500, "policy deny pay")
