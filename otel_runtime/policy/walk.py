"""Visit every block of conditions and every test of a rule, with its path in the file."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, TypeAlias

from otel_runtime.policy.terms import Conditions, Ref, Test

__all__ = ["Path", "blocks", "folders_of", "history_of", "refs", "subjects", "tests", "uses_origin"]

Path: TypeAlias = tuple[str | int, ...]
_HOLDING: Final = frozenset({"length", "some", "every", "none", "not_", "all_of", "any_of"})


def blocks(model: Conditions, path: Path) -> Iterator[tuple[Conditions, Path]]:
    """A block of conditions and every block inside it."""
    yield model, path
    for name, many in (("all_of", model.all_of), ("any_of", model.any_of)):
        for at, part in enumerate(many or ()):
            yield from blocks(part, (*path, name, at))
    for name, one in (("not", model.not_), ("unless", model.unless)):
        if one is not None:
            yield from blocks(one, (*path, name))


def subjects(model: Conditions, path: Path) -> Iterator[tuple[str, str, Test, Path]]:
    """Each tested value of one block: root, name, test, path."""
    for root, group in (("session", model.session), ("context", model.context), ("args", model.args)):
        for name, test in (group or {}).items():
            yield root, str(name), test, (*path, root, str(name))


def tests(test: Test, path: Path) -> Iterator[tuple[Test, Path]]:
    """A test and every test inside it."""
    yield test, path
    # Most hold no other, and ten thousand rules ask this several times each.
    if _HOLDING.isdisjoint(test.written):
        return
    for name in ("length", "some", "every", "none"):
        if (inner := getattr(test, name)) is not None:
            yield from tests(inner, (*path, name))
    if test.not_ is not None:
        yield from tests(test.not_, (*path, "not"))
    for name, many in (("all_of", test.all_of), ("any_of", test.any_of)):
        for at, part in enumerate(many or ()):
            yield from tests(part, (*path, name, at))


def refs(test: Test, path: Path) -> Iterator[tuple[Ref, Path]]:
    """Every reference on the right-hand side of an operator."""
    for part, at in tests(test, path):
        for name in sorted(part.written):
            operand = getattr(part, name)
            for item in operand if isinstance(operand, tuple) else (operand,):
                if isinstance(item, Ref):
                    yield item, (*at, name.rstrip("_"))


def folders_of(model: Conditions) -> Iterator[str]:
    """Every folder that `under` names in a rule."""
    for block, at in blocks(model, ()):
        for _root, _name, test, where in subjects(block, at):
            for part, _ in tests(test, where):
                yield from part.under or ()


def history_of(model: Conditions) -> Iterator[str]:
    """Every tool, or glob of tools, whose start in the session a rule asks about."""
    for block, _ in blocks(model, ()):
        if block.after is not None:
            yield from block.after.tool


def uses_origin(model: Conditions) -> bool:
    """True when a condition asks where a value was seen."""
    return any(
        part.origin is not None
        for block, at in blocks(model, ())
        for _root, _name, test, where in subjects(block, at)
        for part, _ in tests(test, where)
    )
