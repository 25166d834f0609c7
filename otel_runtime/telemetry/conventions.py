"""The one table of every span, attribute, event and metric name this library emits.

`gen_ai.*` names follow open-telemetry/semantic-conventions-genai (development); everything it has no name for lives under
`otel_runtime.*`. The tables at the end (`SPANS`, `ATTRIBUTES`, `EVENTS`, `METRICS`, `ERROR_TYPES`) are what docs/telemetry.md lists, and a
test keeps the two equal.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

__all__ = ["ATTRIBUTES", "ERROR_TYPES", "EVENTS", "METRICS", "OTHER", "SCOPE", "SPANS", "VERSION", "Metric"]

VERSION = "1.0.0"
SCOPE = "otel_runtime"
OTHER = "_OTHER"

OPERATION = "gen_ai.operation.name"
CONVERSATION = "gen_ai.conversation.id"
WORKFLOW_NAME = "gen_ai.workflow.name"
AGENT_NAME = "gen_ai.agent.name"
TOOL_NAME = "gen_ai.tool.name"
TOOL_TYPE = "gen_ai.tool.type"
TOOL_CALL_ID = "gen_ai.tool.call.id"
TOOL_ARGUMENTS = "gen_ai.tool.call.arguments"
TOOL_RESULT = "gen_ai.tool.call.result"
INPUT_MESSAGES = "gen_ai.input.messages"
OUTPUT_MESSAGES = "gen_ai.output.messages"
PROVIDER_NAME = "gen_ai.provider.name"
REQUEST_MODEL = "gen_ai.request.model"
RESPONSE_MODEL = "gen_ai.response.model"
RESPONSE_ID = "gen_ai.response.id"
FINISH_REASONS = "gen_ai.response.finish_reasons"
FIRST_CHUNK = "gen_ai.response.time_to_first_chunk"
INPUT_TOKENS = "gen_ai.usage.input_tokens"
OUTPUT_TOKENS = "gen_ai.usage.output_tokens"
CACHE_READ = "gen_ai.usage.cache_read.input_tokens"
CACHE_WRITE = "gen_ai.usage.cache_write.input_tokens"
# The older spelling, which Jaeger and Grafana read today.
CACHE_CREATION = "gen_ai.usage.cache_creation.input_tokens"
REASONING = "gen_ai.usage.reasoning.output_tokens"
TOKEN_TYPE = "gen_ai.token.type"  # noqa: S105 - an attribute name, no secret
ERROR_TYPE = "error.type"
EXCEPTION_TYPE = "exception.type"
EXCEPTION_MESSAGE = "exception.message"
EXCEPTION_STACKTRACE = "exception.stacktrace"

OUTCOME = "otel_runtime.outcome"
RUN_ID = "otel_runtime.run.id"
GUARDED = "otel_runtime.guarded"
CONVENTIONS = "otel_runtime.conventions.version"
ARGUMENTS = "otel_runtime.arguments"
RESULT = "otel_runtime.result"
CALLER = "otel_runtime.caller"
TOTAL_TOKENS = "otel_runtime.usage.total_tokens"
COST = "otel_runtime.usage.cost"
COST_EXACT = "otel_runtime.usage.cost.exact"
COST_CURRENCY = "otel_runtime.usage.cost.currency"
COST_ESTIMATED = "otel_runtime.usage.cost.estimated"
COST_SOURCE = "otel_runtime.usage.cost.source"
OWN_TOOL = "otel_runtime.tool.name"
OWN_KIND = "otel_runtime.action.kind"
DECISION = "otel_runtime.policy.decision"
DECISION_RULE = "otel_runtime.policy.rule"
DECISION_REASON = "otel_runtime.policy.reason"
DECISION_CODE = "otel_runtime.policy.code"
DECISION_PLACE = "otel_runtime.policy.place"
DECISION_DIGEST = "otel_runtime.policy.digest"
DECISION_SHADOW = "otel_runtime.policy.shadow"
DECISION_WOULD_BE = "otel_runtime.policy.would_be"
RETRY_AFTER = "otel_runtime.retry.after_s"
RETRY_ATTEMPT = "otel_runtime.retry.attempt"
RETRY_MAX = "otel_runtime.retry.max_attempts"
RETRY_CLASS = "otel_runtime.retry.class"
ATTEMPT_NUMBER = "otel_runtime.attempt.number"
ATTEMPT_RETRY_AFTER = "otel_runtime.attempt.retry_after"
ATTEMPT_CLASS = "otel_runtime.attempt.class"
DECLASSIFIED_LABEL = "otel_runtime.session.label"
DECLASSIFIED_WHY = "otel_runtime.session.why"
APPROVAL_ID = "otel_runtime.approval.id"
APPROVAL_RULE = "otel_runtime.approval.rule"
APPROVAL_REASON = "otel_runtime.approval.reason"
APPROVAL_EXPIRES = "otel_runtime.approval.expires"
APPROVAL_APPROVERS = "otel_runtime.approval.approvers"
APPROVAL_APPROVER = "otel_runtime.approval.approver"
APPROVAL_OUTCOME = "otel_runtime.approval.outcome"
APPROVAL_WAIT = "otel_runtime.approval.wait_s"
APPROVAL_ANSWER = "otel_runtime.approval.answer"
LOST_REASON = "otel_runtime.lost.reason"
HOOK = "otel_runtime.hook"
RELOAD_OUTCOME = "otel_runtime.policy.reload"
BUDGET_WINDOW = "otel_runtime.policy.window"
CURRENCY = "otel_runtime.currency"
COMPONENT_CAPABILITY = "otel_runtime.component.capability"
COMPONENT_KIND = "otel_runtime.component.kind"
COMPONENT_NAME = "otel_runtime.component.name"
COMPONENT_STATE = "otel_runtime.component.status"

SOURCE = "otel_runtime.source"
EVENT_TYPE = "otel_runtime.event.type"
EVENT_KIND = "otel_runtime.event.kind"
OMITTED = "otel_runtime.content.omitted"
ORPHAN = "otel_runtime.orphan"
SYNTHETIC = "otel_runtime.parent.synthetic"
TRUNCATED = "otel_runtime.events.truncated"

EVENT_PARENT = "otel_runtime.parent.id"
EVENT_LATE = "otel_runtime.late"
EVENT_QUEUED = "otel_runtime.queue.duration_s"
EVENT_AMBIGUOUS = "otel_runtime.events.ambiguous"
EVENT_EXCEPTION = "exception"
EVENT_ATTEMPT = "otel_runtime.attempt"
EVENT_DECLASSIFIED = "otel_runtime.session.declassified"
# https://github.com/open-telemetry/semantic-conventions-genai: there a log event; as a span event it is seen by every back end of spans.
EVENT_DETAILS = "gen_ai.client.inference.operation.details"
EVENT_CONTENT = "otel_runtime.content"

SPANS: Mapping[str, str] = {
    "invoke_workflow {name}": "a workflow; INTERNAL",
    "invoke_agent {name}": "an agent run; INTERNAL",
    "chat {model}": "one logical model call, retries included; CLIENT",
    "execute_tool {tool}": "one tool call, all attempts of it; INTERNAL",
    "policy {decision} {tool}": "a decision other than allow (or every one, by setting); INTERNAL",
    "approval requested {tool}": "a person is asked; ended and exported at once; INTERNAL",
    "approval {outcome} {tool}": "from the question to its end: approved, denied, expired, cancelled; INTERNAL",
}

ATTRIBUTES: Mapping[str, str] = {
    OPERATION: "`invoke_workflow`, `invoke_agent`, `chat`, `execute_tool`; never on decision and approval spans",
    CONVERSATION: "session id, only when there is one",
    WORKFLOW_NAME: "workflow name",
    AGENT_NAME: "agent name; on tools and models the innermost agent around them",
    TOOL_NAME: "tool name",
    TOOL_TYPE: "`function`",
    TOOL_CALL_ID: "the provider's tool-call id",
    TOOL_ARGUMENTS: "arguments as JSON, only with capture on",
    TOOL_RESULT: "result as JSON, only with capture on",
    INPUT_MESSAGES: "messages sent to the model as JSON, only with capture on",
    OUTPUT_MESSAGES: "the model's answer as JSON, only with capture on",
    PROVIDER_NAME: "`openai`, `anthropic`, `gcp.gemini`, ...",
    REQUEST_MODEL: "requested model",
    RESPONSE_MODEL: "model that answered",
    RESPONSE_ID: "the provider's response id",
    FINISH_REASONS: "in the order of the choices",
    FIRST_CHUNK: "seconds to the first item of a stream",
    INPUT_TOKENS: "all input, cached tokens included; on agents the sum",
    OUTPUT_TOKENS: "all output, reasoning included; on agents the sum",
    CACHE_READ: "part of the input read from a cache",
    CACHE_WRITE: "part of the input written to a cache",
    CACHE_CREATION: "the same under its older name",
    REASONING: "part of the output spent on reasoning",
    TOKEN_TYPE: "metric label: `input` or `output`",
    ERROR_TYPE: "see the values below; set on every failure",
    EXCEPTION_TYPE: "on the exception event",
    EXCEPTION_MESSAGE: "on the exception event; redacted, at most 1,024 characters",
    EXCEPTION_STACKTRACE: "on the exception event; redacted, at most 8,000 characters",
    OUTCOME: "`cancelled`, `closed` (a stream left early), `suspended` (waits for a person) or `interrupted` (its process ended); none of them is an error",
    RUN_ID: "run id",
    GUARDED: "`false` on a root span when no policy is configured",
    CONVENTIONS: "version of this table, on the instrumentation scope",
    ARGUMENTS: "arguments of an agent, a workflow or a decided call as JSON, only with capture on",
    RESULT: "result of an agent or workflow as JSON, only with capture on",
    CALLER: "on decision spans: user, roles, tenant, agents, tags, outer sessions and context of the call as JSON, only with capture on",
    TOTAL_TOKENS: "total as the provider reports it, or input plus output",
    COST: "cost as a number, to sum in queries",
    COST_EXACT: "the same as an exact decimal string",
    COST_CURRENCY: "ISO 4217 code",
    COST_ESTIMATED: "true when computed from a price table",
    COST_SOURCE: "`provider` or `genai-prices {version}`",
    OWN_TOOL: "tool name on decision and approval spans, also when the model made it up",
    OWN_KIND: "`tool`, `capability`, `model`, `agent` or `workflow`",
    DECISION: "`allow`, `deny`, `require-approval` or `retryable-failure`",
    DECISION_RULE: "id of the deciding rule",
    DECISION_REASON: "the rule's sentence",
    DECISION_CODE: "which step decided, such as `policy.rule` or `policy.default`",
    DECISION_PLACE: "`file:line` of the rule",
    DECISION_DIGEST: "which rules were in force",
    DECISION_SHADOW: "true when the rule is recorded but not enforced",
    DECISION_WOULD_BE: "the decision without shadow mode",
    RETRY_AFTER: "seconds until the next attempt makes sense",
    RETRY_ATTEMPT: "the attempt, starts at 1",
    RETRY_MAX: "attempts in all",
    RETRY_CLASS: "`rate`, `budget-window` or `dependency`",
    ATTEMPT_NUMBER: "on the attempt event: which attempt failed, starts at 1",
    ATTEMPT_RETRY_AFTER: "on the attempt event: seconds until the next one",
    ATTEMPT_CLASS: "on the attempt event: `rate`, `budget-window` or `dependency`",
    DECLASSIFIED_LABEL: "on the declassified event: the label that was taken off",
    DECLASSIFIED_WHY: "on the declassified event: the reason that was given",
    APPROVAL_ID: "the approval request; on execute_tool the one that was approved for it",
    APPROVAL_RULE: "rule that asks",
    APPROVAL_REASON: "why a person is asked",
    APPROVAL_EXPIRES: "ISO 8601 time after which nobody can answer",
    APPROVAL_APPROVERS: "who may answer",
    APPROVAL_APPROVER: "who answered",
    APPROVAL_OUTCOME: "`approved`, `denied`, `expired` or `cancelled`",
    APPROVAL_WAIT: "seconds from question to answer",
    APPROVAL_ANSWER: "what the approver wrote",
    LOST_REASON: "metric label: why spans were lost",
    RELOAD_OUTCOME: "metric label: `loaded`, or `rejected` where the last good policy stays",
    BUDGET_WINDOW: "metric label: `day`, `month`, `sliding`, or `rate` for a sliding window of at most a minute",
    HOOK: "metric label: `request`, `approval`, `trace`, `error`, `finish`",
    CURRENCY: "metric label: ISO 4217 code",
    COMPONENT_CAPABILITY: "metric label: what a foreign component belongs to",
    COMPONENT_KIND: "metric label: `worker`, `mcp`, `tool`",
    COMPONENT_NAME: "metric label: its name",
    COMPONENT_STATE: "metric label: the state that is 1 while the component is in it, and 0 after",
    SOURCE: "foreign events: where they come from",
    EVENT_TYPE: "foreign events: `approval`, `capability`, `error`, `lifecycle`, `policy` or `run`",
    EVENT_KIND: "foreign events: the source's own name of the event",
    OMITTED: "foreign events: keys whose values were left out",
    ORPHAN: "foreign events: true when the event belongs to no run, or its start was never seen",
    EVENT_PARENT: "foreign events: the parent that the event named, where no such unit is known",
    EVENT_LATE: "foreign events: true when the event came after its run had ended",
    EVENT_QUEUED: "foreign events: seconds between a turn's acceptance and its start",
    EVENT_AMBIGUOUS: "foreign events: how many deltas named no unit and fitted several",
    SYNTHETIC: "foreign events: true when the parent was made up from the trace id",
    TRUNCATED: "foreign events: how many events of the run were dropped",
    "otel_runtime.attr.{key}": "foreign events: plain attributes that have no name of their own here",
    "otel_runtime.events.{kind}": "foreign events: how many high-volume events of that kind were counted instead of recorded",
}

EVENTS: Mapping[str, str] = {
    EVENT_EXCEPTION: "once per raise, on the innermost span it left",
    EVENT_ATTEMPT: "one attempt of a retried call",
    EVENT_DECLASSIFIED: "a label was taken off the session: `session.declassify`",
    EVENT_DETAILS: "a model call's messages, with capture `EVENT_ONLY` or `SPAN_AND_EVENT`",
    EVENT_CONTENT: "arguments and result of anything else, with the same",
}

ERROR_TYPES: Mapping[str, str] = {
    "policy_denied": "a rule, the default or the catalogue said no, and that ended the run",
    "approval_denied": "a person said no",
    "approval_expired": "nobody answered in time",
    "policy_error": "no decision could be made, so nothing ran",
    "retryable_failure": "not now: rate, budget window or dependency, and no attempt is left",
    "tool_error": "a tool failed without an exception",
    "timeout": "a TimeoutError",
    "cancelled": "metrics only: the call was cancelled, which is no error of the span",
    "{exception}": "any other exception: its qualified class name, such as `openai.RateLimitError`",
    OTHER: "a failure nothing is known of, or one name too many for a metric label",
}


@dataclass(frozen=True, slots=True)
class Metric:
    """One instrument.

    Args:
        kind: Instrument kind; `observable` is an observable counter, `peak` a gauge of the most since it was last read, `updown` is observed too.
        unit: UCUM unit.
        generation: `legacy` and `latest` follow the setting `metric_names`; the others are always on.
        labels: Attribute keys it may carry.
        text: One line for people.
        buckets: Explicit boundaries of a histogram.
    """

    kind: Literal["histogram", "counter", "updown", "gauge", "peak", "observable"]
    unit: str
    generation: Literal["legacy", "latest", "always", "ours"]
    labels: tuple[str, ...]
    text: str
    buckets: tuple[float, ...] | None = None


# Boundaries as the GenAI conventions give them.
_SECONDS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
_TOKENS = tuple(float(4**power) for power in range(14))
_CHUNK = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
# Ours: decisions take microseconds, people take minutes to days.
_DECIDING = (0.00001, 0.00005, 0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0)
_PEOPLE = (1.0, 5.0, 15.0, 30.0, 60.0, 300.0, 900.0, 3600.0, 14400.0, 86400.0, 604800.0)
_CALL = (OPERATION, PROVIDER_NAME, REQUEST_MODEL, RESPONSE_MODEL)
_FAILED = (*_CALL, ERROR_TYPE)

METRICS: Mapping[str, Metric] = {
    "gen_ai.client.token.usage": Metric("histogram", "{token}", "legacy", (*_CALL, TOKEN_TYPE), "tokens per model call", _TOKENS),
    "gen_ai.client.operation.duration": Metric("histogram", "s", "legacy", _FAILED, "duration of a model call", _SECONDS),
    "gen_ai.client.inference.duration": Metric("histogram", "s", "latest", _FAILED, "duration of a model call", _SECONDS),
    "gen_ai.client.inference.time_to_first_chunk": Metric("histogram", "s", "latest", _CALL, "time to a stream's first item", _CHUNK),
    "gen_ai.client.inference.usage.input_tokens": Metric("counter", "{token}", "latest", _CALL, "input tokens"),
    "gen_ai.client.inference.usage.output_tokens": Metric("counter", "{token}", "latest", _CALL, "output tokens"),
    "gen_ai.client.inference.usage.cache_read.input_tokens": Metric(
        "counter", "{token}", "latest", _CALL, "input tokens read from a cache"
    ),
    "gen_ai.client.inference.usage.cache_write.input_tokens": Metric(
        "counter", "{token}", "latest", _CALL, "input tokens written to a cache"
    ),
    "gen_ai.client.inference.usage.reasoning.output_tokens": Metric(
        "counter", "{token}", "latest", _CALL, "output tokens spent on reasoning"
    ),
    "gen_ai.invoke_agent.duration": Metric("histogram", "s", "always", (AGENT_NAME, ERROR_TYPE), "duration of an agent run", _SECONDS),
    "gen_ai.invoke_workflow.duration": Metric("histogram", "s", "always", (WORKFLOW_NAME, ERROR_TYPE), "duration of a workflow", _SECONDS),
    "gen_ai.execute_tool.duration": Metric(
        "histogram", "s", "always", (TOOL_NAME, ERROR_TYPE), "duration of an executed tool call", _SECONDS
    ),
    "otel_runtime.policy.decisions": Metric("counter", "{decision}", "ours", (DECISION, DECISION_RULE, OWN_TOOL), "decisions"),
    "otel_runtime.policy.duration": Metric("histogram", "s", "ours", (DECISION,), "time a decision took", _DECIDING),
    "otel_runtime.policy.budget.utilization": Metric(
        "peak", "1", "ours", (DECISION_RULE, BUDGET_WINDOW), "used part of a limit: the fullest counter since the last export"
    ),
    "otel_runtime.policy.reloads": Metric("counter", "{reload}", "ours", (RELOAD_OUTCOME,), "policies read again while the program ran"),
    "otel_runtime.approval.requests": Metric("counter", "{request}", "ours", (OWN_TOOL,), "questions put to people"),
    "otel_runtime.approval.wait": Metric("histogram", "s", "ours", (APPROVAL_OUTCOME,), "time from question to answer", _PEOPLE),
    "otel_runtime.approval.pending": Metric("updown", "{request}", "ours", (), "questions of this process without an answer"),
    "otel_runtime.usage.cost": Metric("counter", "{currency}", "ours", (CURRENCY, REQUEST_MODEL), "cost of model calls"),
    "otel_runtime.spans.lost": Metric("observable", "{span}", "ours", (LOST_REASON,), "spans that reached no exporter"),
    "otel_runtime.events": Metric("counter", "{event}", "ours", ("otel_runtime.source", "otel_runtime.event.kind"), "foreign events taken"),
    "otel_runtime.component.state": Metric(
        "gauge", "1", "ours", (COMPONENT_CAPABILITY, COMPONENT_KIND, COMPONENT_NAME, COMPONENT_STATE), "states of foreign components"
    ),
    "otel_runtime.hook.errors": Metric("counter", "{error}", "ours", (HOOK,), "exceptions in lifecycle hooks"),
}
