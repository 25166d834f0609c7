"""A call lasts as long as what it returned: streams of other libraries, tasks, generators; ended once, and kept in no memory."""

from __future__ import annotations

import asyncio
import copy
import gc
import inspect
import os
import subprocess
import sys
import threading
import tracemalloc
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, Self

import anyio
import httpx
import openai
import pytest
from openai.types.chat import ChatCompletionChunk
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider

import otel_runtime as rt
from otel_runtime.runtime.build import build_runtime
from otel_runtime.settings.model import Settings

BODY = "".join(
    f"data: {line}\n\n"
    for line in (
        '{"id":"c1","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{"content":"he"}}]}',
        '{"id":"c1","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}',
        '{"id":"c1","object":"chat.completion.chunk","created":1,"model":"m","choices":[],"usage":{"prompt_tokens":9,"completion_tokens":2}}',
        "[DONE]",
    )
)
HEADERS = {"content-type": "text/event-stream"}


def answer(_request: httpx.Request) -> httpx.Response:
    """What the provider sends."""
    return httpx.Response(200, headers=HEADERS, text=BODY)


@rt.model("gpt-4o-mini")
def ask() -> Any:
    """A streamed completion of the real client over a transport of the test's own."""
    # Any: which generation of httpx the client asks for is its own matter.
    transport: Any = httpx.Client(transport=httpx.MockTransport(answer))
    client = openai.OpenAI(api_key="k", base_url="http://provider.invalid", http_client=transport)
    return client.chat.completions.create(model="gpt-4o-mini", messages=[], stream=True)


@rt.model("gpt-4o-mini")
async def ask_slowly() -> Any:
    """The same with the asynchronous client."""
    transport: Any = httpx.AsyncClient(transport=httpx.MockTransport(answer))
    client = openai.AsyncOpenAI(api_key="k", base_url="http://provider.invalid", http_client=transport)
    return await client.chat.completions.create(model="gpt-4o-mini", messages=[], stream=True)


def told(world: Any) -> list[tuple[object, ...]]:
    """Name, outcome, tokens and whether the first item's time is known, of every finished span."""
    return [_facts(span) for span in world.spans()]


def _facts(span: ReadableSpan) -> tuple[object, ...]:
    attributes = span.attributes or {}
    first = attributes.get("gen_ai.response.time_to_first_chunk")
    return span.name, attributes.get("otel_runtime.outcome"), attributes.get("gen_ai.usage.input_tokens"), first is not None


DONE = [("chat gpt-4o-mini", None, 9, True)]
CLOSED = [("chat gpt-4o-mini", "closed", None, True)]


class TestOpenAI:
    """The client's own stream objects."""

    def test_read_to_the_end(self, traced: Any) -> None:
        """The span lasts until the last chunk and has its usage; the object is the client's stream for everybody."""
        stream = ask()
        assert (told(traced), isinstance(stream, openai.Stream), stream.response.status_code) == ([], True, 200)
        assert [type(chunk) for chunk in stream] == [ChatCompletionChunk] * 3
        assert told(traced) == DONE

    def test_by_next_and_within_with(self, traced: Any) -> None:
        """Each way to read it is followed."""
        with ask() as stream:
            assert next(stream).choices[0].delta.content == "he"
            assert told(traced) == []
            assert len(list(stream)) == 2
        assert told(traced) == DONE

    @pytest.mark.parametrize("leave", ["break", "close", "with", "drop"])
    def test_left_early(self, traced: Any, leave: str) -> None:
        """Whichever way it is left, the span ends once, as closed."""
        stream = ask()
        if leave == "with":
            with stream:
                next(stream)
        else:
            for _ in stream:
                break
        if leave == "close":
            stream.close()
        del stream
        gc.collect()
        assert told(traced) == CLOSED

    def test_asynchronous(self, traced: Any) -> None:
        """The asynchronous stream is followed as well."""

        async def program() -> object:
            stream = await ask_slowly()
            kinds = isinstance(stream, openai.AsyncStream), inspect.isasyncgen(stream), told(traced)
            async with stream:
                return kinds, [chunk.model async for chunk in stream]

        assert asyncio.run(program()) == ((True, False, []), ["m"] * 3)
        assert told(traced) == DONE

    def test_asynchronous_closed(self, traced: Any) -> None:
        """`await stream.close()` ends the span while the stream is still held."""

        async def program() -> object:
            stream = await ask_slowly()
            await anext(stream)
            closing = stream.close()
            assert (inspect.iscoroutine(closing), told(traced)) == (True, [])
            await closing
            return stream, told(traced)

        assert asyncio.run(program())[1] == CLOSED  # type: ignore[index]  # a tuple

    def test_asynchronous_left_early(self, traced: Any) -> None:
        """Leaving its block ends the span as closed."""

        async def program() -> None:
            async with await ask_slowly() as stream:
                await anext(stream)

        asyncio.run(program())
        assert told(traced) == CLOSED


