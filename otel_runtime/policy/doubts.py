"""Name what could not be known about a rule, for people: computed only when something is unknown."""

from __future__ import annotations

from typing import Final

from otel_runtime.policy.conditions import Condition
from otel_runtime.policy.rules import CompiledRule
from otel_runtime.policy.scope import Scope

__all__ = ["BY_SESSION", "doubt_of"]

BY_SESSION: Final = "the limit by session"


def doubt_of(rule: CompiledRule, scope: Scope) -> str:
    """What makes the rule unknown, such as `args.amount`."""
    leaf = _unknown_leaf(rule.condition, scope)
    if leaf is not None:
        return f"`{leaf.field or leaf.label}`"
    return f"the limit by {rule.budget.by}" if rule.budget is not None else "a condition"


def _unknown_leaf(condition: Condition, scope: Scope) -> Condition | None:
    if condition.check(scope) is not None:
        return None
    for part in condition.parts:
        leaf = _unknown_leaf(part, scope)
        if leaf is not None:
            return leaf
    return condition
