"""The pure heart: one action, one compiled policy, the facts, the time; out comes a ruling.

Theory of operation:

1. The catalogue: an unregistered tool, or arguments that do not fit the signature, are refused before any rule is tried.
2. The index gives the rules that can matter for this name. Each is true, false or unknown; nothing else is computed for false ones.
3. Where a rule looks at the calling agent, the rules are tried once per agent of the chain and the strictest verdict counts.
4. The strictest verdict wins. When it lets the body run, now or once approved, the ruling says what must be begun: counters, labels,
   history.

INVARIANT: nothing here reads a clock, a store or the environment; predicates of the operator are the only foreign code. Two operators,
`under` and `file_name`, ask the file system where a path leads: a bounded snapshot of the world at decision time (see `places`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from otel_runtime.policy.argtypes import ArgType
from otel_runtime.policy.budgets import Charge
from otel_runtime.policy.catalogue import Shape, ToolEntry
from otel_runtime.policy.doubts import doubt_of
from otel_runtime.policy.index import Index, Plan
from otel_runtime.policy.names import no_such_tool
from otel_runtime.policy.places import Places
from otel_runtime.policy.protocol import CounterKey, FactsView, Needs, Reservation, Ruling, Start
from otel_runtime.policy.rules import CompiledRule
from otel_runtime.policy.scope import Scope
from otel_runtime.policy.truth import Tri
from otel_runtime.policy.verdicts import Defaults, Outcome, Situation, judge, refuse, stricter, verdict_of
from otel_runtime.values.action import Action
from otel_runtime.values.decision import Decision, Verdict

__all__ = ["CompiledPolicy", "decide", "needs_of", "scope_of"]

_MAX_RULED: Final = 256
_STOPS: Final = frozenset({"deny", "retryable-failure"})
_NOWHERE: Final = Places()


@dataclass(frozen=True, slots=True)
class CompiledPolicy:
    """One immutable set of rules.

    Args:
        rules: In the order of the files.
        index: Finds the rules of a name.
        defaults: Default verdict, mode and digest.
        catalogue: Tools the policy declares.
        context_types: Facts the application supplies.
        places: Folders and protected files that paths are compared with.
    """

    rules: tuple[CompiledRule, ...]
    index: Index
    defaults: Defaults
    catalogue: Mapping[str, ToolEntry]
    context_types: Mapping[str, ArgType]
    places: Places = _NOWHERE


def needs_of(action: Action, policy: CompiledPolicy, now: datetime) -> Needs | None:
    """The facts that can matter for this action; None when none do."""
    plan = policy.index.plan(action)
    if not plan.needs_facts:
        return None
    keys = tuple(key for budget in plan.budgets for key in budget.keys(action, now))
    session = action.session if plan.uses_session else None
    if not keys and session is None:
        return None
    if session is None:
        return Needs(keys)
    return Needs(keys, session, _asked(action) if plan.uses_origin else (), action.around)


def _asked(action: Action) -> tuple[str, ...]:
    """The values whose origin rules may ask; what is beyond the cap stays unknown."""
    # Only rules that ask for origins load what reads them.
    from otel_runtime.policy.provenance import MAX_ASKED, key_of, leaves

    # The texts of every session around are looked through, so that of more sessions fewer values are asked for.
    most = max(1, MAX_ASKED // (1 + len(action.around)))
    keys: dict[str, None] = {}
    for value in leaves(list(action.args.values())):
        if (key := key_of(value)) is not None:
            keys[key] = None
            if len(keys) >= most:
                break
    return tuple(keys)


def decide(action: Action, policy: CompiledPolicy, facts: FactsView | None, now: datetime, attempt: int = 1) -> Ruling:
    """Decide one action; everything it depends on is in the arguments."""
    plan = policy.index.plan(action)
    scope = scope_of(action, plan, policy, facts, now)
    refusal = _refusal(action, plan, scope.shape, policy.defaults)
    if refusal is not None:
        return _unjudged(refusal, action, plan, scope)
    ruling = _judged(plan, scope, policy.defaults, attempt)
    if not (scope.charges or plan.adds or plan.in_history):
        return ruling
    stops = ruling.decision.value in _STOPS
    enforce = not policy.defaults.shadow
    start = None if stops else _start(action, plan, scope.charges, enforce=enforce)
    tried = _tried(scope.charges, enforce=enforce) if plan.attempts else None
    uses = tuple(use for charge in scope.charges if (use := charge.use()) is not None) if scope.charges else ()
    return Ruling(ruling.decision, start, uses, tried) if start is not None or uses or tried is not None else ruling


def _unjudged(refusal: Decision, action: Action, plan: Plan, scope: Scope) -> Ruling:
    """A call that is refused before any rule is tried is an attempt all the same."""
    for agent in dict.fromkeys(action.agents) or (None,):
        scope.agent = agent
        for rule in plan.attempts:
            rule.evaluate(scope)
    # Only a policy in shadow mode lets such a call run.
    start = _start(action, plan, scope.charges, enforce=False) if refusal.shadow else None
    return Ruling(refusal, start, (), _tried(scope.charges, enforce=False))


def scope_of(action: Action, plan: Plan, policy: CompiledPolicy, facts: FactsView | None, now: datetime) -> Scope:
    """What the conditions of this action read."""
    tags = action.tags | plan.tags if plan.tags else action.tags
    return Scope(action, facts, now, plan.shape(action.signature), policy.context_types, tags, policy.places, policy.catalogue)


def _refusal(action: Action, plan: Plan, shape: Shape | None, defaults: Defaults) -> Decision | None:
    if action.kind != "tool":
        return None
    if not plan.valid or not (action.registered or plan.known):
        return refuse(no_such_tool(action.name, registered=action.registered), "policy.unregistered", defaults)
    misfit = shape.misfit(action.args) if shape is not None else ""
    return refuse(f"the arguments of `{action.name}` do not fit: {misfit}", "policy.catalogue", defaults) if misfit else None


def _judged(plan: Plan, scope: Scope, defaults: Defaults, attempt: int) -> Ruling:
    if plan.uses_agent and len(scope.action.agents) > 1:
        return Ruling(_judged_by_chain(plan, scope, defaults, attempt))
    held, ruled = _held(plan, scope)
    # Only plain rules hold: the ruling is the same object as last time.
    if ruled is not None and (known := plan.ruled.get(ruled)) is not None:
        return known
    outcomes = _outcomes(held, scope)
    ruling = Ruling(judge(outcomes, outcomes, defaults, _situation(scope, attempt)))
    if ruled is not None and len(plan.ruled) < _MAX_RULED:
        plan.ruled[ruled] = ruling
    return ruling


def _held(plan: Plan, scope: Scope) -> tuple[list[tuple[CompiledRule, Tri]], tuple[int, ...] | None]:
    """Rules that are not false, and their orders when all of them plainly hold and depend on nothing else."""
    held: list[tuple[CompiledRule, Tri]] = []
    orders: tuple[int, ...] = ()
    plain = True
    for rule, tries in plan.tries:
        holds = tries(scope)
        if holds is False:
            continue
        plain = plain and holds is True and rule.verdict != "retryable-failure"
        orders = (*orders, rule.order)
        held.append((rule, holds))
    return held, orders if plain else None


def _outcomes(held: list[tuple[CompiledRule, Tri]], scope: Scope) -> list[Outcome]:
    return [Outcome(rule, holds, "" if holds else doubt_of(rule, scope)) for rule, holds in held]


def _judged_by_chain(plan: Plan, scope: Scope, defaults: Defaults, attempt: int) -> Decision:
    situation = _situation(scope, attempt)
    views: list[list[Outcome]] = []
    for agent in dict.fromkeys(scope.action.agents):
        scope.agent = agent
        views.append(_outcomes(_held(plan, scope)[0], scope))
    verdicts: list[Verdict] = [verdict_of(_enforced(view), defaults, situation) for view in views]
    strictest = verdicts[0]
    for verdict in verdicts[1:]:
        strictest = stricter(strictest, verdict)
    counting = [view for view, verdict in zip(views, verdicts, strict=True) if verdict == strictest]
    # Shadow rules are judged with the strictest callers, whose view is the one that is enforced.
    return judge(_merged(counting), _merged(views), defaults, situation)


def _enforced(view: list[Outcome]) -> list[Outcome]:
    return [outcome for outcome in view if not outcome.rule.shadow]


def _merged(views: list[list[Outcome]]) -> list[Outcome]:
    merged: dict[int, Outcome] = {}
    for outcome in (outcome for view in views for outcome in view):
        known = merged.get(outcome.rule.order)
        # What one caller makes certain is certain.
        if known is None or known.holds is None:
            merged[outcome.rule.order] = outcome
    return sorted(merged.values(), key=lambda outcome: outcome.rule.order)


def _situation(scope: Scope, attempt: int) -> Situation:
    return Situation(scope.action, attempt, scope.facts.failure if scope.facts is not None else "")


def _start(action: Action, plan: Plan, charges: list[Charge], *, enforce: bool) -> Start | None:
    """What becomes true when the body starts; None when nothing does."""
    session = action.session if plan.adds or plan.in_history else None
    if session is None and not charges:
        return None
    held = _held_by(charges, enforce=enforce)
    if session is None:
        return Start(held) if held else None
    return Start(held, session, action.name, plan.adds, action.around)


def _tried(charges: list[Charge], *, enforce: bool) -> Start | None:
    """What is recorded of a call that is not let run: that it was attempted."""
    held = _held_by([charge for charge in charges if charge.budget.unit == "attempts"], enforce=enforce)
    return Start(held) if held else None


def _held_by(charges: list[Charge], *, enforce: bool) -> tuple[Reservation, ...]:
    held: dict[CounterKey, Reservation] = {}
    for charge in charges:
        for reservation in charge.reservations(enforce=enforce):
            held[reservation.key] = reservation
    return tuple(held.values())
