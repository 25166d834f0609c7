"""What the collector answered: the SDK's exporters say only yes or no, so their HTTP session and gRPC stub are watched.

A redirect and a partial success count as success for the SDK; a response that drips outlasts every timeout of one read. Both are seen here,
through the session that the HTTP exporter takes as an argument. Imported only when an exporter is built: it pulls in a network stack.
"""

from __future__ import annotations

import json
import math
import socket
import threading
import time
import weakref
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any

import requests
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from requests.adapters import HTTPAdapter

__all__ = ["Answer", "Watch", "watched_session"]

_SUCCESSES = range(200, 300)
_ANSWER_LIMIT = 1 << 20
# An exporter that has waited as it was asked may wake up a moment early.
_EARLY_S = 0.1


@dataclass(frozen=True, slots=True)
class Answer:
    """The last answer to one export.

    Args:
        status: HTTP status; 200 for a gRPC answer.
        rejected: Spans that the collector took and threw away.
        message: What it said about them, or about anything else.
        after_s: Seconds it asked to be left alone.
        page: True for a page of HTML instead of an acknowledgement: a web server answers so to any address, no collector to spans.
    """

    status: int
    rejected: int = 0
    message: str = ""
    after_s: float = 0.0
    page: bool = False

    @property
    def took(self) -> bool:
        """True for an acknowledgement, also of a part."""
        return self.status in _SUCCESSES and not self.page


class Watch:
    """Collects what happens during one export, and can cut its connections. One export at a time.

    Attributes:
        answer: The answer to the last attempt; None when there was none.
        blind: True when attempts cannot be seen, so that none must be concluded from seeing none.
    """

    def __init__(self) -> None:
        self.answer: Answer | None = None
        self.blind: bool = False
        self._attempts = 0
        self._left_alone_until = 0.0
        self._is_cut = False
        self._sockets: weakref.WeakSet[socket.socket] = weakref.WeakSet()
        self._lock = threading.Lock()

    def begin(self) -> None:
        """Forget the export before."""
        self._attempts, self.answer, self._is_cut, self._left_alone_until = 0, None, False, 0.0

    @property
    def tried(self) -> bool:
        """True when the exporter got as far as sending something."""
        return self.blind or self._attempts > 0

    def attempt(self) -> None:
        """The exporter sends, for the first time or again.

        Raises:
            ConnectionAbortedError: This export was cut, or the collector has asked to be left alone, which older exporters do not heed.
        """
        if self._is_cut:
            raise ConnectionAbortedError("the export took longer than its timeout")
        if time.monotonic() < self._left_alone_until:
            raise ConnectionAbortedError("the collector is busy and has asked to be left alone")
        self._attempts += 1
        self.answer = None

    def connected(self, connection: socket.socket) -> None:
        """A connection was made."""
        with self._lock:
            self._sockets.add(connection)
            if not self._is_cut:
                return
        connection.close()

    def cut(self) -> None:
        """Break every connection and allow no other until the next export: whoever waits for a byte on one gets an error at once."""
        with self._lock:
            self._is_cut = True
            known = list(self._sockets)
        for connection in known:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                # Closed already, by its owner or by the other side.
                continue

    def heard(self, response: requests.Response, *_: object, **__: object) -> None:
        """A hook of the session: remember an answer over HTTP."""
        status = response.status_code
        after_s = _seconds(response.headers.get("retry-after"))
        kind = response.headers.get("content-type", "").lower()
        # Before the body is read: when that breaks off, the status has still been heard.
        self.answer = Answer(status, after_s=after_s, page=status in _SUCCESSES and "text/html" in kind)
        self._left_alone_until = time.monotonic() + after_s - _EARLY_S
        if self.answer.took:
            rejected, message = _partial(response.content[:_ANSWER_LIMIT], kind)
            self.answer = Answer(status, rejected, message, after_s)

    def heard_message(self, found: ExportTraceServiceResponse) -> None:
        """Remember an answer over gRPC."""
        self.answer = Answer(200, found.partial_success.rejected_spans, found.partial_success.error_message)


def _partial(body: bytes, kind: str) -> tuple[int, str]:
    try:
        if "json" in kind:
            found = json.loads(body or b"{}").get("partialSuccess", {})
            return int(found.get("rejectedSpans", 0)), str(found.get("errorMessage", ""))
        message = ExportTraceServiceResponse.FromString(body).partial_success
    except Exception:  # noqa: BLE001 - a collector may answer with any text; the status has said that it took the spans
        return 0, ""
    return int(message.rejected_spans), str(message.error_message)


# https://www.rfc-editor.org/rfc/rfc9110.html#name-retry-after
def _seconds(given: str | None) -> float:
    try:
        found = float(given or 0)
    except ValueError:
        found = _until(given or "")
    return max(0.0, found) if math.isfinite(found) else 0.0


def _until(date: str) -> float:
    try:
        return parsedate_to_datetime(date).replace(tzinfo=UTC).timestamp() - time.time()
    except (ValueError, TypeError, OverflowError):
        # Neither seconds nor a date: the back-off of our own is good enough.
        return 0.0


class _WatchedAdapter(HTTPAdapter):
    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        super().__init__()

    def get_connection_with_tls_context(self, *args: Any, **kwargs: Any) -> Any:
        """The pool, whose connections report themselves."""
        return self._watched(super().get_connection_with_tls_context(*args, **kwargs))

    def _watched(self, pool: Any) -> Any:
        made = pool.ConnectionCls
        if not getattr(made, "watched", False):
            pool.ConnectionCls = _watched_class(made, self._watch)
        return pool


def _watched_class(made: Any, watch: Watch) -> Any:
    # `ConnectionCls` is urllib3's documented place for a class of one's own; its base differs for http and https.
    class Watched(made):  # type: ignore[misc]  # the base is only known at run time
        watched = True

        def connect(self) -> None:
            super().connect()
            if isinstance(self.sock, socket.socket):
                watch.connected(self.sock)

    return Watched


def watched_session(watch: Watch) -> requests.Session:
    """A session for the SDK's HTTP exporter that tells `watch` of every answer."""

    class Session(requests.Session):
        def request(self, *args: Any, **kwargs: Any) -> requests.Response:
            watch.attempt()
            # A client that followed would ask for a page; no span would be delivered.
            kwargs["allow_redirects"] = False
            try:
                return super().request(*args, **kwargs)
            except requests.RequestException:
                if watch.answer is None or watch.answer.status not in _SUCCESSES:
                    raise
                # Acknowledged, and the rest of the answer broke off: a retry would send everything twice.
                acknowledged = requests.Response()
                acknowledged.status_code = watch.answer.status
                return acknowledged

    session = Session()
    session.hooks["response"].append(watch.heard)
    for prefix in ("http://", "https://"):
        session.mount(prefix, _WatchedAdapter(watch))
    return session
