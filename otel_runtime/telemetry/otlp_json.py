"""OTLP/JSON: SDK spans -> one `resourceSpans` entry, and back to plain views.

The format is that of https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding: ids in hex, enums as integers, 64-bit integers as
strings; Jaeger's upload and the Collector's otlpjsonfile receiver read it.
"""

from __future__ import annotations

import base64
import binascii
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.trace import Link, SpanContext, StatusCode

from otel_runtime.telemetry.span_view import EventView, SpanView

__all__ = ["IS_REMOTE", "Json", "plain_attributes", "resource_spans", "typed_attributes", "views"]

_STATUS_CODES = {StatusCode.UNSET: 0, StatusCode.OK: 1, StatusCode.ERROR: 2}
_STATUS_NAMES = {0: "unset", 1: "ok", 2: "error"}
_KINDS = ("unspecified", "internal", "server", "client", "producer", "consumer")
# https://github.com/open-telemetry/opentelemetry-proto, SpanFlags: whether the parent's place is known, and that it is remote.
_HAS_REMOTE = 0x100
IS_REMOTE = 0x200
# A whole number as text, no longer than 64 bits can be.
_WHOLE = re.compile(r"-?[0-9]{1,20}")
# What is nested deeper is no attribute that anybody wrote by intention.
_DEPTH_LIMIT = 64
# OTLP/JSON as JSON gives it: any value at any key.
Json = dict[str, Any]


def resource_spans(spans: Sequence[ReadableSpan]) -> list[Json]:
    """Entries for the list `resourceSpans`, one per resource."""
    groups: dict[int, tuple[ReadableSpan, dict[str, list[ReadableSpan]]]] = {}
    for span in spans:
        _, scopes = groups.setdefault(id(span.resource), (span, {}))
        scopes.setdefault(span.instrumentation_scope.name if span.instrumentation_scope else "", []).append(span)
    return [_entry(first, scopes) for first, scopes in groups.values()]


def _entry(first: ReadableSpan, scopes: Mapping[str, Sequence[ReadableSpan]]) -> Json:
    found = [{"scope": _scope(members[0]), "spans": [_span(span) for span in members]} for members in scopes.values()]
    return {"resource": {"attributes": typed_attributes(first.resource.attributes)}, "scopeSpans": found}


def _scope(span: ReadableSpan) -> Json:
    scope = span.instrumentation_scope
    if scope is None:
        return {}
    found: Json = {"name": scope.name, "version": scope.version or ""}
    if scope.attributes:
        found["attributes"] = typed_attributes(scope.attributes)
    return found


def _span(span: ReadableSpan) -> Json:
    place = span.get_span_context()
    if place is None:
        raise ValueError("a span without a place cannot be written")
    found: Json = {
        "traceId": format(place.trace_id, "032x"),
        "spanId": format(place.span_id, "016x"),
        "parentSpanId": format(span.parent.span_id, "016x") if span.parent else "",
        "flags": _flags(place, span.parent),
        "name": span.name,
        # The SDK counts kinds from 0 (internal), OTLP from 1.
        "kind": span.kind.value + 1,
        "startTimeUnixNano": str(span.start_time or 0),
        "endTimeUnixNano": str(span.end_time or span.start_time or 0),
        "attributes": typed_attributes(span.attributes or {}),
        "events": [_event(event) for event in span.events],
        "links": [_link(link) for link in span.links],
        "status": {"code": _STATUS_CODES[span.status.status_code], "message": span.status.description or ""},
    }
    if place.trace_state:
        found["traceState"] = place.trace_state.to_header()
    if span.dropped_attributes:
        found["droppedAttributesCount"] = span.dropped_attributes
    if span.dropped_events:
        found["droppedEventsCount"] = span.dropped_events
    return found


def _flags(place: SpanContext, parent: SpanContext | None) -> int:
    return int(place.trace_flags) | _HAS_REMOTE | (IS_REMOTE if parent is not None and parent.is_remote else 0)


def _event(event: Event) -> Json:
    return {"timeUnixNano": str(event.timestamp or 0), "name": event.name, "attributes": typed_attributes(event.attributes or {})}


def _link(link: Link) -> Json:
    ids = {"traceId": format(link.context.trace_id, "032x"), "spanId": format(link.context.span_id, "016x")}
    return {**ids, "attributes": typed_attributes(link.attributes or {}), "flags": _flags(link.context, link.context)}


