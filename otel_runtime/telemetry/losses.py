"""What was lost and what went wrong, counted by reason; safe from any thread and from the garbage collector."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from typing import Literal

from otel_runtime.telemetry.sanitize import text

__all__ = ["LOGGER", "LossReason", "Losses", "describe"]

LossReason = Literal["queue_full", "encode", "export", "shutdown", "too_large", "no_endpoint", "metrics_full"]
LOGGER = logging.getLogger("otel_runtime.telemetry")
_EVERY_S = 60.0


class Losses:
    """Counts per reason, the problems behind them, and at most one warning a minute.

    Callers only count; the warning is written by a worker (`speak`), so that no log handler runs inside a user's call.
    """

    def __init__(self) -> None:
        # Re-entrant: a finaliser may count while this very thread is counting.
        self._lock = threading.RLock()
        self._counts: dict[LossReason, int] = {}
        self._problems: dict[str, str] = {}
        self._unsaid: str | None = None
        self._said_at = -_EVERY_S

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
                self._unsaid = f"{where}: {said}"

    def speak(self) -> None:
        """Write the newest problem to the log, at most once a minute."""
        with self._lock:
            if self._unsaid is None or time.monotonic() - self._said_at < _EVERY_S:
                return
            said, self._unsaid, self._said_at = self._unsaid, None, time.monotonic()
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
            return sum(count for reason, count in self._counts.items() if reason != "no_endpoint")


def describe(error: BaseException) -> str:
    """The exception's message, or a stand-in when its own `__str__` raises."""
    try:
        return text(str(error), 1024)
    except Exception:  # noqa: BLE001 - a broken __str__ must not replace the user's own exception
        return "<message could not be read>"
