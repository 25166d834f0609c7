"""One daemon thread that runs a step every so often, or when it is asked to. Started when first needed, restarted after a fork.

Rules
- Nothing here blocks a caller except `drain`, which has a timeout.
- `wake` may run in the garbage collector: `SimpleQueue.put` is re-entrant, `Event.set` is not.
- A step never raises.
"""

from __future__ import annotations

import os
import queue
import threading
import time
import weakref
from collections.abc import Callable
from typing import Final

from opentelemetry import context

from otel_runtime.telemetry.standby import STANDBY

__all__ = ["Worker", "remaining", "run_bounded", "thread_begins"]

# Called first in each of these threads. Who decorates functions says here that no call in them is the program's; that room stands above this one.
thread_begins: list[Callable[[], None]] = []

_STOP: Final = object()


class Worker:
    """Runs `step` on its own thread.

    Args:
        name: Thread name.
        period_s: Seconds between two steps when nobody wakes it.
        step: What to do; it must not raise.
        forked: Called in a forked child, before anything else.

    Attributes:
        running: True once the thread was started.
    """

    def __init__(self, name: str, period_s: float, step: Callable[[], None], forked: Callable[[], None]) -> None:
        self._name = name
        self._period_s = period_s
        self._step = step
        self._forked = forked
        self._lock = threading.RLock()
        self._bell: queue.SimpleQueue[object] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._stopped = False
        self._refused = False
        # Asked on the way of every call: no property.
        self.running: bool = False
        reference = weakref.WeakMethod(self._after_fork)
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=lambda: _call(reference))

    def ensure(self) -> bool:
        """Start the thread unless it runs; False when it cannot be started (stopped, interpreter shutting down)."""
        if self._thread is not None:
            return True
        with self._lock:
            if self._thread is not None or self._stopped:
                return self._thread is not None
            # Of one kind with the thread: gevent replaces both, in gunicorn's workers only after the fork.
            self._bell = queue.SimpleQueue()
            thread = threading.Thread(target=self._run, args=(self._bell,), name=self._name, daemon=True)
            try:
                thread.start()
            except RuntimeError:
                # No new threads at interpreter shutdown: the standby makes the step that a flush asks for.
                self._refused = True
                return False
            self._thread = thread
            self.running = True
        STANDBY.ready()
        return True

    def wake(self) -> None:
        """Run the step soon. Never blocks, safe from a finaliser."""
        self._bell.put(None)

    def drain(self, timeout_s: float) -> bool:
        """Run the step now and wait for it; False when it was not done in time."""
        return self.finish(self.ask(), timeout_s)

    def ask(self) -> threading.Event:
        """Order a step; the event is set once it has run. Several workers can be asked before any is waited for."""
        done = threading.Event()
        if self._thread is not None:
            self._bell.put(done)
        elif not self._refused or not STANDBY.take(lambda: self._aside(done)):
            done.set()
        return done

    def finish(self, done: threading.Event, timeout_s: float) -> bool:
        """Wait for what `ask` ordered, at most `timeout_s` seconds."""
        return done.wait(max(0.0, timeout_s))

    def stop(self) -> None:
        """Let the thread end after its current step; never waits."""
        with self._lock:
            self._stopped = True
        self._bell.put(_STOP)

    def _run(self, bell: queue.SimpleQueue[object]) -> None:
        _begin()
        while True:
            ticket = self._next(bell)
            self._step()
            if isinstance(ticket, threading.Event):
                ticket.set()
            elif ticket is _STOP:
                return

    def _aside(self, done: threading.Event) -> None:
        _begin()
        self._step()
        done.set()

    def _next(self, bell: queue.SimpleQueue[object]) -> object:
        try:
            return bell.get(timeout=self._period_s)
        except queue.Empty:
            return None

    def _after_fork(self) -> None:
        # INVARIANT: the child starts with no thread, no lock held by a vanished thread, and nothing of the parent's.
        self._lock = threading.RLock()
        self._bell = queue.SimpleQueue()
        self._thread = None
        self._refused = False
        self.running = False
        self._forked()


def _call(reference: weakref.WeakMethod[Callable[[], None]]) -> None:
    method = reference()
    if method is not None:
        method()


def _begin() -> None:
    # What exporters do (HTTP, gRPC) must not be traced by instrumentations of those libraries.
    context.attach(context.set_value(_suppress_key(), True))
    for begin in thread_begins:
        begin()


def _suppress_key() -> str:
    # The key has no public name yet; older instrumentations look for the plain word.
    return str(getattr(context, "_SUPPRESS_INSTRUMENTATION_KEY", "suppress_instrumentation"))


def run_bounded(work: Callable[[], object], timeout_s: float) -> bool:
    """Run `work` in a daemon thread; True when it returned in time. SDK calls that ignore their own timeouts go through here."""
    failed: list[BaseException] = []

    def guarded() -> None:
        try:
            _begin()
            work()
        except Exception as error:  # noqa: BLE001 - a provider of the application's may raise anything; the caller sees False
            failed.append(error)

    thread = threading.Thread(target=guarded, name="otel-runtime-bounded", daemon=True)
    try:
        thread.start()
    except RuntimeError:
        # No new threads at interpreter shutdown. Without the standby: better to leave than to risk hanging in the SDK.
        return STANDBY.run(guarded, timeout_s) and not failed
    thread.join(max(0.0, timeout_s))
    return not thread.is_alive() and not failed


def remaining(deadline: float) -> float:
    """Seconds until a `time.monotonic()` deadline, never negative."""
    return max(0.0, deadline - time.monotonic())
