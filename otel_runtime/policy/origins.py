"""`origin`: where a value was seen in this session, as the facts tell it, and what the catalogue says of the tools it came from."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import TYPE_CHECKING, Final

from otel_runtime.policy.names import Globs
from otel_runtime.policy.provenance import LOST, key_of
from otel_runtime.policy.truth import Tri

if TYPE_CHECKING:
    from otel_runtime.policy.catalogue import ToolEntry
    from otel_runtime.policy.scope import Scope
    from otel_runtime.policy.terms import Origins

__all__ = ["origin"]

_LABEL: Final = "label:"
_TOOL: Final = "tool:"
# What the person and the application said themselves.
_OWN: Final = frozenset({"user", "config"})
_WORDS: Final = frozenset({"unseen", "trusted"})


def origin(operand: object) -> Callable[[object, Scope], Tri]:
    """Whether the value was seen at one of the sources, at none of them, or nowhere else."""
    origins: Origins = operand  # type: ignore[assignment]  # the model admits nothing else
    tests = [
        _Sources(origins.any_of).some if origins.any_of is not None else None,
        _negated(_Sources(origins.none_of).some) if origins.none_of is not None else None,
        _Sources(origins.only).every if origins.only is not None else None,
    ]
    asked = [test for test in tests if test is not None]

    def check(value: object, scope: Scope) -> Tri:
        known = scope.facts.origins if scope.facts is not None else None
        if known is None or not isinstance(value, str | int | float | Decimal):
            return None
        # A text is its own key, and those that cannot be asked for are not among the known ones.
        seen = known.get(value) if isinstance(value, str) else known.get(key_of(value) or "")
        # A value can have been seen in hundreds of places, and each is asked for its labels.
        scope.effort -= 4 if seen is None else 4 + (len(seen) >> 2)
        if seen is None or scope.effort < 0:
            return None
        answers = [test(seen, scope) for test in asked]
        return False if False in answers else None if None in answers else True

    return check


def _negated(test: Callable[[frozenset[str], Scope], Tri]) -> Callable[[frozenset[str], Scope], Tri]:
    def negated(seen: frozenset[str], scope: Scope) -> Tri:
        answer = test(seen, scope)
        return None if answer is None else not answer

    return negated


class _Sources:
    """Sources that a rule names."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self._unseen = "unseen" in names
        self._trusted = "trusted" in names
        self._labels = frozenset(name.removeprefix(_LABEL) for name in names if name.startswith(_LABEL))
        plain = tuple(name for name in names if name not in _WORDS and not name.startswith(_LABEL))
        self._globs = Globs(plain)
        # A source that was dropped may have said it in any field.
        self._whole = Globs(name.partition("/")[0] for name in plain)

    def some(self, seen: frozenset[str], scope: Scope) -> Tri:
        """Whether one of them has it."""
        plain = {name for name in seen if not name.startswith(LOST)}
        if any(self._names(name, self._globs, scope) for name in plain) or (self._unseen and not seen):
            return True
        lost = {name.removeprefix(LOST) for name in seen - plain}
        unsure = any(name == "*" or self._names(name, self._whole, scope) for name in lost) or (self._unseen and not plain)
        return None if lost and unsure else False

    def every(self, seen: frozenset[str], scope: Scope) -> Tri:
        """Whether it was seen, and at none but them."""
        plain = {name for name in seen if not name.startswith(LOST) and "/" not in name}
        if any(not self._names(name, self._globs, scope) for name in plain):
            return False
        lost = {name.removeprefix(LOST) for name in seen if name.startswith(LOST)}
        if any(name == "*" or not self._names(name, self._whole, scope) for name in lost) or (not plain and lost):
            return None
        return bool(plain)

    def _names(self, source: str, globs: Globs, scope: Scope) -> bool:
        if globs.fits(source):
            return True
        if not self._trusted and not self._labels:
            return False
        if source in _OWN:
            return self._trusted
        entry: ToolEntry | None = scope.catalogue.get(source.removeprefix(_TOOL).partition("/")[0])
        return entry is not None and ((self._trusted and entry.trusted_source) or not self._labels.isdisjoint(entry.adds))
