"""Warnings about conditions that ask of an argument what its declared type never answers: such a condition is unknown in every call.

And about one of several pooled arguments that no tool of the rule has, which adds nothing to the pool.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from otel_runtime.policy.argtypes import split_type
from otel_runtime.policy.checks import Finding
from otel_runtime.policy.names import is_glob
from otel_runtime.policy.terms import Ref, Rule, Test
from otel_runtime.policy.walk import Path, blocks, subjects
from otel_runtime.values.action import ToolSignature

__all__ = ["lint_types"]

_KINDS: Final = {"str": "text", "int": "a number", "float": "a number", "number": "a number", "bool": "true or false", "dict": "a mapping"}
_TEXT: Final = frozenset({"text"})
_NUMBER: Final = frozenset({"a number"})
_LIST: Final = frozenset({"a list"})
_ASKS: Final[Mapping[str, frozenset[str]]] = {
    **dict.fromkeys(("gt", "gte", "lt", "lte"), _NUMBER),
    **dict.fromkeys(("glob", "regex", "search", "starts_with", "ends_with", "email_domain", "under", "file_name", "url"), _TEXT),
    **dict.fromkeys(("runs_only", "reads_only", "may_run", "sql"), _TEXT),
    **dict.fromkeys(("some", "every", "none"), _LIST),
    "contains": _TEXT | _LIST,
    "origin": _TEXT | _NUMBER,
    "length": _TEXT | _LIST | {"a mapping"},
}
_COMPARES: Final = ("eq", "ne", "in_", "not_in")
_FOLLOWS: Final = {"allow": "never holds", "deny": "denies every such call", "require-approval": "asks about every such call"}


def lint_types(rule: Rule, path: Path, signatures: Mapping[str, ToolSignature]) -> Iterator[Finding]:
    """Conditions on arguments that cannot be known whatever the call.

    Args:
        rule: The rule.
        path: Where it stands.
        signatures: Declared arguments of tools.
    """
    if rule.kind != "tool" or not rule.tool or any(is_glob(name) or name not in signatures for name in rule.tool):
        return
    yield from _summed(rule, path, signatures)
    for block, at in blocks(rule, path):
        for root, name, test, where in subjects(block, at):
            if root == "args" and "|" in name:
                yield from _spare(rule.tool, name, where, signatures)
            types = _types(rule.tool, name, signatures) if root == "args" and "|" not in name else None
            if types is not None:
                yield from _unfit(rule, name, test, where, types)


def _summed(rule: Rule, path: Path, signatures: Mapping[str, ToolSignature]) -> Iterator[Finding]:
    if rule.over is None or rule.over.sum is None:
        return
    name = rule.over.sum.removeprefix("args.")
    types = _types(rule.tool or (), name, signatures)
    if types and not {_kind(text) for text in types} & {None, "a number"}:
        follows = _FOLLOWS.get(rule.decision, "stops every such call")
        message = f"`sum` adds up numbers, and `{name}` is `{'|'.join(types)}`: the sum is never known, so this rule {follows}"
        yield Finding((*path, "over", "sum"), "P116", message)


def _spare(tools: tuple[str, ...], names: str, path: Path, signatures: Mapping[str, ToolSignature]) -> Iterator[Finding]:
    if any(signatures[tool].open for tool in tools):
        return
    has = {parameter.name for tool in tools for parameter in signatures[tool].parameters} | {signatures[tool].variadic for tool in tools}
    for name in names.split("|"):
        if name not in has:
            yield Finding(path, "P118", f"`{'`, `'.join(tools)}` has no argument `{name}`, so it adds nothing to `{names}`", "key")


def _types(tools: tuple[str, ...], name: str, signatures: Mapping[str, ToolSignature]) -> tuple[str, ...] | None:
    """What the argument may be in any of the tools; None where that is not known."""
    found: list[str] = []
    for tool in tools:
        declared = next((parameter.type for parameter in signatures[tool].parameters if parameter.name == name), None)
        if declared is None:
            return None
        found += split_type(declared)
    return tuple(dict.fromkeys(found))


def _kind(text: str) -> str | None:
    return "a list" if text == "list" or text.startswith("list[") else _KINDS.get(text)


def _unfit(rule: Rule, name: str, test: Test, path: Path, types: tuple[str, ...]) -> Iterator[Finding]:
    kinds = {_kind(text) for text in types}
    if None in kinds:
        return
    for operator in test.written:
        asked = _asked(operator, getattr(test, operator))
        if asked is not None and kinds.isdisjoint(asked):
            spelled, wanted = operator.rstrip("_"), " or ".join(sorted(asked))
            follows = _FOLLOWS.get(rule.decision, "stops every such call")
            message = f"`{spelled}` asks {wanted}, and `{name}` is `{'|'.join(types)}`: the answer is never known, so this rule {follows}"
            yield Finding((*path, spelled), "P116", message, "key")
    yield from _inside(rule, name, test, path, types)


def _asked(operator: str, operand: object) -> frozenset[str] | None:
    """The kinds of values an operator can be asked of; None where any will do."""
    if operator not in _COMPARES:
        return _ASKS.get(operator)
    values = operand if isinstance(operand, tuple) else (operand,)
    if any(isinstance(value, Ref) for value in values):
        return None
    return frozenset("true or false" if isinstance(value, bool) else "text" if isinstance(value, str) else "a number" for value in values)


def _inside(rule: Rule, name: str, test: Test, path: Path, types: tuple[str, ...]) -> Iterator[Finding]:
    same = [(part, (*path, "not")) for part in (test.not_,) if part is not None]
    for key, parts in (("all_of", test.all_of), ("any_of", test.any_of)):
        same += [(part, (*path, key, at)) for at, part in enumerate(parts or ())]
    for part, where in same:
        yield from _unfit(rule, name, part, where, types)
    elements = tuple(dict.fromkeys(text for one in types if one.startswith("list[") for text in split_type(one[5:-1])))
    if elements and all(one.startswith("list[") for one in types):
        for key in ("some", "every", "none"):
            if (part := getattr(test, key)) is not None:
                yield from _unfit(rule, f"an element of {name}", part, (*path, key), elements)