def typed_attributes(given: Mapping[str, object]) -> list[Json]:
    """Attributes as OTLP/JSON writes them: key and typed value, whole numbers as text."""
    return [{"key": key, "value": _value(value)} for key, value in given.items()]


def _value(given: object) -> Json:
    if isinstance(given, bool):
        return {"boolValue": given}
    if isinstance(given, int):
        return {"intValue": str(given)}
    if isinstance(given, float):
        # JSON has no NaN and no infinity; protobuf's mapping writes them as words.
        return {"doubleValue": given if math.isfinite(given) else str(given).replace("inf", "Infinity").replace("nan", "NaN")}
    if isinstance(given, list | tuple):
        return {"arrayValue": {"values": [_value(part) for part in given]}}
    if isinstance(given, bytes):
        return {"bytesValue": base64.b64encode(given).decode("ascii")}
    if isinstance(given, Mapping):
        return {"kvlistValue": {"values": typed_attributes(given)}}
    return {"stringValue": given if isinstance(given, str) else f"<{type(given).__name__}>"}


def views(document: object) -> Iterator[SpanView]:
    """Every span of a parsed OTLP/JSON document; parts that are not OTLP are skipped."""
    for entry in _list(document, "resourceSpans"):
        resource = plain_attributes(_list(_dict(entry, "resource"), "attributes"))
        for scoped in _list(entry, "scopeSpans"):
            scope = str(_dict(scoped, "scope").get("name", ""))
            for span in _list(scoped, "spans"):
                if isinstance(span, dict):
                    yield _view(span, str(resource.get("service.name", "")), scope)


def _view(span: Json, service: str, scope: str) -> SpanView:
    status = _dict(span, "status")
    kind = _int(span.get("kind"))
    return SpanView(
        trace_id=str(span.get("traceId", "")),
        span_id=str(span.get("spanId", "")),
        parent_id=str(span.get("parentSpanId") or "") or None,
        name=str(span.get("name", "")),
        kind=_KINDS[kind] if 0 <= kind < len(_KINDS) else "unspecified",
        start_ns=_int(span.get("startTimeUnixNano")),
        end_ns=_int(span.get("endTimeUnixNano")),
        attributes=plain_attributes(_list(span, "attributes")),
        status=_STATUS_NAMES.get(_int(status.get("code")), "unset"),
        message=str(status.get("message", "")),
        events=tuple(_event_view(event) for event in _list(span, "events") if isinstance(event, dict)),
        links=tuple((str(link.get("traceId")), str(link.get("spanId"))) for link in _list(span, "links") if isinstance(link, dict)),
        remote_parent=bool(_int(span.get("flags")) & IS_REMOTE),
        service=service,
        scope=scope,
    )


def _event_view(event: Json) -> EventView:
    return EventView(str(event.get("name", "")), _int(event.get("timeUnixNano")), plain_attributes(_list(event, "attributes")))


def plain_attributes(given: Sequence[object]) -> dict[str, Any]:
    """A list of OTLP key-value pairs as plain data; None for a value that is not what it says it is."""
    return _pairs(given, 0)


def _pairs(given: Sequence[object], depth: int) -> dict[str, Any]:
    return {str(pair.get("key")): _unwrapped(pair.get("value"), depth) for pair in given if isinstance(pair, dict)}


def _unwrapped(given: object, depth: int) -> object:
    if not isinstance(given, dict) or depth > _DEPTH_LIMIT:
        return None
    if "intValue" in given:
        return _int(given["intValue"])
    if "arrayValue" in given:
        return tuple(_unwrapped(part, depth + 1) for part in _list(given["arrayValue"], "values"))
    if "kvlistValue" in given:
        return _pairs(_list(given["kvlistValue"], "values"), depth + 1)
    try:
        if "bytesValue" in given:
            return base64.b64decode(given["bytesValue"])
        if "doubleValue" in given:
            return float(given["doubleValue"])
    except (TypeError, ValueError, OverflowError, binascii.Error):
        return None
    return next((given[key] for key in ("stringValue", "boolValue") if key in given), None)


def _list(given: object, key: str) -> list[Any]:
    found = given.get(key) if isinstance(given, dict) else None
    return found if isinstance(found, list) else []


def _dict(given: object, key: str) -> Json:
    found = given.get(key) if isinstance(given, dict) else None
    return found if isinstance(found, dict) else {}


def _int(given: object) -> int:
    number = int(given) if isinstance(given, int) or (isinstance(given, str) and _WHOLE.fullmatch(given)) else 0
    return number if -(1 << 63) <= number < 1 << 64 else 0
