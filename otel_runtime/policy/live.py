"""The rules in force, where they can change while the program runs: one set replaces another in one step.

A decision takes one snapshot (`in_force`) and uses it from its first question to its last; the next decision may find another set.
"""

from __future__ import annotations

from datetime import datetime

from otel_runtime.policy.protocol import Engine, FactsView, Needs, Ruling
from otel_runtime.values.action import Action, Kind

__all__ = ["LiveEngine", "in_force"]


class LiveEngine:
    """An engine that stands for whichever is in force.

    Args:
        engine: The first one.
    """

    __slots__ = ("_current",)

    def __init__(self, engine: Engine) -> None:
        self._current: Engine = engine

    @property
    def current(self) -> Engine:
        """The one in force now."""
        return self._current

    def replace(self, engine: Engine) -> None:
        """Put another one in force; decisions under way keep theirs."""
        # One assignment: no reader ever sees anything but the old one or the new one.
        self._current = engine

    @property
    def digest(self) -> str:
        """Digest of the rules in force now."""
        return self._current.digest

    def governs(self, kind: Kind, name: str) -> bool:
        """As the engine in force now says."""
        return self._current.governs(kind, name)

    def needs(self, action: Action, now: datetime) -> Needs | None:
        """As the engine in force now says."""
        return self._current.needs(action, now)

    def decide(self, action: Action, facts: FactsView | None, now: datetime, attempt: int = 1) -> Ruling:
        """As the engine in force now says; facts that another one had asked for are unknown to it where it asks for more."""
        return self._current.decide(action, facts, now, attempt)


def in_force(engine: Engine) -> Engine:
    """The engine to use for one whole decision."""
    return engine.current if isinstance(engine, LiveEngine) else engine
