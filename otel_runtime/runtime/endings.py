"""The endings of a process: every configured runtime is flushed in each of them, within one budget.

Theory of operation. A normal end, an exception, `sys.exit` and Ctrl-C run `atexit`. A child that `multiprocessing` forked leaves by
`os._exit`, which skips `atexit`, but runs the finalizers of `multiprocessing.util`: the child registers one there. SIGTERM runs nothing,
so an application may ask for a handler. Whatever else stops workers (gunicorn, uwsgi, Celery, an ASGI server) calls `flush_all` or
`end_process` through a helper in `otel_runtime.integrations`.

Where the process surely ends (`end_process`), calls that still run in some thread or task are given an end first, as `interrupted`. Where it
may go on (a handler of the application's own comes after ours), they are left to their own ends.
"""

from __future__ import annotations

import atexit
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Protocol

from otel_runtime.errors import RuntimeStateError
from otel_runtime.runtime.forking import import_early, wait_for_imports
from otel_runtime.values.re2_gate import watch_exit
from otel_runtime.wrap.interrupting import interrupt_calls

__all__ = [
    "Stoppable",
    "end_process",
    "flush_all",
    "flush_aside",
    "handle_sigterm",
    "shutdown_all",
    "sigterm_heard",
    "stopping",
    "unwatch",
    "watch",
]

_log = logging.getLogger("otel_runtime")
# What a thread needs to come back after its own budget.
_GRACE_S = 0.25
# Below the finalizers of queues and pools, which may still run traced work.
_LAST = -100


class Stoppable(Protocol):
    """What must be flushed at the end: a runtime."""

    @property
    def flush_timeout(self) -> float:
        """Seconds that its flush may take."""
        ...

    def flush(self, timeout: float | None = None) -> bool:
        """Send what is buffered within the given seconds."""
        ...

    def shutdown(self, timeout: float | None = None) -> bool:
        """Flush and stop within the given seconds."""
        ...

    def after_fork(self) -> None:
        """Forget what belongs to the parent."""
        ...


