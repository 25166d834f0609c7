"""Dreadnode runtime events: the thirteen envelope kinds of the seed page, and the agent events inside `turn.event`.

Both shapes are read: an EventEnvelope (`kind`, `payload`, `session_id`, `turn_id`, ...) and a bare agent event (`type`, `agent_id`,
`data`), as a worker inside an agent sees it. A turn is a run; without envelopes the agent is.

Truths of the real system that this module knows: a generation's end event comes after its tools, so the end of the model's own work
is taken from the first sign after it (`step.ended_at`); usage comes twice (end and step) and is taken from the end only; a refused
tool still says `toolstart`; `seq` counts over the whole bus, so gaps within one session mean nothing.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Final, NamedTuple

from otel_runtime.sources.reading import Reader, instant, integer, mapping, optional_text, present, text
from otel_runtime.values.trace import TraceEvent, TraceEventType

__all__ = ["AGENT_EVENTS", "DECISIONS", "KINDS", "AgentEvent", "Dreadnode", "Kind"]

Fields = Mapping[str, object]


class Kind(NamedTuple):
    """What an envelope of one kind becomes.

    Args:
        name: Name of the TraceEvent.
        type: Type of the TraceEvent.
        outcome: Set for the kinds that end a turn.
    """

    name: str
    type: TraceEventType
    outcome: str = ""


class AgentEvent(NamedTuple):
    """What an agent event becomes.

    Args:
        name: Name of the TraceEvent.
        type: Type of the TraceEvent.
        step: `tool` or `model` when it belongs to a tool call or a generation.
        often: True for what comes in numbers or repeats other events: it is counted, not recorded one by one.
    """

    name: str
    type: TraceEventType = "run"
    step: str = ""
    often: bool = False


# turn.event is missing here on purpose: it is opened, and what is inside decides.
KINDS: Final[dict[str, Kind]] = {
    "turn.accepted": Kind("turn.accepted", "run"),
    "turn.started": Kind("turn.started", "run"),
    "turn.completed": Kind("turn.completed", "run", "completed"),
    "turn.failed": Kind("turn.failed", "error", "failed"),
    "turn.cancelled": Kind("turn.cancelled", "run", "cancelled"),
    "prompt.required": Kind("approval.request", "approval"),
    "session.created": Kind("session.created", "lifecycle"),
    "session.deleted": Kind("session.deleted", "lifecycle"),
    "session.warning": Kind("session.warning", "lifecycle"),
    "capabilities.reloaded": Kind("capabilities.reloaded", "capability"),
    "component.state_changed": Kind("component.state_changed", "lifecycle"),
    "transport.heartbeat": Kind("transport.heartbeat", "lifecycle"),
}
AGENT_EVENTS: Final[dict[str, AgentEvent]] = {
    "agentstart": AgentEvent("agent.start", often=True),
    "agentend": AgentEvent("agent.finish", often=True),
    "generationstart": AgentEvent("model.start", "run", "model"),
    "generationcontent": AgentEvent("model.output", "run", "model", often=True),
    "generationend": AgentEvent("model.finish", "run", "model"),
    "generationerror": AgentEvent("model.failed", "error", "model"),
    "generationretry": AgentEvent("model.retry", "run"),
    # Comes after generationend and repeats it, usage too.
    "generationstep": AgentEvent("model.summary", often=True),
    "toolstart": AgentEvent("tool.start", "run", "tool"),
    "toolend": AgentEvent("tool.finish", "run", "tool"),
    "toolerror": AgentEvent("tool.failed", "error", "tool"),
    # Comes after toolend and repeats it.
    "toolstep": AgentEvent("tool.summary", often=True),
    "reactstep": AgentEvent("agent.reaction", "policy"),
    "compaction": AgentEvent("context.compacted", "lifecycle"),
    "stalled": AgentEvent("agent.stalled", "lifecycle"),
    "userinputrequired": AgentEvent("approval.request", "approval"),
}
# events.md, "Decision map".
DECISIONS: Final[dict[str, str]] = {
    "allow": "allow",
    "continue": "allow",
    "skip": "allow",
    "deny": "deny",
    "block": "deny",
    "ask": "require-approval",
    "escalate": "require-approval",
    "retry": "retryable-failure",
}
# Generations and questions whose end is awaited; forgotten oldest first.
_RUNS: Final = 1024


class Dreadnode(Reader):
    """Reads envelopes and agent events."""

    name = "dreadnode"

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self._thinking: OrderedDict[str, str] = OrderedDict()
        self._asking: OrderedDict[tuple[str, str], str] = OrderedDict()

    def read(self, raw: Fields) -> Iterable[TraceEvent]:
        """The TraceEvents of one envelope or agent event."""
        if "kind" not in raw:
            run = optional_text(raw, "agent_id") or self._stream
            return self._agent_event(raw, {"event.source": self.name, "run.id": run}, ends_run=True)
        return self._envelope(raw)

    def _envelope(self, raw: Fields) -> Iterable[TraceEvent]:
        kind, payload = text(raw, "kind"), mapping(raw.get("payload") or {}, "payload")
        common = present(
            event__source=self.name,
            event__kind=kind,
            event__id=optional_text(raw, "event_id"),
            session__id=optional_text(raw, "session_id") or optional_text(payload, "session_id"),
            run__id=optional_text(raw, "turn_id") or optional_text(payload, "turn_id"),
        )
        if kind == "turn.event":
            inner = dict(mapping(payload.get("raw_event"), "raw_event"))
            inner.setdefault("type", payload.get("event_type"))
            return self._agent_event(inner, common, ends_run=False)
        row = KINDS.get(kind, Kind(kind, "lifecycle"))
        facts = self._prompt(payload, common) if kind == "prompt.required" else _kind_facts(row, payload)
        return (TraceEvent(row.name, row.type, instant(raw.get("timestamp")), None, {**common, **facts}),)

    def _agent_event(self, raw: Fields, common: dict[str, object], *, ends_run: bool) -> Iterable[TraceEvent]:
        kind = text(raw, "type").lower()
        data = mapping(raw.get("data") or {}, "data")
        row = AGENT_EVENTS.get(kind, AgentEvent(f"agent.{kind}", "lifecycle"))
        moment = instant(raw.get("timestamp"))
        base = {**common, "event.kind": kind, **present(agent__name=optional_text(raw, "agent_name"), event__often=row.often or None)}
        yield from self._end_of_thinking(kind, moment, base)
        if kind in ("toolend", "toolerror"):
            yield from self._end_of_asking(moment, base, data)
        yield self._unit(kind, row, moment, base, data, ends_run=ends_run)

    def _unit(
        self, kind: str, row: AgentEvent, moment: datetime | None, base: dict[str, object], data: Fields, *, ends_run: bool
    ) -> TraceEvent:
        if row.step == "tool":
            return _tool(row, moment, base, data)
        if row.step == "model":
            return self._generation(kind, row, moment, base, data)
        if kind == "userinputrequired":
            return TraceEvent(row.name, row.type, moment, None, {**base, **self._prompt({"raw_event": {"data": data}}, base)})
        facts = _errors(data) if kind == "agentend" else {}
        if kind == "agentend" and ends_run:
            facts["run.outcome"] = "failed" if facts else "completed"
        return TraceEvent(row.name, row.type, moment, None, {**base, **facts})

    def _generation(self, kind: str, row: AgentEvent, moment: datetime | None, base: dict[str, object], data: Fields) -> TraceEvent:
        step = f"generation-{integer(data, 'step') or 0}"
        run = self._run(base)
        if kind == "generationstart":
            self._thinking[run] = step
            if len(self._thinking) > _RUNS:
                self._thinking.popitem(last=False)
        facts = present(model__name=optional_text(data, "model"), finish_reason=optional_text(data, "stop_reason"))
        usage = mapping(data.get("usage") or {}, "usage")
        facts |= present(usage__input_tokens=integer(usage, "input_tokens"), usage__output_tokens=integer(usage, "output_tokens"))
        return TraceEvent(row.name, row.type, moment, None, {**base, "model.call.id": step, **facts, **_errors(data)})

    def _prompt(self, payload: Fields, common: dict[str, object]) -> dict[str, object]:
        facts = _prompt(payload)
        if "approval.id" in facts and "tool.call_id" in facts:
            self._asking[self._run(common), str(facts["tool.call_id"])] = str(facts["approval.id"])
            if len(self._asking) > _RUNS:
                self._asking.popitem(last=False)
        return facts

    def _end_of_asking(self, moment: datetime | None, base: dict[str, object], data: Fields) -> Iterable[TraceEvent]:
        """The end of the tool that asked: that system has no event of its own for an answer."""
        call = optional_text(mapping(data.get("tool_call") or {}, "tool_call"), "id") or ""
        approval = self._asking.pop((self._run(base), call), None)
        if approval is not None:
            # Which answer it was shows in the tool's result only, and that is content.
            facts = {**base, "approval.id": approval, "approval.outcome": "answered"}
            yield TraceEvent("approval.resolved", "approval", moment, None, facts)

    def _run(self, base: dict[str, object]) -> str:
        return str(base.get("run.id", self._stream))

    def _end_of_thinking(self, kind: str, moment: datetime | None, base: dict[str, object]) -> Iterable[TraceEvent]:
        """The first tool or content after a generation's start: its own work is over, though its end event is still to come."""
        run = self._run(base)
        if kind not in ("generationcontent", "toolstart", "generationend", "generationerror") or run not in self._thinking:
            return
        step = self._thinking.pop(run)
        if moment is not None:
            yield TraceEvent(
                "model.progress", "run", moment, None, {**base, "event.kind": "", "model.call.id": step, "step.ended_at": moment}
            )


