"""A finished span as plain data, whichever way it came: from the SDK or from an OTLP-JSON file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import StatusCode

__all__ = ["EventView", "SpanView", "view_of"]


@dataclass(frozen=True, slots=True)
class EventView:
    """One span event.

    Args:
        name: Event name.
        time_ns: Nanoseconds since 1970.
        attributes: Plain data.
    """

    name: str
    time_ns: int = 0
    attributes: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SpanView:
    """One finished span.

    Args:
        trace_id: 32 hex digits.
        span_id: 16 hex digits.
        parent_id: 16 hex digits; None at a root.
        name: Span name.
        kind: OpenTelemetry kind in lower case.
        start_ns: Nanoseconds since 1970.
        end_ns: Nanoseconds since 1970.
        attributes: Plain data.
        status: `unset`, `ok` or `error`.
        message: Status text.
        events: In order.
        links: Trace id and span id of each.
        remote_parent: True when the parent is in another process, so that this span is a local root.
        service: Value of service.name.
        scope: Instrumentation scope.
    """

    trace_id: str
    span_id: str
    parent_id: str | None
    name: str
    kind: str = "internal"
    start_ns: int = 0
    end_ns: int = 0
    attributes: Mapping[str, object] = field(default_factory=dict)
    status: str = "unset"
    message: str = ""
    events: tuple[EventView, ...] = ()
    links: tuple[tuple[str, str], ...] = ()
    remote_parent: bool = False
    service: str = ""
    scope: str = ""

    @property
    def duration_s(self) -> float:
        """Seconds, never negative."""
        return max(0, self.end_ns - self.start_ns) / 1e9


_STATUS = {StatusCode.UNSET: "unset", StatusCode.OK: "ok", StatusCode.ERROR: "error"}


def view_of(span: ReadableSpan) -> SpanView:
    """The plain data of an SDK span."""
    place = span.get_span_context()
    return SpanView(
        trace_id=format(place.trace_id, "032x") if place else "",
        span_id=format(place.span_id, "016x") if place else "",
        parent_id=format(span.parent.span_id, "016x") if span.parent else None,
        name=span.name,
        kind=span.kind.name.lower(),
        start_ns=span.start_time or 0,
        end_ns=span.end_time or span.start_time or 0,
        attributes=dict(span.attributes or {}),
        status=_STATUS[span.status.status_code],
        message=span.status.description or "",
        events=tuple(EventView(event.name, event.timestamp or 0, dict(event.attributes or {})) for event in span.events),
        links=tuple((format(link.context.trace_id, "032x"), format(link.context.span_id, "016x")) for link in span.links),
        remote_parent=bool(span.parent and span.parent.is_remote),
        service=str(span.resource.attributes.get("service.name", "")),
        scope=span.instrumentation_scope.name if span.instrumentation_scope else "",
    )
