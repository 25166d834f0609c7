"""`origin`: where a value was seen in this session, as the facts tell it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from otel_runtime.policy.names import Globs
from otel_runtime.policy.provenance import LOST, key_of
from otel_runtime.policy.truth import Tri

if TYPE_CHECKING:
    from otel_runtime.policy.scope import Scope
    from otel_runtime.policy.terms import Origins

__all__ = ["origin"]


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
        key = key_of(value)
        seen = known.get(key) if known is not None and key is not None else None
        if seen is None:
            return None
        answers = [test(seen) for test in asked]
        return False if False in answers else None if None in answers else True

    return check


def _negated(test: Callable[[frozenset[str]], Tri]) -> Callable[[frozenset[str]], Tri]:
    def negated(seen: frozenset[str]) -> Tri:
        answer = test(seen)
        return None if answer is None else not answer

    return negated


class _Sources:
    """Sources that a rule names."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self._unseen = "unseen" in names
        self._globs = Globs(name for name in names if name != "unseen")

    def some(self, seen: frozenset[str]) -> Tri:
        """Whether one of them has it."""
        plain = {name for name in seen if not name.startswith(LOST)}
        if any(self._globs.fits(name) for name in plain) or (self._unseen and not seen):
            return True
        lost = {name.removeprefix(LOST) for name in seen - plain}
        unsure = any(name == "*" or self._globs.fits(name) for name in lost) or (self._unseen and not plain)
        return None if lost and unsure else False

    def every(self, seen: frozenset[str]) -> Tri:
        """Whether it was seen, and at none but them."""
        plain = {name for name in seen if not name.startswith(LOST)}
        if any(not self._globs.fits(name) for name in plain):
            return False
        lost = {name.removeprefix(LOST) for name in seen - plain}
        if any(name == "*" or not self._globs.fits(name) for name in lost) or (not plain and lost):
            return None
        return bool(plain)
