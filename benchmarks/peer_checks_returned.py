"""What still runs when a function has returned: coroutines, generators, the stream objects of clients."""

from __future__ import annotations

import asyncio
import inspect
import typing
from collections.abc import AsyncIterator, Iterator
from typing import Any

from benchmarks.peer_checks import Tools, check, collect, outcome


async def later() -> int:
    """A coroutine."""
    await asyncio.sleep(0)
    return 5


class Chunks:
    """A stream object as a provider's client has one."""

    def __init__(self) -> None:
        self.left, self.response, self.closed = 2, "headers", False

    def __iter__(self) -> Chunks:
        return self

    def __next__(self) -> int:
        if not self.left:
            raise StopIteration
        self.left -= 1
        return self.left

    def __enter__(self) -> typing.Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Say that it was."""
        self.closed = True


def open_stream() -> Chunks:
    """As a client's method gives one."""
    return Chunks()


class LateChunks:
    """The same, asynchronous."""

    def __init__(self) -> None:
        self.left, self.response = 2, "headers"

    def __aiter__(self) -> LateChunks:
        return self

    async def __anext__(self) -> int:
        if not self.left:
            raise StopAsyncIteration
        self.left -= 1
        return self.left


@check("a sync function that returns a coroutine: the span is as long as it runs", "ok")
def _(t: Tools) -> object:
    def give() -> Any:
        return later()

    async def program() -> object:
        waiting = t.wrap(give)()
        return t.lasts(), inspect.iscoroutine(waiting), await waiting

    return asyncio.run(program())


@check("a sync function that returns a failing coroutine: an error", "error")
def _(t: Tools) -> object:
    async def fails() -> None:
        await asyncio.sleep(0)
        raise ValueError("late")

    def give() -> Any:
        return fails()

    async def program() -> None:
        await t.wrap(give)()

    return outcome(lambda: asyncio.run(program()))


@check("a sync function that returns a generator: the span lasts until it is read", "ok")
def _(t: Tools) -> object:
    def items() -> Iterator[int]:
        yield 1
        yield 2

    def give() -> Any:
        return items()

    made = t.stream(give)()
    return next(made), t.lasts(), list(made)


@check("an async function that returns an async generator: the span lasts until it is read", "ok")
def _(t: Tools) -> object:
    async def items() -> AsyncIterator[int]:
        yield 1
        yield 2

    async def give() -> AsyncIterator[int]:
        return items()

    async def program() -> object:
        made = await t.stream(give)()
        return await anext(made), t.lasts(), await collect(made)

    return asyncio.run(program())


@check("a function that returns a client's stream: it is itself, and the span lasts until it is read", "ok")
def _(t: Tools) -> object:
    made = t.stream(open_stream)()
    return next(made), t.lasts(), isinstance(made, Chunks), made.response, list(made), made.closed


@check("such a stream as a context manager, left early", "ok")
def _(t: Tools) -> object:
    with t.stream(open_stream)() as made:
        found = next(made), t.lasts()
    return found, made.closed, isinstance(made, Chunks)


@check("an async function that returns a client's async stream", "ok")
def _(t: Tools) -> object:
    async def give() -> LateChunks:
        return LateChunks()

    async def program() -> object:
        made = await t.stream(give)()
        return await anext(made), t.lasts(), isinstance(made, LateChunks), made.response, await collect(made)

    return asyncio.run(program())


@check("a result is handed back as it is, an iterator unread", "ok", "ok", "ok")
def _(t: Tools) -> object:
    back = t.wrap(lambda value: value)
    values: list[Any] = [[1], {"a": 1}]
    return [back(value) is value for value in values], list(back(iter([1, 2])))
