"""What a call takes before its body may start, and gives back when it never does: its task was cancelled, or Ctrl-C came.

A thread that writes to a store cannot be stopped: it goes on when the task that waits for it is cancelled, and what it took for the call (a
budget, an approval) would stand for good. So who takes and who waits agree, under a lock, on who of them was last.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

__all__ = ["Taking"]

T = TypeVar("T")


class Taking(Generic[T]):
    """One taking; what it took is given back once when it was given up, before or after it was done.

    Args:
        take: Takes; may block.
        give_back: Gets what was taken. It may run on an event loop, so it only enqueues.
    """

    def __init__(self, take: Callable[[], T], give_back: Callable[[T], None]) -> None:
        self._take = take
        self._give_back = give_back
        self._lock = threading.Lock()
        self._given_up = False
        self._taken: tuple[T, ...] = ()

    def run(self) -> T:
        """Take."""
        taken = self._take()
        with self._lock:
            self._taken = (taken,)
            nobody_waits = self._given_up
        if nobody_waits:
            self._give_back(taken)
        return taken

    def give_up(self) -> None:
        """Nobody waits any more: what was taken is given back now, what is being taken when that is done."""
        with self._lock:
            taken, self._taken = self._taken, ()
            self._given_up = True
        for each in taken:
            self._give_back(each)
