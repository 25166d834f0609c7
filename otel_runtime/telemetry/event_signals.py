"""What foreign events say besides spans: the metrics of decorated code, and log records. One that only logs, and the real one."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Final, Literal, NamedTuple

from opentelemetry.context import Context

from otel_runtime.telemetry import conventions as names
from otel_runtime.telemetry import operations as ops
from otel_runtime.telemetry.event_attributes import Attributes
from otel_runtime.telemetry.event_logs import EventLogs
from otel_runtime.telemetry.meters import Meters
from otel_runtime.telemetry.metrics import Labels, Recorder
from otel_runtime.values.usage import TokenUsage, UsageRecord

__all__ = ["COMPONENT_GAUGE", "EVENT_COUNTER", "Component", "EventSignals", "Operation", "Signals"]

EVENT_COUNTER: Final = "otel_runtime.events"
COMPONENT_GAUGE: Final = "otel_runtime.component.state"
_LEVELS: Final = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
_COMPONENTS: Final = 1024
_log = logging.getLogger("otel_runtime.events")

Operation = Literal["tool", "model", "agent", "workflow"]


class Component(NamedTuple):
    """A worker, server or tool of a foreign runtime.

    Args:
        capability: What it belongs to.
        kind: `worker`, `mcp`, `tool`.
        name: Its name.
    """

    capability: str
    kind: str
    name: str


class Signals:
    """Where the projector sends what is no span. This one measures nothing; log records go to the logger `otel_runtime.events`.

    Attributes:
        measures: True when durations go anywhere; else nobody need say them.
    """

    measures: bool = False

    def events(self, counts: Mapping[tuple[str, str], int]) -> None:
        """Count events by vocabulary and kind."""

    def tokens(self, model: str | None, input_tokens: int | None, output_tokens: int | None, where: Context) -> None:
        """Count what one model call used."""

    def ended(self, operation: Operation, name: str, seconds: float, error: str | None, where: Context) -> None:
        """Measure how long something took."""

    def decided(self, decision: str, tool: str, rule: str | None, where: Context) -> None:
        """Count a decision; `rule` is one of ours, None where a foreign system decided."""

    def asked(self, tool: str, where: Context) -> None:
        """Count a question to people."""

    def answered(self, outcome: str, seconds: float, where: Context) -> None:
        """Measure how long a question was open."""

    def component(self, component: Component, status: str) -> None:
        """Keep the state of a component."""

    def log(self, level: str, name: str, facts: Attributes, at_ns: int, where: Context) -> None:
        """Write a log record with the event's attributes beside it; content is not among them."""
        _log.log(_LEVELS.get(level, logging.INFO), "%s", name, extra={"otel_runtime_event": dict(facts)})


class EventSignals(Signals):
    """The metrics of decorated code; log records for Python's logging and for OpenTelemetry's.

    Args:
        recorder: Where measurements go.
        logs: Where OpenTelemetry log records go; None for Python's logging only.
    """

    def __init__(self, recorder: Recorder, logs: EventLogs | None = None) -> None:
        self.measures: bool = recorder.on
        self._recorder = recorder
        self._logs = logs
        self._meters = Meters(recorder)
        self._labels = Labels(256)
        self._tools = Labels(1000)
        self._plans: dict[tuple[str, str], ops.Plan] = {}
        self._states: dict[Component, str] = {}

    def events(self, counts: Mapping[tuple[str, str], int]) -> None:
        """Count events by vocabulary and kind; both are bounded labels."""
        for (source, kind), times in counts.items():
            self._put(EVENT_COUNTER, times, {names.SOURCE: self._labels.of(source), names.EVENT_KIND: self._labels.of(kind)}, _NOWHERE)

    def tokens(self, model: str | None, input_tokens: int | None, output_tokens: int | None, where: Context) -> None:
        """Count what one model call used, as a decorated one does."""
        labels = {} if model is None else {names.REQUEST_MODEL: model}
        self._recorder.ensure()
        self._meters.usage(UsageRecord(TokenUsage(input_tokens, output_tokens)), self._meters.model(model, None, labels), where)

    def ended(self, operation: Operation, name: str, seconds: float, error: str | None, where: Context) -> None:
        """Measure how long something took, under the names and labels of decorated code."""
        if not self._recorder.on:
            return
        plan = self._plans.get((operation, name)) or self._plan(operation, name)
        labels = self._meters.model(name or None, None, plan.labels) if operation == "model" else plan.labels
        self._recorder.ensure()
        self._meters.duration(plan, labels, error, seconds, None, where)

    def decided(self, decision: str, tool: str, rule: str | None, where: Context) -> None:
        """Count a decision; a rule that is not ours has no name here."""
        told = "foreign" if rule is None else self._tools.of(rule)
        facts = {names.DECISION: decision, names.DECISION_RULE: told, names.OWN_TOOL: self._tool(tool)}
        self._put("otel_runtime.policy.decisions", 1, facts, where)

    def asked(self, tool: str, where: Context) -> None:
        """Count a question to people, as one of ours."""
        self._put("otel_runtime.approval.requests", 1, {names.OWN_TOOL: self._tool(tool)}, where)
        self._put("otel_runtime.approval.pending", 1, {}, where)

    def answered(self, outcome: str, seconds: float, where: Context) -> None:
        """Measure how long a question was open."""
        self._put("otel_runtime.approval.wait", seconds, {names.APPROVAL_OUTCOME: self._labels.of(outcome)}, where)
        self._put("otel_runtime.approval.pending", -1, {}, where)

    def component(self, component: Component, status: str) -> None:
        """1 for the state that a component is in, 0 for the one it was in before."""
        before = self._states.get(component)
        if before is None and len(self._states) >= _COMPONENTS:
            return
        self._states[component] = status
        for state, value in ((before, 0), (status, 1)):
            if state is not None and (state != status or value):
                parts = {f"otel_runtime.component.{field}": self._labels.of(text) for field, text in component._asdict().items()}
                self._put(COMPONENT_GAUGE, value, {**parts, names.COMPONENT_STATE: self._labels.of(state)}, _NOWHERE)

    def log(self, level: str, name: str, facts: Attributes, at_ns: int, where: Context) -> None:
        """Write the record to both."""
        super().log(level, name, facts, at_ns, where)
        if self._logs is not None:
            self._logs.emit(_LEVELS.get(level, logging.INFO), name, facts, at_ns, where)

    def _tool(self, tool: str) -> str:
        # A tool's name in a foreign event may be one that a model made up.
        return self._tools.of(tool) if tool else names.OTHER

    def _plan(self, operation: Operation, name: str) -> ops.Plan:
        plan = ops.plan(operation, name, bounded=self._tools.of(name) != names.OTHER)
        if len(self._plans) < _COMPONENTS:
            self._plans[operation, name] = plan
        return plan

    def _put(self, name: str, value: float, labels: dict[str, str], where: Context) -> None:
        record = self._recorder.record(name)
        if record is not None:
            self._recorder.ensure()
            self._recorder.put(record, value, labels, where)


_NOWHERE: Final = Context()
