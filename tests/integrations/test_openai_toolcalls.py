"""The tool loop of an OpenAI-style chat, with the client's own types and a real policy."""

from __future__ import annotations

import asyncio
import functools
import json
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from openai.types.chat import ChatCompletionMessage
from pydantic import BaseModel

import otel_runtime as rt
from otel_runtime.integrations.openai import PendingToolCalls, arun_tool_calls, run_tool_calls
from otel_runtime.testing.memory import MemoryRuntime

POLICY = """
version: 1
name: shop
default: deny
tools:
  lookup: {args: {order: int}}
  refund: {args: {order: int, amount: number}}
  wipe: {args: {}}
rules:
  - {id: read, tool: lookup, decision: allow}
  - {id: refund.large, tool: refund, decision: require-approval, approval: {approvers: [anyone], expires: 30m}}
  - {id: wipe.never, tool: wipe, decision: deny, reason: nothing is ever wiped}
"""
Run = Callable[..., list[dict[str, str]]]


@rt.tool
def lookup(order: int) -> dict[str, object]:
    """Look up an order."""
    return {"order": order, "state": "shipped"}


@rt.tool
def refund(order: int, amount: float) -> str:
    """Refund an order."""
    return f"{order}: {amount}"


TOOLS: dict[str, Callable[..., Any]] = {"lookup": lookup, "refund": refund, "wipe": lambda: "wiped"}


def message(*calls: tuple[str, str, str]) -> ChatCompletionMessage:
    made = [{"id": identity, "type": "function", "function": {"name": name, "arguments": arguments}} for identity, name, arguments in calls]
    return ChatCompletionMessage.model_validate({"role": "assistant", "content": None, "tool_calls": made})


def asynchronously(*args: Any, **kwargs: Any) -> list[dict[str, str]]:
    return asyncio.run(arun_tool_calls(*args, **kwargs))


@pytest.fixture(params=[run_tool_calls, asynchronously], ids=["sync", "async"])
def run(request: pytest.FixtureRequest) -> Run:
    chosen: Run = request.param
    return chosen


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[MemoryRuntime]:
    policy = tmp_path / "shop.yaml"
    policy.write_text(POLICY)
    memory = MemoryRuntime(tmp_path / "state" / "state.db", [policy])
    with memory.use():
        yield memory
    memory.shutdown()


class TestCalls:
    def test_each_call_gets_its_message(self, run: Run) -> None:
        """In the order of the calls, results that are no text as JSON."""
        found = run(message(("c1", "lookup", '{"order": 7}'), ("c2", "refund", '{"order": 7, "amount": 2.5}')), TOOLS)
        expected = [
            {"role": "tool", "tool_call_id": "c1", "content": '{"order": 7, "state": "shipped"}'},
            {"role": "tool", "tool_call_id": "c2", "content": "7: 2.5"},
        ]
        assert expected == found

    def test_plain_dictionaries_and_bare_lists(self, run: Run) -> None:
        """What the client's objects dump to works the same."""
        dumped = message(("c1", "lookup", '{"order": 7}')).model_dump()
        assert run(dumped, TOOLS) == run(dumped["tool_calls"], TOOLS) == run(message(("c1", "lookup", '{"order": 7}')), TOOLS)

    @pytest.mark.parametrize("given", [{"role": "assistant", "content": "hi"}, ChatCompletionMessage(role="assistant", content="hi"), []])
    def test_no_calls(self, run: Run, given: object) -> None:
        """A message that calls nothing gives no messages."""
        assert [] == run(given, TOOLS)

    @pytest.mark.parametrize("given", [None, "text", 5])
    def test_something_else(self, run: Run, given: object) -> None:
        """It is said what was expected."""
        with pytest.raises(TypeError, match=r"response\.choices\[0\]\.message"):
            run(given, TOOLS)

    def test_models_as_results(self, run: Run) -> None:
        """A pydantic result is sent as its JSON."""

        class Order(BaseModel):
            id: int

        assert '{"id":3}' == run(message(("c1", "get", "{}")), {"get": lambda: Order(id=3)})[0]["content"]

    def test_exceptions_of_a_tool_are_raised(self, run: Run) -> None:
        """They are the application's, TypeErrors too."""

        def broken(kind: str) -> None:
            raise {"value": ValueError, "type": TypeError}[kind]("inside")

        for kind, error in (("value", ValueError), ("type", TypeError)):
            with pytest.raises(error, match="inside"):
                run(message(("c1", "broken", json.dumps({"kind": kind}))), {"broken": broken})

    def test_the_end_of_an_iterator_is_raised_as_it_is(self) -> None:
        """A StopIteration of a tool neither ends the loop nor becomes another error."""

        def exhausted() -> object:
            return next(iter(()))

        with pytest.raises(StopIteration):
            run_tool_calls(message(("c1", "exhausted", "{}"), ("c2", "exhausted", "{}")), {"exhausted": exhausted})

    def test_coroutine_functions(self) -> None:
        """The asynchronous loop awaits them."""

        async def slow(x: int) -> int:
            await asyncio.sleep(0)
            return x + 1

        assert "2" == asynchronously(message(("c1", "other_name", '{"x": 1}')), {"other_name": slow})[0]["content"]


