"""TraceEvent -> names and span attributes, pure. Foreign attributes can neither spoof ours nor carry content out.

What the vocabularies agree on (`sources/protocol.py`) gets the conventions' names; everything else goes under `otel_runtime.attr.`.
Content never leaves: values under content-like or secret-like keys, and anything that is no plain scalar, are left out and named in
`otel_runtime.content.omitted`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Final

from otel_runtime.telemetry import conventions as names
from otel_runtime.telemetry import sanitize
from otel_runtime.telemetry.event_content import is_content, is_content_as_text
from otel_runtime.telemetry.run_view import StepKind
from otel_runtime.values.trace import TraceEvent

__all__ = [
    "AMBIGUOUS",
    "LATE",
    "OMITTED",
    "ORPHAN",
    "PARENT",
    "QUEUED",
    "SYNTHETIC",
    "TRUNCATED",
    "Attributes",
    "Mask",
    "Value",
    "attributes_of",
    "error_type",
    "label_step",
    "rule_of",
    "run_name",
    "tool_of",
    "with_omitted",
    "with_rule",
]

Value = str | bool | int | float | tuple[str, ...]
Attributes = Mapping[str, Value]
Mask = Callable[[str], str]

SOURCE: Final = "otel_runtime.source"
EVENT_TYPE: Final = "otel_runtime.event.type"
EVENT_KIND: Final = "otel_runtime.event.kind"
OMITTED: Final = "otel_runtime.content.omitted"
# The event belongs to no run, or its start was never seen.
ORPHAN: Final = "otel_runtime.orphan"
# The parent was made up from the trace id, because the event named none.
SYNTHETIC: Final = "otel_runtime.parent.synthetic"
# How many events of the run were dropped.
TRUNCATED: Final = "otel_runtime.events.truncated"
# Seconds between a turn's acceptance and its start.
QUEUED: Final = "otel_runtime.queue.duration_s"
# It arrived after its run had ended.
LATE: Final = "otel_runtime.late"
# The id that the event named as its parent, where no such unit is known.
PARENT: Final = "otel_runtime.parent.id"
# Deltas that named no unit and fitted several.
AMBIGUOUS: Final = "otel_runtime.events.ambiguous"

_KNOWN: Final[Mapping[str, str]] = {
    "session.id": names.CONVERSATION,
    "agent.name": names.AGENT_NAME,
    "model.name": names.REQUEST_MODEL,
    "usage.input_tokens": names.INPUT_TOKENS,
    "usage.output_tokens": names.OUTPUT_TOKENS,
    "usage.total.input_tokens": names.INPUT_TOKENS,
    "usage.total.output_tokens": names.OUTPUT_TOKENS,
    "tool.name": names.OWN_TOOL,
    "tool.call_id": names.TOOL_CALL_ID,
    "approval.id": names.APPROVAL_ID,
    "approval.outcome": names.APPROVAL_OUTCOME,
    "policy.decision": names.DECISION,
    "policy.reason": names.DECISION_REASON,
    "event.source": SOURCE,
    "event.kind": EVENT_KIND,
    "run.id": names.RUN_ID,
}
# Words of a person or a program, in which a secret may stand.
_FREE: Final = frozenset({"policy.reason"})
_NUMBERS: Final = frozenset(name for name in _KNOWN if name.startswith("usage."))
# Read elsewhere (ids, outcome, error type) or said otherwise.
_CONSUMED: Final = frozenset(
    {
        "tool.id",
        "model.call.id",
        "step.id",
        "agent.run.id",
        "runId",
        "run.outcome",
        "step.ended_at",
        "event.id",
        "event.capped",
        "event.often",
        "event.seq",
        "error.type",
        "finish_reason",
        "parent.id",
        "run.announced",
        "run.perhaps_child",
        "run.tentative",
        "run.duration_ms",
        "delta.bytes",
        "delta.ambiguous",
        "session.ended",
        "stream.lost",
        "log.level",
        "approval.answer",
        "approval.asked_as",
        "approval.asked_id",
        "component.capability",
        "component.kind",
        "component.name",
        "component.status",
        "approval.timeout_ms",
    }
)
_ERROR_TYPE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.:-]{0,127}")
# Decisions of our own about foreign calls (`hooks.native`).
_OURS: Final = "otel_runtime"
_RULE: Final = "otel_runtime.attr.policy.rule"
_NOTHING: Final[Attributes] = MappingProxyType({})
_MAX_TEXT: Final = 256
_MAX_OWN: Final = 48
_INT64: Final = 2**63
_SCALARS: Final = (bool, int, float)


def attributes_of(event: TraceEvent, said: Attributes = _NOTHING, mask: Mask | None = None) -> dict[str, Value]:
    """Span attributes of one event, content left out.

    Args:
        event: The event.
        said: Attributes that its span has already; they are not said again.
        mask: Masks secrets in free text.
    """
    again = bool(said)
    found: dict[str, Value] = {} if again and said.get(EVENT_TYPE) == event.type else {EVENT_TYPE: event.type}
    omitted: list[str] = []
    places, facts = _PLACES, event.attributes
    for key, value in facts.items():
        # A subclass of str may hash and compare as it likes.
        if type(key) is not str:
            continue
        place = places[key] if key in places else _place(key)
        if place is None or value is None:
            continue
        name, known, accept = place
        if accept is _ID and type(value) is str:
            # Compared as it came: most of what an end says, its start said word for word.
            if again and name in said and said[name] == value:
                continue
            plain: Value | None = value if len(value) <= _MAX_TEXT and value.isascii() else sanitize.text(value, _MAX_TEXT)
        else:
            # Content is not even looked at.
            plain = _plain(value, accept, mask) if name else None
        if plain is None:
            omitted.append(key if len(key) <= _MAX_TEXT and key.isascii() else _short(key))
        elif (known or len(found) < _MAX_OWN) and not (again and name in said and said[name] == plain):
            found[name] = plain
    if again:
        # Which event spoke last is not worth an attribute.
        found.pop(EVENT_KIND, None)
    if omitted:
        found[OMITTED] = tuple(omitted) if len(omitted) == 1 else tuple(sorted(omitted)[:_MAX_OWN])
    return {**found, **_finish_of(facts["finish_reason"])} if "finish_reason" in facts else found


def _finish_of(reason: object) -> dict[str, Value]:
    return {names.FINISH_REASONS: (_short(reason),)} if type(reason) is str else {}


def with_omitted(facts: dict[str, Value], said: Attributes) -> dict[str, Value]:
    """What is told of a span, with the names of all that stayed behind so far: the last event's alone would replace them."""
    now, before = facts.get(OMITTED), said.get(OMITTED)
    if type(now) is not tuple or type(before) is not tuple:
        return facts
    return {**facts, OMITTED: tuple(sorted({*before, *now})[:_MAX_OWN])}


