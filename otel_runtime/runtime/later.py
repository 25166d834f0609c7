"""A thread for what must not block where it is noticed: clean-up in the garbage collector, the end of a cancelled task."""

from __future__ import annotations

import logging
import os
import queue
import threading
from collections.abc import Callable

__all__ = ["Later"]

_log = logging.getLogger("otel_runtime.runtime")
Job = Callable[[], None]


class Later:
    """Runs jobs in order on one daemon thread.

    Args:
        name: Name of the runtime, for the thread.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        # put() of a SimpleQueue is reentrant: it may be called by a finalizer that interrupts a put().
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._pid = 0
        self._stopped = False

    def start(self) -> None:
        """Start the thread; does nothing when it runs in this process."""
        if self._pid != os.getpid():
            self._pid = os.getpid()
            # By its module, and with the thread: gevent replaces both, in gunicorn's workers only after the fork.
            self._jobs = queue.SimpleQueue()
            threading.Thread(target=self._work, args=(self._jobs,), name=f"{self._name}-later", daemon=True).start()

    def add(self, job: Job) -> None:
        """Queue a job; never blocks. Dropped after `stop`: a stream may be collected long after its runtime was shut down."""
        if self._stopped:
            return
        if self._pid != os.getpid():
            # After a fork the thread is gone; a finalizer must not start one while a lock may be held, but this is no finalizer's first job.
            self.start()
        self._jobs.put(job)

    def flush(self, timeout_s: float) -> bool:
        """Wait until every job queued so far is done; False when time ran out."""
        if self._pid != os.getpid():
            return True
        done = threading.Event()
        self._jobs.put(done.set)
        return done.wait(timeout_s)

    def stop(self) -> None:
        """End the thread after the jobs queued so far; none is started any more."""
        self._stopped = True
        if self._pid == os.getpid():
            self._jobs.put(None)

    def _work(self, jobs: queue.SimpleQueue[Job | None]) -> None:
        while (job := jobs.get()) is not None:
            try:
                job()
            except Exception:  # noqa: BLE001  # the next job must run
                _log.exception("work at the end of a call failed")
            # Not kept while the next one is waited for: it may hold what a call was given.
            del job
