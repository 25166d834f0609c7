"""Names and globs: exact case, one grammar, and a `*` that never crosses `.` or `:`."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from otel_runtime.policy.regexes import compile_regex, quote
from otel_runtime.policy.truth import Tri

__all__ = ["NAME_HINT", "Globs", "compile_glob", "is_glob", "is_name", "no_such_tool"]

_NAME = re.compile(r"[A-Za-z0-9_.:-]{1,128}")
NAME_HINT = "letters, digits, `_`, `.`, `:` and `-`, at most 128 characters"
# One or more characters, never a separator: `crm.*` is one level, `mcp:*:read` one server.
_STAR = "[^.:]+"


def is_name(text: object) -> bool:
    """True for a tool, server, label or role name in the grammar; look-alikes and invisible characters are not in it."""
    return isinstance(text, str) and _NAME.fullmatch(text) is not None


def no_such_tool(name: object, *, registered: bool) -> str:
    """Why a name is denied that no policy knows, in one sentence.

    Args:
        name: As the caller wrote it.
        registered: True when a decorated function bears it.
    """
    shown = f"`{str(name)[:128]!s}`"
    if registered:
        return f'{shown} is no name that a rule could say; expected {NAME_HINT}: give the function one with `@rt.tool(name="...")`'
    return f"there is no tool {shown}"


def is_glob(pattern: str) -> bool:
    """True when the pattern means more than one text."""
    return "*" in pattern


def compile_glob(pattern: str) -> Callable[[str], Tri]:
    """A test for texts: exact without `*`; `*` alone is everything; above 64 KiB unknown."""
    if not is_glob(pattern):
        return lambda text: text == pattern
    if pattern == "*":
        return lambda _text: True
    return compile_regex(_STAR.join(quote(part) for part in pattern.split("*"))).full


class Globs:
    """Several patterns, any of which may fit."""

    __slots__ = ("_exact", "_globs", "everything", "patterns")

    def __init__(self, patterns: Iterable[str]) -> None:
        self.patterns: tuple[str, ...] = tuple(patterns)
        self.everything: bool = "*" in self.patterns
        self._exact = frozenset(pattern for pattern in self.patterns if not is_glob(pattern))
        self._globs = tuple(compile_glob(pattern) for pattern in self.patterns if is_glob(pattern))

    @property
    def exact(self) -> frozenset[str]:
        """The patterns that are plain names."""
        return self._exact

    @property
    def only_exact(self) -> bool:
        """True when every pattern is a plain name."""
        return not self._globs

    def fits(self, text: str) -> bool:
        """True when one pattern fits; a text too long to test fits none."""
        return text in self._exact or any(glob(text) is True for glob in self._globs)
