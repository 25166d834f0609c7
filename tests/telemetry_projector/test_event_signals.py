"""What foreign events say besides spans."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from opentelemetry.context import Context
from opentelemetry.sdk._logs import LoggerProvider, LoggingHandler
from opentelemetry.sdk._logs import export as log_export
from opentelemetry.sdk._logs.export import SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import HistogramDataPoint, InMemoryMetricReader, NumberDataPoint
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from otel_runtime.sources.registry import source
from otel_runtime.telemetry.event_logs import EventLogs
from otel_runtime.telemetry.event_signals import EventSignals
from otel_runtime.telemetry.losses import Losses
from otel_runtime.telemetry.metrics import Recorder
from otel_runtime.telemetry.projector import Projector
from otel_runtime.telemetry.projector_spans import TracerSpans

USAGE = {"prompt_tokens": 30, "completion_tokens": 7}
STREAM: list[dict[str, object]] = [
    {"type": "start"},
    {"type": "turn_start", "turn": 1},
    {"type": "permission_denied", "tool_id": "c", "tool_name": "rm", "reason": "no"},
    {"type": "turn_end", "turn": 1, "usage": USAGE},
    {"type": "end", "usage": USAGE},
]


class Measured:
    def __init__(self) -> None:
        self.reader = InMemoryMetricReader()
        provider = MeterProvider([self.reader], shutdown_on_exit=False)
        self.recorder = Recorder(provider.get_meter("test"), "both", Losses(None))
        self.projector = Projector(TracerSpans(TracerProvider().get_tracer("test")), EventSignals(self.recorder), sweep_every_s=0)

    def feed(self, raws: list[dict[str, object]]) -> None:
        reader = source("a3s", "s")
        for raw in raws:
            for event in reader.translate(raw):
                self.projector.observe(event)
        self.projector.close()

    def points(self, name: str) -> list[tuple[dict[str, object], float]]:
        self.recorder.flush(60)
        data = self.reader.get_metrics_data()
        assert data is not None
        found = [
            metric for part in data.resource_metrics for scope in part.scope_metrics for metric in scope.metrics if metric.name == name
        ]
        return [
            (dict(point.attributes or {}), point.sum if isinstance(point, HistogramDataPoint) else point.value)
            for metric in found
            for point in metric.data.data_points
            if isinstance(point, HistogramDataPoint | NumberDataPoint)
        ]


@pytest.fixture
def measured() -> Iterator[Measured]:
    found = Measured()
    yield found
    found.recorder.stop()


FORKED = """
import os
from opentelemetry.sdk.trace import TracerProvider
from otel_runtime.sources.registry import source
from otel_runtime.telemetry.event_signals import Signals
from otel_runtime.telemetry.projector import Projector
from otel_runtime.telemetry.projector_spans import TracerSpans

class Counted(Signals):
    found = 0

    def events(self, counts):
        self.found += sum(counts.values())

counted, reader = Counted(), source("a3s", "s")
projector = Projector(TracerSpans(TracerProvider(shutdown_on_exit=False).get_tracer("test")), counted, clock=lambda: 1, sweep_every_s=60.0)

def feed(**raw):
    for event in reader.translate(raw):
        projector.observe(event)

feed(type="start")
feed(type="turn_start", turn=1)
if child := os.fork():
    os.waitpid(child, 0)