class Events:
    """A stream of some library: iterator, context manager, attributes."""

    def __init__(self, fails: bool = False) -> None:
        self.names: list[str | None] = []
        self.closed = 0
        self._left = 3
        self._fails = fails

    def __iter__(self) -> Events:
        return self

    def __next__(self) -> int:
        self.names.append(getattr(trace.get_current_span(), "name", None))
        if not self._left:
            raise StopIteration
        if self._fails:
            raise ValueError("in the stream")
        self._left -= 1
        return self._left

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Say that it was closed."""
        self.closed += 1


def returning(kind: str, result: Any) -> Any:
    """What a decorated function gives its caller that returns this."""
    made: Any = getattr(rt, kind)("x")(lambda: result)
    return made()


class MessageStreamManager:
    """Shaped as Anthropic's: a context manager that gives a stream, which has read its text and kept the whole message."""

    def __enter__(self) -> MessageStream:
        return MessageStream()

    def __exit__(self, *_: object) -> None:
        return None


class MessageStream:
    """What `with` gives: text to be read, and the message put together."""

    def __init__(self) -> None:
        self.text_stream = (text for text in ("a", "b"))
        self.current_message_snapshot = {
            "type": "message",
            "id": "m1",
            "model": "claude-sonnet-4-5",
            "usage": {"input_tokens": 7, "output_tokens": 3},
        }

    def __iter__(self) -> Iterator[str]:
        return iter("")

    def close(self) -> None:
        """Nothing to close."""


class Body(httpx.SyncByteStream, httpx.AsyncByteStream):
    """What a response still has to read."""

    def __iter__(self) -> Iterator[bytes]:
        yield b"body"

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield b"body"


class TestCustom:
    """Iterators and context managers of any library."""

    @pytest.mark.parametrize("kind", ["model", "agent", "workflow"])
    def test_steps_run_under_the_span(self, make_world: Any, kind: str) -> None:
        """The stream's own code runs under the span, the consumer's does not."""
        world = make_world(policy=None)
        source = Events()
        found = returning(kind, source)
        outside = [getattr(trace.get_current_span(), "name", None) for _ in found]
        name = world.names()[0]
        assert (source.names, outside, iter(found) is found) == ([name] * 4, [None] * 3, True)

    def test_an_error_ends_it(self, traced: Any) -> None:
        """An error of the stream is the span's error, once, and the same object."""
        found = returning("agent", Events(fails=True))
        with pytest.raises(ValueError, match="in the stream"):
            next(found)
        span = traced.one("invoke_agent x")
        assert (span.status.status_code.name, [event.name for event in span.events]) == ("ERROR", ["exception"])

    def test_closing_reaches_the_object_once(self, traced: Any) -> None:
        """`with` and `close` are the object's own."""
        source = Events()
        with returning("agent", source) as found:
            found.note = "set through"
        found.close()
        assert (source.closed, source.note, told(traced)) == (2, "set through", [("invoke_agent x", None, None, False)])  # type: ignore[attr-defined]

    def test_asked_what_it_can_do(self, traced: Any) -> None:
        """Only what the object can do, the proxy can do."""
        found = returning("agent", Events())
        assert [hasattr(found, name) for name in ("__next__", "__anext__", "__aiter__", "__await__", "aclose")] == [True] + [False] * 4
        assert (inspect.isawaitable(found), type(copy.copy(found)), callable(found)) == (False, Events, False)

    def test_a_manager_and_its_stream(self, traced: Any) -> None:
        """The text stream inside is followed; usage comes from the message that the client has put together."""
        manager = rt.model("claude-sonnet-4-5")(lambda: MessageStreamManager())()  # noqa: PLW0108  # the class itself would be decorated
        with manager as stream:
            assert isinstance(stream, MessageStream)
            assert (list(stream.text_stream), list(stream.text_stream)) == (["a", "b"], [])
        assert told(traced) == [("chat claude-sonnet-4-5", None, 7, True)]

    def test_http_responses(self, traced: Any) -> None:
        """An open response is followed through the iterator it gives; one that was read is a plain result."""
        lines = [b"a\nb\n", b"c\nd\n"]
        client = httpx.Client(transport=httpx.MockTransport(lambda _: httpx.Response(200, content=iter(lines))))

        @rt.model("m")
        def send(stream: bool) -> Any:
            return client.send(client.build_request("GET", "http://provider.invalid"), stream=stream)

        assert type(send(stream=False)) is httpx.Response
        assert told(traced) == [("chat m", None, None, False)]
        response = send(stream=True)
        assert (isinstance(response, httpx.Response), len(told(traced))) == (True, 1)
        assert list(response.iter_lines()) == ["a", "b", "c", "d"]
        assert told(traced) == [("chat m", None, None, False), ("chat m", None, None, True)]

    def test_http_responses_read_at_once(self, traced: Any) -> None:
        """Reading all of a response is its end, and not an early one."""

        def answer(_: httpx.Request) -> httpx.Response:
            return httpx.Response(200, stream=Body())

        @rt.agent("sync")
        def send(client: httpx.Client) -> Any:
            return client.send(client.build_request("GET", "http://provider.invalid"), stream=True)

        @rt.agent("async")
        async def send_async(client: httpx.AsyncClient) -> Any:
            return await client.send(client.build_request("GET", "http://provider.invalid"), stream=True)

        async def read_async() -> tuple[bytes, int]:
            async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as client:
                response = await send_async(client)
                return await response.aread(), len(told(traced))

        with httpx.Client(transport=httpx.MockTransport(answer)) as client:
            response = send(client)
            assert (b"body", 1) == (response.read(), len(told(traced)))
            response.close()
        assert (b"body", 2) == asyncio.run(read_async())
        assert [None, None] == [(span.attributes or {}).get("otel_runtime.outcome") for span in traced.spans()]

    def test_tools_return_results(self, traced: Any) -> None:
        """A tool's iterator is its result, handed back as it is."""
        source = Events()
        assert returning("tool", source) is source
        assert len(told(traced)) == 1


