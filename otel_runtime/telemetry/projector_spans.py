"""Where the projector's spans come from: a small protocol, and the one over an OpenTelemetry tracer's public API."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Final, Protocol

from opentelemetry.context import Context
from opentelemetry.sdk.trace import Tracer as SdkTracer
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.trace import (
    INVALID_SPAN,
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    Tracer,
)

from otel_runtime.telemetry import conventions as names
from otel_runtime.telemetry.direct_span import DirectSpan
from otel_runtime.telemetry.event_attributes import SYNTHETIC, Attributes
from otel_runtime.telemetry.places import with_span
from otel_runtime.telemetry.run_view import otel_ids
from otel_runtime.telemetry.starting import Spans as FastSpans
from otel_runtime.telemetry.starting import spans_of
from otel_runtime.values.trace import TraceRef

__all__ = ["MOST_EVENTS", "SpanPort", "Spans", "TracerSpans", "room_for_events"]

# Span events of one run that the projector keeps, and what a span must hold for them: failures and ends are kept always.
_KEPT_EVENTS: Final = 1024
MOST_EVENTS: Final = 2 * _KEPT_EVENTS
_EMPTY: Final = Context()
_FAILED: Final = Status(StatusCode.ERROR)
Failed = Callable[[Exception], object]


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

    def place(self, parent: SpanPort | TraceRef | None) -> Context:
        """The context of a span, or of a place in a foreign trace, for what is measured or logged there."""
        ...


def room_for_events(tracer: Tracer) -> int:
    """Span events of one run that the spans of a tracer can hold: an SDK's span that is full drops its first events, and says nothing."""
    # The SDK has no public name for it; the application may have given its provider any limit, and the default is 128.
    limits = getattr(tracer, "_span_limits", None)
    most = None if limits is None else limits.max_events
    return _KEPT_EVENTS if most is None or most >= MOST_EVENTS else max(2, most // 2)


class TracerSpans:
    """Spans of an OpenTelemetry tracer.

    A root in a given trace needs an id generator that gives that trace id: a copy of an SDK tracer has one of its own, and shares
    everything else. Any other tracer gets a made-up remote parent, flagged.

    Args:
        tracer: Where spans are started.
        failed: Told what a span processor raises at the end of a span, so that the spans after it end too; None raises it.
    """

    def __init__(self, tracer: Tracer, failed: Failed | None = None) -> None:
        self._failed = failed
        self._spans = spans_of(tracer)
        self._given: _GivenTrace | None = None
        self._rooted: FastSpans | None = None
        if isinstance(tracer, SdkTracer):
            self._given = _GivenTrace(tracer.id_generator)
            rooted = copy.copy(tracer)
            rooted.id_generator = self._given
            self._rooted = spans_of(rooted)

    def start(self, name: str, attributes: Attributes, at_ns: int, parent: SpanPort | TraceRef | None, *, client: bool = False) -> SpanPort:
        """Start a span under another one, under a place in a foreign trace, or as a root."""
        kind = SpanKind.CLIENT if client else SpanKind.INTERNAL
        # Not copied: whoever gave them keeps what was said in the same dictionary, and changes it only as the span is changed.
        own = attributes if type(attributes) is dict else dict(attributes)
        if type(parent) is _TracerSpan:
            return _TracerSpan(self._spans.start(name, kind, lambda: own, parent.context, parent.span, (), at_ns), self._failed)
        if not isinstance(parent, TraceRef):
            # An empty context: a foreign run is no child of whatever happens to read its events.
            return _TracerSpan(self._spans.start(name, kind, lambda: own, _EMPTY, INVALID_SPAN, (), at_ns), self._failed)
        if not parent.parent_id and self._given is not None and self._rooted is not None:
            # The projector's lock keeps this pair of lines together.
            self._given.trace_id = otel_ids(parent)[0]
            return _TracerSpan(self._rooted.start(name, kind, lambda: own, _EMPTY, INVALID_SPAN, (), at_ns), self._failed)
        around = _remote(parent)
        flags: Attributes = {} if parent.parent_id else {SYNTHETIC: True}
        context = with_span(around, _EMPTY)
        return _TracerSpan(self._spans.start(name, kind, lambda: {**own, **flags}, context, around, (), at_ns), self._failed)

    def place(self, parent: SpanPort | TraceRef | None) -> Context:
        """The context of a span, or of a place in a foreign trace, for what is measured or logged there."""
        if type(parent) is _TracerSpan:
            return parent.context
        return _EMPTY if not isinstance(parent, TraceRef) else with_span(_remote(parent), _EMPTY)


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
    __slots__ = ("_failed", "context", "span")

    def __init__(self, span: Span, failed: Failed | None) -> None:
        self.span = span
        self._failed = failed
        # What its children start in, and what is measured of it belongs to.
        self.context = with_span(span, _EMPTY)

    def event(self, name: str, attributes: Attributes, at_ns: int) -> None:
        self.span.add_event(name, attributes, at_ns)

    def update(self, attributes: Attributes, name: str | None = None) -> None:
        if attributes:
            given, span = attributes if type(attributes) is dict else dict(attributes), self.span
            if type(span) is DirectSpan:
                span.add_own(given)
            else:
                span.set_attributes(given)
        if name is not None:
            self.span.update_name(name)

    def end(self, at_ns: int, error: str | None) -> None:
        if error is not None:
            self.update({names.ERROR_TYPE: error})
            self.span.set_status(_FAILED)
        try:
            self.span.end(at_ns)
        except Exception as problem:
            # A processor of the application's may raise anything.
            if self._failed is None:
                raise
            self._failed(problem)


def _remote(parent: TraceRef) -> Span:
    trace_id, span_id = otel_ids(parent)
    return NonRecordingSpan(SpanContext(trace_id, span_id, is_remote=True, trace_flags=TraceFlags(TraceFlags.SAMPLED)))
