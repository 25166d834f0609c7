"""`Tracing` over OpenTelemetry's public API. No method raises, whatever the SDK, a processor or an exporter does."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Literal

from opentelemetry.context import Context
from opentelemetry.trace import Link, NonRecordingSpan, Span, SpanKind, Tracer

from otel_runtime.policy.protocol import Use
from otel_runtime.telemetry import conventions as c
from otel_runtime.telemetry import operations as ops
from otel_runtime.telemetry.capture import Capture
from otel_runtime.telemetry.direct_span import DirectSpan
from otel_runtime.telemetry.failure import Failures
from otel_runtime.telemetry.lazy_attributes import first_attributes
from otel_runtime.telemetry.links import trace_page
from otel_runtime.telemetry.losses import Losses
from otel_runtime.telemetry.message_capture import MessageCapture
from otel_runtime.telemetry.meters import Meters
from otel_runtime.telemetry.metrics import Recorder
from otel_runtime.telemetry.noop import NOOP_SPAN
from otel_runtime.telemetry.outlets import Outlets
from otel_runtime.telemetry.places import current_context, link_to, ref_of, remote_parent, span_in, with_span
from otel_runtime.telemetry.projector import Projector
from otel_runtime.telemetry.protocol import OpenSpan, SpanStart
from otel_runtime.telemetry.redaction import Redactor
from otel_runtime.telemetry.sanitize import name as clean_name
from otel_runtime.telemetry.span import DroppedSpan, OtelSpan
from otel_runtime.telemetry.starting import spans_of
from otel_runtime.values.action import Action
from otel_runtime.values.approval import ApprovalRequest
from otel_runtime.values.decision import Decision
from otel_runtime.values.trace import TraceEvent, TraceRef

__all__ = ["OtelTracing", "Parts"]

_log = logging.getLogger("otel_runtime")
_PLANS_LIMIT = 1024
_INSTANT_NS = 1_000
_RECENT_NS = 60_000_000_000
# A model's labels need more than its name, and a capability has no span.
_ASKING = frozenset({"model", "capability"})


@dataclass(frozen=True, slots=True)
class Parts:
    """What the spans of one runtime share.

    Args:
        losses: Counts and problems.
        meters: Measurements.
        capture: Content.
        messages: Content of model calls.
        failures: Exceptions.
        redactor: Secrets.
    """

    losses: Losses
    meters: Meters
    capture: Capture
    messages: MessageCapture
    failures: Failures
    redactor: Redactor


def _just(moment: datetime) -> int:
    """The moment in nanoseconds; now, where it is not of the last minute by the clock of this machine."""
    now, given = time.time_ns(), int(moment.timestamp() * 1e6) * 1_000
    return given if 0 <= now - given < _RECENT_NS else now


class OtelTracing:
    """Turns what happens into spans and metrics.

    Args:
        tracer: Where spans are started.
        recorder: Where measurements go.
        outlets: Flushing and stopping of whatever exports.
        losses: Counts and problems, shared with the outlets.
        capture: Content capture.
        redactor: What masks secrets.
        projector: Turns foreign events into spans; None drops them.
        decision_spans: `all` makes a span of an allow too.
        resume_trace: Whether a resolved approval stays in the trace that asked.
        trace_url: Page of a trace, for the log; None leaves it out.

    Attributes:
        tracer: For spans that were measured elsewhere (`integrations/claude_code_spans`).
    """

    def __init__(
        self,
        tracer: Tracer,
        recorder: Recorder,
        outlets: Outlets,
        *,
        losses: Losses,
        capture: Capture,
        redactor: Redactor,
        projector: Projector | None = None,
        decision_spans: Literal["non-allow", "all"] = "non-allow",
        resume_trace: Literal["auto", "same", "new"] = "auto",
        trace_url: str | None = None,
    ) -> None:
        self._trace_url = trace_url
        self.tracer: Tracer = tracer
        self._spans = spans_of(tracer)
        self._recorder = recorder
        self._outlets = outlets
        self._parts = Parts(losses, Meters(recorder), capture, MessageCapture(capture, redactor), Failures(redactor), redactor)
        self._all_decisions = decision_spans == "all"
        self._resume: Literal["auto", "same", "new"] = resume_trace
        self._plans: dict[tuple[str, str], ops.Plan] = {}
        self._projector = projector
        self._down = False

    @property
    def captures(self) -> bool:
        """True when content is captured: only then are arguments handed over."""
        return self._parts.capture.on

    def open(self, start: SpanStart) -> OpenSpan:
        """Start a span; the caller enters and ends it."""
        if start.kind == "capability" or self._down:
            return NOOP_SPAN
        try:
            return self._open(start)
        except Exception as error:  # noqa: BLE001 - telemetry fails open
            self._parts.losses.problem("open", error)
            return NOOP_SPAN

    def unrecorded(self, kind: str, name: str) -> OpenSpan | None:
        """The span of an operation that is sure not to be recorded; None when only `open` can tell."""
        if self._down:
            return NOOP_SPAN
        try:
            found = self._spans.dropped_in(current_context())
            if found is None or kind in _ASKING:
                return None
            self._recorder.ensure()
            plan = self._plans.get((kind, name)) or self._plan(kind, name)
            return DroppedSpan(self._parts, plan, *found, time.perf_counter(), plan.labels)
        except Exception as error:  # noqa: BLE001 - telemetry fails open
            self._parts.losses.problem("open", error)
            return None

    def current(self) -> TraceRef | None:
        """Where the running code stands."""
        try:
            return ref_of(span_in(current_context()).get_span_context())
        except Exception as error:  # noqa: BLE001 - an application's own span class may raise anything
            self._parts.losses.problem("current", error)
            return None

    def decided(
        self, action: Action, decision: Decision, duration_s: float = 0.0, *, content: bool = False, asked_at: datetime | None = None
    ) -> None:
        """Count a decision; a non-allow one also becomes a span, with the call's content where that is captured."""
        if self._down:
            return
        try:
            self._recorder.ensure()
            self._parts.meters.decided(action, decision, duration_s)
            if decision.value != "allow" or self._all_decisions:
                name = clean_name(action.name) if action.registered else c.OTHER
                attributes = ops.policy_attributes(action, decision, self._parts.redactor)
                if content and self._parts.capture.on_spans:
                    attributes.update(ops.call_content(action, self._parts.capture))
                end = time.time_ns() if asked_at is None else _just(asked_at) - 2 * _INSTANT_NS
                start = end - int(max(0.0, duration_s) * 1e9)
                self._instant(f"policy {decision.value} {name}", attributes, current_context(), [], start, end)
        except Exception as error:  # noqa: BLE001 - telemetry fails open
            self._parts.losses.problem("decision", error)

    def approval_requested(self, request: ApprovalRequest) -> TraceRef | None:
        """Span `approval requested {tool}`, ended and exported at once."""
        if self._down:
            return None
        try:
            self._recorder.ensure()
            self._parts.meters.asked(request)
            attributes = ops.request_attributes(request, self._parts.redactor)
            asked = _just(request.requested_at)
            name = f"approval requested {clean_name(request.capability)}"
            # Jaeger doubts the clock of a span without duration. It ends where the answer's span begins, which viewers then show below it.
            found = self._instant(name, attributes, current_context(), [], asked - _INSTANT_NS, asked)
            self._outlets.wake()
            self._log_question(request, found)
            return found
        except Exception as error:  # noqa: BLE001 - telemetry fails open
            self._parts.losses.problem("approval", error)
            return None

    def _log_question(self, request: ApprovalRequest, place: TraceRef | None) -> None:
        page = trace_page(self._trace_url, place.id, place.parent_id or "") if place is not None else ""
        where = f"; {page}" * bool(page)
        _log.info("`%s` waits for a person: otel-runtime approvals show %s%s", clean_name(request.capability), request.id, where)

    def approval_resolved(self, request: ApprovalRequest, requested: TraceRef | None) -> TraceRef | None:
        """Span `approval {outcome} {tool}` from request to answer, linked to the requested span."""
        if self._down:
            return None
        try:
            return self._resolved(request, requested)
        except Exception as error:  # noqa: BLE001 - telemetry fails open
            self._parts.losses.problem("approval", error)
            return None

    def questions_wait(self, waits: Callable[[str], bool]) -> None:
        """Whom to ask before open questions are counted."""
        self._recorder.questions.waits = waits

    def observe(self, event: TraceEvent) -> None:
        """Project a foreign event onto spans."""
        if self._projector is not None and not self._down:
            self._projector.observe(event)

    def budgets_used(self, uses: Sequence[Use], *, held: bool, spent_usd: Decimal | None = None) -> None:
        """Measure how far limits are used."""
        try:
            self._parts.meters.budgets_used(uses, held=held, spent_usd=spent_usd)
        except Exception as error:  # noqa: BLE001 - telemetry fails open
            self._parts.losses.problem("budgets", error)

    def policy_reloaded(self, outcome: Literal["loaded", "rejected"]) -> None:
        """Count a policy that was read again."""
        self._parts.meters.reloaded(outcome)

    def hook_failed(self, hook: str) -> None:
        """Count an exception of a lifecycle hook."""
        self._parts.meters.hook_failed(hook)

    def flush(self, timeout_s: float) -> bool:
        """Send what is buffered; False when it did not all leave in time."""
        deadline = time.monotonic() + timeout_s
        self._with_projector(Projector.settle)
        recorded = self._recorder.flush(timeout_s)
        return self._outlets.flush(deadline) and recorded

    def shutdown(self, timeout_s: float) -> bool:
        """Flush and stop."""
        if self._down:
            return True
        self._down = True
        deadline = time.monotonic() + timeout_s
        self._with_projector(Projector.close)
        recorded = self._recorder.flush(timeout_s)
        self._recorder.stop()
        left = self._outlets.shutdown(deadline)
        self._parts.losses.speak(last=True)
        return left and recorded

    def _with_projector(self, work: Callable[[Projector], None]) -> None:
        if self._projector is None:
            return
        try:
            work(self._projector)
        except Exception as error:  # noqa: BLE001 - telemetry fails open, and what else is buffered must still leave
            self._parts.losses.problem("events", error)

    def report(self) -> Mapping[str, object]:
        """What `doctor` shows."""
        losses = self._parts.losses
        return {
            **self._outlets.report(),
            "capture": self._parts.capture.mode,
            "metrics": self._recorder.described,
            "conventions": c.VERSION,
            "lost": dict(losses.counts),
            "problems": dict(losses.problems),
            "events": {} if self._projector is None else dict(self._projector.problems),
        }

    def _open(self, start: SpanStart) -> OpenSpan:
        parts = self._parts
        plan = self._plans.get((start.kind, start.name)) or self._plan(start.kind, start.name)
        self._recorder.ensure()
        parent = current_context() if start.parent is None else remote_parent(start.parent)
        around = span_in(parent)
        links = [link for ref in start.links for link in link_to(ref)] if start.links else []
        labels = plan.labels
        if plan.operation == "chat":
            labels = parts.meters.model(start.model or start.name, start.provider, labels)
        # Both clocks are read together, or a child could seem to end after its parent by what lies between the readings.
        started, clock = time.time_ns(), time.perf_counter()
        span = self._start(plan.span_name, plan.kind, lambda: first_attributes(start, plan, around), parent, around, links, started)
        entered = parent if span is around else with_span(span, parent)
        if type(span) is not DirectSpan and not span.is_recording():
            return DroppedSpan(parts, plan, span, entered, clock, labels)
        opened = OtelSpan(parts, plan, span, entered, (started, clock), start.decision, labels)
        if start.arguments is not None and parts.capture.on:
            opened.given(start.arguments)
        return opened

    def _plan(self, kind: str, name: str) -> ops.Plan:
        plan = ops.plan(kind, name, bounded=self._parts.meters.name(name))
        if len(self._plans) < _PLANS_LIMIT:
            self._plans[kind, name] = plan
        return plan

    def _start(
        self,
        name: str,
        kind: SpanKind,
        build: Callable[[], ops.Attributes],
        parent: Context,
        around: Span,
        links: Sequence[Link],
        started: int,
    ) -> Span:
        try:
            return self._spans.start(name, kind, build, parent, around, links, started)
        except Exception as error:  # noqa: BLE001 - a sampler or processor of the application's may raise anything
            self._parts.losses.problem("processor", error)
            # Children then hang under the span around this one.
            return NonRecordingSpan(around.get_span_context())

    def _instant(self, name: str, attributes: ops.Attributes, parent: Context, links: list[Link], start: int, end: int) -> TraceRef | None:
        span = self._start(name, SpanKind.INTERNAL, lambda: attributes, parent, span_in(parent), links, start)
        try:
            # A processor that puts on more than the SDK keeps pushes out the oldest, and these are.
            if getattr(span, "dropped_attributes", False):
                span.set_attributes(attributes)
            span.end(end)
        except Exception as error:  # noqa: BLE001 - as above
            self._parts.losses.problem("processor", error)
        return ref_of(span.get_span_context())

    def _resolved(self, request: ApprovalRequest, requested: TraceRef | None) -> TraceRef | None:
        decided_at = request.decided_at or datetime.now(UTC)
        wait_s = ops.seconds_between(request.requested_at, decided_at)
        self._recorder.ensure()
        self._parts.meters.answered(request, wait_s)
        attributes = ops.resolved_attributes(request, self._parts.redactor, wait_s)
        start = int(request.requested_at.timestamp() * 1e9)
        name = f"approval {ops.approval_outcome(request)} {clean_name(request.capability)}"
        parent = current_context()
        if not span_in(parent).get_span_context().is_valid:
            resumed = ops.resumed_parent(request.trace, wait_s, self._resume)
            parent = Context() if resumed is None else remote_parent(resumed)
        return self._instant(name, attributes, parent, link_to(requested), start, start + int(wait_s * 1e9))
