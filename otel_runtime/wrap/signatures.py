"""What a function declares, in the words of a policy's catalogue."""

from __future__ import annotations

import collections.abc
import inspect
import types
import typing
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from otel_runtime.values.action import Parameter, ToolSignature

__all__ = ["tool_signature"]

# A float parameter takes an int as well (PEP 484, "The numeric tower").
_PLAIN: dict[object, str] = {str: "str", int: "int", float: "number", Decimal: "number", bool: "bool", dict: "dict", list: "list"}


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
            nullable = nullable or parameter.default is None
            parameters.append(Parameter(parameter.name, declared, parameter.default is parameter.empty, nullable))
    description = (inspect.getdoc(fn) or "").split("\n\n", 1)[0]
    return ToolSignature(tuple(parameters), opened, variadic, description)


def _hints(fn: Callable[..., Any]) -> dict[str, Any]:
    try:
        return typing.get_type_hints(inspect.unwrap(fn))
    except Exception:  # noqa: BLE001  # an annotation that cannot be evaluated here declares nothing; the call itself is unharmed
        return {}


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
        return f"list[{_declared(typing.get_args(hint)[0])[0]}]", False
    if origin in (dict, collections.abc.Mapping, collections.abc.MutableMapping) or typing.is_typeddict(hint):
        return "dict", False
    return _PLAIN.get(hint, "any") if isinstance(hint, collections.abc.Hashable) else "any", hint is type(None)
