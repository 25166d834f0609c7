"""A thread that is there before it is needed.

From Python 3.12 on a thread that is started while the interpreter ends may be refused, and that is when a short program sends what it
measured. So one idle thread of the process waits for such work, as long as anything exports.
"""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Callable

__all__ = ["STANDBY", "Standby"]

_Job = Callable[[], object]


class Standby:
    """One daemon thread, kept while anybody holds it; it runs what it is given one after the other."""

    def __init__(self) -> None:
        self._holders = 0
        self._lock = threading.RLock()
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._renew)

    def hold(self) -> None:
        """Keep the thread from now on, once more."""
        with self._lock:
            self._holders += 1
        self.ready()

    def release(self) -> None:
        """Let the thread end after what it was given, unless somebody else holds it; never waits."""
        with self._lock:
            self._holders -= 1
            if self._holders == 0 and self._thread is not None:
                self._thread = None
                self._jobs.put(None)

    def ready(self) -> None:
        """Start the thread where it is held and does not run: in a forked child, with the first other thread."""
        with self._lock:
            if self._thread is not None or not self._holders:
                return
            # Of one kind with the thread: gevent replaces both, in gunicorn's workers only after the fork.
            self._jobs = queue.SimpleQueue()
            # Kept before it runs: under gevent others do while it starts.
            self._thread = thread = threading.Thread(target=_work, args=(self._jobs,), name="otel-runtime-standby", daemon=True)
            try:
                thread.start()
            except RuntimeError:
                # Too late already: whoever needs it is told.
                self._thread = None

    def take(self, work: _Job) -> bool:
        """Have `work`, which must not raise, run on the thread; False when there is none."""
        with self._lock:
            if self._thread is None:
                return False
            self._jobs.put(work)
            return True

    def run(self, work: _Job, timeout_s: float) -> bool:
        """The same, and wait for it; False also when it was not done in `timeout_s` seconds."""
        done, deadline = threading.Event(), time.monotonic() + timeout_s

        def told() -> None:
            # What nobody waits for any more is not begun: there may be less time than it takes.
            if time.monotonic() < deadline:
                work()
                done.set()

        return self.take(told) and done.wait(max(0.0, timeout_s))

    def _renew(self) -> None:
        # In a forked child: the thread is the parent's, and another one may have held the lock.
        self._lock = threading.RLock()
        self._jobs = queue.SimpleQueue()
        self._thread = None


def _work(jobs: queue.SimpleQueue[_Job | None]) -> None:
    while (job := jobs.get()) is not None:
        job()
        # Not kept while the next one is waited for.
        del job


STANDBY = Standby()
