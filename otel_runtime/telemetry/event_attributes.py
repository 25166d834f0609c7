"""TraceEvent -> names and span attributes, pure. Foreign attributes can neither spoof ours nor carry content out.

What the vocabularies agree on (`sources/protocol.py`) gets the conventions' names; everything else goes under `otel_runtime.attr.`.
Content never leaves: values under content-like or secret-like keys, and anything that is no plain scalar, are left out and named in
`otel_runtime.content.omitted`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from otel_runtime.telemetry import conventions as names
from otel_runtime.telemetry import sanitize
from otel_runtime.telemetry.run_view import StepKind
from otel_runtime.values.trace import TraceEvent

__all__ = [
    "AMBIGUOUS",
    "LATE",
    "ORPHAN",
    "PARENT",
    "QUEUED",
    "SYNTHETIC",
    "TRUNCATED",
    "Attributes",
    "Label",
    "attributes_of",
    "error_type",
    "run_name",
    "step_name",
]

Value = str | bool | int | float | tuple[str, ...]
Attributes = Mapping[str, Value]

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
        "event.often",
        "event.seq",
        "error.type",
        "finish_reason",
        "parent.id",
        "run.announced",
        "run.tentative",
        "run.duration_ms",
        "delta.bytes",
        "delta.ambiguous",
        "session.ended",
        "log.level",
        "approval.timeout_ms",
    }
)
_CONTENT: Final = re.compile(
    r"(?i)(?:^|[._-])(?:input|inputs|output|outputs|prompt|args|arguments|params|body|headers?|content|text|message|messages|response|result|results"
    r"|raw|payload|query|description|questions|detail|delta|error|cookie|authorization|password|passwd|secret|credentials?|api[_-]?key|token)$"
    r"|(?:response_text|partial_response|tool_calls|tool_calls_attempted)$"
)
_ERROR_TYPE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.:-]{0,127}")
_MAX_TEXT: Final = 256
_MAX_OWN: Final = 48
_INT64: Final = 2**63
_SCALARS: Final = (bool, int, float)


@dataclass(frozen=True, slots=True)
class Label:
    """What a step is called.

    Args:
        text: Span name.
        key: Tells two steps of one id apart; empty when nothing does.
        attributes: What the operation must carry from its start.
    """

    text: str
    key: str
    attributes: Attributes


def attributes_of(event: TraceEvent) -> dict[str, Value]:
    """Span attributes of one event, content left out."""
    found: dict[str, Value] = {EVENT_TYPE: event.type}
    omitted: list[str] = []
    for key, value in event.attributes.items():
        # A subclass of str may hash and compare as it likes.
        if value is None or type(key) is not str:
            continue
        place = _PLACES[key] if key in _PLACES else _place(key)
        if place is None:
            continue
        name, known, number = place
        plain = _plain(value, number=number)
        if plain is None or not name:
            omitted.append(_short(key))
        elif known or len(found) < _MAX_OWN:
            found[name] = plain
    if isinstance(reason := event.attributes.get("finish_reason"), str):
        found[names.FINISH_REASONS] = (_short(reason),)
    if omitted:
        found[OMITTED] = tuple(sorted(omitted)[:_MAX_OWN])
    return found


# Attribute name -> span attribute (empty: content, it stays), known to the conventions, a token count; None: read elsewhere.
_PLACES: dict[str, tuple[str, bool, bool] | None] = {
    **{key: (name, True, key in _NUMBERS) for key, name in _KNOWN.items()},
    **dict.fromkeys(_CONSUMED),
}
_PLACES_LIMIT: Final = 4096


def _place(key: str) -> tuple[str, bool, bool]:
    place = ("" if _CONTENT.search(key) else f"otel_runtime.attr.{_short(key)}", False, False)
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


def step_name(event: TraceEvent, kind: StepKind) -> Label:
    """Name and required attributes of a step's span."""
    tool = _text(event, "tool.name")
    match kind:
        case "tool":
            call = _text(event, "tool.id") or _text(event, "tool.call_id")
            own: dict[str, Value] = {names.TOOL_TYPE: "function", **_given(names.TOOL_NAME, tool), **_given(names.TOOL_CALL_ID, call)}
            return Label(f"execute_tool {tool}".rstrip(), tool, {names.OPERATION: "execute_tool", **own})
        case "model":
            return Label(f"chat {_text(event, 'model.name')}".rstrip(), "", {names.OPERATION: "chat"})
        case "approval":
            return Label(f"approval {_text(event, 'approval.outcome') or 'requested'} {tool}".rstrip(), "", {})
        case "agent":
            return Label(f"invoke_agent {_text(event, 'agent.name')}".rstrip(), "", {names.OPERATION: "invoke_agent"})
        case "step":
            return Label(event.name.rpartition(".")[0] or event.name, "", {})


def error_type(event: TraceEvent) -> str:
    """Low-cardinality `error.type` of a failure; `_OTHER` when the event names none that can be one."""
    told = event.attributes.get("error.type")
    return told if isinstance(told, str) and _ERROR_TYPE.fullmatch(told) else names.OTHER


def _given(name: str, value: str) -> dict[str, Value]:
    return {name: value} if value else {}


def _text(event: TraceEvent, key: str) -> str:
    value = event.attributes.get(key)
    return _short(value) if isinstance(value, str) else ""


def _short(text: str) -> str:
    return sanitize.text(text, _MAX_TEXT)


def _plain(value: object, *, number: bool) -> Value | None:
    """The value as an OTLP scalar; None when it is none. Subclasses may run code of theirs, so only exact types count."""
    kind = type(value)
    if number:
        return value if kind is int and 0 <= value < _INT64 else None  # type: ignore[return-value, operator]  # an int
    if kind is str:
        return sanitize.text(value, _MAX_TEXT)
    return sanitize.value(value) if kind in _SCALARS else None
