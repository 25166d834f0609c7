"""One running operation over the public OpenTelemetry API. Ends once, never raises, and belongs to the process that opened it.

Rules
- Attributes that arrive while it runs are kept and set in one call at the end: one lock, one check.
- The end time is the start time plus a monotonic duration, so a clock step cannot make it negative.
- `end` may run in the garbage collector: it only appends to queues.
- A forked child neither ends nor exports a span of its parent.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from opentelemetry.context import Context
from opentelemetry.trace import Span, StatusCode

from otel_runtime.telemetry import conventions as c
from otel_runtime.telemetry.direct_span import DirectSpan
from otel_runtime.telemetry.failure import error_type, suspends
from otel_runtime.telemetry.operations import Attributes, Plan, decision_attributes, totals_attributes, usage_attributes
from otel_runtime.telemetry.places import attach, detach, ref_of
from otel_runtime.telemetry.protocol import NOTHING, AttributeValue, Outcome
from otel_runtime.telemetry.sanitize import attributes as clean_all
from otel_runtime.telemetry.sanitize import name as clean_name
from otel_runtime.telemetry.sanitize import value as clean_value
from otel_runtime.telemetry.unsampled import PLAIN
from otel_runtime.values.decision import Decision
from otel_runtime.values.trace import TraceRef
from otel_runtime.values.usage import TokenUsage, UsageRecord

if TYPE_CHECKING:
    from otel_runtime.telemetry.tracing import Parts

__all__ = ["DroppedSpan", "OtelSpan"]

_forks = [0]
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=lambda: _forks.append(0))


class DroppedSpan:
    """A running operation that is sampled out: its place is handed on and its metrics are recorded, nothing else is looked at.

    Args:
        parts: What it shares with every other span of its runtime.
        plan: What its kind and name determine.
        span: The OpenTelemetry span, already started.
        entered: The context in which it is current.
        clock: `time.perf_counter()` of its start.
        labels: Metric labels known at the start.
    """

    __slots__ = ("_clock", "_context", "_counted", "_elapsed", "_first", "_generation", "_labels", "_live", "_parts", "_plan", "_span")

    def __init__(self, parts: Parts, plan: Plan, span: Span, entered: Context, clock: float, labels: dict[str, str]) -> None:
        self._parts = parts
        self._plan = plan
        self._span = span
        self._context = entered
        self._clock = clock
        self._labels = labels
        self._elapsed: float | None = None
        self._first: float | None = None
        self._counted: set[str] | None = None
        # One element that the first `end` takes: popping is atomic, a flag would not be.
        self._live = [None]
        self._generation = len(_forks)

    def enter(self) -> object:
        """Make it current; returns the token for `leave`."""
        return attach(self._context)

    def leave(self, token: object) -> None:
        """Make current what was current before."""
        detach(token)

    def ref(self) -> TraceRef | None:
        """Its place in the trace."""
        return ref_of(self._span.get_span_context())

    def event(self, name: str, attributes: Mapping[str, AttributeValue]) -> None:
        """Dropped."""

    def attribute(self, name: str, value: AttributeValue) -> None:
        """Dropped."""

    def first_chunk(self) -> None:
        """The first item of a stream has arrived."""
        if self._first is None:
            self._first = time.perf_counter() - self._clock

    def stop(self) -> None:
        """The body is done."""
        self._elapsed = time.perf_counter() - self._clock

    def usage(self, record: UsageRecord) -> None:
        """What a model call used: attributes and metrics; one message counts once."""
        try:
            self._describe_usage(record)
            if self._is_new(record.run.message or record.response.id):
                self._parts.meters.usage(record, self._labels, self._context)
            if self._plan.operation == "chat":
                self._labels = self._parts.meters.model_labels(record, self._labels)
        except Exception as error:  # noqa: BLE001 - telemetry fails open
            self._parts.losses.problem("usage", error)

    def totals(self, usage: TokenUsage, finish_reasons: tuple[str, ...] = ()) -> None:
        """Sums of an agent's model calls: attributes only."""

    def end(self, outcome: Outcome, error: BaseException | None = None, result: object = NOTHING) -> None:
        """End it once."""
        elapsed = self._elapsed or time.perf_counter() - self._clock
        try:
            self._live.pop()
        except IndexError:
            return
        if self._generation != len(_forks):
            return
        try:
            label = self._finish(outcome, error, result, elapsed)
            self._parts.meters.duration(self._plan, self._labels, label, elapsed, self._first, self._context)
        except Exception as failure:  # noqa: BLE001 - telemetry fails open
            self._parts.losses.problem("end", failure)

    def _describe_usage(self, record: UsageRecord) -> None:
        """Nobody reads it."""

    def _finish(self, outcome: Outcome, error: BaseException | None, result: object, elapsed: float) -> str | None:
        """End the span; returns the metrics' error label."""
        label = None
        try:
            if outcome != "ok":
                label = self._label(outcome, error)
        finally:
            if type(self._span) not in PLAIN:
                self._close(None)
        return label

    def _close(self, at: int | None) -> None:
        try:
            self._span.end(at)
        except Exception as failure:  # noqa: BLE001 - a processor of the application's may raise anything
            self._parts.losses.problem("processor", failure)

    def _is_new(self, message: str | None) -> bool:
        if message is None:
            return True
        if self._counted is None:
            self._counted = set()
        if message in self._counted:
            return False
        self._counted.add(message)
        return True

    def _label(self, outcome: Outcome, error: BaseException | None) -> str | None:
        if outcome == "error" and not suspends(error):
            return error_type(error, "tool" if self._plan.operation == "execute_tool" else "")
        return outcome if outcome in ("cancelled", "interrupted") else None


