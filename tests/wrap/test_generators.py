"""Generators: the span is attached per step, never across a yield, and ends once."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Generator, Iterator
from typing import Any

import pytest
from opentelemetry import trace

import otel_runtime as rt
from otel_runtime.wrap.scope import current_scope


def current_name() -> str | None:
    """Name of the current span."""
    return getattr(trace.get_current_span(), "name", None)


@rt.tool
def plain(a: int) -> int:
    """A tool inside."""
    return a


@rt.tool
def listing(n: int) -> Iterator[str | None]:
    """Yield the current span's name."""
    for number in range(n):
        plain(number)
        yield current_name()


@rt.tool
async def listing_slowly(n: int) -> AsyncIterator[str | None]:
    """Yield the current span's name."""
    for _ in range(n):
        await asyncio.sleep(0)
        yield current_name()


@rt.tool
def echo(log: list[Any]) -> Generator[Any, Any, str]:
    """Log what is sent and thrown."""
    try:
        while True:
            try:
                log.append((yield len(log)))
            except ValueError as error:
                log.append(error)
                if len(log) > 2:
                    return "done"
    finally:
        log.append("closed")


async def collect(source: AsyncIterator[Any]) -> list[Any]:
    """Every item."""
    return [item async for item in source]


@pytest.mark.parametrize("policy", [True, False], ids=["guarded", "traced"])
class TestSync:
    """Generator functions."""

    def test_the_body_sees_its_span_and_the_consumer_does_not(self, make_world: Any, policy: bool) -> None:
        """Between items the consumer's own span is current."""
        world = make_world() if policy else make_world(policy=None)
        outside = []
        for inside in listing(2):
            outside.append(current_name())
            assert inside == "execute_tool listing"
        assert outside == [None, None]
        assert world.tree() == {"execute_tool listing": {"execute_tool plain": {}, "execute_tool plain #2": {}}}

    def test_send_throw_and_return_pass_through(self, make_world: Any, policy: bool) -> None:
        """The protocol of generators is the undecorated one's."""
        make_world() if policy else make_world(policy=None)
        log: list[Any] = []
        source = echo(log)
        error = ValueError("in")
        assert [next(source), source.send("a"), source.throw(error)] == [0, 1, 2]
        with pytest.raises(StopIteration) as stop:
            source.throw(error)
        assert (stop.value.value, log) == ("done", ["a", error, error, "closed"])

    def test_an_early_close_is_no_error(self, make_world: Any, policy: bool) -> None:
        """Breaking out of the loop ends the span once, as closed."""
        world = make_world() if policy else make_world(policy=None)
        log: list[Any] = []
        source = echo(log)
        next(source)
        source.close()
        span = world.one("execute_tool echo")
        assert (span.status.status_code.name, span.attributes["otel_runtime.outcome"], log) == ("UNSET", "closed", ["closed"])

    def test_never_iterated_leaves_nothing(self, make_world: Any, policy: bool) -> None:
        """A generator that is thrown away was never decided and has no span."""
        world = make_world() if policy else make_world(policy=None)
        listing(3)
        gc.collect()
        assert world.names() == []

    def test_two_streams_interleave(self, make_world: Any, policy: bool) -> None:
        """Each stream's children are its own."""
        world = make_world() if policy else make_world(policy=None)
        assert list(zip(listing(2), listing(2), strict=True)) == [("execute_tool listing",) * 2] * 2
        children: dict[str, Any] = {"execute_tool plain": {}, "execute_tool plain #2": {}}
        assert world.tree() == {"execute_tool listing": children, "execute_tool listing #2": children}

    def test_collected_unfinished(self, make_world: Any, policy: bool, caplog: pytest.LogCaptureFixture) -> None:
        """A stream dropped half-way ends its span when it is collected, without a log record."""
        world = make_world() if policy else make_world(policy=None)
        source = listing(3)
        next(source)
        del source
        gc.collect()
        assert world.one("execute_tool listing").attributes["otel_runtime.outcome"] == "closed"
        assert caplog.records == []

    def test_an_error_inside_ends_it_as_error(self, make_world: Any, policy: bool) -> None:
        """The exception is the body's own, recorded once."""
        world = make_world() if policy else make_world(policy=None)
        raised = KeyError("inside")

        @rt.tool
        def listed() -> Iterator[int]:
            yield 1
            raise raised

        with pytest.raises(KeyError) as caught:
            list(listed())
        span = world.one("execute_tool listed")
        assert caught.value is raised
        assert (span.status.status_code.name, len(span.events)) == ("ERROR", 1)


