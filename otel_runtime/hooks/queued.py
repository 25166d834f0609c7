"""One subscriber with a bounded queue of its own: it gets events in order, and is told how many it lost.

Events are handed over one after the other, so that a subscriber sees those of one session in the order of their numbers. While the
handler works, up to `limit` events wait; further ones are dropped and counted, and the next thing the handler gets is an envelope of
kind `transport.lagged` that says how many and which. A failing handler is isolated by `failed`.

What empties the queue runs where the first event of it was published, on a loop that may end at any time, as `asyncio.run` does. What it leaves
is handed over by a loop of our own.
"""

from __future__ import annotations

import inspect
import threading
from collections import deque
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from functools import partial
from typing import Any, Protocol

from otel_runtime.values.trace import EventEnvelope

__all__ = ["LAGGED", "Queued", "Runner", "is_asynchronous"]

LAGGED = "transport.lagged"


class Runner(Protocol):
    """Where the coroutine that empties the queue goes."""

    def add(self, task: Coroutine[Any, Any, None]) -> Future[Any]:
        """Run it, on the running loop if there is one."""
        ...

    def add_apart(self, task: Coroutine[Any, Any, None]) -> Future[Any]:
        """Run it on a loop that nobody else ends."""
        ...


def is_asynchronous(handler: Callable[[EventEnvelope], object]) -> bool:
    """True for a coroutine function, and for an object with an asynchronous `__call__`."""
    return inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(getattr(handler, "__call__", None))  # noqa: B004 - such an object is meant


class Queued:
    """A subscriber behind a queue.

    Args:
        handler: Takes each envelope; synchronous ones run in a thread, so that they hold nobody up.
        limit: Events that may wait.
        runner: Where its work goes; a flush of it waits until the queue is empty.
        failed: Told about each exception of the handler.
    """

    def __init__(
        self, handler: Callable[[EventEnvelope], object], limit: int, runner: Runner, failed: Callable[[str, Exception], None]
    ) -> None:
        self._handler = handler
        self._asynchronous = is_asynchronous(handler)
        self._limit = limit
        self._runner = runner
        self._failed = failed
        self._waiting: deque[EventEnvelope] = deque()
        self._lock = threading.Lock()
        # Who empties the queue now.
        self._drainer: object | None = None
        self._lost: list[EventEnvelope] = []
        self._lost_now = 0
        self.lost: int = 0

    def offer(self, envelope: EventEnvelope) -> None:
        """Take an event, or drop it when too many wait. Never blocks."""
        with self._lock:
            if len(self._waiting) >= self._limit:
                self.lost += 1
                self._lost_now += 1
                # The first and the last of a gap say where it is.
                self._lost[1:] = [envelope] if self._lost else []
                self._lost = self._lost or [envelope]
                return
            self._waiting.append(envelope)
            if self._drainer is not None:
                return
            drainer = self._drainer = object()
        self._runner.add(self._drain()).add_done_callback(partial(self._drained, drainer))

    def _drained(self, drainer: object, _work: Future[Any]) -> None:
        """Its loop may have ended before the queue was empty, or before it began."""
        with self._lock:
            if self._drainer is not drainer:
                return
            self._drainer = None
            if not self._waiting and not self._lost_now:
                return
            self._drainer = drainer = object()
        self._runner.add_apart(self._drain()).add_done_callback(partial(self._let_go, drainer))

    def _let_go(self, drainer: object, _work: Future[Any]) -> None:
        """Our own loop ends when the runtime is stopped: then nobody follows."""
        with self._lock:
            if self._drainer is drainer:
                self._drainer = None

    async def _drain(self) -> None:
        import asyncio  # a loop runs this, so it is loaded already

        while (envelope := self._next()) is not None:
            try:
                if self._asynchronous:
                    await self._call(envelope)
                else:
                    await asyncio.to_thread(self._handler, envelope)
            except Exception as error:  # noqa: BLE001  # a handler may raise anything; the next event must still come
                self._failed(envelope.kind, error)

    async def _call(self, envelope: EventEnvelope) -> None:
        result = self._handler(envelope)
        if inspect.isawaitable(result):
            await result

    def _next(self) -> EventEnvelope | None:
        with self._lock:
            if self._lost_now and len(self._waiting) <= self._limit // 2:
                return self._tell()
            if not self._waiting:
                self._drainer = None
                return None
            return self._waiting.popleft()

    def _tell(self) -> EventEnvelope:
        first, last = self._lost[0], self._lost[-1]
        payload = {"lost": self._lost_now, "first_seq": first.seq, "last_seq": last.seq, "lost_in_all": self.lost}
        self._lost, self._lost_now = [], 0
        return EventEnvelope(LAGGED, payload, f"lagged-{last.event_id}", last.seq, last.timestamp)
