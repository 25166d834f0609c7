"""Where a person looks at a trace: the page that the setting `trace_url` names, or that of a server on this machine which has the trace."""

from __future__ import annotations

import json
from http.client import HTTPException
from typing import Final
from urllib.error import URLError
from urllib.parse import quote
from urllib.request import ProxyHandler, build_opener

from otel_runtime.values.trace import TraceRef

__all__ = ["local_page", "page_of", "trace_page"]

# As collector-config/compose.yaml and `make demo-jaeger` start them.
_JAEGER: Final = "http://127.0.0.1:16686"
_TEMPO: Final = "http://127.0.0.1:3200"
_GRAFANA: Final = "http://127.0.0.1:3000"
_PATIENCE_S: Final = 0.5


def trace_page(template: str | None, trace_id: str, span_id: str = "") -> str:
    """The page of a trace; empty without a template.

    Args:
        template: The setting `trace_url`: an address with `{trace_id}` and, where its server marks one span, `{span_id}`.
        trace_id: 32 hex digits.
        span_id: 16 hex digits, or empty.
    """
    if not template:
        return ""
    return template.replace("{trace_id}", quote(trace_id, safe="")).replace("{span_id}", quote(span_id, safe=""))


def page_of(template: str | None, place: TraceRef | None) -> str:
    """Where a person looks at a place in a trace; empty when nobody knows.

    Args:
        template: The setting `trace_url`; None looks at this machine's servers.
        place: The place.
    """
    if place is None:
        return ""
    span = place.parent_id or ""
    return trace_page(template, place.id, span) or local_page(place.id, span)


def local_page(trace_id: str, span_id: str = "") -> str:
    """The page of a trace at a Jaeger or Grafana on this machine; empty when neither has it.

    Asks over loopback only, half a second at most for each.

    Args:
        trace_id: 32 hex digits.
        span_id: 16 hex digits, or empty.
    """
    if _has(f"{_JAEGER}/api/v3/traces/{quote(trace_id, safe='')}"):
        return trace_page(f"{_JAEGER}/trace/{{trace_id}}" + "?uiFind={span_id}" * bool(span_id), trace_id, span_id)
    if _has(f"{_TEMPO}/api/v2/traces/{quote(trace_id, safe='')}") and _has(f"{_GRAFANA}/api/health"):
        return f"{_GRAFANA}/explore?schemaVersion=1&orgId=1&panes={quote(_pane(trace_id), safe='')}"
    return ""


def _pane(trace_id: str) -> str:
    # The data source of collector-config/grafana/provisioning.
    query = {"refId": "A", "queryType": "traceql", "query": trace_id}
    return json.dumps({"trace": {"datasource": "tempo", "queries": [query], "range": {"from": "now-24h", "to": "now"}}})


def _has(url: str) -> bool:
    try:
        # A proxy cannot reach this machine's loopback.
        with build_opener(ProxyHandler({})).open(url, timeout=_PATIENCE_S) as answer:
            return bool(answer.status == 200)
    except (URLError, OSError, ValueError, HTTPException):
        # Something else may listen there, and speak no HTTP.
        return False
