"""What foreign events say besides spans: token metrics, decision counts, log records. A protocol, logs only, and the real one."""

from __future__ import annotations

import logging
from typing import Final, Protocol

from opentelemetry import context

from otel_runtime.telemetry import conventions as names
from otel_runtime.telemetry.event_attributes import Attributes
from otel_runtime.telemetry.meters import Meters
from otel_runtime.telemetry.metrics import Labels, Recorder
from otel_runtime.values.usage import TokenUsage, UsageRecord

__all__ = ["EVENT_COUNTER", "EventSignals", "LogSignals", "Signals"]

EVENT_COUNTER: Final = "otel_runtime.events"
_LEVELS: Final = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
_log = logging.getLogger("otel_runtime.events")


class Signals(Protocol):
    """Where the projector sends what is no span."""

    def event(self, source: str, kind: str, times: int = 1) -> None:
        """Count events of one kind."""
        ...

    def tokens(self, model: str | None, input_tokens: int | None, output_tokens: int | None) -> None:
        """Count what one model call used."""
        ...

    def decided(self, decision: str, tool: str) -> None:
        """Count a decision of a foreign system."""
        ...

    def log(self, level: str, name: str, facts: Attributes) -> None:
        """Write a log record."""
        ...


class LogSignals:
    """No metrics; log records go to the logger `otel_runtime.events`."""

    def event(self, source: str, kind: str, times: int = 1) -> None:
        """Nothing."""

    def tokens(self, model: str | None, input_tokens: int | None, output_tokens: int | None) -> None:
        """Nothing."""

    def decided(self, decision: str, tool: str) -> None:
        """Nothing."""

    def log(self, level: str, name: str, facts: Attributes) -> None:
        """Write a log record with the event's attributes beside it; content is not among them."""
        _log.log(_LEVELS.get(level, logging.INFO), "%s", name, extra={"otel_runtime_event": dict(facts)})


class EventSignals(LogSignals):
    """The metrics of decorated code, and the logger `otel_runtime.events`.

    Args:
        recorder: Where measurements go.
    """

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._meters = Meters(recorder)
        self._labels = Labels(256)
        self._tools = Labels(1000)

    def event(self, source: str, kind: str, times: int = 1) -> None:
        """Count events by vocabulary and kind; both are bounded labels."""
        self._put(EVENT_COUNTER, {names.SOURCE: self._labels.of(source), names.EVENT_KIND: self._labels.of(kind)}, times)

    def tokens(self, model: str | None, input_tokens: int | None, output_tokens: int | None) -> None:
        """Count what one model call used, as a decorated one does."""
        labels = {} if model is None else {names.REQUEST_MODEL: model}
        record = UsageRecord(TokenUsage(input_tokens, output_tokens))
        self._meters.usage(record, self._meters.model(model, None, labels), context.get_current())

    def decided(self, decision: str, tool: str) -> None:
        """Count a decision; the rule is not ours, so it has no name here."""
        # A tool's name in a foreign event may be one that a model made up.
        facts = {names.DECISION: decision, names.DECISION_RULE: "foreign", names.OWN_TOOL: self._tools.of(tool) if tool else names.OTHER}
        self._put("otel_runtime.policy.decisions", facts)

    def _put(self, name: str, labels: dict[str, str], times: int = 1) -> None:
        record = self._recorder.record(name)
        if record is not None:
            self._recorder.put(record, times, dict(labels), context.get_current())
