"""What must still be written to a shared facts store: kept in order, written soon, and never lost while the process lives.

Noting a sighting must not stop an event loop, and the end of a call must be recorded although the store is away for a moment. Such work is
queued; whoever reads facts next writes it first, and so sees its own.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from otel_runtime.errors import StoreError

__all__ = ["Owed"]

_log = logging.getLogger(__name__)
_MOST: Final = 10_000
_MOST_CHARS: Final = 16 << 20


@dataclass(frozen=True, slots=True)
class _Job:
    run: Callable[[], None]
    what: str
    chars: int
    lost: Callable[[], None] | None


class Owed:
    """Writes in order.

    Args:
        soon: Runs something soon on another thread; None where there is none: then the next reader writes.
        patience_s: Seconds to wait for another thread that writes.
    """

    def __init__(self, soon: Callable[[Callable[[], None]], None] | None, patience_s: float) -> None:
        self._soon = soon
        self._patience_s = patience_s
        self._reset()

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._jobs: deque[_Job] = deque()
        self._chars = 0
        self._writing = threading.Lock()

    def forget(self) -> None:
        """In a forked child: what is queued is the parent's."""
        self._reset()

    def add(self, job: Callable[[], None], *, what: str, chars: int = 0, lost: Callable[[], None] | None = None) -> None:
        """Queue a write and start it: here where waiting is allowed, else soon on another thread.

        Args:
            job: The write, whole in itself: it is tried again when it raises `StoreError`.
            what: Words for the log.
            chars: How much memory it holds.
            lost: Called when it will never be written.
        """
        with self._lock:
            room = len(self._jobs) < _MOST and self._chars + chars <= _MOST_CHARS
            if room:
                self._jobs.append(_Job(job, what, chars, lost))
                self._chars += chars
        if not room:
            _log.error("facts: %s could not be written for long, and there is no room to keep it; it is lost", what)
            if lost is not None:
                lost()
        elif not _on_event_loop():
            self._try()
        elif self._soon is not None:
            self._soon(self._try)

    def write(self) -> None:
        """Write everything queued so far.

        Raises:
            StoreError: The store failed; what was not written stays queued.
        """
        if not self._jobs:
            return
        if not self._writing.acquire(timeout=self._patience_s):
            raise StoreError("earlier facts are still being written")
        try:
            for _ in range(len(self._jobs)):
                self._write_one(self._jobs[0])
        finally:
            self._writing.release()

    def _write_one(self, job: _Job) -> None:
        try:
            job.run()
        except StoreError:
            raise
        except Exception:  # noqa: BLE001  # not the store's fault: it would fail again, and hold up all that come after it
            _log.exception("facts: %s cannot be written; it is lost", job.what)
            if job.lost is not None:
                job.lost()
        with self._lock:
            self._jobs.popleft()
            self._chars -= job.chars

    def _try(self) -> None:
        try:
            self.write()
        except StoreError as error:
            _log.warning("facts: %d writes wait until the store answers: %s", len(self._jobs), error)


def _on_event_loop() -> bool:
    module = sys.modules.get("asyncio")
    # The public get_running_loop() raises where there is none.
    return module is not None and module._get_running_loop() is not None  # noqa: SLF001
