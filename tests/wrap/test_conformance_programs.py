"""Nothing can tell, part three: decorated functions inside whole programs and frameworks, interrupted, ended, flooded with data."""

from __future__ import annotations

import asyncio
import json
import os
import select
import signal
import subprocess
import sys
import textwrap
import tracemalloc
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

import otel_runtime as rt
from otel_runtime.telemetry.capture import MAX_BYTES

POLICY = """
version: 1
name: programs
default: deny
rules:
  - {id: tools, tool: "*", decision: allow}
"""
STATES = pytest.mark.parametrize("state", ["guarded", "traced", "off", "captured"])


def start(make_world: Any, state: str) -> Any:
    """A runtime in that state; None for none."""
    capture = {"capture": "SPAN_AND_EVENT"} if state == "captured" else {}
    return None if state == "off" else make_world(policy=POLICY if state == "guarded" else None, **capture)


def names(world: Any) -> list[str]:
    """Names of the spans that were left, sorted."""
    return sorted(span.name.removeprefix("execute_tool ") for span in world.spans())


# --- frameworks ------------------------------------------------------------------------------------------------------------------------


class TestFastApi:
    def application(self, decorate: Callable[[Any], Any]) -> Any:
        """An application of which every function is decorated: routes of each kind, dependencies, a streamed answer."""
        fastapi: Any = pytest.importorskip("fastapi", reason="fastapi is missing, so its routes were not tried; pip install fastapi")
        responses: Any = pytest.importorskip("fastapi.responses")
        app: Any = fastapi.FastAPI()

        def who(name: str = "nobody") -> Any:
            yield name.title()

        async def limit(most: int = 3) -> int:
            return most

        # Annotations as the application's module would hold them: FastAPI evaluates texts in the function's own globals.
        whom, most = fastapi.Depends(decorate(who)), fastapi.Depends(decorate(limit))

        def hello(times: int, name: str = whom) -> dict[str, object]:
            """Say hello."""
            return {"said": [f"hello {name}"] * times}

        async def later(most: int = most) -> dict[str, int]:
            await asyncio.sleep(0)
            return {"most": most}

        async def lines() -> AsyncIterator[str]:
            for number in range(3):
                yield f"{number}\n"

        async def stream() -> Any:
            return responses.StreamingResponse(decorate(lines)())

        async def fails() -> None:
            raise fastapi.HTTPException(418, "short and stout")

        for path, fn in {"/hello/{times}": hello, "/later": later, "/stream": stream, "/fails": fails}.items():
            app.get(path)(decorate(fn))
        return app

    @STATES
    def test_nothing_can_tell(self, make_world: Any, state: str) -> None:
        """Answers, validation, dependencies and the schema are those of the undecorated application."""
        httpx: Any = pytest.importorskip("httpx", reason="httpx is missing, so FastAPI was not asked; pip install httpx")
        world = start(make_world, state)

        async def asked(app: Any) -> list[tuple[int, str]]:
            async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
                paths = ["/hello/2?name=carla", "/hello/x", "/later?most=7", "/later?most=x", "/stream", "/fails", "/openapi.json"]
                return [(answer.status_code, answer.text) for answer in [await client.get(path) for path in paths]]

        expected = asyncio.run(asked(self.application(lambda fn: fn)))
        assert [200, 422, 200, 422, 200, 418, 200] == [status for status, _ in expected]
        assert expected == asyncio.run(asked(self.application(rt.tool)))
        if world is not None:
            assert {"fails", "hello", "later", "limit", "lines", "stream", "who"} == set(names(world))


class TestLangChain:
    @STATES
    def test_nothing_can_tell(self, make_world: Any, state: str) -> None:
        """Tools made of decorated functions have the same schema, and answer, stream and fail as undecorated."""
        reason = "langchain-core is missing, so its tools were not tried; pip install langchain-core"
        tools: Any = pytest.importorskip("langchain_core.tools", reason=reason)
        runnables: Any = pytest.importorskip("langchain_core.runnables", reason=reason)
        world = start(make_world, state)

        def program(decorate: Callable[[Any], Any]) -> object:
            @tools.tool  # type: ignore[untyped-decorator]  # any decorator here
            @decorate
            def multiply(a: int, b: int = 2) -> int:
                """Multiply.

                Args:
                    a: One.
                    b: Other.
                """
                return a * b

            @decorate
            async def slow(question: str) -> str:
                """Answer later."""
                await asyncio.sleep(0)
                return question.upper()

            @decorate
            def words(text: str) -> Iterator[str]:
                yield from text.split()

            structured = tools.StructuredTool.from_function(coroutine=slow, name="slow", description="Slow.")
            called = {"name": "multiply", "args": {"a": 3}, "id": "call_1", "type": "tool_call"}
            bad = ""
            try:
                multiply.invoke({"a": "x"})
            except Exception as error:  # noqa: BLE001  # whatever it is, its kind is compared
                bad = type(error).__name__
            chain = runnables.RunnableLambda(words) | runnables.RunnableLambda(decorate(lambda text: text + "!"))
            return (
                multiply.args_schema.model_json_schema(), multiply.description, multiply.invoke({"a": 3, "b": 4}), multiply.invoke(called).content,
                bad, structured.args, asyncio.run(structured.ainvoke({"question": "why"})), list(chain.stream("a b c")), multiply.batch([{"a": 1}, {"a": 2}]),
            )  # fmt: skip

        expected = program(lambda fn: fn)
        assert expected == program(rt.tool)
        if world is not None:
            assert {"multiply", "slow", "words"} <= set(names(world))


