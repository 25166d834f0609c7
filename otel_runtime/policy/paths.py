"""`under` and `file_name`: questions about the file a text leads to.

A path has two readings: programs that tidy `..` before they open, and the kernel, which follows links first. Where they differ, nothing is
known. Neither is it where only a file system that ignores case, trailing dots or streams would see the operand.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final

from otel_runtime.policy.places import MAX_PATH, absolute, folded, inside, resolve, same_file
from otel_runtime.policy.regexes import compile_regex, quote
from otel_runtime.policy.truth import Tri, any_of

if TYPE_CHECKING:
    from otel_runtime.policy.scope import Scope

__all__ = ["file_name", "under"]

_STEP_COST: Final = 10


def under(operand: object) -> Callable[[object, Scope], Tri]:
    """Whether the path leads into one of these folders, links followed."""
    roots: tuple[str, ...] = operand if isinstance(operand, tuple) else ()

    def check(value: object, scope: Scope) -> Tri:
        path, reals = _read(value, scope)
        if path is None or reals is None or any(scope.places.guarded(real) for real in reals):
            return None
        tidy, known = _tidied(path), [scope.places.roots.get(root) for root in roots]
        answer = _agreed(any_of(_within(real, tidy, root) for root in known) for real in reals)
        # Another name of a file that is named here: written through it, this one changes.
        return None if answer is False and any(same_file(real, root) for real in reals for root in known if root is not None) else answer

    return check


def _read(value: object, scope: Scope) -> tuple[str | None, tuple[str, ...] | None]:
    """The path as written and where it leads; read from the disk once per decision."""
    if not isinstance(value, str):
        return None, None

    def read() -> tuple[str | None, tuple[str, ...] | None]:
        path = absolute(value)
        return path, _readings(path, scope) if path is not None else None

    return scope.once(("path", value), 20 + min(len(value), MAX_PATH) // 8, read) or (None, None)


def _readings(path: str, scope: Scope) -> tuple[str, ...] | None:
    """Where the kernel goes, and where a program goes that tidies first; None when one of them is unknown."""
    reals = []
    for reading in (path, _tidied(path)) if ".." in path else (path,):
        real, steps = resolve(reading)
        scope.effort -= _STEP_COST * steps
        if real is None:
            return None
        reals.append(real)
    return tuple(reals)


def _tidied(path: str) -> str:
    # Two leading slashes survive normpath and mean one on every system we run on.
    return f"/{os.path.normpath(path).lstrip('/')}"


def _agreed(answers: Iterable[Tri]) -> Tri:
    different = set(answers)
    return different.pop() if len(different) == 1 else None


def _within(real: str, written: str, root: str | None) -> Tri:
    if root is None:
        return None
    if inside(real, root):
        return True
    # A link inside the root that leads out of it, or another spelling of the root: not inside, and not provably outside.
    return None if inside(written, root) or inside(folded(real), folded(root)) else False


def file_name(operand: object) -> Callable[[object, Scope], Tri]:
    """Whether the last part of the path fits, both as written and where links lead."""
    patterns: tuple[str, ...] = operand if isinstance(operand, tuple) else ()
    exact = [_name_test(pattern) for pattern in patterns]
    loose = [_name_test(folded(pattern)) for pattern in patterns]

    def fits(name: str) -> Tri:
        if (plain := any_of(test(name) for test in exact)) is not False:
            return plain
        return None if any_of(test(folded(name)) for test in loose) is not False else False

    def check(value: object, scope: Scope) -> Tri:
        path, reals = _read(value, scope)
        if path is None or reals is None:
            return None
        return _agreed(fits(name.rpartition("/")[2]) for name in (_tidied(path), *reals))

    return check


def _name_test(pattern: str) -> Callable[[str], Tri]:
    """`*` is any number of characters here: there are no separators inside one name."""
    if "*" not in pattern:
        return lambda name: name == pattern
    return compile_regex("(?s)" + ".*".join(quote(part) for part in pattern.split("*"))).full
