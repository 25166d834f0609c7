"""What is wrong with text that is no YAML: at the place of the mistake, not where the parser gave up, and how to mend it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

import yaml

__all__ = ["syntax_mistake"]

_AROUND: Final = "check indentation, quotes and brackets around here"
# Said by the parser -> how to mend it.
_MENDED: Final = {
    "found unknown escape character": "a backslash in double quotes begins an escape; write the text in single quotes",
    "mapping values are not allowed": "quote text that holds `: `, and check the indentation",
    "could not find expected ':'": "a key is followed by `: ` and its value",
}
_RESERVED: Final = frozenset("@`%")
_COMMENT: Final = re.compile(r"\s*(#.*)?")

Place = tuple[int, int]


def syntax_mistake(error: yaml.MarkedYAMLError, lines: Sequence[str]) -> tuple[str, int, int]:
    """Message, line and column of a syntax fault; both start at 1.

    Args:
        error: What the parser says.
        lines: The text.
    """
    found, begun = _place(error.problem_mark or error.context_mark, lines), _place(error.context_mark, lines)
    at = begun if _is_where_it_began(error, begun, found, lines) else found
    since = f" (which begins at {begun[0]}:{begun[1]})" if at == found and begun[0] < found[0] and error.context_mark is not None else ""
    until = f" at {found[0]}:{found[1]}" if at != found else ""
    said = ", ".join(part for part in (f"{error.context or ''}{since}", f"{error.problem or ''}{until}") if part)
    return f"not valid YAML: {said}; {_hint(error, at, lines)}", *at


def _place(mark: yaml.Mark | None, lines: Sequence[str]) -> Place:
    if mark is None:
        return 1, 1
    # At the end of the text the parser points below the last line.
    return (mark.line + 1, mark.column + 1) if mark.line < len(lines) else (len(lines), len(lines[-1]) + 1)


def _is_where_it_began(error: yaml.MarkedYAMLError, begun: Place, found: Place, lines: Sequence[str]) -> bool:
    context = error.context or ""
    if "alias" in context:
        return error.context_mark is not None
    if error.context_mark is None or begun[0] >= found[0]:
        return False
    if "quoted scalar" in context:
        return "unexpected end" in (error.problem or "") or "document indicator" in (error.problem or "")
    # What a bracket holds stands in its own line and nowhere else: there it was meant to be closed.
    held = [at for at in range(begun[0], found[0]) if _COMMENT.fullmatch(lines[at - 1], begun[1] if at == begun[0] else 0) is None]
    return "simple key" in context or ("flow" in context and held == [begun[0]])


def _hint(error: yaml.MarkedYAMLError, at: Place, lines: Sequence[str]) -> str:
    char = lines[at[0] - 1][at[1] - 1 : at[1]]
    if "alias" in (error.context or ""):
        return 'text that begins with `*` is quoted, such as "*"'
    if "cannot start any token" in (error.problem or ""):
        if char == "\t":
            return "a tab stands where only spaces may; indent with spaces"
        if char in _RESERVED:
            return f"text that begins with `{char}` is quoted"
    return next((mended for said, mended in _MENDED.items() if said in (error.problem or "")), _AROUND)
