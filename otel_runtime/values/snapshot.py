"""Copy what a caller passed into plain data, within bounds, without running more of the caller's code than attribute reads.

The decision reads this copy; the function receives the originals. What cannot be read safely becomes `Unreadable`, and every condition
on it is unknown. Caps (policy.md, "Bounded by caps"): 1 MiB, 10,000 nodes, depth 32.
"""

from __future__ import annotations

import dataclasses
import math
import sys
from collections.abc import Iterable, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import PurePath
from typing import Any
from uuid import UUID

from otel_runtime.values.action import Unreadable

__all__ = ["MAX_BYTES", "MAX_DEPTH", "MAX_NODES", "same_data", "snapshot_arguments", "type_name"]

MAX_BYTES = 1 << 20
MAX_NODES = 10_000
MAX_DEPTH = 32
_MAX_INT_BITS = 8_192
_ANSWERS = ("__str__", "__repr__", "__eq__", "__hash__", "__format__", "__lt__", "__gt__")
_SHORT = 100
_SMALL = 1 << 64
_MOMENTS: tuple[type, ...] = (datetime, date, time, timedelta, UUID)
# A metaclass may answer for itself when its class is asked for these: `type` is asked instead.
_QUALNAME: Any = type.__dict__["__qualname__"]
_MODULE: Any = type.__dict__["__module__"]


class _OverCap(Exception):
    pass


class _Budget:
    __slots__ = ("bytes", "nodes")

    def __init__(self) -> None:
        self.bytes = MAX_BYTES
        self.nodes = MAX_NODES

    def take(self, size: int) -> None:
        self.nodes -= 1
        self.bytes -= size
        if self.nodes < 0 or self.bytes < 0:
            raise _OverCap


def type_name(value: object) -> str:
    """Module and qualified name of the value's type."""
    kind = type(value)
    module, name = _MODULE.__get__(kind), _QUALNAME.__get__(kind)
    # What a class body may have put there instead of a text is not asked for one.
    return f"{module}.{name}" if type(module) is str else str(name)


def snapshot_arguments(arguments: Mapping[str, Any], opaque: frozenset[str] = frozenset()) -> tuple[dict[str, object], bool]:
    """Copy bound arguments.

    Args:
        arguments: By name.
        opaque: Names that enter by type name only.

    Returns:
        The copy, and True when nothing in it could change behind the copy's back (immutable scalars only), so that it need not be
        taken again before the body starts.
    """
    if not opaque and len(arguments) < MAX_NODES and all(map(_is_small, arguments.values())):
        # Most arguments are small scalars: they are their own snapshot, and too few and too short to reach a cap.
        return dict(arguments), True
    budget = _Budget()
    copy: dict[str, object] = {}
    fixed = True
    for name, value in arguments.items():
        if name in opaque:
            copy[name] = Unreadable(type_name(value), "opaque")
        elif budget.nodes > 0 and _is_small(value):
            budget.nodes -= 1
            copy[name] = value
        else:
            fixed = fixed and _is_immutable(value)
            copy[name] = _top(value, budget)
    return copy, fixed


def _is_small(value: Any) -> bool:
    kind = type(value)
    if kind is str:
        return len(value) <= _SHORT and bool(value.isascii())
    # By identity: a hostile metaclass answers `==` and `hash` for its class.
    return -_SMALL < value < _SMALL if kind is int else value is None or kind is bool


def _is_immutable(value: object) -> bool:
    kind = type(value)
    return kind is str or kind is int or kind is float or kind is bool or value is None


def _top(value: object, budget: _Budget) -> object:
    try:
        return _copy(value, budget, ())
    except _OverCap:
        return Unreadable(type_name(value), "cap")
    except RecursionError:
        return Unreadable(type_name(value), "cap")
    except Exception:  # noqa: BLE001  # a property or a dict subclass of the caller's failed while being read: its content is unknown
        return Unreadable(type_name(value), "type")


