"""A lock that no fork falls into: what must not be cut in two by a fork is done while it is held."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable

__all__ = ["ForkGate"]

# The forking thread may itself stand inside of it, in a callback of an application's own provider.
_LONGEST_S = 1.0


class ForkGate:
    """`with gate:` around a short piece of work that takes locks of other libraries; a forking thread waits until it is done.

    Without it the child would inherit those locks as taken, by a thread that it does not have.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held = False
        reference = weakref.ref(self)

        def told(method: Callable[[ForkGate], None]) -> Callable[[], None]:
            # A hook is never unregistered, so it must not keep the gate.
            def hook() -> None:
                if (gate := reference()) is not None:
                    method(gate)

            return hook

        if hasattr(os, "register_at_fork"):
            os.register_at_fork(before=told(ForkGate._close), after_in_parent=told(ForkGate._open), after_in_child=told(ForkGate._renew))

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def _close(self) -> None:
        self._held = self._lock.acquire(timeout=_LONGEST_S)

    def _open(self) -> None:
        if self._held:
            self._held = False
            self._lock.release()

    def _renew(self) -> None:
        self._lock, self._held = threading.Lock(), False
