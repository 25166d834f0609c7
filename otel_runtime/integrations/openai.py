"""The tool loop of an OpenAI-style chat: every tool call of a message, guarded, answered by a tool message.

    message = client.chat.completions.create(...).choices[0].message
    messages.append(message)
    messages.extend(run_tool_calls(message, {"refund": refund, "lookup": lookup}))

Works on the client's own objects and on plain dictionaries; the `openai` package is not imported. Calls run one after another, in the
order of the message, so that a rule about what came before sees the earlier calls of the same message.
"""

from __future__ import annotations

import functools
import inspect
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, NoReturn

from otel_runtime.errors import ApprovalPending, Blocked
from otel_runtime.wrap.plan import plan_of
from otel_runtime.wrap.toolcalls import arun_tool, run_tool

__all__ = ["PendingToolCalls", "ToolMessage", "arun_tool_calls", "run_tool_calls"]

ToolMessage = dict[str, str]
# Any: a tool takes and returns whatever its author chose.
Tools = Mapping[str, Callable[..., Any]]
Pending = Literal["raise", "message"]


class PendingToolCalls(ApprovalPending):
    """At least one call of the message waits for a person; the others have run.

    Attributes:
        messages: Tool messages of the calls that have run; keep them, or those calls run again.
        call_id: The tool call that waits (the first, when several do).
    """

    def __init__(self, first: ApprovalPending, call_id: str, messages: list[ToolMessage]) -> None:
        super().__init__(
            str(first),
            tool=first.tool,
            reason=first.reason,
            request_id=first.request_id,
            expires_at=first.expires_at,
            rule=first.rule,
            place=first.place,
        )
        self.messages = messages
        self.call_id = call_id


@dataclass(frozen=True, slots=True)
class _Call:
    id: str
    name: str
    arguments: str | None


@dataclass(frozen=True, slots=True)
class _Ready:
    call: _Call
    tool: Callable[..., Any]
    args: dict[str, object]


class _Batch:
    """The messages so far; says what becomes of each ending, for the sync and the async loop alike."""

    def __init__(self, on_pending: Pending) -> None:
        if on_pending not in {"raise", "message"}:
            raise ValueError(f"expected `on_pending` to be `raise` or `message`, got `{on_pending}`")
        self._on_pending = on_pending
        self._messages: list[ToolMessage] = []
        self._waiting: tuple[str, ApprovalPending] | None = None

    def ready(self, message_or_tool_calls: object, tools: Tools) -> Iterator[_Ready]:
        """The calls to run, in order; what is wrong with another one becomes its message."""
        for call in _calls(message_or_tool_calls):
            prepared = _prepare(call, tools)
            if isinstance(prepared, str):
                self.add(call, prepared)
            else:
                yield prepared

    @contextmanager
    def answering(self, ready: _Ready) -> Iterator[None]:
        """Around one run: a refusal and arguments that do not fit become messages too."""
        try:
            yield
        except Blocked as refusal:
            self._refused(ready.call, refusal)
        except TypeError as problem:
            self._failed(ready, problem)

    def add(self, call: _Call, content: object) -> None:
        self._messages.append({"role": "tool", "tool_call_id": call.id, "content": _text(content)})

    def _refused(self, call: _Call, refusal: Blocked) -> None:
        if isinstance(refusal, ApprovalPending) and self._on_pending == "raise":
            self._waiting = self._waiting or (call.id, refusal)
        else:
            self.add(call, refusal.as_tool_result())

    def _failed(self, ready: _Ready, problem: TypeError) -> None:
        """Arguments that do not fit the signature are the model's mistake; any other TypeError is the tool's own and is raised."""
        try:
            inspect.signature(ready.tool).bind(**ready.args)
        except TypeError as misfit:
            self.add(ready.call, _problem("invalid_arguments", ready.call, str(misfit)))
        else:
            raise problem

    def result(self) -> list[ToolMessage]:
        if self._waiting:
            call_id, first = self._waiting
            raise PendingToolCalls(first, call_id, self._messages) from first
        return self._messages


def run_tool_calls(message_or_tool_calls: object, tools: Tools, *, on_pending: Pending = "raise") -> list[ToolMessage]:
    """Run the tool calls of a chat message, guarded, and return one tool message for each.

    A refusal becomes `as_tool_result()`; an unknown tool and arguments that do not fit become messages too, because a model made them.
    Exceptions of the tools themselves are raised.

    Args:
        message_or_tool_calls: An assistant message, or its `tool_calls`; the client's objects or dictionaries.
        tools: Functions by the name the model was given.
        on_pending: `raise` runs the other calls, then raises; `message` tells the model that a person is being asked.

    Returns:
        Messages of role `tool`, in the order of the calls; none when the message calls no tool.

    Raises:
        PendingToolCalls: A call waits for approval (an `ApprovalPending`).
        TypeError: The first argument is no message and no list of tool calls.
    """
    batch = _Batch(on_pending)
    for ready in batch.ready(message_or_tool_calls, tools):
        with batch.answering(ready):
            batch.add(ready.call, run_tool(ready.tool, ready.args, call_id=ready.call.id))
    return batch.result()


