"""How `otel-runtime policy replay` shows what changes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from otel_runtime.cli.policy_opening import counted
from otel_runtime.cli.policy_view import printable
from otel_runtime.policy.recorded import RecordedCall
from otel_runtime.policy.replay_report import Asked, Change, ChangeKind, Report

__all__ = ["as_data", "print_report"]

_STYLES: Final[Mapping[ChangeKind, str]] = {
    "denied": "bold red",
    "asked": "bold yellow",
    "delayed": "bold magenta",
    "allowed": "bold green",
}
_SHOWN: Final = 72
_LEAST: Final = 16
_GAP: Final = 2
# Where no rule decided.
_BY: Final = {"policy.default": "(the default)", "policy.catalogue": "(the catalogue)", "policy.unregistered": "(no such tool)"}


def print_report(out: Console, report: Report, spans: int, policy: str, against: str) -> None:
    """The sum first, then each group of changes, what could not be replayed, and how often people are asked."""
    out.print(
        Text(f"{counted(report.calls, 'decided call')} in {counted(spans, 'span')}: {policy}, compared with {against}"), soft_wrap=True
    )
    if not report.calls:
        out.print(Text("nothing to replay: no span tells of a call that was decided, or would be", style="yellow"), soft_wrap=True)
        return
    out.print(_sums(report), soft_wrap=True)
    if report.changes:
        out.print()
        out.print(_changes(report, out.width))
    if report.gaps:
        out.print()
        out.print(_gaps(report))
    out.print()
    out.print(_asking(report))


def _sums(report: Report) -> Text:
    parts = [Text(f"newly {kind} {report.count(kind)}", style) for kind, style in _STYLES.items() if report.count(kind)]
    parts.append(Text(f"unchanged {report.unchanged}", "dim" if parts else "bold green"))
    if report.unreplayable:
        parts.append(Text(f"not replayable {report.unreplayable}", "cyan"))
    return Text("  ").join(parts)


def _table(*columns: str) -> Table:
    shown = Table(box=None, pad_edge=False, header_style="dim")
    for name in columns:
        shown.add_column(name, justify="right" if name in {"calls", "before", "now"} else "left", overflow="fold")
    return shown


def _changes(report: Report, width: int) -> Table:
    rows = [_row(change) for change in report.changes]
    headers = ("newly", "calls", "was", "call", "by")
    used = sum(max(len(header), *(len(row[at]) for row in rows)) + _GAP for at, header in enumerate(headers))
    # Examples get the room that is left; they never take it from what changed.
    room = min(_SHOWN, width - used)
    shown = _table(*headers, *(["example"] if room >= _LEAST else []))
    for change, row in zip(report.changes, rows, strict=True):
        texts = [Text(cell, style) for cell, style in zip(row, (_STYLES[change.kind], "", "dim", "bold", ""), strict=True)]
        shown.add_row(*texts, *([Text(_example(change.examples[0], room), "dim")] if room >= _LEAST else []))
    return shown


def _row(change: Change) -> tuple[str, str, str, str, str]:
    by = change.rule or _BY.get(change.code, change.reason)
    return change.kind, str(change.calls), change.was, printable(change.name), printable(by)


def _gaps(report: Report) -> Table:
    shown = _table("calls", "not replayable because")
    for reason, calls in report.gaps.items():
        shown.add_row(Text(str(calls)), Text(reason, "cyan"))
    return shown


def _asking(report: Report) -> Table:
    shown = _table("people are asked", "before", "now")
    shown.add_row("requests", str(report.before.requests), str(report.after.requests))
    shown.add_row("per 100 calls", f"{report.before.per_100:.1f}", f"{report.after.per_100:.1f}")
    for who in dict.fromkeys((*report.after.per_day, *report.before.per_day)):
        shown.add_row(Text(f"{who} per day"), *(_rate(asked.per_day.get(who)) for asked in (report.before, report.after)))
    return shown


def _rate(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def _example(call: RecordedCall, room: int) -> str:
    shown = printable(_arguments(call))
    return shown if len(shown) <= room else f"{shown[: room - 1]}…"


def _arguments(call: RecordedCall) -> str:
    if call.args is None:
        return "arguments not captured"
    return json.dumps(dict(call.args), ensure_ascii=False, default=lambda value: f"<{getattr(value, 'type_name', type(value).__name__)}>")


def as_data(report: Report, spans: int) -> dict[str, Any]:
    """The same as JSON data."""
    return {
        "spans": spans,
        "calls": report.calls,
        "unchanged": report.unchanged,
        **{f"newly_{kind}": report.count(kind) for kind in _STYLES},
        "not_replayable": report.unreplayable,
        "not_replayable_because": dict(report.gaps),
        "days": report.days,
        "changes": [_change(change) for change in report.changes],
        "asked": {"before": _asked(report.before), "now": _asked(report.after)},
    }


def _change(change: Change) -> dict[str, Any]:
    examples = [
        {"place": call.place, "at": call.at.isoformat(), "session": call.session, "args": _arguments(call)} for call in change.examples
    ]
    return {
        "newly": change.kind,
        "was": change.was,
        "now": change.now,
        "call": change.name,
        "rule": change.rule,
        "place": change.place,
        "code": change.code,
        "reason": change.reason,
        "calls": change.calls,
        "examples": examples,
    }


def _asked(asked: Asked) -> dict[str, Any]:
    return {
        "requests": asked.requests,
        "per_100_calls": asked.per_100,
        "by_approver": dict(asked.approvers),
        "by_approver_per_day": dict(asked.per_day),
    }
