"""A call that is cancelled, or interrupted by Ctrl-C, at any point: it gives back what it took, or what it did is recorded; nothing stays open."""

from __future__ import annotations

import asyncio
import gc
import linecache
import sys
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from opentelemetry import trace

import otel_runtime as rt
from otel_runtime.wrap import decorating
from otel_runtime.wrap.scope import current_scope

POLICY = """
version: 1
default: allow
rules:
  - {id: pay, tool: [pay, pay_bit_by_bit], decision: require-approval, approval: {approvers: ["role:finance"]}}
  - {id: day, tool: [pay, pay_bit_by_bit, get], over: {sum: args.amount, max: 100000, by: all, per: 1d}, decision: deny}
"""
RAN: list[int] = []


@pytest.fixture(autouse=True)
def _nothing_ran() -> None:
    RAN.clear()


@rt.tool
async def pay(amount: int) -> int:
    """Pay."""
    RAN.append(amount)
    await asyncio.sleep(0)
    return amount


@rt.tool
async def pay_bit_by_bit(amount: int) -> AsyncIterator[int]:
    """Pay."""
    RAN.append(amount)
    yield 1
    await asyncio.sleep(0)
    yield 2


async def pay_in_parts(amount: int) -> None:
    async for _ in pay_bit_by_bit(amount):
        pass


async def pay_in_a_block(amount: int) -> None:
    async with rt.tool("pay", args={"amount": amount}):
        RAN.append(amount)


@rt.tool
def get(amount: int) -> int:
    """Get."""
    RAN.append(amount)
    return amount


@rt.tool("get")
def get_bit_by_bit(amount: int) -> Iterator[int]:
    """Get."""
    RAN.append(amount)
    yield amount


def get_in_parts(amount: int) -> None:
    list(get_bit_by_bit(amount))


@rt.tool("pay")
def pay_at_once(amount: int) -> int:
    """Pay."""
    RAN.append(amount)
    return amount


class Cancelled:
    """Runs a coroutine in the task that awaits it, and cancels that task at one of its awaits.

    Args:
        inner: The coroutine.
        at: Which of its awaits, the first is 1.
        late: True cancels when what is awaited is done already, and before the coroutine hears of it.
    """

    def __init__(self, inner: Coroutine[Any, Any, object], at: int, *, late: bool) -> None:
        self.inner, self.at, self.late, self.awaits = inner, at, late, 0

    def __await__(self) -> Generator[Any, Any, object]:
        error: BaseException | None = None
        while True:
            try:
                future = self.inner.send(None) if error is None else self.inner.throw(error)
            except StopIteration as stop:
                return stop.value
            self.awaits += 1
            task = asyncio.current_task()
            if self.awaits == self.at and task is not None:
                if self.late and future is not None:
                    future.add_done_callback(lambda _, task=task: task.cancel())
                else:
                    task.cancel()
            error = None
            try:
                yield future
            except BaseException as thrown:  # noqa: BLE001  # handed on
                error = thrown


class Interrupted:
    """Raises KeyboardInterrupt before one line of this library's code on the way of a call.

    Args:
        at: Which of the lines that run, the first is 1.
    """

    rooms = tuple(
        str(Path(decorating.__file__).parent / name) for name in ("admission.py", "approval.py", "bodies.py", "endings.py", "effects.py")
    )

    def __init__(self, at: int) -> None:
        self.at, self.lines = at, 0

    def __call__(self, frame: FrameType, event: str, argument: object) -> Any:
        return self.line if frame.f_code.co_filename in self.rooms else None

    def line(self, frame: FrameType, event: str, argument: object) -> Any:
        # At `try:` itself no signal is ever handled: it is no instruction.
        here = event == "line" and linecache.getline(frame.f_code.co_filename, frame.f_lineno).strip() != "try:"
        self.lines += here
        if here and self.lines == self.at:
            sys.settrace(None)
            raise KeyboardInterrupt
        return self.line


@pytest.fixture
def tracing() -> Iterator[Callable[[Any], None]]:
    """`sys.settrace`, put back afterwards; what the garbage collector would end meanwhile is no part of the call."""
    before = sys.gettrace()
    gc.disable()
    yield sys.settrace
    gc.enable()
    sys.settrace(before)


