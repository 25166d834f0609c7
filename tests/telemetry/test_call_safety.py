"""Whatever telemetry meets, the call around it does not notice."""

from __future__ import annotations

import gc
import logging
import random
import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor, SpanExporter, SpanExportResult

from otel_runtime.settings.model import Settings
from otel_runtime.telemetry import sanitize
from otel_runtime.telemetry.protocol import SpanStart
from otel_runtime.telemetry.provider import build_tracing
from otel_runtime.values.action import Action
from otel_runtime.values.decision import Decision


class RaisesOnStart(SpanProcessor):
    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        raise RuntimeError("start")


class RaisesOnEnd(SpanProcessor):
    def on_end(self, span: ReadableSpan) -> None:
        raise RuntimeError("end")


class RaisingExporter(SpanExporter):
    def export(self, spans: Any) -> SpanExportResult:
        raise RuntimeError("export")


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text for you")


class LoudText(str):
    __slots__ = ()

    def __str__(self) -> str:
        raise RuntimeError("do not call me")


class TestProcessors:
    @pytest.mark.parametrize("processor", [RaisesOnStart, RaisesOnEnd])
    def test_raising_processor(self, make_bench: Any, processor: type[SpanProcessor]) -> None:
        """A processor of the application's that raises is counted as a problem; metrics go on."""
        bench = make_bench(processors=(processor(),))
        span = bench.tracing.open(SpanStart("tool", "x"))
        token = span.enter()
        span.leave(token)
        span.end("ok")
        bench.tracing.decided(Action("tool", "y"), Decision("deny", "no"))
        assert {"processor"} == set(bench.tracing.report()["problems"])
        assert {"gen_ai.execute_tool.duration", "otel_runtime.policy.decisions", "otel_runtime.policy.duration"} == set(bench.points())

    def test_raising_exporter(self, make_bench: Any, caplog: pytest.LogCaptureFixture) -> None:
        """An exporter that raises does not reach the caller."""
        caplog.set_level(logging.CRITICAL)
        bench = make_bench(processors=(SimpleSpanProcessor(RaisingExporter()),))
        bench.tracing.open(SpanStart("tool", "x")).end("ok")
        assert ["execute_tool x"] == bench.tree()


class TestHostileValues:
    def test_broken_str_of_an_exception(self, bench: Any) -> None:
        """An exception whose __str__ raises is recorded by its type."""
        bench.tracing.open(SpanStart("tool", "x")).end("error", Unprintable())
        event = bench.span("execute_tool x").events[0]
        assert "<message could not be read>" == event.attributes["exception.message"]
        assert event.attributes["exception.type"].endswith("Unprintable")

    def test_surrogates_and_huge_numbers(self, bench: Any) -> None:
        """Lone surrogates, huge ints, NaN, wrong types and long text become exact OTLP types without a log record."""
        odd: dict[str, Any] = {
            "s": "a\ud800b",
            "big": 1 << 70,
            "huge": 10**5000,
            "nan": float("nan"),
            "obj": object(),
            "long": "x" * 10_000,
            "loud": LoudText("hi"),
            "bytes": b"x",
            "none": None,
            "true": True,
            "\udfff": 1,
        }
        bench.tracing.open(SpanStart("tool", "to\ud800ol\n", session="s\udc00", attributes=odd)).end("error", ValueError("v\ud801"))
        found = bench.span("execute_tool to?ol").attributes
        expected = {
            "s": "a?b",
            "big": "<int of 71 bits>",
            "huge": "<int of 16610 bits>",
            "obj": "<object>",
            "long": "x" * 2000,
            "loud": "hi",
            "bytes": "<bytes>",
            "true": True,
            "?": 1,
            "gen_ai.conversation.id": "s?",
        }
        assert expected == {key: found[key] for key in expected}
        assert {"nan", "none"}.isdisjoint(found)

    def test_secrets_in_exceptions(self, bench: Any) -> None:
        """Messages, status and stack traces are redacted."""

        def log_in() -> None:
            raise ValueError("login failed: password=hunter2 for https://u:hunter2@shop.example")

        with pytest.raises(ValueError, match="login") as caught:
            log_in()
        bench.tracing.open(SpanStart("tool", "x")).end("error", caught.value)
        span = bench.span("execute_tool x")
        assert "hunter2" not in str(span)
        assert "password=[redacted]" in span.message

    @given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(), st.lists))
    def test_value_is_exact(self, anything: Any) -> None:
        """Whatever goes in, an OTLP type that encodes comes out."""
        found = sanitize.value(anything)
        assert type(found) in (str, bool, int, float, tuple, type(None))
        texts = found if isinstance(found, tuple) else (found,)
        assert all(part.encode() is not None for part in texts if isinstance(part, str))


class TestFinalisers:
    def test_end_in_the_garbage_collector(self, bench: Any) -> None:
        """A span that a finaliser ends, on any thread, is ended once."""

        class Stream:
            def __init__(self) -> None:
                self.span = bench.tracing.open(SpanStart("model", "m"))
                self.me = self

            def __del__(self) -> None:
                self.span.end("closed")

        def leak() -> None:
            Stream()
            gc.collect()

        thread = threading.Thread(target=leak)
        thread.start()
        thread.join()
        gc.collect()
        assert ["closed"] == [span.attributes["otel_runtime.outcome"] for span in bench.spans()]

    def test_two_threads_end_one_span(self, bench: Any, caplog: pytest.LogCaptureFixture) -> None:
        """Of two ends at once one counts, without a log record."""
        for _ in range(50):
            span = bench.tracing.open(SpanStart("tool", "x"))
            barrier = threading.Barrier(2)

            def end(span: Any = span, barrier: Any = barrier) -> None:
                barrier.wait()
                span.end("ok")

            threads = [threading.Thread(target=end) for _ in range(2)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        assert (50, []) == (len(bench.spans()), caplog.records)


class TestIds:
    def test_random_seed_does_not_repeat_traces(self) -> None:
        """An application that seeds `random` gets different trace ids all the same."""
        tracing = build_tracing(Settings(otlp="off"), environ={})
        seen = set()
        for _ in range(3):
            random.seed(7)
            span = tracing.open(SpanStart("tool", "x"))
            ref = span.ref()
            assert ref is not None
            seen.add(ref.id)
            span.end("ok")
        tracing.shutdown(60)
        assert 3 == len(seen)

    def test_after_shutdown_nothing_happens(self, bench: Any) -> None:
        """A tracing that was shut down takes calls and records nothing."""
        assert bench.tracing.shutdown(60)
        span = bench.tracing.open(SpanStart("tool", "x"))
        span.leave(span.enter())
        span.end("ok")
        bench.tracing.decided(Action("tool", "x"), Decision("deny", "no"))
        assert ([], True) == (bench.spans(), bench.tracing.shutdown(60))


class TestForeignBatchProcessor:
    def test_requested_approval_is_flushed_through_it(self, make_bench: Any, make_request: Any) -> None:
        """With the application's own batch processor the question is exported without waiting for its schedule."""
        arrived = threading.Event()

        class Exporter(SpanExporter):
            def export(self, spans: Any) -> SpanExportResult:
                arrived.set()
                return SpanExportResult.SUCCESS

        slow = BatchSpanProcessor(Exporter(), schedule_delay_millis=3_600_000)
        bench = make_bench(processors=(slow,))
        bench.tracing.approval_requested(make_request())
        assert arrived.wait(60)
        slow.shutdown()  # type: ignore[no-untyped-call]  # the SDK's own
