"""What the projector keeps of open spans: a unit is one open span, a run is a unit with its open steps."""

from __future__ import annotations

from collections import Counter, OrderedDict
from dataclasses import dataclass, field
from typing import Final

from otel_runtime.telemetry import conventions as names
from otel_runtime.telemetry import sanitize
from otel_runtime.telemetry.event_attributes import Attributes
from otel_runtime.telemetry.projector_spans import SpanPort

__all__ = ["Run", "Unit"]

_COUNTED_NAMES: Final = 32


@dataclass(slots=True, eq=False)
class Unit:
    """One open span.

    Args:
        span: The span.
        started_ns: Its start; it never ends before.
        name: Its name.
        label: Tells two steps of one id apart; empty when nothing does.
        said: Attributes the span started with.
        ended_hint_ns: When its own work was over, where that is known before its end event.
        counts: Events that are only counted, by name.
    """

    span: SpanPort
    started_ns: int
    name: str
    label: str = ""
    said: Attributes = field(default_factory=dict)
    ended_hint_ns: int | None = None
    counts: Counter[str] = field(default_factory=Counter)

    def count(self, name: str) -> None:
        """Count one event of a kind that comes in thousands."""
        known = name in self.counts or len(self.counts) < _COUNTED_NAMES
        self.counts[sanitize.name(name) if known else "other"] += 1

    def news(self, facts: Attributes) -> Attributes:
        """What the span does not say already."""
        return {key: value for key, value in facts.items() if self.said.get(key) != value}

    def resolved(self, outcome: object) -> str | None:
        """The name of an approval once it is answered; the answer itself seldom names the tool."""
        return self.name.replace("requested", sanitize.text(outcome), 1) if isinstance(outcome, str) else None

    def end(self, at_ns: int, error: str | None, outcome: str | None = None) -> None:
        """End the span, with its counts."""
        facts: dict[str, str | int] = {f"otel_runtime.events.{name}": count for name, count in self.counts.items()}
        if outcome is not None:
            facts[names.OUTCOME] = outcome
        self.span.update(facts)
        self.span.end(max(at_ns, self.started_ns), error)


@dataclass(slots=True, eq=False)
class Run:
    """One open run.

    Args:
        unit: Its own span.
        steps: Open steps by id, oldest first; a foreign system may use one id for two tools at once.
        events: Span events seen.
        truncated: How many of them were dropped.
        failure: `error.type` once it has failed for good.
        last_ns: Latest time heard of.
        open_steps: Units in `steps`.
    """

    unit: Unit
    steps: OrderedDict[str, list[Unit]] = field(default_factory=OrderedDict)
    events: int = 0
    truncated: int = 0
    failure: str | None = None
    last_ns: int = 0
    open_steps: int = 0

    def add(self, step: str, unit: Unit) -> None:
        """Keep an open step."""
        self.steps.setdefault(step, []).append(unit)
        self.open_steps += 1

    def find(self, step: str, label: str) -> Unit | None:
        """The oldest open step of that id with that label."""
        return next((unit for unit in self.steps.get(step, []) if not label or not unit.label or unit.label == label), None)

    def forget(self, step: str, unit: Unit) -> None:
        """Let go of a step."""
        self.steps[step].remove(unit)
        self.open_steps -= 1
        if not self.steps[step]:
            del self.steps[step]

    def take_oldest(self) -> Unit:
        """Let go of the step that has been open longest."""
        step, units = next(iter(self.steps.items()))
        unit = units[0]
        self.forget(step, unit)
        return unit

    def units(self) -> list[Unit]:
        """Every open step."""
        return [unit for units in self.steps.values() for unit in units]
