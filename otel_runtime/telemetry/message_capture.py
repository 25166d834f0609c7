"""Message arrays as JSON within the bound: always a list of messages, whatever had to be cut.

What is too long is cut evenly: first the texts, then the messages between the first and the newest; marks name the original sizes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from otel_runtime.telemetry.capture import Capture
from otel_runtime.telemetry.messages import Message, Part, messages_answered, messages_asked
from otel_runtime.telemetry.redaction import Redactor
from otel_runtime.telemetry.sanitize import text

__all__ = ["MessageCapture"]

_MESSAGES = 16
_PARTS = 8
_LENGTHS = (1600, 800, 400, 200, 100, 50, 25)
_TEXTS = ("content", "response", "arguments")


class _Text(NamedTuple):
    shown: str
    size: int


class MessageCapture:
    """Turns requests and responses of models into the conventions' JSON.

    Args:
        capture: Shows what is no text, and knows the bound.
        redactor: What masks secrets.
    """

    def __init__(self, capture: Capture, redactor: Redactor) -> None:
        self._capture = capture
        self._redactor = redactor

    def asked(self, arguments: Mapping[str, object]) -> str:
        """JSON of what was sent to the model."""
        try:
            found = messages_asked(arguments)
        except Exception:  # noqa: BLE001 - changed under our hands, or stranger: shown as whatever it is
            found = None
        return self._json([{"role": "user", "parts": [_shown(self._capture.arguments(arguments))]}] if found is None else found)

    def answered(self, result: object) -> str:
        """JSON of what the model said."""
        try:
            found = messages_answered(result)
        except Exception:  # noqa: BLE001 - as above
            found = None
        if found is None:
            found = [{"role": "assistant", "parts": [_shown(self._capture.json(result))], "finish_reason": "stop"}]
        return self._json(found)

    def _json(self, messages: Sequence[Message]) -> str:
        kept = _kept(messages, _MESSAGES)
        masked = [self._masked(message) for message in kept]
        for most in (_MESSAGES, _MESSAGES // 2, 2):
            chosen = _kept(masked, most, len(messages))
            for length in _LENGTHS:
                if _least(chosen, length) > self._capture.max_bytes:
                    continue
                shown = [_cut(message, length) for message in chosen]
                found = json.dumps(shown, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
                if len(found.encode("utf-8", "replace")) <= self._capture.max_bytes:
                    return found
        return json.dumps([_omitted(len(messages))])

    def _masked(self, message: Message) -> Message:
        parts = message.get("parts", [])
        found: Message = {"role": text(message.get("role", "user"), 32)}
        found["parts"] = [self._part(part) for part in parts[:_PARTS]]
        if len(parts) > _PARTS:
            found["parts"].append({"type": "omitted", "content": f"…({len(parts)} parts)"})
        if "finish_reason" in message:
            found["finish_reason"] = text(message["finish_reason"], 32)
        return found

    def _part(self, part: Part) -> Part:
        found: Part = {}
        for name, value in part.items():
            if value is None:
                continue
            if name not in _TEXTS:
                found[name] = text(value, 64)
            elif isinstance(value, str):
                # As much as could be shown at all, so that a secret on a cut's edge is masked before the cut.
                found[name] = _Text(self._redactor.mask(text(value, self._capture.max_bytes)), str.__len__(value))
            else:
                # Data stays data: nested JSON that can be read, unless it has to be cut below.
                found[name] = json.loads(self._capture.json(value))
        return found


def _shown(captured: str) -> Part:
    return {"type": "text", "content": captured}


def _omitted(count: int) -> Message:
    return {"role": "system", "parts": [{"type": "omitted", "content": f"…({count} messages)"}]}


def _kept(messages: Sequence[Message], most: int, original: int | None = None) -> list[Message]:
    """The first and the newest, with a mark where others were; as many as may stay."""
    count = len(messages) if original is None else original
    if len(messages) <= most:
        return list(messages)
    return [messages[0], _omitted(count), *messages[len(messages) - most + 1 :]]


def _least(messages: Sequence[Message], length: int) -> int:
    """Fewest bytes that the messages take with texts of that length."""
    texts = (value.size for message in messages for part in message["parts"] for value in part.values() if isinstance(value, _Text))
    return 30 * len(messages) + sum(min(size, length) for size in texts)


def _cut(message: Message, length: int) -> Message:
    return {**message, "parts": [_cut_part(part, length) for part in message["parts"]]}


def _cut_part(part: Part, length: int) -> Part:
    return {name: _cut_value(value, length) if name in _TEXTS else value for name, value in part.items()}


def _cut_value(value: object, length: int) -> object:
    if isinstance(value, _Text):
        return value.shown if value.size <= length else f"{value.shown[:length]}…({value.size} characters)"
    plain = json.dumps(value, ensure_ascii=False)
    return value if len(plain) <= length else f"{plain[:length]}…({len(plain)} characters)"
