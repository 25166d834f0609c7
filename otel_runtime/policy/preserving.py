"""A rule set as JSON and back, losing nothing that decides: types of numbers, references, the order of what was written."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from decimal import Decimal
from types import MappingProxyType
from typing import Any, Final

from otel_runtime.policy import terms
from otel_runtime.policy.catalogue import ToolEntry
from otel_runtime.policy.ruleset import RuleSet
from otel_runtime.values.action import Parameter, ToolSignature

__all__ = ["ruleset_from", "ruleset_json"]

_BLOCKS: Final = {
    kind.__name__: kind
    for kind in (
        terms.Rule,
        terms.Conditions,
        terms.Test,
        terms.UrlParts,
        terms.SqlTerms,
        terms.Origins,
        terms.After,
        terms.Over,
        terms.Approval,
        terms.Retry,
    )
}
# Cases prove a rule when it is read; they decide nothing.
_PROOFS: Final = frozenset({"match", "no_match"})


def ruleset_json(rules: RuleSet) -> str:
    """A rule set as text that `ruleset_from` understands."""
    return json.dumps(
        {
            "rules": [[_plain(rule), place] for rule, place in rules.rules],
            "catalogue": [_tool(entry) for entry in rules.catalogue.values()],
            "context": list(rules.context.items()),
            "default": rules.default,
            "approval": _plain(rules.approval),
            "shadow": rules.shadow,
            "workspace": rules.workspace,
            "digest": rules.digest,
        },
        separators=(",", ":"),
    )


def ruleset_from(text: str) -> RuleSet:
    """The rule set that `ruleset_json` was given. It trusts the text: whoever wrote it decides what is allowed.

    Raises:
        ValueError, KeyError, TypeError: It is something else.
    """
    found = json.loads(text, object_hook=_revived)
    return RuleSet(
        tuple((rule, place) for rule, place in found["rules"]),
        MappingProxyType({tool[0]: _entry(*tool) for tool in found["catalogue"]}),
        MappingProxyType(dict(found["context"])),
        found["default"],
        found["approval"],
        found["shadow"],
        found["workspace"],
        found["digest"],
    )


def _tool(entry: ToolEntry) -> list[object]:
    signature = entry.signature
    parameters = None if signature is None else [[one.name, one.type, one.required, one.nullable] for one in signature.parameters]
    return [entry.name, sorted(entry.tags), sorted(entry.adds), entry.trusted_source, parameters]


def _entry(
    name: str, tags: list[str], adds: list[str], trusted: bool, parameters: list[list[Any]] | None
) -> ToolEntry:  # the order of `_tool`
    signature = None if parameters is None else ToolSignature(tuple(Parameter(*one) for one in parameters))
    return ToolEntry(name, frozenset(tags), frozenset(adds), trusted, signature)


def _plain(value: object) -> object:
    """JSON of a value; everything but plain values and lists is an object with one key that says what it is."""
    if isinstance(value, terms.Written):
        written = {name: _plain(getattr(value, name)) for name in value.written if name not in _PROOFS}
        return {f"${type(value).__name__}": list(written.items())}
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {"$": [[key, _plain(item)] for key, item in value.items()]}
    if isinstance(value, Decimal):
        return {"$decimal": str(value)}
    if isinstance(value, terms.Ref):
        return {"$ref": [value.root, value.name]}
    if value is None or isinstance(value, str | int | float):
        return value
    raise TypeError(f"expected a value of a rule, got `{type(value).__name__}`")


def _block(kind: type[terms.Written]) -> Callable[[Any], terms.Written]:
    return lambda written: kind(**{name: tuple(value) if type(value) is list else value for name, value in written})


_REVIVE: Final[Mapping[str, Callable[[Any], object]]] = {
    "$": dict,
    "$decimal": Decimal,
    "$ref": lambda found: terms.Ref(*found),
    **{f"${name}": _block(kind) for name, kind in _BLOCKS.items()},
}


def _revived(found: dict[str, Any]) -> object:
    """What an object with one key says it is."""
    if len(found) == 1:
        ((name, value),) = found.items()
        build = _REVIVE.get(name)
        return found if build is None else build(value)
    return found
