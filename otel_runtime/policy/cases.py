"""Examples written beside the rules, tried when the policy is loaded: a rule that does not do what its author wrote down is refused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Final

from otel_runtime.policy.budgets import CALENDAR
from otel_runtime.policy.case_expectations import missed
from otel_runtime.policy.case_model import EVERY, NOW, Call, Case, FileCase, limit_named
from otel_runtime.policy.catalogue import ToolEntry
from otel_runtime.policy.checks import Finding
from otel_runtime.policy.decide import CompiledPolicy, decide, needs_of, scope_of
from otel_runtime.policy.explain import explain_rule, first_not_true, spelled
from otel_runtime.policy.names import is_glob
from otel_runtime.policy.protocol import CounterKey, FactsView, Needs
from otel_runtime.policy.provenance import Sightings
from otel_runtime.policy.rules import CompiledRule
from otel_runtime.policy.terms import Rule
from otel_runtime.policy.truth import Tri, all_of, any_of, spell
from otel_runtime.policy.walk import Path
from otel_runtime.settings.nearest import did_you_mean
from otel_runtime.values.action import Action, Kind, Parameter, ToolSignature

__all__ = ["UNTRIED", "CaseReport", "Coverage", "Trial", "assumed_signature", "check_file_cases", "check_rule_cases", "labels_after"]

# Code of the warning about a case that calls a tool of the program with arguments it does not take.
UNTRIED: Final = "P115"


@dataclass(frozen=True, slots=True)
class Trial:
    """What cases are tried on.

    Args:
        policy: The compiled policy, as it is enforced: in shadow nobody is asked, and cases say who would be.
        signatures: Tools whose signature a decorator gives.
        shadow: True when the file itself only records.
        limits: Unit, owner and window of every limit.
    """

    policy: CompiledPolicy
    signatures: Mapping[str, ToolSignature]
    shadow: bool = False
    limits: frozenset[tuple[str, str, str]] = field(init=False)

    def __post_init__(self) -> None:
        """Look for the limits of all rules once."""
        budgets = [rule.budget for rule in self.policy.rules if rule.budget is not None]
        object.__setattr__(self, "limits", frozenset((budget.unit, budget.by, _span(budget.window(NOW))) for budget in budgets))


@dataclass(frozen=True, slots=True)
class CaseReport:
    """What the cases of one place came to.

    Args:
        findings: One per failing case.
        hits: How many cases made which rule match.
        misses: How many cases called something that a rule is about, and did not make it match.
        tried: How many cases there are.
    """

    findings: tuple[Finding, ...]
    hits: Mapping[str, int]
    misses: Mapping[str, int]
    tried: int


@dataclass(frozen=True, slots=True)
class Coverage:
    """How well the cases try one rule.

    Args:
        rule: Its id.
        place: `file:line`.
        hits: Cases to which it applies: its `match`, and calls under `cases`.
        misses: Cases that call what it is about and to which it does not.
        plain: True when it has no condition besides the name.
    """

    rule: str
    place: str
    hits: int
    misses: int
    plain: bool = False

    @property
    def whole(self) -> bool:
        """True when it is seen both to apply and, unless it asks for nothing but the name, not to."""
        return self.hits > 0 and (self.plain or self.misses > 0)


def check_rule_cases(rule: Rule, compiled: CompiledRule, path: Path, trial: Trial) -> CaseReport:
    """Try `match` and `no_match` of one rule."""
    findings: list[Finding] = []
    for key, cases, wanted in (("match", rule.match, True), ("no_match", rule.no_match, False)):
        for at, case in enumerate(cases):
            findings.extend(_undeclared(case, (*path, key, at), trial))
            findings.extend(_tried(rule, compiled, case, (*path, key, at), trial, wanted=wanted))
    return CaseReport(tuple(findings), {rule.id: len(rule.match)}, {rule.id: len(rule.no_match)}, len(rule.match) + len(rule.no_match))


def check_file_cases(cases: Iterable[FileCase], path: Path, trial: Trial) -> CaseReport:
    """Try calls on the whole policy."""
    findings: list[Finding] = []
    hits: Counter[str] = Counter()
    misses: Counter[str] = Counter()
    tried = 0
    for at, case in enumerate(cases):
        tried += 1
        findings.extend(_undeclared(case, (*path, at), trial))
        action = _action(case, case.call, case.call.kind, case.call.tool, trial)
        decision = decide(action, trial.policy, _facts(case, action, trial), NOW).decision
        hit = {match.rule for match in decision.matched if match.outcome == "true"}
        hits.update(hit)
        misses.update({rule.id for rule in trial.policy.index.plan(action).rules} - {match.rule for match in decision.matched})
        got = decision.would_be if trial.shadow and decision.would_be is not None else decision.value
        if got != case.expect and decision.code == "policy.catalogue" and _of_the_program(action.name, trial):
            findings.append(_untried((*path, at, "call"), decision.reason))
        elif got != case.expect:
            by = f"rule `{decision.rule}`" if decision.rule is not None else decision.code
            message = f"case fails: expected `{case.expect}`, got `{got}` by {by}: {decision.reason}"
            findings.append(Finding((*path, at, "expect"), "P020", message))
        else:
            findings.extend(Finding((*path, at, *key), "P020", message) for key, message in missed(case, decision))
    return CaseReport(tuple(findings), hits, misses, tried)


def _undeclared(case: Case | FileCase, path: Path, trial: Trial) -> Iterator[Finding]:
    """Facts and limits that no rule could read: a slip of the pen would leave the real one unknown."""
    known = trial.policy.context_types
    for name in case.context:
        if name not in known:
            hint = did_you_mean(name, known) or f"; declare it, such as `context: {{{name}: str}}`"
            yield Finding((*path, "context", name), "P017", f"`{name}` is not declared under `context`{hint}", "key")
    for name in case.used:
        if name != EVERY and limit_named(name) not in trial.limits:
            message = f"no rule of this policy has the limit `{name}`: what is counted, its `by` and its `per`"
            yield Finding((*path, "used", name), "P017", message, "key")


def _tried(rule: Rule, compiled: CompiledRule, case: Case, path: Path, trial: Trial, *, wanted: bool) -> Iterator[Finding]:
    name = case.tool if case.tool is not None else _only_name(rule)
    if name is None:
        yield Finding(path, "P020", "say which `tool` this case calls: the rule is about several")
        return
    action = _action(case, case, rule.kind, name, trial)
    plan = trial.policy.index.plan(action)
    if compiled not in plan.rules:
        if wanted:
            yield Finding(path, "P020", f"`match` fails: the rule is not about `{name}`")
        return
    shape = plan.shape(action.signature)
    misfit = shape.misfit(action.args) if shape is not None else ""
    if misfit and wanted and _of_the_program(name, trial):
        yield _untried(path, f"the arguments of `{name}` do not fit: {misfit}")
    elif misfit and wanted:
        yield Finding(path, "P020", f"`match` fails: the call never reaches the rule, {misfit}")
    elif not misfit:
        yield from _compared(compiled, action, case, path, trial, wanted=wanted)


def _of_the_program(name: str, trial: Trial) -> bool:
    """True when only a decorator says what the tool takes: then it is the program that differs from what the author had in mind."""
    entry = trial.policy.catalogue.get(name)
    return name in trial.signatures and (entry is None or entry.signature is None)


def _untried(path: Path, why: str) -> Finding:
    return Finding(
        path, UNTRIED, f"this case is not tried, because it calls a tool of the program in another way than it is written there: {why}"
    )


def _compared(rule: CompiledRule, action: Action, case: Case, path: Path, trial: Trial, *, wanted: bool) -> Iterator[Finding]:
    facts = _facts(case, action, trial)
    scope = scope_of(action, trial.policy.index.plan(action), trial.policy, facts, NOW)
    outcomes: list[Tri] = []
    reasons: list[str] = []
    for agent in dict.fromkeys(action.agents) or (None,):
        scope.agent = agent
        explained = explain_rule(rule, scope)
        outcomes.append(explained.outcome)
        reasons.extend(spelled(condition) for condition in [first_not_true(explained)] if condition is not None)
    outcome = all_of(outcomes) if rule.verdict == "allow" else any_of(outcomes)
    if outcome is wanted:
        return
    why = f": {reasons[0]}" if reasons else ""
    if wanted:
        yield Finding(path, "P020", f"`match` fails: the rule is {spell(outcome)} here and must be plainly true{why}")
    else:
        yield Finding(path, "P020", f"`no_match` fails: the rule is {spell(outcome)} here and must be plainly false{why}")


def _only_name(rule: Rule) -> str | None:
    patterns = rule.patterns
    if patterns is None:
        return None
    names = [pattern for pattern in patterns if not is_glob(pattern)]
    return names[0] if len(names) == 1 else None


def _action(case: Case | FileCase, call: Case | Call, kind: Kind, name: str, trial: Trial) -> Action:
    return Action(
        kind=kind,
        name=name,
        args=call.args,
        signature=trial.signatures.get(name) or assumed_signature(call.args),
        tags=frozenset(call.tags),
        agents=tuple(case.agent),
        session=case.session,
        user=case.user,
        roles=frozenset((*case.role, *case.roles)),
        tenant=case.tenant,
        context=case.context,
    )


def assumed_signature(args: Mapping[str, object]) -> ToolSignature:
    """What a tool that nobody declares is taken to accept: the arguments of the case, and others."""
    return ToolSignature(tuple(Parameter(name, required=False, nullable=True) for name in args), open=True)


def _facts(case: Case | FileCase, action: Action, trial: Trial) -> FactsView:
    needs = needs_of(action, trial.policy, NOW)
    counters = {key: _standing(case, key) for key in (needs.counters if needs is not None else ())}
    if case.session is None:
        return FactsView(counters)
    # What started has put its labels on, unless the case says which are there.
    given = case.labels if "labels" in case.model_fields_set else labels_after(case.history, trial.policy.catalogue)
    labels = {label: frozenset({"case"}) for label in given}
    return FactsView(counters, labels, frozenset(case.history), origins=_origins(case, needs))


def _standing(case: Case | FileCase, counter: CounterKey) -> Decimal:
    limit = (counter.name.rpartition(":")[2], counter.scope.partition(":")[0], _span(counter.window))
    named: dict[tuple[str, str, str], Decimal] = {limit_named(name): amount for name, amount in case.used.items() if name != EVERY}
    return named[limit] if limit in named else case.used.get(EVERY, Decimal(0))


def _span(window: str) -> str:
    """A window without the moment and the zone."""
    kind = window.partition(":")[0]
    return kind if kind in CALENDAR else window


def labels_after(history: Iterable[str], catalogue: Mapping[str, ToolEntry]) -> frozenset[str]:
    """The labels of a session in which these tools started."""
    return frozenset().union(*(catalogue[tool].adds for tool in history if tool in catalogue))


def _origins(case: Case | FileCase, needs: Needs | None) -> Mapping[str, frozenset[str]]:
    seen = Sightings()
    seen.add("user", list(case.user_said))
    for source, value in case.seen.items():
        seen.add(source, value)
    return {key: seen.of(key) for key in (needs.values if needs is not None else ())}
