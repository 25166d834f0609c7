"""Every recorded Dreadnode run against the spans that package made itself, and against its terminal envelopes."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from otel_runtime.sources.registry import source
from otel_runtime.telemetry.projector import Projector
from otel_runtime.telemetry.projector_spans import TracerSpans

BARE = [
    "cancel_mid_tool",
    "caught_tool_error",
    "duplicate_tool_id",
    "generation_error",
    "interleaved",
    "policy_ask_approved",
    "policy_deny",
]
ENVELOPES = ["cancelled", "completed", "failed_tool", "prompt", "queue_dropped"]
# Their cancelled tool has no span; ours has.
LOST_BY_THEM = {"cancel_mid_tool": 1}


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def project(raws: Sequence[object]) -> tuple[ReadableSpan, ...]:
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    projector = Projector(TracerSpans(provider.get_tracer("test")), sweep_every_s=0)
    reader = source("dreadnode", "stream")
    for raw in raws:
        for event in reader.translate(raw):
            projector.observe(event)
    projector.close()
    assert not [reason for reason in projector.problems if reason.startswith("error")]
    assert 0 == projector.open_runs
    return exporter.get_finished_spans()


def facts(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def native(recordings: Path, run: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((recordings / f"{run}.native_spans.json").read_text(encoding="utf-8"))["spans"]
    return found


def parent_name(span: ReadableSpan, spans: Sequence[ReadableSpan]) -> str | None:
    by_id = {each.context.span_id: each.name for each in spans}
    return None if span.parent is None else by_id[span.parent.span_id]


@pytest.mark.parametrize("run", BARE)
class TestNativeSpans:
    def test_tools_stand_under_their_generation(self, recordings: Path, run: str) -> None:
        """Each tool, executed or refused, has the parent that theirs has: the generation that asked for it."""
        spans = project(lines(recordings / f"{run}.events.jsonl"))
        theirs = native(recordings, run)
        names = {span["span_id"]: span["name"] for span in theirs}
        expected = {names[span["parent"]] for span in theirs if span["name"].startswith("tool:")}
        ours = {parent_name(span, spans) for span in spans if span.name.startswith(("execute_tool", "policy"))}
        assert {"generation"} >= expected
        assert ({"chat mock"} if expected or run in LOST_BY_THEM else set()) == ours

    def test_generations_have_their_tokens(self, recordings: Path, run: str) -> None:
        """In order of their start: model, tokens and stop reason of each generation."""
        spans = sorted((span for span in project(lines(recordings / f"{run}.events.jsonl")) if span.name == "chat mock"), key=start)
        theirs = sorted((span for span in native(recordings, run) if span["name"] == "generation"), key=lambda span: span["start_ns"])
        keys = ("input_tokens", "output_tokens")
        expected = [[span["attributes"].get(f"dreadnode.generation.{key}") for key in keys] for span in theirs]
        assert expected == [[facts(span).get(f"gen_ai.usage.{key}") for key in keys] for span in spans]

    def test_no_span_is_lost(self, recordings: Path, run: str) -> None:
        """As many spans as theirs, and those that their tracing loses."""
        spans = project(lines(recordings / f"{run}.events.jsonl"))
        assert len(native(recordings, run)) + LOST_BY_THEM.get(run, 0) == len(spans)

    def test_starts_are_theirs(self, recordings: Path, run: str) -> None:
        """Every span starts within five milliseconds of theirs."""
        ours = sorted(start(span) for span in project(lines(recordings / f"{run}.events.jsonl")))
        for span in native(recordings, run):
            assert min(abs(span["start_ns"] - each) for each in ours) < 5_000_000, span["name"]

    def test_the_root_covers_its_children(self, recordings: Path, run: str) -> None:
        """One root, from the first to the last."""
        spans = project(lines(recordings / f"{run}.events.jsonl"))
        (root,) = [span for span in spans if span.parent is None]
        assert start(root) == min(start(span) for span in spans)
        assert root.end_time == max(span.end_time or 0 for span in spans)

    def test_asked_and_refused_are_said(self, recordings: Path, run: str) -> None:
        """A decision of their judge stands on the span, as theirs."""
        spans = project(lines(recordings / f"{run}.events.jsonl"))
        decided = {
            facts(span).get("otel_runtime.policy.decision"): span.name for span in spans if "otel_runtime.policy.decision" in facts(span)
        }
        expected = {"policy_ask_approved": {"allow": "execute_tool fast"}, "policy_deny": {"deny": "policy deny fast"}}.get(run, {})
        assert expected == decided


def start(span: ReadableSpan) -> int:
    return span.start_time or 0


@pytest.mark.parametrize("run", ENVELOPES)
class TestEnvelopes:
    def test_one_root_per_turn(self, recordings: Path, run: str) -> None:
        """Each turn is one root span of its session, ended as its terminal event says."""
        raws = lines(recordings / f"envelopes_{run}.jsonl")
        terminal = {raw["turn_id"]: raw["kind"].removeprefix("turn.") for raw in raws if raw["terminal"]}
        roots = {facts(span)["otel_runtime.run.id"]: span for span in project(raws) if span.parent is None}
        assert set(terminal) == set(roots)
        for turn, outcome in terminal.items():
            assert (outcome == "failed") == (roots[turn].status.status_code is StatusCode.ERROR)
            assert (outcome == "cancelled") == (facts(roots[turn]).get("otel_runtime.outcome") == "cancelled")

    def test_tokens_are_those_of_the_terminal_envelope(self, recordings: Path, run: str) -> None:
        """The sum over the model spans equals what the terminal envelope tells, where it tells anything."""
        raws = lines(recordings / f"envelopes_{run}.jsonl")
        spans = project(raws)
        for raw in raws:
            if raw["terminal"] and (usage := raw["payload"].get("usage")):
                own = [span for span in spans if span.name.startswith("chat") and facts(span)["otel_runtime.run.id"] == raw["turn_id"]]
                for key in ("input_tokens", "output_tokens"):
                    assert usage[key] == sum(facts(span)[f"gen_ai.usage.{key}"] for span in own)

    def test_time_in_the_queue(self, recordings: Path, run: str) -> None:
        """A turn's span starts where the turn started; the time before is an attribute."""
        raws = lines(recordings / f"envelopes_{run}.jsonl")
        started = {raw["turn_id"] for raw in raws if raw["kind"] == "turn.started"}
        for span in project(raws):
            if span.parent is None:
                assert (facts(span)["otel_runtime.run.id"] in started) == ("otel_runtime.queue.duration_s" in facts(span))

    def test_duration_is_the_one_told(self, recordings: Path, run: str) -> None:
        """Within three milliseconds."""
        raws = lines(recordings / f"envelopes_{run}.jsonl")
        told = {raw["turn_id"]: raw["payload"].get("duration_ms") for raw in raws if raw["terminal"]}
        for span in project(raws):
            expected = told.get(facts(span)["otel_runtime.run.id"])
            if span.parent is None and expected is not None:
                assert pytest.approx(expected, abs=3) == ((span.end_time or 0) - start(span)) / 1e6


