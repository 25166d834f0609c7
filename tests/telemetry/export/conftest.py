"""An OTLP/HTTP receiver on loopback that misbehaves on request."""

from __future__ import annotations

import contextlib
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest, ExportTraceServiceResponse


@pytest.fixture
def eventually() -> Callable[[Callable[[], object]], bool]:
    """Wait for something that other threads bring about."""

    def wait(holds: Callable[[], object]) -> bool:
        give_up = time.monotonic() + 60
        while not holds():
            if time.monotonic() > give_up:
                return False
            time.sleep(0.01)
        return True

    return wait


class FaultyReceiver:
    """Answers every request as `mode` says; what it takes is in `names` and `ids`, in order of arrival.

    Args:
        mode: `ok`, a status as text, `hang`, `drip`, `close`, `partial:N`, `half-answer`, `half-hang`, `most:N` (413 for more than N spans),
            `page` (200 and HTML, as Jaeger's page answers to everything).
        port: Where; 0 for any.
    """

    def __init__(self, mode: str = "ok", port: int = 0) -> None:
        self.mode = mode
        self.free = threading.Event()
        self.requests = 0
        self.retry_after = ""
        self.names: list[str] = []
        self.ids: list[bytes] = []
        self.peers: set[object] = set()
        self.stop = threading.Event()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                if receiver.stop.is_set():
                    self.close_connection = True
                    return
                receiver.requests += 1
                receiver.peers.add(self.client_address)
                receiver.answer(self, ExportTraceServiceRequest.FromString(body))

            def log_message(self, *args: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            allow_reuse_address = True

            def handle_error(self, *args: object) -> None:
                pass  # the client cuts connections, which is what is tested

        self.server = Server(("127.0.0.1", port), Handler)
        self.port = int(self.server.server_address[1])
        self.url = f"http://127.0.0.1:{self.port}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True)
        self.thread.start()

    def answer(self, handler: Any, request: ExportTraceServiceRequest) -> None:
        """Misbehave, or take the spans."""
        spans = [span for entry in request.resource_spans for scope in entry.scope_spans for span in scope.spans]
        kind, _, number = self.mode.partition(":")
        handler.close_connection = kind not in ("ok", "partial")
        if kind == "hang":
            free = self.free
            while not free.wait(0.05) and not self.stop.is_set():
                pass
        elif kind == "drip":
            self._drip(handler)
        elif kind == "close":
            pass
        elif kind == "most" and len(spans) > int(number):
            self._reply(handler, 413, b"")
        elif kind == "page":
            self._reply(handler, 200, b"<!DOCTYPE html>", "text/html; charset=utf-8")
        elif kind.isdigit():
            self._reply(handler, int(kind), b"")
        else:
            rejected = min(len(spans), int(number)) if kind == "partial" else 0
            self._take(spans[rejected:])
            self._accept(handler, rejected, half=kind.startswith("half"))
            if kind == "half-hang":
                self.stop.wait(60)

    def turn(self, mode: str) -> None:
        """Behave so from now on; who was kept waiting is let go without an answer."""
        self.free.set()
        self.free, self.mode = threading.Event(), mode

    def close(self) -> None:
        """Stop listening."""
        self.stop.set()
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()

    def _take(self, spans: list[Any]) -> None:
        self.names += [span.name for span in spans]
        self.ids += [span.trace_id + span.span_id for span in spans]

    def _accept(self, handler: Any, rejected: int, *, half: bool) -> None:
        body = ExportTraceServiceResponse()
        if rejected:
            body.partial_success.rejected_spans = rejected
            body.partial_success.error_message = "too old"
        if half:
            handler.wfile.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf")
            handler.wfile.flush()
        else:
            self._reply(handler, 200, body.SerializeToString())

    def _reply(self, handler: Any, status: int, body: bytes, kind: str = "application/x-protobuf") -> None:
        handler.send_response(status)
        handler.send_header("content-type", kind)
        handler.send_header("content-length", str(len(body)))
        if status == 302:
            handler.send_header("location", f"{self.url}/login")
        if self.retry_after:
            handler.send_header("retry-after", self.retry_after)
        handler.end_headers()
        handler.wfile.write(body)

    def _drip(self, handler: Any) -> None:
        handler.wfile.write(b"HTTP/1.1 ")
        while not self.stop.wait(0.05):
            handler.wfile.write(b"a")
            handler.wfile.flush()


def lasting_port() -> int:
    """One that can be closed and opened again: none that the system gives to outgoing connections, so that nobody has taken it by then."""
    while True:
        port = random.SystemRandom().randrange(20_000, 32_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


@pytest.fixture
def port() -> int:
    return lasting_port()


@pytest.fixture
def faulty() -> Iterator[Callable[..., FaultyReceiver]]:
    """Makes receivers, and closes them."""
    made: list[FaultyReceiver] = []

    def make(mode: str = "ok", port: int = 0) -> FaultyReceiver:
        made.append(FaultyReceiver(mode, port))
        return made[-1]

    yield make
    for receiver in made:
        receiver.close()


@pytest.fixture
def otlp_to(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Points the standard variables at a URL.

    An answer that is only late would be asked for again, and what was taken before would arrive twice: no test but those in which none ever
    comes has an export timeout of seconds.
    """

    def point(url: str, *, timeout_s: float = 60, **more: str) -> None:
        known = {"ENDPOINT": url, "TIMEOUT": str(timeout_s)}
        for name, value in known.items():
            monkeypatch.setenv(f"OTEL_EXPORTER_OTLP_{name}", value)
        for name, value in {"OTEL_METRICS_EXPORTER": "none", "OTEL_BSP_SCHEDULE_DELAY": "50", **more}.items():
            monkeypatch.setenv(name, value)

    return point
