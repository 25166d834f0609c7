"""Which providers are used, what the standard variables do, and that a bad one breaks nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from typing import Any

import pytest
from opentelemetry import metrics, trace

from otel_runtime.settings.model import Settings
from otel_runtime.telemetry.noop import NoopTracing
from otel_runtime.telemetry.protocol import SpanStart
from otel_runtime.telemetry.provider import build_tracing

REPORT = """
import json
from otel_runtime.settings.model import Settings
from otel_runtime.telemetry.protocol import SpanStart
from otel_runtime.telemetry.provider import build_tracing
tracing = build_tracing(Settings(otlp={otlp!r}))
span = tracing.open(SpanStart("tool", "x"))
span.leave(span.enter())
span.end("ok")
tracing.shutdown({wait_s})
print(json.dumps(dict(tracing.report()), default=str))
"""


def report(otlp: str = "off", **environ: str) -> Any:
    """What a fresh process with these variables reports; nothing may reach its standard error."""
    known = {key: value for key, value in os.environ.items() if not key.startswith("OTEL_")}
    done = subprocess.run(
        # Nobody listens at an endpoint that is named here.
        [sys.executable, "-W", "error", "-c", REPORT.format(otlp=otlp, wait_s=1 if "OTEL_EXPORTER_OTLP_ENDPOINT" in environ else 60)],
        env={**known, **environ},
        timeout=120,
        check=True,
        capture_output=True,
        text=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


class TestProviders:
    def test_given_provider_is_used_and_not_stopped(self, make_bench: Any) -> None:
        """A given provider gets our spans and goes on after our shutdown."""
        bench = make_bench()
        bench.tracing.open(SpanStart("tool", "x")).end("ok")
        assert "given" == bench.tracing.report()["provider"]
        assert bench.tracing.shutdown(60)
        bench.provider.get_tracer("app").start_span("later").end()
        assert ["execute_tool x", "later"] == bench.tree()

    def test_global_provider_is_reused(self) -> None:
        """The application's global provider is reused, and file and tree hang on it."""
        program = textwrap.dedent("""
            from opentelemetry import trace
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import SimpleSpanProcessor
            from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
            from otel_runtime.settings.model import Settings
            from otel_runtime.telemetry.protocol import SpanStart
            from otel_runtime.telemetry.provider import build_tracing
            mine, exporter = TracerProvider(), InMemorySpanExporter()
            mine.add_span_processor(SimpleSpanProcessor(exporter))
            trace.set_tracer_provider(mine)
            tracing = build_tracing(Settings(console=True))
            tracing.open(SpanStart("tool", "x")).end("ok")
            tracing.shutdown(60)
            assert trace.get_tracer_provider() is mine
            print(tracing.report()["provider"], [span.name for span in exporter.get_finished_spans()])
        """)
        done = subprocess.run([sys.executable, "-c", program], timeout=120, check=True, capture_output=True, text=True)
        assert "global ['execute_tool x']" == done.stdout.strip()
        assert done.stderr.startswith("execute_tool x")

    def test_no_global_provider_is_set(self) -> None:
        """Our own providers never become global."""
        before = (trace.get_tracer_provider(), metrics.get_meter_provider())
        tracing = build_tracing(Settings(otlp="off"), environ={})
        assert "own" == tracing.report()["provider"]
        tracing.shutdown(60)
        assert before == (trace.get_tracer_provider(), metrics.get_meter_provider())

    def test_propagate_is_not_imported(self) -> None:
        """`opentelemetry.propagate` raises on a bad OTEL_PROPAGATORS at import, so nothing here imports it."""
        assert "own" == report(OTEL_PROPAGATORS="nonsense")["provider"]


class TestVariables:
    def test_disabled(self) -> None:
        """OTEL_SDK_DISABLED switches telemetry off."""
        tracing = build_tracing(Settings(), environ={"OTEL_SDK_DISABLED": "True"})
        assert isinstance(tracing, NoopTracing)
        assert ("OTEL_SDK_DISABLED is true", {}) == (tracing.report()["reason"], tracing.report()["problems"])

    def test_none(self) -> None:
        """OTEL_TRACES_EXPORTER=none sends nothing."""
        assert [] == report("auto", OTEL_TRACES_EXPORTER="none", OTEL_METRICS_EXPORTER="none")["exporters"]

    def test_console(self) -> None:
        """OTEL_TRACES_EXPORTER=console prints the SDK's own form on standard output."""
        found = report("auto", OTEL_TRACES_EXPORTER="console", OTEL_METRICS_EXPORTER="none")
        assert ["console; 1 sent, 0 waiting"] == found["exporters"]

    def test_auto_looks_for_a_local_collector(self) -> None:
        """Without an endpoint `auto` names the local port of the protocol."""
        (exporter,) = report("auto", OTEL_EXPORTER_OTLP_PROTOCOL="grpc")["exporters"]
        assert exporter.startswith("otlp; to localhost:4317 (")

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "many"),
            ("OTEL_BSP_MAX_QUEUE_SIZE", "-3"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "carrier-pigeon"),
            ("OTEL_TRACES_EXPORTER", "zipkin"),
            ("OTEL_TRACES_SAMPLER", "sometimes"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "soon"),
            ("OTEL_PYTHON_TRACER_PROVIDER", "nowhere"),
        ],
    )
    def test_a_bad_value_is_a_problem_for_doctor(self, name: str, value: str) -> None:
        """A bad value never raises; it is named in the report."""
        endpoint = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"} if "OTLP" in name else {}
        assert report("auto", **{name: value, "OTEL_METRICS_EXPORTER": "none"}, **endpoint)["problems"]


class TestFork:
    def test_child_exports_only_its_own(self, tmp_path: Any) -> None:
        """A forked child neither ends nor exports the parent's spans, and its own workers run."""
        program = textwrap.dedent(f"""
            import os, sys, warnings
            warnings.simplefilter("ignore")
            from pathlib import Path
            from otel_runtime.settings.model import Settings
            from otel_runtime.telemetry.protocol import SpanStart
            from otel_runtime.telemetry.provider import build_tracing
            path = Path({str(tmp_path / "t.json")!r})
            tracing = build_tracing(Settings(trace_file=path, otlp="off"))
            outer = tracing.open(SpanStart("agent", "parent"))
            token = outer.enter()
            tracing.open(SpanStart("tool", "buffered")).end("ok")
            child = os.fork()
            if child == 0:
                tracing.open(SpanStart("tool", "child")).end("ok")
                outer.end("ok")
                done = tracing.flush(20)
                os._exit(0 if done else 3)
            assert os.waitpid(child, 0)[1] == 0
            outer.leave(token)
            outer.end("ok")
            assert tracing.shutdown(20)
        """)
        subprocess.run([sys.executable, "-c", program], timeout=120, check=True)
        from otel_runtime.telemetry.trace_files import read_spans

        spans = read_spans(tmp_path / "t.json")
        assert ["execute_tool buffered", "execute_tool child", "invoke_agent parent"] == sorted(span.name for span in spans)
        assert 3 == len({span.span_id for span in spans})
        assert 1 == len({span.trace_id for span in spans})
