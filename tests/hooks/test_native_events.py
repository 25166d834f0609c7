"""Decorated work has the names and attributes of foreign events."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from otel_runtime.hooks.native import Place, decision_event, native_event, usage_event
from otel_runtime.sources.registry import source
from otel_runtime.values.trace import TraceRef
from otel_runtime.values.usage import TokenUsage

PLACE = Place(datetime(2026, 11, 20, tzinfo=UTC), TraceRef("t", "span"), "r1", "s1", "a", "c1")


class TestNativeEvents:
    @pytest.mark.parametrize(
        ("outcome", "name"),
        [
            (None, "tool.start"),
            ("ok", "tool.finish"),
            ("error", "tool.failed"),
            ("cancelled", "tool.cancelled"),
            ("closed", "tool.cancelled"),
        ],
    )
    def test_names_say_what_happened(self, outcome: str | None, name: str) -> None:
        """The ending of the name is the outcome."""
        assert name == native_event("tool", "search", PLACE, outcome=outcome).name

    def test_one_subscriber_reads_both(self) -> None:
        """A tool call of ours and one of a foreign stream have the same name and the same attributes."""
        ours = native_event("tool", "search", PLACE)
        (foreign,) = source("vitehub").translate({"type": "tool-call", "toolCallId": "c1", "toolName": "search", "runId": "r1"})
        assert (foreign.name, foreign.type) == (ours.name, ours.type)
        common = {key: ours.attributes.get(key) for key in foreign.attributes if key not in ("event.source", "event.kind")}
        assert {key: value for key, value in foreign.attributes.items() if key in common} == common

    def test_a_decision_and_a_usage_record(self) -> None:
        """They use the shared names; absent stays absent."""
        decided, used = decision_event("rm", PLACE, "deny", reason="no"), usage_event(PLACE, TokenUsage(input_tokens=3))
        assert ("policy.decision", "deny", "no") == (
            decided.name,
            decided.attributes["policy.decision"],
            decided.attributes["policy.reason"],
        )
        assert {"usage.total.input_tokens": 3} == {key: value for key, value in used.attributes.items() if key.startswith("usage")}

    def test_calls_without_an_id_are_told_apart_by_their_span(self) -> None:
        """Two calls of one tool never share a step."""
        place = PLACE._replace(call_id=None)
        assert "span" == native_event("model", "m", place).attributes["model.call.id"]
        assert "span" == native_event("agent", "a", place).attributes["step.id"]