class TestTrees:
    """Where spans hang."""

    @pytest.mark.parametrize("kind", ["sync", "async"])
    def test_interleaved_with_children(self, traced: Any, kind: str) -> None:
        """Two streams read in turn are two correct trees beside each other, under the consumer's span."""

        @rt.tool
        def inside(n: int) -> int:
            return n

        @rt.model("m")
        def f() -> Iterator[int]:
            for number in range(2):
                yield inside(number)

        @rt.model("m")
        async def g() -> AsyncIterator[int]:
            for number in range(2):
                yield inside(number)

        async def pairs() -> list[tuple[int, int]]:
            first, second = g(), g()
            found = [(await anext(first), await anext(second)) for _ in range(2)]
            return found + [(item, item) for one in (first, second) async for item in one]

        @rt.agent("consumer")
        def consumer() -> list[Any]:
            return list(zip(f(), f(), strict=True)) if kind == "sync" else asyncio.run(pairs())

        assert consumer() == [(0, 0), (1, 1)]
        children: dict[str, Any] = {"execute_tool inside": {}, "execute_tool inside #2": {}}
        assert traced.tree() == {"invoke_agent consumer": {"chat m": children, "chat m #2": children}}

    def test_children_of_a_returned_coroutine(self, traced: Any) -> None:
        """What a returned coroutine or task does is below the span of the call that returned it."""

        @rt.tool
        async def inside() -> int:
            await asyncio.sleep(0)
            return 1

        @rt.agent("one")
        def made() -> Any:
            return inside()

        @rt.agent("two")
        def started() -> Any:
            return asyncio.ensure_future(inside())

        async def program() -> list[int]:
            return [await made(), await started()]

        assert asyncio.run(program()) == [1, 1]
        assert traced.tree() == {"invoke_agent one": {"execute_tool inside": {}}, "invoke_agent two": {"execute_tool inside": {}}}

    def test_anyio(self, traced: Any) -> None:
        """A cancel scope and a task group of anyio inside a stream work as undecorated."""

        @rt.tool
        async def counted() -> AsyncIterator[int]:
            with anyio.move_on_after(5):
                async with anyio.create_task_group() as group:
                    group.start_soon(anyio.sleep, 0)
                    yield 1
                yield 2

        async def program() -> list[int]:
            return [item async for item in counted()]

        assert anyio.run(program) == [1, 2]
        assert told(traced) == [("execute_tool counted", None, None, False)]


