"""a3s `AgentEvent`: the 38 variants of the seed page, one row each, in its order.

Wire tags are the snake_case of the variant (`type: tool_start`); `Start` and `End` are also spelled `agent_start` and `agent_end`;
the Rust spelling (`ToolStart`, and `{"ToolStart": {...}}`) is read too, and so are objects with the fields as attributes. Events carry
no time, sequence or session: the subscription may put `timestamp`, `session_id` and `seq` beside them.

A run is what happens in one session between `Start` and `End`. A sub-agent is a run under the step that started it; its session is
registered, and what comes of that session belongs to it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from functools import lru_cache
from typing import Final, NamedTuple

from otel_runtime.sources.a3s_state import Session, Sessions
from otel_runtime.sources.a3s_table import ALIASES, VARIANTS, Variant
from otel_runtime.sources.reading import Reader, flag, instant, integer, mapping, optional_text, present, text
from otel_runtime.values.trace import TraceEvent

__all__ = ["A3S", "VARIANTS", "Variant"]

Fields = Mapping[str, object]

_TAG: Final = 128
_NAME: Final = 256
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
# What the wire spells otherwise than a TraceEvent does. `id` and `name` belong to tools only.
_RENAMED: Final[dict[str, str]] = {"tool_name": "tool.name", "agent": "agent.name", "message": "error.message", "error": "error.message"}
_OWN: Final = frozenset({"type", "timestamp", "session_id", "parent_session_id", "seq", "id", "name", "usage", "event_id"})
# Variants whose own field `session_id` is not the subscription's.
_NAMES_A_SESSION: Final = frozenset(
    {"external_task_pending", "external_task_completed", "task_updated", "context_compacted", "persistence_failed"}
)
_SUBAGENT: Final = frozenset({"subagent_start", "subagent_progress", "subagent_end"})
# Span events of which many may come; each is counted, the first of them are recorded.
_CAPPED: Final = frozenset(
    "task_updated memory_stored memory_recalled memories_searched memory_cleared goal_extracted goal_progress goal_achieved"
    " context_compacted subagent_progress".split()
)
_YES: Final = frozenset({"approve", "approved", "auto_approve", "auto_approved", "autoapprove", "allow"})


class A3S(Reader):
    """Reads AgentEvents."""

    name = "a3s"
    tickable: frozenset[str] = frozenset({"text_delta", "tool_output_delta"})

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self._sessions = Sessions(stream)
        # The session of events that name none, once there was one.
        self._unnamed: Session | None = None

    def read(self, raw: Fields) -> Iterable[TraceEvent]:
        """The TraceEvents of one AgentEvent."""
        told = raw.get("type")
        tag, fields = (told, raw) if type(told) is str and told in _WAYS else _unwrap(raw)
        way = _WAYS.get(tag) or _way(tag, _unknown(tag))
        if tag in _SUBAGENT:
            return (self._subagent(tag, way, raw, fields),)
        if "session_id" not in raw and raw is fields:
            if (session := self._unnamed) is None:
                session = self._unnamed = self._sessions.of(None, None)
        else:
            names_one = tag in _NAMES_A_SESSION
            told = None if names_one and raw is fields else optional_text(raw, "session_id")
            session = self._sessions.of(told, optional_text(fields, "session_id") if names_one else None)
        return self._events(tag, way, raw, fields, session)

    def _events(self, tag: str, way: _Way, raw: Fields, fields: Fields, session: Session) -> tuple[TraceEvent, ...]:
        variant = way.variant
        moment = instant(raw["timestamp"]) if "timestamp" in raw else None
        abandoned = self._abandoned(tag, raw, session, moment) if tag == "start" else ()
        # Before the common facts: it may begin a run.
        within = None if way.within is None else way.within(fields, session)
        attributes = self._common(tag, raw, session)
        _add_plain(attributes, fields)
        if variant.step:
            attributes[variant.step] = _step(variant, fields)
        if way.facts is not None:
            attributes |= way.facts(fields)
        if within:
            attributes |= within
        if way.capped:
            attributes["event.capped"] = True
        name = variant.name if variant.fails is None else _name(variant, fields)
        if tag == "start":
            self._doubt(session, attributes)
        elif tag == "end":
            name = _end_of_run(session, name, attributes)
        event = TraceEvent(name, variant.type, moment, None, attributes)
        return (*abandoned, event) if abandoned else (event,)

    def _doubt(self, session: Session, attributes: dict[str, object]) -> None:
        """SubagentStart, which says whose run this is, may come after the sub-agent's own start, and even after its end."""
        session.doubtful = self._sessions.busy_elsewhere(session)
        if session.doubtful:
            attributes["run.perhaps_child"] = True

    def _abandoned(self, tag: str, raw: Fields, session: Session, moment: datetime | None) -> tuple[TraceEvent, ...]:
        """The end of an earlier run of this session that never ended: its process is gone, or its end was lost."""
        left = session.begin()
        if not left:
            return ()
        facts = {**self._common(tag, raw, session), "run.id": left, "run.outcome": "closed"}
        return (TraceEvent("invocation.abandoned", "run", moment, None, facts),)

    def _subagent(self, tag: str, way: _Way, raw: Fields, fields: Fields) -> TraceEvent:
        variant = way.variant
        child_id = text(fields, "session_id", "task_id")
        parent_id = optional_text(fields, "parent_session_id")
        child = self._sessions.child(child_id, parent_id if tag == "subagent_start" else None)
        if tag == "subagent_start":
            child.adopt()
        facts = self._common(tag, raw, child)
        _add_plain(facts, fields)
        if tag == "subagent_start":
            above = self._sessions.above(child)
            facts |= present(parent__run__id=above.run if above else None, parent__id=above.innermost() if above else None)
        if way.capped:
            facts["event.capped"] = True
        if tag == "subagent_end":
            facts["run.outcome"] = "completed" if flag(fields, "success") is not False else "failed"
            child.end()
        return TraceEvent(_name(variant, fields), variant.type, instant(raw.get("timestamp")), None, facts)

    def _common(self, tag: str, raw: Fields, session: Session) -> dict[str, object]:
        found: dict[str, object] = {"event.source": self.name, "event.kind": tag, "run.id": session.run, "run.announced": True}
        if session.id is not None:
            found["session.id"] = session.id
        if "event_id" in raw and (event_id := optional_text(raw, "event_id")):
            found["event.id"] = event_id
        if "seq" in raw and (number := integer(raw, "seq")) is not None:
            found["event.seq"] = number
        return found


