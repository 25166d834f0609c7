"""wait_until: nothing is forgotten, failures come last, time is bounded."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from otel_runtime.hooks.background import Background


@pytest.fixture
def background() -> Iterator[Background]:
    """Work in flight."""
    made = Background("test")
    yield made
    made.stop()


class TestFlush:
    """A flush waits for everything."""

    def test_tasks_added_by_tasks_are_included(self, background: Background) -> None:
        """The flush ends when no work is left, whoever added it."""
        seen: list[str] = []

        async def second() -> None:
            seen.append("second")

        async def first() -> None:
            background.add(second())
            seen.append("first")

        background.add(first())
        assert background.flush(60) is True
        assert sorted(seen) == ["first", "second"]

    def test_everything_is_drained_before_the_first_failure_is_raised(self, background: Background) -> None:
        """One failing task does not keep the others from finishing."""
        seen: list[str] = []

        async def fail() -> None:
            raise ValueError("first")

        async def work() -> None:
            await asyncio.sleep(0.05)
            seen.append("done")

        background.add(fail())
        background.add(work())
        with pytest.raises(ValueError, match="first"):
            background.flush(60)
        assert seen == ["done"]
        assert background.flush(60) is True

    def test_is_bounded(self, background: Background) -> None:
        """Work that does not end is given up, and said so."""
        never: Future[None] = Future()
        background.add(never)
        assert background.flush(0.05) is False
        never.set_result(None)

    def test_concurrent_flushes_share_the_work(self, background: Background) -> None:
        """Several flushes wait for the same tasks and all return."""
        gate: Future[None] = Future()
        background.add(gate)
        with ThreadPoolExecutor(3) as pool:
            flushes = [pool.submit(background.flush, 5.0) for _ in range(3)]
            threading.Timer(0.05, gate.set_result, [None]).start()
            assert [flush.result() for flush in flushes] == [True, True, True]

    def test_on_a_loop(self, background: Background) -> None:
        """Work handed in on a running loop runs there and can be awaited there."""
        seen: list[threading.Thread] = []

        async def work() -> None:
            seen.append(threading.current_thread())

        async def program() -> bool:
            background.add(work())
            return await background.aflush(60)

        assert asyncio.run(program()) is True
        assert seen == [threading.current_thread()]

    def test_a_loop_that_was_closed(self, background: Background) -> None:
        """Work of a loop that was closed under it is not waited for: it never ends."""
        loop = asyncio.new_event_loop()
        # asyncio says that a task was destroyed.
        loop.set_exception_handler(lambda *_: None)
        never = loop.create_future()

        async def main() -> Future[object]:
            async def work() -> None:
                await never

            added = background.add(work())
            await asyncio.sleep(0)
            return added

        added = loop.run_until_complete(main())
        loop.close()
        assert background.flush(30)
        assert added.cancelled()

    def test_other_things_are_refused(self, background: Background) -> None:
        """What cannot be waited for is a mistake."""
        with pytest.raises(TypeError, match="expected an awaitable or a future"):
            background.add(5)  # type: ignore[arg-type]  # the mistake under test


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
class TestFork:
    """A forked child starts with nothing of its parent's."""

    def test_while_the_lock_is_held(self, background: Background) -> None:
        """A fork in the middle of another thread's work does not hang the child's flush."""
        never: Future[None] = Future()
        background.add(never)
        program = (
            "import os, sys, threading\n"
            "from concurrent.futures import Future\n"
            "from otel_runtime.hooks.background import Background\n"
            "background = Background('t')\n"
            "background.add(Future())\n"
            "background._lock.acquire()\n"
            "child = os.fork()\n"
            "if child == 0:\n"
            "    os._exit(0 if background.flush(60) else 3)\n"
            "sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n"
        )
        done = subprocess.run([sys.executable, "-W", "ignore", "-c", program], capture_output=True, text=True, check=False, timeout=120)
        assert (done.returncode, done.stderr) == (0, "")
        never.set_result(None)
