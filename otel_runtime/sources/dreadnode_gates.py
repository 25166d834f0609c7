"""What stands between a Dreadnode tool call and its execution: a judge's verdict, a question to a person, a hook's reaction."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Final

from otel_runtime.sources.dreadnode_state import Turn
from otel_runtime.sources.dreadnode_table import DECISIONS
from otel_runtime.sources.reading import flag, mapping, optional_text, present
from otel_runtime.values.trace import TraceEvent

__all__ = ["answered", "errors_of", "prompt", "stopped", "verdict_of"]

Fields = Mapping[str, object]
# With each of these a hook takes over: the event it reacted to has no further consequence.
_REACTIONS: Final = frozenset({"Continue", "Fail", "Finish", "Retry", "RetryWithFeedback"})


def errors_of(data: Fields) -> dict[str, object]:
    """What an agent event says of a failure."""
    if data.get("error") is None and data.get("error_type") is None:
        return {}
    kind, message = optional_text(data, "error_type"), optional_text(data, "error")
    if kind is None and message is None:
        return {}
    return {"error.type": kind or "_OTHER", **present(error__message=message)}


def verdict_of(value: object) -> dict[str, object]:
    """The facts of a `policy_decision`."""
    verdict = mapping(value, "policy_decision")
    return present(
        policy__decision=DECISIONS.get(str(verdict.get("runtime_action")).lower()),
        policy__reason=optional_text(verdict, "reason"),
        policy__asked=DECISIONS.get(str(verdict.get("judge_action")).lower()),
        policy__kind=optional_text(verdict, "kind"),
        policy__source=optional_text(verdict, "source"),
    )


def prompt(payload: Fields, turn: Turn) -> dict[str, object]:
    """The facts of a question to a person."""
    raw = mapping(payload.get("raw_event") or {}, "raw_event")
    data = mapping(raw.get("data") or {}, "data")
    asked_as = (optional_text(payload, "event_type") or optional_text(raw, "type") or "").lower()
    given = data.get("tool_approval")
    approval = mapping(given, "tool_approval") if isinstance(given, Mapping) else {}
    call = optional_text(data, "source_tool_call_id") or optional_text(approval, "tool_call_id")
    facts = present(
        approval__id=optional_text(data, "request_id", "id", "tool_call_id", "source_tool_call_id"),
        approval__kind="permission" if approval or asked_as.startswith("permission") else "input",
        approval__asked_as=asked_as or None,
        approval__arguments=approval.get("arguments") if approval else {"questions": data.get("questions")},
        tool__name=optional_text(data, "source_tool_name") or optional_text(approval, "tool_name"),
        tool__call_id=call,
        # A judge asks before the call is announced: the question then stands beside the call, under the generation.
        parent__id=turn.generation if turn.generation is not None and call not in turn.calls else call,
    )
    if "approval.id" in facts and "tool.call_id" in facts:
        turn.asking[str(facts["tool.call_id"])] = str(facts["approval.id"])
    return facts


def answered(kind: str, moment: datetime | None, base: dict[str, object], data: Fields, turn: Turn) -> Iterable[TraceEvent]:
    """The end of a question, told by the call that it was about: that system has no event of its own for an answer."""
    call = optional_text(mapping(data.get("tool_call") or {}, "tool_call"), "id") or ""
    outcome = _answer(kind, data)
    approval = turn.asking.pop(call, None) if outcome is not None else None
    if approval is not None:
        yield TraceEvent("approval.resolved", "approval", moment, None, {**base, "approval.id": approval, "approval.outcome": outcome})


def _answer(kind: str, data: Fields) -> str | None:
    if kind != "toolstart":
        # Which answer it was shows in the tool's result only, and that is content; that there was none shows in its error.
        return "cancelled" if data.get("error_type") == "UserCancelled" else "answered"
    # A judge that asked a person says on the call's start what the person said.
    said = flag(mapping(data.get("policy_decision") or {}, "policy_decision"), "human_approved")
    return None if said is None else "approved" if said else "denied"


def stopped(moment: datetime | None, base: dict[str, object], data: Fields, turn: Turn) -> Iterable[TraceEvent]:
    """A hook that reacts to a call's start stops it: it never runs, and no other event of it comes.

    A judge that failed, and feedback to the model that names the call, are denials.
    """
    reaction = mapping(data.get("reaction") or {}, "reaction")
    kind = optional_text(reaction, "type")
    if turn.starting is None or kind not in _REACTIONS:
        return
    call, tool = turn.starting
    turn.calls.pop(call, None)
    facts = {**base, "parent.id": turn.generation, **present(tool__name=tool)}
    reason = _denial(kind, reaction, data, call)
    if reason is None:
        yield TraceEvent("tool.failed", "run", moment, None, {**facts, "tool.id": call, "error.type": kind})
        return
    facts["policy.reason"] = reason
    yield TraceEvent("policy.decision", "policy", moment, None, {**facts, "policy.decision": "deny", "tool.call_id": call})
    yield TraceEvent("tool.failed", "policy", moment, None, {**facts, "tool.id": call, "error.type": "PolicyDenied"})


def _denial(kind: str, reaction: Fields, data: Fields, call: str) -> str | None:
    if "judge" in str(data.get("hook_name")) and kind in ("Finish", "Fail"):
        return "the judge failed"
    if kind == "RetryWithFeedback" and optional_text(reaction, "tool_call_id") == call:
        return optional_text(reaction, "feedback") or "a hook refused it"
    return None
