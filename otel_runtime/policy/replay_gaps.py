"""Whether what a trace does not tell of a call could turn its decision, and then why the call is not replayable.

Three values carry most of it: an argument that was cut, an unnamed user and unnamed roles are unknown to the rules. Some things would pass for
something else instead: a missing tag reads as no tag. A rule that asks for one of those is taken to be unknown, whatever it said.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import Final

from otel_runtime.policy.conditions import Condition
from otel_runtime.policy.doubts import BY_SESSION
from otel_runtime.policy.index import Plan
from otel_runtime.policy.recorded import CONTEXT_CUT, NOT_CAPTURED, RecordedCall
from otel_runtime.policy.rules import CompiledRule
from otel_runtime.policy.verdicts import stricter
from otel_runtime.values.decision import Decision, Verdict

__all__ = ["Gaps"]

_ONE: Final = "an argument"
_EVERY: Final = "every argument"
_PREDICATE: Final = "predicate"
_OF_CALLER: Final = ("user", "roles", "tenant", "tags", "context")
_TOPICS: Final = {
    "args": _EVERY,
    "tags": "tags",
    "agent": "agents",
    "user": "user",
    "session.user": "user",
    "role": "roles",
    "session.tenant": "tenant",
}
_BUDGETS: Final = {"user": "user", "tenant": "tenant", "agent": "agents"}
_BY_CATALOGUE: Final = frozenset({"policy.unregistered", "policy.catalogue"})


class Gaps:
    """What is not told of one call.

    Args:
        call: The call.
        plan: What the policy knows of its name.
        caller_told: True when it is known, or taken to be known, who asked.
    """

    def __init__(self, call: RecordedCall, plan: Plan, *, caller_told: bool) -> None:
        self._plan = plan
        self._lost = call.gaps
        # That there was none is told: a limit by session is then unknown in the running program too.
        self._sessionless = call.session is None
        self._found: set[str] = set()
        self._untold: set[str] = set() if caller_told else set(_OF_CALLER)
        if call.agents is None:
            self._untold.add("agents")
        self._blind = self._untold & {"tags", "context", "agents"}
        if call.args is None:
            self._blind.add(_EVERY)
        if self._untold or self._lost:
            self._blind.add(_PREDICATE)
        # The catalogue refuses what does not fit it, and what was not captured may not fit.
        self._unchecked = call.args is None and NOT_CAPTURED in call.gaps and plan.shape(None) is not None

    def add(self, *gaps: str) -> None:
        """Note something else that is not told."""
        self._found.update(gaps)

    def turning(self, decision: Decision, default: Verdict) -> tuple[str, ...]:
        """Why the decision cannot be known; empty when nothing that is missing could turn it.

        Args:
            decision: What the policy said to what is told.
            default: What it says where no rule matches.
        """
        if not self._found and not self._lost and not self._untold:
            return ()
        if self._unchecked:
            return (NOT_CAPTURED,)
        if decision.rule is None and decision.code in _BY_CATALOGUE:
            return ()
        unsure = self._unsure(decision)
        sure = [match.verdict for match in decision.matched if match.outcome == "true" and not match.shadow and match.rule not in unsure]
        base = _strictest(sure) if sure else default
        turned = (stricter(base, rule.verdict) if sure else rule.verdict for rule in unsure.values())
        return () if all(verdict == base for verdict in turned) else self._reasons(unsure.values(), decision)

    def _unsure(self, decision: Decision) -> dict[str, CompiledRule]:
        told = {BY_SESSION} if self._sessionless else set()
        unknown = {match.rule for match in decision.matched if match.outcome == "unknown" and match.why not in told}
        rules = (rule for rule in self._plan.rules if not rule.shadow)
        return {rule.id: rule for rule in rules if rule.id in unknown or not self._blind.isdisjoint(_topics(rule))}

    def _reasons(self, unsure: Collection[CompiledRule], decision: Decision) -> tuple[str, ...]:
        asked = {topic for rule in unsure for topic in _topics(rule)}
        of_arguments = not asked.isdisjoint({_ONE, _EVERY, _PREDICATE})
        lost = {gap for gap in self._lost if (bool(asked & {"context", _PREDICATE}) if gap == CONTEXT_CUT else of_arguments)}
        found = self._found | lost | {f"{topic} not recorded" for topic in self._untold & asked}
        ids = {rule.id for rule in unsure}
        return tuple(sorted(found or {f"{match.why} is not known" for match in decision.matched if match.rule in ids}))


def _strictest(verdicts: Iterable[Verdict]) -> Verdict:
    found: Verdict = "allow"
    for verdict in verdicts:
        found = stricter(found, verdict)
    return found


def _topics(rule: CompiledRule) -> Iterator[str]:
    yield from _asked(rule.condition)
    if rule.budget is not None and rule.budget.by in _BUDGETS:
        yield _BUDGETS[rule.budget.by]
    if rule.budget is not None and rule.budget.argument:
        yield _ONE


def _asked(condition: Condition) -> Iterator[str]:
    """What a condition looks at; a reference stands in its label."""
    if condition.field in _TOPICS:
        yield _TOPICS[condition.field]
    if "args." in condition.label:
        yield _ONE
    if "context." in condition.label:
        yield "context"
    if condition.field.startswith(_PREDICATE):
        yield _PREDICATE
    for part in condition.parts:
        yield from _asked(part)
