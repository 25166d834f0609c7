"""What the rooms above ask of telemetry. No OpenTelemetry import: a broken SDK cannot keep a policy from loading.

Everything here fails open: no method raises, whatever the SDK, a processor or an exporter does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from types import MappingProxyType
from typing import Literal, NamedTuple, Protocol

from otel_runtime.policy.protocol import Use
from otel_runtime.values.action import Action, Kind
from otel_runtime.values.approval import ApprovalRequest
from otel_runtime.values.decision import Decision
from otel_runtime.values.trace import TraceEvent, TraceRef
from otel_runtime.values.usage import TokenUsage, UsageRecord

__all__ = ["NOTHING", "AttributeValue", "OpenSpan", "Outcome", "SpanStart", "Tracing"]

AttributeValue = str | bool | int | float
Outcome = Literal["ok", "error", "cancelled", "closed", "interrupted"]
NOTHING: object = object()
_EMPTY: Mapping[str, AttributeValue] = MappingProxyType({})


class SpanStart(NamedTuple):
    """Everything known when an operation starts. One is made per call, so it is the kind of value that is cheapest to make.

    Args:
        kind: Which operation; `capability` opens none.
        name: Tool, agent or workflow name; for a model its requested model, or the function's name when none is known.
        agent: Name of the innermost agent around it; None outside of one.
        session: Session id; None when there is none, and never invented.
        run: Run id.
        call_id: The provider's tool-call id.
        model: Requested model, for `model` and for agents with one model.
        provider: Provider name in the conventions' spelling.
        decision: The allow that let it run; None when no policy was asked.
        approval_id: The request that was approved for it.
        links: Spans that led here, such as `approval approved X`.
        parent: Parent to use instead of the current span (a resumed run); None for the current one.
        arguments: Bound arguments, or what binds them: called, and read, only when content capture is on and the span is recorded.
        attributes: Attributes of the application's own.
        unguarded: True when no policy is configured, said once per root span.
    """

    kind: Kind
    name: str
    agent: str | None = None
    session: str | None = None
    run: str | None = None
    call_id: str | None = None
    model: str | None = None
    provider: str | None = None
    decision: Decision | None = None
    approval_id: str | None = None
    links: tuple[TraceRef, ...] = ()
    parent: TraceRef | None = None
    arguments: Mapping[str, object] | Callable[[], Mapping[str, object] | None] | None = None
    attributes: Mapping[str, AttributeValue] = _EMPTY
    unguarded: bool = False


class OpenSpan(Protocol):
    """A running operation. Attached only while its own code runs."""

    def enter(self) -> object:
        """Make it current; returns the token for `leave`."""
        ...

    def leave(self, token: object) -> None:
        """Make current what was current before; quiet when another context finishes it."""
        ...

    def ref(self) -> TraceRef | None:
        """Its place in the trace (`parent_id` is its own span id, as a parent for others); None when not recorded."""
        ...

    def event(self, name: str, attributes: Mapping[str, AttributeValue]) -> None:
        """Add a span event now."""
        ...

    def attribute(self, name: str, value: AttributeValue) -> None:
        """Set one attribute."""
        ...

    def first_chunk(self) -> None:
        """The first item of a stream has arrived; later calls do nothing."""
        ...

    def stop(self) -> None:
        """The body is done: reading what its result says, and loading the table of prices for it, is not its time."""
        ...

    def usage(self, record: UsageRecord) -> None:
        """What a model call used: attributes on this span and the token and cost metrics."""
        ...

    def totals(self, usage: TokenUsage, finish_reasons: tuple[str, ...] = ()) -> None:
        """Sums of an agent's or workflow's model calls: attributes only, never metrics."""
        ...

    def end(self, outcome: Outcome, error: BaseException | None = None, result: object = NOTHING) -> None:
        """End it once; later calls do nothing. `error` is recorded with its type; `result` is read only when capture is on."""
        ...


class Tracing(Protocol):
    """Turns what happens into spans and metrics."""

    @property
    def captures(self) -> bool:
        """True when content is captured: only then are arguments handed over."""
        ...

    def open(self, start: SpanStart) -> OpenSpan:
        """Start a span; the caller enters and ends it."""
        ...

    def unrecorded(self, kind: Kind, name: str) -> OpenSpan | None:
        """The span of an operation without parent or links of its own that is sure not to be recorded; None when only `open` can tell.

        Args:
            kind: Which operation.
            name: Its name.
        """
        ...

    def current(self) -> TraceRef | None:
        """Where the running code stands in a trace; None outside of one."""
        ...

    def decided(
        self, action: Action, decision: Decision, duration_s: float = 0.0, *, content: bool = False, asked_at: datetime | None = None
    ) -> None:
        """Count a decision; a non-allow one also becomes a span `policy {decision} {tool}`.

        Args:
            action: What was decided.
            decision: The decision.
            duration_s: Seconds it took, waiting for facts included.
            content: True when arguments may be captured: the decorator does not keep them out.
            asked_at: When a person was asked because of it, which is known before this is told; None where nobody was.
        """
        ...

    def budgets_used(self, uses: Sequence[Use], *, held: bool, spent_usd: Decimal | None = None) -> None:
        """Measure how far limits are used.

        Args:
            uses: What the ruling said.
            held: True when the call holds its amount; False when it was refused or waits.
            spent_usd: Money that the call really cost, once it has ended; it stands in the place of what was held.
        """
        ...

    def policy_reloaded(self, outcome: Literal["loaded", "rejected"]) -> None:
        """Count a policy that was read again while the program ran; a rejected one left the last good set in force."""
        ...

    def approval_requested(self, request: ApprovalRequest) -> TraceRef | None:
        """Span `approval requested {tool}`, ended and exported at once; returns its place, to be stored with the request."""
        ...

    def approval_resolved(self, request: ApprovalRequest, requested: TraceRef | None) -> TraceRef | None:
        """Span `approval {outcome} {tool}` from request to answer, linked to the requested span; returns its place."""
        ...

    def questions_wait(self, waits: Callable[[str], bool]) -> None:
        """Say how to find out whether a question still waits: the metric of open questions asks before it is read.

        Args:
            waits: True while nobody has answered the request of that id; may raise.
        """
        ...

    def observe(self, event: TraceEvent) -> None:
        """Project a foreign event onto spans."""
        ...

    def flush(self, timeout_s: float) -> bool:
        """Send what is buffered; False when it did not all leave in time."""
        ...

    def shutdown(self, timeout_s: float) -> bool:
        """Flush and stop; False when something was lost. Later calls of any method do nothing."""
        ...

    def report(self) -> Mapping[str, object]:
        """What `doctor` shows: exporters, endpoints, losses by reason, problems."""
        ...
