"""What comes of a run after its end: whole steps still become spans, flagged; the rest is counted."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from otel_runtime.telemetry import conventions as names
from otel_runtime.telemetry.event_attributes import LATE, Mask, attributes_of
from otel_runtime.telemetry.projector_steps import RunWriter
from otel_runtime.telemetry.projector_units import Held, Run
from otel_runtime.telemetry.run_view import Seen, see
from otel_runtime.values.trace import TraceEvent

__all__ = ["Latecomers"]

_LATE: Final = 64


class Latecomers:
    """Pairs starts and ends that came too late.

    Args:
        writer: Writes their spans.
        note: Counts what could not be done, by reason.
        mask: Masks secrets in free text.
    """

    def __init__(self, writer: RunWriter, note: Callable[[str], None], mask: Mask | None) -> None:
        self._writer = writer
        self._note = note
        self._mask = mask

    def take(self, run: Run, seen: Seen, event: TraceEvent, now: int, clock: int) -> None:
        """One event of a run that has ended.

        Args:
            run: The run.
            seen: How the run view reads the event.
            event: The event.
            now: Its time.
            clock: When it was observed.
        """
        if seen.step is None or seen.often or len(run.late) >= _LATE:
            facts = attributes_of(event, mask=self._mask)
            if facts.get(names.DECISION) not in (None, "allow"):
                self._writer.decide(run, seen, {**facts, LATE: True}, now)
            else:
                self._note("late")
            return
        which = "start" if seen.effect == "running" else "end"
        other = run.late.pop((seen.step, "end" if which == "start" else "start"), None)
        held = Held(event, now, clock)
        if other is None:
            run.late[seen.step, which] = held
        else:
            start, end = (held, other) if which == "start" else (other, held)
            self._writer.start_late(run, start, see(start.event), end, {LATE: True})

    def settle(self, runs: Iterable[Run], until_ns: int) -> None:
        """Give up on what has waited long enough for its other half.

        Args:
            runs: Runs that have ended.
            until_ns: What was observed until then.
        """
        for run in runs:
            for (step, which), held in list(run.late.items()):
                if held.since_ns > until_ns:
                    continue
                del run.late[step, which]
                if which == "start":
                    self._writer.start_late(run, held, see(held.event), None, {LATE: True})
                else:
                    self._note("late")
