"""A server of this machine that runs between `with` and its end; the shop's supplier and the scripted model are two of them."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self

__all__ = ["LocalServer", "QuietHandler"]


class QuietHandler(BaseHTTPRequestHandler):
    """Answers without a line per request: the demo's own lines are what people read."""

    def answer(self, status: int, kind: str, body: bytes) -> None:
        """Send a whole answer.

        Args:
            status: HTTP status.
            kind: Content type.
            body: Content.
        """
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


class LocalServer:
    """Runs a server in a thread.

    Args:
        server: A server that listens already, on a free loopback port.
        name: What to call its thread.
    """

    def __init__(self, server: ThreadingHTTPServer, name: str) -> None:
        self._server = server
        self._thread = threading.Thread(target=server.serve_forever, args=(0.05,), name=name, daemon=True)

    def address(self, path: str) -> str:
        """URL of a path on this server."""
        return f"http://127.0.0.1:{self._server.server_port}{path}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
