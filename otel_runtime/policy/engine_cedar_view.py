"""An action as Cedar sees it: principal, action, resource, context. What Cedar has no exact form for is refused, never approximated.

Principal: `Agent::"name"` in `User::"id"` where an agent calls, else the `User`; a user is in its `Role`s and in its `Tenant`. An unknown
person is `Unknown::"user"`. Action: `Action::"call"`. Resource: `Tool::"name"` (or `Capability`, `Model`, `Agent`, `Workflow`), in a
`ToolGroup` for each part of its name before a `.` or `:`, and in a `Tag` for each of its tags. Everything else stands in `context`.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from otel_runtime.policy.engine_outside import Opaque, Untold, as_text, spelled
from otel_runtime.policy.protocol import FactsView
from otel_runtime.values.action import Action, Kind

__all__ = ["RESOURCE", "entities_of", "request_of", "unknown_types"]

RESOURCE: Final[Mapping[Kind, str]] = {
    "tool": "Tool",
    "capability": "Capability",
    "model": "Model",
    "agent": "Agent",
    "workflow": "Workflow",
}
_MOST: Final = 2**63 - 1
# Cedar's decimals have four digits behind the point and as many in all as 64 bits hold.
_PLACES: Final = Decimal("0.0001")
# Keys with which JSON means something else than a record.
_RESERVED: Final = frozenset({"__entity", "__extn", "__expr"})
_Uid = dict[str, str]


def request_of(action: Action, agent: str | None, facts: FactsView | None, now: datetime) -> dict[str, Any]:
    """The question, from the point of view of one agent of the chain.

    Raises:
        Untold: An argument or fact has no exact form.
    """
    return {
        "principal": _principal(action, agent),
        "action": {"type": "Action", "id": "call"},
        "resource": {"type": RESOURCE[action.kind], "id": action.name},
        "context": _context(action, agent, facts, now),
    }


def unknown_types(action: Action) -> frozenset[str]:
    """Entity types of which it is not known whether the caller is one."""
    facts = (("User", action.user), ("Role", action.roles), ("Tenant", action.tenant))
    return frozenset(name for name, value in facts if value is None)


def entities_of(action: Action, agent: str | None) -> list[dict[str, Any]]:
    """Who is in what."""
    person = _person(action)
    groups = [{"type": "Role", "id": role} for role in sorted(action.roles or ())]
    if action.tenant is not None:
        groups.append({"type": "Tenant", "id": action.tenant})
    resource: _Uid = {"type": RESOURCE[action.kind], "id": action.name}
    kinds = [{"type": "ToolGroup", "id": part} for part in _parts(action.name)] + [
        {"type": "Tag", "id": tag} for tag in sorted(action.tags)
    ]
    known = [_entity(person, groups), _entity(resource, kinds)]
    caller = _principal(action, agent)
    if caller == resource:
        # An agent that is called by an agent of its own name is one entity.
        return [_entity(person, groups), _entity(resource, [*kinds, person])]
    return known if caller == person else [*known, _entity(caller, [person])]


def _entity(uid: _Uid, parents: list[_Uid]) -> dict[str, Any]:
    return {"uid": uid, "attrs": {}, "parents": parents}


def _person(action: Action) -> _Uid:
    return {"type": "Unknown", "id": "user"} if action.user is None else {"type": "User", "id": action.user}


def _principal(action: Action, agent: str | None) -> _Uid:
    return _person(action) if agent is None else {"type": "Agent", "id": agent}


def _parts(name: str) -> list[str]:
    """`mcp:github` and `mcp` of `mcp:github:read`."""
    return [name[:at] for at, char in enumerate(name) if char in ".:" and at]


def _context(action: Action, agent: str | None, facts: FactsView | None, now: datetime) -> dict[str, Any]:
    context: dict[str, Any] = {
        "args": _arguments(action),
        "app": {name: _told(value, f"the fact `{name}`") for name, value in action.context.items() if value is not None and _key(name)},
        "tags": sorted(action.tags),
        "agents": list(action.agents),
        "now": int(now.timestamp()),
    }
    known = {"agent": agent, "user": action.user, "tenant": action.tenant, "session": action.session}
    context |= {name: value for name, value in known.items() if value is not None}
    # Unknown is left out, and whoever asks for it gets an error, which is a denial.
    if facts is not None and facts.labels is not None:
        context["labels"] = sorted(facts.labels)
    if facts is not None and facts.history is not None:
        context["history"] = sorted(facts.history)
    return context


def _arguments(action: Action) -> dict[str, Any]:
    types = {parameter.name: parameter.type for parameter in action.signature.parameters} if action.signature is not None else {}
    exact = {name for name, kind in types.items() if "float" in kind or "number" in kind}
    return {
        name: _told(value, f"the argument `{name}`", decimals=name in exact)
        for name, value in action.args.items()
        if value is not None and _key(name)
    }


def _key(name: str) -> bool:
    if name in _RESERVED:
        raise Untold(f"the key `{name}` means something else to Cedar")
    return True


def _told(value: object, what: str, *, decimals: bool = False) -> Any:
    """One value; null is absent, as everywhere."""
    if isinstance(value, bool) or type(value) is str:
        return value
    if isinstance(value, int | float | Decimal):
        return _number(value, what, decimals=decimals)
    if isinstance(value, list | tuple):
        if any(item is None for item in value):
            raise Untold(f"{what} is a list that holds null, which Cedar does not know")
        return [_told(item, what, decimals=decimals) for item in value]
    if isinstance(value, Mapping):
        kept = {str(key): item for key, item in value.items() if item is not None and _key(str(key))}
        return {key: _told(item, what, decimals=decimals) for key, item in kept.items()}
    try:
        text = as_text(value)
    except Untold as untold:
        raise Untold(f"{what} {untold}") from None
    if isinstance(text, Opaque):
        # An entity has no operators but equality, so nearly every condition on it fails, and a failure is a denial.
        return {"__entity": {"type": "Opaque", "id": text.type_name}}
    if text is None:
        raise Untold(f"{what} is of a type Cedar does not know ({type(value).__name__})")
    return text


def _number(value: float | Decimal, what: str, *, decimals: bool) -> Any:
    if isinstance(value, int) and not decimals:
        if not -_MOST - 1 <= value <= _MOST:
            raise Untold(f"{what} is a number beyond 64 bits")
        return value
    exact = Decimal(spelled(value))
    if not exact.is_finite() or exact.adjusted() > 14 or exact != exact.quantize(_PLACES):
        raise Untold(f"{what} is a number with more digits than Cedar's decimals have")
    return {"__extn": {"fn": "decimal", "arg": f"{exact.quantize(_PLACES):f}"}}
