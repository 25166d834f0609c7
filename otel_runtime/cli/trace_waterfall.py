"""A trace as a waterfall: one line per span, its place in time as a bar. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from otel_runtime.telemetry import conventions as c
from otel_runtime.telemetry.span_view import SpanView
from otel_runtime.telemetry.tree_text import clean, duration_text

__all__ = ["bar", "waterfall"]

_BAR = 40
_FAIR_BAR = 24
_NAME_LIMIT = 60
_DEPTH_LIMIT = 24
_STYLES = {"chat": "blue", "execute_tool": "green", "invoke_agent": "cyan", "invoke_workflow": "cyan"}


def waterfall(spans: Sequence[SpanView], width: int) -> RenderableType:
    """One table per trace.

    Args:
        spans: Of any traces.
        width: Columns of the terminal; names are cut and bars get shorter before a duration is.
    """
    traces: dict[str, list[SpanView]] = {}
    for span in spans:
        traces.setdefault(span.trace_id, []).append(span)
    parts: list[RenderableType] = []
    for trace_id, members in traces.items():
        parts += [_table(members, width), Text(f"trace {trace_id}", "dim")]
    return Group(*parts) if parts else Text("no spans")


def _table(members: Sequence[SpanView], width: int) -> Table:
    begin, end = min(span.start_ns for span in members), max(span.end_ns for span in members)
    names, durations, rows = [], [], list(_ordered(members))
    several = len({span.service for span in members}) > 1
    services = {span.span_id: span.service for span in members}
    for depth, span in rows:
        name = Text("  " * min(depth, _DEPTH_LIMIT) + clean(span.name, _NAME_LIMIT), "bold red" if span.status == "error" else "")
        # A trace may go through several services: each is named where it begins.
        if several and span.service and services.get(span.parent_id or "") != span.service:
            name.append(f"  at {clean(span.service, _NAME_LIMIT)}", "dim")
        names.append(name)
        durations.append(Text(duration_text(span.duration_s), "cyan"))
    longest = max((name.cell_len for name in names), default=0)
    room = width - max((text.cell_len for text in durations), default=0) - 2
    bars = max(1, min(_BAR, max(min(_FAIR_BAR, room // 2), room - longest)))
    table = Table.grid(padding=(0, 1))
    table.add_column(no_wrap=True, overflow="ellipsis", width=max(1, min(longest, _NAME_LIMIT, room - bars)))
    table.add_column(no_wrap=True, width=bars)
    table.add_column(no_wrap=True, justify="right")
    for (_, span), name, duration in zip(rows, names, durations, strict=True):
        table.add_row(name, Text(bar(span.start_ns, span.end_ns, begin, end, bars), _style(span)), duration)
    return table


def bar(start: int, end: int, first: int, last: int, width: int = _BAR) -> str:
    """A bar of the span's place between the first and the last nanosecond; never empty.

    Args:
        start: Nanoseconds of the span's start.
        end: Of its end.
        first: Of the trace's start.
        last: Of its end.
        width: Characters in all.
    """
    whole = max(1, last - first)
    left = min(width - 1, max(0, (start - first) * width // whole))
    right = min(width, max(left + 1, -((first - end) * width // whole)))
    return " " * left + ("▏" if end == start else "█" * (right - left))


def _style(span: SpanView) -> str:
    if span.status == "error" or span.attributes.get(c.DECISION) == "deny":
        return "red"
    if span.name.startswith(("approval ", "policy ")):
        return "yellow"
    return _STYLES.get(str(span.attributes.get(c.OPERATION)), "white")


def _ordered(members: Sequence[SpanView]) -> Iterator[tuple[int, SpanView]]:
    """Depth first, children by their start; without recursion, because a trace may be deep."""
    known = {span.span_id for span in members}
    children: dict[str | None, list[SpanView]] = {}
    for span in sorted(members, key=lambda span: span.start_ns, reverse=True):
        children.setdefault(span.parent_id if span.parent_id in known and span.parent_id != span.span_id else None, []).append(span)
    seen: set[str] = set()
    yield from _walk(children, seen)
    # Spans that are each other's parents hang below nothing.
    yield from ((0, span) for span in members if span.span_id not in seen)


def _walk(children: Mapping[str | None, Sequence[SpanView]], seen: set[str]) -> Iterator[tuple[int, SpanView]]:
    waiting = [(0, span) for span in children.get(None, ())]
    while waiting:
        depth, span = waiting.pop()
        if span.span_id in seen:
            continue
        seen.add(span.span_id)
        yield depth, span
        waiting += [(depth + 1, child) for child in children.get(span.span_id, ())]
