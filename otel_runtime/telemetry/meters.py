"""What happened -> measurements: which instruments, which labels. Labels come from bounded sets only."""

from __future__ import annotations

from opentelemetry.context import Context

from otel_runtime.telemetry import conventions as c
from otel_runtime.telemetry.metrics import Labels, Record, Recorder, Value
from otel_runtime.telemetry.operations import Plan, approval_outcome
from otel_runtime.telemetry.places import current_context
from otel_runtime.values.action import Action
from otel_runtime.values.approval import ApprovalRequest
from otel_runtime.values.decision import Decision
from otel_runtime.values.usage import UsageRecord

__all__ = ["Meters"]

_INFERENCE = "gen_ai.client.inference.usage."
_FIRST_CHUNK = "gen_ai.client.inference.time_to_first_chunk"
_COUNTERS = (
    (f"{_INFERENCE}input_tokens", "input_tokens"),
    (f"{_INFERENCE}output_tokens", "output_tokens"),
    (f"{_INFERENCE}cache_read.input_tokens", "cache_read"),
    (f"{_INFERENCE}cache_write.input_tokens", "cache_write"),
    (f"{_INFERENCE}reasoning.output_tokens", "reasoning"),
)


class Meters:
    """Queues measurements; everything here is cheap and raises nothing of its own.

    Args:
        recorder: The queue and the instruments behind it.
    """

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._models = Labels()
        self._names = Labels(1000)
        self._errors = Labels(64)
        self._tools = Labels(1000)
        self._rules = Labels(1000)
        # By name of the operation; there are four.
        self._timers: dict[str, tuple[Record, ...]] = {}
        self._decisions: dict[tuple[str, str, str], tuple[dict[str, str], dict[str, str]]] = {}
        self._count_decision = recorder.record("otel_runtime.policy.decisions")
        self._time_decision = recorder.record("otel_runtime.policy.duration")

    def name(self, given: str) -> bool:
        """True when this operation's name may become a metric label."""
        return self._names.of(given) != c.OTHER

    def model(self, given: str | None, provider: str | None, labels: dict[str, str]) -> dict[str, str]:
        """Labels of a model call, as far as they are known at its start."""
        found = dict(labels)
        if given is not None:
            found[c.REQUEST_MODEL] = self._models.of(given)
        if provider is not None:
            found[c.PROVIDER_NAME] = self._models.of(provider)
        return found

    def model_labels(self, record: UsageRecord, labels: dict[str, str]) -> dict[str, str]:
        """The same with what the answer told."""
        found = dict(labels)
        if record.model is not None:
            found[c.RESPONSE_MODEL] = self._models.of(record.model)
        if record.provider is not None:
            found.setdefault(c.PROVIDER_NAME, self._models.of(record.provider))
        return found

    def duration(self, plan: Plan, labels: dict[str, str], error: str | None, seconds: float, first: float | None, where: Context) -> None:
        """An operation has ended."""
        recorder = self._recorder
        if not recorder.on:
            return
        full: dict[str, Value] = {**labels, c.ERROR_TYPE: self._errors.of(error)} if error is not None else labels  # type: ignore[assignment]  # str is a Value
        for timer in self._timers.get(plan.operation) or self._timers_of(plan):
            recorder.put(timer, seconds, full, where)
        if first is not None and plan.operation == "chat" and (record := recorder.record(_FIRST_CHUNK)) is not None:
            recorder.put(record, first, full, where)

    def _timers_of(self, plan: Plan) -> tuple[Record, ...]:
        found = tuple(record for name in plan.durations if (record := self._recorder.record(name)) is not None)
        self._timers[plan.operation] = found
        return found

    def usage(self, usage: UsageRecord, labels: dict[str, str], where: Context) -> None:
        """A model call's tokens and cost."""
        own = {key: labels[key] for key in (c.REQUEST_MODEL, c.PROVIDER_NAME) if key in labels}
        known = self.model_labels(usage, {c.OPERATION: "chat", **own})
        for kind in ("input", "output"):
            self._put("gen_ai.client.token.usage", getattr(usage.usage, f"{kind}_tokens"), {**known, c.TOKEN_TYPE: kind}, where)
        for name, part in _COUNTERS:
            self._put(name, getattr(usage.usage, part), known, where)
        if usage.cost is not None:
            model = known.get(c.REQUEST_MODEL) or known.get(c.RESPONSE_MODEL) or c.OTHER
            currency = {c.CURRENCY: self._models.of(usage.cost.currency), c.REQUEST_MODEL: model}
            self._put("otel_runtime.usage.cost", float(usage.cost.amount), currency, where)

    def decided(self, action: Action, decision: Decision, duration_s: float) -> None:
        """A decision was made; a name the model made up is not a label."""
        if self._count_decision is None or self._time_decision is None:
            return
        tool = self._tools.of(action.name) if action.registered else c.OTHER
        key = (decision.value, self._rules.of(decision.rule or decision.code), tool)
        known = self._decisions.get(key)
        if known is None:
            # Bounded: its parts come from bounded sets of labels.
            counted = {c.DECISION: key[0], c.DECISION_RULE: key[1], c.OWN_TOOL: tool}
            known = self._decisions[key] = (counted, {c.DECISION: key[0]})
        where = current_context()
        self._recorder.put(self._count_decision, 1, known[0], where)
        self._recorder.put(self._time_decision, duration_s, known[1], where)

    def asked(self, request: ApprovalRequest) -> None:
        """A person was asked."""
        where = current_context()
        self._put("otel_runtime.approval.requests", 1, {c.OWN_TOOL: self._tools.of(request.capability)}, where)
        self._put("otel_runtime.approval.pending", 1, {}, where)

    def answered(self, request: ApprovalRequest, wait_s: float) -> None:
        """The question has ended."""
        where = current_context()
        self._put("otel_runtime.approval.wait", wait_s, {c.APPROVAL_OUTCOME: approval_outcome(request)}, where)
        self._put("otel_runtime.approval.pending", -1, {}, where)

    def reloaded(self, outcome: str) -> None:
        """The policy was read again."""
        self._put("otel_runtime.policy.reloads", 1, {c.RELOAD_OUTCOME: outcome}, current_context())

    def hook_failed(self, hook: str) -> None:
        """A lifecycle hook raised."""
        self._put("otel_runtime.hook.errors", 1, {c.HOOK: self._errors.of(hook)}, current_context())

    def _put(self, name: str, value: float | None, labels: dict[str, str], where: Context) -> None:
        record = self._recorder.record(name)
        if record is not None and value is not None:
            self._recorder.put(record, value, dict(labels), where)
