"""Telemetry that does nothing: for a disabled or broken SDK. A missing tracer is an object, not an `if`. No OpenTelemetry import."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Literal

from otel_runtime.policy.protocol import Use
from otel_runtime.telemetry.protocol import NOTHING, AttributeValue, OpenSpan, Outcome, SpanStart
from otel_runtime.values.action import Action, Kind
from otel_runtime.values.approval import ApprovalRequest
from otel_runtime.values.decision import Decision
from otel_runtime.values.trace import TraceEvent, TraceRef
from otel_runtime.values.usage import TokenUsage, UsageRecord

__all__ = ["NOOP_SPAN", "NoopSpan", "NoopTracing"]


class NoopSpan:
    """A span nobody sees."""

    __slots__ = ()

    def enter(self) -> object:
        """Nothing becomes current."""
        return None

    def leave(self, token: object) -> None:
        """Nothing was current."""

    def ref(self) -> TraceRef | None:
        """It has no place."""
        return None

    def event(self, name: str, attributes: Mapping[str, AttributeValue]) -> None:
        """Dropped."""

    def attribute(self, name: str, value: AttributeValue) -> None:
        """Dropped."""

    def stop(self) -> None:
        """Dropped."""

    def first_chunk(self) -> None:
        """Dropped."""

    def usage(self, record: UsageRecord) -> None:
        """Dropped."""

    def totals(self, usage: TokenUsage, finish_reasons: tuple[str, ...] = ()) -> None:
        """Dropped."""

    def end(self, outcome: Outcome, error: BaseException | None = None, result: object = NOTHING) -> None:
        """Dropped."""


NOOP_SPAN: OpenSpan = NoopSpan()


class NoopTracing:
    """Tracing that records nothing and says why.

    Args:
        reason: Why, for `doctor`; `disabled` or a problem.
        problem: True when something is broken, False when it was switched off on purpose.
    """

    def __init__(self, reason: str = "telemetry is off", *, problem: bool = False) -> None:
        self._reason = reason
        self._problem = problem

    @property
    def captures(self) -> bool:
        """No content goes anywhere."""
        return False

    def open(self, start: SpanStart) -> OpenSpan:
        """A span nobody sees."""
        return NOOP_SPAN

    def unrecorded(self, kind: Kind, name: str) -> OpenSpan | None:
        """A span nobody sees."""
        return NOOP_SPAN

    def current(self) -> TraceRef | None:
        """Nowhere."""
        return None

    def decided(
        self, action: Action, decision: Decision, duration_s: float = 0.0, *, content: bool = False, asked_at: datetime | None = None
    ) -> None:
        """Dropped."""

    def approval_requested(self, request: ApprovalRequest) -> TraceRef | None:
        """Dropped."""
        return None

    def approval_resolved(self, request: ApprovalRequest, requested: TraceRef | None) -> TraceRef | None:
        """Dropped."""
        return None

    def questions_wait(self, waits: Callable[[str], bool]) -> None:
        """Nothing is counted."""

    def observe(self, event: TraceEvent) -> None:
        """Dropped."""

    def budgets_used(self, uses: Sequence[Use], *, held: bool, spent_usd: Decimal | None = None) -> None:
        """Dropped."""

    def policy_reloaded(self, outcome: Literal["loaded", "rejected"]) -> None:
        """Dropped."""

    def hook_failed(self, hook: str) -> None:
        """Dropped."""

    def flush(self, timeout_s: float) -> bool:
        """Nothing is buffered."""
        return True

    def shutdown(self, timeout_s: float) -> bool:
        """Nothing runs."""
        return True

    def report(self) -> Mapping[str, object]:
        """Why nothing is recorded."""
        problems = {"telemetry": self._reason} if self._problem else {}
        return {"provider": "none", "reason": self._reason, "exporters": [], "metrics": "off", "lost": {}, "problems": problems}
