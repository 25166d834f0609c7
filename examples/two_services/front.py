"""Two services in one trace: an agent here, a warehouse over HTTP there.

    python front.py

Nothing but W3C trace context travels: `inject` puts the `traceparent` header into the request, `extract` takes it out in `warehouse.py`.
Each service writes a trace file into the current folder; with a Collector or Jaeger on this machine they meet there as one trace.
"""

from __future__ import annotations

import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from opentelemetry.propagate import inject

import otel_runtime as rt

__all__: list[str] = []

_address = ""


@rt.tool
def stock(sku: str) -> int:
    """Ask the warehouse."""
    headers: dict[str, str] = {}
    # Inside the tool its span is the current one, so the warehouse's spans become its children.
    inject(headers)
    request = urllib.request.Request(f"{_address}/stock/{sku}", headers=headers)  # noqa: S310 - an address of our own
    # A proxy cannot reach this machine's loopback.
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=60) as answer:
        return int(answer.read())


@rt.agent
def buyer() -> dict[str, int]:
    """Look at two things."""
    return {sku: stock(sku) for sku in ("LAMP-01", "FAN-40")}


@contextmanager
def _warehouse() -> Iterator[str]:
    command = [sys.executable, str(Path(__file__).with_name("warehouse.py"))]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        if process.stdout is None or process.stdin is None:
            raise SystemExit("the warehouse could not be started")
        yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
        process.stdin.close()


def main() -> None:
    """Run both."""
    global _address
    with rt.configure(name="front", trace_file="front.json"), _warehouse() as _address:
        print(buyer())


if __name__ == "__main__":
    main()
