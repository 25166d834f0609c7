"""A trace as a waterfall: one line per span, its place in time as a bar. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from otel_runtime.telemetry import conventions as c
from otel_runtime.telemetry.span_view import SpanView
from otel_runtime.telemetry.tree_text import duration_text

__all__ = ["bar", "waterfall"]

_BAR = 40
_NAME_LIMIT = 60
_DEPTH_LIMIT = 24
_STYLES = {"chat": "blue", "execute_tool": "green", "invoke_agent": "cyan", "invoke_workflow": "cyan"}


def waterfall(spans: Sequence[SpanView]) -> RenderableType:
    """One table per trace."""
    traces: dict[str, list[SpanView]] = {}
    for span in spans:
        traces.setdefault(span.trace_id, []).append(span)
    parts: list[RenderableType] = []
    for trace_id, members in traces.items():
        parts += [_table(members), Text(f"trace {trace_id}", "dim")]
    return Group(*parts) if parts else Text("no spans")


def _table(members: Sequence[SpanView]) -> Table:
    begin, end = min(span.start_ns for span in members), max(span.end_ns for span in members)
    table = Table.grid(padding=(0, 1))
    table.add_column(no_wrap=True, overflow="ellipsis", max_width=_NAME_LIMIT)
    table.add_column(no_wrap=True, min_width=_BAR)
    table.add_column(no_wrap=True, justify="right")
    for depth, span in _ordered(members):
        style = _style(span)
        name = Text("  " * min(depth, _DEPTH_LIMIT) + span.name, "bold red" if span.status == "error" else "")
        table.add_row(name, Text(bar(span.start_ns, span.end_ns, begin, end), style), Text(duration_text(span.duration_s), "cyan"))
    return table


def bar(start: int, end: int, first: int, last: int) -> str:
    """A bar of the span's place between the first and the last nanosecond; never empty."""
    whole = max(1, last - first)
    left = min(_BAR - 1, max(0, (start - first) * _BAR // whole))
    right = min(_BAR, max(left + 1, -((first - end) * _BAR // whole)))
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
    yield from _walk(children)


def _walk(children: Mapping[str | None, Sequence[SpanView]]) -> Iterator[tuple[int, SpanView]]:
    waiting = [(0, span) for span in children.get(None, ())]
    seen: set[str] = set()
    while waiting:
        depth, span = waiting.pop()
        if span.span_id in seen:
            continue
        seen.add(span.span_id)
        yield depth, span
        waiting += [(depth + 1, child) for child in children.get(span.span_id, ())]
