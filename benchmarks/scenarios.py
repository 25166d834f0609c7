"""What is measured. One state of the runtime per process, since `configure` happens once in one; the yardstick runs beside it."""

from __future__ import annotations

import asyncio
import inspect
import json
import logging
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel

import otel_runtime as rt
from benchmarks.measure import Case
from benchmarks.policies import policy_file
from benchmarks.reference import meter_provider, plain_case, raw_case, refund, tracer_provider
from otel_runtime.policy.loading import load_policy
from otel_runtime.values.action import Action
from otel_runtime.wrap.signatures import tool_signature

__all__ = ["SCENARIOS"]

ITEMS = 1_000
SIZES = (1, 100, 1_000, 10_000)

# Shaped as the chat completions of OpenAI answer: usage is read from it, priced and recorded.
RESPONSE: Mapping[str, object] = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "model": "gpt-4o-mini",
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "ok"}}],
    "usage": {"prompt_tokens": 1200, "completion_tokens": 34, "total_tokens": 1234, "prompt_tokens_details": {"cached_tokens": 1000}},
}


# Ten kilobytes as JSON: what a retrieval hands to a tool.
LARGE: Mapping[str, object] = {
    "question": "Where is my order?",
    "documents": [{"id": f"doc-{at}", "score": at / 64, "tags": ["order", "refund"], "text": f"{at:04d} " * 35} for at in range(40)],
}


def search(given: Mapping[str, object]) -> int:
    """A tool that is handed much and does next to nothing."""
    return 1


def ask(prompt: str) -> Mapping[str, object]:
    """A model that answers at once."""
    return RESPONSE


def stream(prompt: str) -> Iterator[str]:
    """A model that streams at once."""
    for _ in range(ITEMS):
        yield prompt


async def stream_slowly(prompt: str) -> AsyncIterator[str]:
    """The same, asynchronous."""
    for _ in range(ITEMS):
        yield prompt


def returned_stream(prompt: str) -> Iterator[str]:
    """A model whose client hands back an iterator of its own."""
    return iter([prompt] * ITEMS)


class Choice(BaseModel):
    """A part of a chunk."""

    index: int = 0
    delta: dict[str, str]
    finish_reason: str | None = None


class Chunk(BaseModel):
    """What a client makes of one line of a streamed answer."""

    id: str = "chatcmpl-1"
    object: str = "chat.completion.chunk"
    model: str = "gpt-4o-mini"
    choices: list[Choice]
    usage: dict[str, int] | None = None


CHUNKS = [Chunk(choices=[Choice(delta={"content": "x"})])] * ITEMS


class ChunkStream:
    """A client's stream object: an iterator that can be closed."""

    def __init__(self) -> None:
        self._items = iter(CHUNKS)

    def __iter__(self) -> ChunkStream:
        return self

    def __next__(self) -> Chunk:
        return next(self._items)

    def close(self) -> None:
        """Nothing is open."""


def client_stream(prompt: str) -> Any:
    """A model whose client hands back its own stream object."""
    return ChunkStream()


def repeated(call: Callable[[], object]) -> Callable[[int], None]:
    """Call it `n` times."""

    def run(times: int) -> None:
        for _ in range(times):
            call()

    return run


def consumed(items: Callable[[str], Iterator[Any]]) -> Callable[[int], None]:
    """Read the stream to its end, `n` times."""

    def run(times: int) -> None:
        for _ in range(times):
            for _item in items("x"):
                pass

    return run


def consumed_slowly(items: Callable[[str], AsyncIterator[str]]) -> Callable[[int], None]:
    """Read the asynchronous stream to its end, `n` times."""

    async def read(times: int) -> None:
        for _ in range(times):
            async for _item in items("x"):
                pass

    return lambda times: asyncio.run(read(times))


