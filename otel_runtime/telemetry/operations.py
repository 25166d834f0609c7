"""Pure: what happens -> span names, kinds and attributes. Nothing here touches the SDK's state or the clock."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from opentelemetry.trace import SpanKind

from otel_runtime.telemetry import conventions as c
from otel_runtime.telemetry.capture import Capture
from otel_runtime.telemetry.protocol import AttributeValue, SpanStart
from otel_runtime.telemetry.redaction import Redactor
from otel_runtime.telemetry.sanitize import attributes as clean_all
from otel_runtime.telemetry.sanitize import name as clean_name
from otel_runtime.telemetry.sanitize import text
from otel_runtime.telemetry.sanitize import value as clean_value
from otel_runtime.values.action import Action
from otel_runtime.values.approval import ApprovalRequest
from otel_runtime.values.decision import Decision
from otel_runtime.values.trace import TraceRef
from otel_runtime.values.usage import Cost, TokenUsage, UsageRecord

__all__ = [
    "AttributeValues",
    "Attributes",
    "Plan",
    "approval_outcome",
    "call_content",
    "decision_attributes",
    "plan",
    "policy_attributes",
    "request_attributes",
    "resolved_attributes",
    "resumed_parent",
    "seconds_between",
    "start_attributes",
    "totals_attributes",
    "usage_attributes",
]

AttributeValues = AttributeValue | tuple[str, ...]
Attributes = dict[str, AttributeValues]
_RESERVED = ("otel_runtime.policy.", "otel_runtime.approval.")
_SAME_TRACE_S = 3600.0
_DECISION_KEYS_LIMIT = 256
_REMEMBERED = 1_024
_SURELY_WHOLE = 1 << 53


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything about an operation that depends on its kind and name only; computed once per name.

    Args:
        span_name: Name of its spans.
        kind: OpenTelemetry span kind.
        operation: Value of gen_ai.operation.name.
        attributes: Attributes every such span starts with.
        durations: Names of the histograms its duration goes to.
        labels: Metric labels that depend on the name.
        keys: Attribute names for captured arguments and result.
    """

    span_name: str
    kind: SpanKind
    operation: str
    attributes: Attributes
    durations: tuple[str, ...]
    labels: dict[str, str]
    keys: tuple[str, str]


def plan(kind: str, given: str, *, bounded: bool) -> Plan:
    """The plan of one operation.

    Args:
        kind: `tool`, `agent`, `workflow` or `model`.
        given: Its name.
        bounded: False when so many names were seen that this one must not become a metric label.
    """
    name = clean_name(given)
    label = name if bounded else c.OTHER
    if kind == "tool":
        own: Attributes = {c.OPERATION: "execute_tool", c.TOOL_NAME: name, c.TOOL_TYPE: "function"}
        return _internal("execute_tool", name, own, "gen_ai.execute_tool.duration", {c.TOOL_NAME: label}, (c.TOOL_ARGUMENTS, c.TOOL_RESULT))
    if kind == "agent":
        own = {c.OPERATION: "invoke_agent", c.AGENT_NAME: name}
        return _internal("invoke_agent", name, own, "gen_ai.invoke_agent.duration", {c.AGENT_NAME: label}, (c.ARGUMENTS, c.RESULT))
    if kind == "workflow":
        own = {c.OPERATION: "invoke_workflow", c.WORKFLOW_NAME: name}
        return _internal("invoke_workflow", name, own, "gen_ai.invoke_workflow.duration", {c.WORKFLOW_NAME: label}, (c.ARGUMENTS, c.RESULT))
    durations = ("gen_ai.client.operation.duration", "gen_ai.client.inference.duration")
    messages = (c.INPUT_MESSAGES, c.OUTPUT_MESSAGES)
    return Plan(f"chat {name}", SpanKind.CLIENT, "chat", {c.OPERATION: "chat"}, durations, {c.OPERATION: "chat"}, messages)


def _internal(operation: str, name: str, own: Attributes, duration: str, labels: dict[str, str], keys: tuple[str, str]) -> Plan:
    return Plan(f"{operation} {name}", SpanKind.INTERNAL, operation, own, (duration,), labels, keys)