class TestEndings:
    """However a stream ends."""

    def test_a_cancelled_consumer(self, traced: Any) -> None:
        """The consumer's task is cancelled while it waits for an item: outcome cancelled, no error."""

        class Slow:
            def __aiter__(self) -> Slow:
                return self

            async def __anext__(self) -> int:
                begun.set()
                await asyncio.sleep(60)
                return 1

        begun = asyncio.Event()

        async def program() -> None:
            task = asyncio.ensure_future(anext(returning("agent", Slow())))
            await begun.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

        asyncio.run(program())
        assert told(traced) == [("invoke_agent x", "cancelled", None, False)]

    @pytest.mark.parametrize("make", [lambda: (n for n in range(3)), Events], ids=["generator", "object"])
    def test_collected_inside_a_held_lock(self, make: Callable[[], Any]) -> None:
        """The garbage collector may find a stream while a lock of the exporter is held: nothing waits for that lock."""

        class Locked(SpanProcessor):
            lock = threading.Lock()
            ended: list[str]

            def __init__(self) -> None:
                self.ended = []

            def on_end(self, span: ReadableSpan) -> None:
                with self.lock:
                    self.ended.append(span.name)

        processor, provider = Locked(), TracerProvider()
        provider.add_span_processor(processor)
        runtime = build_runtime(Settings(), tracer_provider=provider)
        with runtime.use(), runtime:
            stream = returning("agent", make())
            next(stream)
            with processor.lock:
                del stream
                gc.collect()
                assert processor.ended == []
            assert runtime.flush()
            assert processor.ended == ["invoke_agent x"]

    def test_unfinished_at_exit(self) -> None:
        """A program that ends with open streams of every kind sends their spans and says nothing about it."""
        program = """
import asyncio, otel_runtime as rt
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter
class Said(SpanExporter):
    def export(self, spans):
        print(*[(span.name, span.attributes["otel_runtime.outcome"]) for span in spans])
provider = TracerProvider(shutdown_on_exit=False)
provider.add_span_processor(SimpleSpanProcessor(Said()))
rt.configure(tracer_provider=provider, otlp="off")
@rt.tool
def f():
    yield 1
@rt.tool
async def g():
    yield 1
@rt.agent
def h():
    return iter([1, 2])
async def first(): return await anext(open_async)
one, open_async, three = f(), g(), h()
next(one), next(three)
loop = asyncio.new_event_loop()
loop.run_until_complete(first())
print("done")
loop.close()
"""
        done = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=False)
        said = [line for line in done.stderr.splitlines() if "has no policy" not in line]
        assert (done.returncode, said) == (0, [])
        assert sorted(done.stdout.splitlines()) == [
            "('execute_tool f', 'closed')",
            "('execute_tool g', 'closed')",
            "('invoke_agent h', 'closed')",
            "done",
        ]

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
    def test_a_forked_child_leaves_the_parents_streams_alone(self, traced: Any) -> None:
        """The child reads its copy to the end and ends nothing; the parent's span ends in the parent, once."""
        told_hooks: list[str] = []
        traced.runtime.on("trace")(lambda event, context: told_hooks.append(event.name))
        stream = returning("agent", Events())
        next(stream)
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                list(stream)
                os.write(writer, str(len(told_hooks)).encode())
            finally:
                os._exit(0)
        os.waitpid(pid, 0)
        assert os.read(reader, 10) == b"1"
        assert len(list(stream)) == 2
        assert (told(traced), len(told_hooks)) == ([("invoke_agent x", None, None, False)], 2)

    @pytest.mark.parametrize("how", ["generator", "async generator", "object"])
    def test_memory_does_not_grow(self, traced: Any, how: str) -> None:
        """Five megabytes of items leave nothing behind."""

        def items() -> Iterator[str]:
            for number in range(500):
                yield f"{number:010d}" * 1000

        async def items_slowly() -> AsyncIterator[str]:
            for item in items():
                yield item

        async def read(source: AsyncIterator[str]) -> int:
            return sum([len(item) async for item in source])

        def consume() -> int:
            if how == "async generator":
                return asyncio.run(read(rt.model("m")(items_slowly)()))
            return sum(len(item) for item in (rt.model("m")(items)() if how == "generator" else rt.model("m")(lambda: map(str, items()))()))

        consume()
        tracemalloc.start()
        try:
            before, _ = tracemalloc.get_traced_memory()
            assert consume() == 5_000_000
            after, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert after - before < 500_000
        assert peak - before < 1_000_000
