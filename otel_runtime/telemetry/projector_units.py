"""What the projector keeps of open spans: a unit is one open span, a run is a unit with its open steps."""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, Literal, NamedTuple

from otel_runtime.telemetry import conventions as names
from otel_runtime.telemetry import sanitize
from otel_runtime.telemetry.event_attributes import AMBIGUOUS, Attributes, Value
from otel_runtime.telemetry.projector_spans import SpanPort
from otel_runtime.values.trace import TraceEvent

__all__ = ["Ending", "Held", "Run", "Unit", "UnitKind"]

_COUNTED_NAMES: Final = 32
_NOTHING: Final[Attributes] = MappingProxyType({})
# Ended steps of a run that may still be named as a parent.
_PLACES: Final = 64


UnitKind = Literal["tool", "model", "approval", "agent", "step", "run"]


class Held(NamedTuple):
    """An event that waits for one that should have come before it.

    Args:
        event: The event.
        at_ns: Its time.
        since_ns: When it was observed.
    """

    event: TraceEvent
    at_ns: int
    since_ns: int


class Ending(NamedTuple):
    """How a run ends, while something that belongs before its end may still come.

    Args:
        at_ns: Its end.
        error: `error.type`; None when it did not fail.
        outcome: `cancelled`, `closed` or None.
        since_ns: When the ending was observed.
        final: False when another terminal event may overrule it.
    """

    at_ns: int
    error: str | None
    outcome: str | None
    since_ns: int
    final: bool = True


@dataclass(slots=True, eq=False)
class Unit:
    """One open span.

    Args:
        span: The span.
        started_ns: Its start; it never ends before.
        name: Its name.
        label: Tells two steps of one id apart; empty when nothing does.
        said: Attributes that were set so far.
        kind: What sort of step it is; `run` for a run.
        subject: Name of the tool, model or agent, for measurements.
        ended_hint_ns: When its own work was over, where that is known before its end event.
        error: `error.type` of a failure that its end event will not repeat.
        counts: Events that are only counted, by name.
        sizes: Bytes of those, by name, where the source told them.
        ambiguous: Deltas that may belong to one of several steps.
        kept: True when the run's tail holds events of this unit.
        answer: How a question ended.
    """

    span: SpanPort
    started_ns: int
    name: str
    label: str
    said: dict[str, Value]
    kind: UnitKind
    subject: str = ""
    ended_hint_ns: int | None = None
    error: str | None = None
    counts: dict[str, int] | None = None
    sizes: dict[str, int] | None = None
    ambiguous: int = 0
    kept: bool = False
    answer: str | None = None

    def lasted(self, at_ns: int) -> float:
        """Seconds from its start to this time; never negative."""
        return max(0, at_ns - self.started_ns) / 1e9

    def count(self, name: str, size: object = None) -> str:
        """Count one event of a kind that comes in thousands; returns the name it is counted under."""
        counts = self.counts
        if counts is None:
            counts = self.counts = {}
        if name not in counts and len(counts) >= _COUNTED_NAMES:
            name = "other"
        counts[name] = counts.get(name, 0) + 1
        if type(size) is int and size > 0:
            self.sizes = self.sizes or {}
            self.sizes[name] = self.sizes.get(name, 0) + size
        return name

    def count_more(self, name: str, times: int) -> None:
        """Count a delta that came again."""
        name = self.count(name)
        if self.counts is not None:
            self.counts[name] += times - 1

    def resolved(self, outcome: object) -> str | None:
        """The name of an approval once it is answered; the answer itself seldom names the tool."""
        return self.name.replace("requested", sanitize.text(outcome), 1) if isinstance(outcome, str) else None

    def end(self, at_ns: int, error: str | None, outcome: str | None = None, facts: Attributes = _NOTHING) -> None:
        """End the span, with its counts and what its last event said."""
        if self.counts or self.ambiguous or outcome is not None:
            more: dict[str, str | bool | int | float | tuple[str, ...]] = dict(facts)
            for name, count in (self.counts or {}).items():
                more[f"otel_runtime.events.{sanitize.name(name)}"] = count
            for name, size in (self.sizes or {}).items():
                more[f"otel_runtime.bytes.{sanitize.name(name)}"] = size
            if self.ambiguous:
                more[AMBIGUOUS] = self.ambiguous
            if outcome is not None:
                more[names.OUTCOME] = outcome
            facts = more
        if facts:
            self.span.update(facts)
        self.span.end(max(self.started_ns, at_ns), error or self.error)


