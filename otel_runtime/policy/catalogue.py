"""What the policy knows of a tool: tags, labels it adds, and its signature, checked before any rule."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from otel_runtime.policy.argtypes import ArgType, parse_type
from otel_runtime.values.action import ToolSignature, Unreadable

__all__ = ["Shape", "ToolEntry"]


@dataclass(frozen=True, slots=True)
class ToolEntry:
    """One tool of the catalogue.

    Args:
        name: Exact name.
        tags: Words rules can ask for.
        adds: Labels that come onto the session when the body starts.
        trusted_source: True when its results count as trusted.
        signature: Declared arguments; None when the file declares none.
    """

    name: str
    tags: frozenset[str] = frozenset()
    adds: frozenset[str] = frozenset()
    trusted_source: bool = False
    signature: ToolSignature | None = None


class Shape:
    """A signature made ready for checking calls."""

    __slots__ = ("_required", "_types", "names", "open", "signature")

    def __init__(self, signature: ToolSignature) -> None:
        self.signature: ToolSignature = signature
        self.open: bool = signature.open
        self._types: dict[str, tuple[ArgType, bool]] = {}
        for parameter in signature.parameters:
            kind = parse_type(parameter.type)
            self._types[parameter.name] = (kind, parameter.nullable or kind.optional)
        if signature.variadic is not None:
            self._types.setdefault(signature.variadic, (parse_type("list"), True))
        self.names: frozenset[str] = frozenset(self._types)
        self._required = tuple(parameter.name for parameter in signature.parameters if parameter.required)

    def misfit(self, args: Mapping[str, object]) -> str:
        """Why a call does not fit the signature; empty when it fits."""
        types = self._types
        for name, value in args.items():
            known = types.get(name)
            if known is None:
                # The receiver of a method enters by type name only and is in no signature.
                if not self.open and not (isinstance(value, Unreadable) and value.why == "opaque"):
                    return f"argument `{name}` is not one it takes"
            elif value is None:
                if not known[1] and known[0].text != "any":
                    return f"argument `{name}` must be `{known[0].text}`, not null"
            elif known[0].check(value) is False:
                return _misfit(name, known[0].text, value)
        for name in self._required:
            if name not in args:
                return f"argument `{name}` is missing"
        return ""


_UNREAD = {
    "nan": "holds NaN or infinity, which can be neither compared, shown to a person nor hashed; expected a finite number",
    "cycle": "holds itself, so that it can be neither shown to a person nor hashed",
    "key": "holds a mapping whose keys are not text, so that it can be neither shown to a person nor hashed",
}


def _misfit(name: str, expected: str, value: object) -> str:
    why = _UNREAD.get(value.why) if isinstance(value, Unreadable) else None
    return f"argument `{name}` must be `{expected}`" if why is None else f"argument `{name}` {why}"