# --- interrupted and ended -----------------------------------------------------------------------------------------------------------------


HEAD = """
import asyncio, os, signal, sys, threading, time
import otel_runtime as rt
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter
class Said(SpanExporter):
    def export(self, spans):
        for span in spans:
            os.write(1, f"{span.name.removeprefix('execute_tool ')} {span.status.status_code.name} "
                f"{dict(span.attributes).get('error.type')} {dict(span.attributes).get('otel_runtime.outcome')}\\n".encode())
provider = TracerProvider(shutdown_on_exit=False)
provider.add_span_processor(SimpleSpanProcessor(Said()))
if STATE != "off":
    (open("policy.yaml", "w").write(POLICY))
    rt.configure(tracer_provider=provider, otlp="off", state="state.db", **({"policy": "policy.yaml"} if STATE == "guarded" else {}))
def ready(): os.write(2, b"ready\\n")
"""
SLEEPS = "@rt.tool\ndef f():\n    ready()\n    time.sleep(60)\nf()\n"
WAITS = "@rt.tool\nasync def f():\n    ready()\n    await asyncio.sleep(60)\nasyncio.run(f())\n"
STEPS = """
@rt.tool
def f():
    try:
        yield 1
        ready()
        time.sleep(60)
    finally:
        os.write(1, b"closed\\n")
for _ in f(): pass
"""
READS = """
@rt.tool
def f():
    try:
        yield 1
        yield 2
    finally:
        os.write(1, b"closed\\n")
for _ in f():
    ready()
    time.sleep(60)
"""
STEPS_LATER = """
@rt.tool
async def f():
    try:
        yield 1
        ready()
        await asyncio.sleep(60)
    finally:
        os.write(1, b"closed\\n")
async def main():
    async for _ in f(): pass
asyncio.run(main())
"""
GOES_ON = """
@rt.tool
def f():
    ready()
    time.sleep(60)
try:
    f()
except KeyboardInterrupt as caught:
    os.write(1, f"caught {caught.args} {caught.__context__}\\n".encode())
@rt.tool
def g(): return 1
g()
"""


def ended(program: str, state: str, folder: Any, interrupt: bool) -> tuple[int, list[str]]:
    """A program's exit code and what it said, interrupted once it says that it is ready."""
    code = f"STATE, POLICY = {state!r}, {POLICY!r}\n{HEAD}{textwrap.dedent(program)}"
    environ = {key: value for key, value in os.environ.items() if not key.startswith("OTEL_")}
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, cwd=folder, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            assert process.stderr is not None
            said = b""
            while interrupt and b"ready" not in said and select.select([process.stderr], [], [], 60)[0]:
                part = os.read(process.stderr.fileno(), 4096)
                if not part:
                    break
                said += part
            if interrupt:
                process.send_signal(signal.SIGINT)
            out, _ = process.communicate(timeout=60)
        finally:
            # One that does not end would be told of in tests that have nothing to do with it.
            process.kill()
    return process.returncode, out.decode().splitlines()