def wrapped(between: Callable[[], object]) -> list[Case]:
    """A tool, a model and a stream under the decorators, whatever the state of the runtime."""
    tool, model, streamed = rt.tool(refund), rt.model(ask), rt.model(stream)
    return [
        Case("tool", repeated(lambda: tool("A-1", 5)), between=between),
        Case("model", repeated(lambda: model("hi")), between=between),
        Case("plain item", consumed(stream), operations=ITEMS),
        Case("streamed item", consumed(streamed), operations=ITEMS, between=between),
        Case("plain async item", consumed_slowly(stream_slowly), operations=ITEMS),
        Case("streamed async item", consumed_slowly(rt.model(stream_slowly)), operations=ITEMS, between=between),
        Case("plain returned item", consumed(returned_stream), operations=ITEMS),
        Case("streamed returned item", consumed(rt.model(returned_stream)), operations=ITEMS, between=between),
        Case("plain chunk", consumed(client_stream), operations=ITEMS),
        Case("streamed chunk", consumed(rt.model(client_stream)), operations=ITEMS, between=between),
    ]


def large(between: Callable[[], object]) -> list[Case]:
    """A small argument and one of ten kilobytes, and what turning that into JSON costs."""
    if not 9_500 < len(json.dumps(LARGE)) < 10_500:
        raise RuntimeError(f"expected an argument of ten kilobytes, got {len(json.dumps(LARGE))} bytes")
    tool, small = rt.tool(search), {"question": "Where is my order?"}
    return [
        Case("small argument", repeated(lambda: tool(small)), between=between),
        Case("large argument", repeated(lambda: tool(LARGE)), between=between),
        Case("json.dumps", repeated(lambda: json.dumps(LARGE))),
    ]


def configure(provider: Any, **settings: Any) -> None:
    """A runtime that prints nothing and keeps its state out of the way."""
    # That nothing is guarded is meant here, and said by the row's name.
    logging.getLogger("otel_runtime").setLevel(logging.ERROR)
    state = Path(tempfile.mkdtemp(prefix="otel-runtime-bench-")) / "state.db"
    rt.configure(tracer_provider=provider, meter_provider=meter_provider(), otlp="off", state=state, **settings)


def off() -> list[Case]:
    """Nothing is configured."""
    provider = tracer_provider()
    return [plain_case(), raw_case(provider), *wrapped(provider.force_flush)]


def traced() -> list[Case]:
    """Configured without a policy: spans and metrics only."""
    provider = tracer_provider()
    configure(provider)
    return [plain_case(), raw_case(provider), *wrapped(provider.force_flush), *large(provider.force_flush)]


def captured() -> list[Case]:
    """The same with content captured."""
    provider = tracer_provider()
    configure(provider, capture="SPAN_ONLY")
    return [plain_case(), raw_case(provider), *large(provider.force_flush)]


def guarded() -> list[Case]:
    """Twenty rules, of which one allows the tool and one holds models to a budget."""
    provider = tracer_provider()
    configure(provider, policy=policy_file(Path(tempfile.mkdtemp()), 20, budget=True))
    rt.session("s1", user="carla").__enter__()
    return [plain_case(), raw_case(provider), *wrapped(provider.force_flush)]


def sampled_out() -> list[Case]:
    """The sampler drops every span."""
    provider = tracer_provider(sampled=False)
    configure(provider)
    return [plain_case(), raw_case(provider), *wrapped(provider.force_flush)]


def decisions() -> list[Case]:
    """The engine alone: what to read, then the decision, of policies whose last rule is the one that matters."""
    action = Action("tool", "refund", {"order": "A-1", "amount": 5}, tool_signature(refund, inspect.signature(refund), skip_first=False))
    folder, now = Path(tempfile.mkdtemp(prefix="otel-runtime-bench-")), datetime.now(UTC)

    def case(rules: int) -> Case:
        engine = load_policy([policy_file(folder, rules)]).engine
        if engine.decide(action, None, now).decision.value != "allow":
            raise RuntimeError(f"expected the policy of {rules} rules to allow the call, so that a whole decision is measured")

        def decide() -> None:
            engine.needs(action, now)
            engine.decide(action, None, now)

        return Case(str(rules), repeated(decide))

    return [plain_case(), raw_case(tracer_provider()), *(case(rules) for rules in SIZES)]


SCENARIOS: Mapping[str, Callable[[], list[Case]]] = {
    "off": off,
    "traced": traced,
    "captured": captured,
    "guarded": guarded,
    "sampled out": sampled_out,
    "decisions": decisions,
}
