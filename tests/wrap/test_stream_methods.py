"""The methods of a stream object that a decorated function returned are of the kind they were, and say so."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

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
