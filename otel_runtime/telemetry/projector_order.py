"""Order of events, pure but for one memory: what was seen before, what waits for a start, when a run began and how it ends."""

from __future__ import annotations

from collections.abc import Mapping

from otel_runtime.telemetry import conventions as names
from otel_runtime.telemetry import sanitize
from otel_runtime.telemetry.event_attributes import ORPHAN, PARENT, Attributes, error_type
from otel_runtime.telemetry.projector_spans import SpanPort
from otel_runtime.telemetry.projector_units import Ending, Held, Run
from otel_runtime.telemetry.run_view import Seen, see
from otel_runtime.values.trace import TraceEvent, TraceRef

__all__ = ["Known", "began", "begins_again", "ending_of_run", "is_overdue", "is_queued", "parent_of"]


class Known:
    """Events seen before, by id, else by number; the oldest are forgotten, many at once: that costs less than one by one.

    Args:
        limit: How many are remembered at least, and twice as many at most.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._keys: set[object] = set()
        self._older: set[object] = set()

    def again(self, event: TraceEvent) -> bool:
        """True when the event was seen before; one that has neither id nor number never was."""
        facts, keys = event.attributes, self._keys
        if "event.id" in facts and isinstance(event_id := facts["event.id"], str):
            # One foreign event may become several TraceEvents, so the name is part of the key.
            key: tuple[object, ...] = (facts.get("event.source"), event_id, event.name)
        elif "event.seq" in facts and type(seq := facts["event.seq"]) is int:
            stream = facts.get("run.id") or (event.trace.id if event.trace else None)
            key = (facts.get("event.source"), stream, seq, event.name)
        else:
            return False
        if key in keys or key in self._older:
            return True
        keys.add(key)
        if len(keys) >= self._limit:
            self._keys, self._older = set(), keys
        return False


def is_queued(event: TraceEvent) -> bool:
    """True for an event by which a run is accepted, but not started."""
    return event.name.endswith(".accepted")


def is_overdue(held: list[Held], since: int, idle: int) -> bool:
    """True when the window of the first event that needs a start has passed; those that are only queued may wait long."""
    first = next((each for each in held if not is_queued(each.event)), None)
    return held[-1].since_ns < idle if first is None else first.since_ns < since


def began(first: Held) -> int:
    """When a run began: with its first event, or before a terminal one that tells how long it took."""
    took = first.event.attributes.get("run.duration_ms")
    return first.at_ns - int(took * 1e6) if isinstance(took, int | float) and 0 <= took < 1e10 else first.at_ns


def begins_again(ended: Run, seen: Seen, event: TraceEvent, now: int) -> bool:
    """True when the event opens a run of that id once more."""
    if not seen.opens:
        return False
    # An announced run starts once; only, whose child it was may have been told too late.
    return ended.alone and "parent.run.id" in event.attributes if ended.announced else now >= ended.last_ns


def ending_of_run(run: Run, seen: Seen, event: TraceEvent, now: int, clock: int) -> Ending:
    """How a terminal event ends its run."""
    if seen.outcome == "failed":
        told = error_type(event)
        return Ending(now, run.failure or told if told == names.OTHER else told, None, clock, seen.final)
    if seen.outcome == "cancelled":
        return Ending(now, None, "cancelled", clock)
    if seen.outcome == "closed":
        return Ending(now, run.failure or (run.tentative[1] if run.tentative else None), "closed", clock)
    # The end of a sub-agent's own stream; whether it succeeded is told by who started it.
    return Ending(now, run.failure, None, clock, final="run.perhaps_child" not in event.attributes)


def parent_of(
    runs: Mapping[str, Run], ended: Mapping[str, Run], run_id: str, event: TraceEvent
) -> tuple[SpanPort | TraceRef | None, Attributes]:
    """Under what a run starts: a step or run of ours that it names, its place in a foreign trace, or nothing; and how that is flagged.

    Args:
        runs: Open runs by id; the one above is told of its child.
        ended: Runs that have ended.
        run_id: The run that starts.
        event: The event that says where.
    """
    told = event.attributes.get("parent.run.id")
    if not isinstance(told, str) or told == run_id:
        return event.trace, {}
    above = runs.get(told) or ended.get(told)
    if above is None:
        return event.trace, {ORPHAN: True, PARENT: sanitize.text(told, 128)}
    if above.id in runs:
        above.children.append(run_id)
    return above.places.get(see(event).parent or "", above.unit.span), {}
