"""A server that takes spans and no metrics, as Jaeger and Tempo, is no fault; any other refusal of metrics is said."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler
from typing import Any

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from otel_runtime.settings.model import Settings
from otel_runtime.telemetry.protocol import SpanStart
from otel_runtime.telemetry.provider import build_tracing


@pytest.fixture
def serve(listening: Callable[[type[BaseHTTPRequestHandler]], str]) -> Callable[[int], str]:
    """A server that takes spans and answers everything else with a status; gives its address."""

    def start(status: int) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["content-length"]))
                self.send_response(200 if self.path == "/v1/traces" else status)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *args: object) -> None:
                pass

        return listening(Handler)

    return start


@pytest.fixture
def used(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Callable[..., tuple[dict[str, str], str]]:
    """One call with these variables: the problems that `doctor` shows, and what was logged."""

    def run(**environ: str) -> tuple[dict[str, str], str]:
        for name, value in {"OTEL_EXPORTER_OTLP_TIMEOUT": "60", **environ}.items():
            monkeypatch.setenv(name, value)
        with caplog.at_level(logging.WARNING):
            tracing = build_tracing(Settings())
            tracing.open(SpanStart("tool", "x")).end("ok")
            tracing.shutdown(60)
        problems: Any = tracing.report()["problems"]
        return problems, caplog.text

    return run


class TestHttp:
    def test_no_place_for_metrics(self, serve: Callable[[int], str], used: Callable[..., Any]) -> None:
        """404 where only one address is known for everything: nothing is warned of, and `doctor` says what to do."""
        problems, logged = used(OTEL_EXPORTER_OTLP_ENDPOINT=serve(404))
        assert ("", {"metrics"}, True) == (logged, set(problems), "OTEL_METRICS_EXPORTER=none" in problems["metrics"])

    def test_an_address_for_metrics_alone(self, serve: Callable[[int], str], used: Callable[..., Any]) -> None:
        """404 where an address was named for metrics: that is wrong, and said."""
        url = serve(404)
        problems, logged = used(OTEL_EXPORTER_OTLP_ENDPOINT=url, OTEL_EXPORTER_OTLP_METRICS_ENDPOINT=f"{url}/v1/metrics")
        assert "404" in problems["export"]
        assert "telemetry is degraded" in logged

    def test_another_refusal(self, serve: Callable[[int], str], used: Callable[..., Any]) -> None:
        """Credentials that are missing are said in any case."""
        problems, logged = used(OTEL_EXPORTER_OTLP_ENDPOINT=serve(401))
        assert "401" in problems["export"]
        assert "telemetry is degraded" in logged


class TestGrpc:
    def test_no_place_for_metrics(self, used: Callable[..., Any]) -> None:
        """The same where the service does not exist."""

        class Service(trace_service_pb2_grpc.TraceServiceServicer):
            def Export(self, request: Any, context: Any) -> Any:  # noqa: N802 - gRPC's name
                return ExportTraceServiceResponse()

        server = grpc.server(ThreadPoolExecutor(1))
        trace_service_pb2_grpc.add_TraceServiceServicer_to_server(Service(), server)  # type: ignore[no-untyped-call]  # generated
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        problems, logged = used(OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{port}", OTEL_EXPORTER_OTLP_PROTOCOL="grpc")
        server.stop(None).wait()
        assert ("", {"metrics"}) == (logged, set(problems))
