"""What was lost and what went wrong, counted by reason; safe from any thread and from the garbage collector."""

from __future__ import annotations

import logging
import os
import threading
import time
import weakref
from collections.abc import Mapping
from typing import Literal

from otel_runtime.telemetry.loss_file import LossFile
from otel_runtime.telemetry.sanitize import text

__all__ = ["LOGGER", "LossReason", "Losses", "describe"]

LossReason = Literal["queue_full", "encode", "export", "shutdown", "too_large", "no_endpoint", "metrics_full"]
LOGGER = logging.getLogger("otel_runtime.telemetry")
_EVERY_S = 60.0
_NO_FAULTS = frozenset({"no_endpoint"})


class Losses:
    """Counts per reason, the problems behind them, at most one warning a minute, and a last one where more was lost than was said.

    Callers only count; the warning is written by a worker (`speak`), so that no log handler runs inside a user's call.

    Args:
        file: Where the counts are left for `doctor`; None for nowhere.
    """

    def __init__(self, file: LossFile | None = None) -> None:
        self._file = file
        # Re-entrant: a finaliser may count while this very thread is counting.
        self._lock = threading.RLock()
        self._counts: dict[LossReason, int] = {}
        self._problems: dict[str, str] = {}
        self._unsaid: str | None = None
        self._newest = "spans were lost"
        self._said_at = -_EVERY_S
        self._said_lost = 0
        reference = weakref.WeakMethod(self._forked)
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=lambda: (method := reference()) is not None and method())

    def add(self, reason: LossReason, count: int = 1) -> None:
        """Count lost spans (or measurements)."""
        with self._lock:
            self._counts[reason] = self._counts.get(reason, 0) + count

    def problem(self, where: str, what: object, *, warn: bool = True) -> None:
        """Remember the newest problem of one place.

        Args:
            where: Short name of the place, such as `otlp` or `processor`.
            what: An exception or a sentence.
            warn: False for what only `doctor` should show.
        """
        said = f"{type(what).__name__}: {describe(what)}" if isinstance(what, BaseException) else text(what)
        with self._lock:
            self._problems[where] = said
            if warn:
                self._unsaid = self._newest = f"{where}: {said}"

    def speak(self, *, last: bool = False) -> None:
        """Write the newest problem to the log, at most once a minute, and the counts to the file.

        Args:
            last: Nothing is lost any more: what was said so far must not be less than what was lost in the end.
        """
        if self._file is not None:
            self._file.save({reason: count for reason, count in self.counts.items() if reason not in _NO_FAULTS})
        with self._lock:
            lost = self.serious
            due = self._unsaid is not None and time.monotonic() - self._said_at >= _EVERY_S
            if not due and not (last and lost > self._said_lost):
                return
            said, self._unsaid, self._said_at, self._said_lost = self._newest, None, time.monotonic(), lost
            counts = ", ".join(f"{reason} {count}" for reason, count in self._counts.items())
        LOGGER.warning("telemetry is degraded, your program is not: %s (lost: %s)", said, counts or "nothing")

    @property
    def counts(self) -> Mapping[LossReason, int]:
        """Counts by reason."""
        with self._lock:
            return dict(self._counts)

    @property
    def problems(self) -> Mapping[str, str]:
        """The newest problem of each place."""
        with self._lock:
            return dict(self._problems)

    @property
    def serious(self) -> int:
        """Everything lost except for want of any endpoint, which is no fault."""
        with self._lock:
            return sum(count for reason, count in self._counts.items() if reason not in _NO_FAULTS)

    def _forked(self) -> None:
        # The parent counts its own, and a thread of it may have held the lock.
        self._lock = threading.RLock()
        self._counts, self._said_lost = {}, 0
        if self._file is not None:
            self._file.forked()


def describe(error: BaseException) -> str:
    """The exception's message, or a stand-in when its own `__str__` raises."""
    try:
        return text(str(error), 1024)
    except Exception:  # noqa: BLE001 - a broken __str__ must not replace the user's own exception
        return "<message could not be read>"
