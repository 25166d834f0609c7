"""How `otel-runtime trace list` shows what it found."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime

from rich.table import Table
from rich.text import Text

from otel_runtime.cli.trace_summary import Summary
from otel_runtime.telemetry.tree_text import duration_text

__all__ = ["as_data", "table"]

_NAME_LIMIT = 48


def table(found: Sequence[Summary]) -> Table:
    """One row per run."""
    shown = Table(box=None, pad_edge=False, header_style="dim")
    shown.add_column("started", no_wrap=True)
    shown.add_column("trace", no_wrap=True)
    shown.add_column("run", no_wrap=True, overflow="ellipsis", max_width=_NAME_LIMIT)
    shown.add_column("took", justify="right", no_wrap=True)
    shown.add_column("spans", justify="right")
    shown.add_column("tokens", justify="right", no_wrap=True)
    shown.add_column("cost", justify="right", no_wrap=True)
    shown.add_column("")
    for summary in found:
        shown.add_row(*_cells(summary))
    return shown


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
        Text(summary.name, "bold"),
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
