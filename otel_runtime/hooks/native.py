"""Decorated work in the shape of foreign events: one trace observer reads both with the same names (`sources/protocol`).

Names: `tool.start`, `tool.finish`, `tool.failed`, `tool.cancelled`; the same for `agent`, `workflow`, `model` and `capability`;
`policy.decision`; `session.declassified`; `approval.request`, `approval.decision`; `usage.summary`, once, right before the `finish` of a run.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Final, NamedTuple

from otel_runtime.values.approval import ApprovalRequest
from otel_runtime.values.trace import TraceEvent, TraceEventType, TraceRef
from otel_runtime.values.usage import TokenUsage

__all__ = ["SOURCE", "Place", "approval_event", "decision_event", "declassified_event", "native_event", "usage_event"]

SOURCE: Final = "otel_runtime"
_EMPTY: Mapping[str, object] = MappingProxyType({})
# How a call ended -> the last part of the event's name.
_ENDINGS: Final[Mapping[str, str]] = {"ok": "finish", "error": "failed", "cancelled": "cancelled", "closed": "cancelled"}
# Which id makes a call of this kind a step, and what its name is called.
_STEP: Final[Mapping[str, str]] = {"tool": "tool.id", "model": "model.call.id", "capability": "step.id"}
_NAME: Final[Mapping[str, str]] = {
    "tool": "tool.name",
    "model": "model.name",
    "agent": "agent.name",
    "workflow": "workflow.name",
    "capability": "capability.name",
}


class Place(NamedTuple):
    """Where a call stands.

    Args:
        at: The time, in UTC.
        trace: Its span, or the one around it.
        run: Id of the outermost agent run.
        session: Session id.
        agent: Innermost agent.
        call_id: The provider's tool-call id; a span id stands in for it.
    """

    at: datetime
    trace: TraceRef | None = None
    run: str | None = None
    session: str | None = None
    agent: str | None = None
    call_id: str | None = None


def native_event(kind: str, name: str, place: Place, *, outcome: str | None = None, facts: Mapping[str, object] = _EMPTY) -> TraceEvent:
    """The start or the end of a call.

    Args:
        kind: `tool`, `agent`, `workflow`, `model` or `capability`.
        name: Its name.
        place: Where it stands.
        outcome: `ok`, `error`, `cancelled` or `closed`; None for a start.
        facts: More attributes, such as `error.type`.
    """
    ending = "start" if outcome is None else _ENDINGS.get(outcome, "finish")
    type_: TraceEventType = "error" if outcome == "error" else "capability" if kind == "capability" else "run"
    step = place.call_id or (place.trace.parent_id if place.trace else None)
    ids = {_STEP[kind]: step} if kind in _STEP else {"step.id": place.trace.parent_id if place.trace else None}
    return _event(f"{kind}.{ending}", type_, place, {**ids, _NAME.get(kind, "step.name"): name, **facts})


def decision_event(tool: str, place: Place, decision: str, *, reason: str | None = None, rule: str | None = None) -> TraceEvent:
    """A decision about a call: `allow`, `deny`, `require-approval` or `retryable-failure`."""
    facts = {"tool.name": tool, "tool.call_id": place.call_id, "policy.decision": decision, "policy.reason": reason, "policy.rule": rule}
    return _event("policy.decision", "policy", place, facts)


def declassified_event(place: Place, label: str, why: str) -> TraceEvent:
    """A label was taken off the session, and the reason that was given."""
    return _event("session.declassified", "policy", place, {"session.label": label, "session.why": why})


def approval_event(request: ApprovalRequest, place: Place) -> TraceEvent:
    """A question to people, or its answer."""
    waits = request.state == "awaiting-approval"
    facts = {
        "approval.id": request.id,
        "tool.name": request.capability,
        "tool.call_id": place.call_id,
        "approval.outcome": None if waits else request.state,
        "policy.rule": request.rule,
        "policy.reason": request.reason,
    }
    return _event("approval.request" if waits else "approval.decision", "approval", place, facts)


def usage_event(place: Place, usage: TokenUsage) -> TraceEvent:
    """The Agent Usage Record of a run: the sums over its model calls, emitted once, right before its end."""
    facts = {"usage.total.input_tokens": usage.input_tokens, "usage.total.output_tokens": usage.output_tokens}
    return _event("usage.summary", "run", place, facts)


def _event(name: str, type_: TraceEventType, place: Place, facts: Mapping[str, object]) -> TraceEvent:
    where = {"event.source": SOURCE, "run.id": place.run, "session.id": place.session, "agent.name": place.agent}
    known = {key: value for key, value in {**where, **facts}.items() if value is not None}
    return TraceEvent(name, type_, place.at, place.trace, known)