class OtelSpan(DroppedSpan):
    """A running operation that is recorded.

    Args:
        parts: What it shares with every other span of its runtime.
        plan: What its kind and name determine.
        span: The OpenTelemetry span, already started.
        entered: The context in which it is current.
        started: `time.time_ns()` and `time.perf_counter()` of its start.
        decision: Set again at the end when attributes were evicted.
        labels: Metric labels known at the start.
    """

    __slots__ = ("_content", "_decision", "_late", "_started")

    def __init__(
        self,
        parts: Parts,
        plan: Plan,
        span: Span,
        entered: Context,
        started: tuple[int, float],
        decision: Decision | None,
        labels: dict[str, str],
    ) -> None:
        # As the base does; calling it costs more than it saves on the way of every call.
        self._parts = parts
        self._plan = plan
        self._span = span
        self._context = entered
        self._started, self._clock = started
        self._labels = labels
        self._elapsed = self._first = self._counted = None
        self._live = [None]
        self._generation = len(_forks)
        self._decision = decision
        self._late: Attributes = {}
        self._content: Attributes | None = None

    def event(self, name: str, attributes: Mapping[str, AttributeValue]) -> None:
        """Add a span event now."""
        if not self._live:
            return
        try:
            self._span.add_event(clean_name(name), clean_all(attributes))
        except Exception as error:  # noqa: BLE001 - telemetry fails open
            self._parts.losses.problem("event", error)

    def attribute(self, name: str, value: AttributeValue) -> None:
        """Set one attribute."""
        found = clean_value(value)
        if found is not None:
            self._late[clean_name(name)] = found

    def totals(self, usage: TokenUsage, finish_reasons: tuple[str, ...] = ()) -> None:
        """Sums of an agent's model calls: attributes only."""
        self._late.update(totals_attributes(usage, finish_reasons))

    def given(self, arguments: Mapping[str, object] | Callable[[], Mapping[str, object] | None]) -> None:
        """Capture the arguments now, before the body can change them."""
        try:
            known = arguments() if callable(arguments) else arguments
            if known is not None:
                self._content = {self._plan.keys[0]: self._captured_arguments(known)}
        except Exception as error:  # noqa: BLE001 - telemetry fails open
            self._parts.losses.problem("capture", error)

    def _describe_usage(self, record: UsageRecord) -> None:
        self._late.update(usage_attributes(record))

    def _finish(self, outcome: Outcome, error: BaseException | None, result: object, elapsed: float) -> str | None:
        """Write what is known at the end and end the span; returns the metrics' error label."""
        label = None
        try:
            if self._span.is_recording():
                if outcome != "ok":
                    label = self._describe(outcome, error)
                self._write(result)
            elif outcome != "ok":
                label = self._label(outcome, error)
        except Exception as failure:  # noqa: BLE001 - whatever could not be written, the span must still end
            self._parts.losses.problem("end", failure)
        self._close(self._started + int(elapsed * 1e9))
        return label

    def _captured_arguments(self, known: Mapping[str, object]) -> str:
        parts = self._parts
        return parts.messages.asked(known) if self._plan.operation == "chat" else parts.capture.arguments(known)

    def _write_content(self, result: object) -> None:
        """Content goes where the capture mode says: attributes, an event, or both."""
        parts, content = self._parts, self._content or {}
        if result is not NOTHING:
            content[self._plan.keys[1]] = parts.messages.answered(result) if self._plan.operation == "chat" else parts.capture.json(result)
        if content and parts.capture.on_spans:
            self._late.update(content)
        if content and parts.capture.on_events:
            self._span.add_event(c.EVENT_DETAILS if self._plan.operation == "chat" else c.EVENT_CONTENT, content)

    def _write(self, result: object) -> None:
        span, late = self._span, self._late
        if self._first is not None:
            late[c.FIRST_CHUNK] = self._first
        if self._parts.capture.on:
            self._write_content(result)
        if type(span) is DirectSpan:
            if late:
                span.add_own(late)
        elif late:
            span.set_attributes(late)
        # The SDK evicts the oldest attributes first: what kind of call it is, and the decision.
        if getattr(span, "dropped_attributes", True):
            span.set_attributes(self._plan.attributes)
            if self._decision is not None:
                span.set_attributes(decision_attributes(self._decision))

    def _describe(self, outcome: Outcome, error: BaseException | None) -> str | None:
        label = self._label(outcome, error)
        if outcome != "error" or suspends(error):
            self._late[c.OUTCOME] = "suspended" if suspends(error) else outcome
            return label
        self._late[c.ERROR_TYPE] = label or c.OTHER
        if error is None:
            self._span.set_status(StatusCode.ERROR)
            return label
        event = self._parts.failures.event(error, self._span.get_span_context().trace_id)
        if event is not None:
            self._span.add_event(c.EVENT_EXCEPTION, event)
        self._span.set_status(StatusCode.ERROR, self._parts.failures.status_text(error))
        return label
