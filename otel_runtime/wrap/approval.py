"""A call that a person must approve: ask, wait, and dispatch with the approval.

Dispatch decides again with the facts of now and those stored with the question, the stricter wins; then it claims. The body runs only
when the claim changed one row (approvals.md, point 4).
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from enum import Enum
from functools import partial

from otel_runtime.approvals.protocol import Ask, Claim, ClaimRefused
from otel_runtime.approvals.terms import requirement_digest
from otel_runtime.errors import Blocked
from otel_runtime.hooks.native import approval_event, decision_event
from otel_runtime.policy.live import in_force
from otel_runtime.policy.protocol import FactsView, Hold, Ruling, Start
from otel_runtime.values.action import Action, ToolSignature
from otel_runtime.values.approval import ApprovalRequest
from otel_runtime.values.decision import Decision
from otel_runtime.values.digest import Undigestible, call_digest
from otel_runtime.values.snapshot import snapshot_arguments
from otel_runtime.values.trace import TraceRef
from otel_runtime.wrap.active import Guard
from otel_runtime.wrap.call import Call, Permit
from otel_runtime.wrap.effects import AwaitAnswer, Effects, blocking
from otel_runtime.wrap.guarding import MAX_RACES, peek, refuse, with_input_digest
from otel_runtime.wrap.rebuild import rebuild_arguments
from otel_runtime.wrap.refusals import arguments_changed, claim_refused, closed_request, outrun, pending
from otel_runtime.wrap.taking import Taking

__all__ = ["ask", "follow"]

_CLAIMED = ("executing", "completed", "failed", "unknown")
_STRICTNESS = {"allow": 0, "require-approval": 1, "retryable-failure": 2, "deny": 3}


def ask(call: Call, guard: Guard, action: Action, decision: Decision, facts: FactsView | None, waits: bool) -> Effects[Exception | None]:
    """Open the request of this very call, or find it, and follow it.

    Args:
        call: The call.
        guard: What decides.
        action: The snapshot that was decided.
        decision: `require-approval`, with its terms.
        facts: What the decision read.
        waits: False where waiting would stop an event loop.
    """
    try:
        question = _question(call, action, decision, facts)
    except Undigestible as error:
        denial = replace(decision, value="deny", reason=f"it needs approval and cannot be shown to anyone: {error}", approval=None)
        return (yield from refuse(call, guard, action, denial))
    request, new = yield from blocking(lambda: guard.approvals.open(question))
    if new:
        request = yield from _announce(call, guard, action, decision, request)
    return (yield from follow(call, guard, request, waits))


def follow(call: Call, guard: Guard, request: ApprovalRequest, waits: bool) -> Effects[Exception | None]:
    """Wait for the answer within the time a call may wait, then dispatch.

    Args:
        call: The call, with the arguments it would run with.
        guard: What decides.
        request: Its request.
        waits: False where waiting would stop an event loop.

    Returns:
        None when the approval was claimed and the body may run; else the error to raise.
    """
    deadline = time.monotonic() + (call.active.wait_at_most if waits else 0.0)
    while True:
        remaining = deadline - time.monotonic()
        if request.state == "awaiting-approval" and remaining > 0:
            outcome = yield AwaitAnswer(guard.approvals, request.id, remaining)
            request = outcome.get()
        if request.state == "awaiting-approval":
            return pending(request)
        if request.state in _CLAIMED:
            # No news: whoever claimed it has told of the answer.
            return closed_request(request)
        resolved = call.active.tracing.approval_resolved(request, request.requested_span)
        call.announce(partial(approval_event, request))
        if request.state != "approved":
            return closed_request(request)
        verdict = yield from _dispatch(call, guard, request, resolved)
        if not isinstance(verdict, ApprovalRequest):
            return verdict
        request = verdict


def _question(call: Call, action: Action, decision: Decision, facts: FactsView | None, supersedes: str | None = None) -> Ask:
    digest = call_digest(action)
    context, _ = snapshot_arguments(action.context)
    stored = {
        "roles": sorted(action.roles) if action.roles is not None else None,
        "tenant": action.tenant,
        "around": list(action.around),
        "context": context,
        "labels": _stored_sources(facts.labels if facts is not None else None),
        "origins": _stored_sources(facts.origins if facts is not None else None),
        "history": sorted(facts.history) if facts is not None and facts.history is not None else None,
        "tags": sorted(action.tags),
        "registered": action.registered,
        "receiver": action.receiver,
        "function": call.plan.target,
        "signature": None if action.signature is None else _stored_signature(action.signature),
    }
    trace = call.active.tracing.current()
    return Ask(action, decision, digest, call.dedupe_key(digest), action.call_id is not None, stored, trace, supersedes)


def _stored_signature(signature: ToolSignature) -> dict[str, object]:
    parameters = [[item.name, item.type, item.required, item.nullable] for item in signature.parameters]
    return {"parameters": parameters, "open": signature.open, "variadic": signature.variadic, "description": signature.description}


def _stored_sources(known: Mapping[str, frozenset[str]] | None) -> Mapping[str, list[str]] | None:
    return None if known is None else {name: sorted(sources) for name, sources in known.items()}


def _announce(call: Call, guard: Guard, action: Action, decision: Decision, request: ApprovalRequest) -> Effects[ApprovalRequest]:
    active = call.active
    decision = with_input_digest(action, decision)
    content = call.plan.options.capture_input
    active.tracing.decided(action, decision, decision.duration_s, content=content, asked_at=request.requested_at)
    span = active.tracing.approval_requested(request)
    if span is not None:
        yield from blocking(lambda: guard.approvals.attach_trace(request.id, span))
        request = replace(request, requested_span=span)
    yield from blocking(lambda: guard.decisions.record(action, decision, request.trace))
    if active.hooks.wants("approval"):
        active.hooks.approval(request, call.context())
    call.announce(lambda place: decision_event(call.name, place, decision.value, reason=decision.reason, rule=decision.rule))
    call.announce(partial(approval_event, request))
    return request


def _dispatch(call: Call, guard: Guard, request: ApprovalRequest, resolved: TraceRef | None) -> Effects[Exception | ApprovalRequest | None]:
    if request.edited_from is not None:
        edited = {name: request.input[name] for name in request.terms.edit if name in request.input}
        call.replace_arguments(rebuild_arguments(call.plan, edited))
    action = call.action()
    if call_digest(action) != request.call_digest:
        return arguments_changed(call.name, request.rule, request.place)
    for _ in range(MAX_RACES):
        verdict = yield from _decided_again(call, guard, request, action, resolved)
        if verdict is not _Race.LOST:
            return verdict
    return outrun(call.name)


def _decided_again(
    call: Call, guard: Guard, request: ApprovalRequest, action: Action, resolved: TraceRef | None
) -> Effects[Exception | ApprovalRequest | _Race | None]:
    now = call.active.clock()
    engine = in_force(guard.engine)
    facts = yield from peek(guard, engine.needs(action, now), now)
    # Its attempt was counted when people were asked.
    facts = None if facts is None else replace(facts, tried=True)
    ruling = _stricter(
        engine.decide(action, facts, now, call.attempt), engine.decide(*_as_asked(action, facts, request), now, call.attempt)
    )
    decision = ruling.decision
    if decision.value in ("deny", "retryable-failure"):
        return (yield from refuse(call, guard, action, decision))
    if decision.approval is not None and requirement_digest(decision.approval) != request.requirement_digest:
        question = _question(call, action, decision, facts, supersedes=request.id)
        replacement = yield from blocking(lambda: guard.approvals.supersede(request.id, question))
        if replacement.id == request.id:
            return replacement  # it ended in another process meanwhile
        return (yield from _announce(call, guard, action, decision, replacement))
    return (yield from _claim(call, guard, request, action, ruling, now, resolved))


def _as_asked(action: Action, facts: FactsView | None, request: ApprovalRequest) -> tuple[Action, FactsView | None]:
    """The action and facts as they stood when the question was asked; counters are always those of now."""
    stored = request.facts
    roles, context = stored.get("roles"), stored.get("context")
    action = replace(
        action,
        roles=frozenset(roles) if isinstance(roles, list | tuple) else None,
        context=context if isinstance(context, Mapping) else {},
    )
    if facts is None:
        return action, None
    labels, history, origins = stored.get("labels"), stored.get("history"), stored.get("origins")
    then = replace(
        facts,
        labels={name: frozenset(sources) for name, sources in labels.items()} if isinstance(labels, Mapping) else facts.labels,
        history=frozenset(history) if isinstance(history, list | tuple) else facts.history,
        origins={key: frozenset(sources) for key, sources in origins.items()} if isinstance(origins, Mapping) else facts.origins,
    )
    return action, then


def _stricter(now: Ruling, then: Ruling) -> Ruling:
    """The stricter of two rulings; of two that ask for approval, the one now."""
    if _STRICTNESS[then.decision.value] <= _STRICTNESS[now.decision.value]:
        return now
    # What must be recorded at the start follows from the facts of now, whoever decides.
    return Ruling(then.decision, now.start or then.start, now.uses)


def _claim(
    call: Call, guard: Guard, request: ApprovalRequest, action: Action, ruling: Ruling, now: datetime, resolved: TraceRef | None
) -> Effects[Blocked | _Race | None]:
    if call.changed(action):
        return arguments_changed(call.name, request.rule, request.place)

    def give_back(taken: tuple[Hold | None, Claim | ClaimRefused | None]) -> None:
        call.active.later(partial(_give_back, guard, request, *taken))

    taking = Taking(lambda: _taken(guard, request, ruling.start, now), give_back)
    call.taking = taking
    hold, claimed = yield from blocking(taking.run)
    if claimed is None:
        # A used-up budget leaves the approval unclaimed (approvals.md, point 4); whether it is used up is decided again, because another
        # call may have given back what it held.
        return _Race.LOST
    if isinstance(claimed, ClaimRefused):
        return claim_refused(request, claimed)
    if call.changed(action):
        # Changed while another thread wrote the claim: the approval is used up, and nothing runs.
        yield from blocking(lambda: _give_back(guard, request, hold, claimed))
        return arguments_changed(call.name, request.rule, request.place)
    call.permit = Permit(ruling.decision, hold, request.id, () if resolved is None else (resolved,), ruling.uses)
    call.taking = None
    call.active.tracing.budgets_used(ruling.uses, held=True)
    return None


def _give_back(guard: Guard, request: ApprovalRequest, hold: Hold | None, claimed: Claim | ClaimRefused | None) -> None:
    """The body will not start: what was reserved is free again, and a claimed approval is used up."""
    if hold is not None:
        guard.facts.release(hold)
    if isinstance(claimed, Claim):
        guard.approvals.finish(request.id, "failed")


class _Race(Enum):
    """A limit was reached between the decision and the claim."""

    LOST = "lost"


class _NotClaimed(Exception):
    """The claim was lost: undoes what was begun for it."""

    def __init__(self, refused: ClaimRefused) -> None:
        super().__init__(refused)
        self.refused = refused


def _claimed(guard: Guard, request: ApprovalRequest) -> Claim:
    claimed = guard.approvals.claim(request.id, request.call_digest, request.requirement_digest)
    if isinstance(claimed, ClaimRefused):
        raise _NotClaimed(claimed)
    return claimed


def _taken(guard: Guard, request: ApprovalRequest, start: Start | None, now: datetime) -> tuple[Hold | None, Claim | ClaimRefused | None]:
    """Reserve and claim, in one transaction where facts and approvals share a database; no claim where a limit was reached.

    Elsewhere in this order, so that a crash in between counts what did not run, and never runs what was not counted.
    """
    if start is None:
        return None, guard.approvals.claim(request.id, request.call_digest, request.requirement_digest)
    hold: Hold | None = None
    try:
        with guard.facts.together():
            hold = guard.facts.begin(start, now)
            if hold is None:
                return None, None
            return hold, _claimed(guard, request)
    except _NotClaimed as lost:
        if hold is not None:
            guard.facts.release(hold)
        return None, lost.refused
    except BaseException:
        # Undone with the transaction where they share one; elsewhere it would stand for a body that never starts.
        if hold is not None:
            guard.facts.release(hold)
        raise
