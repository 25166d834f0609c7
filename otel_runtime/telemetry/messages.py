"""Requests and responses of model calls -> the message arrays of the GenAI conventions. Pure, and reads plain data only.

The shape is that of https://github.com/open-telemetry/semantic-conventions-genai: a list of `{role, parts: [{type, ...}]}`, with
`finish_reason` on what the model said. Known are OpenAI's chat and responses, Anthropic, Gemini, and anything that is or holds a text.
Texts are passed on by reference; bounds and redaction come after.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import TypedDict

__all__ = ["Message", "Part", "messages_answered", "messages_asked", "own_fields"]

Part = dict[str, object]
_MOST = 64
_NESTED = ("kwargs", "request", "params", "payload", "body")
_PROMPTS = ("prompt", "question", "query", "text", "message", "user_input", "content")


class Message(TypedDict, total=False):
    """One message.

    Attributes:
        role: `system`, `user`, `assistant` or `tool`.
        parts: What it says.
        finish_reason: Why the model stopped; on answers only.
    """

    role: str
    parts: list[Part]
    finish_reason: str


def own_fields(given: object) -> Mapping[str, object]:
    """The fields of a dict or of an object of a provider's SDK, without running any code of theirs."""
    if isinstance(given, dict):
        # A subclass' own methods never run.
        return given if type(given) is dict else dict(islice(dict.items(given), _MOST))
    if given is None or isinstance(given, type | str | bytes | int | float | list | tuple | set):
        return {}
    try:
        own = object.__getattribute__(given, "__dict__")
    except AttributeError:
        return {}
    return own if type(own) is dict else {}


def _word(given: object) -> str:
    # Comparing, hashing or testing anything else would run code of the user's.
    return given if type(given) is str else ""


def _first(fields: Mapping[str, object], *names: str) -> object:
    return next((fields[name] for name in names if fields.get(name) is not None), None)


def messages_asked(arguments: Mapping[str, object]) -> list[Message] | None:
    """Messages sent to the model; None when the arguments are of no known shape.

    Args:
        arguments: Bound arguments of the function that asks the model.
    """
    for fields in (arguments, *(own_fields(arguments.get(name)) for name in _NESTED)):
        found = _asked(fields)
        if found:
            return found
    texts = [arguments[name] for name in _PROMPTS if isinstance(arguments.get(name), str)]
    texts = texts or [value for value in arguments.values() if isinstance(value, str)]
    return [{"role": "user", "parts": [_text(texts[0])]}] if texts else None


def messages_answered(result: object) -> list[Message] | None:
    """Messages of the model's answer; None when it is of no known shape."""
    if isinstance(result, str):
        return [{"role": "assistant", "parts": [_text(result)], "finish_reason": "stop"}]
    fields = own_fields(result)
    if choices := _items(fields.get("choices")):
        return [_choice(own_fields(choice)) for choice in choices]
    if candidates := _items(fields.get("candidates")):
        return [_candidate(own_fields(candidate)) for candidate in candidates]
    if output := _items(fields.get("output")):
        return _output(output, fields)
    if "content" in fields and ("role" in fields or "stop_reason" in fields):
        return [_finished(_message(result), fields.get("stop_reason"))]
    return None


def _asked(fields: Mapping[str, object]) -> list[Message]:
    told = (fields.get(name) for name in ("system", "instructions", "system_instruction"))
    found: list[Message] = [{"role": "system", "parts": _parts(part)} for part in told if part is not None]
    for name in ("messages", "contents", "input"):
        given = fields.get(name)
        if isinstance(given, str):
            return [*found, {"role": "user", "parts": [_text(given)]}]
        if items := _items(given):
            return [*found, *(_message(item) for item in items)]
    return []


def _items(given: object) -> list[object]:
    """The elements of a list or tuple; of a long one the first, which is often the system's, and the newest."""
    if isinstance(given, list):
        known: list[object] = list.__getitem__(given, slice(None)) if list.__len__(given) <= _MOST else _ends(given)
        return known
    return list(islice(tuple.__iter__(given), _MOST)) if isinstance(given, tuple) else []


def _ends(given: list[object]) -> list[object]:
    return [list.__getitem__(given, 0), *list.__getitem__(given, slice(1 - _MOST, None))]


def _message(given: object) -> Message:
    if isinstance(given, str):
        return {"role": "user", "parts": [_text(given)]}
    fields = own_fields(given)
    if _word(fields.get("type")) in _ITEMS:
        return _item(fields)
    role = _word(fields.get("role"))
    said = "assistant" if role == "model" else role or "user"
    content = _first(fields, "content", "parts")
    if said == "tool":
        return {"role": said, "parts": [{"type": "tool_call_response", "id": fields.get("tool_call_id"), "response": content}]}
    parts = _reasoned(fields) + _parts(content)
    parts += [_tool_call(own_fields(call)) for call in _items(fields.get("tool_calls"))]
    if refusal := _word(fields.get("refusal")):
        parts.append({"type": "refusal", "content": refusal})
    return {"role": said, "parts": parts}