def _tool(row: AgentEvent, moment: datetime | None, base: dict[str, object], data: Fields) -> TraceEvent:
    call = mapping(data.get("tool_call"), "tool_call")
    verdict = mapping(data.get("policy_decision") or {}, "policy_decision")
    decision = DECISIONS.get(str(verdict.get("runtime_action")).lower())
    facts = present(tool__name=optional_text(call, "name"), policy__decision=decision, policy__reason=optional_text(verdict, "reason"))
    if row.name == "tool.start" and decision not in (None, "allow"):
        # Refused before it ran: a decision, not an executed tool.
        refused = {**base, **facts, **present(tool__call_id=optional_text(call, "id"))}
        return TraceEvent("policy.decision", "policy", moment, None, refused)
    errors = _errors(data)
    name = "tool.failed" if errors else row.name
    return TraceEvent(name, row.type, moment, None, {**base, "tool.id": text(call, "id"), **facts, **errors})


def _errors(data: Fields) -> dict[str, object]:
    kind, message = optional_text(data, "error_type"), optional_text(data, "error")
    if kind is None and message is None:
        return {}
    return {"error.type": kind or "_OTHER", **present(error__message=message)}


def _prompt(payload: Fields) -> dict[str, object]:
    data = mapping(mapping(payload.get("raw_event") or {}, "raw_event").get("data") or {}, "data")
    return present(
        approval__id=optional_text(data, "request_id", "source_tool_call_id"),
        tool__name=optional_text(data, "source_tool_name"),
        tool__call_id=optional_text(data, "source_tool_call_id"),
    )


def _kind_facts(row: Kind, payload: Fields) -> dict[str, object]:
    plain = {
        key: value
        for key, value in payload.items()
        if key not in ("turn_id", "session_id", "agent", "model", "error", "usage", "raw_event")
    }
    facts = {**plain, **present(agent__name=optional_text(payload, "agent"), model__name=optional_text(payload, "model"))}
    if not row.outcome:
        return facts
    error = mapping(payload.get("error") or {}, "error")
    usage = mapping(payload.get("usage") or {}, "usage")
    return {
        **facts,
        "run.outcome": row.outcome,
        **present(
            error__type=optional_text(error, "type"),
            error__message=optional_text(error, "message"),
            usage__total__input_tokens=integer(usage, "input_tokens"),
            usage__total__output_tokens=integer(usage, "output_tokens"),
        ),
    }
