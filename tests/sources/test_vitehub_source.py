"""ViteHub trace events and agent stream events."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from otel_runtime.sources.registry import source
from otel_runtime.telemetry.run_view import named
from otel_runtime.values.trace import TraceEvent, TraceRef

# The families of the seed page's table "Agent stream events".
SEED_FAMILIES = ["text-delta", "tool-call", "tool-result", "approval-request", "approval-decision", "error", "finish", "usage"]


def names(*raws: object) -> list[str]:
    reader = source("vitehub", "s")
    return [event.name for raw in raws for event in reader.translate(raw)]


class TestUnknownFamilies:
    def test_pass_and_what_comes_in_thousands_is_counted(self) -> None:
        """A newer kind of delta must not fill the run with span events."""
        assert ["stream.reasoning.delta", "stream.reasoning-start"] == names(
            {"type": "reasoning-delta", "text": "a"}, {"type": "reasoning-start"}
        )
        assert named("stream.reasoning.delta").often


class TestTraceEvents:
    @pytest.mark.parametrize(
        ("attributes", "run"),
        [
            ({"agent.run.id": "a", "run.id": "b", "runId": "c"}, "a"),
            ({"run.id": "b", "runId": "c"}, "b"),
            ({"runId": "c"}, "c"),
            ({"agent.run.id": 7, "runId": "c"}, "c"),
        ],
    )
    def test_the_first_of_its_run_ids_is_its_run(self, attributes: dict[str, object], run: str) -> None:
        """What the span says of its run is the run it belongs to."""
        (event,) = source("vitehub").translate({"name": "run.start", "type": "run", "attributes": attributes})
        assert run == event.attributes["run.id"]

    @pytest.mark.parametrize(
        "attributes", [{"recoverable": True}, {"error.recoverable": True}, {"error.recoverable": True, "recoverable": False}]
    )
    def test_recoverable_in_either_spelling(self, attributes: dict[str, object]) -> None:
        """The error is the event itself, so its own flag needs no prefix; the full name goes first."""
        (event,) = source("vitehub").translate({"name": "stream.error", "type": "error", "attributes": attributes})
        assert event.attributes["error.recoverable"] is True

    def test_shape_of_the_seed(self) -> None:
        """A TraceEvent keeps name, type, time, trace and attributes."""
        raw = {
            "name": "policy.decision",
            "type": "policy",
            "timestamp": "2026-11-20T08:00:00Z",
            "trace": {"id": "t1", "parentId": "p1", "sampled": True},
            "attributes": {"tool.id": "c1"},
        }
        expected = TraceEvent(
            "policy.decision",
            "policy",
            datetime(2026, 11, 20, 8, tzinfo=UTC),
            TraceRef("t1", "p1", sampled=True),
            {"tool.id": "c1", "event.source": "vitehub", "event.kind": "policy"},
        )
        assert (expected,) == source("vitehub").translate(raw)

    def test_unknown_type_passes_as_lifecycle(self) -> None:
        """A type that the page does not know is kept as the event's kind."""
        (event,) = source("vitehub").translate({"name": "x.y", "type": "novel"})
        assert ("x.y", "lifecycle", "novel") == (event.name, event.type, event.attributes["event.kind"])

    def test_error_with_a_name_is_a_trace_event(self) -> None:
        """`error` is a type of both shapes; the name tells them apart."""
        assert ["run.error", "stream.error"] == names({"name": "run.error", "type": "error"}, {"type": "error"})


class TestStream:
    @pytest.mark.parametrize("kind", SEED_FAMILIES)
    def test_every_family_of_the_seed_is_read(self, kind: str) -> None:
        """No family of the page is malformed or generic."""
        reader = source("vitehub")
        reader.translate({"type": "tool-call", "toolCallId": "c1", "toolName": "t"})
        (event,) = reader.translate({"type": kind, "toolCallId": "c1", "toolName": "t", "id": "a1"})
        assert not event.name.startswith("stream.") or kind == "error"
        assert {} == dict(reader.malformed)

    def test_a_result_knows_its_calls_tool(self) -> None:
        """The name of the tool comes from the call."""
        reader = source("vitehub")
        reader.translate({"type": "tool-call", "toolCallId": "c1", "toolName": "search", "input": {"q": 1}})
        (event,) = reader.translate({"type": "tool-result", "toolCallId": "c1", "output": "x"})
        assert ("tool.finish", "search") == (event.name, event.attributes["tool.name"])

    def test_a_result_without_its_call_is_refused(self) -> None:
        """It is counted as malformed, and nothing comes out."""
        reader = source("vitehub")
        assert () == reader.translate({"type": "tool-result", "toolCallId": "c9"})
        assert {"tool-result: without its tool-call": 1} == dict(reader.malformed)

    def test_recoverable_error_fails_nothing(self) -> None:
        """Only an error that is not recoverable is one of the run."""
        assert ["stream.warning", "stream.error"] == names({"type": "error", "recoverable": True}, {"type": "error"})

    def test_finish_begins_another_run(self) -> None:
        """What follows a finish belongs to the stream's next run."""
        reader = source("vitehub", "s")
        runs = [reader.translate({"type": kind})[0].attributes["run.id"] for kind in ("text-delta", "finish", "text-delta")]
        assert ["s-1", "s-1", "s-2"] == runs

    def test_data_families_and_unknown_ones_pass(self) -> None:
        """`data-*` is one family; an unknown kind becomes a generic event."""
        assert ["data.part", "stream.novelty"] == names({"type": "data-chart", "name": "c"}, {"type": "novelty"})

    def test_usage_is_a_sum(self) -> None:
        """An Agent Usage Record is never added to that of model calls; a bool is no number; absent stays absent."""
        (event,) = source("vitehub").translate({"type": "usage", "usage": {"inputTokens": True, "promptTokens": 12}})
        assert {"usage.total.input_tokens": 12} == {key: value for key, value in event.attributes.items() if key.startswith("usage")}
