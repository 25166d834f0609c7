"""Where telemetry leaves: our own pipes and meter provider, or the application's providers. Flush and shutdown keep their time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, Protocol

from otel_runtime.telemetry.pipe import Pipe
from otel_runtime.telemetry.standby import STANDBY
from otel_runtime.telemetry.worker import remaining, run_bounded

__all__ = ["Foreign", "Outlets"]


class Foreign(Protocol):
    """What is used of an SDK provider besides its tracers and meters."""

    def force_flush(self, timeout_millis: int = ...) -> bool:
        """Send what is buffered."""
        ...


class Outlets:
    """Everything that exports, flushed side by side.

    Args:
        provider: `own`, `given` or `global`: whose tracer provider it is.
        pipes: Our pipes.
        flushes: `force_flush` of providers; each takes milliseconds.
        shutdowns: What to stop at the end: our own meter provider, never one of the application's.
        exports: Whether anything leaves at all: then a thread is kept for what is sent while the interpreter ends.
    """

    def __init__(
        self,
        provider: Literal["own", "given", "global"],
        pipes: Sequence[Pipe] = (),
        flushes: Sequence[Callable[[int], object]] = (),
        shutdowns: Sequence[Callable[[int], object]] = (),
        *,
        exports: bool = False,
    ) -> None:
        self._provider = provider
        self._pipes = tuple(pipes)
        self._flushes = tuple(flushes)
        self._shutdowns = tuple(shutdowns)
        self._waking: threading.Thread | None = None
        self._exports = exports
        if exports:
            STANDBY.hold()

    def wake(self) -> None:
        """Export soon, without waiting."""
        for pipe in self._pipes:
            pipe.wake()
        if self._provider != "own" and (self._waking is None or not self._waking.is_alive()):
            # A foreign batch processor can only be flushed, which blocks: one thread at a time does it.
            waking = threading.Thread(target=self._flush_foreign_quietly, name="otel-runtime-wake", daemon=True)
            try:
                waking.start()
            except RuntimeError:
                # No new threads at interpreter shutdown: the final flush sends it.
                return
            self._waking = waking

    def flush(self, deadline: float) -> bool:
        """Send what is buffered; False when it did not all leave by the deadline (`time.monotonic()`)."""
        asked = [(pipe, pipe.ask()) for pipe in self._pipes]
        foreign = self._flush_foreign_by(deadline)
        left = [pipe.finish(order, deadline) for pipe, order in asked]
        return foreign and all(left)

    def shutdown(self, deadline: float) -> bool:
        """Send what is buffered and stop what is ours; to be called once."""
        for pipe in self._pipes:
            pipe.refuse()
        asked = [(pipe, pipe.ask()) for pipe in self._pipes]
        stopped = self._stop_by(deadline) if self._shutdowns else self._flush_foreign_by(deadline)
        left = [pipe.finish(order, deadline) for pipe, order in asked] + [pipe.close(deadline) for pipe in self._pipes]
        if self._exports:
            STANDBY.release()
        return stopped and all(left)

    def report(self) -> Mapping[str, object]:
        """What `doctor` shows."""
        return {"provider": self._provider, "exporters": [_exporter_text(pipe.report()) for pipe in self._pipes]}

    def _flush_foreign_by(self, deadline: float) -> bool:
        if not self._flushes:
            return True
        left = remaining(deadline)
        return run_bounded(lambda: self._flush_foreign(int(left * 1000)), left)

    def _flush_foreign_quietly(self) -> None:
        try:
            self._flush_foreign(2000)
        except Exception:  # noqa: BLE001 - the application's own exporter failed, and its provider has said so; the next flush tries again
            return

    def _flush_foreign(self, timeout_ms: int) -> None:
        _call_each(self._flushes, timeout_ms)

    def _stop_by(self, deadline: float) -> bool:
        left = remaining(deadline)
        return run_bounded(lambda: _call_each((*self._flushes, *self._shutdowns), int(left * 1000)), left)


def _call_each(calls: Sequence[Callable[[int], object]], timeout_ms: int) -> None:
    """Call all of them, also after one that raised: what the others hold is sent all the same."""
    failed: list[Exception] = []
    for call in calls:
        try:
            call(timeout_ms)
        except Exception as error:  # noqa: BLE001 - a provider of the application's may raise anything
            failed.append(error)
    if failed:
        raise ExceptionGroup("not everything was flushed or stopped", failed)


def _exporter_text(found: Mapping[str, object]) -> str:
    """One exporter as `doctor` prints it."""
    parts = [str(found["name"])]
    if "path" in found:
        parts.append(f"to {found['path']}")
    if "endpoint" in found:
        parts.append(f"to {found['endpoint']} ({'listening' if found.get('listening') else 'nobody listens'})")
    parts.append(f"{found['sent']} sent, {found['queued']} waiting")
    if "spool" in found:
        parts.append(f"{found['kept']} batches in {found['spool']}")
    if found.get("damaged"):
        parts.append(f"{found['damaged']} damaged batches set aside")
    return "; ".join(parts)
