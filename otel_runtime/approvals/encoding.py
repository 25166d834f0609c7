"""Arguments and facts as JSON text that gives back exactly the same values: types are tagged, nothing is ever unpickled."""

from __future__ import annotations

import base64
import binascii
import json
import math
from collections.abc import Callable, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any
from uuid import UUID

from otel_runtime.errors import OtelRuntimeError
from otel_runtime.values.action import Unreadable

__all__ = ["CannotEncode", "decode", "encode"]

# A snapshot has at most 32 levels (policy.md); facts wrap it in a few more. A cycle ends here too.
_DEPTH = 64
# Longer integers are written in hex: Python refuses to read decimal text of more than 4,300 digits.
_PLAIN_INTEGER = 1 << 63
_TAG = "$"


class CannotEncode(OtelRuntimeError):
    """A value has no exact text form, or a stored text is none of ours.

    Attributes:
        where: Place of the value, such as `args.items[3]`.
    """

    def __init__(self, message: str, *, where: str = "") -> None:
        self.where = where
        super().__init__(message)


def encode(value: object, where: str = "value") -> str:
    """JSON text, plain ASCII, of a value. A named time zone comes back as its offset.

    Args:
        value: None, bool, int, float, str, bytes, Decimal, date, datetime, time, timedelta, UUID, list, tuple, frozenset, mapping with text
            keys, or `Unreadable`.
        where: What to call it in an error.

    Raises:
        CannotEncode: Another type, a number that is not finite, or more than 64 levels.
    """
    return json.dumps(_encoded(value, where, 0), separators=(",", ":"), allow_nan=False)


def decode(text: str) -> Any:
    """The value of a text that `encode` wrote, with the same types.

    Raises:
        CannotEncode: The text is none of ours.
    """
    try:
        return _decoded(json.loads(text))
    except (ValueError, TypeError, KeyError, IndexError, RecursionError, InvalidOperation, binascii.Error) as error:
        raise CannotEncode(f"stored value cannot be read: {error}") from error


def _encoded(value: object, where: str, depth: int) -> object:
    if depth > _DEPTH:
        raise CannotEncode(f"`{where}` has more than {_DEPTH} levels or contains itself; pass a flatter value", where=where)
    kind = type(value)
    # Exact types: a subclass would come back as its base.
    if value is None or kind in (bool, str):
        return value
    if encoder := _SCALARS.get(kind):
        return encoder(value, where)
    if kind is list:
        return _items(value, where, depth)
    if kind is tuple:
        return {"$tuple": _items(value, where, depth)}
    if kind is frozenset:
        return {"$frozenset": sorted(_items(value, where, depth), key=json.dumps)}
    if isinstance(value, Mapping):
        return _mapping(value, where, depth)
    raise CannotEncode(
        f"`{where}` is a `{kind.__module__}.{kind.__qualname__}`, which cannot be stored with an approval; expected plain data; pass such a "
        "value as text, or name its parameter in `opaque=`",
        where=where,
    )


def _items(value: Any, where: str, depth: int) -> list[object]:
    return [_encoded(item, f"{where}[{index}]", depth + 1) for index, item in enumerate(value)]


def _mapping(value: Mapping[object, object], where: str, depth: int) -> dict[str, object]:
    encoded: dict[str, object] = {}
    for key, item in value.items():
        if type(key) is not str:
            raise CannotEncode(f"`{where}` has the key `{key!r}`; expected text keys only", where=where)
        encoded[key] = _encoded(item, f"{where}.{key}", depth + 1)
    # A mapping that looks like one of our tags is written as pairs.
    if any(key.startswith(_TAG) for key in encoded):
        return {"$dict": [[key, item] for key, item in encoded.items()]}
    return encoded


def _integer(value: Any, _where: str) -> object:
    return value if -_PLAIN_INTEGER <= value < _PLAIN_INTEGER else {"$int": hex(value)}


def _float(value: Any, where: str) -> object:
    if not math.isfinite(value):
        raise CannotEncode(f"`{where}` is `{value}`; expected a finite number", where=where)
    return value


def _decimal(value: Any, where: str) -> object:
    if not value.is_finite():
        raise CannotEncode(f"`{where}` is `{value}`; expected a finite number", where=where)
    return {"$decimal": str(value)}


_SCALARS: dict[type, Callable[[Any, str], object]] = {
    int: _integer,
    float: _float,
    Decimal: _decimal,
    bytes: lambda value, _: {"$bytes": base64.b64encode(value).decode("ascii")},
    datetime: lambda value, _: {"$datetime": [value.isoformat(), value.fold]},
    date: lambda value, _: {"$date": value.isoformat()},
    time: lambda value, _: {"$time": [value.isoformat(), value.fold]},
    UUID: lambda value, _: {"$uuid": str(value)},
    timedelta: lambda value, _: {"$timedelta": [value.days, value.seconds, value.microseconds]},
    Unreadable: lambda value, _: {"$unreadable": [value.type_name, value.why]},
}

_READERS: dict[str, Callable[[Any], object]] = {
    "$int": lambda text: int(text, 16),
    "$decimal": Decimal,
    "$bytes": lambda text: base64.b64decode(text, validate=True),
    # `fold` tells the two readings of an hour that a clock change repeats; ISO text has no place for it.
    "$datetime": lambda parts: datetime.fromisoformat(parts[0]).replace(fold=parts[1]),
    "$date": date.fromisoformat,
    "$time": lambda parts: time.fromisoformat(parts[0]).replace(fold=parts[1]),
    "$uuid": UUID,
    "$timedelta": lambda parts: timedelta(days=parts[0], seconds=parts[1], microseconds=parts[2]),
    "$unreadable": lambda parts: Unreadable(parts[0], parts[1]),
    "$tuple": lambda items: tuple(_decoded(item) for item in items),
    "$frozenset": lambda items: frozenset(_decoded(item) for item in items),
    "$dict": lambda pairs: {key: _decoded(item) for key, item in pairs},
}


def _decoded(value: Any) -> Any:
    if isinstance(value, list):
        return [_decoded(item) for item in value]
    if not isinstance(value, dict):
        return value
    if len(value) == 1:
        ((key, content),) = value.items()
        if key.startswith(_TAG):
            return _READERS[key](content)
    return {key: _decoded(item) for key, item in value.items()}
