"""Generators and async generators: their protocol, their ends, what is current meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
from collections.abc import AsyncIterator, Iterator
from typing import Any

from opentelemetry import trace

from benchmarks.peer_checks import Tools, check, collect, listening, outcome, variable


@check("send, throw and the return value of a generator", "ok")
def _(t: Tools) -> object:
    @t.stream
    def f() -> Any:
        got = yield 1
        try:
            yield got
        except ValueError as error:
            yield error.args
        return "returned"

    made = f()
    steps = [next(made), made.send("sent"), made.throw(ValueError("thrown"))]
    return steps, outcome(lambda: next(made))


@check("closing a generator early ends the span once, not as an error", "ok")
def _(t: Tools) -> object:
    log: list[str] = []

    @t.stream
    def f() -> Iterator[int]:
        try:
            yield 1
            yield 2
        finally:
            log.append("closed")

    made = f()
    return next(made), made.close(), log


@check("asend, athrow and aclose of an async generator", "ok")
def _(t: Tools) -> object:
    log: list[str] = []

    @t.stream
    async def f() -> AsyncIterator[Any]:
        try:
            got = yield 1
            try:
                yield got
            except ValueError as error:
                yield error.args
        finally:
            log.append("closed")

    async def program() -> object:
        made = f()
        steps = [await anext(made), await made.asend("sent"), await made.athrow(ValueError("thrown"))]
        await made.aclose()
        return steps

    return asyncio.run(program()), log


@check("breaking out of an async generator: ended once, no error, nothing logged", "ok")
def _(t: Tools) -> object:
    @t.stream
    async def f() -> AsyncIterator[int]:
        for number in range(5):
            yield number

    async def program() -> None:
        async for _ in f():
            break
        gc.collect()
        await asyncio.sleep(0.01)

    with listening() as said:
        asyncio.run(program())
        gc.collect()
    return said


@check("a stream dropped half-read: ended by the garbage collector, nothing logged", "ok")
def _(t: Tools) -> object:
    @t.stream
    def f() -> Iterator[int]:
        yield 1
        yield 2

    with listening() as said:
        made = f()
        next(made)
        del made
        gc.collect()
    return said


@check("a stream that nobody reads runs nothing and leaks no span")
def _(t: Tools) -> object:
    ran: list[int] = []

    @t.stream
    def f() -> Iterator[int]:
        ran.append(1)
        yield 1

    f()
    gc.collect()
    return ran, trace.get_current_span().get_span_context().is_valid


@check("the consumer's current span is untouched between items of a generator", "ok")
def _(t: Tools) -> object:
    @t.stream
    def f() -> Iterator[int]:
        yield 1
        yield 2

    return [trace.get_current_span().get_span_context().is_valid for _ in f()]


@check("the consumer's current span is untouched between items of an async generator", "ok")
def _(t: Tools) -> object:
    @t.stream
    async def f() -> AsyncIterator[int]:
        yield 1
        yield 2

    async def program() -> object:
        return [trace.get_current_span().get_span_context().is_valid async for _ in f()]

    return asyncio.run(program())


@check("children inside a generator hang below its span", "ok", "ok", nested=True)
def _(t: Tools) -> object:
    @t.stream
    def f() -> Iterator[int]:
        yield 1
        t.wrap(lambda: None)()
        yield 2

    return list(f())


@check("children inside an async generator hang below its span", "ok", "ok", nested=True)
def _(t: Tools) -> object:
    @t.stream
    async def f() -> AsyncIterator[int]:
        yield 1
        t.wrap(lambda: None)()
        yield 2

    return asyncio.run(collect(f()))


@check("two streams read in turn are two roots", "ok", "ok", distinct=True)
def _(t: Tools) -> object:
    @t.stream
    def f(n: int) -> Iterator[int]:
        yield n
        yield n + 1

    one, two = f(1), f(10)
    return [next(one), next(two), next(one), next(two), list(one), list(two)]


@check("context variables cross in both directions of a generator", "ok")
def _(t: Tools) -> object:
    @t.stream
    def f() -> Iterator[str]:
        yield variable.get()
        variable.set("inside")
        yield variable.get()

    def program() -> object:
        found = []
        for item in f():
            found += [item, variable.get()]
            variable.set("outside")
        return found

    return contextvars.copy_context().run(program)


@check("context variables cross in both directions of an async generator", "ok")
def _(t: Tools) -> object:
    @t.stream
    async def f() -> AsyncIterator[str]:
        yield variable.get()
        variable.set("inside")
        yield variable.get()

    async def program() -> object:
        found = []
        async for item in f():
            found += [item, variable.get()]
            variable.set("outside")
        return found

    return contextvars.copy_context().run(lambda: asyncio.run(program()))


@check("@contextmanager above", "ok")
def _(t: Tools) -> object:
    @contextlib.contextmanager
    @t.stream
    def f() -> Iterator[int]:
        yield 1

    with f() as value:
        return value


@check("@asynccontextmanager above", "ok")
def _(t: Tools) -> object:
    @contextlib.asynccontextmanager
    @t.stream
    async def f() -> AsyncIterator[int]:
        yield 1

    async def program() -> object:
        async with f() as value:
            return value

    return asyncio.run(program())


@check("a timeout around an async generator's items, in the consumer's own task", "ok")
def _(t: Tools) -> object:
    @t.stream
    async def f() -> AsyncIterator[object]:
        async with asyncio.timeout(5):
            yield asyncio.current_task() is task[0], len(asyncio.all_tasks())
            yield asyncio.current_task() is task[0]

    task: list[Any] = []

    async def program() -> object:
        task.append(asyncio.current_task())
        return await collect(f())

    return asyncio.run(program())


@check("a consumer that is cancelled: the stream's span ends, not as an error", "ok")
def _(t: Tools) -> object:
    @t.stream
    async def f() -> AsyncIterator[int]:
        yield 1
        await asyncio.sleep(30)

    async def program() -> object:
        task = asyncio.ensure_future(collect(f()))
        await asyncio.sleep(0.02)
        task.cancel()
        return (await asyncio.gather(task, return_exceptions=True))[0].__class__.__name__

    return asyncio.run(program())
