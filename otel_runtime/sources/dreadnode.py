"""Dreadnode runtime events: the thirteen envelope kinds of the seed page, and the agent events inside `turn.event`.

Both shapes are read: an EventEnvelope (`kind`, `payload`, `session_id`, `turn_id`, ...) and a bare agent event (`type`, `agent_id`,
`data`), as a worker inside an agent sees it. A turn is a run; without envelopes the agent is. Another agent inside a turn is a run of
its own under it.

Truths of the real system that this module knows: a generation's end event comes after its tools, so the end of the model's own work
is taken from the first sign after it (`step.ended_at`), and the tools stand under their generation; usage comes twice (end and step)
and is taken from the end only; a refused tool still says `toolstart`; `seq` counts over the whole bus, so gaps within one session mean
nothing; a session that is closed in the middle of a turn emits no terminal event.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from functools import lru_cache
from typing import Final

from otel_runtime.sources.dreadnode_gates import answered, errors_of, prompt, stopped, verdict_of
from otel_runtime.sources.dreadnode_state import OWN_IDS, Turn, Turns
from otel_runtime.sources.dreadnode_table import AGENT_EVENTS, DECISIONS, KINDS, LAGS, AgentEvent, Kind
from otel_runtime.sources.reading import Malformed, Reader, instant, integer, mapping, optional_text, present, text
from otel_runtime.values.trace import TraceEvent

__all__ = ["AGENT_EVENTS", "DECISIONS", "KINDS", "AgentEvent", "Dreadnode", "Kind"]

Fields = Mapping[str, object]
_TYPE: Final = 128

# What an envelope's payload holds that is read elsewhere, or is content.
_READ: Final = frozenset({"turn_id", "session_id", "agent", "model", "error", "usage", "raw_event", "tool_calls", "duration_ms"})
# What ends a run that has no envelope; a session says the last two itself, after its agent.
_ENDS: Final = {"agentend": "completed", "cancelled": "cancelled", "error": "failed"}
_OF_TOOLS: Final = frozenset({"toolstart", "toolend", "toolerror"})
# What is said of a generation after its start.
_TOLD_AFTERWARDS: Final = frozenset({"generationcontent", "generationstep"})
# Signs that a model has said what it had to say, though its end event is still to come.
_AFTER_THINKING: Final = frozenset({"generationcontent", "toolstart", "generationend", "generationerror", "userinputrequired"})


class Dreadnode(Reader):
    """Reads envelopes and agent events."""

    name = "dreadnode"

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self._turns = Turns()
        self._speaker = stream
        # Kind, turn and session of the last envelope that named all three, and what they say: thousands in a row have the same.
        self._place: tuple[object, object, object] | None = None
        self._said: dict[str, object] = {}

    def read(self, raw: Fields) -> Iterable[TraceEvent]:
        """The TraceEvents of one envelope or agent event."""
        if "kind" in raw:
            return self._envelope(raw)
        kind = _lower(text(raw, "type"))
        run = optional_text(raw, "agent_id") if kind not in OWN_IDS else None
        if run is None:
            # What a session says beside its agent names none, and often no time: it is of the agent that spoke last.
            run = self._speaker
        self._speaker = run
        common: dict[str, object] = {"event.source": self.name, "run.id": run}
        turn = self._turns[run]
        if turn.session is not None and kind != "agentstart":
            common["session.id"] = turn.session
        return self._agent_event(raw, kind, raw.get("timestamp") or turn.heard, common, turn, ends_run=True)

    def _envelope(self, raw: Fields) -> Iterable[TraceEvent]:
        payload = raw.get("payload") or {}
        if type(payload) is not dict:
            payload = mapping(payload, "payload")
        common = self._common(raw, payload)
        kind, run = str(common["event.kind"]), common.get("run.id")
        turn = self._turns[str(run or self._stream)]
        if kind == "turn.event":
            inner = payload.get("raw_event")
            inner = inner if type(inner) is dict else mapping(inner, "raw_event")
            when = inner.get("timestamp") or raw.get("timestamp")
            told = inner.get("type")
            kind = _lower(told[:_TYPE]) if told and type(told) is str else _kind_of(told, payload)
            return self._agent_event(inner, kind, when, common, turn, ends_run=False)
        row = KINDS.get(kind, Kind(kind, "lifecycle"))
        facts = prompt(payload, turn) if kind == "prompt.required" else _kind_facts(row, payload)
        if kind == "session.deleted":
            facts["session.ended"] = True
        if kind in LAGS:
            facts |= {"stream.lost": integer(payload, "lost") or 1, "log.level": "warning"}
        if row.outcome and run:
            self._turns.forget(str(run))
        moment = instant(raw.get("timestamp"))
        return (*self._end_of_thinking(kind, moment, common, turn), TraceEvent(row.name, row.type, moment, None, {**common, **facts}))

    def _common(self, raw: Fields, payload: Fields) -> dict[str, object]:
        """What is said of every event: where it comes from, its number, its session and its turn."""
        place = raw.get("kind"), raw.get("turn_id"), raw.get("session_id")
        if place == self._place:
            found = self._said.copy()
        else:
            found = self._placed(raw, payload)
            if all(type(part) is str and part for part in place):
                self._place, self._said = place, found.copy()
        if event_id := optional_text(raw, "event_id"):
            found["event.id"] = event_id
        if "seq" in raw and (number := integer(raw, "seq")) is not None:
            found["event.seq"] = number
        return found

    def _placed(self, raw: Fields, payload: Fields) -> dict[str, object]:
        kind = text(raw, "kind")
        found: dict[str, object] = {"event.source": self.name, "event.kind": kind}
        if session := optional_text(raw, "session_id") or optional_text(payload, "session_id"):
            found["session.id"] = session
        # Only what speaks of a turn opens one; a heartbeat that names it belongs to whatever its session has open.
        if kind.startswith(("turn.", "prompt.")) and (run := optional_text(raw, "turn_id") or optional_text(payload, "turn_id")):
            found["run.id"] = run
            found["run.announced"] = True
        return found

    def _agent_event(
        self, raw: Fields, kind: str, when: object, common: dict[str, object], turn: Turn, *, ends_run: bool
    ) -> Iterable[TraceEvent]:
        """The TraceEvents of one agent event.

        Args:
            raw: The event.
            kind: Its type, in lower case.
            when: Its time.
            common: What the envelope says already.
            turn: The turn it belongs to.
            ends_run: True when there is no envelope around it that will end the run.
        """
        data = raw.get("data")
        data = {} if not data else data if type(data) is dict else mapping(data, "data")
        row = AGENT_EVENTS.get(kind) or AgentEvent(f"agent.{kind}", "lifecycle")
        moment = instant(when)
        common["event.kind"] = kind
        if agent := optional_text(raw, "agent_name"):
            common["agent.name"] = agent
        if row.often:
            common["event.often"] = True
        if not ends_run and raw.get("agent_id") != turn.agent and (inner := turn.other_agent(optional_text(raw, "agent_id"), kind)):
            run = common.get("run.id", self._stream)
            common |= {"run.id": f"{run}:{inner}", "parent.run.id": run, **present(parent__id=turn.place())}
            turn, ends_run = self._turns[str(common["run.id"])], True
        before: tuple[TraceEvent, ...] = ()
        if kind == "agentstart":
            turn, before = self._begin(moment, common, data, turn, ends_run=ends_run)
        elif turn.thinking is not None:
            before = self._end_of_thinking(kind, moment, common, turn)
        if turn.delegates and kind in _TOLD_AFTERWARDS:
            kind, row, before = _unannounced(kind, row, moment, common, data, turn, before)
        elif kind == "reactstep" or turn.asking:
            before = (*before, *_of_gates(kind, moment, common, data, turn))
        turn.starting = None
        if moment is not None and (turn.heard is None or moment > turn.heard):
            turn.heard = moment
        if row.step == "tool":
            event = _tool(row, moment, common, data, turn)
        else:
            event = _unit(kind, row, moment, common, data, turn, ends_run=ends_run)
        return (*before, event) if before else (event,)

    def _begin(
        self, moment: datetime | None, common: dict[str, object], data: Fields, turn: Turn, *, ends_run: bool
    ) -> tuple[Turn, tuple[TraceEvent, ...]]:
        """An agent starts; where it has no envelope that is a run, and the end of an earlier one that never ended."""
        before: tuple[TraceEvent, ...] = ()
        if ends_run:
            # Here it is the start of a run, not a repetition of one.
            common.pop("event.often", None)
            if turn.is_before(moment):
                if turn.begun and not turn.over:
                    before = (TraceEvent("agent.abandoned", "run", turn.heard, None, {**common, "run.outcome": "closed"}),)
                run = str(common.get("run.id", self._stream))
                self._turns.forget(run)
                turn = self._turns[run]
            turn.begun = True
        params = mapping(data.get("params") or {}, "params")
        turn.model, turn.delegates = optional_text(params, "model"), optional_text(params, "engine") is not None
        turn.session = optional_text(params, "session_id")
        return turn, before

    def _end_of_thinking(self, kind: str, moment: datetime | None, base: dict[str, object], turn: Turn) -> tuple[TraceEvent, ...]:
        """The first tool or content after a generation's start: its own work is over, though its end event is still to come."""
        if kind not in _AFTER_THINKING or turn.thinking is None:
            return ()
        step, turn.thinking = turn.thinking, None
        if moment is None:
            return ()
        facts = {**base, "event.kind": "", "event.often": True, "model.call.id": step, "step.ended_at": moment}
        return (TraceEvent("model.progress", "run", moment, None, facts),)


