"""The steps that admission and approval share: read facts, begin a body, make a refusal seen."""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import datetime
from typing import Final

from otel_runtime.errors import Blocked
from otel_runtime.hooks.native import decision_event
from otel_runtime.policy.answering import answered
from otel_runtime.policy.protocol import FactsView, Hold, Needs, Ruling, Start, Unasked
from otel_runtime.values.action import Action
from otel_runtime.values.decision import Decision
from otel_runtime.values.digest import Undigestible, call_digest
from otel_runtime.wrap.active import Guard
from otel_runtime.wrap.call import Call
from otel_runtime.wrap.effects import Effects, blocking, on_event_loop
from otel_runtime.wrap.refusals import refusal_of
from otel_runtime.wrap.taking import Taking

__all__ = ["MAX_RACES", "begin", "count_attempt", "peek", "refuse", "with_input_digest"]

_log = logging.getLogger("otel_runtime.wrap")
# Each round means that another call took the last of a budget in between; that many in a row is no coincidence.
MAX_RACES: Final = 16


def peek(guard: Guard, needs: Needs | None, now: datetime) -> Effects[FactsView | None]:
    """Read what the engine needs."""
    if needs is None:
        return None
    if guard.facts.blocking:
        facts = yield from blocking(lambda: guard.facts.peek(needs, now))
    else:
        facts = guard.facts.peek(needs, now)
    return facts if needs.ask is None else (yield from blocking(lambda: _asked(needs, facts)))


def _asked(needs: Needs, facts: FactsView) -> FactsView | None:
    """The facts with another program's answer to them; a synchronous call on an event loop would stop it, so nobody is asked there."""
    if on_event_loop():
        reason = "this synchronous call stands on an event loop, which asking would stop; make it asynchronous, or use asyncio.to_thread"
        return replace(facts, answer=Unasked(reason))
    return answered(needs, facts)


def begin(call: Call, guard: Guard, start: Start, now: datetime) -> Effects[Hold | None]:
    """Record the start of the body, which is given back when the call is given up; None when a limit was reached meanwhile."""

    def give_back(hold: Hold | None) -> None:
        if hold is not None:
            call.active.later(lambda: guard.facts.release(hold))

    taking = Taking(lambda: guard.facts.begin(start, now), give_back)
    # Before anything is taken: whoever gives the call up finds it there.
    call.taking = taking
    return (yield from blocking(taking.run)) if guard.facts.blocking else taking.run()


def count_attempt(guard: Guard, ruling: Ruling, now: datetime) -> Effects[bool]:
    """Count a call that is not let run, where a limit of attempts asks for it; False when such a limit was reached meanwhile.

    A refusal stands also where it cannot be counted. A question is not asked then: what is raised here refuses the call.
    """
    if ruling.tried is None:
        return True
    try:
        return (yield from _counted(guard, ruling.tried, now)) is not None
    except Exception:
        if ruling.decision.value == "require-approval":
            raise
        _log.exception("a refused attempt could not be counted; the call is refused all the same")
        return True


def _counted(guard: Guard, tried: Start, now: datetime) -> Effects[Hold | None]:
    if guard.facts.blocking:
        return (yield from blocking(lambda: guard.facts.begin(tried, now)))
    return guard.facts.begin(tried, now)


def refuse(call: Call, guard: Guard, action: Action, decision: Decision) -> Effects[Blocked]:
    """Make a refusal seen (span, metric, audit, hooks) and build its error."""
    decision = with_input_digest(action, decision)
    call.active.tracing.decided(action, decision, decision.duration_s, content=call.plan.options.capture_input)
    trace = call.active.tracing.current()
    call.announce(lambda place: decision_event(call.name, place, decision.value, reason=decision.reason, rule=decision.rule))
    try:
        yield from blocking(lambda: guard.decisions.record(action, decision, trace))
    except Exception:  # noqa: BLE001  # the refusal stands without its record, and the loss is said
        _log.exception("the refusal of `%s` could not be written to the audit log; the call is refused all the same", call.name)
    return refusal_of(call.name, decision)


def with_input_digest(action: Action, decision: Decision) -> Decision:
    """The decision with the digest of what it decided; empty when the action has no canonical form."""
    if decision.input_digest:
        return decision
    try:
        return replace(decision, input_digest=call_digest(action))
    except Undigestible:
        return decision
