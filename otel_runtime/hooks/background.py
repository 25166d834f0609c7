"""`wait_until`: work that must be finished before shutdown, and a loop for coroutines that nobody else runs.

Theory of operation. Every piece of work is one future in a set. Coroutines are run by the loop that is running where they were handed
in, else by one daemon thread with a loop of its own, started when first needed and again after a fork. A flush waits until the set is
empty, work added meanwhile included, drains everything, and then reports the first failure. Concurrent flushes watch the same set, so
they share the work.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
import weakref
from collections.abc import Awaitable, Coroutine
from concurrent.futures import Future
from concurrent.futures import wait as wait_for_futures
from typing import Any

__all__ = ["Background"]


class Background:
    """Work in flight.

    Args:
        name: Name of the runtime, for the thread.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = threading.Lock()
        self._pending: set[Future[Any]] = set()
        self._failures: list[BaseException] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pid = os.getpid()
        _renew_after_fork(weakref.ref(self))

    def add(self, task: Awaitable[object] | Future[Any]) -> Future[Any]:
        """Take a piece of work; it is kept alive until it is done.

        Args:
            task: A coroutine, task, asyncio or concurrent future.

        Raises:
            TypeError: It is none of these.
        """
        return self._kept(self._as_future(task))

    def add_apart(self, task: Coroutine[Any, Any, object]) -> Future[Any]:
        """Take a coroutine, and run it on the loop of its own thread also where another loop is running."""
        return self._kept(asyncio.run_coroutine_threadsafe(task, self._own_loop()))

    def flush(self, timeout_s: float) -> bool:
        """Wait until no work is left; called outside of the loops that run the work.

        Args:
            timeout_s: Seconds to wait at most.

        Returns:
            False when work was still running at the end.

        Raises:
            BaseException: The first failure of a piece of work, after everything was drained.
        """
        deadline = time.monotonic() + timeout_s
        while pending := self._snapshot():
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                return False
            wait_for_futures(pending, timeout=remaining)
        self._raise_first()
        return True

    async def aflush(self, timeout_s: float) -> bool:
        """`flush` for code on an event loop, whose own work goes on meanwhile.

        Raises:
            BaseException: The first failure of a piece of work, after everything was drained.
        """
        deadline = time.monotonic() + timeout_s
        while pending := self._snapshot():
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                return False
            await asyncio.wait([asyncio.wrap_future(item) for item in pending], timeout=remaining)
        self._raise_first()
        return True

    def stop(self) -> None:
        """End the loop's thread; work still on it is cancelled."""
        with self._lock:
            loop, self._loop = self._loop, None
        if loop is not None and self._pid == os.getpid() and loop.is_running():
            loop.call_soon_threadsafe(loop.stop)

    def _kept(self, future: Future[Any]) -> Future[Any]:
        with self._lock:
            self._forget_parent()
            self._pending.add(future)
        future.add_done_callback(self._done)
        return future

    def _as_future(self, task: Awaitable[object] | Future[Any]) -> Future[Any]:
        if isinstance(task, Future):
            return task
        if isinstance(task, asyncio.Future):
            return _mirror(task)
        if not isinstance(task, Awaitable):
            raise TypeError(f"expected an awaitable or a future, got `{type(task).__name__}`")
        try:
            running = asyncio.get_running_loop()
        except RuntimeError:
            return asyncio.run_coroutine_threadsafe(_as_coroutine(task), self._own_loop())
        return _mirror(running.create_task(_as_coroutine(task)))

    def _own_loop(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            self._forget_parent()
            if self._loop is None:
                loop = asyncio.new_event_loop()
                threading.Thread(target=_run, args=(loop,), name=f"{self._name}-background", daemon=True).start()
                self._loop = loop
            return self._loop

    def renew(self) -> None:
        """Start as a new process would: called in a forked child, where a thread that held the lock does not exist."""
        self._lock = threading.Lock()
        self._forget_parent()

    def _forget_parent(self) -> None:
        # After a fork the parent's threads do not exist here: its loop and its work are not ours.
        if self._pid != os.getpid():
            self._pid = os.getpid()
            self._loop = None
            self._pending = set()
            self._failures = []

    def _snapshot(self) -> set[Future[Any]]:
        with self._lock:
            self._forget_parent()
            abandoned = [item for item in self._pending if isinstance(item, _Mirror) and item.loop.is_closed()]
        for item in abandoned:
            # Closed without cancelling its tasks: they never end.
            item.cancel()
        with self._lock:
            return set(self._pending)

    def _done(self, future: Future[Any]) -> None:
        failure = None if future.cancelled() else future.exception()
        with self._lock:
            self._pending.discard(future)
            if failure is not None:
                self._failures.append(failure)

    def _raise_first(self) -> None:
        with self._lock:
            failures, self._failures = self._failures, []
        if failures:
            raise failures[0]


def _renew_after_fork(background: weakref.ref[Background]) -> None:
    def renew() -> None:
        alive = background()
        if alive is not None:
            alive.renew()

    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=renew)


def _run(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
    finally:
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


async def _as_coroutine(task: Awaitable[object]) -> object:
    return await task


class _Mirror(Future[Any]):
    """A future of a loop that others end.

    Args:
        loop: The loop.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self.loop: asyncio.AbstractEventLoop = loop


def _mirror(task: asyncio.Future[Any]) -> Future[Any]:
    """A thread-safe future that ends as the loop's own does."""
    mirror = _Mirror(task.get_loop())

    def settle(done: asyncio.Future[Any]) -> None:
        if done.cancelled():
            mirror.cancel()
        elif (failure := done.exception()) is not None:
            mirror.set_exception(failure)
        else:
            mirror.set_result(done.result())

    task.add_done_callback(settle)
    return mirror
