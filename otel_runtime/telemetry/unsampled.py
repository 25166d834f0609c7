"""The short way for spans that will not be recorded: the sampler is asked before anything is made, where its answer is sure to be the same.

Only the SDK's public parts are used, and only where asking twice changes nothing: a sampler that drops everything, or a child of a span of
this process that is not sampled. A sampler by ratio or rate decides about a root once, and then the SDK asks it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import Tracer
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, DEFAULT_OFF, Decision
from opentelemetry.trace import Link, NonRecordingSpan, Span, SpanContext, SpanKind, TraceFlags

from otel_runtime.telemetry.operations import AttributeValues

__all__ = ["PLAIN", "RANDOM", "UnsampledRoot", "dropped", "random_bit", "stands_in"]

# Version 2 of W3C Trace Context; 0 for an SDK that does not know the flag yet.
RANDOM: Final = int(getattr(TraceFlags, "RANDOM_TRACE_ID", 0))


class UnsampledRoot(NonRecordingSpan):
    """A root that is not recorded. It has a place of its own, so that the services behind it learn that: made when somebody asks for it.

    Args:
        make: Makes its place.
    """

    def __init__(self, make: Callable[[], SpanContext]) -> None:
        # Not the base's: it wants the place.
        self._make = make
        self._place: SpanContext | None = None

    def get_span_context(self) -> SpanContext:
        """Its place, the same one for everybody who asks."""
        place = self._place
        if place is None:
            # setdefault: of two threads that ask at once, one makes the place of both.
            place = self._place = vars(self).setdefault("_made", self._make())
        return place

    def __repr__(self) -> str:
        return f"UnsampledRoot({self.get_span_context()!r})"


# Spans of which nothing is recorded; asking by class costs a walk through abstract base classes.
PLAIN: Final[frozenset[type[Span]]] = frozenset({NonRecordingSpan, UnsampledRoot})


def stands_in(around: Span, place: SpanContext) -> bool:
    """True when a span may stand in for a child of its own that is dropped.

    Args:
        around: The span.
        place: Its place.
    """
    # A span that records without being sampled takes attributes: it must not stand in for another.
    return type(around) in PLAIN and not place.is_remote and not place.trace_flags.sampled


def dropped(
    tracer: object, parent: Context, name: str, kind: SpanKind, attributes: Mapping[str, AttributeValues], links: Sequence[Link]
) -> Span | None:
    """The span to stand in for one that the sampler drops; None when only starting a span can tell.

    Args:
        tracer: Where the span would be started.
        parent: The context around it.
        name: Its name.
        kind: Its kind.
        attributes: What a sampler may look at.
        links: Its links.
    """
    if type(tracer) is not Tracer:
        return None
    around = trace.get_current_span(parent)
    place = around.get_span_context()
    never = tracer.sampler is ALWAYS_OFF
    if not place.is_valid:
        return _root(tracer) if never or tracer.sampler is DEFAULT_OFF else None
    if not stands_in(around, place):
        return None
    if never:
        return around
    asked = tracer.sampler.should_sample(parent, place.trace_id, name, kind, attributes, links)
    return None if asked.decision is not Decision.DROP else around


def random_bit(ids: IdGenerator) -> int:
    """The flag that says that the ids of a new trace are random; 0 when they are not, or the SDK does not know the flag yet."""
    return RANDOM if RANDOM and ids.is_trace_id_random() else 0


def _root(tracer: Tracer) -> Span:
    ids = tracer.id_generator

    def place() -> SpanContext:
        trace_id, flags = ids.generate_trace_id(), TraceFlags(random_bit(ids))
        return SpanContext(trace_id, ids.generate_span_id(), is_remote=False, trace_flags=flags)

    return UnsampledRoot(place)
