# mypy: ignore-errors
# ruff: noqa: T201, RUF012, PERF401
"""Runs of the real `dreadnode` package with a model that answers from a list; prints what it said and the spans it made itself.

Run by tests with the Python of an environment that has the package. Prints one JSON object: for each run `events` as its streams gave
them, and `spans` as its own tracing made them.
"""

import asyncio
import contextlib
import json
import tempfile
import time
from collections import Counter
from collections.abc import Coroutine
from typing import Any

import logfire
from dreadnode.agents.agent import Agent
from dreadnode.agents.hooks import process_judge_hook
from dreadnode.agents.process_judge import ProcessJudge
from dreadnode.agents.tools import FunctionCall, ToolCall, tool
from dreadnode.app.main import DEFAULT_INSTANCE
from dreadnode.app.server.app import SessionRuntime
from dreadnode.app.server.runtime_events import EventBus
from dreadnode.generators.generator.base import GeneratedMessage, GenerateParams, Generator, Usage
from dreadnode.generators.message import Message
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

SPANS = InMemorySpanExporter()
# Bodies of tools that have come so far, by name.
BODIES = Counter()
TICK_S = 0.005


class Listed(Generator):
    plan: list = []
    asked: int = 0

    async def generate_messages(self, messages: Any, params: Any) -> list[GeneratedMessage]:
        usage = Usage(input_tokens=10 + self.asked, output_tokens=5, total_tokens=15 + self.asked)
        names = self.plan[self.asked] if self.asked < len(self.plan) else []
        self.asked += 1
        if names == "error":
            raise RuntimeError("model down")
        await asyncio.sleep(0.002)
        if not names:
            return [GeneratedMessage(message=Message(role="assistant", content="done"), stop_reason="stop", usage=usage)]
        calls = [ToolCall(id=f"c{self.asked}{n}", function=FunctionCall(name=name, arguments="{}")) for n, name in enumerate(names)]
        message = Message(role="assistant", content="thinking", tool_calls=calls)
        return [GeneratedMessage(message=message, stop_reason="tool_calls", usage=usage)]


class Broken(ProcessJudge):
    async def evaluate(self, *arguments: Any, **named: Any) -> Any:
        raise RuntimeError("judge down")


@tool
async def fast() -> str:
    """Answer at once."""
    await asyncio.sleep(0.005)
    BODIES["fast"] += 1
    return "fast"


@tool
async def slow() -> str:
    """Take a while."""
    await asyncio.sleep(0.05)
    return "slow"


@tool
async def hangs() -> str:
    """Never answer."""
    BODIES["hangs"] += 1
    await asyncio.sleep(60)
    return "never"


@tool(catch=False)
async def boom() -> str:
    """Fail, uncaught."""
    await asyncio.sleep(0.01)
    raise ValueError("boom")


@tool(catch=True)
async def soft() -> str:
    """Fail, caught."""
    raise ValueError("soft")


@tool
async def delegate() -> str:
    """Have another agent work."""
    async with agent([["fast"]], name="inner").stream("go") as events:
        async for _ in events:
            pass
    return "delegated"


def agent(plan: list, *, name: str = "t", hooks: list | None = None, max_steps: int = 6) -> Agent:
    model = Listed(model="listed", params=GenerateParams(), plan=plan)
    tools = [fast, slow, hangs, boom, soft, delegate]
    return Agent(name=name, instructions="do", model=model, tools=tools, hooks=hooks or [], max_steps=max_steps)


def judged(on_error: str) -> list:
    judge = Broken(model=Listed(model="judge", params=GenerateParams()))
    return [process_judge_hook(judge, on_judge_error=on_error)]


AGENTS = {
    "plain": lambda: agent([["fast", "slow"], ["fast"]]),
    "uncaught": lambda: agent([["fast"], ["boom"]]),
    "uncaught_with_sibling": lambda: agent([["slow", "boom", "fast"]]),
    "caught": lambda: agent([["soft", "fast"]]),
    "model_error": lambda: agent([["fast"], "error"]),
    "judge_deny": lambda: agent([["fast", "slow"]], hooks=judged("deny")),
    "judge_fail": lambda: agent([["fast", "slow"]], hooks=judged("fail")),
    "judge_allow": lambda: agent([["fast", "slow"]], hooks=judged("allow")),
    "max_steps": lambda: agent([["fast"]] * 9, max_steps=2),
    "delegated": lambda: agent([["delegate"], ["fast"]]),
    "unknown_tool": lambda: agent([["nobody"], ["fast"]]),
}


async def run_agent(name: str) -> list[dict]:
    found = []
    async with AGENTS[name]().stream("hi") as events:
        with contextlib.suppress(Exception):
            async for event in events:
                found.append(event.as_dict())
    return found


class Session(SessionRuntime):
    """A session whose agent is ours and which stores nothing."""

    plan: list = []
    hooks: list | None = None

    def _create_agent(self, **_: Any) -> Agent:
        return agent(self.plan, hooks=self.hooks)

    async def _submission_toolset_for_turn(self, *_: Any) -> None:
        return None

    async def _resolve_item_reads_toolset(self) -> None:
        return None

    def _persist_state(self, *_: Any, **__: Any) -> None:
        return None

    def _load_project_memory_background_context(self) -> str:
        return ""


def session(bus: EventBus, name: str, plan: list, hooks: list | None = None) -> Session:
    made = Session(name, event_bus=bus, model="mock/m")
    made.plan, made.hooks = plan, hooks
    return made


async def midway() -> None:
    """Until one tool hangs and the other has answered, however long that takes, and what they told of it has left."""
    while not (BODIES["hangs"] and BODIES["fast"]):  # noqa: ASYNC110  # each run has a loop of its own, to which an event would belong
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.1)


