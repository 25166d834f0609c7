"""What is about to happen: the thing a policy decides on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

from otel_runtime.values.making import quickly_made

__all__ = ["Action", "Kind", "Parameter", "ToolSignature", "Unreadable"]

Kind = Literal["tool", "capability", "model", "agent", "workflow"]
_EMPTY: Mapping[str, object] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Stands in a snapshot for a value that cannot be read safely; every condition on it is unknown.

    Args:
        type_name: The type's qualified name, the only thing that is known of it.
        why: `opaque` when the decorator named it so, else what stopped the reading (`type`, `cycle`, `cap`, `nan`, `text`, `key`).
    """

    type_name: str
    why: Literal["opaque", "type", "cycle", "cap", "nan", "text", "key"] = "type"


@dataclass(frozen=True, slots=True)
class Parameter:
    """One declared parameter.

    Args:
        name: As in the signature or the catalogue.
        type: In the catalogue's grammar: `str`, `int`, `float`, `number`, `bool`, `dict`, `list`, `list[T]`, `any`, joined by `|`.
        required: False when it may be left out.
        nullable: True when it may be null; written `T?` in a catalogue, which also makes it optional.
    """

    name: str
    type: str = "any"
    required: bool = True
    nullable: bool = False


@dataclass(frozen=True, slots=True)
class ToolSignature:
    """The arguments a tool declares.

    Args:
        parameters: In declaration order.
        open: True when undeclared names are taken (`**kwargs`).
        variadic: Name of the `*args` parameter, or None.
        description: First paragraph of the docstring; part of the tool definition that an approval covers.
    """

    parameters: tuple[Parameter, ...] = ()
    open: bool = False
    variadic: str | None = None
    description: str = ""


@quickly_made
@dataclass(frozen=True, slots=True)
class Action:
    """One call as a policy sees it: plain data, taken once, never the caller's own objects.

    Args:
        kind: What is called.
        name: Registered name of it.
        args: Snapshot of the bound arguments by name; values are None, bool, int, float, Decimal, str, bytes, list, dict, datetime
            values, or `Unreadable`.
        signature: Declared parameters; None when nothing declares them.
        registered: True when a decorator registered the name; policies may add more names in their catalogue.
        tags: Words the decorator put on it.
        agents: Names of the agents that led here, outermost first.
        session: Session id; None when there is none (session facts are then unknown, not empty).
        user: The acting person; None when unknown.
        roles: The acting person's roles as the application states them; None when unknown.
        tenant: The tenant; None when unknown.
        context: Facts the application supplies (`rt.session(..., risk="high")`).
        run: Id of the outermost agent run; None outside of one.
        call_id: The provider's tool-call id; None when it was not given.
        receiver: Type name of `self` or `cls` when the tool is a method; None otherwise.
        around: Sessions out of which `session` was opened by a running operation, outermost first; what marks them marks this one.
    """

    kind: Kind
    name: str
    args: Mapping[str, object] = field(default_factory=lambda: _EMPTY)
    signature: ToolSignature | None = None
    registered: bool = True
    tags: frozenset[str] = frozenset()
    agents: tuple[str, ...] = ()
    session: str | None = None
    user: str | None = None
    roles: frozenset[str] | None = None
    tenant: str | None = None
    context: Mapping[str, object] = field(default_factory=lambda: _EMPTY)
    run: str | None = None
    call_id: str | None = None
    receiver: str | None = None
    around: tuple[str, ...] = ()