def _reasoned(fields: Mapping[str, object]) -> list[Part]:
    said = _word(fields.get("reasoning_content"))
    return [{"type": "reasoning", "content": said}] if said else []


def _parts(given: object) -> list[Part]:
    if isinstance(given, str):
        return [_text(given)] if given else []
    blocks = _items(given)
    if blocks or given is None or isinstance(given, list | tuple):
        return [_part(block) for block in blocks]
    # Gemini's Content object stands for its parts.
    inner = own_fields(given).get("parts")
    return _parts(inner) if inner is not None else [_part(given)]


def _part(block: object) -> Part:
    if isinstance(block, str):
        return _text(block)
    fields = own_fields(block)
    kind = _word(fields.get("type"))
    if kind in ("tool_use", "server_tool_use"):
        return _call(fields.get("id"), fields.get("name"), fields.get("input"))
    if kind == "tool_result":
        return {"type": "tool_call_response", "id": fields.get("tool_use_id"), "response": fields.get("content")}
    if kind in ("thinking", "reasoning"):
        return {"type": "reasoning", "content": _word(_first(fields, "thinking", "text"))}
    if isinstance(fields.get("text"), str):
        return {"type": "reasoning", "content": fields["text"]} if fields.get("thought") is True else _text(fields["text"])
    return _function_part(fields) or {"type": kind or _shape(fields)}


def _function_part(fields: Mapping[str, object]) -> Part | None:
    called = own_fields(_first(fields, "functionCall", "function_call"))
    if called:
        return _call(called.get("id"), called.get("name"), called.get("args"))
    answered = own_fields(_first(fields, "functionResponse", "function_response"))
    if answered:
        return {"type": "tool_call_response", "id": answered.get("id"), "name": answered.get("name"), "response": answered.get("response")}
    return None


def _shape(fields: Mapping[str, object]) -> str:
    # Pictures, sound and files are named by their kind; their bytes are no text.
    return next((str(name) for name, value in fields.items() if value is not None and isinstance(name, str)), "unknown")


def _text(given: object) -> Part:
    return {"type": "text", "content": given}


def _call(call_id: object, name: object, arguments: object) -> Part:
    return {"type": "tool_call", "id": call_id, "name": name, "arguments": arguments}


def _tool_call(fields: Mapping[str, object]) -> Part:
    function = own_fields(fields.get("function"))
    return _call(fields.get("id"), function.get("name"), function.get("arguments"))


def _choice(fields: Mapping[str, object]) -> Message:
    if isinstance(fields.get("text"), str):
        return _finished({"role": "assistant", "parts": [_text(fields["text"])]}, fields.get("finish_reason"))
    message = _message(_first(fields, "message", "delta"))
    return _finished({**message, "role": "assistant"}, fields.get("finish_reason"))


def _candidate(fields: Mapping[str, object]) -> Message:
    said: Message = {"role": "assistant", "parts": _parts(fields.get("content"))}
    return _finished(said, _first(fields, "finishReason", "finish_reason"))


_ITEMS = frozenset({"function_call", "function_call_output", "reasoning"})


def _item(fields: Mapping[str, object]) -> Message:
    """One item of OpenAI's responses that is no message."""
    if _word(fields.get("type")) == "function_call":
        return {"role": "assistant", "parts": [_call(fields.get("call_id"), fields.get("name"), fields.get("arguments"))]}
    if _word(fields.get("type")) == "function_call_output":
        return {"role": "tool", "parts": [{"type": "tool_call_response", "id": fields.get("call_id"), "response": fields.get("output")}]}
    texts = [own_fields(part).get("text") for part in _items(fields.get("summary"))]
    return {"role": "assistant", "parts": [{"type": "reasoning", "content": text} for text in texts if isinstance(text, str)]}


def _output(items: list[object], fields: Mapping[str, object]) -> list[Message]:
    parts = [part for item in items for part in _message(item).get("parts", [])]
    called = any(part["type"] == "tool_call" for part in parts)
    status = _word(fields.get("status"))
    reason = "tool_call" if called else "stop" if status in ("", "completed") else status
    return [_finished({"role": "assistant", "parts": parts}, reason)]


def _finished(message: Message, reason: object) -> Message:
    # Enumerations of the SDKs hold their word in `value`.
    word = reason if isinstance(reason, str) else own_fields(reason).get("_value_")
    return {**message, "finish_reason": str.lower(word) if isinstance(word, str) else "stop"}
