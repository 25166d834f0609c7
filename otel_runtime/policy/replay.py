"""Decide recorded calls again, in their order, under another policy.

A call counts on labels, history and limits when the policy under trial lets it run: it is allowed, or people are asked and it did run. What a
trace does not tell is unknown to the rules, and where such an unknown could turn the decision the call is not replayable: it is counted
with the reason, and nothing is guessed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from typing import Final

from otel_runtime.policy.budgets import NO_LIMIT, Budget
from otel_runtime.policy.cases import assumed_signature
from otel_runtime.policy.engine import PolicyEngine
from otel_runtime.policy.facts_memory import MemoryFacts
from otel_runtime.policy.index import Plan
from otel_runtime.policy.protocol import CounterKey, FactsView, Needs, Reservation, Ruling, Spent, Start
from otel_runtime.policy.provenance import LOST
from otel_runtime.policy.recorded import Caller, RecordedCall, Seen, Untold
from otel_runtime.policy.replay_gaps import Gaps
from otel_runtime.values.action import Action, ToolSignature
from otel_runtime.values.decision import Decision, Verdict

__all__ = ["OTHERWISE", "Replayed", "guarded", "replay"]

OTHERWISE: Final = "the same rules decided otherwise when it was recorded, by what the trace does not tell"
_EARLIER: Final = "an earlier call that counts on the same limit cannot be read"
_WORDS: Final = "what the user said is not in the trace"
_RESULTS: Final = "results of tools not captured"


@dataclass(frozen=True, slots=True)
class Replayed:
    """What a policy says to one recorded call.

    Args:
        call: The call.
        verdict: What it says, as if it were enforced; None when that cannot be known.
        decision: The decision behind it.
        gaps: Why it cannot be known; empty when it is.
    """

    call: RecordedCall
    verdict: Verdict | None
    decision: Decision
    gaps: tuple[str, ...] = ()


def guarded(calls: Iterable[RecordedCall], engines: Collection[PolicyEngine]) -> list[RecordedCall]:
    """The calls that were decided, or that one of the policies decides on; agents and models are often nobody's business."""
    return [call for call in calls if call.decided is not None or any(engine.governs(call.kind, call.name) for engine in engines)]


def replay(
    calls: Iterable[RecordedCall],
    seen: Iterable[Seen],
    engine: PolicyEngine,
    known: Mapping[str, ToolSignature],
    *,
    assumed: Caller | None = None,
    all_words: bool = False,
) -> list[Replayed]:
    """Decide calls again, in the order of their times.

    Args:
        calls: What was called.
        seen: What sessions saw meanwhile.
        engine: The policy.
        known: Signatures of decorated tools.
        assumed: Who is taken to have asked where the trace does not tell; None takes nobody.
        all_words: True when the inputs of agents are all that users said.
    """
    trial = _Trial(engine, known, assumed, all_words=all_words)
    # What was seen at the moment of a call was seen before it: an agent's input comes before its first call.
    events: list[tuple[datetime, int, int, RecordedCall | Seen]] = [(one.at, 0, at, one) for at, one in enumerate(seen)]
    events += [(one.at, 1, at, one) for at, one in enumerate(calls)]
    found: list[Replayed] = []
    for _at, _rank, _order, event in sorted(events, key=lambda entry: entry[:3]):
        if isinstance(event, Seen):
            trial.saw(event)
        else:
            found.append(trial.decided(event))
    return found


