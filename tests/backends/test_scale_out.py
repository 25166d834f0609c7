"""scale-out.yaml in front of two gateways: every trace is whole at one of them."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.backends.conftest import Jaeger, Server

pytestmark = pytest.mark.backends
TRACES = 30


def test_a_trace_is_whole_at_one_gateway(
    collector: Callable[..., Server],
    jaeger: Jaeger,
    send: Callable[..., int],
    span: Callable[..., dict[str, Any]],
    wait: Any,
    fetch: Callable[..., tuple[int, bytes]],
) -> None:
    """Spans of one trace that come one by one reach the same gateway, so that one late error keeps all of them; both gateways work."""
    gateways = [
        collector("gateway.yaml", TRACES_ENDPOINT=jaeger.endpoint, SAMPLE_PERCENT="0", DECISION_WAIT="5s").start() for _ in range(2)
    ]
    addresses = ",".join(f"127.0.0.1:{gateway.ports['grpc']}" for gateway in gateways)
    front = collector("scale-out.yaml", GATEWAYS=f"[{addresses}]").start()
    traces = [os.urandom(16).hex() for _ in range(TRACES)]
    for name in ("first", "second"):
        assert 200 == send(front.url("http"), *[span(trace, name) for trace in traces])
    assert 200 == send(front.url("http"), *[span(trace, "third", error="boom") for trace in traces])
    for trace in traces:
        assert ["first", "second", "third"] == sorted(found["name"] for found in jaeger.trace(trace, 3))

    def sent(gateway: Server) -> int:
        text = fetch(gateway.url("own") + "/metrics")[1].decode()
        return sum(
            int(float(number)) for number in re.findall(r"^otelcol_exporter_sent_spans(?:_total)?\{[^}]*\} (\S+)", text, re.MULTILINE)
        )

    wait(lambda: sum(map(sent, gateways)) == 3 * TRACES, "both gateways' counts")
    shares = [sent(gateway) for gateway in gateways]
    assert [0, 0] == [share % 3 for share in shares]
    assert min(shares) > 0
