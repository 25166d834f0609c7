"""Traces -> one line each, and which of them a person asked for. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from otel_runtime.telemetry import conventions as c
from otel_runtime.telemetry.span_view import SpanView
from otel_runtime.telemetry.tree_text import sums_of

__all__ = ["Summary", "Wanted", "summaries"]


@dataclass(frozen=True, slots=True)
class Summary:
    """One trace.

    Args:
        trace_id: 32 hex digits.
        name: Name of its first span.
        service: Service of that span.
        start_ns: Nanoseconds since 1970.
        duration_s: Seconds from the first start to the last end.
        spans: How many.
        denied: Calls that were denied.
        waiting: Ids of the approval requests that nobody has answered.
        failed: Spans with status error.
        input_tokens: Of its model calls.
        output_tokens: Of its model calls.
        cost: Money by ISO 4217 code.
    """

    trace_id: str
    name: str
    service: str
    start_ns: int
    duration_s: float
    spans: int
    denied: int
    waiting: tuple[str, ...]
    failed: int
    input_tokens: int
    output_tokens: int
    cost: Mapping[str, Decimal]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a trace must have to be listed; everything that is given must hold.

    Args:
        denied: A call was denied.
        waiting: A question waits for its answer.
        failed: A span failed.
        costly: At least this much, in one currency; None for any.
        slow_s: At least this many seconds; None for any.
    """

    denied: bool = False
    waiting: bool = False
    failed: bool = False
    costly: Decimal | None = None
    slow_s: float | None = None

    def admits(self, summary: Summary) -> bool:
        """True when the trace is asked for."""
        return (
            (not self.denied or summary.denied > 0)
            and (not self.waiting or bool(summary.waiting))
            and (not self.failed or summary.failed > 0)
            and (self.costly is None or max(summary.cost.values(), default=Decimal(0)) >= self.costly)
            and (self.slow_s is None or summary.duration_s >= self.slow_s)
        )


def summaries(spans: Iterable[SpanView]) -> list[Summary]:
    """Every trace, newest first."""
    everything = list(spans)
    # The answer may be in another trace than the question: a resumed run begins its own after an hour.
    answered = {str(span.attributes[c.APPROVAL_ID]) for span in everything if _answers(span)}
    traces: dict[str, list[SpanView]] = {}
    for span in everything:
        traces.setdefault(span.trace_id, []).append(span)
    return sorted((_summary(members, answered) for members in traces.values()), key=lambda summary: -summary.start_ns)


def _answers(span: SpanView) -> bool:
    return c.APPROVAL_OUTCOME in span.attributes and c.APPROVAL_ID in span.attributes


def _summary(members: Sequence[SpanView], answered: set[str]) -> Summary:
    first = _top(members)
    start = min(span.start_ns for span in members)
    sums = sums_of(members)
    asked = {str(span.attributes.get(c.APPROVAL_ID)) for span in members if span.name.startswith("approval requested ")}
    return Summary(
        trace_id=first.trace_id,
        name=first.name,
        service=first.service,
        start_ns=start,
        duration_s=max(0, max(span.end_ns for span in members) - start) / 1e9,
        spans=len(members),
        denied=sum(span.attributes.get(c.DECISION) == "deny" for span in members),
        waiting=tuple(sorted(asked - answered)),
        failed=sum(span.status == "error" for span in members),
        input_tokens=sums.input_tokens or 0,
        output_tokens=sums.output_tokens or 0,
        cost=sums.cost,
    )


def _top(members: Sequence[SpanView]) -> SpanView:
    known = {span.span_id for span in members}
    roots = [span for span in members if span.parent_id not in known]
    return min(roots or members, key=lambda span: span.start_ns)
