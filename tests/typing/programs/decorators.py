"""Read by mypy and pyright, never run: decorated callables keep their own types, bare and called.

A line that must be refused carries both checkers' ignore; an ignore that is not needed is itself an error in both.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator
from typing import TypeVar, assert_type

import otel_runtime as rt

Item = TypeVar("Item")

# --- bare ------------------------------------------------------------------------------------------------------------------------------


@rt.tool
def lookup(order: str, *, limit: int = 10) -> dict[str, int]:
    return {order: limit}


assert_type(lookup("A-1"), dict[str, int])
assert_type(lookup("A-1", limit=2), dict[str, int])
lookup(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
lookup()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
lookup("A-1", limits=2)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


@rt.agent
async def support(question: str) -> str:
    return question


@rt.workflow
def nightly() -> None:
    return None


@rt.model
def tokens(prompt: str) -> Iterator[str]:
    yield prompt


@rt.model
def counted(prompt: str) -> Generator[str, int, bool]:
    sent = yield prompt
    return sent > 0


@rt.model
async def stream(prompt: str) -> AsyncIterator[str]:
    yield prompt


@rt.model
async def talk(prompt: str) -> AsyncGenerator[str, int]:
    _sent = yield prompt


assert_type(nightly(), None)
assert_type(tokens("hi"), Iterator[str])
assert_type(counted("hi"), Generator[str, int, bool])
assert_type(stream("hi"), AsyncIterator[str])
assert_type(talk("hi"), AsyncGenerator[str, int])


async def awaiting() -> None:
    assert_type(await support("why?"), str)
    await support(3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    async for item in stream("hi"):
        assert_type(item, str)


# --- called ----------------------------------------------------------------------------------------------------------------------------


@rt.tool("refund")
def refund(order: str, amount: int) -> bool:
    return bool(order) and amount > 0


@rt.tool(guard="required")
async def send(to: list[str]) -> int:
    return len(to)


@rt.agent(session="conversation_id")
def chat(conversation_id: str) -> bytes:
    return conversation_id.encode()


@rt.model("gpt-5")
def ask(prompt: str) -> str:
    return prompt


@rt.workflow("release")
async def release(version: tuple[int, int]) -> float:
    return float(version[0])


assert_type(refund("A-1", 5), bool)
assert_type(chat("c1"), bytes)
assert_type(ask("hi"), str)
refund("A-1")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
refund("A-1", "5")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def awaiting_called() -> None:
    assert_type(await send(["a"]), int)
    assert_type(await release((1, 2)), float)
    await send("a")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


# --- in classes ------------------------------------------------------------------------------------------------------------------------


class Shop:
    @rt.tool
    def price(self, item: str) -> int:
        return len(item)

    @rt.tool("reserve")
    async def reserve(self, item: str, count: int = 1) -> list[str]:
        return [item] * count

    @rt.tool
    @classmethod
    def open(cls, name: str) -> Shop:
        return cls()

    @rt.tool
    @staticmethod
    def version() -> str:
        return "1"

    @classmethod
    @rt.tool
    def close(cls, name: str) -> int:
        return len(name)

    @staticmethod
    @rt.tool("ping")
    def ping(count: int) -> int:
        return count

    @property
    @rt.tool
    def stock(self) -> int:
        return 1


shop = Shop()
assert_type(shop.price("pen"), int)
assert_type(Shop.open("main"), Shop)
assert_type(Shop.version(), str)
assert_type(Shop.close("main"), int)
assert_type(shop.ping(1), int)
assert_type(shop.stock, int)
shop.price(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def awaiting_method() -> None:
    assert_type(await shop.reserve("pen", count=2), list[str])
    await shop.reserve("pen", count="2")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


# --- type parameters survive ---------------------------------------------------------------------------------------------------------------


@rt.tool
def newest(items: list[Item]) -> Item:
    return items[-1]


assert_type(newest([1, 2]), int)
assert_type(newest(["a"]), str)
