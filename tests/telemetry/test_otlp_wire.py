"""Spans and metrics arrive at a real OTLP receiver, over HTTP and gRPC; a dead or strange one costs nothing but spans."""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import grpc
import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest, ExportTraceServiceResponse
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider

from otel_runtime.settings.model import Settings
from otel_runtime.telemetry import otlp
from otel_runtime.telemetry.losses import Losses
from otel_runtime.telemetry.otlp_sender import OtlpSender
from otel_runtime.telemetry.pipe import Limits, Pipe
from otel_runtime.telemetry.protocol import SpanStart
from otel_runtime.telemetry.provider import build_tracing
from otel_runtime.values.decision import Decision


class Receiver:
    """An OTLP receiver on a free loopback port.

    Args:
        status: What it answers.
    """

    def __init__(self, status: int = 200) -> None:
        self.spans: list[Any] = []
        self.services: set[str] = set()
        self.metrics: set[str] = set()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                receiver.take(self.path, body)
                self.send_response(status)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True)
        self.thread.start()

    def take(self, path: str, body: bytes) -> None:
        if path == "/v1/traces":
            self.take_spans(ExportTraceServiceRequest.FromString(body))
        else:
            request = ExportMetricsServiceRequest.FromString(body)
            self.metrics |= {metric.name for entry in request.resource_metrics for scope in entry.scope_metrics for metric in scope.metrics}

    def take_spans(self, request: ExportTraceServiceRequest) -> None:
        for entry in request.resource_spans:
            self.services |= {pair.value.string_value for pair in entry.resource.attributes if pair.key == "service.name"}
            self.spans += [span for scope in entry.scope_spans for span in scope.spans]

    def close(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    found = Receiver()
    yield found
    found.close()


def one_call(tracing: Any) -> None:
    start = SpanStart("tool", "lookup", decision=Decision("allow", "ok", policy_digest="d"), attributes={"n": 1, "ratio": 0.5, "ok": True})
    span = tracing.open(start)
    span.leave(span.enter())
    span.end("error", ValueError("boom \ud800"))


def check(span: Any) -> None:
    found = {pair.key: pair.value for pair in span.attributes}
    assert ("execute_tool lookup", 1, 2) == (span.name, span.kind, span.status.code)
    assert ("allow", 1, 0.5, True) == (
        found["otel_runtime.policy.decision"].string_value,
        found["n"].int_value,
        found["ratio"].double_value,
        found["ok"].bool_value,
    )
    assert ["exception"] == [event.name for event in span.events]


class TestArrival:
    def test_http(self, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
        """With an endpoint configured, spans and metrics go there over HTTP, under the service's name."""
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{receiver.port}")
        monkeypatch.setenv("OTEL_SERVICE_NAME", "shop")
        tracing = build_tracing(Settings())
        one_call(tracing)
        assert tracing.shutdown(60)
        check(receiver.spans[0])
        assert ({"shop"}, {"gen_ai.execute_tool.duration"}) == (receiver.services, receiver.metrics)
        assert {} == tracing.report()["lost"]

    def test_grpc(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The same over gRPC."""
        receiver = Receiver()

        class Service(trace_service_pb2_grpc.TraceServiceServicer):
            def Export(self, request: Any, context: Any) -> Any:  # noqa: N802 - gRPC's name
                receiver.take_spans(request)
                return ExportTraceServiceResponse()

        server = grpc.server(ThreadPoolExecutor(1))
        trace_service_pb2_grpc.add_TraceServiceServicer_to_server(Service(), server)  # type: ignore[no-untyped-call]  # generated
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{port}")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
        monkeypatch.setenv("OTEL_METRICS_EXPORTER", "none")
        tracing = build_tracing(Settings())
        one_call(tracing)
        assert tracing.shutdown(60)
        server.stop(None).wait()
        receiver.close()
        check(receiver.spans[0])

    def test_approval_request_leaves_at_once(self, receiver: Receiver, monkeypatch: pytest.MonkeyPatch, make_request: Any) -> None:
        """A waiting agent is visible: the question's span leaves without a flush, whatever the schedule."""
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{receiver.port}")
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "3600000")
        tracing = build_tracing(Settings())
        tracing.approval_requested(make_request())
        give_up = time.monotonic() + 60
        while not receiver.spans and time.monotonic() < give_up:
            time.sleep(0.01)
        assert ["approval requested refund"] == [span.name for span in receiver.spans]
        tracing.shutdown(60)


@pytest.fixture
def refused_port() -> Iterator[int]:
    """One that nobody listens on, and that nobody else gets meanwhile."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield int(taken.getsockname()[1])


class TestReport:
    def test_configured_endpoint(self, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
        """`doctor` learns where spans go and whether anybody listens there, without credentials."""
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://user:hunter2@127.0.0.1:{receiver.port}/x")
        tracing: Any = build_tracing(Settings())
        (exporter,) = tracing.report()["exporters"]
        assert f"otlp; to 127.0.0.1:{receiver.port} (listening); 0 sent, 0 waiting" == exporter
        tracing.shutdown(5)

    @pytest.mark.parametrize(
        ("given", "protocol", "address"),
        [
            ("https://otel.example", "http/protobuf", ("otel.example", 443)),
            ("otel.example:9000", "grpc", ("otel.example", 9000)),
            ("http://otel.example", "grpc", ("otel.example", 4317)),
            ("http://h:notaport", "http/protobuf", ("h", 4318)),
            ("", "http/protobuf", ("localhost", 4318)),
        ],
    )
    def test_addresses(self, given: str, protocol: otlp.Protocol, address: tuple[str, int]) -> None:
        """The address is read from the variable as the exporters read it."""
        assert address == otlp.Collector.configured({"OTEL_EXPORTER_OTLP_ENDPOINT": given}, "TRACES", protocol).address


class TestTrouble:
    def test_dead_endpoint(self, refused_port: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
        """A configured endpoint that is dead: shutdown keeps its time, losses are counted, and the last word of at most two says them all."""
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{refused_port}")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "3")
        caplog.set_level(logging.DEBUG)
        tracing: Any = build_tracing(Settings())
        for _ in range(20):
            one_call(tracing)
        began = time.monotonic()
        assert not tracing.shutdown(0.5)
        # However slow the machine: these are not the exporter's own retries.
        assert 60 > time.monotonic() - began
        assert 20 == sum(tracing.report()["lost"].values())
        warnings = [record for record in caplog.records if record.levelno >= logging.WARNING]
        assert ({"otel_runtime.telemetry"}, True) == ({record.name for record in warnings}, len(warnings) <= 2)
        assert "(lost: shutdown 20)" in warnings[-1].getMessage()

    @pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
    def test_silent_endpoint(self, monkeypatch: pytest.MonkeyPatch, protocol: str) -> None:
        """An endpoint that takes the connection and never answers holds up nobody."""
        with socket.create_server(("127.0.0.1", 0)) as silent:
            monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
            monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", protocol)
            # What is given up ends soon after the test, too.
            monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "2")
            tracing = build_tracing(Settings())
            one_call(tracing)
            began = time.monotonic()
            assert not tracing.flush(0.2)
            assert not tracing.shutdown(0.3)
            assert 60 > time.monotonic() - began
            assert {"shutdown": 1} == tracing.report()["lost"]

    def test_metrics_leave_when_the_applications_provider_fails(self, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
        """What its processors raise at the end keeps none of our own exports from theirs."""

        class Raises(SpanProcessor):
            def force_flush(self, timeout_millis: int = 30_000) -> bool:
                raise RuntimeError("no flush today")

        theirs = TracerProvider(shutdown_on_exit=False)
        theirs.add_span_processor(Raises())
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{receiver.port}")
        tracing = build_tracing(Settings(), tracer_provider=theirs)
        one_call(tracing)
        assert not tracing.shutdown(60)
        assert {"gen_ai.execute_tool.duration"} == receiver.metrics

    def test_refusing_collector(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """What the collector refuses is counted as lost in export."""
        receiver = Receiver(status=400)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{receiver.port}")
        monkeypatch.setenv("OTEL_METRICS_EXPORTER", "none")
        tracing = build_tracing(Settings())
        one_call(tracing)
        assert not tracing.shutdown(60)
        receiver.close()
        assert {"export": 1} == tracing.report()["lost"]

    def test_nothing_configured_and_nobody_listens(self, refused_port: int, caplog: pytest.LogCaptureFixture) -> None:
        """Without an endpoint and a local collector spans are dropped without a word, counted as `no_endpoint`."""
        losses = Losses()
        collector = otlp.Collector("127.0.0.1", refused_port)
        sender = OtlpSender(lambda watch: pytest.fail("built"), losses, collector=collector)
        pipe = Pipe("otlp", sender, losses, Limits())
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(pipe)
        provider.get_tracer("t").start_span("dropped").end()
        assert pipe.force_flush()
        assert ({"no_endpoint": 1}, 0, []) == (losses.counts, losses.serious, caplog.records)
        pipe.shutdown()

    def test_local_collector_is_found(self, receiver: Receiver, refused_port: int) -> None:
        """A collector on this machine is used when it listens."""
        assert otlp.Collector("127.0.0.1", receiver.port).listens()
        assert not otlp.Collector("127.0.0.1", refused_port).listens()
