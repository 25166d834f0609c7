"""A pipe keeps its bounds and its time, and counts what it loses."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from otel_runtime.telemetry.losses import Losses
from otel_runtime.telemetry.pipe import Limits, Pipe, limits_from


class Gate(SpanExporter):
    """An exporter that waits until it is let through."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.busy = threading.Event()
        self.names: list[str] = []

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.busy.set()
        self.open.wait(60)
        self.names += [span.name for span in spans]
        return SpanExportResult.SUCCESS


def piped(exporter: SpanExporter, **limits: Any) -> tuple[Pipe, Any, Losses]:
    losses = Losses()
    pipe = Pipe("test", exporter, losses, Limits(**limits))
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(pipe)
    return pipe, provider.get_tracer("t"), losses


class TestPipe:
    def test_full_queue_is_counted(self) -> None:
        """While the exporter hangs, the queue fills up to its bound; the rest is lost and counted, the caller waits for nobody."""
        gate = Gate()
        pipe, tracer, losses = piped(gate, queue=5, batch=1, delay_s=0.01)
        tracer.start_span("first").end()
        assert gate.busy.wait(30)
        for number in range(8):
            tracer.start_span(str(number)).end()
        assert {"queue_full": 3} == losses.counts
        gate.open.set()
        assert pipe.finish(pipe.ask(), time.monotonic() + 30)
        assert ["first", "0", "1", "2", "3", "4"] == gate.names
        pipe.shutdown()

    def test_shutdown_gives_up_in_time(self) -> None:
        """A hanging exporter does not hold up the shutdown; what stays behind, in hand or in the queue, is counted once."""
        gate = Gate()
        pipe, tracer, losses = piped(gate, batch=1, delay_s=0.01)
        tracer.start_span("in hand").end()
        assert gate.busy.wait(30)
        tracer.start_span("queued").end()
        pipe.refuse()
        assert not pipe.close(time.monotonic() + 0.1)
        assert {"shutdown": 2} == losses.counts
        tracer.start_span("late").end()
        gate.open.set()
        assert {"shutdown": 3} == losses.counts

    def test_flush_waits_for_what_is_in_hand(self) -> None:
        """A flush is done when everything has left."""
        gate = Gate()
        gate.open.set()
        pipe, tracer, _ = piped(gate, delay_s=3600)
        for number in range(3):
            tracer.start_span(str(number)).end()
        assert pipe.force_flush(30_000)
        assert ["0", "1", "2"] == gate.names
        pipe.shutdown()

    def test_limits_from_variables(self) -> None:
        """OTEL_BSP_* sizes are understood; a bad one keeps the default and is reported."""
        losses = Losses()
        given = {"OTEL_BSP_MAX_QUEUE_SIZE": "10", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "50", "OTEL_BSP_SCHEDULE_DELAY": "soon"}
        assert Limits(10, 10, 1.0) == limits_from(given, losses)
        assert ["OTEL_BSP_SCHEDULE_DELAY"] == list(losses.problems)