def _kind_of(told: object, payload: Fields) -> str:
    """The type of the agent event inside an envelope, which stands in where it says none."""
    kind = payload.get("event_type") if told is None else told
    if not kind or not isinstance(kind, str):
        raise Malformed("type: expected a text")
    return _lower(kind[:_TYPE])


@lru_cache(maxsize=256)
def _lower(kind: str) -> str:
    return kind.lower()


def _unit(
    kind: str, row: AgentEvent, moment: datetime | None, base: dict[str, object], data: Fields, turn: Turn, *, ends_run: bool
) -> TraceEvent:
    if row.step == "model":
        return _generation(kind, row, moment, base, data, turn)
    if kind == "userinputrequired":
        return TraceEvent(row.name, row.type, moment, None, {**base, **prompt({"event_type": kind, "raw_event": {"data": data}}, turn)})
    facts = errors_of(data) if kind in ("agentend", "agenterror") else {}
    if ends_run and kind in _ENDS:
        facts["run.outcome"] = "failed" if facts else _ENDS[kind]
        # Kept until it starts again: what is said twice, here without an id, still counts once.
        turn.over = True
    if kind == "agentstart" and ends_run:
        params = mapping(mapping(data.get("params") or {}, "params"), "params")
        facts = present(session__id=base.get("session.id") or optional_text(params, "session_id"))
    return TraceEvent(row.name, row.type, moment, None, {**base, **facts})