@st.composite
def disturbed(draw: st.DrawFn) -> tuple[str, list[int], int]:
    run = draw(st.sampled_from([f"{run}.events" for run in BARE] + [f"envelopes_{run}" for run in ENVELOPES]))
    order = draw(st.lists(st.integers(0, 40), max_size=60))
    return run, order, draw(st.integers(0, 40))


class TestDisturbed:
    @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(st.data())
    def test_any_shuffle_duplication_or_truncation(self, recordings: Path, data: st.DataObject) -> None:
        """Nothing raises, every span ends, no turn has two terminals, no parent is unknown or its own ancestor."""
        run, order, _ = data.draw(disturbed())
        raws = lines(recordings / f"{run}.jsonl")
        spans = project([raws[index % len(raws)] for index in order])
        by_id = {span.context.span_id: span for span in spans}
        for span in spans:
            assert span.end_time is not None
            assert span.end_time >= start(span)
            seen: set[int] = set()
            above: ReadableSpan | None = span
            while above is not None and above.parent is not None:
                assert above.context.span_id not in seen
                seen.add(above.context.span_id)
                above = by_id[above.parent.span_id]
        if run.startswith("envelopes"):
            turns = Counter(
                facts(span)["otel_runtime.run.id"] for span in spans if span.parent is None and "otel_runtime.run.id" in facts(span)
            )
            assert set(turns.values()) <= {1}

    @settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(st.data())
    def test_order_does_not_matter_within_the_window(self, recordings: Path, data: st.DataObject) -> None:
        """A turn whose events come in any order, the start first or not, has the same tools, model calls and outcome."""
        run = data.draw(st.sampled_from(["completed", "failed_tool"]))
        raws = lines(recordings / f"envelopes_{run}.jsonl")
        started = next(index for index, raw in enumerate(raws) if raw["kind"] == "turn.started")
        shuffled = data.draw(st.permutations(raws[:started] + raws[started + 1 :]))
        expected = Counter((span.name, span.status.status_code) for span in project(raws))
        # The start comes last: everything is held until then.
        assert expected == Counter((span.name, span.status.status_code) for span in project([*shuffled, raws[started]]))