def start_attributes(start: SpanStart, planned: Plan) -> Attributes:
    """Attributes at span start; samplers see them."""
    found: Attributes = {**_application(start), **planned.attributes} if start.attributes else planned.attributes.copy()
    if start.kind in ("tool", "model") and start.agent is not None:
        found[c.AGENT_NAME] = text(start.agent)
    if start.session is not None:
        found[c.CONVERSATION] = text(start.session)
    if start.run is not None:
        found[c.RUN_ID] = text(start.run)
    if start.call_id is not None:
        found[c.TOOL_CALL_ID] = text(start.call_id)
    if start.model is not None:
        found[c.REQUEST_MODEL] = text(start.model)
    if start.provider is not None:
        found[c.PROVIDER_NAME] = text(start.provider)
    if start.decision is not None:
        found.update(_allowing_attributes(start.decision))
    if start.approval_id is not None:
        found[c.APPROVAL_ID] = text(start.approval_id)
    return found


_allowing: dict[int, tuple[Decision, Attributes]] = {}


def _allowing_attributes(decision: Decision) -> Attributes:
    """The same as `decision_attributes`, remembered: an engine hands out one object for every plain allow by a rule."""
    known = _allowing.get(id(decision))
    if known is not None and known[0] is decision:
        return known[1]
    if len(_allowing) >= _REMEMBERED:
        _allowing.clear()
    found = decision_attributes(decision)
    # The decision is kept with its id, so that the id cannot come to mean another one.
    _allowing[id(decision)] = (decision, found)
    return found


def decision_attributes(decision: Decision) -> Attributes:
    """The few attributes with which an allow rides on the span of what it allowed."""
    found: Attributes = {c.DECISION: decision.value, c.DECISION_DIGEST: text(decision.policy_digest)}
    if decision.rule is not None:
        found[c.DECISION_RULE] = text(decision.rule, _DECISION_KEYS_LIMIT)
    if decision.shadow:
        found[c.DECISION_SHADOW] = True
        if decision.would_be is not None:
            found[c.DECISION_WOULD_BE] = decision.would_be
    return found


def policy_attributes(action: Action, decision: Decision, redactor: Redactor) -> Attributes:
    """Attributes of a decision span. No gen_ai operation or tool name: Jaeger would show an executed tool."""
    found = decision_attributes(decision)
    found[c.OWN_TOOL] = text(action.name, _DECISION_KEYS_LIMIT)
    found[c.OWN_KIND] = action.kind
    found[c.DECISION_REASON] = redactor.mask(text(decision.reason))
    found[c.DECISION_CODE] = text(decision.code)
    if decision.place:
        found[c.DECISION_PLACE] = text(decision.place)
    if decision.retry is not None:
        found[c.RETRY_AFTER] = decision.retry.after_s
        found[c.RETRY_ATTEMPT] = decision.retry.attempt
        found[c.RETRY_MAX] = decision.retry.max_attempts
        found[c.RETRY_CLASS] = decision.retry.retry_class
    return clean_all({**found, **_whereabouts(action.session, action.run, action.call_id)})


def call_content(action: Action, capture: Capture) -> Attributes:
    """What a decision was made on, so that it can be made again: `otel-runtime policy replay` reads it."""
    caller = {"user": action.user, "tenant": action.tenant, "agents": action.agents, "tags": sorted(action.tags), "around": action.around}
    roles = None if action.roles is None else sorted(action.roles)
    return {
        c.ARGUMENTS: capture.arguments(action.args),
        c.CALLER: capture.json({**caller, "roles": roles, "context": dict(action.context)}),
    }


def request_attributes(request: ApprovalRequest, redactor: Redactor) -> Attributes:
    """Attributes of `approval requested`."""
    approvers = tuple(dict.fromkeys(who for requirement in request.terms.requirements for who in requirement.approvers))
    found: Attributes = {
        c.APPROVAL_ID: request.id,
        c.OWN_TOOL: text(request.capability, _DECISION_KEYS_LIMIT),
        c.OWN_KIND: request.kind,
        c.APPROVAL_REASON: redactor.mask(text(request.reason)),
        c.APPROVAL_EXPIRES: request.expires_at.isoformat(),
        c.APPROVAL_APPROVERS: approvers,
    }
    if request.rule is not None:
        found[c.APPROVAL_RULE] = request.rule
    if request.place:
        found[c.DECISION_PLACE] = request.place
    return clean_all({**found, **_whereabouts(request.session, request.run, request.call_id)})


