"""The methods of a stream object that a decorated function returned are of the kind they were, and say so."""

from __future__ import annotations

import asyncio
import collections.abc
import copy
import inspect
import itertools
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import Any, Self

import httpx
import pytest

import otel_runtime as rt

ASKED: tuple[Callable[[Any], bool], ...] = (
    inspect.iscoroutinefunction,
    inspect.isgeneratorfunction,
    inspect.isasyncgenfunction,
)


class EventStream:
    """A stream as clients of model providers have one."""

    def __init__(self) -> None:
        self.closed: list[str] = []

    def __iter__(self) -> Iterator[int]:
        yield 1

    def close(self, why: str = "done") -> None:
        """Let go of the connection."""
        self.closed.append(why)

    async def aclose(self, why: str = "done") -> str:
        """The same, slowly."""
        await asyncio.sleep(0)
        self.closed.append(why)
        return why

    def iter_texts(self, size: int = 1) -> Iterator[str]:
        """Texts."""
        yield from ["a", "b"][:size]

    async def aiter_texts(self, size: int = 1) -> AsyncIterator[str]:
        """Texts."""
        for text in ["a", "b"][:size]:
            yield text


def told(method: Any) -> tuple[object, ...]:
    """What `inspect` says of a method."""
    return (method.__name__, str(inspect.signature(method)), *(ask(method) for ask in ASKED))


@rt.model("m")
def stream_of(make: Callable[[], Any]) -> Any:
    """What a client returns."""
    return make()


def response() -> httpx.Response:
    """A response whose content is still to be read."""
    return httpx.Response(200, stream=httpx.ByteStream(b"a"))


class Numbers:
    """An iterator and nothing else."""

    def __init__(self) -> None:
        self.left = 3

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> int:
        if not self.left:
            raise StopIteration
        self.left -= 1
        return self.left


class Many(Numbers):
    """One that has a length, a truth value and an item, can be copied, and is equal to others like it but has no hash."""

    def __len__(self) -> int:
        return self.left

    def __getitem__(self, place: int) -> int:
        return place

    def __copy__(self) -> str:
        return "copied"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Many)

    __hash__ = None  # type: ignore[assignment]  # as Python sets it beside `__eq__`


class TestWhatStreamsCanDo:
    """The protocols of a stream object are those it had."""

    @pytest.mark.parametrize("make", [Numbers, Many, EventStream, lambda: map(int, "210")])
    @pytest.mark.usefixtures("traced")
    def test_it_has_no_other_protocols(self, make: Callable[[], Any]) -> None:
        """It has no special method, and is an instance of no abstract class, that it was not before: a length, a place in `with`, ..."""
        plain, found = make(), stream_of(make)
        # The one that is deprecated warns when it is asked.
        known = [getattr(collections.abc, name) for name in sorted({*collections.abc.__all__} - {"ByteString"})]
        kinds = [*known, AbstractContextManager, AbstractAsyncContextManager]
        assert [isinstance(found, kind) for kind in kinds] == [isinstance(plain, kind) for kind in kinds]
        names = {name for cls in (dict, int, Many, AbstractContextManager, AbstractAsyncContextManager) for name in dir(cls)}
        # What the classes of any two objects may differ in; annotations they have once somebody has asked.
        names -= {"__annotations__", "__firstlineno__", "__module__", "__slots__", "__static_attributes__", "__weakref__"}
        assert {name for name in names if hasattr(found, name)} == {name for name in names if hasattr(plain, name)}
        assert (type(copy.copy(found)), bool(found)) == (type(copy.copy(plain)), bool(plain))

    @pytest.mark.parametrize("make", [Numbers, lambda: map(int, "210"), lambda: itertools.chain([2], iter([1, 0]))])
    @pytest.mark.usefixtures("traced")
    def test_it_can_be_read_by_two(self, make: Callable[[], Any]) -> None:
        """`itertools.tee` gives all items to both readers."""
        first, second = itertools.tee(stream_of(make))
        assert (list(first), list(second)) == ([2, 1, 0], [2, 1, 0])

    @pytest.mark.usefixtures("traced")
    def test_what_it_defines_it_does(self) -> None:
        """Its own special methods and attributes are reached."""
        found = stream_of(Many)
        assert (len(found), found[7], found == Many(), found != Many(), 1 in found) == (3, 7, True, False, True)
        with pytest.raises(TypeError, match="unhashable"):
            hash(found)
        found.left = 5
        assert (found.left, vars(found)) == (5, {"left": 5})


class TestMethodsOfStreams:
    """Asked of the class and called."""

    @pytest.mark.parametrize(
        ("make", "names"),
        [
            (EventStream, ["close", "aclose", "iter_texts", "aiter_texts"]),
            (response, ["close", "aclose", "read", "aread", "iter_bytes", "aiter_bytes", "iter_lines", "aiter_lines"]),
        ],
    )
    @pytest.mark.usefixtures("traced")
    def test_they_say_what_they_are(self, make: Callable[[], Any], names: list[str]) -> None:
        """Name, signature and kind are those of the undecorated object's: somebody decides by them whether to await."""
        plain, found = make(), stream_of(make)
        assert [told(getattr(found, name)) for name in names] == [told(getattr(plain, name)) for name in names]
        found.close()

    def test_they_do_what_they_did(self, traced: Any) -> None:
        """Arguments and results pass, and the call ends with each."""

        async def read(stream: Any) -> list[str]:
            return [text async for text in stream.aiter_texts(size=2)]

        streams = [stream_of(EventStream) for _ in range(4)]
        streams[0].close("mine")
        seen = [asyncio.run(streams[1].aclose("mine")), list(streams[2].iter_texts(2)), asyncio.run(read(streams[3]))]
        assert seen == ["mine", ["a", "b"], ["a", "b"]]
        assert [stream.closed for stream in streams[:2]] == [["mine"], ["mine"]]
        assert [span.end_time is not None for span in traced.spans()] == [True] * 4