async def arun_tool_calls(message_or_tool_calls: object, tools: Tools, *, on_pending: Pending = "raise") -> list[ToolMessage]:
    """`run_tool_calls` for asynchronous code, with the same arguments, result and errors; tools may be coroutine functions or plain ones."""
    batch = _Batch(on_pending)
    for ready in batch.ready(message_or_tool_calls, tools):
        with batch.answering(ready):
            batch.add(ready.call, await arun_tool(ready.tool, ready.args, call_id=ready.call.id))
    return batch.result()


def _calls(given: object) -> list[_Call]:
    calls = given if _is_list(given) else _field(given, "tool_calls", missing=_not_a_message)
    if calls is None:
        return []
    if not isinstance(calls, Sequence) or isinstance(calls, str | bytes):
        _not_a_message(given)
    return [_call(each) for each in calls]


def _call(given: object) -> _Call:
    identity = _field(given, "id")
    function = _field(given, "function")
    if function is None:
        # A custom tool carries free text, not arguments by name: it cannot be bound, so it cannot be decided upon.
        return _Call(str(identity), str(_field(_field(given, "custom"), "name") or ""), None)
    arguments = _field(function, "arguments")
    return _Call(str(identity), str(_field(function, "name") or ""), arguments if isinstance(arguments, str) else json.dumps(arguments))


def _prepare(call: _Call, tools: Tools) -> _Ready | str:
    """The call ready to run, or the text that tells the model what is wrong with it."""
    tool = tools.get(call.name)
    if tool is None:
        return _problem("unknown_tool", call, f"there is no tool of that name; the tools are {', '.join(sorted(tools)) or 'none'}")
    try:
        return _Ready(call, _named(tool, call.name), _arguments(call.arguments))
    except (ValueError, TypeError, RecursionError) as problem:
        return _problem("invalid_arguments", call, str(problem) or "the arguments are nested too deeply")


def _named(tool: Callable[..., Any], name: str) -> Callable[..., Any]:
    """A plain function under the name the model knows, which is the name that rules speak of; a decorated one has its own."""
    if plan_of(tool) is not None or getattr(tool, "__name__", None) == name:
        return tool
    renamed = _forwarding_async(tool) if inspect.iscoroutinefunction(tool) else _forwarding(tool)
    functools.update_wrapper(renamed, tool)
    renamed.__name__ = name
    return renamed


def _forwarding(tool: Callable[..., Any]) -> Callable[..., Any]:
    def forward(*args: Any, **kwargs: Any) -> Any:
        return tool(*args, **kwargs)

    return forward


def _forwarding_async(tool: Callable[..., Any]) -> Callable[..., Any]:
    async def forward(*args: Any, **kwargs: Any) -> Any:
        return await tool(*args, **kwargs)

    return forward


def _arguments(text: str | None) -> dict[str, object]:
    if text is None:
        raise ValueError("expected a function call with arguments by name")
    # Models leave the arguments of a tool without parameters empty.
    args = json.loads(text or "{}", parse_constant=_no_constant)
    if not isinstance(args, dict):
        raise TypeError(f"expected the arguments to be a JSON object, got {type(args).__name__}")
    return args


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"`{name}` is no JSON")


def _problem(kind: str, call: _Call, reason: str) -> str:
    return json.dumps({"error": kind, "tool": call.name, "reason": reason, "retryable": True})


def _text(result: object) -> str:
    if isinstance(result, str):
        return result
    dump = getattr(result, "model_dump_json", None)
    return str(dump()) if callable(dump) else json.dumps(result, default=str, ensure_ascii=False)


def _is_list(given: object) -> bool:
    return isinstance(given, Sequence) and not isinstance(given, str | bytes)


def _field(given: object, name: str, missing: Callable[[object], object] = lambda _: None) -> object:
    if isinstance(given, Mapping):
        return given.get(name)
    return getattr(given, name) if hasattr(given, name) else missing(given)


def _not_a_message(given: object) -> NoReturn:
    raise TypeError(f"expected an assistant message or its `tool_calls`, got `{type(given).__name__}`; pass `response.choices[0].message`")