async def drained(queue: asyncio.Queue) -> None:
    while await queue.get() is not None:
        pass


async def turn(one: Session, text: str = "hi") -> None:
    _, queue = await one.enqueue_chat(text)
    await drained(queue)


async def failed_tool(bus: EventBus) -> None:
    await turn(session(bus, "s-failed", [["slow", "boom"]]))


async def completed(bus: EventBus) -> None:
    await turn(session(bus, "s-completed", [["fast", "slow"], ["fast"]]))


async def closed_mid_turn(bus: EventBus) -> None:
    BODIES.clear()
    one, other = session(bus, "s-closed", [["hangs", "fast"]]), session(bus, "s-other", [["fast"]])
    await one.enqueue_chat("hi")
    await midway()
    # As ServerState.delete_session does it: the deletion is announced, then the session is closed without a terminal event.
    await bus.publish(kind="session.deleted", payload={"session_id": "s-closed"})
    one.close()
    await asyncio.sleep(0.05)
    await turn(other)


async def two_at_once(bus: EventBus) -> None:
    one, other = session(bus, "s-one", [["slow", "fast"], ["fast"]]), session(bus, "s-two", [["slow", "boom"]])
    await asyncio.gather(turn(one), turn(other))


async def queued(bus: EventBus) -> None:
    one = session(bus, "s-queued", [["slow"]])
    await asyncio.gather(turn(one), turn(one, "again"))


async def cancelled(bus: EventBus) -> None:
    BODIES.clear()
    one = session(bus, "s-cancelled", [["hangs", "fast"]])
    _, queue = await one.enqueue_chat("hi")
    await one.enqueue_chat("next")
    await midway()
    await one.cancel(drop_queued=True)
    await drained(queue)


async def judge_fails(bus: EventBus) -> None:
    await turn(session(bus, "s-judge", [["fast", "slow"]], judged("fail")))


async def judge_denies(bus: EventBus) -> None:
    await turn(session(bus, "s-judge", [["fast", "slow"]], judged("deny")))


async def model_fails(bus: EventBus) -> None:
    await turn(session(bus, "s-model", [["fast"], "error"]))


async def delegates(bus: EventBus) -> None:
    await turn(session(bus, "s-delegate", [["delegate"], ["fast"]]))


async def components(bus: EventBus) -> None:
    """What the worker manager publishes of a worker's health, and a reload of capabilities."""
    for status, error in (("starting", None), ("running", None), ("error", "crashed")):
        payload = {"capability": "cap", "kind": "worker", "name": "w", "status": status, "error": error, "detail": {}}
        await bus.publish(kind="component.state_changed", payload=payload)
    await bus.publish(kind="capabilities.reloaded", payload={"capability_count": 3})
    await bus.publish(kind="session.warning", session_id="s", payload={"code": "sync", "message": "m", "sync_status": "degraded"})


RUNTIMES = {
    each.__name__: each
    for each in (
        failed_tool, completed, closed_mid_turn, two_at_once, queued, cancelled, judge_fails, judge_denies, model_fails, delegates, components,
    )
}  # fmt: skip


async def run_runtime(name: str) -> list[dict]:
    # The first turn imports half of the package, which takes longer than any of the sleeps above.
    await turn(session(EventBus(), "s-warm", [["fast"]]))
    SPANS.clear()
    bus = EventBus()
    everything = await bus.subscribe(include_runtime=True, queue_maxsize=10_000)
    await RUNTIMES[name](bus)
    found = []
    while not everything.queue.empty():
        found.append(json.loads(everything.queue.get_nowait().model_dump_json()))
    return found


async def timed(run: Coroutine[Any, Any, list[dict]]) -> tuple[list[dict], int]:
    """What a run returns, and for how many nanoseconds in all its loop stood still: so much may lie between two clocks read one after the other."""
    late = 0

    async def tick() -> None:
        nonlocal late
        while True:
            before = time.monotonic_ns()
            await asyncio.sleep(TICK_S)
            late += max(0, time.monotonic_ns() - before - 10 * int(TICK_S * 1e9))

    ticking = asyncio.create_task(tick())
    found = await run
    await asyncio.sleep(2 * TICK_S)
    ticking.cancel()
    return found, late


def native() -> list[dict]:
    return [
        {
            "name": span.name,
            "span_id": f"{span.context.span_id:016x}",
            "parent": f"{span.parent.span_id:016x}" if span.parent else None,
            "start_ns": span.start_time,
            "end_ns": span.end_time,
            "status": span.status.status_code.name,
            "attributes": {key: value for key, value in span.attributes.items() if key.startswith("dreadnode.")},
        }
        for span in SPANS.get_finished_spans()
    ]


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        DEFAULT_INSTANCE.configure(cache=folder)
        processor = SimpleSpanProcessor(SPANS)
        DEFAULT_INSTANCE._logfire = logfire.configure(  # as its own configure does, with one more processor
            send_to_logfire=False, console=False, additional_span_processors=[processor], scrubbing=False
        )
        found = {}
        # As below for runtimes: the first one imports half of the package.
        asyncio.run(run_agent("plain"))
        for what, names, run in (("agent", AGENTS, run_agent), ("runtime", RUNTIMES, run_runtime)):
            for name in names:
                SPANS.clear()
                events, late_ns = asyncio.run(timed(run(name)))
                found[f"{what} {name}"] = {"events": events, "spans": native(), "late_ns": late_ns}
        print("RECORDED " + json.dumps(found, default=str))


if __name__ == "__main__":
    main()