class _Process:
    """What this process has to end. One object, because `multiprocessing` keeps weak references to what its children are told."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.running: tuple[Stoppable, ...] = ()
        self.hooked = False
        # How deep the main thread is inside of `stopping`, and what it is to do with a signal that came meanwhile.
        self.depth = 0
        self.due: Callable[[], None] | None = None
        # Whether our handler of SIGTERM has begun.
        self.heard = False


_process = _Process()


def watch(runtime: Stoppable) -> None:
    """Have a runtime shut down at the end of this process, and of every child that is forked from it."""
    with _process.lock:
        _process.running = (*_process.running, runtime)
        hooked, _process.hooked = _process.hooked, True
    if not hooked:
        # Before ours, so that it comes after ours: what is flushed may be masked.
        watch_exit()
        atexit.register(end_process)
        if hasattr(os, "register_at_fork"):
            import_early()
            os.register_at_fork(before=_before_fork, after_in_child=_after_fork)
    _finalize_if_child()


def unwatch(runtime: Stoppable) -> None:
    """A runtime was stopped already."""
    with _process.lock:
        _process.running = tuple(item for item in _process.running if item is not runtime)


def flush_all(timeout: float | None = None) -> bool:
    """Send what every configured runtime has buffered; the process goes on.

    Args:
        timeout: Seconds for all of them together; the longest of their `flush_timeout` when None.

    Returns:
        False when something was not sent in time.
    """
    return _each(lambda runtime, left_s: runtime.flush(left_s), timeout)


def shutdown_all(timeout: float | None = None) -> bool:
    """Flush and stop every configured runtime; guarded calls are refused from then on.

    Args:
        timeout: Seconds for all of them together; the longest of their `flush_timeout` when None.

    Returns:
        False when something was lost.
    """
    with stopping():
        return _each(lambda runtime, left_s: runtime.shutdown(left_s), timeout)


def end_process() -> bool:
    """End the spans of calls that still run, as `interrupted`, then `shutdown_all`: for where the process ends next, whatever happens.

    Returns:
        False when something was lost.
    """
    with stopping():
        try:
            if _process.running:
                interrupt_calls()
        except Exception:  # noqa: BLE001  # see the next line
            # A span without its end is less than all spans unsent.
            _log.exception("calls that still run could not be given an end")
        return shutdown_all()


@contextmanager
def stopping() -> Iterator[None]:
    """Around a shutdown: a SIGTERM that interrupts it waits until it is done, else it would cut off the very flush it asks for."""
    main = threading.current_thread() is threading.main_thread()
    if main:
        _process.depth += 1
    try:
        yield
    finally:
        if main:
            _process.depth -= 1
            due = _process.due
            if due is not None and _process.depth == 0:
                _process.due = None
                due()


def handle_sigterm() -> Callable[[], None]:
    """Flush at SIGTERM, then do what the process did at SIGTERM before.

    A handler that was installed before is called afterwards. Without one the process ends by the signal, as it would have, and calls that are
    running have their spans ended as `interrupted`; without this function it would end so with its last spans unsent. Call it again after another library took the signal, to come first once more.

    Returns:
        A function that puts the earlier handler back, if nobody has taken the signal since.

    Raises:
        RuntimeStateError: It was called outside of the main thread, or the signal has a handler that Python did not install.
    """
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeStateError("handle_sigterm() was called outside of the main thread; Python takes signal handlers there only")
    previous = signal.getsignal(signal.SIGTERM)
    if previous is None:
        raise RuntimeStateError("SIGTERM has a handler that was not installed from Python, so it cannot be called afterwards")

    def handler(number: int, frame: FrameType | None) -> None:
        _process.heard = True
        if _process.depth:
            _process.due = lambda: _flush_then(previous, number, None)
        else:
            _flush_then(previous, number, frame)

    def restore() -> None:
        if signal.getsignal(signal.SIGTERM) is handler:
            signal.signal(signal.SIGTERM, previous)

    signal.signal(signal.SIGTERM, handler)
    return restore


def sigterm_heard() -> bool:
    """Whether the handler of `handle_sigterm` has begun in this process."""
    return _process.heard


def flush_aside() -> None:
    """`flush_all` from inside of a signal handler."""
    _aside(flush_all, _budget(_process.running))


def _flush_then(previous: Callable[[int, FrameType | None], object] | int, number: int, frame: FrameType | None) -> None:
    if callable(previous):
        flush_aside()
        previous(number, frame)
    elif previous == signal.SIG_IGN:
        flush_aside()
    else:
        budget_s = _budget(_process.running)
        # What is interrupted may be in the middle of its own span, and hold its lock: that one is given up for the others.
        began = time.monotonic()
        _aside(lambda _: interrupt_calls(), budget_s / 4)
        _aside(shutdown_all, max(budget_s / 2, budget_s - (time.monotonic() - began)))
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)


def _aside(work: Callable[[float], object], budget_s: float) -> None:
    """Run `work` in a thread: the interrupted code may hold a lock that it needs, and then only time ends the waiting."""
    thread = threading.Thread(target=work, args=(budget_s,), name="otel-runtime-sigterm", daemon=True)
    try:
        thread.start()
        thread.join(budget_s + _GRACE_S)
    except (RuntimeError, AssertionError):
        # No new threads at interpreter shutdown, and there `atexit` flushes; inside of the hub gevent lets nobody wait.
        return


def _each(work: Callable[[Stoppable, float], bool], timeout: float | None) -> bool:
    running = _process.running
    deadline = time.monotonic() + (_budget(running) if timeout is None else timeout)
    done = True
    for runtime in running:
        try:
            done = work(runtime, max(0.0, deadline - time.monotonic())) and done
        except Exception:  # noqa: BLE001  # the application's own background work failed; the next runtime must be flushed all the same
            _log.exception("a runtime could not be flushed")
            done = False
    return done


def _budget(running: tuple[Stoppable, ...]) -> float:
    return max((runtime.flush_timeout for runtime in running), default=0.0)


def _before_fork() -> None:
    if _process.running:
        wait_for_imports()


def _after_fork() -> None:
    # Another thread of the parent may have held it.
    _process.lock = threading.Lock()
    _process.heard = False
    for runtime in _process.running:
        runtime.after_fork()
    # Finalizers registered now are forgotten when the child of `multiprocessing` starts; what is registered so runs right after that.
    if (util := sys.modules.get("multiprocessing.util")) is not None:
        util.register_after_fork(_process, _finalize)


def _finalize_if_child() -> None:
    process = sys.modules.get("multiprocessing.process")
    if process is not None and process.parent_process() is not None:
        _finalize(_process)


def _finalize(_: object) -> None:
    sys.modules["multiprocessing.util"].Finalize(None, end_process, exitpriority=_LAST)