# What a value must be: an id or a name, anything plain, anything but text, a token count.
_ID: Final = "id"
_TEXT: Final = "text"
_NO_TEXT: Final = "no text"
_COUNT: Final = "count"
# Attribute name -> span attribute (empty: content, it stays), known to the conventions, what its value must be; None: read elsewhere.
_PLACES: dict[str, tuple[str, bool, str] | None] = {
    **{key: (name, True, _COUNT if key in _NUMBERS else _TEXT if key in _FREE else _ID) for key, name in _KNOWN.items()},
    **dict.fromkeys(_CONSUMED),
}
_PLACES_LIMIT: Final = 4096


def _place(key: str) -> tuple[str, bool, str]:
    name = "" if is_content(key) else f"otel_runtime.attr.{_short(key)}"
    place = (name, False, _NO_TEXT if is_content_as_text(key) else _TEXT)
    if len(_PLACES) < _PLACES_LIMIT and len(key) <= _MAX_TEXT:
        _PLACES[key] = place
    return place


def run_name(event: TraceEvent, current: str) -> str:
    """Name of a run's span after this event: the first agent or workflow that is named stays."""
    if " " in current:
        return current
    for key, operation in (("workflow.name", "invoke_workflow"), ("agent.name", "invoke_agent")):
        if name := _text(event, key):
            return sanitize.name(f"{operation} {name}")
    return current or "invoke_agent"


