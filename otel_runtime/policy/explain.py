"""Why a decision is what it is: every rule that can matter and every condition, by running the closures that decide."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from otel_runtime.policy.conditions import Condition
from otel_runtime.policy.decide import CompiledPolicy, decide, scope_of
from otel_runtime.policy.nearness import near_misses
from otel_runtime.policy.probes import Probe
from otel_runtime.policy.protocol import FactsView
from otel_runtime.policy.rules import CompiledRule
from otel_runtime.policy.scope import Scope, show
from otel_runtime.policy.truth import Tri, all_of, spell
from otel_runtime.values.action import Action
from otel_runtime.values.decision import Decision, Verdict

__all__ = ["ConditionExplanation", "Explanation", "RuleExplanation", "explain", "explain_rule", "first_not_true", "spelled"]


class ConditionExplanation(NamedTuple):
    """One condition and what it came to.

    Args:
        label: As the rule spells it.
        outcome: True, False or None for unknown.
        why: The value that was looked at.
        parts: What it is composed of.
    """

    label: str
    outcome: Tri
    why: str = ""
    parts: tuple[ConditionExplanation, ...] = ()


class RuleExplanation(NamedTuple):
    """One rule and what it came to.

    Args:
        rule: Its id.
        verdict: What it says.
        outcome: True, False or None for unknown.
        place: `file:line`.
        shadow: True when it is only recorded.
        agent: From whose point of view; None where no agent calls.
        conditions: Its conditions.
    """

    rule: str
    verdict: Verdict
    outcome: Tri
    place: str
    shadow: bool
    agent: str | None
    conditions: tuple[ConditionExplanation, ...]


class Explanation(NamedTuple):
    """A decision and the rules behind it.

    Args:
        decision: The engine's own decision.
        rules: Rules about this name; rules about other names are left out.
        others: How many rules were left out.
        hints: Where no rule is about the name: what may have been meant.
    """

    decision: Decision
    rules: tuple[RuleExplanation, ...]
    others: int
    hints: tuple[str, ...] = ()


def explain(action: Action, policy: CompiledPolicy, facts: FactsView | None, now: datetime, attempt: int = 1) -> Explanation:
    """Decide and explain; arguments as of `decide`."""
    plan = policy.index.plan(action)
    agents = tuple(dict.fromkeys(action.agents)) or (None,)
    rules = []
    for rule in plan.rules:
        for agent in agents if rule.uses_agent else agents[:1]:
            scope = scope_of(action, plan, policy, facts, now)
            scope.agent = agent
            rules.append(explain_rule(rule, scope))
    decision = decide(action, policy, facts, now, attempt).decision
    hints = () if decision.rule is not None or decision.value == "allow" else (*_nearest(rules), *near_misses(action, policy))
    return Explanation(decision, tuple(rules), len(policy.rules) - len(plan.rules), hints)


def _nearest(rules: list[RuleExplanation]) -> tuple[str, ...]:
    """The rule that would open the call and fails by the fewest conditions."""
    opening = [rule for rule in rules if rule.verdict in {"allow", "require-approval"} and not rule.shadow]
    if not opening:
        return ()
    nearest = min(opening, key=lambda rule: sum(condition.outcome is not True for condition in rule.conditions))
    failing = first_not_true(nearest)
    why = f", but {spelled(failing)}" if failing is not None else ""
    return (f"rule `{nearest.rule}` at {nearest.place} says {nearest.verdict}{why}",)


def explain_rule(rule: CompiledRule, scope: Scope) -> RuleExplanation:
    """One rule in one scope."""
    conditions = [_condition(part, scope) for part in _top(rule.condition)]
    if rule.budget is not None:
        conditions.append(_limit(rule, scope))
    outcome = all_of([condition.outcome for condition in conditions])
    return RuleExplanation(rule.id, rule.verdict, outcome, rule.place, rule.shadow, scope.agent, tuple(conditions))


def _top(condition: Condition) -> tuple[Condition, ...]:
    return condition.parts if condition.label == "all of" else (condition,)


def _condition(condition: Condition, scope: Scope) -> ConditionExplanation:
    outcome = condition.check(scope)
    if condition.subject is None:
        return ConditionExplanation(condition.label, outcome, "", tuple([_condition(part, scope) for part in condition.parts]))
    value = condition.subject(scope)
    probe = condition.probe
    probed = _probed(probe, value, scope) if probe is not None and probe.parts else ()
    return ConditionExplanation(condition.label, outcome, show(value), probed)


def _probed(probe: Probe, value: object, scope: Scope) -> tuple[ConditionExplanation, ...]:
    return tuple(
        [
            ConditionExplanation(part.label, part.check(value, scope), "", _probed(part, value, scope) if part.parts else ())
            for part in probe.parts
        ]
    )


def _limit(rule: CompiledRule, scope: Scope) -> ConditionExplanation:
    budget = rule.budget
    if budget is None:
        raise ValueError("expected a rule with a limit")
    charge = budget.charge(scope)
    counters = scope.facts.counters if scope.facts is not None else {}
    stands = ", ".join(f"{counters.get(key, 'unknown')} of {budget.limit:f} used" for key in charge.keys) or f"no {budget.by} is known"
    adds = "an unknown amount" if charge.amount is None else f"{charge.amount:f}"
    return ConditionExplanation(f"over {budget.unit} {budget.limit:f} by {budget.by}", charge.over, f"{stands}, this call adds {adds}")


def first_not_true(explanation: RuleExplanation) -> ConditionExplanation | None:
    """The condition that keeps a rule from plainly applying: a false one before an unknown one."""
    doubtful = [condition for condition in explanation.conditions if condition.outcome is not True]
    return min(doubtful, key=lambda condition: condition.outcome is None) if doubtful else None


def spelled(explanation: ConditionExplanation) -> str:
    """`label is false (value)`."""
    value = f" ({explanation.why})" if explanation.why else ""
    return f"`{explanation.label}` is {spell(explanation.outcome)}{value}"
