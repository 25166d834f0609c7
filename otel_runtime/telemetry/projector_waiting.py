"""What waits for the start of its run: held by run, in the order of time when it is taken, with what is known of the beginning."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final, NamedTuple

from otel_runtime.telemetry.event_attributes import ORPHAN, QUEUED, Attributes, Value
from otel_runtime.telemetry.projector_order import is_overdue, is_queued
from otel_runtime.telemetry.projector_units import Held
from otel_runtime.telemetry.run_view import see
from otel_runtime.values.trace import TraceEvent

__all__ = ["Beginning", "Waiting"]

_HELD: Final = 256


class Beginning(NamedTuple):
    """How a run begins.

    Args:
        first: The event it begins with.
        placed: The event that says whose child it is.
        flags: What is said of the beginning.
        held: All its events, in the order of time, terminal ones last.
    """

    first: Held
    placed: TraceEvent
    flags: Attributes
    held: list[Held]


class Waiting:
    """Events of runs that have not begun."""

    def __init__(self) -> None:
        self._held: OrderedDict[str, list[Held]] = OrderedDict()

    def __len__(self) -> int:
        """How many runs wait."""
        return len(self._held)

    def add(self, run_id: str, held: Held) -> bool:
        """Hold an event; True when its run need wait no longer."""
        waiting = self._held.setdefault(run_id, [])
        waiting.append(held)
        event = held.event
        begins = see(event).opens and not is_queued(event) and "run.perhaps_child" not in event.attributes
        return begins or len(waiting) >= _HELD

    def take(self, run_id: str) -> Beginning:
        """Let go of what was held of a run."""
        waiting = self._held.pop(run_id)
        waiting.sort(key=lambda held: (see(held.event).outcome is not None, held.at_ns))
        accepted = next((held for held in waiting if is_queued(held.event)), None)
        start = next((held for held in waiting if see(held.event).opens and not is_queued(held.event)), None)
        first = start or accepted or waiting[0]
        flags: dict[str, Value] = {}
        if start is None and accepted is None:
            flags[ORPHAN] = True
        if start is not None and accepted is not None:
            flags[QUEUED] = max(0, start.at_ns - accepted.at_ns) / 1e9
        # Whose child it is may be told by another event than the one it began with.
        placed = next((held.event for held in waiting if "parent.run.id" in held.event.attributes), first.event)
        return Beginning(first, placed, flags, waiting)

    def oldest(self) -> str:
        """The run that has waited longest."""
        return next(iter(self._held))

    def every(self) -> list[str]:
        """Every run that waits."""
        return list(self._held)

    def overdue(self, since: int, idle: int) -> list[str]:
        """Runs whose window has passed.

        Args:
            since: Nanoseconds since 1970 at which the window began.
            idle: The same for runs that are only queued.
        """
        return [run_id for run_id, held in self._held.items() if is_overdue(held, since, idle)]

    def started(self) -> list[str]:
        """Runs of which more is known than that they are queued."""
        return [run_id for run_id, held in self._held.items() if not all(is_queued(each.event) for each in held)]

    def of_session(self, session: str) -> list[str]:
        """Runs of one session."""
        return [run_id for run_id, held in self._held.items() if any(see(each.event).session == session for each in held)]

    def clear(self) -> None:
        """Forget everything."""
        self._held.clear()
