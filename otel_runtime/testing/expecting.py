"""What a test expects, beside what happened, so that a failure shows the difference and not two long values."""

from __future__ import annotations

import difflib
import textwrap
from collections.abc import Iterable
from typing import TypeAlias

__all__ = ["Tree", "difference", "outline"]

# A span's name, then its children's trees in the order they started.
Tree: TypeAlias = "tuple[str | Tree, ...]"


def outline(trees: Iterable[object], depth: int = 0) -> str:
    """Trees as lines of names, each two spaces deeper than its parent."""
    lines: list[str] = []
    for tree in trees:
        name, *children = tree if isinstance(tree, tuple) else (tree,)
        lines.append("  " * depth + str(name))
        if children:
            lines.append(outline(children, depth + 1))
    return "\n".join(lines)


def difference(what: str, expected: str, got: str) -> str | None:
    """The lines that differ, marked `-` for expected and `+` for what happened; None when nothing does."""
    wanted = [line.rstrip() for line in textwrap.dedent(expected).strip("\n").splitlines() if line.strip()]
    seen = [line.rstrip() for line in got.splitlines() if line.strip()]
    if wanted == seen:
        return None
    marked = (line.rstrip() for line in difflib.ndiff(wanted, seen) if not line.startswith("?"))
    return f"{what} differ (- expected, + happened):\n" + "\n".join(f"  {line}" for line in marked)
