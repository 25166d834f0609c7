"""Admission of a guarded call: ask the policy, hand out a permit, or say why not.

Theory of operation. `admit` is a generator that yields every blocking effect and returns None (run the body) or the error to raise.
The body runs only after `call.permit` was set here, or when nothing guards the call.

INVARIANT: no path returns None for a guarded call without an `allow` decided for the arguments as they are now, or a claimed approval
for exactly them, or the certainty that Python itself refuses the call. Whatever goes wrong inside becomes `PolicyUnavailable`.
"""

from __future__ import annotations

import inspect
import logging
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from time import perf_counter

from otel_runtime.errors import PolicyUnavailable, RetryableFailure
from otel_runtime.policy.live import in_force
from otel_runtime.policy.protocol import Engine, Hold, Needs, Ruling, Use
from otel_runtime.values.action import Action
from otel_runtime.wrap.active import Guard
from otel_runtime.wrap.approval import ask
from otel_runtime.wrap.call import Call, Permit
from otel_runtime.wrap.effects import Effects, Sleep, blocking
from otel_runtime.wrap.guarding import MAX_RACES, begin, count_attempt, peek, refuse
from otel_runtime.wrap.refusals import arguments_changed, outrun

__all__ = ["admit", "admitted_at_once", "guarded_effects", "retries", "settle"]

_log = logging.getLogger("otel_runtime.wrap")


@dataclass(slots=True)
class Look:
    """What a first look at a call found, before anything that may block.

    Args:
        action: The snapshot.
        now: Time of the look.
        needs: Facts to read before deciding; None when there are none, and then `ruling` is set.
        ruling: The decision, when no facts are needed.
        began: `time.perf_counter()` of the look.
        engine: What decides about this look, from its first question to its last.
    """

    action: Action
    now: datetime
    needs: Needs | None
    ruling: Ruling | None
    began: float
    engine: Engine


def admitted_at_once(call: Call) -> bool:
    """True when the call may run now: nothing guards it, or a plain allow that needs no facts and reserves nothing.

    The common case of `admit`, without making a generator. Whatever else is found, also a failure, is left to `admit`, which goes on from
    the look that was taken here: nothing lies between the two.
    """
    guard = call.active.guard
    if guard is None:
        return call.plan.options.guard != "required"
    try:
        look = _look(call, guard)
        if not isinstance(look, Look):
            return False
        ruling = look.ruling
        if ruling is not None and ruling.start is None and ruling.decision.value == "allow":
            return _permit(call, look, ruling, None)
        call.look = look
    except Exception:  # noqa: BLE001  # `admit` meets the same failure and refuses with it
        return False
    return False


def admit(call: Call, *, waits: bool) -> Effects[Exception | None]:
    """Admit one call, with the retries it asks for.

    Args:
        call: The call.
        waits: False where waiting would stop an event loop: then the call suspends or fails at once.

    Returns:
        None when the body may run; else the error to raise instead.
    """
    guard = call.active.guard
    if guard is None:
        return _unguarded(call)
    while True:
        refusal = yield from guarded_effects(call, _decide(call, guard, waits))
        if not isinstance(refusal, RetryableFailure) or not waits or not retries(call, refusal):
            return refusal
        call.refused_attempt(refusal)
        yield Sleep(refusal.retry_after_s)


def retries(call: Call, failure: RetryableFailure) -> bool:
    """True when the tool asks for automatic retries and another attempt is left within the time a call may wait."""
    return call.plan.options.retry and failure.attempt < failure.max_attempts and failure.retry_after_s <= call.active.wait_at_most


def settle(call: Call, *, completed: bool) -> Effects[None]:
    """Record how the body ended, once; a failure here never reaches the caller, whose work is already done."""
    permit, guard = call.permit, call.active.guard
    if permit is None or guard is None:
        return
    spent, now = call.spent(), call.active.clock()
    try:
        if permit.hold is not None:
            hold = permit.hold
            if permit.uses and (spent.usd is not None or spent.tokens is not None):
                call.active.tracing.budgets_used(_with_tokens(permit.uses, spent.tokens), held=True, spent_usd=spent.usd)
            if guard.facts.blocking:
                yield from blocking(lambda: guard.facts.settle(hold, spent, now))
            else:
                guard.facts.settle(hold, spent, now)
        if permit.request_id is not None:
            request_id = permit.request_id
            yield from blocking(lambda: guard.approvals.finish(request_id, "completed" if completed else "failed"))
    except Exception:  # noqa: BLE001  # the work is done; only its record is missing, and that is said
        _log.exception("the end of `%s` could not be recorded; its approval will be reported as unknown", call.name)
    # Only now: an end that is cut off by Ctrl-C, or by the cancellation of its task, is recorded later.
    call.permit = None