@dataclass(slots=True, eq=False)
class Run:
    """One open run.

    Args:
        id: Its id.
        unit: Its own span.
        session: Its session; None when it has none.
        announced: True when it has one start and never another.
        steps: Open steps by id, oldest first; a foreign system may use one id for two tools at once.
        places: Spans by step id, for events that name a parent; those of ended steps stay a while.
        early: Ends of steps whose start has not come yet, by step id, tool and number.
        held: Numbers them.
        late: Starts and ends of steps that came after the run's end, by step id and which of the two.
        children: Ids of runs that were opened under it.
        tail: The last span events of a run with too many of them.
        events: Span events seen.
        failure: `error.type` once it has failed for good.
        tentative: A failure that counts when no terminal event follows: its time and `error.type`.
        ending: Set once a terminal event came, while the run lingers.
        last_ns: Latest time heard of.
        heard_ns: When something of it was observed last.
        open_steps: Units in `steps`.
        tokens: Sums of what its model calls used, input and output.
        totalled: True when the source told the sums itself.
        names_seen: Span events so far, by name.
        named: True once its span has the name of an agent or workflow.
        alone: True when no event said under which run it stands.
    """

    id: str
    unit: Unit
    session: str | None = None
    announced: bool = False
    steps: dict[str, list[Unit]] = field(default_factory=dict)
    places: dict[str, SpanPort] = field(default_factory=dict)
    early: OrderedDict[tuple[str, str, int], Held] = field(default_factory=OrderedDict)
    held: int = 0
    late: dict[tuple[str, str], Held] = field(default_factory=dict)
    children: list[str] = field(default_factory=list)
    tail: deque[tuple[Unit, str, Attributes, int, bool]] = field(default_factory=deque)
    events: int = 0
    truncated: int = 0
    failure: str | None = None
    tentative: tuple[int, str] | None = None
    ending: Ending | None = None
    last_ns: int = 0
    heard_ns: int = 0
    open_steps: int = 0
    tokens: Counter[str] = field(default_factory=Counter)
    totalled: bool = False
    names_seen: dict[str, int] = field(default_factory=dict)
    named: bool = False
    alone: bool = True

    def enough(self, name: str, limit: int) -> bool:
        """True when so many events of this name were recorded that further ones are only counted."""
        before = self.names_seen.get(name, 0)
        if before >= limit:
            return True
        if before or len(self.names_seen) < _COUNTED_NAMES:
            self.names_seen[name] = before + 1
        return False

    def add(self, step: str, unit: Unit) -> None:
        """Keep an open step."""
        if step in self.steps:
            self.steps[step].append(unit)
        else:
            self.steps[step] = [unit]
        self.open_steps += 1
        self.places[step] = unit.span
        if len(self.places) > _PLACES + self.open_steps:
            del self.places[next(iter(self.places))]

    def find(self, step: str, label: str) -> Unit | None:
        """The oldest open step of that id with that label."""
        for unit in self.steps.get(step, ()):
            if not label or not unit.label or unit.label == label:
                return unit
        return None

    def innermost(self) -> Unit:
        """The step that was opened last; the run itself when none is open."""
        units = self.units()
        return max(units, key=lambda unit: unit.started_ns) if units else self.unit

    def forget(self, step: str, unit: Unit) -> None:
        """Let go of a step."""
        units = self.steps[step]
        units.remove(unit)
        self.open_steps -= 1
        if not units:
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

    def record(self, unit: Unit, name: str, facts: Attributes, at_ns: int, limit: int, *, keep: bool) -> None:
        """Add a span event: the first half of the limit at once, the last half when its unit ends, what must stay always."""
        self.events += 1
        if self.events <= limit // 2:
            unit.span.event(name, facts, at_ns)
            return
        unit.kept = True
        self.tail.append((unit, name, facts, at_ns, keep))
        if len(self.tail) > limit - limit // 2:
            its, name, facts, at_ns, keep = self.tail.popleft()
            if keep:
                # Only now: what was said before it is on the span or gone.
                its.span.event(name, facts, at_ns)
            else:
                self.truncated += 1

    def write_tail(self, unit: Unit) -> None:
        """Put the kept events of a unit onto its span, which is about to end."""
        if not unit.kept:
            return
        mine = [item for item in self.tail if item[0] is unit]
        self.tail = deque(item for item in self.tail if item[0] is not unit)
        for _, name, facts, at_ns, _ in mine:
            unit.span.event(name, facts, at_ns)
