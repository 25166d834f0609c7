"""What a function declares, in the words of a policy's catalogue."""

from __future__ import annotations

import collections.abc
import inspect
import types
import typing
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from otel_runtime.policy.argtypes import parse_type
from otel_runtime.values.action import Parameter, ToolSignature

__all__ = ["tool_signature"]

# A float parameter takes an int as well (PEP 484, "The numeric tower").
_PLAIN: dict[object, str] = {str: "str", int: "int", float: "number", Decimal: "number", bool: "bool", dict: "dict", list: "list"}
# Of defaults only plain data enters a decision (`Binder`).
_DEFAULTS: dict[object, str] = {**_PLAIN, tuple: "list", bytes: "any"}


def tool_signature(fn: Callable[..., Any], signature: inspect.Signature, *, skip_first: bool) -> ToolSignature:
    """Declared parameters of a function.

    Args:
        fn: The function, for its type hints and docstring.
        signature: Its signature.
        skip_first: True when the first parameter is `self` or `cls`.
    """
    hints = _hints(fn)
    parameters: list[Parameter] = []
    opened = False
    variadic = None
    for index, parameter in enumerate(signature.parameters.values()):
        if index == 0 and skip_first:
            continue
        if parameter.kind is parameter.VAR_KEYWORD:
            opened = True
        elif parameter.kind is parameter.VAR_POSITIONAL:
            variadic = parameter.name
            parameters.append(Parameter(parameter.name, "any", required=False))
        else:
            declared, nullable = _declared(hints.get(parameter.name, Any))
            declared, nullable = _with_default(declared, parameter.default), nullable or parameter.default is None
            parameters.append(Parameter(parameter.name, declared, parameter.default is parameter.empty, nullable))
    description = (inspect.getdoc(fn) or "").split("\n\n", 1)[0]
    return ToolSignature(tuple(parameters), opened, variadic, description)


def _hints(fn: Callable[..., Any]) -> dict[str, Any]:
    try:
        return typing.get_type_hints(inspect.unwrap(fn))
    except Exception:  # noqa: BLE001  # an annotation that cannot be evaluated here declares nothing; the call itself is unharmed
        return {}


def _with_default(declared: str, default: object) -> str:
    """The type, and the default's own where its author gave another kind (`def find(year: int = "any")`): leaving it out is no misuse."""
    declared = _sayable(declared)
    kind = _DEFAULTS.get(type(default))
    return declared if kind is None or parse_type(declared).check(default) is not False else _sayable(f"{declared}|{kind}")


def _sayable(declared: str) -> str:
    """The type; `any` for one that is longer than a catalogue takes."""
    try:
        parse_type(declared)
    except ValueError:
        return "any"
    return declared


def _declared(hint: Any) -> tuple[str, bool]:
    """A hint as catalogue type, and whether null is among it."""
    origin = typing.get_origin(hint)
    if origin is typing.Annotated:
        return _declared(typing.get_args(hint)[0])
    if origin in (typing.Union, types.UnionType):
        members = [member for member in typing.get_args(hint) if member is not type(None)]
        names = list(dict.fromkeys(_declared(member)[0] for member in members))
        return ("any" if "any" in names else "|".join(names)), len(members) < len(typing.get_args(hint))
    if origin is typing.Literal:
        names = list(dict.fromkeys(_PLAIN.get(type(value), "any") for value in typing.get_args(hint)))
        return ("any" if "any" in names else "|".join(names)), False
    if origin is list:
        # A bare `typing.List` has no element; null among the elements has no word in a catalogue.
        element, nullable = _declared(next(iter(typing.get_args(hint)), Any))
        return f"list[{'any' if nullable else element}]", False
    if origin in (dict, collections.abc.Mapping, collections.abc.MutableMapping) or typing.is_typeddict(hint):
        return "dict", False
    # By identity: a hint may be anything, also what has no hash.
    return next((name for kind, name in _PLAIN.items() if kind is hint), "any"), hint is type(None)
