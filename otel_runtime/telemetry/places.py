"""Places in traces: TraceRef <-> OpenTelemetry span contexts, and the one function that attaches and detaches."""

from __future__ import annotations

import string
from collections.abc import Callable
from contextvars import ContextVar, Token
from typing import Final

from opentelemetry import context, trace
from opentelemetry.context import Context
from opentelemetry.trace import INVALID_SPAN, Link, NonRecordingSpan, Span, SpanContext, TraceFlags

from otel_runtime.values.trace import TraceRef

__all__ = ["attach", "current_context", "detach", "link_to", "ref_of", "remote_parent", "span_context", "span_in", "with_span"]

_HEX: Final = frozenset(string.hexdigits)
_TRACE_DIGITS: Final = 32
_SPAN_DIGITS: Final = 16
# Where a context keeps its current span; the API gives the name away, not under one.
_SPAN: Final[str] = next(iter(trace.set_span_in_context(INVALID_SPAN, Context())))


def _variable() -> ContextVar[Context] | None:
    """The variable that holds the current context; None for a foreign runtime context (OTEL_PYTHON_CONTEXT), which is always asked."""
    here = context.get_current()
    token = context.attach(here)
    variable = token.var if isinstance(token, Token) else None
    known = variable is not None and variable.get(None) is here
    context.detach(token)
    return variable if known else None


_CURRENT: Final = _variable()
# The public functions are two Python calls above the same variable.
current_context: Callable[[], Context] = context.get_current if _CURRENT is None else _CURRENT.get
# Makes a context current; the token is for `detach`.
attach: Callable[[Context], object] = context.attach if _CURRENT is None else _CURRENT.set


def span_in(around: Context) -> Span:
    """The span that is current in a context; the invalid one where there is none."""
    return INVALID_SPAN if _SPAN not in around else trace.get_current_span(around)


def with_span(span: Span, around: Context) -> Context:
    """A context like the given one, in which the span is current."""
    return Context(around, **{_SPAN: span}) if around else Context({_SPAN: span})


def detach(token: object) -> None:
    """Make current what was current before.

    `opentelemetry.context.detach` logs an error when another context finishes the work (an async generator closed elsewhere), and catching
    around it does not help. The token knows its variable, so this resets it without that log record.
    """
    if not isinstance(token, Token):
        # A foreign runtime context (OTEL_PYTHON_CONTEXT) has tokens of its own; None means that attaching had failed.
        if token is not None:
            context.detach(token)  # type: ignore[arg-type]  # the API promises contextvars tokens, a plug-in may not keep to it
        return
    try:
        token.var.reset(token)
    except (ValueError, RuntimeError):
        # Another context finishes the work, or it was finished before: its current span is none of ours.
        return


def ref_of(given: SpanContext) -> TraceRef | None:
    """The place of a span; None when it has none. `sampled` is False when nothing of it is recorded."""
    if not given.is_valid:
        return None
    return TraceRef(format(given.trace_id, "032x"), format(given.span_id, "016x"), given.trace_flags.sampled)


def span_context(ref: TraceRef | None) -> SpanContext | None:
    """The remote span context of a place; None unless both ids are valid OpenTelemetry ids."""
    if ref is None or ref.parent_id is None or len(ref.id) != _TRACE_DIGITS or len(ref.parent_id) != _SPAN_DIGITS:
        return None
    if not _HEX.issuperset(ref.id) or not _HEX.issuperset(ref.parent_id):
        return None
    flags = TraceFlags(TraceFlags.DEFAULT if ref.sampled is False else TraceFlags.SAMPLED)
    found = SpanContext(int(ref.id, 16), int(ref.parent_id, 16), is_remote=True, trace_flags=flags)
    return found if found.is_valid else None


def remote_parent(ref: TraceRef) -> Context:
    """A context in which the place is the current span; an empty one when the place is no OpenTelemetry place."""
    found = span_context(ref)
    return Context() if found is None else trace.set_span_in_context(NonRecordingSpan(found), Context())


def link_to(ref: TraceRef | None) -> list[Link]:
    """A link to the place, or none."""
    found = span_context(ref)
    return [] if found is None else [Link(found)]
