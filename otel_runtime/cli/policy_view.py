"""How policy faults and explanations look on a terminal; plain text when piped."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Final

from rich.console import Console
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from otel_runtime.errors import Fault
from otel_runtime.policy.cases import Coverage
from otel_runtime.policy.explain import ConditionExplanation, Explanation, RuleExplanation
from otel_runtime.policy.truth import Tri, spell
from otel_runtime.values.action import Action

__all__ = ["console", "print_coverage", "print_explanation", "print_faults", "printable"]

_STYLES: dict[Tri, str] = {True: "green", False: "dim", None: "yellow"}
# How conditions on what happened in a session are spelled.
_OF_SESSION = ("after ", "over ")
_NARROW: Final = 64
_VERDICTS = {"allow": "bold green", "deny": "bold red", "require-approval": "bold yellow", "retryable-failure": "bold magenta"}


def console() -> Console:
    """Standard output: as wide as the terminal, with colours where it shows them; wide and plain when piped."""
    from otel_runtime.telemetry.console_tree import console_for

    out = console_for(sys.stdout)
    # rich would end the program with 1, which here says something about the policy; a reader who has seen enough changes no answer.
    setattr(out, "on_broken_pipe", _unread)  # noqa: B010  # a method to the type checkers
    return out


def _unread() -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def printable(text: str) -> str:
    """The text without characters that clear or reorder a terminal: rules, calls and traces were written by others."""
    return text if text.isprintable() else "".join(char if char.isprintable() else " " for char in text)


def print_faults(out: Console, faults: Sequence[Fault]) -> None:
    """Each fault with its line and a caret; on a terminal a long line is shown around its caret, and piped it is whole."""
    for fault in faults:
        head, *rest = str(fault).split("\n")
        place, bracket, message = head.partition("]: ")
        style = "red" if fault.severity == "error" else "yellow"
        out.print(Text.assemble((f"{place}{bracket}", f"bold {style}"), message), soft_wrap=not out.is_terminal)
        if len(rest) == 2 and out.is_terminal:
            rest = list(_around_caret(rest[0], rest[1], out.width))
        for line, look in zip(rest, ("dim", style), strict=False):
            out.print(Text(line, style=look), soft_wrap=True)


def _around_caret(line: str, caret: str, width: int) -> tuple[str, str]:
    """A line cut to the width, and the caret below the same character: wrapped, it would point at nothing."""
    if len(line) < width or "\t" in line:
        return line, caret
    at, room = len(caret) - 1, width - 3
    start = max(0, min(at - room // 2, len(line) - room))
    end = start + room
    shown = f"{'…' if start else ''}{line[start:end]}{'…' if end < len(line) else ''}"
    return shown, " " * (at - start + (1 if start else 0)) + "^"


def print_coverage(out: Console, coverage: Sequence[Coverage], cases: int, required: float | None) -> None:
    """A table of rules, the ones whose cases show too little with what is missing; then the sum."""
    # Five columns on a narrow terminal would break words; what is missing stands below the rule there.
    narrow = out.width < _NARROW
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("", "rule", "applies", "does not", *([] if narrow else [""])):
        counts = name in {"applies", "does not"}
        table.add_column(name, justify="right" if counts else "left", overflow="fold", no_wrap=counts)
    for cover in coverage:
        style, missing = "" if cover.whole else "yellow", _missing(cover)
        table.add_row(
            Text("ok" if cover.whole else "--", "green" if cover.whole else style),
            f"{cover.rule}\n{missing}" if narrow and missing else cover.rule,
            str(cover.hits),
            str(cover.misses),
            *([] if narrow else [missing]),
            style=style,
        )
    out.print(table)
    whole = sum(cover.whole for cover in coverage)
    percent = 100 * whole / len(coverage) if coverage else 100.0
    short = required is not None and percent < required
    needed = f", {required:g}% are required" if short else ""
    passed = "1 case passes" if cases == 1 else f"{cases} cases pass"
    said = f"{passed}; {whole} of {len(coverage)} rules are seen both to apply and not to ({percent:.0f}%{needed})"
    out.print(
        Text(said, style="bold red" if short else "bold green" if whole == len(coverage) else "bold yellow"), soft_wrap=not out.is_terminal
    )


def _missing(cover: Coverage) -> str:
    if cover.whole:
        return ""
    wanted = [name for name, seen in (("match", cover.hits > 0), ("no_match", cover.plain or cover.misses > 0)) if not seen]
    return f"needs `{'` and `'.join(wanted)}`"


def print_explanation(out: Console, action: Action, explanation: Explanation, *, told: bool = True) -> None:
    """The decision, then every rule about the call.

    Args:
        out: Where to print.
        action: The call.
        explanation: Its decision and the rules about it.
        told: False when nobody said what happened in the session before.
    """
    decision = explanation.decision
    verdict = decision.value if decision.would_be is None else f"{decision.value} (shadow; it would be {decision.would_be})"
    by = f"rule {decision.rule} at {decision.place}" if decision.rule is not None else decision.code
    what = printable(f"  {action.kind} {action.name}  by {by}")
    out.print(Text.assemble((verdict, _VERDICTS[decision.value]), what), soft_wrap=not out.is_terminal)
    out.print(Text(printable(f"  {decision.reason}")), soft_wrap=not out.is_terminal)
    if decision.approval is not None:
        for requirement in decision.approval.requirements:
            out.print(
                Text(printable(f"  asks {' or '.join(requirement.approvers)}, {requirement.quorum} of them ({requirement.rule})")),
                soft_wrap=not out.is_terminal,
            )
    if decision.retry is not None:
        out.print(Text(f"  again after {decision.retry.after_s:g} s, attempt {decision.retry.attempt} of {decision.retry.max_attempts}"))
    for rule in explanation.rules:
        out.print(_rule(rule))
    if explanation.others:
        many = f"{explanation.others} rules are about other names" if explanation.others > 1 else "1 rule is about other names"
        out.print(Text(many, style="dim"))
    for hint in explanation.hints:
        out.print(Text(printable(f"hint: {hint}"), style="cyan"), soft_wrap=not out.is_terminal)
    if not told and any(_asks_session(rule) for rule in explanation.rules):
        hint = "rules ask what happened before; this is a fresh session, so nothing did. Say it with --session FILE"
        out.print(Text(f"hint: {hint}", style="cyan"), soft_wrap=not out.is_terminal)


def _asks_session(rule: RuleExplanation) -> bool:
    return any(condition.label.startswith(_OF_SESSION) or _inside(condition) for condition in rule.conditions)


def _inside(condition: ConditionExplanation) -> bool:
    return any(part.label.startswith(_OF_SESSION) or _inside(part) for part in condition.parts)


def _rule(rule: RuleExplanation) -> Tree:
    shadow = " (shadow)" if rule.shadow else ""
    agent = f" as {rule.agent}" if rule.agent is not None else ""
    label = Text.assemble(
        (spell(rule.outcome), _STYLES[rule.outcome]),
        printable(f"  {rule.rule}: {rule.verdict}{shadow}{agent}  "),
        (printable(rule.place), "dim"),
    )
    tree = Tree(label)
    for condition in rule.conditions:
        _grow(tree, condition)
    return tree


def _grow(tree: Tree, condition: ConditionExplanation) -> None:
    why = f"  ({condition.why})" if condition.why else ""
    branch = tree.add(Text.assemble((spell(condition.outcome), _STYLES[condition.outcome]), printable(f"  {condition.label}{why}")))
    for part in condition.parts:
        _grow(branch, part)
