"""While a thread is inside of a C library's code, nobody forks: the child would inherit its locks as taken, and wait for them for good.

SQLite has locks of its own for the whole process. A fork at the moment at which another thread holds one left the child hanging in its
first `sqlite3.connect`.
"""

from __future__ import annotations

import os
import threading

__all__ = ["ForkGuard"]

# A transaction may wait for another process's write for longer than a fork should.
_LONGEST_S = 1.0


class ForkGuard:
    """`with guard:` around what must not be forked through. Any number of threads may be inside; a fork waits until the others have left.

    A thread may enter it again, and may fork while it is inside itself.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._inside = 0
        self._forking = 0
        self._own = threading.local()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(before=self._close, after_in_parent=self._open, after_in_child=self._renew)

    def __enter__(self) -> None:
        depth = self._depth()
        if depth == 0:
            with self._changed:
                self._changed.wait_for(lambda: not self._forking)
                self._inside += 1
        self._own.depth = depth + 1

    def __exit__(self, *_: object) -> None:
        self._own.depth -= 1
        if self._own.depth == 0:
            with self._changed:
                self._inside -= 1
                self._changed.notify_all()

    def _depth(self) -> int:
        depth: int = getattr(self._own, "depth", 0)
        return depth

    def _close(self) -> None:
        own = min(self._depth(), 1)
        with self._changed:
            self._forking += 1
            self._changed.wait_for(lambda: self._inside <= own, _LONGEST_S)

    def _open(self) -> None:
        with self._changed:
            self._forking -= 1
            self._changed.notify_all()

    def _renew(self) -> None:
        # Whoever else was inside, or held the lock, does not exist in the child.
        self._changed = threading.Condition()
        self._inside = min(self._depth(), 1)
        self._forking = 0
