"""Connections to PostgreSQL: few per process, each used by one thread at a time, and none of them waits longer than it may.

Rules:
- The driver waits on the socket for as long as the server is silent; here every wait has a deadline, and a connection that missed its own is
  thrown away, because nobody knows what it is in the middle of.
- A connection never crosses a fork. The child forgets its parent's without closing them: closing would end the parent's session.
- A server that does not even refuse is asked again after a second, not by every call.
"""

from __future__ import annotations

import ctypes
import math
import os
import threading
import time
import weakref
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Any, Final

import psycopg

from otel_runtime.errors import StoreError
from otel_runtime.storage.postgres_faults import Address, translated

__all__ = ["Link", "Links"]

_MOST: Final = 8
# libpq takes no less.
_LEAST_CONNECT_S: Final = 2
_DOWN_S: Final = 1.0
# Statements are seen by a pooler such as pgbouncer as they are: none is prepared on a connection that may be another one next time.
_NEVER: Final = None


class Link(psycopg.Connection[tuple[Any, ...]]):
    """A connection whose every wait ends at a deadline."""

    deadline: float = math.inf

    def wait(self, gen: Generator[Any, Any, Any], *args: Any, **kwargs: Any) -> Any:  # Any: the driver's own signature differs by version
        """Run one exchange with the server.

        Raises:
            TimeoutError: The deadline passed.
        """
        return super().wait(_until(gen, self), *args, **kwargs)


def _until(gen: Generator[Any, Any, Any], link: Link) -> Generator[Any, Any, Any]:
    # The driver's waiting wakes ten times a second and sends what became ready, or that nothing did.
    try:
        wanted = next(gen)
        while True:
            if time.monotonic() > link.deadline:
                raise TimeoutError("the server was silent")
            wanted = gen.send((yield wanted))
    except StopIteration as stop:
        return stop.value


class Links:
    """The connections of one process to one database.

    Args:
        address: Where it is.
    """

    def __init__(self, address: Address) -> None:
        self._address = address
        self._closed = False
        self._down_until = 0.0
        self._reset()
        _after_fork(weakref.ref(self))

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._idle: list[Link] = []
        self._room = threading.BoundedSemaphore(_MOST)

    @contextmanager
    def taken(self, mode: str = "") -> Iterator[Link]:
        """A connection for one transaction, inside of which BEGIN was sent and answered.

        Args:
            mode: Statement that sets the kind of transaction; empty for the server's default.

        Raises:
            StoreError: There is none within the time a transaction may take.
        """
        deadline = time.monotonic() + self._address.timeout_s
        room, owner = self._room, os.getpid()
        if not room.acquire(timeout=self._address.timeout_s):
            raise StoreError(
                f"the database `{self._address.place}` is asked by {_MOST} threads of this process already, and none was done within "
                f"{self._address.timeout_s:g} s",
                path=self._address.place,
            )
        try:
            link = self._begun(deadline, self._begin(mode))
            try:
                yield link
            finally:
                self._give_back(link, owner)
        finally:
            room.release()

    def close(self) -> None:
        """Close the idle ones; one in use is closed when it is given back."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for link in idle:
            link.close()

    def _begun(self, deadline: float, begin: bytes) -> Link:
        while (link := self._pop()) is not None:
            link.deadline = deadline
            try:
                link.execute(begin)
            except psycopg.OperationalError:
                # Idle for long, and the server was restarted meanwhile: nothing of the transaction was said yet.
                link.close()
                continue
            except BaseException:
                link.close()
                raise
            return link
        link = self._connected()
        link.deadline = max(deadline, time.monotonic() + self._address.timeout_s)
        try:
            link.execute(begin)
        except BaseException:
            link.close()
            raise
        return link

    def _begin(self, mode: str) -> bytes:
        # One exchange, and all of it ends with the transaction, so that nothing stays on a connection of a pooler.
        limit = max(1, int(self._address.timeout_s * 1000))
        return (
            f"BEGIN; {mode}; SELECT set_config('search_path', 'otel_runtime, ' || current_setting('search_path'), true), "
            f"set_config('statement_timeout', '{limit}', true), set_config('lock_timeout', '{limit}', true), "
            "set_config('idle_in_transaction_session_timeout', '60000', true)"
        ).encode()

    def _pop(self) -> Link | None:
        with self._lock:
            if self._closed:
                raise StoreError(f"the database `{self._address.place}` was closed by this process", path=self._address.place)
            return self._idle.pop() if self._idle else None

    def _connected(self) -> Link:
        if time.monotonic() < self._down_until:
            raise StoreError(
                f"the database `{self._address.place}` did not answer a moment ago; check that it runs and can be reached",
                path=self._address.place,
            )
        patience = max(_LEAST_CONNECT_S, math.ceil(self._address.timeout_s))
        try:
            with translated(self._address):
                return Link.connect(
                    self._address.url,
                    autocommit=True,
                    prepare_threshold=_NEVER,
                    connect_timeout=patience,
                    application_name="otel-runtime",
                )
        except StoreError as error:
            if "timeout" in str(error):
                self._down_until = time.monotonic() + _DOWN_S
            raise

    def _give_back(self, link: Link, owner: int) -> None:
        if os.getpid() != owner:
            _immortal(link)
            return
        clean = not link.closed and link.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
        with self._lock:
            if clean and not self._closed:
                self._idle.append(link)
                return
        link.close()

    def forget_parent(self) -> None:
        """In a forked child: leave the parent's connections alone."""
        for link in self._idle:
            _immortal(link)
        self._reset()


def _immortal(link: Link) -> None:
    # One reference more than anyone will ever drop, so that the interpreter does not close it at exit either.
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(link))


def _after_fork(links: weakref.ref[Links]) -> None:
    def forget() -> None:
        if (alive := links()) is not None:
            alive.forget_parent()

    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=forget)
