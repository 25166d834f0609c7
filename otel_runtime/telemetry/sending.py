"""What became of a batch: sent, lost by reason, or to be tried again. The seam between a pipe and whatever sends for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from otel_runtime.telemetry.losses import Losses, LossReason

__all__ = ["PlainSender", "Sender", "Sent", "joined"]


@dataclass(frozen=True, slots=True)
class Sent:
    """The fate of a batch.

    Args:
        delivered: Spans that were taken.
        lost: Spans that will never arrive, by reason.
        again: Spans that may arrive when they are tried again.
        after_s: Seconds the receiver asked to be left alone.
    """

    delivered: int = 0
    lost: Mapping[LossReason, int] = field(default_factory=dict)
    again: tuple[ReadableSpan, ...] = ()
    after_s: float = 0.0


def joined(first: Sent, second: Sent) -> Sent:
    """The fate of two halves."""
    lost = dict(first.lost)
    for reason, count in second.lost.items():
        lost[reason] = lost.get(reason, 0) + count
    return Sent(first.delivered + second.delivered, lost, first.again + second.again, max(first.after_s, second.after_s))


@runtime_checkable
class Sender(Protocol):
    """Sends batches, on the pipe's own thread only."""

    def send(self, spans: Sequence[ReadableSpan]) -> Sent:
        """Send a batch; blocks, never raises."""
        ...

    def settle(self, deadline: float) -> bool:
        """Wait until what was taken has arrived; False when it did not by the deadline (`time.monotonic()`)."""
        ...

    def shutdown(self) -> None:
        """Give up retries and connections."""
        ...

    def report(self) -> Mapping[str, object]:
        """What `doctor` shows."""
        ...


class PlainSender:
    """Any exporter: what it fails to export is lost.

    Args:
        name: What problems are reported under.
        exporter: Where batches go.
        losses: Where problems go.
    """

    def __init__(self, name: str, exporter: SpanExporter, losses: Losses) -> None:
        self._name = name
        self._exporter = exporter
        self._losses = losses

    def send(self, spans: Sequence[ReadableSpan]) -> Sent:
        """Export, and count what the exporter says."""
        try:
            taken = self._exporter.export(spans) is SpanExportResult.SUCCESS
        except BaseException as error:  # noqa: BLE001 - on our own thread: whatever an exporter raises, the spans are counted and the thread lives
            self._losses.problem(self._name, error)
            taken = False
        return Sent(len(spans)) if taken else Sent(lost={"export": len(spans)})

    def settle(self, deadline: float) -> bool:
        """Nothing is kept here."""
        return True

    def shutdown(self) -> None:
        """Stop the exporter."""
        self._exporter.shutdown()

    def report(self) -> Mapping[str, object]:
        """What the exporter says of itself."""
        own = getattr(self._exporter, "report", None)
        return own() if callable(own) else {}
