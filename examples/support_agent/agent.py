"""The agent: an ordinary tool-calling loop with the `openai` client, and three lines of otel-runtime in it."""

from __future__ import annotations

import functools
import json
import os
import time
from collections.abc import Callable
from typing import cast

from openai import OpenAI
from openai.types.chat import ChatCompletion, ChatCompletionMessageFunctionToolCall, ChatCompletionMessageParam
from schemas import SCHEMAS, TOOLS

import otel_runtime as rt

__all__ = ["handle"]

_MOST_STEPS = 12
_WORTH_SAYING_S = 0.5
_SYSTEM = (
    "You are the support agent of a small furniture shop. Use the tools; do what the ticket asks and nothing else. "
    "Refund only what the customer asks for. When a refund is paid, write one short mail to the customer. "
    "When a tool is refused, say so in your answer and do not try to get around it. "
    "Colleagues have addresses at corp.example. Answer in at most three sentences."
)


def _say_nothing(line: str) -> None:
    """Listener for those who only want the answer."""


@functools.cache
def _client() -> OpenAI:
    # Reads OPENAI_API_KEY and OPENAI_BASE_URL.
    return OpenAI(max_retries=2, timeout=60)


@rt.model(provider="openai")
def ask(model: str, messages: list[ChatCompletionMessageParam]) -> ChatCompletion:
    """Ask the model for its next step."""
    return _client().chat.completions.create(model=model, messages=messages, tools=SCHEMAS)


@rt.agent(name="support", session="ticket_id", user="clerk")
def handle(ticket_id: str, text: str, clerk: str, tell: Callable[[str], None] = _say_nothing) -> str:
    """Work on one ticket and return the answer.

    Args:
        ticket_id: Names the session, so limits and labels are per ticket.
        text: What the sender wrote.
        clerk: On whose behalf the agent acts.
        tell: Called with one line per step.
    """
    model = os.environ.get("OPENAI_MODEL", "gpt-5-mini")
    task = f"{_SYSTEM} You act for {clerk}, on ticket {ticket_id}."
    messages: list[ChatCompletionMessageParam] = [{"role": "system", "content": task}, {"role": "user", "content": text}]
    for _ in range(_MOST_STEPS):
        answer = ask(model, messages).choices[0].message
        messages.append(cast("ChatCompletionMessageParam", answer.model_dump(exclude_none=True)))
        if not answer.tool_calls:
            return answer.content or ""
        calls = [call for call in answer.tool_calls if isinstance(call, ChatCompletionMessageFunctionToolCall)]
        messages.extend({"role": "tool", "tool_call_id": call.id, "content": _run(call, tell)} for call in calls)
    return f"I stopped after {_MOST_STEPS} steps without an answer."


def _run(call: ChatCompletionMessageFunctionToolCall, tell: Callable[[str], None]) -> str:
    name, text = call.function.name, call.function.arguments
    started = time.monotonic()
    try:
        result = json.dumps(rt.run_tool(TOOLS[name], json.loads(text), call_id=call.id))
    except rt.Blocked as refused:
        # Before `except Exception`: a refusal is told to the model in words it can use, and must never be taken for a fault of the tool.
        tell(_line("refused", name, text, refused.reason, started))
        return refused.as_tool_result()
    except Exception as error:  # noqa: BLE001 - whatever a tool raises is the model's to read; the loop goes on
        tell(_line("failed", name, text, str(error), started))
        return json.dumps({"error": type(error).__name__, "message": str(error)})
    tell(_line("done", name, text, _short(result), started))
    return result


def _line(outcome: str, name: str, arguments: str, result: str, started: float) -> str:
    seconds = time.monotonic() - started
    waited = f" (after {seconds:.1f} s)" if seconds > _WORTH_SAYING_S else ""
    return f"{outcome:8}{name} {_short(arguments)}{waited}: {result}"


def _short(text: str, most: int = 64) -> str:
    line = " ".join(text.split())
    return line if len(line) <= most else f"{line[: most - 3]}..."
