"""ViteHub "Runtime events": TraceEvents as the page gives them, and the families of agent stream events.

A TraceEvent has `name` and one of six types; a stream event has only `type`. Stream events carry no run: those between one
`finish` and the next belong to one run of this stream. A tool result without its call is refused, as that system does.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple, get_args

from otel_runtime.sources.reading import CONTROL, Malformed, Reader, flag, instant, integer, mapping, optional_text, present, text
from otel_runtime.values.trace import TraceEvent, TraceEventType, TraceRef

__all__ = ["FAMILIES", "ViteHub"]

TYPES: Final[dict[str, TraceEventType]] = {kind: kind for kind in get_args(TraceEventType)}


class Family(NamedTuple):
    """What a stream event becomes.

    Args:
        name: Name of the TraceEvent.
        type: Type of the TraceEvent.
        step: Attribute under which its own id names a step; empty when it belongs to the run.
    """

    name: str
    type: TraceEventType
    step: str = ""


FAMILIES: Final[dict[str, Family]] = {
    "text-delta": Family("text.delta", "run"),
    "data": Family("data.part", "run"),
    "tool-input-start": Family("tool.input.started", "run"),
    "tool-input-delta": Family("tool.input.delta", "run"),
    "tool-call": Family("tool.start", "run", "tool.id"),
    "tool-result": Family("tool.finish", "run", "tool.id"),
    "approval-request": Family("approval.request", "approval", "approval.id"),
    "approval-decision": Family("approval.decision", "approval", "approval.id"),
    "error": Family("stream.error", "error"),
    "usage": Family("usage.summary", "run"),
    "progress": Family("run.progress", "run"),
    "finish": Family("finish", "run"),
}
# Calls whose result is still awaited; a stream that never answers any must not grow without end.
_OPEN_CALLS: Final = 4096


class ViteHub(Reader):
    """Reads TraceEvents and agent stream events."""

    name = "vitehub"
    tickable: frozenset[str] = frozenset({"text-delta", "tool-input-delta"})

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self._runs = 1
        self._calls: dict[str, str | None] = {}

    def read(self, raw: Mapping[str, object]) -> Iterable[TraceEvent]:
        """A TraceEvent when it is named, else a stream event."""
        return (_trace_event(raw) if _is_trace_event(raw) else self._stream_event(raw),)

    def _stream_event(self, raw: Mapping[str, object]) -> TraceEvent:
        kind = text(raw, "type")
        family = _family(kind)
        run = optional_text(raw, "runId", "run_id") or f"{self._stream}-{self._runs}"
        attributes = present(event__source=self.name, event__kind=kind, run__id=run, event__id=optional_text(raw, "eventId", "event_id"))
        attributes |= present(event__seq=integer(raw, "sequence", "seq"), session__id=optional_text(raw, "sessionId", "session_id"))
        attributes |= self._step(kind, family, raw) | _facts(kind, raw)
        if kind == "finish":
            self._runs += 1
            self._calls.clear()
        name = "tool.failed" if kind == "tool-result" and _failed(raw) else family.name
        if kind == "error" and flag(raw, "recoverable"):
            name = "stream.warning"
        return TraceEvent(name, family.type, instant(raw.get("timestamp")), None, attributes)

    def _step(self, kind: str, family: Family, raw: Mapping[str, object]) -> dict[str, object]:
        if not family.step:
            return {}
        if family.step == "approval.id":
            call = optional_text(raw, "toolCallId", "tool_call_id")
            asked = present(approval__arguments=raw.get("input"), tool__call_id=call, parent__id=call)
            return {family.step: text(raw, "approvalId", "requestId", "request_id", "id"), **_tool(raw), **asked}
        call = text(raw, "toolCallId", "tool_call_id", "id")
        if kind == "tool-call":
            self._remember(call, optional_text(raw, "toolName", "tool_name", "name"))
            return {family.step: call, **_tool(raw)}
        if call not in self._calls:
            raise Malformed("tool-result: without its tool-call")
        return {family.step: call, **present(tool__name=self._calls.pop(call))}

    def _remember(self, call: str, tool: str | None) -> None:
        if len(self._calls) >= _OPEN_CALLS:
            self._calls.pop(next(iter(self._calls)))
        self._calls[call] = tool


def _is_trace_event(raw: Mapping[str, object]) -> bool:
    # `error` is a type of both; only a TraceEvent has a name then. Tool parts of a stream may carry a name of their tool.
    kind = raw.get("type")
    return "name" in raw and (kind == "error" or not isinstance(kind, str) or (kind not in FAMILIES and not kind.startswith("data-")))


def _trace_event(raw: Mapping[str, object]) -> TraceEvent:
    kind = text(raw, "type")
    given = mapping(raw.get("attributes") or {}, "attributes")
    attributes = {key: value for key, value in given.items() if key not in CONTROL}
    # As the run view has them: the first of its run ids, and `recoverable` where the error is the event itself.
    attributes |= present(run__id=optional_text(given, "agent.run.id", "run.id", "runId"))
    if "error.recoverable" not in given:
        attributes |= present(error__recoverable=flag(given, "recoverable"))
    # An entry of a log has a number; it tells a repetition of it.
    attributes |= present(event__source=ViteHub.name, event__kind=kind, event__seq=integer(raw, "sequence"))
    return TraceEvent(text(raw, "name"), TYPES.get(kind, "lifecycle"), instant(raw.get("timestamp")), _trace(raw.get("trace")), attributes)


def _trace(value: object) -> TraceRef | None:
    if value is None:
        return None
    raw = mapping(value, "trace")
    return TraceRef(text(raw, "id"), optional_text(raw, "parentId", "parent_id"), flag(raw, "sampled"))


def _family(kind: str) -> Family:
    if kind.startswith("data-"):
        return FAMILIES["data"]
    # Unknown kinds pass: a name of their own, no step, no effect on the run. What ends on delta comes in thousands, and is counted.
    plain = f"{kind.removesuffix('-delta')}.delta" if kind.endswith("-delta") else kind
    return FAMILIES.get(kind, Family(f"stream.{plain}", "lifecycle"))


def _tool(raw: Mapping[str, object]) -> dict[str, object]:
    return present(tool__name=optional_text(raw, "toolName", "tool_name", "capability", "name"))


def _failed(raw: Mapping[str, object]) -> bool:
    return bool(raw.get("error")) or flag(raw, "isError") is True


def _facts(kind: str, raw: Mapping[str, object]) -> dict[str, object]:
    if kind == "usage":
        return _usage(mapping(raw.get("usage") or raw, "usage"))
    if kind == "error":
        return present(error__recoverable=flag(raw, "recoverable"), error__message=optional_text(raw, "message", "error"))
    if kind == "approval-decision":
        return {"approval.outcome": "approved" if flag(raw, "approved") else "denied"}
    if kind == "finish":
        return {"run.outcome": "completed", **present(finish_reason=optional_text(raw, "finishReason", "finish_reason", "reason"))}
    return {}


def _usage(raw: Mapping[str, object]) -> dict[str, object]:
    # An Agent Usage Record is the sum over the run, so it must not be added to the usage of single model calls.
    return present(
        usage__total__input_tokens=integer(raw, "inputTokens", "promptTokens", "input_tokens", "prompt_tokens"),
        usage__total__output_tokens=integer(raw, "outputTokens", "completionTokens", "output_tokens", "completion_tokens"),
        model__name=optional_text(raw, "model"),
    )
