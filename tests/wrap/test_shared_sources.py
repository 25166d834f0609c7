"""A generator that a function hands out and somebody else holds too stays what it was to them."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator
from contextlib import aclosing, closing
from typing import Any

import pytest

import otel_runtime as rt


def numbers() -> Generator[int, None, None]:
    """Three items."""
    yield from range(3)


async def numbers_slowly() -> AsyncGenerator[int, None]:
    """Three items."""
    for number in range(3):
        yield number


async def one() -> int:
    """A number."""
    return 1


class Feed:
    """An object that keeps its generators and hands them out."""

    def __init__(self) -> None:
        self.kept = numbers()
        self.kept_slow = numbers_slowly()

    @rt.tool
    def items(self) -> Iterator[int]:
        """What is left."""
        return self.kept

    @rt.tool
    def items_slowly(self) -> AsyncIterator[int]:
        """What is left."""
        return self.kept_slow

    @rt.tool
    async def items_later(self) -> AsyncIterator[int]:
        """What is left."""
        return self.kept_slow


@rt.tool
def same(given: Any) -> Any:
    """What was given."""
    return given


@rt.tool
async def same_later(given: Any) -> Any:
    """What was given."""
    return given


class TestKeptGenerators:
    """Generators that an object keeps."""

    def test_a_dropped_one_goes_on(self, traced: Any) -> None:
        """Who reads on after a loop was left early gets the items that are left; each reader's span ended."""
        feed = Feed()
        for _ in feed.items():
            break
        assert list(feed.items()) == [1, 2]
        assert [span.end_time is not None for span in traced.spans()] == [True, True]

    @pytest.mark.parametrize("awaited", [False, True])
    def test_a_dropped_async_one_goes_on(self, traced: Any, *, awaited: bool) -> None:
        """The same for async generators, which the event loop closes when they are dropped."""

        async def read() -> list[int]:
            feed = Feed()
            stream = await feed.items_later() if awaited else feed.items_slowly()
            async for _ in stream:
                break
            closers = asyncio.all_tasks()
            del stream
            # What the event loop closes, it closes in tasks that it starts in its next round.
            await asyncio.sleep(0)
            await asyncio.gather(*(asyncio.all_tasks() - closers))
            return [number async for number in feed.items_slowly()]

        assert asyncio.run(read()) == [1, 2]
        assert [span.end_time is not None for span in traced.spans()] == [True, True]

    @pytest.mark.usefixtures("traced")
    def test_a_closed_one_is_closed(self) -> None:
        """Who closes it closes it for all, as undecorated."""
        feed = Feed()
        with closing(feed.items()) as stream:  # type: ignore[type-var]  # a generator, which can be closed
            next(stream)
        assert list(feed.items()) == []

    @pytest.mark.usefixtures("traced")
    def test_a_closed_async_one_is_closed(self) -> None:
        """The same for async generators."""

        async def read() -> list[int]:
            feed = Feed()
            async with aclosing(feed.items_slowly()) as stream:  # type: ignore[type-var]  # as above
                await anext(stream)
            return [number async for number in feed.items_slowly()]

        assert asyncio.run(read()) == []


class TestArgumentsGivenBack:
    """What the caller made, gave and got back."""

    @pytest.mark.parametrize("make", [numbers, numbers_slowly, one])
    def test_it_is_the_same_object(self, traced: Any, make: Callable[[], Any]) -> None:
        """It is handed back itself, and the call is over."""
        given = make()
        assert same(given) is given
        assert same(given=given) is given
        assert asyncio.run(same_later(given)) is given
        assert [span.end_time is not None for span in traced.spans()] == [True] * 3
        if inspect.iscoroutine(given):
            given.close()
