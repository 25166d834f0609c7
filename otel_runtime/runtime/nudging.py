"""A worker does not sleep through its SIGTERM.

Python notes a signal at once and calls its handler before the next bytecode. When it comes just before the main thread begins to wait inside
of C, as a pool's worker does for its next task, the handler runs when that wait is over. `Pool.terminate()` sends the signal once and waits
for the worker, for good. So a thread learns of the signal too, and sends it again until the handler runs.

It learns of it by the wakeup descriptor of signals. An event loop that wants that for itself may have it; then it is as it would be without.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable

__all__ = ["nudge_until"]

# A main thread that is busy handles a signal within less; the next nudges come ever later.
_FIRST_S = 0.05
_LAST_S = 1.0


class _Told:
    """The two ends of what tells this process's thread; kept, because a signal writes to the bare descriptor."""

    ends: tuple[socket.socket, socket.socket] | None = None


def nudge_until(heard: Callable[[], bool]) -> None:
    """Have SIGTERM repeated in this process once it came, until its handler has begun. To be called in the main thread, when it is installed.

    Args:
        heard: Whether the handler has begun.
    """
    # Trio warns when it finds the descriptor taken.
    if _Told.ends is not None or "trio" in sys.modules:
        return
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    taken = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    if taken == -1:
        try:
            threading.Thread(target=_watch, args=(reader, heard), name="otel-runtime-nudge", daemon=True).start()
        except RuntimeError:
            # No more threads here: as above.
            signal.set_wakeup_fd(-1)
        else:
            _Told.ends = reader, writer
            os.register_at_fork(after_in_child=_forget)
            return
    else:
        signal.set_wakeup_fd(taken)
    reader.close()
    writer.close()


def _watch(reader: socket.socket, heard: Callable[[], bool]) -> None:
    main, pause_s = threading.main_thread().ident, _FIRST_S
    # Of each signal that Python handles comes its number.
    while signal.SIGTERM not in (told := reader.recv(64)):
        if not told:
            return
    time.sleep(pause_s)
    while not heard() and main is not None:
        signal.pthread_kill(main, signal.SIGTERM)
        pause_s = min(2 * pause_s, _LAST_S)
        time.sleep(pause_s)


def _forget() -> None:
    # A child's signal must not be taken for its parent's.
    if _Told.ends is None:
        return
    found = signal.set_wakeup_fd(-1)
    if found not in (-1, _Told.ends[1].fileno()):
        signal.set_wakeup_fd(found)
    for end in _Told.ends:
        end.close()
    _Told.ends = None
