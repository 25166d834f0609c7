"""A worker does not sleep through its SIGTERM.

Python notes a signal at once and calls its handler before the next bytecode. When it comes just before the main thread begins to wait inside
of C, as a pool's worker does for its next task, the handler runs when that wait is over. `Pool.terminate()` sends the signal once and waits
for the worker, for good. So a thread learns of the signal too, and sends it again until the handler runs.

It learns of it by `faulthandler`, which writes a few lines to a socket wherever the program is. `signal.set_wakeup_fd` would do as well, but
belongs to event loops: asyncio takes it away, and Trio warns when it finds it taken.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import socket
import threading
import time
from collections.abc import Callable

__all__ = ["nudge_until"]

# A main thread that is busy handles a signal within less; the next nudges come ever later.
_FIRST_S = 0.05
_LAST_S = 1.0


class _Told:
    """The two ends of what tells this process's thread; kept, because the signal writes to the bare descriptor."""

    ends: tuple[socket.socket, socket.socket] | None = None


def nudge_until(heard: Callable[[], bool]) -> None:
    """Have SIGTERM repeated in this process once it came, until its handler has begun. To be called in the main thread, when it is installed.

    Args:
        heard: Whether the handler has begun.
    """
    if _Told.ends is not None:
        return
    reader, writer = socket.socketpair()
    # Nobody may wait inside of a signal.
    writer.setblocking(False)
    try:
        threading.Thread(target=_watch, args=(reader, heard), name="otel-runtime-nudge", daemon=True).start()
    except RuntimeError:
        # No more threads here: it is as it would be without this.
        reader.close()
        writer.close()
        return
    _Told.ends = reader, writer
    faulthandler.register(signal.SIGTERM, file=writer.fileno(), all_threads=False, chain=True)
    os.register_at_fork(after_in_child=_forget)


def _watch(reader: socket.socket, heard: Callable[[], bool]) -> None:
    main, pause_s = threading.main_thread().ident, _FIRST_S
    reader.recv(1)
    time.sleep(pause_s)
    while not heard() and main is not None:
        signal.pthread_kill(main, signal.SIGTERM)
        pause_s = min(2 * pause_s, _LAST_S)
        time.sleep(pause_s)


def _forget() -> None:
    # A child's signal must not be taken for its parent's.
    if _Told.ends is not None:
        # What was there before is put back: Python's own, which is wrong where somebody has the signal ignored since.
        if callable(signal.getsignal(signal.SIGTERM)):
            faulthandler.unregister(signal.SIGTERM)
        for end in _Told.ends:
            end.close()
        _Told.ends = None