def _copy(value: object, budget: _Budget, path: tuple[int, ...]) -> object:
    if value is None or type(value) is bool:
        budget.take(1)
        return value
    if isinstance(value, Enum):
        return _copy(value._value_, budget, path)
    if isinstance(value, str | int | float):
        return _scalar(value, budget)
    return _compound(value, budget, path)


def _scalar(value: str | float, budget: _Budget) -> object:
    if _pretends(value):
        budget.take(1)
        return Unreadable(type_name(value), "type")
    if isinstance(value, str):
        return _text(value, budget)
    if isinstance(value, int):
        return _integer(value, budget)
    budget.take(8)
    return float.__pos__(value) if math.isfinite(value) else Unreadable(type_name(value), "nan")


def _pretends(value: str | float) -> bool:
    """True for a subclass that answers for itself: what the function reads of it need not be what was decided."""
    if _is_immutable(value):
        return False
    kind = type(value)
    base = str if isinstance(value, str) else int if isinstance(value, int) else float
    return any(getattr(kind, name) is not getattr(base, name) for name in _ANSWERS)


def _text(value: str, budget: _Budget) -> object:
    # A subclass may override anything: take the bare characters.
    text = str.__str__(value)
    budget.take(len(text))
    if text.isascii():
        return text
    try:
        budget.take(len(text.encode()) - len(text))
    except UnicodeEncodeError:
        return Unreadable(type_name(value), "text")
    return text


def _integer(value: int, budget: _Budget) -> object:
    number = int.__int__(value)
    budget.take(8)
    return number if number.bit_length() <= _MAX_INT_BITS else Unreadable(type_name(value), "cap")


def _compound(value: object, budget: _Budget, path: tuple[int, ...]) -> object:
    kind = type(value)
    if kind is Decimal and isinstance(value, Decimal):
        budget.take(len(value.as_tuple().digits))
        return value if value.is_finite() else Unreadable(type_name(value), "nan")
    if any(kind is moment for moment in _MOMENTS):
        budget.take(16)
        return value
    if isinstance(value, PurePath):
        return _text(str(value), budget)
    if isinstance(value, bytes | bytearray):
        budget.take(len(value))
        return bytes(value)
    if id(value) in path:
        return Unreadable(type_name(value), "cycle")
    if len(path) >= MAX_DEPTH:
        raise _OverCap
    return _container(value, budget, (*path, id(value)))


def _container(value: object, budget: _Budget, path: tuple[int, ...]) -> object:
    if isinstance(value, list):
        budget.take(1)
        # list's own iteration: a subclass may show other items to us than to the function.
        return [_copy(item, budget, path) for item in list.__iter__(value)]
    if isinstance(value, tuple):
        budget.take(1)
        return tuple(_copy(item, budget, path) for item in tuple.__iter__(value))
    fields = _fields(value)
    if fields is None:
        budget.take(1)
        return Unreadable(type_name(value), "type")
    budget.take(1)
    copy: dict[str, object] = {}
    for key, item in fields:
        if type(key) is not str or not isinstance(key, str) or isinstance(_text(key, budget), Unreadable):
            return Unreadable(type_name(value), "key")
        copy[key] = _copy(item, budget, path)
    return copy


def _fields(value: object) -> Iterable[tuple[object, object]] | None:
    if isinstance(value, dict):
        return list(dict.items(value))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return [(item.name, getattr(value, item.name)) for item in dataclasses.fields(value)]
    pydantic = sys.modules.get("pydantic")
    if pydantic is not None and isinstance(value, pydantic.BaseModel):
        return [*vars(value).items(), *(value.__pydantic_extra__ or {}).items()]
    return None


def same_data(left: object, right: object) -> bool:
    """Equality of two snapshots with their types: 1, 1.0 and True differ, and so do a list and a tuple."""
    if type(left) is not type(right):
        return False
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(same_data(item, right[key]) for key, item in left.items())
    if isinstance(left, list | tuple) and isinstance(right, list | tuple):
        return len(left) == len(right) and all(map(same_data, left, right))
    return left == right