class TestInterrupted:
    @pytest.mark.parametrize("state", ["guarded", "traced"])
    @pytest.mark.parametrize(
        ("program", "left"),
        [
            (SLEEPS, ["f ERROR KeyboardInterrupt None"]),
            (WAITS, ["f UNSET None cancelled"]),
            (STEPS, ["closed", "f ERROR KeyboardInterrupt None"]),
            (READS, ["closed", "f UNSET None closed"]),
            (STEPS_LATER, ["closed", "f UNSET None cancelled"]),
            (GOES_ON, ["f ERROR KeyboardInterrupt None", "caught () None", "g UNSET None None"]),
        ],
        ids=["function", "coroutine", "generator", "between items", "async generator", "goes on"],
    )
    def test_by_a_person(self, tmp_path: Any, program: str, left: list[str], state: str) -> None:
        """SIGINT in the middle ends program and body as undecorated, and the span says how the call ended."""
        plain = ended(program, "off", tmp_path, interrupt=True)
        code, said = ended(program, state, tmp_path, interrupt=True)
        assert plain == (code, [line for line in said if line in plain[1]])
        assert sorted(left) == sorted(said)

    @pytest.mark.parametrize("state", ["guarded", "traced"])
    def test_os_exit(self, tmp_path: Any, state: str) -> None:
        """`os._exit` inside of a call ends the process at once with its code: nothing of ours holds it up, and finished spans are out."""
        program = "@rt.tool\ndef g(): return 1\n@rt.tool\ndef f():\n    os._exit(7)\ng()\nf()\n"
        assert (7, ["g UNSET None None"]) == ended(program, state, tmp_path, interrupt=False)

    @STATES
    def test_raised_by_the_consumer(self, make_world: Any, state: str) -> None:
        """A KeyboardInterrupt that a consumer throws into streams, sync and async, reaches the body and comes back as it is."""
        world = start(make_world, state)
        seen: list[object] = []
        error = KeyboardInterrupt("now")

        def items() -> Iterator[int]:
            try:
                yield 1
            except KeyboardInterrupt as caught:
                seen.append(caught)
                raise

        async def later() -> AsyncIterator[int]:
            for item in items():
                try:
                    yield item
                except KeyboardInterrupt as caught:
                    seen.append(caught)
                    raise

        stream: Any = rt.tool(items)()
        next(stream)
        with pytest.raises(KeyboardInterrupt) as thrown:
            stream.throw(error)
        late: Any = rt.tool(later)()
        # Without an event loop: one would end at such an error.
        with pytest.raises(StopIteration):
            late.asend(None).send(None)
        with pytest.raises(KeyboardInterrupt) as thrown_late:
            late.athrow(error).send(None)
        assert thrown.value is error is thrown_late.value
        assert [error, error] == seen
        if world is not None:
            assert ["ERROR", "ERROR"] == [span.status.status_code.name for span in world.spans()]


# --- much data -----------------------------------------------------------------------------------------------------------------------------


class Chunks:
    """A client's stream object, of five hundred items of ten kilobytes."""

    def __init__(self) -> None:
        self.left = 500

    def __iter__(self) -> Chunks:
        return self

    def __next__(self) -> str:
        if not self.left:
            raise StopIteration
        self.left -= 1
        return f"{self.left:010d}" * 1_000

    def close(self) -> None:
        """Nothing is open."""


class LateChunks(Chunks):
    """The same, asynchronous."""

    def __aiter__(self) -> LateChunks:
        return self

    async def __anext__(self) -> str:
        try:
            return next(self)
        except StopIteration:
            raise StopAsyncIteration from None


def _generator() -> Iterator[str]:
    yield from Chunks()


async def _async_generator() -> AsyncIterator[str]:
    async for item in LateChunks():
        yield item


async def _read(source: AsyncIterator[str]) -> int:
    return sum([len(item) async for item in source])


STREAMS: dict[str, Callable[[], int]] = {
    "generator": lambda: sum(len(item) for item in rt.model("m")(_generator)()),
    "async generator": lambda: asyncio.run(_read(rt.model("m")(_async_generator)())),
    "object": lambda: sum(len(item) for item in rt.model("m")(lambda: Chunks())()),  # noqa: PLW0108  # a class would be decorated as one
    "async object": lambda: asyncio.run(_read(rt.model("m")(lambda: LateChunks())())),  # noqa: PLW0108  # as above
}


class TestMuchData:
    @pytest.mark.parametrize("how", STREAMS)
    @pytest.mark.parametrize("state", ["guarded", "traced", "captured"])
    def test_memory_of_a_stream(self, make_world: Any, state: str, how: str) -> None:
        """Five megabytes of items leave nothing behind, with content captured too."""
        start(make_world, state)
        consume = STREAMS[how]
        consume()
        tracemalloc.start()
        try:
            before, _ = tracemalloc.get_traced_memory()
            assert 5_000_000 == consume()
            after, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert after - before < 300_000
        assert peak - before < 600_000

    @pytest.mark.parametrize("state", ["guarded", "traced", "captured"])
    def test_memory_of_an_argument(self, make_world: Any, state: str) -> None:
        """Five megabytes in an argument and a result are not copied whole for a span."""
        start(make_world, state)
        text = "x" * 5_000_000

        @rt.agent
        def back(given: Any) -> Any:
            return given

        back(text)
        tracemalloc.start()
        try:
            before, _ = tracemalloc.get_traced_memory()
            assert back([text])[0] is text
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak - before < 1_000_000

    def test_bounds_of_what_is_captured(self, make_world: Any) -> None:
        """Depth, items and bytes are bounded for arguments and results at once, each says its original size, and each is JSON."""
        world = start(make_world, "captured")
        deep: Any = "end"
        for _ in range(50):
            deep = {"in": [deep]}
        many = list(range(5_000))

        @rt.tool
        def back(long: str, many: list[int], deep: Any) -> Any:
            return {"long": long, "many": many, "deep": deep, "wide": {str(number): number for number in range(5_000)}}

        back("é" * 100_000, many, deep)
        attributes = world.one("execute_tool back").attributes
        arguments, result = attributes["gen_ai.tool.call.arguments"], attributes["gen_ai.tool.call.result"]
        for text in (arguments, result):
            json.loads(text)
            assert len(text.encode()) <= MAX_BYTES < 2_048
            assert "(100000 characters)" in text
