"""How `otel-runtime trace list` shows what it found."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Literal

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from otel_runtime.cli.trace_summary import Summary
from otel_runtime.telemetry.tree_text import clean, duration_text

__all__ = ["as_data", "table"]

_NAME_LIMIT = 48
_NAME_LEAST = 16
_RUN = 2
_COLUMNS: tuple[tuple[str, Literal["left", "right"]], ...] = (
    ("started", "left"),
    ("trace", "left"),
    ("run", "left"),
    ("took", "right"),
    ("spans", "right"),
    ("tokens", "right"),
    ("cost", "right"),
    ("", "left"),
)


def table(found: Sequence[Summary], width: int) -> RenderableType:
    """One row per run, or two lines where a row does not fit; a trace id is never cut, because one copies it.

    Args:
        found: What to list.
        width: Columns of the terminal.
    """
    rows = [_cells(summary) for summary in found]
    others = sum(max(len(title), *(row[at].cell_len for row in rows)) + 2 for at, (title, _) in enumerate(_COLUMNS) if at != _RUN)
    if width - others < _NAME_LEAST:
        return Group(*(_two_lines(row, width) for row in rows))
    shown = Table(box=None, pad_edge=False, header_style="dim")
    for title, justify in _COLUMNS:
        shown.add_column(title, justify=justify, no_wrap=True, overflow="ellipsis", max_width=min(_NAME_LIMIT, width - others))
    for at, column in enumerate(shown.columns):
        column.max_width = column.max_width if at == _RUN else None
    for row in rows:
        shown.add_row(*row)
    return shown


def _two_lines(row: Sequence[Text], width: int) -> Group:
    started, trace, name, took, spans, tokens, cost, marks = row
    head = Text("  ").join((trace, started))
    counted = [text for text in (took, Text(f"{spans} spans"), Text(f"{tokens} tokens") if tokens else tokens, cost) if text]
    # What is marked is looked for first.
    beside = bool(marks) and head.cell_len + 2 + marks.cell_len <= width
    if beside:
        head = Text.assemble(head, "  ", marks)
    below = [Text.assemble("  ", marks)] if marks and not beside else []
    facts = Text("  ").join(counted)
    name = name.copy()
    # What does not fit goes on below: nothing that was counted is left out.
    name.truncate(max(_NAME_LEAST, width - facts.cell_len - 4), overflow="ellipsis")
    return Group(head, Text.assemble("  ", name, "  ", facts), *below)


def as_data(found: Sequence[Summary], link: Callable[[str], str]) -> str:
    """A JSON list.

    Args:
        found: What to list.
        link: From a trace id to its page.
    """
    rows = [
        {
            **asdict(summary),
            "started": _started(summary),
            "cost": {currency: str(amount) for currency, amount in summary.cost.items()},
            "link": link(summary.trace_id) or None,
        }
        for summary in found
    ]
    return json.dumps(rows, indent=2)


def _cells(summary: Summary) -> tuple[Text, ...]:
    used = summary.input_tokens + summary.output_tokens
    cost = ", ".join(f"{amount:.4f} {currency}" for currency, amount in sorted(summary.cost.items()))
    return (
        Text(_started(summary), "dim"),
        Text(summary.trace_id),
        Text(clean(summary.name, 200), "bold"),
        Text(duration_text(summary.duration_s), "cyan"),
        Text(str(summary.spans)),
        Text(f"{used:,}" if used else ""),
        Text(cost),
        _marks(summary),
    )


def _marks(summary: Summary) -> Text:
    parts = [
        (f"{summary.denied} denied", "bold red") if summary.denied else None,
        (f"{len(summary.waiting)} waiting", "yellow") if summary.waiting else None,
        (f"{summary.failed} failed", "red") if summary.failed else None,
    ]
    return Text("  ").join(Text(*part) for part in parts if part is not None)


def _started(summary: Summary) -> str:
    return datetime.fromtimestamp(summary.start_ns / 1e9, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
