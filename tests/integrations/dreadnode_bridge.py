# mypy: ignore-errors
# ruff: noqa: T201
"""Turns of the real `dreadnode` runtime, read by our worker on its real EventBus; prints what came of it as JSON.

Run by test_dreadnode_bridge.py with the Python of an environment that has both packages: `dreadnode_bridge.py worker|follow POLICY STATE`.
"""

import asyncio
import contextlib
import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "sources"))

import dreadnode_runs as runs
from dreadnode.agents.tools import tool
from dreadnode.app.server.runtime_events import EventBus
from dreadnode.capabilities.worker_runner import WorkerRunner
from dreadnode.tools.interaction import RuntimePermissionBridge
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import otel_runtime as rt
from otel_runtime.integrations.dreadnode import follow, responder, worker

RESULTS = []


def asking(name: str, path: str) -> Any:
    """A tool that has the runtime ask a person before it works."""

    async def ask() -> str:
        """Ask, then work."""
        given = await RuntimePermissionBridge().request_tool_approval(tool_name="remove", tool_input={"path": path}, tool_call_id=name)
        RESULTS.append([name, given])
        return str(given)

    ask.__name__ = name
    return tool(ask)


class Client:
    """Answers go straight to the session that waits, as its server has them go."""

    def __init__(self) -> None:
        self.sessions = {}

    @contextlib.asynccontextmanager
    async def session_group(self, *_: Any, **__: Any) -> Any:
        yield None

    async def send_permission_response(self, session_id: str, request_id: str, decision: str) -> None:
        self.sessions[session_id].resolve_permission(request_id, decision)

    async def send_human_input_response(self, session_id: str, response: Any) -> None:
        assert self.sessions[session_id].resolve_human_input_response(response)


async def source(bus: EventBus, kinds: frozenset) -> Any:
    subscription = await bus.subscribe(kinds=kinds, include_runtime=True, queue_maxsize=10_000)
    while True:
        yield await subscription.queue.get()


async def turns(bus: EventBus, client: Client) -> None:
    asked = runs.session(bus, "s-asked", [["allowed", "refused"]])
    client.sessions["s-asked"] = asked
    make = asked._create_agent
    asked._create_agent = lambda **named: make(**named).with_(tools=[asking("allowed", "/tmp/x"), asking("refused", "/")])
    await asyncio.gather(runs.turn(asked), runs.failed_tool(bus))
    await runs.closed_mid_turn(bus)


async def main(how: str, policy: str, state: str) -> None:
    spans = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(spans))
    with rt.configure(policy=policy, state=state, otlp="off", tracer_provider=provider):
        await runs.turn(runs.session(EventBus(), "s-warm", [["fast"]]))
        bus, client = EventBus(), Client()
        if how == "worker":
            runner = WorkerRunner(worker(decide=True), client, event_source=lambda kinds: source(bus, kinds))
            await runner.start()
            await turns(bus, client)
            await asyncio.sleep(0.2)
            await runner.stop()
            assert runner.error is None, runner.error
        else:
            async with follow(bus, respond=responder(client), decide=True) as into:
                await turns(bus, client)
            assert into.count > 10
    by_id = {span.context.span_id: span.name for span in spans.get_finished_spans()}
    found = [
        {
            "name": span.name,
            "parent": by_id.get(span.parent.span_id) if span.parent else None,
            "status": span.status.status_code.name,
            "attributes": dict(span.attributes),
        }
        for span in spans.get_finished_spans()
    ]
    print("BRIDGED " + json.dumps({"results": sorted(RESULTS), "spans": found}, default=str))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
