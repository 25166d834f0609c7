"""A sender with a spool before it: the pipe's thread only writes to the disk, a second thread sends what the disk holds.

So a span is safe from kill -9 one export delay after its end, also while a dead collector keeps the sending thread waiting.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from opentelemetry.sdk.trace import ReadableSpan

from otel_runtime.telemetry.losses import Losses
from otel_runtime.telemetry.quiet import quietly
from otel_runtime.telemetry.sending import Sender, Sent
from otel_runtime.telemetry.spool import Segment, Spool
from otel_runtime.telemetry.spool_format import Damaged
from otel_runtime.telemetry.worker import Worker, remaining

__all__ = ["SpooledSender"]

_PERIOD_S: Final = 1.0
_MOST_PATIENCE_S: Final = 30.0


class SpooledSender:
    """Keeps on disk, and sends from there.

    Args:
        spool: Where segments are kept.
        sender: The collector, used on the sending thread.
        direct: The same collector, used on the pipe's thread for batches that the disk did not take.
        losses: Where problems and damaged segments go.
    """

    def __init__(self, spool: Spool, sender: Sender, direct: Sender, losses: Losses) -> None:
        self._spool = spool
        self._sender = sender
        self._direct = direct
        self._losses = losses
        self._failures = 0
        self._rest_until = 0.0
        self._asked_to_wait = False
        self._hurry = False
        self._stopped = False
        self._courier = Worker("otel-runtime-spool", _PERIOD_S, self._step, self._forked)

    def send(self, spans: Sequence[ReadableSpan]) -> Sent:
        """Keep a batch; when the disk does not take it, send it straight away."""
        self._courier.ensure()
        try:
            kept = self._spool.keep(spans)
            if not kept:
                self._losses.problem("spool", f"{self._spool.directory} is full; spans go straight to the collector", warn=False)
        except OSError as error:
            self._losses.problem("spool", f"{self._spool.directory}: {error.strerror}")
            kept = False
        if kept:
            self._courier.wake()
            return Sent(len(spans))
        return self._direct.send(spans)

    def settle(self, deadline: float) -> bool:
        """Try what waits now; False when some of it is still on disk at the deadline: kept, not lost."""
        self._hurry = True
        # Also without a span of this process: what an earlier one left behind is sent.
        self._courier.ensure()
        in_time = self._courier.drain(remaining(deadline))
        return in_time and not self._waiting()

    def shutdown(self) -> None:
        """Stop sending; what is on disk stays there for the next process."""
        self._stopped = True
        self._courier.stop()
        self._sender.shutdown()
        self._direct.shutdown()

    def report(self) -> Mapping[str, object]:
        """What waits on disk."""
        found = {"spool": str(self._spool.directory), "kept": len(self._waiting()), "damaged": self._damaged()}
        return {**self._sender.report(), **found}

    def _step(self) -> None:
        with quietly(self._losses):
            hurry, self._hurry = self._hurry, False
            for path in self._waiting():
                if self._stopped or self._resting(hurry=hurry):
                    break
                hurry = False
                self._deliver(path)
        self._losses.speak()

    def _deliver(self, path: Path) -> None:
        spans: list[ReadableSpan] | None = None
        try:
            with self._spool.claimed(path) as segment:
                if segment is not None and (spans := self._read(segment)) is not None:
                    self._send_and_delete(segment, spans)
        except OSError as error:
            self._losses.problem("spool", f"{path}: {error.strerror}")
            # One that cannot be read does not hold up the others; one that cannot be deleted is not sent again at once.
            if spans is not None:
                self._rest(0.0)

    def _read(self, segment: Segment) -> list[ReadableSpan] | None:
        """What a segment holds; None when it is damaged and was set aside."""
        try:
            return segment.spans()
        except Damaged as damage:
            segment.set_aside()
            self._losses.add("encode", damage.spans)
            self._losses.problem("spool", f"{segment.path} is damaged and was set aside")
            return None

    def _send_and_delete(self, segment: Segment, spans: list[ReadableSpan]) -> None:
        found = self._sender.send(spans)
        if len(found.again) == len(spans):
            self._rest(found.after_s)
            return
        self._failures, self._rest_until = 0, 0.0
        for reason, count in found.lost.items():
            self._losses.add(reason, count)
        # Of a batch that was halved, a part may have to wait: it becomes a segment of its own before the old one goes.
        if found.again and not self._spool.keep(found.again):
            self._losses.add("export", len(found.again))
        segment.done()

    def _resting(self, *, hurry: bool) -> bool:
        return time.monotonic() < self._rest_until and (self._asked_to_wait or not hurry)

    def _rest(self, asked_s: float) -> None:
        self._failures += 1
        self._asked_to_wait = asked_s > 0
        own_s = min(_MOST_PATIENCE_S, _PERIOD_S * 2 ** min(self._failures, 10))
        self._rest_until = time.monotonic() + (min(asked_s, 300.0) if asked_s > 0 else own_s)

    def _waiting(self) -> list[Path]:
        try:
            return self._spool.waiting()
        except OSError as error:
            self._losses.problem("spool", f"{self._spool.directory}: {error.strerror}")
            return []

    def _damaged(self) -> int:
        try:
            return self._spool.damaged()
        except OSError:
            # The directory is gone, which `waiting` has said.
            return 0

    def _forked(self) -> None:
        self._spool.forked()
        self._failures, self._rest_until = 0, 0.0