feed(type="turn_end", turn=1)
projector.close()
print(counted.found, flush=True)
"""


class TestMetrics:
    def test_a_forked_child_counts_what_it_sees_itself(self) -> None:
        """What the parent has counted and not yet handed on, the parent hands on."""
        done = subprocess.run([sys.executable, "-c", FORKED], capture_output=True, text=True, check=True, timeout=60)
        assert ["1", "3"] == done.stdout.split()

    def test_tokens_count_once(self, measured: Measured) -> None:
        """A turn's usage is measured; the sum that the end repeats is not."""
        measured.feed(STREAM)
        found = {facts["gen_ai.token.type"]: value for facts, value in measured.points("gen_ai.client.token.usage")}
        assert {"input": 30, "output": 7} == found

    def test_foreign_decisions_are_counted(self, measured: Measured) -> None:
        """Beside ours, under no rule of ours."""
        measured.feed(STREAM)
        ((facts, count),) = measured.points("otel_runtime.policy.decisions")
        assert ("deny", "foreign", "rm", 1) == (
            facts["otel_runtime.policy.decision"],
            facts["otel_runtime.policy.rule"],
            facts["otel_runtime.tool.name"],
            count,
        )

    def test_durations_are_measured(self, measured: Measured) -> None:
        """Runs, tools and model calls have the histograms of decorated code, with its labels."""
        call: dict[str, object] = {"id": "c", "name": "sh", "exit_code": 2}
        moments: list[tuple[str, int, dict[str, object]]] = [
            ("start", 0, {}),
            ("tool_start", 1, call),
            ("tool_end", 3, call),
            ("end", 4, {}),
        ]
        measured.feed([{"type": kind, "timestamp": f"2026-11-20T08:00:0{at}+00:00", **more} for kind, at, more in moments])
        assert [({"gen_ai.tool.name": "sh", "error.type": "_OTHER"}, 2.0)] == measured.points("gen_ai.execute_tool.duration")
        ((_, run),) = measured.points("gen_ai.invoke_agent.duration")
        assert 4.0 == run

    def test_questions_are_measured(self, measured: Measured) -> None:
        """Asked, answered, and none left open."""
        question = {"tool_id": "c", "tool_name": "rm", "timeout_ms": 100}
        measured.feed(
            [
                {"type": "start"},
                {"type": "confirmation_required", "timestamp": "2026-11-20T08:00:00Z", **question},
                {"type": "confirmation_received", "timestamp": "2026-11-20T08:00:05Z", "tool_id": "c", "approved": True},
                {"type": "confirmation_required", **question},
                {"type": "end"},
            ]
        )
        assert [({"otel_runtime.tool.name": "rm"}, 2)] == measured.points("otel_runtime.approval.requests")
        waits = {str(facts["otel_runtime.approval.outcome"]): seconds for facts, seconds in measured.points("otel_runtime.approval.wait")}
        assert ({"approved", "cancelled"}, 5.0) == (set(waits), waits["approved"])
        assert [({}, 0)] == measured.points("otel_runtime.approval.pending")

    def test_events_are_counted_by_kind(self, measured: Measured) -> None:
        """Each of a hundred deltas, though they are handed on together."""
        deltas: list[dict[str, object]] = [{"type": "text_delta", "text": "a"} for _ in range(100)]
        measured.feed([{"type": "start"}, *deltas, {"type": "end"}])
        found = {facts["otel_runtime.event.kind"]: count for facts, count in measured.points("otel_runtime.events")}
        assert {"start": 1, "text_delta": 100, "end": 1} == found

    def test_component_states(self, measured: Measured) -> None:
        """The state that a component is in is 1, the one it left is 0."""
        reader = source("dreadnode", "s")
        for number, status in enumerate(("starting", "running", "running", "error")):
            payload = {"capability": "c", "kind": "worker", "name": "w", "status": status}
            for event in reader.translate({"kind": "component.state_changed", "event_id": str(number), "payload": payload}):
                measured.projector.observe(event)
        found = {facts["otel_runtime.component.status"]: value for facts, value in measured.points("otel_runtime.component.state")}
        assert {"starting": 0, "running": 0, "error": 1} == found


WARNING: dict[str, object] = {
    "kind": "session.warning",
    "session_id": "s",
    "event_id": "2",
    "payload": {"code": "sync", "message": "sk-SECRET"},
}
TURN: dict[str, object] = {"kind": "turn.started", "session_id": "s", "turn_id": "t", "event_id": "1", "payload": {}}


