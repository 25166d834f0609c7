"""How a span is started: directly, where tracer and sampler are those of the SDK as we know it; else by the public API.

The sampler is asked exactly as the SDK asks it, and once. Where its answer is known beforehand (the SDK's samplers that take or drop
everything, and the default) it is not asked at all, and for what is dropped nothing is made: a child of a span that is not sampled has that
span stand in for it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Protocol

from opentelemetry.context import Context
from opentelemetry.sdk.trace import Tracer as SdkTracer
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, DEFAULT_OFF, DEFAULT_ON, Decision, ParentBased
from opentelemetry.trace import INVALID_SPAN, Link, NonRecordingSpan, Span, SpanContext, SpanKind, TraceFlags, Tracer

from otel_runtime.telemetry.direct_span import direct_span, fits, place_of
from otel_runtime.telemetry.lazy_attributes import LazyAttributes
from otel_runtime.telemetry.operations import Attributes
from otel_runtime.telemetry.places import span_in, with_span
from otel_runtime.telemetry.unsampled import RANDOM, UnsampledRoot, random_bit, stands_in
from otel_runtime.telemetry.unsampled import dropped as dropped_for_sure

__all__ = ["RECORD_ALL", "DirectSpans", "PublicSpans", "Spans", "spans_of"]

# Everything, whatever a caller's `traceparent ...-00` would have.
RECORD_ALL: Final = ParentBased(ALWAYS_ON, remote_parent_not_sampled=ALWAYS_ON)

# These drop the child of a span of this process that is not sampled.
_FOLLOWING: Final = frozenset({DEFAULT_ON, DEFAULT_OFF, RECORD_ALL})
_SAMPLED: Final = int(TraceFlags.SAMPLED)
_FLAGS: Final = {bits: TraceFlags(bits) for bits in (0, _SAMPLED, RANDOM, _SAMPLED | RANDOM)}
_STATE: Final = SpanContext(1, 1, is_remote=False).trace_state


Build = Callable[[], Attributes]


class Spans(Protocol):
    """Starts spans."""

    def start(self, name: str, kind: SpanKind, build: Build, parent: Context, around: Span, links: Sequence[Link], started: int) -> Span:
        """Start one.

        Args:
            name: Its name.
            kind: Its kind.
            build: Makes what a sampler may look at, and what the span begins with; only called when one looks, or for a span that is recorded.
            parent: The context around it.
            around: The span that is current there.
            links: Its links.
            started: Nanoseconds since 1970.
        """
        ...

    def dropped_in(self, here: Context) -> tuple[Span, Context] | None:
        """What is current inside of an operation that the sampler is sure to drop; None when only starting a span can tell.

        Args:
            here: The context around it.
        """
        ...


def spans_of(tracer: Tracer) -> Spans:
    """The fastest way to start spans of this tracer; chosen once, when the runtime is configured."""
    return DirectSpans(tracer) if isinstance(tracer, SdkTracer) and fits(tracer) else PublicSpans(tracer)


class PublicSpans:
    """Spans by the public API.

    Args:
        tracer: Any tracer.
    """

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer

    def start(self, name: str, kind: SpanKind, build: Build, parent: Context, around: Span, links: Sequence[Link], started: int) -> Span:
        """Start one, unless the sampler is sure to drop it."""
        attributes = LazyAttributes(build)
        stands_in = dropped_for_sure(self._tracer, parent, name, kind, attributes, links)
        if stands_in is not None:
            return stands_in
        # The last two: exceptions are recorded by us.
        return self._tracer.start_span(name, parent, kind, attributes, links, started, False, False)

    def dropped_in(self, here: Context) -> tuple[Span, Context] | None:
        """None: only starting a span can tell."""
        return None


class DirectSpans:
    """Spans of the SDK without its constructor.

    Args:
        tracer: One that `fits`.
    """

    def __init__(self, tracer: SdkTracer) -> None:
        self._tracer = tracer
        self._public = PublicSpans(tracer)
        # It came with a later SDK; before, every tracer was enabled.
        self._enabled = getattr(tracer, "_is_enabled", None)

    def start(self, name: str, kind: SpanKind, build: Build, parent: Context, around: Span, links: Sequence[Link], started: int) -> Span:
        """Start one as `Tracer.start_span` does."""
        tracer, enabled = self._tracer, self._enabled
        place = around.get_span_context()
        if links or type(place) is not SpanContext or (enabled is not None and not enabled()):
            return self._public.start(name, kind, build, parent, around, links, started)
        trace_id, _, remote, flags, state, valid = place
        sampler = tracer.sampler
        if not valid:
            if sampler is ALWAYS_OFF or sampler is DEFAULT_OFF:
                return UnsampledRoot(self._unsampled_place)
            if sampler is DEFAULT_ON or sampler is RECORD_ALL or sampler is ALWAYS_ON:
                return direct_span(tracer, name, self._new_place(_SAMPLED), None, kind, build(), started, parent)
        elif (flags & _SAMPLED and (sampler is DEFAULT_ON or sampler is RECORD_ALL)) or sampler is ALWAYS_ON:
            own = place_of(trace_id, tracer.id_generator.generate_span_id(), _FLAGS[_SAMPLED | flags & RANDOM], state)
            return direct_span(tracer, name, own, place, kind, build(), started, parent)
        elif (sampler is ALWAYS_OFF or (sampler in _FOLLOWING and not remote)) and stands_in(around, place):
            return around
        return self._asked(name, kind, LazyAttributes(build), parent, around, started)

    def _asked(self, name: str, kind: SpanKind, attributes: LazyAttributes, parent: Context, around: Span, started: int) -> Span:
        tracer, place = self._tracer, around.get_span_context()
        root = not place.is_valid
        trace_id = tracer.id_generator.generate_trace_id() if root else place.trace_id
        answer = tracer.sampler.should_sample(parent, trace_id, name, kind, attributes, ())
        dropped = answer.decision is Decision.DROP
        if dropped and not root and stands_in(around, place):
            return around
        bits = _SAMPLED if answer.decision is Decision.RECORD_AND_SAMPLE else 0
        ids = tracer.id_generator
        bits |= random_bit(ids) if root else place.trace_flags & RANDOM
        state = _STATE if answer.trace_state is None else answer.trace_state
        own = place_of(trace_id, ids.generate_span_id(), _FLAGS[bits], state)
        if dropped:
            return NonRecordingSpan(own)
        # A sampler may hand back other attributes than it was given; those were never cleaned.
        ours = attributes.is_in(answer.attributes)
        first, foreign = (attributes.all(), None) if ours else ({}, answer.attributes)
        return direct_span(tracer, name, own, None if root else place, kind, first, started, parent, foreign)

    def dropped_in(self, here: Context) -> tuple[Span, Context] | None:
        """As `Spans.dropped_in`."""
        sampler, enabled = self._tracer.sampler, self._enabled
        if sampler is ALWAYS_ON:
            return None
        around = span_in(here)
        never = sampler is ALWAYS_OFF
        if around is INVALID_SPAN:
            if not (never or sampler is DEFAULT_OFF) or (enabled is not None and not enabled()):
                return None
            root = UnsampledRoot(self._unsampled_place)
            return root, with_span(root, here)
        if (
            not (never or sampler in _FOLLOWING)
            or not stands_in(around, around.get_span_context())
            or (enabled is not None and not enabled())
        ):
            return None
        return around, here

    def _unsampled_place(self) -> SpanContext:
        return self._new_place(0)

    def _new_place(self, sampled: int) -> SpanContext:
        ids = self._tracer.id_generator
        trace_id = ids.generate_trace_id()
        return place_of(trace_id, ids.generate_span_id(), _FLAGS[sampled | random_bit(ids)], _STATE)