def resolved_attributes(request: ApprovalRequest, redactor: Redactor, wait_s: float) -> Attributes:
    """Attributes of `approval {outcome}`."""
    found = request_attributes(request, redactor)
    found[c.APPROVAL_OUTCOME] = approval_outcome(request)
    found[c.APPROVAL_WAIT] = wait_s
    if request.votes:
        last = request.votes[-1]
        found[c.APPROVAL_APPROVER] = ", ".join(text(vote.approver, 128) for vote in request.votes[:8] if vote.approved == last.approved)
        if last.reason:
            found[c.APPROVAL_ANSWER] = redactor.mask(text(last.reason))
    return found


def approval_outcome(request: ApprovalRequest) -> Literal["approved", "denied", "expired", "cancelled"]:
    """How the question ended: what happened to the call afterwards is on its own span."""
    if request.state in ("denied", "expired"):
        return "denied" if request.state == "denied" else "expired"
    return "cancelled" if request.state in ("cancelled", "superseded", "awaiting-approval") else "approved"


def usage_attributes(record: UsageRecord) -> Attributes:
    """Attributes of a model call's usage; what the provider did not say is left out."""
    usage, said = record.usage, record.response
    found: dict[str, object] = {
        c.INPUT_TOKENS: usage.input_tokens,
        c.OUTPUT_TOKENS: usage.output_tokens,
        c.CACHE_READ: usage.cache_read,
        c.CACHE_WRITE: usage.cache_write,
        c.CACHE_CREATION: usage.cache_write,
        c.REASONING: usage.reasoning,
        c.TOTAL_TOKENS: usage.total_tokens,
        c.RESPONSE_MODEL: record.model,
        c.PROVIDER_NAME: record.provider,
        c.RESPONSE_ID: said.id,
        c.FINISH_REASONS: said.finish_reasons or None,
    }
    if record.cost is not None:
        found.update(_cost_attributes(record.cost))
    return {
        key: clean
        for key, value in found.items()
        # Counts are what most of them are.
        if value is not None and (clean := value if type(value) is int and 0 <= value < _SURELY_WHOLE else clean_value(value)) is not None
    }


def totals_attributes(usage: TokenUsage, finish_reasons: tuple[str, ...]) -> Attributes:
    """Sums on an agent or workflow: input and output only, because back ends add up everything else."""
    found: dict[str, object] = {
        c.INPUT_TOKENS: usage.input_tokens,
        c.OUTPUT_TOKENS: usage.output_tokens,
        c.FINISH_REASONS: finish_reasons or None,
    }
    return clean_all({key: value for key, value in found.items() if value is not None})


def resumed_parent(asked: TraceRef | None, waited_s: float, mode: Literal["auto", "same", "new"]) -> TraceRef | None:
    """Parent of a resumed call: the span that asked, or None for a new trace (which then links to it).

    Args:
        asked: Where the question was asked.
        waited_s: Seconds since then.
        mode: The setting `resume_trace`.
    """
    same = mode == "same" or (mode == "auto" and waited_s < _SAME_TRACE_S)
    return asked if same else None


def seconds_between(start: datetime, end: datetime) -> float:
    """Seconds from start to end, never negative: two machines' clocks may disagree."""
    return max(0.0, (end - start).total_seconds())


def _application(start: SpanStart) -> Attributes:
    # An attribute of the application's must not pass for a decision or an approval.
    return {key: value for key, value in clean_all(start.attributes).items() if not key.startswith(_RESERVED)}


def _cost_attributes(cost: Cost) -> dict[str, object]:
    return {
        c.COST: float(cost.amount),
        c.COST_EXACT: format(cost.amount, "f"),
        c.COST_CURRENCY: cost.currency,
        c.COST_ESTIMATED: cost.estimated,
        c.COST_SOURCE: cost.source or None,
    }


def _whereabouts(session: str | None, run: str | None, call_id: str | None) -> dict[str, str]:
    found = {c.CONVERSATION: session, c.RUN_ID: run, c.TOOL_CALL_ID: call_id}
    return {key: value for key, value in found.items() if value is not None}