class TestModelMistakes:
    @pytest.mark.parametrize(
        ("name", "arguments", "error"),
        [
            ("nope", "{}", "unknown_tool"),
            ("lookup", "{", "invalid_arguments"),
            ("lookup", "[1]", "invalid_arguments"),
            ("lookup", '{"order": NaN}', "invalid_arguments"),
            ("lookup", "[" * 100_000, "invalid_arguments"),
            ("lookup", '{"ordr": 7}', "invalid_arguments"),
            ("lookup", "", "invalid_arguments"),
        ],
    )
    def test_they_become_messages(self, run: Run, name: str, arguments: str, error: str) -> None:
        """The model is told, the loop goes on."""
        (found,) = run(message(("c1", name, arguments)), TOOLS)
        assert ("c1", error) == (found["tool_call_id"], json.loads(found["content"])["error"])

    def test_custom_tools(self, run: Run) -> None:
        """A call with free text instead of arguments is answered, not run."""
        call = {"id": "c1", "type": "custom", "custom": {"name": "lookup", "input": "7"}}
        assert "invalid_arguments" == json.loads(run([call], TOOLS)[0]["content"])["error"]


class TestPolicy:
    def test_a_refusal_is_a_message(self, run: Run, guarded: MemoryRuntime) -> None:
        """The tool does not run, and rules speak of the name the model knows, of plain functions too."""
        (found,) = run(message(("c1", "wipe", "{}")), TOOLS)
        assert {"error": "policy_denied", "tool": "wipe", "reason": "nothing is ever wiped", "retryable": False} == json.loads(
            found["content"]
        )
        assert (("wipe", "deny", "wipe.never"),) == guarded.decisions()

    def test_the_call_id_reaches_the_span(self, run: Run, guarded: MemoryRuntime) -> None:
        """It joins the span to the model's message."""
        run(message(("c7", "lookup", '{"order": 7}')), TOOLS)
        assert ["c7"] == [(span.attributes or {})["gen_ai.tool.call.id"] for span in guarded.spans()]

    def test_pending_is_raised_after_the_others_ran(self, run: Run, guarded: MemoryRuntime) -> None:
        """The error is an ApprovalPending that carries the finished messages, and survives pickling."""
        calls = message(("c1", "refund", '{"order": 7, "amount": 900}'), ("c2", "lookup", '{"order": 7}'))
        with pytest.raises(rt.ApprovalPending) as caught:
            run(calls, TOOLS)
        pending = pickle.loads(pickle.dumps(caught.value))
        assert isinstance(pending, PendingToolCalls)
        assert ("c1", ["c2"]) == (pending.call_id, [each["tool_call_id"] for each in pending.messages])
        assert guarded.runtime.approvals is not None
        request = guarded.runtime.approvals.get(pending.request_id)
        assert request is not None
        assert "awaiting-approval" == request.state

    def test_pending_as_a_message(self, run: Run, guarded: MemoryRuntime) -> None:
        """The model may be told instead."""
        (found,) = run(message(("c1", "refund", '{"order": 7, "amount": 900}')), TOOLS, on_pending="message")
        assert "approval_pending" == json.loads(found["content"])["error"]

    def test_an_unknown_way_is_refused(self, run: Run) -> None:
        """on_pending has two values."""
        with pytest.raises(ValueError, match="expected `on_pending` to be `raise` or `message`, got `ask`"):
            run(message(), TOOLS, on_pending="ask")


class TestNames:
    def test_partials(self, run: Run) -> None:
        """A callable without a name runs under the one in the table."""
        assert "7: 3" == run(message(("c1", "give", '{"amount": 3}')), {"give": functools.partial(refund, order=7)})[0]["content"]
