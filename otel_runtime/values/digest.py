"""The typed canonical form of a call and its SHA-256: what an approval is bound to.

Every value is written as a tag, a length and its bytes, so that no two different values share a form: 1, 1.0, True, "1", absent and
null all differ. What cannot be written without doubt is refused.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from otel_runtime.values.action import Action, ToolSignature, Unreadable

__all__ = ["Undigestible", "call_digest", "canonical_bytes", "digest_of"]

_CALL_DOMAIN = "otel-runtime/call"
_VERSION = 1


class Undigestible(ValueError):
    """A value has no canonical form.

    Attributes:
        path: Where it stands, such as `args.items[2]`.
        why: What it is.
    """

    def __init__(self, path: str, why: str) -> None:
        self.path = path
        self.why = why
        super().__init__(f"`{path}` cannot be part of a digest: {why}; pass plain data or name the parameter in opaque=[...]")


def digest_of(domain: str, value: object) -> str:
    """Hex SHA-256 of a value under a domain tag, so that digests of different things never meet.

    Raises:
        Undigestible: The value holds something without a canonical form.
    """
    hasher = hashlib.sha256()
    for piece in _encode(domain, "domain"):
        hasher.update(piece)
    for piece in _encode(value, "value"):
        hasher.update(piece)
    return hasher.hexdigest()


def canonical_bytes(value: object, path: str = "value") -> bytes:
    """The canonical form itself.

    Raises:
        Undigestible: The value holds something without a canonical form.
    """
    return b"".join(_encode(value, path))


def call_digest(action: Action) -> str:
    """Digest of exactly this call: tool, its definition, the bound arguments, and who asks for it.

    Raises:
        Undigestible: An argument is neither plain data nor opaque.
    """
    requester = [action.user, list(action.agents), action.tenant]
    definition = _definition(action.signature)
    call = [_VERSION, action.kind, action.name, action.receiver, definition, dict(action.args), requester]
    return digest_of(_CALL_DOMAIN, call)


def _definition(signature: ToolSignature | None) -> object:
    if signature is None:
        return None
    parameters = [[p.name, p.type, p.required, p.nullable] for p in signature.parameters]
    return [parameters, signature.open, signature.variadic, signature.description]


def _piece(tag: bytes, body: bytes) -> bytes:
    return b"%s%d:%s" % (tag, len(body), body)


def _text(value: str, path: str) -> bytes:
    try:
        return value.encode()
    except UnicodeEncodeError:
        raise Undigestible(path, "a text with lone surrogates") from None


# Keyed by exact type, so that each function gets only what it can write. Any: that is what the key ensures.
_SCALARS: dict[type, Callable[[Any], bytes]] = {
    type(None): lambda _: b"n",
    bool: lambda value: b"t" if value else b"f",
    int: lambda value: _piece(b"i", b"%x" % value),
    float: lambda value: _piece(b"d", repr(value).encode()),
    Decimal: lambda value: _piece(b"D", str(value).encode()),
    bytes: lambda value: _piece(b"b", value),
    datetime: lambda value: _piece(b"T", value.isoformat().encode()),
    date: lambda value: _piece(b"Y", value.isoformat().encode()),
    time: lambda value: _piece(b"H", value.isoformat().encode()),
    timedelta: lambda value: _piece(b"P", repr(value).encode()),
    UUID: lambda value: _piece(b"U", str(value).encode()),
}


def _encode(value: object, path: str) -> Iterator[bytes]:
    kind = type(value)
    if kind is str:
        yield _piece(b"s", _text(str(value), path))
    elif (scalar := _SCALARS.get(kind)) is not None:
        if value != value or value in (float("inf"), float("-inf")):  # noqa: PLR0124  # NaN is the one value unequal to itself
            raise Undigestible(path, "not a finite number")
        yield scalar(value)
    elif isinstance(value, list | tuple) and kind in (list, tuple):
        yield b"%s%d:" % (b"l" if kind is list else b"u", len(value))
        for index, item in enumerate(value):
            yield from _encode(item, f"{path}[{index}]")
    elif isinstance(value, Mapping):
        yield from _encode_mapping(value, path)
    elif isinstance(value, Unreadable) and value.why == "opaque":
        yield _piece(b"o", value.type_name.encode())
    else:
        raise Undigestible(path, _describe(value))


def _encode_mapping(value: Mapping[object, object], path: str) -> Iterator[bytes]:
    keys = list(value)
    if not all(type(key) is str for key in keys):
        raise Undigestible(path, "a mapping whose keys are not all strings")
    yield b"m%d:" % len(keys)
    for key in sorted(str(key) for key in keys):
        yield from _encode(key, path)
        yield from _encode(value[key], f"{path}.{key}")


def _describe(value: object) -> str:
    if isinstance(value, Unreadable):
        reasons = {
            "type": "of a type that has no plain form",
            "cycle": "a cycle",
            "cap": "larger than the caps",
            "nan": "not a finite number",
        }
        return f"{value.type_name}, {reasons.get(value.why, value.why)}"
    return f"of type {type(value).__module__}.{type(value).__qualname__}"
