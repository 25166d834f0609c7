"""Exact OTLP types only: what the SDK is handed can neither raise, nor log, nor lose a batch. Nothing here raises.

The SDK logs `Invalid type` while it holds a span's lock, and one lone surrogate loses a whole batch, so every name and value passes here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

__all__ = ["NAME_LIMIT", "TEXT_LIMIT", "attributes", "name", "text", "type_name", "value"]

NAME_LIMIT = 128
TEXT_LIMIT = 2000
_KEYS_LIMIT = 64
_INT_MAX = (1 << 63) - 1
_INT_MIN = -(1 << 63)
_SEQUENCE_LIMIT = 64

Scalar = str | bool | int | float


def text(given: object, limit: int = TEXT_LIMIT) -> str:
    """A plain `str` without lone surrogates, cut to `limit` characters; anything but a string becomes its type's name."""
    if type(given) is str and len(given) <= limit and given.isascii():
        return given
    if not isinstance(given, str):
        return f"<{type_name(given)}>"
    # str.__str__ and slicing of a subclass would run the subclass' code.
    cut = str.__getitem__(given, slice(0, limit))
    return str.encode(cut, "utf-8", "replace").decode("utf-8")


def type_name(given: object) -> str:
    """Name of a value's type; neither the value nor its metaclass is asked."""
    return text(type.__dict__["__name__"].__get__(type(given)), NAME_LIMIT)


def name(given: object) -> str:
    """A span, metric or label name: one line, at most 128 characters, never empty."""
    return text(given, NAME_LIMIT).replace("\n", " ").strip() or "_OTHER"


def value(given: object) -> Scalar | tuple[str, ...] | None:
    """The OTLP value nearest to it; None when there is none, and the key is then left out."""
    kind = type(given)
    if kind is str:
        return text(given)
    if kind is int:
        return _whole(given)  # type: ignore[arg-type]  # its type has just been looked at
    if kind is bool:
        return bool(given)
    if isinstance(given, int):
        return bool(given) if isinstance(given, bool) else _whole(int.__int__(given))
    if isinstance(given, float):
        number = float.__float__(given)
        return number if math.isfinite(number) else None
    if isinstance(given, tuple | list):
        return tuple(text(part, 256) for part in given[:_SEQUENCE_LIMIT])
    return None if given is None else text(given)


def attributes(given: Mapping[str, object]) -> dict[str, Scalar | tuple[str, ...]]:
    """Clean keys and values, at most 64 of them."""
    cleaned: dict[str, Scalar | tuple[str, ...]] = {}
    try:
        for key, raw in given.items():
            if len(cleaned) >= _KEYS_LIMIT:
                break
            found = value(raw)
            if isinstance(key, str) and key and found is not None:
                cleaned[text(key, NAME_LIMIT)] = found
    except Exception:  # noqa: BLE001 - a caller's own mapping may raise anything; what was read so far is kept
        return cleaned
    return cleaned


def _whole(number: int) -> int | str:
    if _INT_MIN <= number <= _INT_MAX:
        return number
    # Not str(number): more than 4,300 digits raise, and fewer can still take long.
    return f"<int of {number.bit_length()} bits>"
