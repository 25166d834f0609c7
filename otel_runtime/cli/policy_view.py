"""How policy faults and explanations look on a terminal; plain text when piped."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text
from rich.tree import Tree

from otel_runtime.errors import Fault
from otel_runtime.policy.explain import ConditionExplanation, Explanation, RuleExplanation
from otel_runtime.policy.truth import Tri, spell
from otel_runtime.values.action import Action

__all__ = ["console", "print_explanation", "print_fault"]

_STYLES: dict[Tri, str] = {True: "green", False: "dim", None: "yellow"}
_VERDICTS = {"allow": "bold green", "deny": "bold red", "require-approval": "bold yellow", "retryable-failure": "bold magenta"}


def console() -> Console:
    """Standard output, with colours where a terminal shows them."""
    return Console(highlight=False)


def print_fault(out: Console, fault: Fault) -> None:
    """One fault with its line and a caret."""
    head, _, rest = str(fault).partition("\n")
    text = Text(head, style="red" if fault.severity == "error" else "yellow")
    # Never wrapped: a caret would point at nothing.
    out.print(text.append(f"\n{rest}", style="default") if rest else text, soft_wrap=True)


def print_explanation(out: Console, action: Action, explanation: Explanation) -> None:
    """The decision, then every rule about the call."""
    decision = explanation.decision
    verdict = decision.value if decision.would_be is None else f"{decision.value} (shadow; it would be {decision.would_be})"
    by = f"rule {decision.rule} at {decision.place}" if decision.rule is not None else decision.code
    out.print(Text.assemble((verdict, _VERDICTS[decision.value]), f"  {action.kind} {action.name}  by {by}"), soft_wrap=True)
    out.print(Text(f"  {decision.reason}"), soft_wrap=True)
    if decision.approval is not None:
        for requirement in decision.approval.requirements:
            out.print(
                Text(f"  asks {' or '.join(requirement.approvers)}, {requirement.quorum} of them ({requirement.rule})"), soft_wrap=True
            )
    if decision.retry is not None:
        out.print(Text(f"  again after {decision.retry.after_s:g} s, attempt {decision.retry.attempt} of {decision.retry.max_attempts}"))
    for rule in explanation.rules:
        out.print(_rule(rule))
    if explanation.others:
        out.print(Text(f"{explanation.others} rules are about other names", style="dim"))


def _rule(rule: RuleExplanation) -> Tree:
    shadow = " (shadow)" if rule.shadow else ""
    agent = f" as {rule.agent}" if rule.agent is not None else ""
    label = Text.assemble(
        (spell(rule.outcome), _STYLES[rule.outcome]), f"  {rule.rule}: {rule.verdict}{shadow}{agent}  ", (rule.place, "dim")
    )
    tree = Tree(label)
    for condition in rule.conditions:
        _grow(tree, condition)
    return tree


def _grow(tree: Tree, condition: ConditionExplanation) -> None:
    why = f"  ({condition.why})" if condition.why else ""
    branch = tree.add(Text.assemble((spell(condition.outcome), _STYLES[condition.outcome]), f"  {condition.label}{why}"))
    for part in condition.parts:
        _grow(branch, part)
