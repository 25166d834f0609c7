"""A pipe keeps its bounds and its time, and counts what it loses."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from otel_runtime.telemetry.losses import Losses
from otel_runtime.telemetry.otlp_sender import OtlpSender
from otel_runtime.telemetry.otlp_watch import Watch
from otel_runtime.telemetry.pipe import Limits, Pipe, limits_from
from otel_runtime.telemetry.sending import Sender, Sent
from otel_runtime.telemetry.span_queue import SpanQueue


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
        assert gate.busy.wait(60)
        for number in range(8):
            tracer.start_span(str(number)).end()
        assert {"queue_full": 3} == losses.counts
        gate.open.set()
        assert pipe.finish(pipe.ask(), time.monotonic() + 60)
        assert ["first", "0", "1", "2", "3", "4"] == gate.names
        pipe.shutdown()

    def test_shutdown_gives_up_in_time(self) -> None:
        """A hanging exporter does not hold up the shutdown; what stays behind, in hand or in the queue, is counted once."""
        gate = Gate()
        pipe, tracer, losses = piped(gate, batch=1, delay_s=0.01)
        tracer.start_span("in hand").end()
        assert gate.busy.wait(60)
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


class TestBytes:
    def test_queue_is_bounded_in_bytes(self) -> None:
        """Few large spans fill the queue as many small ones do."""
        gate = Gate()
        pipe, tracer, losses = piped(gate, queue_bytes=100_000, batch=1, delay_s=0.01)
        tracer.start_span("first").end()
        assert gate.busy.wait(60)
        for number in range(8):
            tracer.start_span(str(number), attributes={"text": "x" * 20_000}).end()
        assert {"queue_full": 4} == losses.counts
        gate.open.set()
        assert pipe.finish(pipe.ask(), time.monotonic() + 60)
        assert ["first", "0", "1", "2", "3"] == gate.names
        pipe.shutdown()

    def test_one_span_beyond_the_bound(self) -> None:
        """A span that no collector would take is counted as too large, and its neighbours leave."""
        gate = Gate()
        gate.open.set()
        pipe, tracer, losses = piped(gate, span_bytes=50_000, delay_s=3600)
        tracer.start_span("small").end()
        large = tracer.start_span("large")
        for _ in range(6):
            large.add_event("e", {"text": "x" * 10_000})
        large.end()
        assert pipe.finish(pipe.ask(), time.monotonic() + 60) is True
        assert (["small"], {"too_large": 1}) == (gate.names, losses.counts)
        pipe.shutdown()

    def test_batches_are_bounded_in_bytes(self) -> None:
        """One export never grows beyond what a collector takes."""
        batches: list[int] = []

        class Counts(SpanExporter):
            def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
                batches.append(len(spans))
                return SpanExportResult.SUCCESS

        pipe, tracer, _ = piped(Counts(), batch_bytes=50_000, delay_s=3600)
        for number in range(5):
            tracer.start_span(str(number), attributes={"text": "x" * 20_000}).end()
        assert pipe.force_flush()
        assert [2, 2, 1] == batches
        pipe.shutdown()

    def test_settings_win_over_variables(self) -> None:
        """Our own settings win over the SDK's variables."""
        assert Limits(7, 7, queue_bytes=1000) == limits_from({"OTEL_BSP_MAX_QUEUE_SIZE": "10"}, Losses(), 7, 1000)


class TestPoison:
    @pytest.mark.parametrize("error", [RuntimeError, SystemExit, KeyboardInterrupt])
    def test_exporter_that_raises(self, error: type[BaseException]) -> None:
        """Whatever an exporter raises on our thread, its spans are counted and the next ones are sent."""
        names: list[str] = []

        class Raises(SpanExporter):
            def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
                names.extend(span.name for span in spans)
                if names == ["first"]:
                    raise error
                return SpanExportResult.SUCCESS

        pipe, tracer, losses = piped(Raises(), delay_s=3600)
        tracer.start_span("first").end()
        assert not pipe.force_flush()
        tracer.start_span("second").end()
        assert pipe.force_flush()
        assert (["first", "second"], {"export": 1}) == (names, losses.counts)
        pipe.shutdown()

    def test_a_span_that_cannot_be_encoded(self) -> None:
        """One span that the exporter cannot encode does not take its batch with it."""
        names: list[str] = []

        class Encodes(SpanExporter):
            def __init__(self, watch: Watch) -> None:
                self.watch = watch

            def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
                for span in spans:
                    span.name.encode()
                self.watch.attempt()
                names.extend(span.name for span in spans)
                return SpanExportResult.SUCCESS

        losses = Losses()
        pipe = Pipe("test", OtlpSender(Encodes, losses), losses, Limits(delay_s=3600))
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(pipe)
        for name in ("a", "b\ud800", "c"):
            provider.get_tracer("t").start_span(name).end()
        assert not pipe.force_flush()
        assert (["a", "c"], {"encode": 1}) == (names, losses.counts)
        pipe.shutdown()


class TestEnd:
    def test_a_batch_that_comes_back_is_counted_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Whenever the end falls upon an export that fails, its spans were in hand or waited, and were lost once."""
        gate, between = Gate(), threading.Event()

        class Fails(Sender):
            def send(self, spans: Sequence[ReadableSpan]) -> Sent:
                gate.export(spans)
                return Sent(again=tuple(spans))

            def settle(self, deadline: float) -> bool:
                return True

            def shutdown(self) -> None:
                gate.open.set()

            def report(self) -> dict[str, object]:
                return {}

        losses = Losses()
        pipe = Pipe("test", Fails(), losses, Limits(delay_s=3600))
        put_back = SpanQueue.put_back

        def slowly(queue: SpanQueue, spans: Sequence[ReadableSpan]) -> None:
            put_back(queue, spans)
            between.set()
            # Nobody tells that the other thread waits; one that does not wait is through by then.
            ending.join(0.5)

        monkeypatch.setattr(SpanQueue, "put_back", slowly)
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(pipe)
        for number in range(5):
            provider.get_tracer("t").start_span(str(number)).end()
        ending = threading.Thread(target=lambda: between.wait(60) and pipe.close(time.monotonic()))
        ending.start()
        pipe.ask()
        gate.open.set()
        ending.join(60)
        assert {"shutdown": 5} == losses.counts
