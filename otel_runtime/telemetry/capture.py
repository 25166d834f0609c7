"""Content as JSON within bounds: depth, items, bytes, time. Nothing is consumed, nothing of the user's is called, nothing raises.

Theory: a walk over exact built-in types with a budget of nodes and characters and a deadline. What does not fit is replaced by a mark that
names the original size; what is no plain data is replaced by its type's name, never by its `repr`. Method calls go to the built-in
type (`dict.items(value)`), so that a subclass' own methods never run.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from datetime import date, datetime
from decimal import Decimal
from enum import Enum
from itertools import islice
from uuid import UUID

from otel_runtime.telemetry.redaction import MASK, Redactor
from otel_runtime.telemetry.sanitize import text, type_name

__all__ = ["MAX_BYTES", "Capture", "Mode", "capture_mode"]

# Tempo cuts attribute values at 2,048 bytes by default; a value cut there would no longer be JSON.
MAX_BYTES = 2000
_MAX_DEPTH = 8
_MAX_ITEMS = 32
_MAX_NODES = 600
_MAX_SECONDS = 0.01
# Bytes of a mark such as `"…(5000000 characters)"`, and what is kept for closing everything that is open when the room is used up.
_MARK = 32
_CLOSING = 64
_EDGE = 256
_LABEL = 128
_as_json = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode
_HIDDEN = frozenset({"self", "cls"})
_MODES = ("NO_CONTENT", "SPAN_ONLY", "EVENT_ONLY", "SPAN_AND_EVENT")
_OLDER = {"true": "SPAN_ONLY", "1": "SPAN_ONLY", "false": "NO_CONTENT", "0": "NO_CONTENT", "": "NO_CONTENT"}
Mode = str
_Items = list[object] | tuple[object, ...] | set[object] | frozenset[object]
_Container = dict[object, object] | _Items
_NUMBERS = (int, float, bytes, bytearray)
_CONTAINERS = (dict, list, tuple, set, frozenset)


def capture_mode(setting: str | None, variable: str | None) -> tuple[Mode, str | None]:
    """Which content is captured, and what is wrong with the variable.

    Args:
        setting: Our own setting, already checked; None when it is not set.
        variable: OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT; None when it is not set.
    """
    if setting is not None:
        return setting, None
    given = (variable or "").strip()
    if given.upper() in _MODES:
        return given.upper(), None
    if given.lower() in _OLDER:
        return _OLDER[given.lower()], None
    return "NO_CONTENT", f"`{text(given, 64)}` is no capture mode, so nothing is captured; expected one of {', '.join(_MODES)}"


@dataclass(slots=True)
class _Budget:
    """What may still be spent. `mask` is True on the second way, when the first found a text that needs it."""

    room: int
    deadline: float
    mask: bool
    nodes: int = _MAX_NODES

    def spent(self) -> bool:
        self.nodes -= 1
        # This thread's own time, so that a busy machine cuts nothing; looked at now and then, because asking costs as much as a node.
        if not self.nodes & 15 and time.thread_time() > self.deadline:
            self.nodes = -1
        return self.nodes < 0 or self.room <= 0


class Capture:
    """Turns arguments and results into short, valid, redacted JSON.

    Args:
        mode: As `capture_mode` gives it.
        redactor: What masks secrets.
        max_bytes: Most bytes of one JSON text.
    """

    def __init__(self, mode: Mode, redactor: Redactor, max_bytes: int = MAX_BYTES) -> None:
        self.on_spans: bool = mode in ("SPAN_ONLY", "SPAN_AND_EVENT")
        self.on_events: bool = mode in ("EVENT_ONLY", "SPAN_AND_EVENT")
        self.on: bool = self.on_spans or self.on_events
        self.mode = mode
        self.max_bytes: int = max_bytes
        self._redactor = redactor

    def arguments(self, given: Mapping[str, object]) -> str:
        """JSON of bound arguments; `self` and `cls` are left out."""
        try:
            shown: object = {key: value for key, value in given.items() if key not in _HIDDEN}
        except Exception:  # noqa: BLE001 - a mapping that cannot be read is shown as its type
            shown = given
        return self.json(shown)

    def json(self, given: object) -> str:
        """JSON of any value, at most `max_bytes` bytes."""
        room = self.max_bytes - _CLOSING
        deadline = time.thread_time() + _MAX_SECONDS
        mask = self._redactor.always
        for _ in range(7):
            try:
                found = _as_json(self._show(given, _Budget(room, deadline, mask), 0, ()))
            except Exception:  # noqa: BLE001 - changed under our hands by another thread, or stranger: the call goes on
                return json.dumps(f"<{type_name(given)}: not captured>")
            if not mask and self._redactor.suspicious(found):
                mask = True
            elif len(found) <= self.max_bytes and (found.isascii() or len(found.encode("utf-8", "replace")) <= self.max_bytes):
                return found
            else:
                room = room * 2 // 3
        return json.dumps(f"<{type_name(given)}: too large>")

    def _show(self, given: object, budget: _Budget, depth: int, seen: tuple[int, ...]) -> object:
        if budget.spent():
            return "…"
        kind = type(given)
        if kind is str:
            return self._string(given, budget)  # type: ignore[arg-type]  # its type has just been looked at
        if kind is dict or kind is list:
            return self._container(given, budget, depth, seen)  # type: ignore[arg-type]  # as above
        if given is None or kind is bool:
            budget.room -= 6
            return given
        # Of its type: `isinstance` asks an object for its `__class__`, which may lie or raise.
        if issubclass(kind, str):
            return self._string(given, budget)  # type: ignore[arg-type]  # as above
        if issubclass(kind, _NUMBERS):
            return _number_or_bytes(given, budget)  # type: ignore[arg-type]  # as above
        if issubclass(kind, _CONTAINERS):
            return self._container(given, budget, depth, seen)  # type: ignore[arg-type]  # as above
        return self._object(given, budget, depth, seen)

    def _string(self, given: str, budget: _Budget) -> str:
        size = str.__len__(given)
        room = max(16, budget.room - _MARK)
        if size <= room and type(given) is str and not budget.mask and given.isascii():
            # Nearly every text: nothing to clean. What is escaped in JSON is rare enough to be guessed.
            budget.room -= size + given.count('"') + given.count("\n") + 3
            return given
        if size <= room:
            shown = text(given, room)
            shown = self._redactor.mask(shown) if budget.mask else shown
            budget.room -= _cost(shown)
            return shown
        # Looked at a little further than shown, so that a secret on the edge is still recognised.
        shown = self._redactor.mask(text(given, room + _EDGE))
        budget.room -= _cost(shown[:room]) + _MARK
        return f"{shown[:room]}…({size} characters)"

    def _container(self, given: _Container, budget: _Budget, depth: int, seen: tuple[int, ...]) -> object:
        if id(given) in seen:
            return "<cycle>"
        if depth >= _MAX_DEPTH:
            return f"<{type_name(given)}: deeper than {_MAX_DEPTH}>"
        inner = (*seen, id(given))
        # Held back for the mark that says what was cut.
        budget.room -= _MARK
        if isinstance(given, dict):
            return self._mapping(dict.items(given), dict.__len__(given), budget, depth, inner)
        items, size = _plain_items(given)
        shown: list[object] = []
        for part in islice(items, _MAX_ITEMS):
            if budget.room <= 0:
                break
            budget.room -= 1
            shown.append(self._show(part, budget, depth + 1, inner))
        if len(shown) < size:
            shown.append(f"…({size} items)")
        else:
            budget.room += _MARK - 2
        return shown

    def _mapping(self, items: Iterable[tuple[object, object]], size: int, budget: _Budget, depth: int, seen: tuple[int, ...]) -> object:
        shown: dict[str, object] = {}
        show, secret = self._show, self._redactor.secret
        for key, value in islice(items, _MAX_ITEMS):
            if budget.room <= 0:
                break
            label = key if type(key) is str and key.isascii() and len(key) <= _LABEL else _key(key)
            budget.room -= len(label) + 5 if label is key else _cost(label) + 2
            shown[label] = MASK if secret(label, value) else show(value, budget, depth + 1, seen)
        if len(shown) < size:
            shown["…"] = f"({size} entries)"
        else:
            budget.room += _MARK - 2
        return shown

    def _object(self, given: object, budget: _Budget, depth: int, seen: tuple[int, ...]) -> object:
        if type(given) in (Decimal, datetime, date, UUID):
            budget.room -= 36
            return text(str(given), 64)
        kind = type(given)
        if issubclass(kind, Enum):
            return self._show(object.__getattribute__(given, "_value_"), budget, depth, seen)
        if is_dataclass(kind):
            names = [part.name for part in fields(kind)]
            parts = [(name, object.__getattribute__(given, name)) for name in names[:_MAX_ITEMS]]
            return self._guarded(given, parts, len(names), budget, depth, seen)
        own = _model_fields(given)
        if own is not None:
            return self._guarded(given, list(islice(own.items(), _MAX_ITEMS)), len(own), budget, depth, seen)
        budget.room -= 64
        return f"<{_qualified(given)}>"

    def _guarded(
        self, given: object, parts: list[tuple[str, object]], size: int, budget: _Budget, depth: int, seen: tuple[int, ...]
    ) -> object:
        if id(given) in seen or depth >= _MAX_DEPTH:
            return f"<{type_name(given)}>"
        budget.room -= _MARK
        return self._mapping(parts, size, budget, depth, (*seen, id(given)))


def _plain_items(given: _Items) -> tuple[Iterator[object], int]:
    if isinstance(given, list):
        return list.__iter__(given), list.__len__(given)
    if isinstance(given, tuple):
        return tuple.__iter__(given), tuple.__len__(given)
    if isinstance(given, set):
        return set.__iter__(given), set.__len__(given)
    return frozenset.__iter__(given), frozenset.__len__(given)


def _model_fields(given: object) -> dict[str, object] | None:
    """The fields of a pydantic model, read from its own dictionary: no validator, serializer or property runs."""
    if issubclass(type(given), type) or "model_fields" not in dir(type(given)):
        return None
    own = object.__getattribute__(given, "__dict__")
    return own if isinstance(own, dict) else None


def _number_or_bytes(given: float | bytes | bytearray, budget: _Budget) -> object:
    budget.room -= 8 if type(given) is int and -1_000_000 < given < 1_000_000 else 20
    if isinstance(given, bytes | bytearray):
        return f"<{len(given)} bytes>"
    if isinstance(given, float):
        number = float.__float__(given)
        return number if math.isfinite(number) else f"<{number}>"
    whole = int.__int__(given)
    return whole if whole.bit_length() <= 63 else f"<int of {whole.bit_length()} bits>"


def _qualified(given: object) -> str:
    try:
        return f"{text(type(given).__module__, 64)}.{text(type(given).__qualname__, 64)}"
    except Exception:  # noqa: BLE001 - a metaclass may make even these raise
        return type_name(given)


def _cost(shown: str) -> int:
    """Bytes in JSON, with quotes and a comma; control characters and quotes are rare enough to be guessed."""
    if shown.isascii():
        return len(shown) + shown.count("\n") + shown.count('"') + 3
    return len(shown.encode("utf-8", "replace")) + shown.count("\n") + shown.count('"') + 3


def _key(key: object) -> str:
    kind = type(key)
    if issubclass(kind, str):
        return text(key, _LABEL)
    if key is None or kind in (bool, float) or (kind is int and int.bit_length(key) < 64):  # type: ignore[arg-type]  # as above
        return text(str(key), 64)
    return f"<{type_name(key)}>"
