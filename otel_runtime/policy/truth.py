"""Three values: True, False, and None for what cannot be proven either way (Kleene's strong logic)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias

__all__ = ["Tri", "all_of", "any_of", "negate", "spell"]

Tri: TypeAlias = bool | None


def all_of(values: Iterable[Tri]) -> Tri:
    """False when one is False, else unknown when one is unknown, else True."""
    result: Tri = True
    for value in values:
        if value is False:
            return False
        if value is None:
            result = None
    return result


def any_of(values: Iterable[Tri]) -> Tri:
    """True when one is True, else unknown when one is unknown, else False."""
    result: Tri = False
    for value in values:
        if value is True:
            return True
        if value is None:
            result = None
    return result


def negate(value: Tri) -> Tri:
    """The opposite; unknown stays unknown."""
    return None if value is None else not value


def spell(value: Tri) -> str:
    """`true`, `false` or `unknown`."""
    return "unknown" if value is None else "true" if value else "false"
