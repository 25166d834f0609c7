"""Real Dreadnode runs: our spans beside the ones that system made of itself."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from otel_runtime.sources.registry import source
from otel_runtime.telemetry.projector import Projector
from otel_runtime.telemetry.projector_spans import TracerSpans

RUNS = [
    "cancel_mid_tool",
    "caught_tool_error",
    "duplicate_tool_id",
    "generation_error",
    "interleaved",
    "policy_ask_approved",
    "policy_deny",
]


def spans_of(path: Path) -> Sequence[ReadableSpan]:
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    projector = Projector(TracerSpans(provider.get_tracer("test")))
    reader = source("dreadnode")
    for line in path.read_text(encoding="utf-8").splitlines():
        for event in reader.translate(json.loads(line)):
            projector.observe(event)
    projector.close()
    return exporter.get_finished_spans()


def tools(spans: Sequence[ReadableSpan]) -> Counter[tuple[object, object]]:
    ours = [span for span in spans if span.name.startswith("execute_tool ")]
    return Counter(((span.attributes or {})["gen_ai.tool.name"], (span.attributes or {})["gen_ai.tool.call.id"]) for span in ours)


def milliseconds(span: ReadableSpan) -> float:
    return ((span.end_time or 0) - (span.start_time or 0)) / 1e6


class TestAgainstNativeSpans:
    @pytest.mark.parametrize("run", RUNS)
    def test_no_tool_is_lost(self, recordings: Path, run: str) -> None:
        """Every native tool span has one of ours with its name, call id and duration; a refused one is a decision."""
        spans = spans_of(recordings / f"{run}.events.jsonl")
        native = [
            span for span in json.loads((recordings / f"{run}.native_spans.json").read_text())["spans"] if span["name"].startswith("tool:")
        ]
        if run == "policy_deny":
            assert ["policy deny fast"] == [span.name for span in spans if span.name.startswith("policy ")]
            assert Counter() == tools(spans)
            return
        keys = Counter((span["attributes"]["dreadnode.tool.name"], span["attributes"]["dreadnode.tool.call_id"]) for span in native)
        # Their tracing loses the tool that was cancelled; ours does not.
        assert tools(spans) == keys + (Counter([("slow", "c1")]) if run == "cancel_mid_tool" else Counter())

    @pytest.mark.parametrize("run", [run for run in RUNS if run != "policy_deny"])
    def test_durations_are_theirs(self, recordings: Path, run: str) -> None:
        """Within a few milliseconds, which is what their own bookkeeping takes."""
        ours = {
            (attributes["gen_ai.tool.name"], attributes["gen_ai.tool.call.id"]): milliseconds(span)
            for span in spans_of(recordings / f"{run}.events.jsonl")
            if "gen_ai.tool.name" in (attributes := dict(span.attributes or {}))
        }
        for span in json.loads((recordings / f"{run}.native_spans.json").read_text())["spans"]:
            if span["name"].startswith("tool:"):
                key = (span["attributes"]["dreadnode.tool.name"], span["attributes"]["dreadnode.tool.call_id"])
                assert pytest.approx((span["end_ns"] - span["start_ns"]) / 1e6, abs=5) == ours[key]

    @pytest.mark.parametrize("run", RUNS)
    def test_generations(self, recordings: Path, run: str) -> None:
        """As many model spans as generations, none of them swallowing tool time."""
        spans = spans_of(recordings / f"{run}.events.jsonl")
        native = json.loads((recordings / f"{run}.native_spans.json").read_text())["spans"]
        models = [span for span in spans if span.name == "chat mock"]
        assert len(models) == sum(span["name"] == "generation" for span in native)
        starts = [span.start_time or 0 for span in spans if span.name.startswith("execute_tool ")]
        assert all((model.end_time or 0) <= start or (model.start_time or 0) >= start for model in models for start in starts)

    def test_failed_runs_are_errors(self, recordings: Path) -> None:
        """Their failed root is left UNSET; ours is not."""
        (root,) = [span for span in spans_of(recordings / "generation_error.events.jsonl") if span.name == "invoke_agent t"]
        assert (StatusCode.ERROR, "RuntimeError") == (root.status.status_code, (root.attributes or {})["error.type"])


class TestEnvelopes:
    def test_completed(self, recordings: Path) -> None:
        """One run, its children, and token sums equal to the terminal envelope's."""
        spans = spans_of(recordings / "envelopes_completed.jsonl")
        assert {"invoke_agent t": 1, "chat mock": 2, "execute_tool slow": 1, "execute_tool fast": 1} == Counter(span.name for span in spans)
        by_name = {name: [dict(span.attributes or {}) for span in spans if span.name == name] for name in ("invoke_agent t", "chat mock")}
        sums = [sum(facts[f"gen_ai.usage.{part}"] for facts in by_name["chat mock"]) for part in ("input_tokens", "output_tokens")]  # type: ignore[misc]  # ints
        root = by_name["invoke_agent t"][0]
        assert [root["gen_ai.usage.input_tokens"], root["gen_ai.usage.output_tokens"]] == sums
        assert "sess-completed" == root["gen_ai.conversation.id"]

    def test_failed_tool_and_its_sibling(self, recordings: Path) -> None:
        """The sibling that never ended is closed with the failed turn, as failed."""
        spans = {span.name: span for span in spans_of(recordings / "envelopes_failed_tool.jsonl")}
        failed = {name for name, span in spans.items() if span.status.status_code is StatusCode.ERROR}
        assert {"execute_tool boom", "execute_tool slow", "invoke_agent t"} == failed

    def test_cancelled(self, recordings: Path) -> None:
        """A cancelled turn is no error."""
        spans = {span.name: span for span in spans_of(recordings / "envelopes_cancelled.jsonl")}
        assert {StatusCode.UNSET} == {span.status.status_code for span in spans.values()}
        assert "cancelled" == (spans["invoke_agent t"].attributes or {})["otel_runtime.outcome"]

    def test_dropped_turns(self, recordings: Path) -> None:
        """Turns that never started are runs of their own, cancelled."""
        roots = [span for span in spans_of(recordings / "envelopes_queue_dropped.jsonl") if span.parent is None]
        assert 3 == len(roots)
        assert {"cancelled"} == {(span.attributes or {})["otel_runtime.outcome"] for span in roots}

    def test_prompt(self, recordings: Path) -> None:
        """A question is a span that ends with the tool that asked."""
        spans = {span.name: span for span in spans_of(recordings / "envelopes_prompt.jsonl")}
        assert spans["approval answered ask_user"].end_time == spans["execute_tool ask_user"].end_time
