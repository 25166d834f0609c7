"""An OTLP receiver on loopback: what a program in a process of its own really sends."""

from __future__ import annotations

import gzip
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import NamedTuple, Self

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest, ExportTraceServiceResponse
from opentelemetry.proto.common.v1.common_pb2 import AnyValue

__all__ = ["OtlpReceiver", "ReceivedSpan"]

_LOOK_EVERY_S = 0.02


class ReceivedSpan(NamedTuple):
    """One span as it came over the wire.

    Args:
        name: Name.
        trace_id: 32 hex digits.
        span_id: 16 hex digits.
        parent_id: 16 hex digits; empty at a root.
        start_ns: Start, in nanoseconds since 1970.
        end_ns: End, in nanoseconds since 1970.
        attributes: Attributes whose values are text, numbers or truth values.
        pid: `process.pid` of its resource, or None.
    """

    name: str
    trace_id: str
    span_id: str
    parent_id: str
    start_ns: int
    end_ns: int
    attributes: dict[str, object]
    pid: object = None


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    # Of more processes at once than the five that are its default, one would be let in only when it knocks again, a second later.
    request_queue_size = 128


class OtlpReceiver:
    """Takes spans over OTLP/HTTP until it is left; `with OtlpReceiver() as receiver:`.

    Args:
        answer: HTTP status of every answer; anything but 200 is a failing collector.
    """

    def __init__(self, answer: int = 200) -> None:
        self._answer = answer
        self._lock = threading.Lock()
        self._spans: list[ReceivedSpan] = []
        self._server = _Server(("127.0.0.1", 0), _handler(self._take, answer))
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    @property
    def endpoint(self) -> str:
        """For OTEL_EXPORTER_OTLP_ENDPOINT."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def environ(self) -> dict[str, str]:
        """Variables that send a program's spans here."""
        return {"OTEL_EXPORTER_OTLP_ENDPOINT": self.endpoint, "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}

    def spans(self) -> tuple[ReceivedSpan, ...]:
        """Everything that came so far, in the order it came."""
        with self._lock:
            return tuple(self._spans)

    def names(self) -> list[str]:
        """Names of the spans that came so far, sorted."""
        return sorted(span.name for span in self.spans())

    def wait_for(self, count: int, timeout: float = 10.0) -> tuple[ReceivedSpan, ...]:
        """The spans, once there are `count`; whatever there is after `timeout` seconds."""
        deadline = time.monotonic() + timeout
        while len(self.spans()) < count and time.monotonic() < deadline:
            time.sleep(_LOOK_EVERY_S)
        return self.spans()

    def _take(self, body: bytes) -> None:
        request = ExportTraceServiceRequest.FromString(body)
        found = [
            _received(span, {item.key: _plain(item.value) for item in resource.resource.attributes}.get("process.pid"))
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]
        with self._lock:
            self._spans.extend(found)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _handler(take: Callable[[bytes], None], answer: int) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:  # the name http.server calls
            body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
            if answer == 200 and self.path.endswith("/v1/traces"):
                take(gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body)
            reply = ExportTraceServiceResponse().SerializeToString()
            self.send_response(answer)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", str(len(reply)))
            self.end_headers()
            self.wfile.write(reply)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing: the test says what matters."""

    return Handler


def _received(span: object, pid: object) -> ReceivedSpan:
    # The generated classes have no types that a checker could follow.
    get = span.__getattribute__
    return ReceivedSpan(
        get("name"),
        get("trace_id").hex(),
        get("span_id").hex(),
        get("parent_span_id").hex(),
        get("start_time_unix_nano"),
        get("end_time_unix_nano"),
        {item.key: _plain(item.value) for item in get("attributes")},
        pid,
    )


def _plain(value: AnyValue) -> object:
    kind = value.WhichOneof("value")
    return None if kind is None else getattr(value, kind)
