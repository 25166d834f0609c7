"""Objects and exceptions that raise, or lie, when they are asked what they are: the call is that of the bare function."""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

import otel_runtime as rt


class Mute(Exception):
    """Nothing can be asked of it, not even its class."""

    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError(f"no {name}")


class Faceless(Exception):
    """Its class cannot be asked for."""

    @property  # type: ignore[misc]  # that is the point
    def __class__(self) -> Any:
        raise RuntimeError("no class")


class Posing(Exception):
    """Says that it is the end of a generator."""

    @property  # type: ignore[misc]  # that is the point
    def __class__(self) -> Any:
        return GeneratorExit


class MuteObject:
    """As `Mute`, but an object."""

    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError(f"no {name}")


class PosingObject:
    """Says that it is a text."""

    @property  # type: ignore[misc]  # that is the point
    def __class__(self) -> Any:
        return str


def called(error: BaseException) -> None:
    def fails() -> None:
        raise error

    rt.tool("work")(fails)()


def awaited(error: BaseException) -> None:
    async def fails() -> None:
        raise error

    # By hand: a task of asyncio cannot end with an exception that hides its class.
    rt.tool("work")(fails)().send(None)


def iterated(error: BaseException) -> None:
    def fails() -> Iterator[int]:
        yield 1
        raise error

    list(rt.tool("work")(fails)())


def iterated_async(error: BaseException) -> None:
    async def fails() -> AsyncIterator[int]:
        yield 1
        raise error

    stream: Any = rt.tool("work")(fails)()
    with pytest.raises(StopIteration):
        stream.__anext__().send(None)
    stream.__anext__().send(None)


def stepped(error: BaseException) -> None:
    class Stream:
        def __iter__(self) -> Any:
            return self

        def __next__(self) -> Any:
            raise error

    def fails() -> Stream:
        return Stream()

    list(rt.agent("work")(fails)())


WAYS: tuple[Callable[[BaseException], None], ...] = (called, awaited, iterated, iterated_async, stepped)


class TestErrors:
    @pytest.mark.parametrize("way", WAYS)
    @pytest.mark.parametrize("kind", [Mute, Faceless, Posing])
    def test_the_very_exception(self, traced: Any, way: Callable[[BaseException], None], kind: type[Exception]) -> None:
        """An exception that will not say what it is leaves as it came, and its span is an error."""
        error, same = kind("no"), False
        try:
            way(error)
        except BaseException as caught:  # noqa: BLE001  # whatever comes is compared
            # Here, so that no failing assertion has to show it.
            same = caught is error
        assert same
        assert [("ERROR", None)] == [
            (span.status.status_code.name, (span.attributes or {}).get("otel_runtime.outcome")) for span in traced.spans()
        ]

    def test_seen_by_a_hook(self, traced: Any) -> None:
        """An exception that has no text reaches its caller while somebody observes the run."""
        seen: list[object] = []

        @traced.runtime.on("trace")  # type: ignore[untyped-decorator]  # of any runtime
        def observe(event: object, context: object) -> None:
            seen.append(event)

        class Wordless(Exception):
            def __str__(self) -> str:
                raise RuntimeError("no text")

        error = Wordless()
        with pytest.raises(Wordless) as caught:
            called(error)
        assert caught.value is error
        assert 2 == len(seen)


class TestArguments:
    @pytest.mark.parametrize("make", [MuteObject, lambda: "gpt-\ud800", lambda: 5])
    def test_a_model_that_is_no_name(self, traced: Any, make: Callable[[], Any]) -> None:
        """What stands where the requested model is looked for need not be a text."""
        given = make()

        @rt.model
        def ask(model: object) -> object:
            return model

        same = ask(given) is given
        assert same
        assert 1 == len(traced.spans())

    def test_a_text_that_answers_for_itself(self, traced: Any) -> None:
        """A text of the application's own class is read without running its code."""

        class Text(str):
            __slots__ = ()

            def _no(self, *args: object) -> Any:
                raise RuntimeError("do not touch")

            __len__ = __bool__ = __str__ = __eq__ = __hash__ = _no

        @rt.agent(session="ticket")
        def support(ticket: str) -> int:
            return 1

        assert 1 == support(Text("T-1"))
        assert "T-1" == (traced.one("invoke_agent support").attributes or {})["gen_ai.conversation.id"]

    @pytest.mark.parametrize("kind", [MuteObject, PosingObject])
    def test_beside_a_plain_one(self, make_world: Any, kind: type[object]) -> None:
        """What lies about its class is shown as its type, and hides no argument beside it."""
        world = make_world(policy=None, capture="SPAN_ONLY")

        @rt.tool
        def read(odd: object, plain: int) -> None: ...

        read(kind(), 7)
        shown = str((world.one("execute_tool read").attributes or {})["gen_ai.tool.call.arguments"])
        assert '"plain":7' in shown
        assert f".{kind.__name__}>" in shown


class TestResults:
    def test_an_awaitable_that_says_nothing(self, traced: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        """A dropped awaitable that raises whatever is asked of it ends its span, and nothing is printed."""
        printed: list[object] = []
        # What others have left says its part before.
        gc.collect()
        monkeypatch.setattr(sys, "unraisablehook", printed.append)

        class Awaitable:
            def __await__(self) -> Any:
                yield

            def __getattr__(self, name: str) -> Any:
                raise RuntimeError(name)

        @rt.tool
        def read() -> Any:
            return Awaitable()

        read()
        gc.collect()
        assert ["closed"] == [(span.attributes or {})["otel_runtime.outcome"] for span in traced.spans()]
        assert [] == printed


class TestClosing:
    @pytest.mark.parametrize("decorate", [lambda fn: fn, rt.tool])
    def test_an_error_of_the_clean_up(self, traced: Any, decorate: Callable[[Any], Any]) -> None:
        """What a body raises while it is closed has the history it has undecorated."""

        def sync() -> Iterator[int]:
            try:
                yield 1
            finally:
                raise ValueError("in the clean-up")

        async def later() -> AsyncIterator[int]:
            try:
                yield 1
            finally:
                raise ValueError("in the clean-up")

        def history(error: BaseException | None) -> list[type[BaseException]]:
            return [] if error is None else [type(error), *history(error.__context__)]

        async def close() -> None:
            stream: Any = decorate(later)()
            await anext(stream)
            await stream.aclose()

        stream: Any = decorate(sync)()
        next(stream)
        with pytest.raises(ValueError, match="clean-up") as caught:
            stream.close()
        with pytest.raises(ValueError, match="clean-up") as caught_later:
            asyncio.run(close())
        assert [ValueError, GeneratorExit] == history(caught.value) == history(caught_later.value)
