"""The short way for spans that will not be recorded: the sampler is asked before anything is made, where its answer is sure to be the same.

Only the SDK's public parts are used, and only where asking twice changes nothing: a sampler that drops everything, or a child of a span of
this process that is not sampled. A sampler by ratio or rate decides about a root once, and then the SDK asks it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import Tracer
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, DEFAULT_OFF, Decision
from opentelemetry.trace import Link, NonRecordingSpan, Span, SpanContext, SpanKind, TraceFlags

from otel_runtime.telemetry.operations import AttributeValues

__all__ = ["RANDOM", "dropped", "random_bit"]

# Version 2 of W3C Trace Context; 0 for an SDK that does not know the flag yet.
RANDOM: Final = int(getattr(TraceFlags, "RANDOM_TRACE_ID", 0))


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
    # A span that records without being sampled takes attributes: it must not stand in for another.
    if place.trace_flags.sampled or place.is_remote or type(around) is not NonRecordingSpan:
        return None
    if never:
        return around
    asked = tracer.sampler.should_sample(parent, place.trace_id, name, kind, attributes, links)
    return None if asked.decision is not Decision.DROP else around


def random_bit(ids: IdGenerator) -> int:
    """The flag that says that the ids of a new trace are random; 0 when they are not, or the SDK does not know the flag yet."""
    return RANDOM if RANDOM and ids.is_trace_id_random() else 0


def _root(tracer: Tracer) -> Span:
    # With a place of its own, so that the services behind it learn that nothing is recorded.
    ids = tracer.id_generator
    trace_id, flags = ids.generate_trace_id(), TraceFlags(random_bit(ids))
    return NonRecordingSpan(SpanContext(trace_id, ids.generate_span_id(), is_remote=False, trace_flags=flags))
