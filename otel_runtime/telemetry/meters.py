"""What happened -> measurements: which instruments, which labels. Labels come from bounded sets only."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal

from opentelemetry.context import Context

from otel_runtime.policy.protocol import Use
from otel_runtime.telemetry import conventions as c
from otel_runtime.telemetry.metrics import Labels, Record, Recorder, Value
from otel_runtime.telemetry.model_labels import ModelLabels, Told
from otel_runtime.telemetry.open_questions import QUESTION
from otel_runtime.telemetry.operations import Plan, approval_outcome
from otel_runtime.telemetry.places import current_context
from otel_runtime.values.action import Action
from otel_runtime.values.approval import ApprovalRequest
from otel_runtime.values.decision import Decision
from otel_runtime.values.usage import UsageRecord

__all__ = ["Meters"]

_INFERENCE = "gen_ai.client.inference.usage."
_PENDING = "otel_runtime.approval.pending"
_FIRST_CHUNK = "gen_ai.client.inference.time_to_first_chunk"
_COUNTERS = (
    (f"{_INFERENCE}input_tokens", "input_tokens"),
    (f"{_INFERENCE}output_tokens", "output_tokens"),
    (f"{_INFERENCE}cache_read.input_tokens", "cache_read"),
    (f"{_INFERENCE}cache_write.input_tokens", "cache_write"),
    (f"{_INFERENCE}reasoning.output_tokens", "reasoning"),
)
_REMEMBERED = 1024
# A decision with the name it was about and whether that was registered; labels of its count and of its duration.
_Ruling = tuple[Decision, str, bool, dict[str, Value], dict[str, Value]]
# An instrument, None when it is off; what it takes, None when nobody said; its labels.
_Measurement = tuple[Record | None, float | None, Mapping[str, Value]]


class Meters:
    """Queues measurements; everything here is cheap and raises nothing of its own.

    Args:
        recorder: The queue and the instruments behind it.
    """

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._models = ModelLabels()
        self._names = Labels(1000)
        self._errors = Labels(64)
        self._tools = Labels(1000)
        self._rules = Labels(1000)
        # By name of the operation; there are four.
        self._timers: dict[str, tuple[Record, ...]] = {}
        self._rulings: dict[int, _Ruling] = {}
        self._count_decision = recorder.record("otel_runtime.policy.decisions")
        self._time_decision = recorder.record("otel_runtime.policy.duration")

    def name(self, given: str) -> bool:
        """True when this operation's name may become a metric label."""
        return self._names.of(given) != c.OTHER

    def model(self, given: str | None, provider: str | None, labels: dict[str, str]) -> dict[str, str]:
        """Labels of a model call, as far as they are known at its start."""
        return self._models.asked(given, provider, labels)

    def model_labels(self, record: UsageRecord, labels: dict[str, str]) -> dict[str, str]:
        """The same with what the answer told."""
        return self._models.told(record, labels).full

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
        if self._recorder.on:
            self._recorder.put(self._record_usage, usage, self._models.told(usage, labels), where)

    def _record_usage(self, usage: UsageRecord, known: Told, where: Context) -> None:
        """All measurements of one usage; they are taken apart on the recorder's own thread."""
        used, cost = usage.usage, usage.cost
        found: list[_Measurement] = [
            (self._recorder.record("gen_ai.client.token.usage"), used.input_tokens, known.given),
            (self._recorder.record("gen_ai.client.token.usage"), used.output_tokens, known.answered),
        ]
        found += [(self._recorder.record(name), getattr(used, part), known.chat) for name, part in _COUNTERS]
        if cost is not None:
            money = self._models.money(cost.currency, known.chat)
            found.append((self._recorder.record("otel_runtime.usage.cost"), float(cost.amount), money))
        _record_each(found, where)

    def decided(self, action: Action, decision: Decision, duration_s: float) -> None:
        """A decision was made; a name the model made up is not a label."""
        if self._count_decision is None or self._time_decision is None:
            return
        known = self._rulings.get(id(decision))
        # An engine hands out one object for every plain ruling; it is kept with its id, so that the id cannot come to mean another one.
        if known is None or known[0] is not decision or known[1] != action.name or known[2] != action.registered:
            known = self._ruling(action, decision)
        self._recorder.put(self._record_decision, duration_s, known, current_context())

    def _record_decision(self, duration_s: float, known: _Ruling, where: Context) -> None:
        _record_each([(self._count_decision, 1, known[3]), (self._time_decision, duration_s, known[4])], where)

    def _ruling(self, action: Action, decision: Decision) -> _Ruling:
        tool = self._tools.of(action.name) if action.registered else c.OTHER
        counted: dict[str, Value] = {
            c.DECISION: decision.value,
            c.DECISION_RULE: self._rules.of(decision.rule or decision.code),
            c.OWN_TOOL: tool,
        }
        found: _Ruling = (decision, action.name, action.registered, counted, {c.DECISION: decision.value})
        if len(self._rulings) >= _REMEMBERED:
            self._rulings.clear()
        self._rulings[id(decision)] = found
        return found

    def asked(self, request: ApprovalRequest) -> None:
        """A person was asked."""
        where = current_context()
        self._put("otel_runtime.approval.requests", 1, {c.OWN_TOOL: self._tools.of(request.capability)}, where)
        self._put(_PENDING, 1, {QUESTION: request.id}, where)

    def answered(self, request: ApprovalRequest, wait_s: float) -> None:
        """The question has ended."""
        where = current_context()
        self._put("otel_runtime.approval.wait", wait_s, {c.APPROVAL_OUTCOME: approval_outcome(request)}, where)
        self._put(_PENDING, -1, {QUESTION: request.id}, where)

    def budgets_used(self, uses: Sequence[Use], *, held: bool, spent_usd: Decimal | None) -> None:
        """Limits were looked at, or a call that counts on them has ended with what it really cost."""
        for use in uses:
            real = spent_usd if use.unit == "usd" and spent_usd is not None else use.amount
            # An attempt counts whatever became of it.
            stands = use.used + real if held or use.unit == "attempts" else use.used
            # Of a limit of nothing everything is used.
            share = float(stands / use.limit) if use.limit > 0 else 1.0
            labels = {c.DECISION_RULE: self._rules.of(use.rule), c.BUDGET_WINDOW: use.window}
            self._put("otel_runtime.policy.budget.utilization", share, labels, current_context())

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


def _record_each(measurements: Iterable[_Measurement], where: Context) -> None:
    """Record what there is; one that fails does not keep the others from being recorded."""
    failed: Exception | None = None
    for record, value, labels in measurements:
        if record is None or value is None:
            continue
        try:
            record(value, labels, where)
        except Exception as error:  # noqa: BLE001 - an application's own meter provider may raise anything
            failed = error
    if failed is not None:
        raise failed
