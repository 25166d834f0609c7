"""A span processor with a bounded queue in front of one exporter; every span that does not arrive is counted with a reason.

Unlike the SDK's batch processor it can be woken without blocking, its flush and shutdown keep their time, and a slow exporter (a dead
collector) never holds up another (the file, the tree): each has its own pipe.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from threading import Event

from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from otel_runtime.telemetry.losses import Losses
from otel_runtime.telemetry.quiet import quietly
from otel_runtime.telemetry.worker import Worker, remaining, run_bounded

__all__ = ["Limits", "Pipe", "limits_from"]


@dataclass(frozen=True, slots=True)
class Limits:
    """Sizes of a pipe, in the meaning of the OTEL_BSP_* variables.

    Args:
        queue: Most spans that wait.
        batch: Most spans of one export.
        delay_s: Seconds between two exports.
    """

    queue: int = 8192
    batch: int = 512
    delay_s: float = 1.0


def limits_from(environ: Mapping[str, str], losses: Losses) -> Limits:
    """Limits as OTEL_BSP_* ask for; a bad value keeps the default and is reported."""
    found = Limits()
    queue = _positive(environ, "OTEL_BSP_MAX_QUEUE_SIZE", found.queue, losses)
    batch = _positive(environ, "OTEL_BSP_MAX_EXPORT_BATCH_SIZE", found.batch, losses)
    delay = _positive(environ, "OTEL_BSP_SCHEDULE_DELAY", int(found.delay_s * 1000), losses)
    return Limits(queue, min(batch, queue), delay / 1000)


def _positive(environ: Mapping[str, str], name: str, default: int, losses: Losses) -> int:
    given = environ.get(name, "").strip()
    if not given:
        return default
    if given.isascii() and given.isdigit() and 0 < int(given[:12]) < 10**9:
        return int(given)
    losses.problem(name, f"`{given[:64]}` is no positive whole number; using {default}", warn=False)
    return default


class Pipe(SpanProcessor):
    """Queue, worker and exporter.

    Args:
        name: What `doctor` calls it.
        exporter: Where batches go.
        losses: Where lost spans are counted.
        limits: Sizes.
        describe: More for `doctor` than the exporter says of itself; None for nothing.
    """

    def __init__(
        self, name: str, exporter: SpanExporter, losses: Losses, limits: Limits, describe: Callable[[], Mapping[str, object]] | None = None
    ) -> None:
        self.name = name
        self._exporter = exporter
        self._describe = describe or getattr(exporter, "report", None)
        self._losses = losses
        self._limits = limits
        self._queue: deque[ReadableSpan] = deque()
        self._worker = Worker(f"otel-runtime-{name}", limits.delay_s, self._step, self._forked)
        self._sending = 0
        self._sent = 0
        self._closed = False
        self._abandoned = False

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Make sure that the worker runs: the end of a span may come from a finaliser, where no thread should be started."""
        if not self._worker.running:
            self._worker.ensure()

    def on_end(self, span: ReadableSpan) -> None:
        """Queue a finished span. Never blocks."""
        if span.context is None or not span.context.trace_flags.sampled:
            return
        if self._closed:
            self._losses.add("shutdown")
        elif len(self._queue) >= self._limits.queue:
            self._losses.add("queue_full")
        else:
            self._queue.append(span)
            if len(self._queue) == self._limits.batch:
                self._worker.wake()

    def wake(self) -> None:
        """Export soon."""
        self._worker.wake()

    def ask(self) -> tuple[Event, int]:
        """Order an export now; wait for it with `finish`."""
        return self._worker.ask(), self._losses.serious

    def finish(self, asked: tuple[Event, int], deadline: float) -> bool:
        """True when everything left in time and nothing was lost meanwhile."""
        done, before = asked
        in_time = self._worker.finish(done, remaining(deadline))
        return in_time and not self._queue and self._losses.serious == before

    def close(self, deadline: float) -> bool:
        """Take no more spans, let go of what did not leave in time, and stop."""
        left = self._worker.finish(self._worker.ask(), remaining(deadline)) and not self._queue
        self._abandoned = True
        behind = len(self._queue) + self._sending
        self._queue.clear()
        if behind:
            self._losses.add("shutdown", behind)
        self._worker.stop()
        # Even with no time left the exporter is told: it stops its retries and closes its connections on its own thread.
        run_bounded(self._exporter.shutdown, max(0.05, remaining(deadline)))
        return left

    def refuse(self) -> None:
        """From now on spans are counted as lost to the shutdown."""
        self._closed = True

    def shutdown(self) -> None:
        """The SDK's own shutdown of a provider; bounded as well."""
        if not self._closed:
            self.refuse()
            self.close(time.monotonic() + 2.0)

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """The SDK's own flush of a provider."""
        return self.finish(self.ask(), time.monotonic() + timeout_millis / 1000)

    def report(self) -> Mapping[str, object]:
        """What `doctor` shows."""
        found: dict[str, object] = {"name": self.name, "sent": self._sent, "queued": len(self._queue)}
        if self._describe is not None:
            found.update(self._describe())
        return found

    def _step(self) -> None:
        with quietly(self._losses):
            while self._queue:
                self._export(self._batch())
        self._losses.speak()

    def _batch(self) -> list[ReadableSpan]:
        batch: list[ReadableSpan] = []
        while self._queue and len(batch) < self._limits.batch:
            try:
                batch.append(self._queue.popleft())
            except IndexError:
                # `close` cleared the queue between the two looks.
                break
        return batch

    def _export(self, batch: list[ReadableSpan]) -> None:
        self._sending = len(batch)
        try:
            failed = self._exporter.export(batch) is not SpanExportResult.SUCCESS
        except Exception as error:  # noqa: BLE001 - exporters raise what they like; the spans are counted
            self._losses.problem(self.name, error)
            failed = True
        if failed and not self._abandoned:
            self._losses.add("export", len(batch))
        elif not failed:
            self._sent += len(batch)
        self._sending = 0

    def _forked(self) -> None:
        # The parent exports these itself.
        self._queue.clear()
        self._sending = 0
