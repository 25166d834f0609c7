"""Context variables set from inside the garbage collector, safely.

Before Python 3.12 a collection may start at any allocation, also at those that `ContextVar.set` and `reset` make. What runs in it, such as
the clean-up of a stream that was dropped, must not replace the mapping that the interrupted operation still reads: nothing else holds it.
Nor may it leave a value in a variable's cache that the interrupted operation is about to remove.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Mapping
from contextvars import Context, copy_context
from threading import get_ident

__all__ = ["Collection", "collection", "watch_collections"]

# Since 3.12 a collection starts between two instructions only.
_INTERRUPTS = sys.version_info < (3, 12)


class Collection:
    """The collection that runs, if one does."""

    __slots__ = ("_before", "_held", "thread")

    def __init__(self) -> None:
        # Whose thread is collecting; 0 when none is, or when that needs no care.
        self.thread: int = 0
        self._held: list[Context] = []
        self._before: list[Context] = []

    def hold(self) -> None:
        """Keep the mapping of this thread's context until the interrupted operation is over; to be called before a variable is set."""
        if self.thread == get_ident():
            self._held.append(copy_context())

    def note(self, phase: str, _info: Mapping[str, int]) -> None:
        """What the garbage collector calls before and after."""
        if phase == "start":
            # Not those of the last collection: the interrupted operation may be interrupted again before it is over.
            self._before, self._held = self._held, []
            self.thread = get_ident()
            return
        self.thread = 0
        if self._held:
            # Entering any context makes Python forget what variables had cached.
            Context().run(int)


collection: Collection = Collection()


def watch_collections() -> None:
    """Be told of collections from now on, where that is needed."""
    if _INTERRUPTS and collection.note not in gc.callbacks:
        gc.callbacks.append(collection.note)
