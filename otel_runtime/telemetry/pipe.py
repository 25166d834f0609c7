"""A span processor with a bounded queue in front of one sender; every span that does not arrive is counted with a reason.

Unlike the SDK's batch processor it can be woken without blocking, its flush and shutdown keep their time, and a slow exporter (a dead
collector) never holds up another (the file, the tree): each has its own pipe. A batch that may arrive later goes back to the front of the
queue, so an outage costs nothing until the queue is full.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from threading import Event, Lock

from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor
from opentelemetry.sdk.trace.export import SpanExporter

from otel_runtime.telemetry.losses import Losses
from otel_runtime.telemetry.quiet import quietly
from otel_runtime.telemetry.sending import PlainSender, Sender
from otel_runtime.telemetry.span_queue import SpanQueue
from otel_runtime.telemetry.worker import Worker, remaining, run_bounded

__all__ = ["Limits", "Pipe", "limits_from"]

_MOST_PATIENCE_S = 30.0


@dataclass(frozen=True, slots=True)
class Limits:
    """Sizes of a pipe; the first three in the meaning of the OTEL_BSP_* variables.

    Args:
        queue: Most spans that wait.
        batch: Most spans of one export.
        delay_s: Seconds between two exports.
        queue_bytes: Most estimated bytes that wait.
        batch_bytes: Most estimated bytes of one export; collectors refuse requests above 4 MiB (gRPC) or 20 MiB (HTTP).
        span_bytes: Most estimated bytes of one span.
    """

    queue: int = 8192
    batch: int = 512
    delay_s: float = 1.0
    queue_bytes: int = 32 << 20
    batch_bytes: int = 2 << 20
    span_bytes: int = 3 << 20


def limits_from(environ: Mapping[str, str], losses: Losses, queue: int | None = None, queue_bytes: int | None = None) -> Limits:
    """Limits as our settings and OTEL_BSP_* ask for; a bad value of the latter keeps the default and is reported.

    Args:
        environ: The variables.
        losses: Where bad values are reported.
        queue: Our own setting, which wins over the variable; None when it is not set.
        queue_bytes: The same for bytes.
    """
    found = Limits()
    most = queue or _positive(environ, "OTEL_BSP_MAX_QUEUE_SIZE", found.queue, losses)
    batch = _positive(environ, "OTEL_BSP_MAX_EXPORT_BATCH_SIZE", found.batch, losses)
    delay = _positive(environ, "OTEL_BSP_SCHEDULE_DELAY", int(found.delay_s * 1000), losses)
    return Limits(most, min(batch, most), delay / 1000, queue_bytes or found.queue_bytes)


def _positive(environ: Mapping[str, str], name: str, default: int, losses: Losses) -> int:
    given = environ.get(name, "").strip()
    if not given:
        return default
    if given.isascii() and given.isdigit() and 0 < int(given[:12]) < 10**9:
        return int(given)
    losses.problem(name, f"`{given[:64]}` is no positive whole number; using {default}", warn=False)
    return default


class Pipe(SpanProcessor):
    """Queue, worker and sender.

    Args:
        name: What `doctor` calls it.
        target: Where batches go.
        losses: Where lost spans are counted.
        limits: Sizes.
        describe: More for `doctor` than the target says of itself; None for nothing.
    """

    def __init__(
        self,
        name: str,
        target: SpanExporter | Sender,
        losses: Losses,
        limits: Limits,
        describe: Callable[[], Mapping[str, object]] | None = None,
    ) -> None:
        self.name = name
        self._sender = target if isinstance(target, Sender) else PlainSender(name, target, losses)
        self._describe = describe
        self._losses = losses
        self._limits = limits
        self._queue = SpanQueue(limits.queue, limits.queue_bytes, limits.span_bytes)
        self._worker = Worker(f"otel-runtime-{name}", limits.delay_s, self._step, self._forked)
        # Between what is in hand and what waits: a batch is counted in one of them and never in both. Held for a moment, by no finaliser.
        self._handing = Lock()
        self._sending = 0
        self._sent = 0
        self._closed = False
        self._abandoned = False
        self._failures = 0
        self._rest_until = 0.0
        # Set by whoever flushes: our own back-off ends, what the receiver asked for does not.
        self._hurry = False
        self._asked_to_wait = False

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
        elif (reason := self._queue.put(span)) is not None:
            self._losses.add(reason)
        elif len(self._queue) == self._limits.batch:
            self._worker.wake()

    def wake(self) -> None:
        """Export soon."""
        self._worker.wake()

    def ask(self) -> tuple[Event, int]:
        """Order an export now; wait for it with `finish`."""
        self._hurry = True
        return self._worker.ask(), self._losses.serious

    def finish(self, asked: tuple[Event, int], deadline: float) -> bool:
        """True when everything left in time and nothing was lost meanwhile."""
        done, before = asked
        in_time = self._worker.finish(done, remaining(deadline))
        return in_time and not self._queue and self._sender.settle(deadline) and self._losses.serious == before

    def close(self, deadline: float) -> bool:
        """Take no more spans, let go of what did not leave in time, and stop."""
        self._hurry = True
        left = self._worker.finish(self._worker.ask(), remaining(deadline)) and not self._queue and self._sender.settle(deadline)
        with self._handing:
            self._abandoned = True
            behind = self._queue.clear() + self._sending
        if behind:
            self._losses.add("shutdown", behind)
        self._worker.stop()
        # Even with no time left the sender is told: it stops its retries and closes its connections on its own thread.
        run_bounded(self._sender.shutdown, max(0.05, remaining(deadline)))
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
        found: dict[str, object] = {"name": self.name, "sent": self._sent, "queued": len(self._queue), **self._sender.report()}
        if self._describe is not None:
            found.update(self._describe())
        return found

    def _step(self) -> None:
        with quietly(self._losses):
            hurry, self._hurry = self._hurry, False
            while self._queue and not self._resting(hurry=hurry):
                self._export(self._queue.take(self._limits.batch, self._limits.batch_bytes))
                # One hurried try is enough: the next batch would meet the same outage.
                hurry = False
        self._losses.speak()

    def _resting(self, *, hurry: bool) -> bool:
        return time.monotonic() < self._rest_until and (self._asked_to_wait or not hurry)

    def _export(self, batch: list[ReadableSpan]) -> None:
        self._sending = len(batch)
        found = self._sender.send(batch)
        self._sent += found.delivered
        with self._handing:
            self._sending = 0
            abandoned = self._abandoned
            if not abandoned:
                self._queue.put_back(found.again)
        if not abandoned:
            for reason, count in found.lost.items():
                self._losses.add(reason, count)
            self._rest(bool(found.again), found.after_s)

    def _rest(self, failed: bool, asked_s: float) -> None:
        self._failures = self._failures + 1 if failed else 0
        self._asked_to_wait = failed and asked_s > 0
        own_s = min(_MOST_PATIENCE_S, self._limits.delay_s * 2 ** min(self._failures, 10))
        self._rest_until = time.monotonic() + (min(asked_s, 300.0) if self._asked_to_wait else own_s) if failed else 0.0

    def _forked(self) -> None:
        # The parent exports these itself, and one of its threads may have held the lock.
        self._handing = Lock()
        self._queue.clear()
        self._sending = 0