def _generation(kind: str, row: AgentEvent, moment: datetime | None, base: dict[str, object], data: Fields, turn: Turn) -> TraceEvent:
    step = f"generation-{integer(data, 'step') or 0}"
    if kind == "generationstart":
        turn.thinking = turn.generation = step
    # Tokens of one generation count once, whichever of its events repeats them.
    usage = mapping(data.get("usage") or {}, "usage") if kind == "generationend" and turn.counts(step) else {}
    facts = present(
        step__ended_at=moment if kind == "generationcontent" else None,
        model__name=optional_text(data, "model"),
        finish_reason=optional_text(data, "stop_reason"),
        usage__input_tokens=integer(usage, "input_tokens"),
        usage__output_tokens=integer(usage, "output_tokens"),
    )
    return TraceEvent(row.name, row.type, moment, None, {**base, "model.call.id": step, **facts, **errors_of(data)})


def _of_gates(kind: str, moment: datetime | None, base: dict[str, object], data: Fields, turn: Turn) -> Iterable[TraceEvent]:
    if kind == "reactstep":
        return stopped(moment, base, data, turn)
    return answered(kind, moment, base, data, turn) if kind in _OF_TOOLS else ()


def _unannounced(
    kind: str, row: AgentEvent, moment: datetime | None, base: dict[str, object], data: Fields, turn: Turn, before: tuple[TraceEvent, ...]
) -> tuple[str, AgentEvent, tuple[TraceEvent, ...]]:
    """The kind and row of an event that comes after a generation, and what is told before it.

    An engine that hands its loop to another program says nothing of a generation until it is over, and no `generationend` either: it
    began when the last thing before it was heard, and ends with its step.
    """
    step = f"generation-{integer(data, 'step') or 0}"
    if turn.first_word_of(step):
        turn.generation = step
        facts = {**base, "model.call.id": step, **present(model__name=optional_text(data, "model") or turn.model)}
        del facts["event.often"]
        before = (*before, TraceEvent("model.start", "run", turn.heard or moment, None, facts))
    if kind == "generationstep" and turn.first_word_of(f"end of {step}"):
        base.pop("event.often", None)
        return "generationend", AGENT_EVENTS["generationend"], before
    return kind, row, before


