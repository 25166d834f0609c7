"""One rule, compiled: what it is about, its conditions as closures, and what follows from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from otel_runtime.policy.budgets import Budget, compile_over
from otel_runtime.policy.conditions import Condition, compile_conditions
from otel_runtime.policy.names import Globs
from otel_runtime.policy.scope import Scope
from otel_runtime.policy.terms import Approval, Retry, Rule
from otel_runtime.policy.truth import Tri
from otel_runtime.policy.walk import blocks, history_of, uses_origin
from otel_runtime.values.action import Kind
from otel_runtime.values.decision import ApprovalTerms, Requirement, RetryClass, Verdict

__all__ = ["CompiledRule", "RetryTerms", "approval_terms", "compile_rule"]


@dataclass(frozen=True, slots=True)
class RetryTerms:
    """When a call may be tried again.

    Args:
        after_s: Seconds to wait.
        max_attempts: Attempts in all.
        retry_class: Why it failed.
    """

    after_s: float
    max_attempts: int
    retry_class: RetryClass


@dataclass(frozen=True, slots=True)
class CompiledRule:
    """A rule ready to be tried.

    Args:
        id: Its id.
        kind: What it is about.
        verdict: What it says.
        condition: Everything but names and limits.
        order: Position among all rules, only for naming one of several deciding rules.
        names: Patterns for the action's name; None fits every name.
        budget: The limit, or None.
        reason: Its sentence; empty when none was written.
        place: `file:line`.
        shadow: True when it is only recorded.
        approval: Terms for `require-approval`.
        retry: Terms for `retryable-failure`.
        uses_agent: True when a condition looks at the calling agent.
        uses_session: True when a condition looks at labels, history or origins.
        history: Patterns of tools whose start a condition asks about.
        uses_origin: True when a condition asks where a value was seen.
    """

    id: str
    kind: Kind
    verdict: Verdict
    condition: Condition
    order: int = 0
    names: Globs | None = None
    budget: Budget | None = None
    reason: str = ""
    place: str = ""
    shadow: bool = False
    approval: ApprovalTerms | None = None
    retry: RetryTerms | None = None
    uses_agent: bool = False
    uses_session: bool = False
    history: tuple[str, ...] = ()
    uses_origin: bool = False

    @property
    def uses_facts(self) -> bool:
        """True when a facts store is read for it."""
        return self.uses_session or self.budget is not None

    def evaluate(self, scope: Scope) -> Tri:
        """Whether the rule applies; notes in the scope what the call would count on."""
        holds = self.condition.check(scope)
        if holds is False or self.budget is None:
            return holds
        charge = self.budget.charge(scope)
        scope.charges.append(charge)
        return False if charge.over is False else None if holds is None else charge.over


def compile_rule(rule: Rule, order: int = 0, place: str = "") -> CompiledRule:
    """Compile a rule whose terms were checked.

    Raises:
        ValueError: A window, time zone or predicate does not exist.
    """
    parts = [block for block, _ in blocks(rule, ())]
    patterns, origin = rule.patterns, uses_origin(rule)
    return CompiledRule(
        id=rule.id,
        kind=rule.kind,
        verdict=rule.decision,
        condition=compile_conditions(rule, top=True),
        order=order,
        names=None if patterns is None else Globs(patterns),
        budget=None if rule.over is None else compile_over(rule.id, rule.over, shadow=rule.mode == "shadow"),
        reason=rule.reason,
        place=place,
        shadow=rule.mode == "shadow",
        approval=None if rule.approval is None else approval_terms(rule.id, rule.approval, rule.reason),
        retry=_retry_terms(rule) if rule.decision == "retryable-failure" else None,
        uses_agent=any("agent" in part.written for part in parts),
        uses_session=origin or any(part.written & {"after", "when"} for part in parts),
        history=tuple(history_of(rule)),
        uses_origin=origin,
    )


def approval_terms(rule: str, approval: Approval, reason: str) -> ApprovalTerms:
    """The terms of one rule, or of the default."""
    requirement = Requirement(rule, tuple(approval.approvers), approval.quorum, reason)
    return ApprovalTerms((requirement,), approval.expires, approval.use_within, frozenset(approval.edit))


def _retry_terms(rule: Rule) -> RetryTerms:
    retry = rule.retry if rule.retry is not None else Retry()
    return RetryTerms(retry.after, retry.max_attempts, retry.class_ or _retry_class(rule))


def _retry_class(rule: Rule) -> Literal["rate", "budget-window"]:
    over = rule.over
    return (
        "rate"
        if over is None or ((over.calls is not None or over.attempts is not None) and over.per not in {"day", "month"})
        else "budget-window"
    )
