"""Everyone in this process who waits for an answer: threads for themselves, event loops through one poller each."""

from __future__ import annotations

import asyncio
import os
import threading
import weakref
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

from otel_runtime.approvals import store
from otel_runtime.approvals.waiting import Bell, Poller, wait_in_thread
from otel_runtime.audit.chain import microseconds
from otel_runtime.errors import StoreError
from otel_runtime.storage.sqlite import Database
from otel_runtime.values.approval import ApprovalRequest

__all__ = ["Waiters"]


class Waiters:
    """Waits on one database.

    Args:
        database: Where the requests are.
        read: Reads one request; raises `StoreError` when there is none.
        clock: Says what time it is, in UTC.
    """

    def __init__(self, database: Database, read: Callable[[str], ApprovalRequest], clock: Callable[[], datetime]) -> None:
        self._database = database
        self._read = read
        self._clock = clock
        self._start()
        _after_fork(weakref.ref(self))

    def wait(self, request_id: str, timeout_s: float) -> ApprovalRequest:
        """Block until the request is answered or the time is up."""
        wait_in_thread(lambda: self.waits(request_id), self._bell, request_id, timeout_s)
        return self._read(request_id)

    async def wait_async(self, request_id: str, timeout_s: float) -> ApprovalRequest:
        """The same on the running event loop, through its poller."""
        return await self._poller().wait(request_id, timeout_s)

    def waits(self, request_id: str) -> bool:
        """True when there is something to wait for."""
        return request_id not in self._answered(frozenset({request_id}))

    def ring(self, request_id: str) -> None:
        """Say that a request changed in this process."""
        self._bell.ring(request_id)

    def close(self) -> None:
        """Stop the polling thread."""
        self._executor.shutdown(wait=True)

    def _answered(self, ids: frozenset[str]) -> frozenset[str]:
        """Those that need not be waited for: answered, due, or missing."""
        with self._database.reading() as connection:
            states = store.states(connection, ids)
        now_us = microseconds(self._clock())
        return ids - {each for each, (state, due_us) in states.items() if state == "awaiting-approval" and due_us > now_us}

    def _read_many(self, ids: frozenset[str], overdue: frozenset[str]) -> Mapping[str, ApprovalRequest | Exception]:
        found: dict[str, ApprovalRequest | Exception] = {}
        for request_id in self._answered(ids) | overdue:
            try:
                found[request_id] = self._read(request_id)
            except StoreError as error:
                # Raised again in the one waiter it concerns.
                found[request_id] = error
        return found

    def _poller(self) -> Poller:
        loop = asyncio.get_running_loop()
        with self._lock:
            for other in [each for each in self._pollers if each.is_closed() or (each is not loop and not self._pollers[each].busy)]:
                del self._pollers[other]
            if loop not in self._pollers:
                self._pollers[loop] = Poller(loop, self._read_many, self._executor, self._bell)
            return self._pollers[loop]

    def _start(self) -> None:
        self._bell = Bell()
        self._pollers: dict[asyncio.AbstractEventLoop, Poller] = {}
        self._lock = threading.Lock()
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="otel-runtime approvals")


def _after_fork(waiters: weakref.ref[Waiters]) -> None:
    def forget() -> None:
        if (alive := waiters()) is not None:
            # The parent's threads and whoever held its locks do not exist in the child.
            alive._start()  # noqa: SLF001 - same module, the hook of the class itself

    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=forget)