class TestLogs:
    def emitted(self, *raws: dict[str, object]) -> tuple[list[Any], InMemorySpanExporter]:
        """Log records of the SDK, as its exporter gets them."""
        kept, spans = _logs_in_memory(), InMemorySpanExporter()
        provider = LoggerProvider(shutdown_on_exit=False)
        provider.add_log_record_processor(SimpleLogRecordProcessor(kept))
        traces = TracerProvider(shutdown_on_exit=False)
        traces.add_span_processor(SimpleSpanProcessor(spans))
        logs = EventLogs(lambda: provider, Losses(None))
        signals = EventSignals(Recorder(None, "both", Losses(None)), logs)
        projector, reader = Projector(TracerSpans(traces.get_tracer("test")), signals, sweep_every_s=0), source("dreadnode", "s")
        for raw in raws:
            for event in reader.translate(raw):
                projector.observe(event)
        projector.close()
        assert logs.flush(60_000)
        logs.shutdown(60_000)
        return [each.log_record for each in kept.get_finished_logs()], spans

    def test_a_warning_is_a_record_in_the_trace_of_its_turn(self) -> None:
        """Severity, name and attributes; its message stays behind."""
        (record,), spans = self.emitted(TURN, WARNING)
        (span,) = spans.get_finished_spans()
        assert ("WARN", span.context.trace_id, span.context.span_id) == (record.severity_text, record.trace_id, record.span_id)
        assert ("session.warning", "sync") == (record.body, record.attributes["otel_runtime.attr.code"])
        assert "SECRET" not in repr(record)

    def test_outside_of_any_turn(self) -> None:
        """It is a record without a trace."""
        (record,), spans = self.emitted({**WARNING, "session_id": None})
        assert ((), True) == (spans.get_finished_spans(), not record.trace_id)

    def test_a_provider_that_cannot_be_built_is_a_problem(self) -> None:
        """Nothing reaches whoever handed the event over."""
        losses = Losses(None)

        def broken() -> object:
            raise OSError("no exporter")

        logs = EventLogs(broken, losses)
        logs.emit(logging.WARNING, "x", {}, 1, Context())
        assert logs.flush(60_000)
        logs.shutdown(60_000)
        assert "OSError: no exporter" == losses.problems["logs"]

    def test_a_bridge_of_the_application_is_not_doubled(self) -> None:
        """Where Python's records are handed to OpenTelemetry already, there is no second one."""
        provider = LoggerProvider(shutdown_on_exit=False)
        with warnings.catch_warnings():
            # A later SDK says that its handler moves elsewhere; applications have it all the same.
            warnings.simplefilter("ignore")
            handler = LoggingHandler(logger_provider=provider)
        logging.getLogger("otel_runtime.events").addHandler(handler)
        try:
            assert [] == self.emitted(TURN, WARNING)[0]
        finally:
            logging.getLogger("otel_runtime.events").removeHandler(handler)


def _logs_in_memory() -> Any:
    # Renamed in a later SDK.
    return (getattr(log_export, "InMemoryLogRecordExporter", None) or log_export.InMemoryLogExporter)()


class TestSilence:
    def test_a_held_end_is_let_go_without_another_event(self) -> None:
        """A thread looks at the windows, so that silence does not keep a span open."""
        ended = threading.Event()

        class Told(InMemorySpanExporter):
            def export(self, spans: object) -> object:  # type: ignore[override]  # only to be told
                ended.set()
                return super().export(spans)  # type: ignore[arg-type]

        exporter, provider = Told(), TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(exporter))
        projector = Projector(TracerSpans(provider.get_tracer("test")), window_s=0.01, sweep_every_s=0.01)
        facts = {"run.id": "r", "tool.id": "c", "tool.name": "t"}
        raw = {"name": "tool.finish", "type": "run", "timestamp": datetime.now(UTC).isoformat(), "attributes": facts}
        for event in source("vitehub").translate(raw):
            projector.observe(event)
        assert ended.wait(60)
        projector.close()
        spans: tuple[ReadableSpan, ...] = exporter.get_finished_spans()
        assert "execute_tool t" in {span.name for span in spans}
