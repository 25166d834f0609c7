"""Sends batches through the SDK's OTLP exporter and tells, from what the collector answered, what became of each span.

Rules
- The exporter retries within its own timeout (OTEL_EXPORTER_OTLP_TIMEOUT); here an overlong answer is cut off shortly after it.
- A batch that is too large, or that cannot be encoded, is halved until the one span is found: one bad span never loses its neighbours.
- What may pass later (no connection, 408, 429, 5xx) is handed back; a redirect, a web page (Jaeger's own port answers one to everything) and every
  other refusal is a loss.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from otel_runtime.telemetry.losses import Losses
from otel_runtime.telemetry.sending import Sent, joined

if TYPE_CHECKING:
    from otel_runtime.telemetry.otlp import Collector
    from otel_runtime.telemetry.otlp_watch import Answer, Watch

__all__ = ["OtlpSender", "fate", "misdirected"]

_TOO_LARGE = 413
_PASSING = frozenset({408, 425, 429})
# With a spool there is time to mend an address or a credential.
_MENDABLE = frozenset({401, 403, 404, 405, 407})
_GRACE_S = 2.0
_REDIRECTS = range(300, 400)


def fate(spans: tuple[ReadableSpan, ...], taken: bool, answer: Answer | None, *, patient: bool) -> Sent:
    """What became of a batch that could be encoded and was not too large.

    Args:
        spans: The batch.
        taken: What the exporter said.
        answer: What the collector said last; None when it said nothing.
        patient: True when spans may wait for a person to mend the address or the credential.
    """
    count = len(spans)
    if answer is None:
        return Sent(count) if taken else Sent(again=spans)
    # A 2xx whose body broke off is an acknowledgement all the same: sending again would double the spans.
    if answer.took:
        rejected = max(0, min(count, answer.rejected))
        return Sent(count - rejected, {"export": rejected}) if rejected else Sent(count)
    passing = answer.status >= 500 or answer.status in _PASSING
    if passing or (patient and (answer.page or answer.status in _MENDABLE or answer.status in _REDIRECTS)):
        return Sent(again=spans, after_s=answer.after_s)
    return Sent(lost={"export": count})


def misdirected(answer: Answer) -> str | None:
    """What is wrong with the address, when the answer shows that no collector is there."""
    if answer.status in _REDIRECTS:
        return f"the collector redirects (HTTP {answer.status}), which no exporter follows; correct the endpoint"
    if answer.page:
        return "a web page answers there and no collector; correct the endpoint: a collector listens on port 4318, Jaeger's page on 16686"
    return None


class OtlpSender:
    """One collector.

    Args:
        make: Builds the SDK's exporter around a watch, when it is first needed and again in a forked child.
        losses: Where problems go.
        timeout_s: The exporter's own timeout, in seconds.
        collector: Given when spans are only sent while something listens there; else they are dropped as `no_endpoint`.
        patient: True when a spool keeps what cannot be sent now.
    """

    def __init__(
        self,
        make: Callable[[Watch], SpanExporter],
        losses: Losses,
        *,
        timeout_s: float = 10.0,
        collector: Collector | None = None,
        patient: bool = False,
    ) -> None:
        self._make = make
        self._losses = losses
        self._timeout_s = timeout_s
        self._collector = collector
        self._patient = patient
        self._built: tuple[int, SpanExporter, Watch] | None = None

    def prepare(self) -> None:
        """Build the exporter now.

        Raises:
            Exception: Whatever the exporter raises for a bad OTEL_EXPORTER_OTLP_* value.
        """
        self._exporter()

    def send(self, spans: Sequence[ReadableSpan]) -> Sent:
        """Send a batch."""
        batch = tuple(spans)
        if self._collector is not None and not self._collector.listens():
            return Sent(again=batch) if self._patient else Sent(lost={"no_endpoint": len(batch)})
        try:
            found = self._send(batch)
        except BaseException as error:  # noqa: BLE001 - on our own thread: whatever the exporter's parts raise is counted and the thread lives
            self._losses.problem("otlp", error)
            return Sent(lost={"export": len(batch)})
        if found.again and self._collector is not None:
            self._collector.gone()
        return found

    def settle(self, deadline: float) -> bool:
        """Nothing is kept here."""
        return True

    def shutdown(self) -> None:
        """End retries and connections."""
        if self._built is not None:
            self._built[1].shutdown()
            self._built[2].cut()

    def report(self) -> Mapping[str, object]:
        """Where it would send to, when it looks for that itself."""
        return {} if self._collector is None else self._collector.report()

    def _send(self, batch: tuple[ReadableSpan, ...]) -> Sent:
        exporter, watch = self._exporter()
        watch.begin()
        with _cut_after(self._timeout_s + _GRACE_S, watch):
            taken = self._export(exporter, batch)
        answer = watch.answer
        unsent = not taken and not watch.tried
        if unsent or (answer is not None and answer.status == _TOO_LARGE):
            return self._halved(batch, "encode" if unsent else "too_large")
        if answer is not None:
            self._complain(answer)
        return fate(batch, taken, answer, patient=self._patient)

    def _export(self, exporter: SpanExporter, batch: tuple[ReadableSpan, ...]) -> bool:
        try:
            return exporter.export(batch) is SpanExportResult.SUCCESS
        except Exception as error:  # noqa: BLE001 - older exporters raise what they cannot encode or send
            self._losses.problem("otlp", error)
            return False

    def _halved(self, batch: tuple[ReadableSpan, ...], reason: str) -> Sent:
        if len(batch) == 1:
            return Sent(lost={"encode": 1} if reason == "encode" else {"too_large": 1})
        middle = len(batch) // 2
        return joined(self._send(batch[:middle]), self._send(batch[middle:]))

    def _complain(self, answer: Answer) -> None:
        elsewhere = misdirected(answer)
        if elsewhere:
            self._losses.problem("otlp", elsewhere)
        elif answer.rejected:
            self._losses.problem("otlp", f"the collector rejected {answer.rejected} spans: {answer.message}")
        elif answer.message:
            self._losses.problem("otlp", f"the collector warns: {answer.message}", warn=False)

    def _exporter(self) -> tuple[SpanExporter, Watch]:
        from otel_runtime.telemetry.otlp_watch import Watch

        # A forked child must not share the parent's connections.
        if self._built is None or self._built[0] != os.getpid():
            watch = Watch()
            self._built = (os.getpid(), self._make(watch), watch)
        return self._built[1], self._built[2]


class _cut_after:  # noqa: N801 - reads as the function it stands for
    """Cuts the connections of a watch when the block takes longer."""

    def __init__(self, seconds: float, watch: Watch) -> None:
        self._timer = threading.Timer(seconds, watch.cut)
        self._timer.daemon = True

    def __enter__(self) -> None:
        try:
            self._timer.start()
        except RuntimeError:
            # No new threads at interpreter shutdown: the flush around this export has a bound of its own.
            return

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()
