"""The types of a catalogue: `str int float number bool dict list list[T] any`, joined by `|`, optional with `?`."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import TypeAlias

from otel_runtime.policy.truth import Tri, all_of, any_of
from otel_runtime.values.action import Unreadable

__all__ = ["TYPE_HINT", "ArgType", "parse_type", "split_type"]

TYPE_HINT = (
    "`str`, `int`, `float`, `number`, `bool`, `dict`, `list`, `list[T]` or `any`, joined by `|`, with a `?` at the end when optional"
)
_MAX_LENGTH = 200

Check: TypeAlias = Callable[[object], Tri]


@dataclass(frozen=True, slots=True)
class ArgType:
    """A declared type.

    Args:
        text: As written, without the `?`.
        check: True when a value fits, False when it does not, unknown when it cannot be read.
        optional: True when it ended in `?`: it may be left out or null.
    """

    text: str
    check: Check
    optional: bool = False


def parse_type(text: str) -> ArgType:
    """Read a type.

    Raises:
        ValueError: It is not in the grammar.
    """
    bare = text.strip()
    optional = bare.endswith("?")
    bare = bare[:-1].strip() if optional else bare
    if len(bare) > _MAX_LENGTH:
        raise ValueError(f"the type is longer than {_MAX_LENGTH} characters")
    return ArgType(bare, _union(bare), optional)


def _union(text: str) -> Check:
    checks = [_single(part.strip()) for part in _split(text)]
    if len(checks) == 1:
        return checks[0]
    return lambda value: any_of(check(value) for check in checks)


def split_type(text: str) -> list[str]:
    """The parts of a type that `|` joins, without the `?`."""
    return [part.strip() for part in _split(text.strip().removesuffix("?"))]


def _split(text: str) -> list[str]:
    parts, depth, start = [], 0, 0
    for at, char in enumerate(text):
        depth += (char == "[") - (char == "]")
        if char == "|" and depth == 0:
            parts.append(text[start:at])
            start = at + 1
    return [*parts, text[start:]]


def _single(text: str) -> Check:
    if text in _BASE:
        return _BASE[text]
    if text.startswith("list[") and text.endswith("]"):
        return _list_of(_union(text[5:-1]))
    raise ValueError(f"unknown type `{text}`; expected {TYPE_HINT}")


def _list_of(item: Check) -> Check:
    def check(value: object) -> Tri:
        if isinstance(value, list | tuple):
            return all_of(item(element) for element in value)
        return _unread(value)

    return check


def _unread(value: object) -> Tri:
    # Opaque, too large and badly encoded values may well be of the declared type; what was read and refused is not.
    return None if isinstance(value, Unreadable) and value.why in {"opaque", "cap", "text"} else False


def _finite(value: object) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    return not isinstance(value, Decimal) or value.is_finite()


def _any(value: object) -> Tri:
    if isinstance(value, Unreadable):
        return False if value.why == "nan" else None if value.why in {"cap", "text"} else True
    return _finite(value)


def _of(*types: type) -> Check:
    # `type(...)` and not isinstance: a bool is no int, and a snapshot holds bare types only.
    accepted = frozenset(types)

    def check(value: object) -> Tri:
        if type(value) in accepted:
            return _finite(value)
        return _unread(value)

    return check


def _dict(value: object) -> Tri:
    return True if isinstance(value, Mapping) else _unread(value)


def _text(value: object) -> Tri:
    return True if type(value) is str else _unread(value)


_BASE: dict[str, Check] = {
    "str": _text,
    "int": _of(int),
    "float": _of(float, int),
    "number": _of(int, float, Decimal),
    "bool": _of(bool),
    "dict": _dict,
    "list": _of(list, tuple),
    "any": _any,
}