def _with_tokens(uses: tuple[Use, ...], tokens: int | None) -> tuple[Use, ...]:
    """The uses with what was really used in place of what was held."""
    if tokens is None:
        return uses
    return tuple(use._replace(amount=Decimal(tokens)) if use.unit == "tokens" else use for use in uses)


def guarded_effects(call: Call, effects: Effects[Exception | None]) -> Effects[Exception | None]:
    """The same effects, where any failure inside is a refusal."""
    try:
        return (yield from effects)
    except Exception as error:  # noqa: BLE001  # policy fails closed: any failure is a refusal
        _log.exception("the decision on `%s` failed; it did not run", call.name)
        reason = f"the decision failed ({type(error).__name__}: {error})"
        unavailable = PolicyUnavailable(f"`{call.name}` did not run: {reason}", tool=call.name, reason=reason)
        unavailable.__cause__ = error
        return unavailable


def _unguarded(call: Call) -> PolicyUnavailable | None:
    if call.plan.options.guard != "required":
        return None
    reason = "it says guard=`required` and no policy is configured; set `policy` in configure() or otel-runtime.yaml"
    return PolicyUnavailable(f"`{call.name}` did not run: {reason}", tool=call.name, reason=reason)


def _is_wrong(call: Call) -> bool:
    """True for arguments that do not fit and are to be refused; False when Python itself refuses the call."""
    fn = call.plan.fn
    if fn is None or not call.plan.simple:
        return True
    try:
        inspect.signature(fn).bind(*call.args, **call.kwargs)
    except TypeError:
        # Before any of the function's code runs, and in its own words.
        return False
    return True


def _look(call: Call, guard: Guard) -> Look | Exception | None:
    """The first look: None when nothing is to be decided, an error when the call does not fit its function."""
    engine = in_force(guard.engine)
    if not engine.governs(call.plan.kind, call.name):
        return None
    if call.bound is None:
        try:
            call.arguments()
        except TypeError as error:
            return error if _is_wrong(call) else None
    began = perf_counter()
    now = call.active.clock()
    action = call.action()
    needs = engine.needs(action, now)
    return Look(action, now, needs, engine.decide(action, None, now, call.attempt) if needs is None else None, began, engine)


def _decide(call: Call, guard: Guard, waits: bool) -> Effects[Exception | None]:
    for _ in range(MAX_RACES):
        taken, call.look = call.look, None
        look = taken if isinstance(taken, Look) else _look(call, guard)
        if not isinstance(look, Look):
            return look
        facts = None
        ruling = look.ruling
        if ruling is None:
            facts = yield from peek(guard, look.needs, look.now)
            ruling = look.engine.decide(look.action, facts, look.now, call.attempt)
            if ruling.uses:
                call.active.tracing.budgets_used(ruling.uses, held=ruling.decision.value == "allow")
        if ruling.decision.value != "allow":
            if not (yield from count_attempt(guard, ruling, look.now)):
                continue
            decision = replace(ruling.decision, duration_s=perf_counter() - look.began)
            if decision.value == "require-approval":
                return (yield from ask(call, guard, look.action, decision, facts, waits))
            return (yield from refuse(call, guard, look.action, decision))
        hold = None
        if ruling.start is not None:
            hold = yield from begin(call, guard, ruling.start, look.now)
            if hold is None:
                continue
        return None if _permit(call, look, ruling, hold) else arguments_changed(call.name)
    return outrun(call.name)


def _permit(call: Call, look: Look, ruling: Ruling, hold: Hold | None) -> bool:
    """Hand out the permit of an allow; False when the arguments are not those that were decided any more."""
    if call.changed(look.action):
        if hold is not None and call.active.guard is not None:
            call.active.guard.facts.release(hold)
        return False
    call.permit = tuple.__new__(Permit, (ruling.decision, hold, None, (), ruling.uses))
    call.taking = None
    call.active.tracing.decided(look.action, ruling.decision, perf_counter() - look.began, content=call.plan.options.capture_input)
    return True
