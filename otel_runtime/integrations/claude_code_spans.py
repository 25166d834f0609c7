"""Write the spans of a Claude Code session, each with the ids and times that other processes of the session gave it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from opentelemetry.context import Context
from opentelemetry.sdk.trace import Tracer
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.trace import NonRecordingSpan, SpanContext, Status, StatusCode, TraceFlags, set_span_in_context

from otel_runtime.integrations.claude_code_session import Closed
from otel_runtime.settings.model import Settings
from otel_runtime.telemetry import conventions as c
from otel_runtime.telemetry.provider import build_tracing
from otel_runtime.telemetry.sanitize import name as clean_name
from otel_runtime.telemetry.sanitize import text as clean_text
from otel_runtime.telemetry.tracing import OtelTracing

__all__ = ["write_spans"]

_AGENT = "claude-code"
_FACTS: Mapping[str, str] = {
    "decision": c.DECISION,
    "rule": c.DECISION_RULE,
    "reason": c.DECISION_REASON,
    "code": c.DECISION_CODE,
    "place": c.DECISION_PLACE,
    "call_id": c.TOOL_CALL_ID,
    "outcome": c.OUTCOME,
    "orphan": c.ORPHAN,
    "error": c.ERROR_TYPE,
    "model": c.REQUEST_MODEL,
}
_NOTED: Mapping[str, str] = {"kind": c.EVENT_KIND, "tool": c.OWN_TOOL}


def write_spans(settings: Settings, session: str, trace: str, spans: Iterable[Closed]) -> bool:
    """Send spans to wherever the settings and the OTEL_* variables say.

    Args:
        settings: The project's settings.
        session: Session id.
        trace: Trace id, 32 hex digits.
        spans: What to write.

    Returns:
        False when something did not leave within `flush_timeout`.
    """
    tracing = build_tracing(settings)
    # Only spans of our own provider can have given ids; an application's provider does not exist in this process.
    tracer = tracing.tracer if isinstance(tracing, OtelTracing) else None
    if isinstance(tracer, Tracer):
        ids = _GivenIds(int(trace, 16))
        tracer.id_generator = ids
        for span in spans:
            ids.next_span = int(span.span, 16)
            _write(tracer, ids.trace, session, span)
    return tracing.shutdown(settings.flush_timeout)


class _GivenIds(IdGenerator):
    def __init__(self, trace: int) -> None:
        self.trace = trace
        self.next_span = 0

    def generate_span_id(self) -> int:
        return self.next_span

    def generate_trace_id(self) -> int:
        return self.trace


def _write(tracer: Tracer, trace: int, session: str, closed: Closed) -> None:
    parent = Context()
    if closed.parent:
        place = SpanContext(trace, int(closed.parent, 16), is_remote=True, trace_flags=TraceFlags(TraceFlags.SAMPLED))
        parent = set_span_in_context(NonRecordingSpan(place), parent)
    name, attributes = _described(closed)
    attributes = {**attributes, c.CONVERSATION: clean_text(session), c.SOURCE: _AGENT, **_facts(closed.facts)}
    span = tracer.start_span(name, parent, attributes=attributes, start_time=closed.start)
    for note, at, facts in closed.notes:
        span.add_event(
            clean_name(str(note)), {_NOTED[name]: clean_text(str(value)) for name, value in facts.items() if name in _NOTED}, int(at)
        )
    if "error" in closed.facts:
        span.set_status(Status(StatusCode.ERROR))
    span.end(max(closed.end, closed.start))


def _described(closed: Closed) -> tuple[str, dict[str, Any]]:
    name = clean_name(closed.name)
    agent = clean_name(str(closed.facts.get("agent") or _AGENT))
    if closed.kind == "tool":
        return f"execute_tool {name}", {c.OPERATION: "execute_tool", c.TOOL_NAME: name, c.AGENT_NAME: agent}
    if closed.kind == "policy":
        return f"policy {closed.facts.get('decision')} {name}", {c.OWN_TOOL: name, c.OWN_KIND: "tool", c.AGENT_NAME: agent}
    if closed.kind == "agent":
        return f"invoke_agent {name}", {c.OPERATION: "invoke_agent", c.AGENT_NAME: name}
    if closed.kind == "turn":
        return f"invoke_agent {_AGENT}", {c.OPERATION: "invoke_agent", c.AGENT_NAME: _AGENT}
    return f"invoke_workflow {_AGENT} session", {c.OPERATION: "invoke_workflow", c.WORKFLOW_NAME: f"{_AGENT} session"}


def _facts(facts: Mapping[str, object]) -> dict[str, Any]:
    return {
        _FACTS[name]: value if isinstance(value, bool) else clean_text(str(value))
        for name, value in facts.items()
        if name in _FACTS and value not in (None, "")
    }