class _Trial:
    """One policy on its way through the calls, with facts of its own."""

    def __init__(self, engine: PolicyEngine, known: Mapping[str, ToolSignature], assumed: Caller | None, *, all_words: bool) -> None:
        self._engine = engine
        self._known = known
        self._assumed = assumed
        self._all_words = all_words
        self._facts = MemoryFacts()
        # Limits that a call counted on by an amount nobody knows.
        self._lost_keys: set[CounterKey] = set()
        self._lost_names: set[str] = set()
        self._lost_sources: dict[str, set[str]] = {}

    def saw(self, seen: Seen) -> None:
        """Remember what a session saw."""
        self._facts.saw(seen.session, seen.source, seen.value)
        if not seen.whole:
            self._lost_sources.setdefault(seen.session, set()).add(seen.source)

    def decided(self, call: RecordedCall) -> Replayed:
        """Decide one call and let it count."""
        engine = self._engine
        action = self._action(call)
        plan = engine.policy.index.plan(action)
        needs = engine.needs(action, call.at)
        gaps = Gaps(call, plan, caller_told=call.caller is not None or self._assumed is not None)
        facts = None if needs is None else self._view(needs, call, gaps)
        ruling = engine.decide(action, facts, call.at, call.attempt)
        verdict = ruling.decision.would_be or ruling.decision.value if engine.policy.defaults.shadow else ruling.decision.value
        doubts = gaps.turning(ruling.decision, engine.policy.defaults.verdict if call.kind in {"tool", "capability"} else "allow")
        if not doubts and call.digest == engine.digest and call.decided not in (None, verdict):
            doubts = (OTHERWISE,)
        self._count(call, action, plan, ruling, known=not doubts)
        return Replayed(call, None if doubts else verdict, ruling.decision, doubts)

    def _action(self, call: RecordedCall) -> Action:
        caller = call.caller or self._assumed or Caller()
        args = Untold() if call.args is None else call.args
        signature = None
        if call.kind == "tool":
            signature = self._known.get(call.name) or (None if call.args is None else assumed_signature(call.args))
        return Action(
            kind=call.kind,
            name=call.name,
            args=args,
            signature=signature,
            registered=call.registered,
            tags=caller.tags,
            agents=call.agents or (),
            session=call.session,
            user=caller.user,
            roles=caller.roles,
            tenant=caller.tenant,
            context=caller.context,
            around=caller.around,
        )

    def _view(self, needs: Needs, call: RecordedCall, gaps: Gaps) -> FactsView:
        view = self._facts.peek(needs, call.at)
        lost = {key for key in needs.counters if key in self._lost_keys or key.name in self._lost_names}
        if lost:
            gaps.add(_EARLIER)
            view = replace(view, counters={key: value for key, value in view.counters.items() if key not in lost})
        sessions = [name for name in (needs.session, *needs.around) if name is not None]
        sources = {source for name in sessions for source in self._lost_sources.get(name, ())}
        if not self._all_words:
            sources.add("user")
        if call.caller is None and self._assumed is None:
            sources.add("config")
        if sources and needs.values and view.origins is not None:
            gaps.add(*([_WORDS] if "user" in sources else []), *([_RESULTS] if sources - {"user", "config"} else []))
            gaps.add(*(["context not recorded"] if "config" in sources else []))
            lost_marks = {value: {f"{LOST}{source}" for source in sources if source not in found} for value, found in view.origins.items()}
            view = replace(view, origins={value: found | lost_marks[value] for value, found in view.origins.items()})
        return view

    def _count(self, call: RecordedCall, action: Action, plan: Plan, ruling: Ruling, *, known: bool) -> None:
        if known:
            runs = ruling.decision.value == "allow" or (ruling.decision.value == "require-approval" and call.ran)
            start = ruling.start if runs else ruling.tried
        else:
            start = self._blind_start(call, action, plan)
        if start is None:
            return
        hold = self._facts.begin(start, call.at)
        if hold is not None:
            self._facts.settle(hold, Spent(call.usd, call.tokens), call.at)

    def _blind_start(self, call: RecordedCall, action: Action, plan: Plan) -> Start:
        """What a call counted on, as far as it can be told without deciding it: what did not run was attempted."""
        budgets = plan.budgets if call.ran else [budget for budget in plan.budgets if budget.unit == "attempts"]
        held = tuple(self._blind_reservations(budgets, action, call.at))
        marked = call.ran and action.session is not None and bool(plan.adds or plan.in_history)
        return Start(held, action.session if marked else None, action.name, plan.adds, action.around)

    def _blind_reservations(self, budgets: Iterable[Budget], action: Action, now: datetime) -> Iterator[Reservation]:
        for budget in budgets:
            keys = budget.keys(action, now)
            if not keys:
                self._lost_names.add(f"{budget.rule}:{budget.unit}")
            if budget.unit == "sum":
                self._lost_keys.update(keys)
            else:
                amount = Decimal(1) if budget.unit in {"calls", "attempts"} else budget.reserve
                yield from (Reservation(key, amount, NO_LIMIT, budget.unit) for key in keys)