def told(world: Any) -> tuple[list[str], int, int]:
    """States of the requests, newest first; reservations that stand; what the day has cost."""
    assert world.runtime.flush(60)
    with world.approvals.database.reading() as connection:
        holds = connection.execute("SELECT count(*) FROM facts_holds").fetchone()[0]
        spent = connection.execute("SELECT coalesce(sum(CAST(total AS INTEGER)), 0) FROM facts_counters").fetchone()[0]
    return [request.state for request in world.approvals.list(limit=3)], holds, spent


def yes_man(world: Any) -> None:
    """Everything is approved the moment it is asked."""
    world.runtime.on("approval")(lambda request, _: world.approvals.answer(request.id, approver="os:alice", approved=True))


class TestCancelled:
    @pytest.mark.parametrize("late", [False, True])
    @pytest.mark.parametrize("call", [pay, pay_in_parts, pay_in_a_block])
    def test_at_every_await(self, make_world: Any, call: Any, late: bool) -> None:
        """Whichever await a guarded call is cancelled at, it ran at most once, is counted when it ran and else not, and its request is no riddle."""
        world = make_world(POLICY, wait_at_most=100, facts="sqlite")
        yes_man(world)

        async def cancelled(at: int) -> int:
            steps = Cancelled(call(7), at, late=late)

            async def run() -> None:
                before = trace.get_current_span(), current_scope()
                try:
                    await steps
                finally:
                    assert (trace.get_current_span(), current_scope()) == before

            await asyncio.gather(asyncio.create_task(run()), return_exceptions=True)
            return steps.awaits

        at, awaits, ran = 0, 1, 0
        while awaits >= at:
            at += 1
            awaits = asyncio.run(cancelled(at))
            states, holds, spent = told(world)
            assert len(RAN) - ran <= 1
            ran = len(RAN)
            assert (holds, spent) == (0, 7 * ran), f"cancelled at await {at}"
            assert "executing" not in states, f"cancelled at await {at}"
        assert at > 5
        assert told(world)[0].count("completed") >= 1

    def test_while_a_thread_reserves(self, make_world: Any) -> None:
        """What a thread reserves after its task was cancelled is given back by the thread."""
        world = make_world(POLICY, facts="sqlite")
        real, reserving, cancelled = world.runtime._active.guard.facts, threading.Event(), threading.Event()

        class Slow:
            def __getattr__(self, name: str) -> Any:
                return getattr(real, name)

            def begin(self, start: Any, now: Any) -> Any:
                reserving.set()
                assert cancelled.wait(60)
                return real.begin(start, now)

        object.__setattr__(world.runtime._active.guard, "facts", Slow())

        @rt.tool("get")
        async def get_later(amount: int) -> None:
            RAN.append(amount)

        async def main() -> None:
            task = asyncio.create_task(get_later(7))
            await asyncio.to_thread(reserving.wait, 60)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            cancelled.set()

        # Its end waits for the threads.
        asyncio.run(main())
        assert (told(world), RAN) == (([], 0, 0), [])


class TestInterrupted:
    @pytest.mark.parametrize("fn", [get, get_in_parts, pay_at_once])
    def test_at_every_line(self, make_world: Any, tracing: Callable[[Any], None], fn: Any) -> None:
        """Wherever Ctrl-C comes on the way of a synchronous call, no reservation stands for good, no request executes for ever, and the next call works."""
        world = make_world(POLICY, wait_at_most=0, facts="sqlite")
        at, lines = 0, 1
        while lines >= at:
            at += 1
            line, before = Interrupted(at), (trace.get_current_span(), current_scope(), told(world)[2], len(RAN))
            with rt.session(f"s{at}"), rt.call(id="c"):
                if fn is pay_at_once:
                    with pytest.raises(rt.ApprovalPending) as asked:
                        fn(7)
                    world.approvals.answer(asked.value.request_id, approver="os:alice", approved=True)
                tracing(line)
                try:
                    fn(7)
                except KeyboardInterrupt:
                    pass
                finally:
                    tracing(None)
            lines = line.lines
            states, holds, spent = told(world)
            assert (trace.get_current_span(), current_scope()) == before[:2]
            assert len(RAN) - before[3] <= 1
            # One that was cut off between its permit and its body is counted: a limit may be reached early, never passed.
            assert (holds, spent - before[2]) in [(0, 7), (0, 7 * (len(RAN) - before[3]))], f"interrupted at line {at}"
            assert "executing" not in states, f"interrupted at line {at}"
        assert at > 50