def _unknown(tag: str) -> Variant:
    """Unknown variants pass. Newer ones that end on delta, such as `reasoning_delta`, come in thousands: they are counted."""
    plain = f"{tag.removesuffix('_delta')}.delta" if tag.endswith("_delta") else tag
    return Variant(f"a3s.{plain}", "lifecycle")


def _unwrap(raw: Fields) -> tuple[str, Fields]:
    if "type" not in raw and len(raw) == 1:
        ((tag, fields),) = raw.items()
        return _canonical(tag[:_TAG]), mapping(fields, tag if tag.isidentifier() else "variant")
    return _canonical(text(raw, "type")[:_TAG]), raw


@lru_cache(maxsize=256)
def _canonical(tag: str) -> str:
    snake = _HUMP.sub("_", tag).lower()
    return ALIASES.get(snake, snake)


def _name(variant: Variant, fields: Fields) -> str:
    failed = variant.fails is not None and variant.fails(fields)
    return variant.name.replace(".finish", ".failed") if failed else variant.name


def _end_of_run(session: Session, name: str, attributes: dict[str, object]) -> str:
    """The name of an `End`, by whose it is."""
    if session.child:
        # The run of a sub-agent ends with SubagentEnd, which also says whether it succeeded.
        return "invocation.summary"
    attributes["run.outcome"] = "completed"
    if session.doubtful:
        attributes["run.perhaps_child"] = True
    session.end()
    return name


# What a field is called in a TraceEvent; empty: it is said otherwise, or nobody's to say.
_PLAIN: dict[str, str] = {**dict.fromkeys(_OWN, ""), **_RENAMED}
_PLAIN_LIMIT: Final = 1024


def _add_plain(found: dict[str, object], fields: Fields) -> None:
    for key, value in fields.items():
        name = _PLAIN[key] if key in _PLAIN else _plain(key)
        if name:
            found[name] = value


def _plain(key: object) -> str:
    # A dotted name is one of ours: no field of theirs has any.
    if type(key) is not str or "." in key:
        return ""
    if len(_PLAIN) < _PLAIN_LIMIT and len(key) <= _NAME:
        _PLAIN[key] = key
    return key


def _step(variant: Variant, fields: Fields) -> str:
    field = variant.field
    if not field:
        return variant.prefix
    told = fields.get(field)
    if told and type(told) is str:
        return variant.prefix + told[:_NAME]
    number = integer(fields, field)
    return f"{variant.prefix}{text(fields, field) if number is None else number}"


def _turn_start(fields: Fields, session: Session) -> dict[str, object]:
    session.resume()
    session.turn = f"turn-{integer(fields, 'turn') or 0}"
    return {}


def _turn_end(_: Fields, session: Session) -> dict[str, object]:
    session.turn = None
    return {}


def _tool_start(fields: Fields, session: Session) -> dict[str, object]:
    session.tools[text(fields, "id")] = None
    return {} if session.turn is None else {"parent.id": session.turn}


def _tool_end(fields: Fields, session: Session) -> dict[str, object]:
    session.tools.pop(text(fields, "id"), None)
    return {}


def _under_turn(_: Fields, session: Session) -> dict[str, object]:
    return {} if session.turn is None else {"parent.id": session.turn}


def _under_tool(fields: Fields, session: Session) -> dict[str, object]:
    """Under the tool that waits: its start comes first, and its turn may be over by then."""
    call = optional_text(fields, "tool_id")
    return {"parent.id": call} if call in session.tools else _under_turn(fields, session)