def _tool(row: AgentEvent, moment: datetime | None, base: dict[str, object], data: Fields, turn: Turn) -> TraceEvent:
    call = data.get("tool_call")
    call = call if type(call) is dict else mapping(call, "tool_call")
    # Nobody else holds the common facts by now.
    if tool := optional_text(call, "name"):
        base["tool.name"] = tool
    told = optional_text(call, "id")
    call_id = told or f"tool-{text(call, 'name')}"
    if turn.generation is not None:
        base["parent.id"] = turn.generation
    verdict = verdict_of(data["policy_decision"]) if data.get("policy_decision") else None
    if verdict:
        base.update(verdict)
    starts = row.name == "tool.start"
    if starts and verdict and verdict.get("policy.decision", "allow") != "allow":
        # Refused before it ran: a decision, not an executed tool.
        turn.refused[call_id] = None
        base.update(present(tool__call_id=told))
        return TraceEvent("policy.decision", "policy", moment, None, base)
    if starts:
        turn.accept(call_id, tool)
    elif call_id in turn.refused:
        more = {**errors_of(data), **present(tool__call_id=told), "event.often": True}
        return TraceEvent("tool.refused.summary", row.type, moment, None, {**base, **more})
    elif not row.often and turn.end(call_id, failed=row.type == "error"):
        # It had ended well: what failed is what a hook did about its end, and that is no second call.
        return TraceEvent(row.name, row.type, moment, None, {**base, **errors_of(data)})
    # A call without an id is known by its tool, and no id is made up for it.
    base["step.id" if told is None else "tool.id"] = call_id
    errors = errors_of(data) if "error" in data or "error_type" in data else None
    if errors:
        base.update(errors)
    return TraceEvent("tool.failed" if errors and not row.often else row.name, row.type, moment, None, base)


def _kind_facts(row: Kind, payload: Fields) -> dict[str, object]:
    # A dotted name is one of ours: no field of theirs has any.
    plain = {key: value for key, value in payload.items() if key not in _READ and "." not in str(key)}
    facts = {**plain, **present(agent__name=optional_text(payload, "agent"), model__name=optional_text(payload, "model"))}
    if row.log:
        crashed = row.name == "component.state_changed" and payload.get("error") is not None
        facts["log.level"] = "error" if crashed else row.log
    if row.name == "component.state_changed":
        facts |= present(**{f"component__{field}": optional_text(payload, field) for field in ("capability", "kind", "name", "status")})
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
            run__duration_ms=integer(payload, "duration_ms"),
        ),
    }
