"""Read by mypy and pyright, never run: whatever can be decorated keeps its own type, whichever way it is written."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from typing import assert_type

import otel_runtime as rt
from otel_runtime.wrap.threads import propagate

# --- objects with __call__, sync and async -----------------------------------------------------------------------------------------------


class Search:
    limit = 3

    def __call__(self, query: str) -> list[str]:
        return [query] * self.limit


class SlowSearch:
    async def __call__(self, query: str) -> list[str]:
        return [query]


search = rt.tool(Search())
slow_search = rt.tool("slow_search")(SlowSearch())
assert_type(search, Search)
assert_type(search("pens"), list[str])
assert_type(search.limit, int)
search(3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def searching() -> None:
    assert_type(await slow_search("pens"), list[str])
    await slow_search(3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


# --- partials, bound methods, builtins, lambdas ------------------------------------------------------------------------------------------


def refund(order: str, amount: int) -> bool:
    return bool(order) and amount > 0


class Shop:
    def price(self, item: str) -> int:
        return len(item)


half = rt.tool(functools.partial(refund, amount=5))
price = rt.tool(Shop().price)
length: Callable[[str], int] = rt.tool(lambda text: len(text) + 1)
assert_type(half("A-1"), bool)
assert_type(price("pen"), int)
assert_type(length("x"), int)
price(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

# --- classes -----------------------------------------------------------------------------------------------------------------------------


@rt.tool
class Session:
    def __init__(self, name: str) -> None:
        self.name = name


@rt.agent("worker")
class Worker(Session):
    def __init__(self) -> None:
        super().__init__("worker")


assert_type(Session("a"), Session)
assert_type(Session("a").name, str)
assert_type(Worker(), Worker)
Session(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

# --- context managers --------------------------------------------------------------------------------------------------------------------


@contextmanager
@rt.tool
def opened(path: str) -> Generator[bytes]:
    yield path.encode()


@rt.agent
@contextmanager
def working(on: str) -> Generator[int]:
    yield len(on)


@asynccontextmanager
@rt.agent("slowly")
async def working_slowly(on: str) -> AsyncGenerator[int]:
    yield len(on)


def entered() -> None:
    with opened("x") as content, working("y") as count:
        assert_type(content, bytes)
        assert_type(count, int)
    opened(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def entered_slowly() -> None:
    async with working_slowly("y") as count:
        assert_type(count, int)


# --- functions that return what still runs -------------------------------------------------------------------------------------------------


async def fetch(url: str) -> bytes:
    return url.encode()


@rt.tool
def fetching(url: str) -> Coroutine[object, object, bytes]:
    return fetch(url)


@rt.tool
def started(url: str) -> asyncio.Task[bytes]:
    return asyncio.ensure_future(fetch(url))


@rt.model
async def streamed(prompt: str) -> AsyncIterator[str]:
    async def words() -> AsyncIterator[str]:
        yield prompt

    return words()


async def awaiting() -> None:
    assert_type(await fetching("x"), bytes)
    assert_type(await started("x"), bytes)
    async for word in await streamed("x"):
        assert_type(word, str)


# --- decorated twice, and a callback that is handed on -------------------------------------------------------------------------------------


@rt.tool(tags=["pays"])
@rt.tool("pay")
def pay(amount: int) -> str:
    return str(amount)


async def run(callback: Callable[[int], str], later: Callable[[str], Awaitable[bytes]]) -> None:
    with ThreadPoolExecutor() as pool:
        assert_type(pool.submit(callback, 1).result(), str)
        assert_type(pool.submit(propagate(callback), 1).result(), str)
    assert_type(await later("x"), bytes)


async def handed_on() -> None:
    await run(pay, rt.tool(fetch))
    await run(rt.tool(fetch), rt.tool(fetch))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