@pytest.mark.parametrize("policy", [True, False], ids=["guarded", "traced"])
class TestAsync:
    """Async generator functions."""

    def test_the_body_sees_its_span_and_the_consumer_does_not(self, make_world: Any, policy: bool) -> None:
        """Between items the consumer's own span is current."""
        world = make_world() if policy else make_world(policy=None)

        async def program() -> None:
            async for inside in listing_slowly(2):
                assert (inside, current_name()) == ("execute_tool listing_slowly", None)

        asyncio.run(program())
        assert world.names() == ["execute_tool listing_slowly"]

    def test_asend_athrow_and_aclose_pass_through(self, make_world: Any, policy: bool) -> None:
        """The protocol of async generators is the undecorated one's."""
        world = make_world() if policy else make_world(policy=None)
        log: list[Any] = []

        @rt.tool
        async def list_echo() -> AsyncIterator[Any]:
            try:
                while True:
                    try:
                        log.append((yield len(log)))
                    except ValueError as error:
                        log.append(error)
            finally:
                log.append("closed")

        async def program() -> None:
            source: Any = list_echo()
            error = ValueError("in")
            assert [await source.__anext__(), await source.asend("a"), await source.athrow(error)] == [0, 1, 2]
            await source.aclose()
            assert log == ["a", error, "closed"]

        asyncio.run(program())
        assert world.one("execute_tool list_echo").attributes["otel_runtime.outcome"] == "closed"

    def test_a_break_ends_it_without_a_log_record(self, make_world: Any, policy: bool, caplog: pytest.LogCaptureFixture) -> None:
        """Leaving the loop early ends the span once, wherever the loop's clean-up runs."""
        world = make_world() if policy else make_world(policy=None)

        async def program() -> None:
            async for _ in listing_slowly(5):
                break
            gc.collect()
            # The loop makes a task of the clean-up at its next turn.
            await asyncio.sleep(0)
            await asyncio.gather(*asyncio.all_tasks() - {asyncio.current_task()})

        asyncio.run(program())
        assert world.one("execute_tool listing_slowly").attributes["otel_runtime.outcome"] == "closed"
        assert caplog.records == []

    def test_finished_in_another_task(self, make_world: Any, policy: bool, caplog: pytest.LogCaptureFixture) -> None:
        """A stream may be stepped by several tasks, each with its own context."""
        world = make_world() if policy else make_world(policy=None)

        async def program() -> list[Any]:
            source: Any = listing_slowly(2)
            return [await asyncio.create_task(step) for step in (source.__anext__(), source.__anext__())] + await collect(source)

        assert asyncio.run(program()) == ["execute_tool listing_slowly"] * 2
        assert (world.names(), caplog.records) == (["execute_tool listing_slowly"], [])

    def test_a_cancelled_consumer_ends_it_as_cancelled(self, make_world: Any, policy: bool) -> None:
        """Cancelling the task that waits for an item ends the span without an error."""
        world = make_world() if policy else make_world(policy=None)

        @rt.tool
        async def list_forever() -> AsyncIterator[int]:
            begun.set()
            await asyncio.sleep(60)
            yield 1

        begun = asyncio.Event()

        async def program() -> None:
            task = asyncio.create_task(collect(list_forever()))
            await begun.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

        asyncio.run(program())
        span = world.one("execute_tool list_forever")
        assert (span.status.status_code.name, span.attributes["otel_runtime.outcome"]) == ("UNSET", "cancelled")


class TestScope:
    """The runtime's own context variable follows the same rule."""

    def test_does_not_leak_into_the_consumer(self, traced: Any) -> None:
        """Between items the consumer's scope is current."""

        @rt.agent
        def streaming() -> Iterator[tuple[str, ...]]:
            yield current_scope().agents
            yield current_scope().agents

        for inside in streaming():
            assert (inside, current_scope().agents) == (("streaming",), ())


class TestModelStream:
    """A model that streams."""

    def test_usage_and_first_token_are_found_in_the_items(self, traced: Any) -> None:
        """The usage of the last chunk reaches the span; the first chunk's time is recorded."""

        @rt.model("gpt-4o-mini", provider="openai")
        def think() -> Iterator[dict[str, Any]]:
            yield {
                "object": "chat.completion.chunk",
                "id": "r",
                "model": "gpt-4o-mini",
                "choices": [{"index": 0, "delta": {"content": "a"}}],
            }
            yield {"object": "chat.completion.chunk", "id": "r", "choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 3}}

        assert len(list(think())) == 2
        span = traced.one("chat gpt-4o-mini")
        assert (span.attributes["gen_ai.usage.input_tokens"], span.attributes["gen_ai.usage.output_tokens"]) == (7, 3)
        assert span.attributes["gen_ai.response.time_to_first_chunk"] > 0
        assert traced.runtime.totals().input_tokens == 7
