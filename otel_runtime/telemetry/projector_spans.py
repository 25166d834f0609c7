"""Where the projector's spans come from: a small protocol, and the one over an OpenTelemetry tracer's public API."""

from __future__ import annotations

import copy
from typing import Protocol

from opentelemetry.context import Context
from opentelemetry.sdk.trace import Tracer as SdkTracer
from opentelemetry.sdk.trace.id_generator import IdGenerator
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
    """Spans of an OpenTelemetry tracer.

    A root in a given trace needs an id generator that gives that trace id: a copy of an SDK tracer has one of its own, and shares
    everything else. Any other tracer gets a made-up remote parent, flagged.

    Args:
        tracer: Where spans are started.
    """

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer
        self._given: _GivenTrace | None = None
        self._rooted: Tracer | None = None
        if isinstance(tracer, SdkTracer):
            self._given = _GivenTrace(tracer.id_generator)
            rooted = copy.copy(tracer)
            rooted.id_generator = self._given
            self._rooted = rooted

    def start(self, name: str, attributes: Attributes, at_ns: int, parent: SpanPort | TraceRef | None, *, client: bool = False) -> SpanPort:
        """Start a span under another one, under a place in a foreign trace, or as a root."""
        kind = SpanKind.CLIENT if client else SpanKind.INTERNAL
        if isinstance(parent, TraceRef) and not parent.parent_id and self._given is not None and self._rooted is not None:
            # The projector's lock keeps this pair of lines together.
            self._given.trace_id = otel_ids(parent)[0]
            return _TracerSpan(self._rooted.start_span(name, context=Context(), kind=kind, attributes=attributes, start_time=at_ns))
        context, flags = _context(parent)
        return _TracerSpan(self._tracer.start_span(name, context=context, kind=kind, attributes={**attributes, **flags}, start_time=at_ns))


class _GivenTrace(IdGenerator):
    """Gives the trace id it was told, and span ids of another generator."""

    def __init__(self, other: IdGenerator) -> None:
        self._other = other
        self.trace_id = 0

    def generate_span_id(self) -> int:
        return self._other.generate_span_id()

    def generate_trace_id(self) -> int:
        return self.trace_id

    def is_trace_id_random(self) -> bool:
        # Nobody knows how a foreign system makes its ids.
        return False


class _TracerSpan:
    def __init__(self, span: Span) -> None:
        self.span = span

    def event(self, name: str, attributes: Attributes, at_ns: int) -> None:
        self.span.add_event(name, attributes, at_ns)

    def update(self, attributes: Attributes, name: str | None = None) -> None:
        if attributes:
            self.span.set_attributes(attributes)
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
