"""What goes to a model and comes back is shown in the conventions' message arrays, whichever provider it is for."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_runtime.telemetry.capture import MAX_BYTES, Capture
from otel_runtime.telemetry.message_capture import MessageCapture
from otel_runtime.telemetry.redaction import Redactor

REDACTOR = Redactor()
MESSAGES = MessageCapture(Capture("SPAN_ONLY", REDACTOR), REDACTOR)


def text(content: str) -> dict[str, str]:
    return {"type": "text", "content": content}


def call(call_id: str | None, name: str, arguments: object) -> dict[str, object]:
    return {"type": "tool_call", **({} if call_id is None else {"id": call_id}), "name": name, "arguments": arguments}


ASKED: list[tuple[str, dict[str, Any], list[Any]]] = [
    (
        "openai chat",
        {
            "model": "gpt-4o",
            "messages": [
                {"role": "system", "content": "be kind"},
                {"role": "user", "content": [{"type": "text", "text": "look"}, {"type": "image_url", "image_url": {"url": "data:..."}}]},
                {"role": "assistant", "content": None, "tool_calls": [{"id": "c1", "function": {"name": "f", "arguments": '{"a":1}'}}]},
                {"role": "tool", "tool_call_id": "c1", "content": "42"},
            ],
        },
        [
            {"role": "system", "parts": [text("be kind")]},
            {"role": "user", "parts": [text("look"), {"type": "image_url"}]},
            {"role": "assistant", "parts": [call("c1", "f", '{"a":1}')]},
            {"role": "tool", "parts": [{"type": "tool_call_response", "id": "c1", "response": "42"}]},
        ],
    ),
    (
        "openai responses",
        {
            "instructions": "be kind",
            "input": [
                {"role": "user", "content": [{"type": "input_text", "text": "hi"}]},
                {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"},
                {"type": "function_call_output", "call_id": "c1", "output": "42"},
            ],
        },
        [
            {"role": "system", "parts": [text("be kind")]},
            {"role": "user", "parts": [text("hi")]},
            {"role": "assistant", "parts": [call("c1", "f", "{}")]},
            {"role": "tool", "parts": [{"type": "tool_call_response", "id": "c1", "response": "42"}]},
        ],
    ),
    ("a text as input", {"input": "hi"}, [{"role": "user", "parts": [text("hi")]}]),
    (
        "anthropic",
        {
            "system": "be kind",
            "messages": [
                {"role": "user", "content": "hi"},
                {"role": "assistant", "content": [{"type": "tool_use", "id": "t1", "name": "f", "input": {"a": 1}}]},
                {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": "42"}]},
            ],
        },
        [
            {"role": "system", "parts": [text("be kind")]},
            {"role": "user", "parts": [text("hi")]},
            {"role": "assistant", "parts": [call("t1", "f", {"a": 1})]},
            {"role": "user", "parts": [{"type": "tool_call_response", "id": "t1", "response": "42"}]},
        ],
    ),
    (
        "gemini",
        {
            "contents": [
                {"role": "user", "parts": [{"text": "hi"}]},
                {"role": "model", "parts": [{"functionCall": {"name": "f", "args": {"a": 1}}}]},
                {"role": "user", "parts": [{"functionResponse": {"name": "f", "response": {"r": 42}}}]},
            ]
        },
        [
            {"role": "user", "parts": [text("hi")]},
            {"role": "assistant", "parts": [call(None, "f", {"a": 1})]},
            {"role": "user", "parts": [{"type": "tool_call_response", "name": "f", "response": {"r": 42}}]},
        ],
    ),
    ("keyword arguments in one", {"kwargs": {"messages": [{"role": "user", "content": "hi"}]}}, [{"role": "user", "parts": [text("hi")]}]),
    ("a prompt", {"prompt": "hi", "temperature": 0.5}, [{"role": "user", "parts": [text("hi")]}]),
    ("anything else", {"n": 1}, [{"role": "user", "parts": [text('{"n":1}')]}]),
]

ANSWERED: list[tuple[str, Any, list[Any]]] = [
    (
        "openai chat",
        {
            "choices": [
                {"finish_reason": "stop", "message": {"role": "assistant", "content": "ho"}},
                {
                    "finish_reason": "tool_calls",
                    "message": {"content": None, "tool_calls": [{"id": "c1", "function": {"name": "f", "arguments": "{}"}}]},
                },
            ]
        },
        [
            {"role": "assistant", "parts": [text("ho")], "finish_reason": "stop"},
            {"role": "assistant", "parts": [call("c1", "f", "{}")], "finish_reason": "tool_calls"},
        ],
    ),
    (
        "objects of an SDK",
        SimpleNamespace(choices=[SimpleNamespace(finish_reason="stop", message=SimpleNamespace(role="assistant", content="ho"))]),
        [{"role": "assistant", "parts": [text("ho")], "finish_reason": "stop"}],
    ),
    (
        "openai responses",
        {
            "status": "completed",
            "output": [
                {"type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}]},
                {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "ho"}]},
                {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"},
            ],
        },
        [
            {
                "role": "assistant",
                "parts": [{"type": "reasoning", "content": "hm"}, text("ho"), call("c1", "f", "{}")],
                "finish_reason": "tool_call",
            }
        ],
    ),
    (
        "anthropic",
        {
            "role": "assistant",
            "stop_reason": "tool_use",
            "content": [
                {"type": "thinking", "thinking": "hm"},
                {"type": "text", "text": "ho"},
                {"type": "tool_use", "id": "t1", "name": "f", "input": {"a": 1}},
            ],
        },
        [
            {
                "role": "assistant",
                "parts": [{"type": "reasoning", "content": "hm"}, text("ho"), call("t1", "f", {"a": 1})],
                "finish_reason": "tool_use",
            }
        ],
    ),
    (
        "gemini",
        {
            "candidates": [
                {"finishReason": "STOP", "content": {"role": "model", "parts": [{"text": "hm", "thought": True}, {"text": "ho"}]}}
            ]
        },
        [{"role": "assistant", "parts": [{"type": "reasoning", "content": "hm"}, text("ho")], "finish_reason": "stop"}],
    ),
    ("a text", "ho", [{"role": "assistant", "parts": [text("ho")], "finish_reason": "stop"}]),
    ("anything else", {"n": 1}, [{"role": "assistant", "parts": [text('{"n":1}')], "finish_reason": "stop"}]),
]


def valid(found: str) -> list[Any]:
    """The array, after checking what every reader relies on."""
    assert len(found.encode()) <= MAX_BYTES
    messages = json.loads(found)
    assert all(isinstance(message["role"], str) and isinstance(message["parts"], list) for message in messages)
    assert all(isinstance(part["type"], str) for message in messages for part in message["parts"])
    return list(messages)


class TestShapes:
    @pytest.mark.parametrize(("name", "arguments", "expected"), ASKED)
    def test_asked(self, name: str, arguments: dict[str, Any], expected: list[Any]) -> None:
        """Requests of every provider become one shape."""
        assert expected == valid(MESSAGES.asked(arguments))

    @pytest.mark.parametrize(("name", "result", "expected"), ANSWERED)
    def test_answered(self, name: str, result: Any, expected: list[Any]) -> None:
        """Answers of every provider become one shape."""
        assert expected == valid(MESSAGES.answered(result))


class TestBounds:
    def test_long_texts_are_cut_evenly(self) -> None:
        """Every message stays; each says how long its text was."""
        found = valid(MESSAGES.asked({"messages": [{"role": "user", "content": "x" * 10_000}, {"role": "user", "content": "y" * 20_000}]}))
        contents = [message["parts"][0]["content"] for message in found]
        assert ["…(10000 characters)", "…(20000 characters)"] == [content.lstrip("xy") for content in contents]
        assert all(len(content) > 400 for content in contents)

    def test_many_messages_keep_the_first_and_the_newest(self) -> None:
        """Of a long conversation the first and the newest stay, and a mark says how many there were."""
        found = valid(MESSAGES.asked({"messages": [{"role": "user", "content": f"number {number}"} for number in range(50)]}))
        assert ("number 0", "number 49") == (found[0]["parts"][0]["content"], found[-1]["parts"][0]["content"])
        assert {"type": "omitted", "content": "…(50 messages)"} == found[1]["parts"][0]

    def test_large_tool_arguments(self) -> None:
        """A tool call's arguments are cut like any text, and the array stays an array."""
        block = {"type": "tool_use", "id": "t1", "name": "f", "input": {"rows": ["x" * 500] * 100}}
        (message,) = valid(MESSAGES.asked({"messages": [{"role": "assistant", "content": [block]}]}))
        assert ("tool_call", "f") == (message["parts"][0]["type"], message["parts"][0]["name"])

    @given(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
            lambda part: (
                st.lists(part)
                | st.dictionaries(
                    st.sampled_from(["messages", "content", "parts", "role", "type", "text", "choices", "message", "output", "x"]), part
                )
            ),
            max_leaves=60,
        )
    )
    def test_always_an_array(self, anything: Any) -> None:
        """Whatever a model function takes and returns, the result is a valid array of messages within the bound."""
        for found in (MESSAGES.asked({"messages": anything}), MESSAGES.answered(anything)):
            assert valid(found) == json.loads(found)
