"""Admission of a guarded call: ask the policy, hand out a permit, or say why not.

Theory of operation. `admit` is a generator that yields every blocking effect and returns None (run the body) or the error to raise.
The body runs only after `call.permit` was set here, or when nothing guards the call.

INVARIANT: no path returns None for a guarded call without an `allow` decided for the arguments as they are now, or a claimed approval
for exactly them. Whatever goes wrong inside becomes `PolicyUnavailable`.
"""

from __future__ import annotations

import inspect
import logging

from otel_runtime.errors import PolicyUnavailable, RetryableFailure
from otel_runtime.wrap.active import Guard
from otel_runtime.wrap.approval import ask
from otel_runtime.wrap.call import Call, Permit
from otel_runtime.wrap.effects import Effects, Sleep, blocking
from otel_runtime.wrap.guarding import begin, peek, refuse
from otel_runtime.wrap.refusals import arguments_changed

__all__ = ["admit", "guarded_effects", "retries", "settle"]

_log = logging.getLogger("otel_runtime.wrap")
# Each round means that another call took the last of a budget in between; that many in a row is no coincidence.
_MAX_RACES = 16


def admit(call: Call, *, waits: bool) -> Effects[Exception | None]:
    """Admit one call, with the retries it asks for.

    Args:
        call: The call.
        waits: False where waiting would stop an event loop: then the call suspends or fails at once.

    Returns:
        None when the body may run; else the error to raise instead.
    """
    while True:
        refusal = yield from _attempt(call, waits)
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
    call.permit = None
    if permit is None or guard is None:
        return
    spent, now = call.spent(), call.active.clock()
    try:
        if permit.hold is not None:
            hold = permit.hold
            if guard.facts.blocking:
                yield from blocking(lambda: guard.facts.settle(hold, spent, now))
            else:
                guard.facts.settle(hold, spent, now)
        if permit.request_id is not None:
            request_id = permit.request_id
            yield from blocking(lambda: guard.approvals.finish(request_id, "completed" if completed else "failed"))
    except Exception:  # noqa: BLE001  # the work is done; only its record is missing, and that is said
        _log.exception("the end of `%s` could not be recorded; its approval will be reported as unknown", call.name)


def _attempt(call: Call, waits: bool) -> Effects[Exception | None]:
    guard = call.active.guard
    if guard is None:
        return _unguarded(call)
    return (yield from guarded_effects(call, _governed(call, guard, waits)))


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


def _governed(call: Call, guard: Guard, waits: bool) -> Effects[Exception | None]:
    if not guard.engine.governs(call.plan.kind, call.name):
        return None
    if (wrong := _wrong_call(call)) is not None:
        return wrong if isinstance(wrong, Exception) else None
    return (yield from _decide(call, guard, waits))


def _unguarded(call: Call) -> PolicyUnavailable | None:
    if call.plan.options.guard != "required":
        return None
    reason = "it says guard=`required` and no policy is configured; set `policy` in configure() or otel-runtime.yaml"
    return PolicyUnavailable(f"`{call.name}` did not run: {reason}", tool=call.name, reason=reason)


_FAILS_BY_ITSELF = object()


def _wrong_call(call: Call) -> object | None:
    """What to do with arguments that do not fit: None when they fit, an error to raise, or a mark that the call fails by itself."""
    try:
        call.arguments()
    except TypeError as error:
        fn = call.plan.fn
        if fn is None or not call.plan.simple:
            return error
        try:
            inspect.signature(fn).bind(*call.args, **call.kwargs)
        except TypeError:
            # Python itself refuses the call before any of the function's code runs, in its own words.
            return _FAILS_BY_ITSELF
        return error
    return None


def _decide(call: Call, guard: Guard, waits: bool) -> Effects[Exception | None]:
    for _ in range(_MAX_RACES):
        now = call.active.clock()
        action = call.action()
        facts = yield from peek(guard, guard.engine.needs(action, now), now)
        ruling = guard.engine.decide(action, facts, now, call.attempt)
        decision = ruling.decision
        if decision.value == "require-approval":
            return (yield from ask(call, guard, action, decision, facts, waits))
        if decision.value != "allow":
            return (yield from refuse(call, guard, action, decision))
        hold = None
        if ruling.start is not None:
            hold = yield from begin(guard, ruling.start, now)
            if hold is None:
                continue
        if call.changed(action):
            if hold is not None:
                guard.facts.release(hold)
            return arguments_changed(call.name)
        call.permit = Permit(decision, hold)
        call.active.tracing.decided(action, decision)
        return None
    reason = "its budget is taken by other calls faster than it can be reserved"
    return PolicyUnavailable(f"`{call.name}` did not run: {reason}", tool=call.name, reason=reason)
