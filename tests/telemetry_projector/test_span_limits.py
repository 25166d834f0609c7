"""A run with more span events than its span may hold: the first and the last are there, whoever made the provider."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace import SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import NoOpTracer

from otel_runtime.runtime.build import build_runtime
from otel_runtime.settings.model import Settings
from otel_runtime.telemetry.projector_spans import room_for_events


def note(name: str, at: int) -> dict[str, Any]:
    stamp = f"2026-11-20T08:00:{at // 1000:02}.{at % 1000:03}Z"
    return {"name": name, "type": "run", "timestamp": stamp, "attributes": {"run.id": "r"}}


RUN = [note("note.first", 0), *(note("note.added", at) for at in range(1, 1999)), note("note.last", 1999), note("invocation.finish", 2000)]


class TestSpanLimits:
    def test_our_own_provider_has_room_for_what_a_run_keeps(self, tmp_path: Path) -> None:
        """1,024 of 2,001: half the first, half the last."""
        path = tmp_path / "traces.json"
        with build_runtime(Settings(otlp="off", trace_file=path, state=tmp_path / "state.db")) as runtime:
            runtime.ingest(RUN, source="vitehub")
        (span,) = json.loads(path.read_text(encoding="utf-8"))["resourceSpans"][0]["scopeSpans"][0]["spans"]
        names = [event["name"] for event in span["events"]]
        assert (1024, "note.first", ["note.last", "invocation.finish"]) == (len(names), names[0], names[-2:])
        assert "otel_runtime.events.truncated" in [each["key"] for each in span["attributes"]]

    @pytest.mark.parametrize("limit", [None, 128, 16])
    def test_the_applications_provider_keeps_the_first_too(self, tmp_path: Path, limit: int | None) -> None:
        """The SDK's default is 128, and a span that is full drops what it was told first."""
        exporter = InMemorySpanExporter()
        provider = TracerProvider(shutdown_on_exit=False, span_limits=None if limit is None else SpanLimits(max_events=limit))
        provider.add_span_processor(SimpleSpanProcessor(exporter))
        with build_runtime(Settings(otlp="off", state=tmp_path / "state.db"), tracer_provider=provider) as runtime:
            runtime.ingest(RUN, source="vitehub")
        (span,) = exporter.get_finished_spans()
        names = [event.name for event in span.events]
        assert ("note.first", ["note.last", "invocation.finish"], 0) == (names[0], names[-2:], span.dropped_events)
        assert len(RUN) - len(names) == (span.attributes or {})["otel_runtime.events.truncated"]

    @pytest.mark.parametrize(("limit", "room"), [(128, 64), (2048, 1024), (10_000, 1024), (SpanLimits.UNSET, 1024), (1, 2)])
    def test_room(self, limit: int | None, room: int) -> None:
        """Half of what a span holds, at most 1,024; the rest is for failures, which are always kept."""
        provider = TracerProvider(shutdown_on_exit=False, span_limits=SpanLimits(max_events=limit))
        assert room == room_for_events(provider.get_tracer("test"))

    def test_a_tracer_of_another_make(self) -> None:
        """Nothing is known of its spans."""
        assert 1024 == room_for_events(NoOpTracer())
