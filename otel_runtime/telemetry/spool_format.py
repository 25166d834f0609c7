"""Spans <-> the bytes of a spool segment: one checked line of OTLP/JSON. Pure.

Read back, spans are the SDK's own `ReadableSpan`, so that the SDK's exporters send them like any other. What OTLP/JSON has no place for in
`ReadableSpan`'s constructor, the counts of attributes and events that the SDK had dropped, is not kept.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Sequence
from typing import Any

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState

from otel_runtime.telemetry.otlp_json import IS_REMOTE, Json, plain_attributes, resource_spans

__all__ = ["Damaged", "packed", "unpacked"]

_MARK = b"otel-runtime spool 1"
_CODES = {0: StatusCode.UNSET, 1: StatusCode.OK, 2: StatusCode.ERROR}
_KINDS = {kind.value + 1: kind for kind in SpanKind}


class Damaged(ValueError):
    """A segment that is not what was written.

    Args:
        spans: How many spans it held, as far as its head can be read; at least 1.
    """

    def __init__(self, spans: int) -> None:
        super().__init__("the segment is damaged")
        self.spans: int = spans


def packed(spans: Sequence[ReadableSpan]) -> bytes:
    """The bytes of a segment: a head with count and checksum, and one line of OTLP/JSON."""
    body = json.dumps({"resourceSpans": resource_spans(spans)}, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
    return b"%s %d %08x\n%s\n" % (_MARK, len(spans), zlib.crc32(body), body)


def unpacked(content: bytes) -> list[ReadableSpan]:
    """The spans of a segment.

    Raises:
        Damaged: Head, checksum or body are wrong.
    """
    head, _, body = content.partition(b"\n")
    words = head.removeprefix(_MARK).split()
    count = int(words[0]) if words and words[0].isdigit() and len(words[0]) < 8 else 1
    body = body.removesuffix(b"\n")
    if not head.startswith(_MARK) or words[1:] != [b"%08x" % zlib.crc32(body)]:
        raise Damaged(max(1, count))
    try:
        return list(_spans(json.loads(body)))
    except (ValueError, KeyError, TypeError) as error:
        raise Damaged(max(1, count)) from error


def _spans(document: Json) -> Iterator[ReadableSpan]:
    for entry in document["resourceSpans"]:
        resource = Resource(plain_attributes(entry["resource"]["attributes"]), entry.get("schemaUrl", ""))
        for scoped in entry["scopeSpans"]:
            scope = _scope(scoped)
            for span in scoped["spans"]:
                yield _span(span, resource, scope)


def _scope(scoped: Json) -> InstrumentationScope | None:
    found = scoped["scope"]
    if not found:
        return None
    attributes = plain_attributes(found.get("attributes", []))
    return InstrumentationScope(found["name"], found["version"], scoped.get("schemaUrl"), attributes)


def _span(span: Json, resource: Resource, scope: InstrumentationScope | None) -> ReadableSpan:
    state = TraceState.from_header([span["traceState"]]) if span.get("traceState") else None
    parent = span["parentSpanId"]
    return ReadableSpan(
        name=span["name"],
        context=_place(span, span["spanId"], remote=False, state=state),
        parent=_place(span, parent, remote=bool(span["flags"] & IS_REMOTE), state=state) if parent else None,
        resource=resource,
        attributes=plain_attributes(span["attributes"]),
        events=[Event(event["name"], plain_attributes(event["attributes"]), int(event["timeUnixNano"])) for event in span["events"]],
        links=[Link(_place(link, link["spanId"], remote=True), plain_attributes(link["attributes"])) for link in span["links"]],
        kind=_KINDS.get(span["kind"], SpanKind.INTERNAL),
        status=_status(span["status"]),
        start_time=int(span["startTimeUnixNano"]),
        end_time=int(span["endTimeUnixNano"]),
        instrumentation_scope=scope,
    )


def _status(given: Json) -> Status:
    code = _CODES[given["code"]]
    # The SDK warns about a description of anything but an error.
    return Status(code, given["message"] or None) if code is StatusCode.ERROR else Status(code)


def _place(given: Json, span_id: str, *, remote: bool, state: TraceState | None = None) -> SpanContext:
    flags: Any = TraceFlags(given["flags"] & 0xFF)
    return SpanContext(int(given["traceId"], 16), int(span_id, 16), remote, flags, state)
