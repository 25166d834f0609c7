# mypy: ignore-errors
# ruff: noqa: T201
"""An agent of the real `dreadnode` package with a model that answers from a list; prints its events, one per line.

Run by test_dreadnode_live.py with the Python of an environment that has the package.
"""

import asyncio
import json
import sys
from typing import Any

from dreadnode.agents.agent import Agent
from dreadnode.agents.hooks import process_judge_hook
from dreadnode.agents.process_judge import ProcessJudge
from dreadnode.agents.tools import FunctionCall, ToolCall, tool
from dreadnode.generators.generator.base import GeneratedMessage, GenerateParams, Generator, Usage
from dreadnode.generators.message import Message

ON_ERROR = sys.argv[1]
USAGE = Usage(input_tokens=10, output_tokens=5, total_tokens=15)


class Listed(Generator):
    asked: int = 0

    async def generate_messages(self, messages: Any, params: Any) -> list[GeneratedMessage]:
        self.asked += 1
        if self.asked > 1:
            return [GeneratedMessage(message=Message(role="assistant", content="done"), stop_reason="stop", usage=USAGE)]
        calls = [ToolCall(id=f"c{n}", function=FunctionCall(name="look", arguments=json.dumps({"x": n}))) for n in (1, 2)]
        message = Message(role="assistant", content="thinking", tool_calls=calls)
        return [GeneratedMessage(message=message, stop_reason="tool_calls", usage=USAGE)]


class Broken(ProcessJudge):
    async def evaluate(self, *arguments: Any, **named: Any) -> Any:
        raise RuntimeError("judge down")


@tool
async def look(x: int) -> str:
    """Look at something."""
    return str(x)


async def main() -> None:
    judge = Broken(model=Listed(model="judge", params=GenerateParams()))
    model = Listed(model="listed", params=GenerateParams())
    hook = process_judge_hook(judge, on_judge_error=ON_ERROR)
    agent = Agent(name="t", instructions="do", model=model, tools=[look], hooks=[hook], max_steps=4)
    async with agent.stream("hi") as events:
        async for event in events:
            wire = event.to_wire() if hasattr(event, "to_wire") else event.as_dict()
            print(json.dumps(wire, default=str))


asyncio.run(main())
