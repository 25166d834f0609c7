"""Where the projector's spans come from: a small protocol, and the one over an OpenTelemetry tracer's public API."""

from __future__ import annotations

from typing import Protocol

from opentelemetry.context import Context
from opentelemetry.trace import NonRecordingSpan, Span, SpanContext, SpanKind, Status, StatusCode, TraceFlags, Tracer, set_span_in_context

from otel_runtime.telemetry import conventions as names
from otel_runtime.telemetry.event_attributes import SYNTHETIC, Attributes
from otel_runtime.telemetry.run_view import otel_ids
from otel_runtime.values.trace import TraceRef

__all__ = ["SpanPort", "Spans", "TracerSpans"]


class SpanPort(Protocol):
    """One open span, as far as the projector needs it."""

    def event(self, name: str, attributes: Attributes, at_ns: int) -> None:
        """Add a span event."""
        ...

    def update(self, attributes: Attributes, name: str | None = None) -> None:
        """Set attributes, and the name when one is given."""
        ...

    def end(self, at_ns: int, error: str | None) -> None:
        """End it; `error` is the `error.type` of a failure, None when it did not fail."""
        ...


class Spans(Protocol):
    """Starts spans."""

    def start(self, name: str, attributes: Attributes, at_ns: int, parent: SpanPort | TraceRef | None, *, client: bool = False) -> SpanPort:
        """Start a span under another one, under a place in a foreign trace, or as a root."""
        ...


class TracerSpans:
    """Spans of an OpenTelemetry tracer, through its public API."""

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer

    def start(self, name: str, attributes: Attributes, at_ns: int, parent: SpanPort | TraceRef | None, *, client: bool = False) -> SpanPort:
        """Start a span under another one, under a place in a foreign trace, or as a root."""
        context, flags = _context(parent)
        kind = SpanKind.CLIENT if client else SpanKind.INTERNAL
        return _TracerSpan(self._tracer.start_span(name, context=context, kind=kind, attributes={**attributes, **flags}, start_time=at_ns))


class _TracerSpan:
    def __init__(self, span: Span) -> None:
        self.span = span

    def event(self, name: str, attributes: Attributes, at_ns: int) -> None:
        self.span.add_event(name, attributes, at_ns)

    def update(self, attributes: Attributes, name: str | None = None) -> None:
        for key, value in attributes.items():
            self.span.set_attribute(key, value)
        if name is not None:
            self.span.update_name(name)

    def end(self, at_ns: int, error: str | None) -> None:
        if error is not None:
            self.span.set_attribute(names.ERROR_TYPE, error)
            self.span.set_status(Status(StatusCode.ERROR))
        self.span.end(at_ns)


def _context(parent: SpanPort | TraceRef | None) -> tuple[Context, Attributes]:
    if isinstance(parent, _TracerSpan):
        return set_span_in_context(parent.span, Context()), {}
    if not isinstance(parent, TraceRef):
        # An empty context: a foreign run is no child of whatever happens to read its events.
        return Context(), {}
    trace_id, span_id = otel_ids(parent)
    remote = SpanContext(trace_id, span_id, is_remote=True, trace_flags=TraceFlags(TraceFlags.SAMPLED))
    flags: Attributes = {} if parent.parent_id else {SYNTHETIC: True}
    return set_span_in_context(NonRecordingSpan(remote), Context()), flags
