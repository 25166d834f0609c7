"""Finished runs as trees on a terminal: `render` is pure and also shows files, `ConsoleTree` is the exporter."""

from __future__ import annotations

import os
import sys
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from typing import TextIO

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from rich.console import Console, Group, RenderableType
from rich.text import Text
from rich.tree import Tree

from otel_runtime.telemetry import conventions as c
from otel_runtime.telemetry.losses import Losses
from otel_runtime.telemetry.span_view import SpanView, view_of
from otel_runtime.telemetry.tree_text import clean, event_line, span_line, sums_of

__all__ = ["ConsoleTree", "console_for", "render"]

_TRACES_LIMIT = 256
_SPANS_LIMIT = 5000
_DEPTH_LIMIT = 64
_SERVICE_LIMIT = 40
_PLAIN_WIDTH = 160
_SUMMED = frozenset({"invoke_agent", "invoke_workflow"})


def render(spans: Iterable[SpanView]) -> RenderableType:
    """Trees of all spans, one per root, in the order of their start; traces one after another."""
    traces: OrderedDict[str, list[SpanView]] = OrderedDict()
    for span in spans:
        traces.setdefault(span.trace_id, []).append(span)
    parts: list[RenderableType] = []
    for trace_id, members in traces.items():
        parts.extend(_trees(members))
        parts.append(Text(f"trace {trace_id}", "dim"))
    return Group(*parts) if parts else Text("no spans")


def _trees(members: Sequence[SpanView]) -> list[Tree]:
    shown = _without_answered(members)
    known = {span.span_id for span in shown}
    children: dict[str, list[SpanView]] = {}
    roots: list[SpanView] = []
    for span in sorted(shown, key=_moment):
        if span.parent_id is not None and span.parent_id in known and span.parent_id != span.span_id:
            children.setdefault(span.parent_id, []).append(span)
        else:
            roots.append(span)
    several = len({span.service for span in members}) > 1
    return [_branch(Tree(_line(root, children).append(_at(root) if several else "")), root, children, 0) for root in roots]


def _at(span: SpanView) -> Text:
    return Text(f"  at {clean(span.service, _SERVICE_LIMIT)}" if span.service else "", "dim")


def _moment(span: SpanView) -> tuple[int, int]:
    # An answer belongs where it was given: behind the decision that asked, before the call it let run.
    return (span.end_ns if c.APPROVAL_OUTCOME in span.attributes else span.start_ns, span.end_ns)


def _without_answered(members: Sequence[SpanView]) -> list[SpanView]:
    """Leaves out a question whose answer is shown: the answer's line tells both."""
    answered = {str(span.attributes.get(c.APPROVAL_ID)) for span in members if c.APPROVAL_OUTCOME in span.attributes}
    return [
        span for span in members if not (span.name.startswith("approval requested") and str(span.attributes.get(c.APPROVAL_ID)) in answered)
    ]


def _branch(tree: Tree, span: SpanView, children: Mapping[str, Sequence[SpanView]], depth: int) -> Tree:
    if depth >= _DEPTH_LIMIT:
        tree.add(Text("…", "dim"))
        return tree
    for event in span.events:
        line = event_line(event)
        if line is not None:
            tree.add(line)
    for child in children.get(span.span_id, ()):
        # A trace may go through several services: each is named where it begins.
        line = _line(child, children)
        _branch(tree.add(line if child.service == span.service else line.append(_at(child))), child, children, depth + 1)
    return tree


def _line(span: SpanView, children: Mapping[str, Sequence[SpanView]]) -> Text:
    if span.attributes.get(c.OPERATION) not in _SUMMED:
        return span_line(span)
    return span_line(span, sums_of(_below(span, children)))


def _below(span: SpanView, children: Mapping[str, Sequence[SpanView]]) -> list[SpanView]:
    found: list[SpanView] = []
    waiting, seen = [span.span_id], {span.span_id}
    while waiting:
        for child in children.get(waiting.pop(), ()):
            if child.span_id not in seen:
                seen.add(child.span_id)
                waiting.append(child.span_id)
                found.append(child)
    return found


class ConsoleTree(SpanExporter):
    """Prints each run once its local root has ended; what has no root is printed at shutdown.

    Args:
        losses: Where spans are counted that found no room, or no terminal.
        stream: Where to print; None for the process' standard error at that moment.
    """

    def __init__(self, losses: Losses, stream: TextIO | None = None) -> None:
        self._losses = losses
        self._stream = stream
        self._waiting: OrderedDict[str, list[SpanView]] = OrderedDict()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Collect, and print every trace whose local root is among them."""
        done: OrderedDict[str, None] = OrderedDict()
        for span in spans:
            view = view_of(span)
            self._collect(view)
            # A decision or answer under a parent in another process is a local root, but no run: it waits for the one that resumes.
            if view.parent_id is None or (view.remote_parent and c.OPERATION in view.attributes):
                done[view.trace_id] = None
        for trace_id in done:
            self._print(self._waiting.pop(trace_id, []))
        return SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        """Print what is left."""
        while self._waiting:
            self._print(self._waiting.popitem(last=False)[1])

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Runs that have not ended stay."""
        return True

    def _collect(self, view: SpanView) -> None:
        members = self._waiting.setdefault(view.trace_id, [])
        if len(members) >= _SPANS_LIMIT:
            self._losses.add("too_large")
        else:
            members.append(view)
        if len(self._waiting) > _TRACES_LIMIT:
            self._print(self._waiting.popitem(last=False)[1])

    def _print(self, spans: Sequence[SpanView]) -> None:
        stream = self._stream or sys.stderr
        if not spans or stream is None or stream.closed:
            return
        try:
            console_for(stream).print(render(spans))
        except (OSError, ValueError) as error:
            # A closed pipe or terminal: the run goes on without its picture.
            self._losses.problem("console", error, warn=False)


def console_for(stream: TextIO) -> Console:
    """A console on the stream: its own width on a terminal, wide and colourless elsewhere."""
    columns = os.environ.get("COLUMNS", "")
    plain = not stream.isatty()
    width = int(columns) if columns.isdigit() and int(columns) >= 20 else (_PLAIN_WIDTH if plain else None)
    return Console(file=stream, width=width, no_color=plain or None, highlight=False, soft_wrap=False, markup=False, emoji=False)
