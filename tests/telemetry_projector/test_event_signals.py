"""What foreign events say besides spans."""

from __future__ import annotations

import threading
from datetime import UTC, datetime

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import HistogramDataPoint, InMemoryMetricReader, NumberDataPoint
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from otel_runtime.sources.registry import source
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
        self.recorder.flush(5.0)
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


class TestMetrics:
    def test_tokens_count_once(self) -> None:
        """A turn's usage is measured; the sum that the end repeats is not."""
        measured = Measured()
        measured.feed(STREAM)
        found = {facts["gen_ai.token.type"]: value for facts, value in measured.points("gen_ai.client.token.usage")}
        assert {"input": 30, "output": 7} == found

    def test_foreign_decisions_are_counted(self) -> None:
        """Beside ours, under no rule of ours."""
        measured = Measured()
        measured.feed(STREAM)
        ((facts, count),) = measured.points("otel_runtime.policy.decisions")
        assert ("deny", "foreign", "rm", 1) == (
            facts["otel_runtime.policy.decision"],
            facts["otel_runtime.policy.rule"],
            facts["otel_runtime.tool.name"],
            count,
        )


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
        assert ended.wait(20)
        projector.close()
        spans: tuple[ReadableSpan, ...] = exporter.get_finished_spans()
        assert "execute_tool t" in {span.name for span in spans}