def _in_turn(_: Fields, session: Session) -> dict[str, object]:
    return {} if session.turn is None else {"step.id": session.turn}


def _input_delta(fields: Fields, session: Session) -> dict[str, object]:
    """It names no tool: the only open one is meant, else it is the turn's and ambiguous."""
    size = _size(fields)
    if len(session.tools) == 1:
        return {"tool.id": next(iter(session.tools)), "delta.bytes": size}
    return {**_in_turn(fields, session), "delta.ambiguous": True, "delta.bytes": size}


# Which step of its run an event belongs to, or stands under, by what is open in its session.
_WITHIN: Final[Mapping[str, Callable[[Fields, Session], dict[str, object]]]] = {
    "turn_start": _turn_start,
    "turn_end": _turn_end,
    "tool_start": _tool_start,
    "tool_end": _tool_end,
    "tool_input_delta": _input_delta,
    "text_delta": _in_turn,
    "reasoning_delta": _in_turn,
    **dict.fromkeys(
        ("step_start", "planning_start", "context_resolving", "external_task_pending"),
        _under_turn,
    ),
    **dict.fromkeys(("confirmation_required", "permission_denied"), _under_tool),
}


def _tool(fields: Fields) -> dict[str, object]:
    name, code = fields.get("name"), fields.get("exit_code")
    found: dict[str, object] = {}
    if name and type(name) is str:
        found["tool.name"] = name[:_NAME]
    # A plain number is there already, under its own name.
    if code is not None and type(code) is not int and (number := integer(fields, "exit_code")) is not None:
        found["exit_code"] = number
    return found


def _question(fields: Fields) -> dict[str, object]:
    return present(
        approval__timeout_ms=integer(fields, "timeout_ms"),
        approval__arguments=fields.get("args"),
        approval__asked_id=optional_text(fields, "tool_id"),
        tool__call_id=optional_text(fields, "tool_id"),
    )


def _answer(fields: Fields) -> dict[str, object]:
    return {"approval.outcome": "approved" if flag(fields, "approved") else "denied"}


def _timeout(fields: Fields) -> dict[str, object]:
    # The upstream default on a timeout is to reject; anything but a clear yes is taken as no.
    return {"approval.outcome": "approved" if str(fields.get("action_taken")).lower() in _YES else "expired"}


def _denial(fields: Fields) -> dict[str, object]:
    told = present(policy__reason=optional_text(fields, "reason"), tool__call_id=optional_text(fields, "tool_id"))
    return {"policy.decision": "deny", **told}


def _level(value: object) -> str:
    told = str(value).lower()
    if told in ("critical", "error", "fatal", "high"):
        return "error"
    return "warning" if told in ("warning", "warn", "medium") else "info"


def _usage(fields: Fields, *, total: bool) -> dict[str, object]:
    usage = mapping(fields.get("usage") or {}, "usage")
    scope = "usage.total" if total else "usage"
    found = {
        "input_tokens": integer(usage, "prompt_tokens", "input_tokens"),
        "output_tokens": integer(usage, "completion_tokens", "output_tokens"),
    }
    return {f"{scope}.{name}": count for name, count in found.items() if count is not None}


def _size(fields: Fields) -> int:
    return len(str(fields.get("delta", "")).encode("utf-8", "replace"))


_FACTS: Final[Mapping[str, Callable[[Fields], dict[str, object]]]] = {
    "tool_start": _tool,
    "tool_end": _tool,
    "tool_output_delta": lambda fields: present(tool__name=optional_text(fields, "name")),
    "turn_end": lambda fields: _usage(fields, total=False),
    "end": lambda fields: _usage(fields, total=True),
    "confirmation_required": _question,
    "confirmation_received": _answer,
    "confirmation_timeout": _timeout,
    "permission_denied": _denial,
    "command_retry": lambda _: {"policy.decision": "retryable-failure"},
    "error": lambda _: {"run.tentative": True},
    "command_dead_lettered": lambda _: {"log.level": "error"},
    "persistence_failed": lambda _: {"log.level": "error"},
    "queue_alert": lambda fields: {"log.level": _level(fields.get("level"))},
}


class _Way(NamedTuple):
    """Everything about a tag that no event changes.

    Args:
        variant: Its row of the table.
        within: Finds the step it belongs to, or stands under; None when it has none.
        facts: What else it says; None when its fields say all.
        capped: True when many may come.
    """

    variant: Variant
    within: Callable[[Fields, Session], dict[str, object]] | None
    facts: Callable[[Fields], dict[str, object]] | None
    capped: bool


def _way(tag: str, variant: Variant) -> _Way:
    return _Way(variant, _WITHIN.get(tag), _FACTS.get(tag), tag in _CAPPED)


_WAYS: Final[Mapping[str, _Way]] = {tag: _way(tag, variant) for tag, variant in VARIANTS.items()}
