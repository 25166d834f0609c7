"""Read by mypy and pyright, never run: contexts, decisions, hooks and the guarded call keep types too."""

from __future__ import annotations

from typing import assert_type

import otel_runtime as rt
from otel_runtime.values.approval import ApprovalRequest
from otel_runtime.values.decision import Decision
from otel_runtime.values.host import HostContext
from otel_runtime.values.trace import EventEnvelope
from otel_runtime.values.usage import UsageRecord


def blocks() -> None:
    with rt.workflow("nightly"), rt.agent("support"), rt.session("s1", user="carla"):
        with rt.call(id="call_1"), rt.tool("refund", args={"order": "A-1", "amount": 5}):
            pass
        with rt.model("gpt-5") as running:
            assert_type(running.record_usage({"usage": {"input_tokens": 1}}), UsageRecord | None)
            assert_type(rt.record_usage({"usage": {"input_tokens": 1}}), UsageRecord | None)


async def asynchronous_blocks() -> None:
    async with rt.agent("support"), rt.tool("refund", args={"order": "A-1"}):
        pass


def does_not_swallow() -> int:
    # A context manager that could swallow errors would make the checkers ask for a return below it.
    with rt.tool("refund", args={}):
        return 1


def decisions() -> None:
    decision = rt.decide("refund", {"amount": 5})
    assert_type(decision, Decision)
    rt.decide("refund", 5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def add(left: int, right: int) -> int:
    return left + right


async def fetch(url: str) -> bytes:
    return url.encode()


def own_loop() -> None:
    assert_type(rt.run_tool(add, {"left": 1, "right": 2}, call_id="call_1"), int)


async def own_asynchronous_loop() -> None:
    assert_type(await rt.arun_tool(fetch, {"url": "x"}), bytes)
    assert_type(await rt.arun_tool(add, {"left": 1, "right": 2}), int)


@rt.on_event("turn.completed")
def completed(event: EventEnvelope) -> str:
    return event.kind


@rt.on_event("turn.completed")
async def completed_later(event: EventEnvelope) -> None: ...


@rt.on("approval")
def asked(request: ApprovalRequest, context: HostContext) -> None: ...


@rt.on("finish")
async def finished(context: HostContext) -> None: ...


@rt.on("finnish")  # type: ignore[call-overload, untyped-decorator]  # pyright: ignore[reportCallIssue, reportArgumentType, reportUntypedFunctionDecorator]
def misspelt(context: HostContext) -> None: ...


def refusals(error: rt.Blocked) -> str:
    assert_type(error.tool, str)
    return error.as_tool_result()
