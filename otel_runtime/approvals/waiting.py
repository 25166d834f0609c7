"""Waiting for an answer: polling is the truth, a bell in the process shortens it.

Threads poll for themselves. All asynchronous waiters of one event loop share one task that polls for them, in a thread of its own.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass

from otel_runtime.values.approval import ApprovalRequest

__all__ = ["Bell", "Poller", "wait_in_thread"]

_SHORTEST_S = 0.02
_LONGEST_S = 1.0
_SLOWER = 1.5

# Given ids and those among them whose time to wait is over: every request that has been answered, every overdue one as it stands,
# and an error in the place of one that cannot be read.
ReadMany = Callable[[frozenset[str], frozenset[str]], Mapping[str, ApprovalRequest | Exception]]


class Bell:
    """Tells waiters of this process that a request changed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._listeners: tuple[Callable[[str], None], ...] = ()

    @contextmanager
    def listening(self, listener: Callable[[str], None]) -> Iterator[None]:
        """Call the listener with the id of each changed request while the block runs; it must not block."""
        with self._lock:
            self._listeners = (*self._listeners, listener)
        try:
            yield
        finally:
            with self._lock:
                self._listeners = tuple(each for each in self._listeners if each is not listener)

    def ring(self, request_id: str) -> None:
        """Say that a request changed."""
        for listener in self._listeners:
            listener(request_id)


def wait_in_thread(waiting: Callable[[], bool], bell: Bell, request_id: str, timeout_s: float) -> None:
    """Block until `waiting` says no or the time is up.

    Args:
        waiting: Reads the store.
        bell: Rung by answers given in this process.
        request_id: The request.
        timeout_s: Seconds to wait at most.
    """
    rung = threading.Event()

    def listen(changed: str) -> None:
        if changed == request_id:
            rung.set()

    deadline, pause = time.monotonic() + timeout_s, _SHORTEST_S
    with bell.listening(listen):
        while waiting() and (left := deadline - time.monotonic()) > 0:
            rung.wait(min(pause, left))
            rung.clear()
            pause = min(pause * _SLOWER, _LONGEST_S)


@dataclass(eq=False, slots=True)
class _Waiter:
    request_id: str
    deadline: float
    answer: asyncio.Future[ApprovalRequest]


class Poller:
    """Waits for every waiter of one event loop, with one task that lives as long as somebody waits.

    Args:
        loop: The running loop.
        read: Reads many requests at once; blocks, so it runs in the executor.
        executor: Threads for reading, not the loop's own: the application may have filled those.
        bell: Rung by answers given in this process.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, read: ReadMany, executor: Executor, bell: Bell) -> None:
        self._loop = loop
        self._read = read
        self._executor = executor
        self._bell = bell
        self._waiters: set[_Waiter] = set()
        self._news = asyncio.Event()
        self._pause = _SHORTEST_S
        self._task: asyncio.Task[None] | None = None

    @property
    def busy(self) -> bool:
        """True while somebody waits."""
        return bool(self._waiters)

    async def wait(self, request_id: str, timeout_s: float) -> ApprovalRequest:
        """Wait until the request is answered or the time is up; returns it either way."""
        waiter = _Waiter(request_id, time.monotonic() + timeout_s, self._loop.create_future())
        self._waiters.add(waiter)
        self._pause = _SHORTEST_S
        self._news.set()
        self._start()
        try:
            return await waiter.answer
        finally:
            self._waiters.discard(waiter)
            if not self._waiters:
                # The task sees that nobody is left and ends.
                self._news.set()

    def _start(self) -> None:
        if self._task is None or self._task.done():
            # An empty context: the task outlives the call that starts it and must not carry its span.
            self._task = self._loop.create_task(self._run(), name="otel-runtime approvals", context=contextvars.Context())

    async def _run(self) -> None:
        try:
            with self._bell.listening(self._heard):
                while self._waiters:
                    await self._round()
        except Exception as error:  # noqa: BLE001 - whatever it is, those who wait must hear of it
            for waiter in self._waiters:
                if not waiter.answer.done():
                    waiter.answer.set_exception(error)
        finally:
            # Only when this task is cancelled is anyone left: the loop is closing.
            for waiter in self._waiters:
                waiter.answer.cancel()

    async def _round(self) -> None:
        self._news.clear()
        now = time.monotonic()
        ids = frozenset(waiter.request_id for waiter in self._waiters)
        overdue = frozenset(waiter.request_id for waiter in self._waiters if waiter.deadline <= now)
        self._settle(await self._loop.run_in_executor(self._executor, self._read, ids, overdue), now)
        left = min((waiter.deadline for waiter in self._waiters if not waiter.answer.done()), default=now) - time.monotonic()
        await self._sleep(min(self._pause, left))
        self._pause = min(self._pause * _SLOWER, _LONGEST_S)

    def _settle(self, found: Mapping[str, ApprovalRequest | Exception], now: float) -> None:
        for waiter in list(self._waiters):
            answer = found.get(waiter.request_id)
            if answer is None or waiter.answer.done():
                continue
            if isinstance(answer, Exception):
                waiter.answer.set_exception(answer)
            elif answer.state != "awaiting-approval" or waiter.deadline <= now:
                waiter.answer.set_result(answer)
            else:
                continue
            self._waiters.discard(waiter)

    async def _sleep(self, seconds: float) -> None:
        if seconds <= 0 or not self._waiters:
            return
        try:
            async with asyncio.timeout(seconds):
                await self._news.wait()
        except TimeoutError:
            # The ordinary end of a pause.
            return

    def _heard(self, request_id: str) -> None:
        try:
            self._loop.call_soon_threadsafe(self._hear, request_id)
        except RuntimeError:
            # The loop closed between the ring and here: its waiters are gone.
            return

    def _hear(self, request_id: str) -> None:
        if any(waiter.request_id == request_id for waiter in self._waiters):
            self._pause = _SHORTEST_S
            self._news.set()
