"""The second service: says how much is in stock, in the trace of whoever asks. Started by `front.py`; ends when its input does."""

from __future__ import annotations

import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry import context
from opentelemetry.propagate import extract

import otel_runtime as rt

__all__: list[str] = []

_STOCK = {"LAMP-01": 12, "FAN-40": 0}


@rt.tool
def count(sku: str) -> int:
    """Pieces on the shelf."""
    return _STOCK.get(sku, 0)


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        """One question: /stock/SKU."""
        # What `inject` wrote at the other side; without it the spans here begin a trace of their own. Header names have any case on the
        # wire, and `extract` looks for lower case.
        token = context.attach(extract({name.lower(): value for name, value in self.headers.items()}))
        try:
            body = str(count(self.path.rpartition("/")[2])).encode()
        finally:
            context.detach(token)
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Quiet: the trace tells it."""


def main() -> None:
    """Serve until standard input ends."""
    with rt.configure(name="warehouse", trace_file="warehouse.json"), ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        print(server.server_address[1], flush=True)
        sys.stdin.read()
        server.shutdown()


if __name__ == "__main__":
    main()
