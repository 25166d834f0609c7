"""A gate before RE2: no thread is inside of it when the interpreter is taken down.

RE2 gives up the interpreter's lock while it matches. A daemon thread that wants it back during finalization is ended by unwinding its stack,
and C++ answers that by aborting the whole process (before Python 3.14). So at exit, after everything was flushed, the gate closes: threads
that are inside may leave, others wait at the gate until the process is gone.
"""

from __future__ import annotations

import atexit
import os
import threading
import time
from collections.abc import Callable
from threading import get_ident
from typing import ParamSpec, TypeVar

__all__ = ["through", "watch_exit"]

P = ParamSpec("P")
R = TypeVar("R")

# For those inside: a bounded match takes milliseconds.
_LEAVE_S = 1.0
# For those outside: an exit takes less, and what was no exit goes on.
_STAY_S = 30.0


class _Gate:
    """Who is inside, and whether the process ends. Sets are changed in one step, so no lock is needed."""

    inside: set[int] = set()  # noqa: RUF012 - the process has one
    closed = False
    watched = False


def watch_exit() -> None:
    """Close the gate when the process ends. What is registered after this still passes it: `atexit` goes backwards."""
    if not _Gate.watched:
        _Gate.watched = True
        atexit.register(_close)
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=_forget)


def through(call: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Call something of RE2's.

    Args:
        call: A function, or a method of a compiled expression.
        args: For it.
        kwargs: For it.
    """
    me, inside = get_ident(), _Gate.inside
    # A replacement that is computed may look for something itself.
    if me in inside:
        return call(*args, **kwargs)
    inside.add(me)
    try:
        # Looked at from the inside: whoever closes it meanwhile waits.
        if _Gate.closed and threading.current_thread() is not threading.main_thread():
            inside.discard(me)
            time.sleep(_STAY_S)
        return call(*args, **kwargs)
    finally:
        inside.discard(me)


def _close() -> None:
    _Gate.closed = True
    deadline = time.monotonic() + _LEAVE_S
    while _Gate.inside - {get_ident()} and time.monotonic() < deadline:
        time.sleep(0.001)


def _forget() -> None:
    # The other threads are the parent's.
    _Gate.inside.intersection_update({get_ident()})
