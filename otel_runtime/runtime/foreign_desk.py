"""The desk of a runtime for questions of foreign systems: its rules decide first where they are asked, people answer in its store."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final, Literal, cast

from otel_runtime.approvals.protocol import Ask, Claim
from otel_runtime.hooks.native import Place, decision_event
from otel_runtime.policy.answering import answered
from otel_runtime.policy.live import in_force
from otel_runtime.policy.protocol import Hold, Spent
from otel_runtime.sources.asking import Judged, Question, Verdict
from otel_runtime.values.action import Action
from otel_runtime.values.decision import ApprovalTerms, Decision, Requirement
from otel_runtime.values.digest import call_digest
from otel_runtime.values.host import HostContext
from otel_runtime.values.snapshot import snapshot_arguments
from otel_runtime.values.trace import TraceEvent
from otel_runtime.wrap.active import Active, Guard
from otel_runtime.wrap.guarding import MAX_RACES, with_input_digest
from otel_runtime.wrap.refusals import outrun

__all__ = ["ForeignDesk", "record_decision"]

_POLL_S: Final = 30.0
_log = logging.getLogger("otel_runtime.sources")


class ForeignDesk:
    """One stream's desk.

    Args:
        active: The runtime's parts.
        guard: What decides and keeps.
        source: Vocabulary of the stream.
        judges: True when the rules are asked before people are.
    """

    def __init__(self, active: Active, guard: Guard, source: str, *, judges: bool) -> None:
        self._active = active
        self._guard = guard
        self._rule = f"events:{source}"
        self._judges = judges
        self._digests: dict[str, tuple[str, str]] = {}

    def judge(self, question: Question) -> Judged | None:
        """Ask the rules; what they cannot decide is denied."""
        if not self._judges:
            return None
        action = _action(question)
        try:
            decision, hold = self._decide(action)
        except Exception as error:  # noqa: BLE001  # policy fails closed
            _log.exception("the decision on `%s`, which `%s` asked for, failed; it is denied", question.tool, question.source)
            decision, hold = Decision("deny", f"the decision failed ({type(error).__name__})", "policy.error"), None
        decision = with_input_digest(action, decision)
        self._show(action, decision, question)
        _keep(self._guard, action, decision, question)
        return Judged(decision, self._ending(hold))

    def open(self, question: Question) -> str:
        """Open a durable request, or find the open one of this very question."""
        action = _action(question)
        decision = question.decision
        if decision is None or decision.approval is None:
            terms = ApprovalTerms((Requirement(self._rule, ("anyone",)),), question.timeout_s)
            decision = Decision(
                "require-approval", f"{question.source} asks for {question.kind}", "events.asked", self._rule, approval=terms
            )
        key = f"{self._rule}:{question.session or question.run}:{question.id}"
        digest = call_digest(action)
        request, _ = self._guard.approvals.open(Ask(action, decision, digest, key, explicit_call=True, trace=question.trace))
        self._digests[request.id] = digest, request.requirement_digest
        return request.id

    def wait(self, request_id: str, timeout_s: float) -> Verdict | None:
        """Block until it is answered; None when it ended without an answer of ours, or the time is up."""
        verdict = self._answer(request_id, timeout_s)
        if verdict != "approved":
            self._digests.pop(request_id, None)
        return verdict

    def _answer(self, request_id: str, timeout_s: float) -> Verdict | None:
        deadline = time.monotonic() + timeout_s
        while (left := deadline - time.monotonic()) > 0:
            state = self._guard.approvals.wait(request_id, min(left, _POLL_S)).state
            if state != "awaiting-approval":
                return state if state in ("approved", "denied") else None
        return None

    def claim(self, request_id: str) -> bool:
        """Take the right to hand an approval back, once over all processes."""
        digest, terms = self._digests.pop(request_id)
        return isinstance(self._guard.approvals.claim(request_id, digest, terms), Claim)

    def finish(self, request_id: str, *, delivered: bool) -> None:
        """Record whether the answer reached them."""
        outcome: Literal["completed", "failed"] = "completed" if delivered else "failed"
        self._guard.approvals.finish(request_id, outcome)

    def withdraw(self, request_id: str, why: str) -> None:
        """Close a request that nobody has answered."""
        self._digests.pop(request_id, None)
        self._guard.approvals.cancel(request_id, why)

    def _show(self, action: Action, decision: Decision, question: Question) -> None:
        """A refusal is a span under the run that asked; an allow is only counted, as for our own calls."""
        active = self._active
        place = Place(active.clock(), question.trace, question.run, question.session, None, question.call_id)
        event = decision_event(action.name, place, decision.value, reason=decision.reason, rule=decision.rule)
        if active.hooks.wants("trace"):
            context = HostContext(runtime=active.name, session=question.session, wait_until=active.wait_until, trace=question.trace)
            active.hooks.trace(event, context)
        if decision.value == "allow":
            active.tracing.decided(action, decision, decision.duration_s)
        else:
            active.tracing.observe(replace(event, attributes={**event.attributes, "parent.id": question.call_id}))

    def _decide(self, action: Action) -> tuple[Decision, Hold | None]:
        guard, began = self._guard, time.perf_counter()
        for _ in range(MAX_RACES):
            now = self._active.clock()
            engine = in_force(guard.engine)
            needs = engine.needs(action, now)
            facts = None if needs is None else answered(needs, guard.facts.peek(needs, now))
            ruling = engine.decide(action, facts, now)
            self._active.tracing.budgets_used(ruling.uses, held=ruling.decision.value == "allow")
            decision = replace(ruling.decision, duration_s=time.perf_counter() - began)
            if decision.value != "allow" and ruling.tried is not None and guard.facts.begin(ruling.tried, now) is None:
                # The last attempt was taken meanwhile.
                continue
            if ruling.start is None or decision.value != "allow":
                return decision, None
            hold = guard.facts.begin(ruling.start, now)
            if hold is not None:
                return decision, hold
        return Decision("deny", outrun(action.name).reason, "policy.exhausted"), None

    def _ending(self, hold: Hold | None) -> Callable[[bool], None]:
        facts, clock = self._guard.facts, self._active.clock

        def done(delivered: bool) -> None:
            if hold is None:
                return
            if delivered:
                facts.settle(hold, Spent(), clock())
            else:
                facts.release(hold)

        return done


def record_decision(active: Active, event: TraceEvent) -> None:
    """A refusal of a foreign system goes into the audit, as its own and not as ours; the disk is another thread's."""
    facts = event.attributes
    value = facts.get("policy.decision")
    if value not in ("deny", "require-approval", "retryable-failure") or active.guard is None:
        return
    texts = {key: found for key, found in facts.items() if isinstance(found, str)}
    action = Action("tool", texts.get("tool.name", ""), registered=False, session=texts.get("session.id"), run=texts.get("run.id"))
    action = replace(action, call_id=texts.get("tool.call_id"))
    source = texts.get("event.source", "")
    decision = Decision(cast("Any", value), texts.get("policy.reason", ""), f"events.{source}")  # Any: checked above
    recorder = active.guard.decisions

    def record() -> None:
        try:
            recorder.record(action, decision, event.trace)
        except Exception as error:  # noqa: BLE001  # it was decided elsewhere and stands, whether or not it can be kept here
            _log.warning("a decision of `%s` could not be recorded: %s", source, error)

    active.later(record)


def _keep(guard: Guard, action: Action, decision: Decision, question: Question) -> None:
    if decision.value == "require-approval":
        # The request that is opened for it is its record.
        return
    try:
        guard.decisions.record(action, decision, question.trace)
    except Exception:  # noqa: BLE001  # as in `wrap.guarding`: the decision stands, and the loss is said
        _log.exception("the decision on `%s` could not be written to the audit log; it stands all the same", question.tool)


def _action(question: Question) -> Action:
    arguments, _ = snapshot_arguments(dict(question.arguments))
    name = question.tool or question.kind
    return Action("tool", name, arguments, session=question.session, run=question.run, call_id=question.call_id)