def label_step(event: TraceEvent, kind: StepKind, facts: dict[str, Value], tool: str) -> tuple[str, str]:
    """Span name of a step, and what tells two steps of one id apart (empty when nothing does).

    Args:
        event: The event it starts with.
        kind: What sort of step it is.
        facts: Its attributes; what the operation must carry from its start is added.
        tool: The tool that it names.
    """
    match kind:
        case "tool":
            facts[names.OPERATION] = "execute_tool"
            facts[names.TOOL_TYPE] = "function"
            if tool:
                facts[names.TOOL_NAME] = tool
            if call := _text(event, "tool.id") or _text(event, "tool.call_id"):
                facts[names.TOOL_CALL_ID] = call
            return _span_name("execute_tool", tool), tool
        case "model":
            facts[names.OPERATION] = "chat"
            return _span_name("chat", _text(event, "model.name")), ""
        case "approval":
            return _span_name(f"approval {_text(event, 'approval.outcome') or 'requested'}", tool), ""
        case "agent":
            facts[names.OPERATION] = "invoke_agent"
            return _span_name("invoke_agent", _text(event, "agent.name")), ""
        case "step":
            return _span_name(event.name.rpartition(".")[0] or event.name, ""), ""


def tool_of(event: TraceEvent) -> str:
    """Name of the tool that the event names; empty when it names none."""
    facts = event.attributes
    if "tool.name" not in facts:
        return ""
    told = facts["tool.name"]
    return told if type(told) is str and len(told) <= _MAX_TEXT and told.isascii() else _text(event, "tool.name")


@lru_cache(maxsize=1024)
def _span_name(operation: str, subject: str) -> str:
    return sanitize.name(f"{operation} {subject}".rstrip())


def rule_of(facts: Attributes) -> str | None:
    """Id of the rule of ours that decided; None for a decision of a foreign system, whatever it says of itself."""
    # No source of foreign events can pass for us: each writes its own name here.
    return str(facts.get(_RULE, "policy")) if facts.get(SOURCE) == _OURS else None


def with_rule(facts: Attributes) -> Attributes:
    """The facts of a decision, a rule of ours under its own name."""
    if rule_of(facts) is None or _RULE not in facts:
        return facts
    return {**{key: value for key, value in facts.items() if key != _RULE}, names.DECISION_RULE: facts[_RULE]}


def error_type(event: TraceEvent) -> str:
    """Low-cardinality `error.type` of a failure; `_OTHER` when the event names none that can be one."""
    told = event.attributes.get("error.type")
    return told if isinstance(told, str) and _ERROR_TYPE.fullmatch(told) else names.OTHER


def _text(event: TraceEvent, key: str) -> str:
    value = event.attributes.get(key)
    if type(value) is str and len(value) <= _MAX_TEXT and value.isascii():
        return value
    return _short(value) if isinstance(value, str) else ""


def _short(text: str) -> str:
    return text if type(text) is str and len(text) <= _MAX_TEXT and text.isascii() else sanitize.text(text, _MAX_TEXT)


def _plain(value: object, accept: str, mask: Mask | None) -> Value | None:
    """The value as an OTLP scalar; None when it is none. Subclasses may run code of theirs, so only exact types count."""
    kind = type(value)
    if accept is _COUNT:
        return value if kind is int and 0 <= value < _INT64 else None  # type: ignore[return-value, operator]  # an int
    if kind is str:
        if accept is _NO_TEXT:
            return None
        text = sanitize.text(value, _MAX_TEXT)
        return text if mask is None or accept is _ID else mask(text)
    if kind is int and -_INT64 <= value < _INT64:  # type: ignore[operator]  # as above
        return value  # type: ignore[return-value]  # as above
    return sanitize.value(value) if kind in _SCALARS else None
