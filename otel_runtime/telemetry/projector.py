"""TraceEvents become spans: a run is a span, a step of it a child span, anything else an event on the span it belongs to.

Theory of operation
- A run's span starts with the first event that names the run and ends with a terminal event, at `close()`, when it was idle for too
  long, or when there are too many runs. Open steps and child runs take their run's end.
- Order. A source may announce its runs (`run.announced`): then what comes before the start is held for a window, sorted by time and
  replayed; a run that was only accepted waits for its start as long as it must, and its span starts there, with the time in the queue.
  The end of a step without its start is held for the same window. A terminal event ends its run at once, unless something says that
  more belongs before it (an end without a start, a completed run with open steps, a run that may be a sub-agent's), or it is one of a log
  of TraceEvents, where more may follow and the last end counts: then the run lingers for the window. `settle()` and the end of a stream cut every window short.
- After its end a run takes late steps as children, flagged; it is opened again only by a later start, and one that is announced only by
  the word that it was a sub-agent's, when nobody had said so in time.
- Deltas are counted, not recorded; the same event object again costs one comparison. Everything is bounded.

Telemetry fails open: `observe` never raises; what it could not do is counted in `problems`.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from otel_runtime.telemetry import conventions as names
from otel_runtime.telemetry import sanitize
from otel_runtime.telemetry.event_attributes import ORPHAN, Attributes, Mask, attributes_of
from otel_runtime.telemetry.event_signals import Signals
from otel_runtime.telemetry.projector_late import Latecomers
from otel_runtime.telemetry.projector_order import Known, began, begins_again, ending_of_run, parent_of
from otel_runtime.telemetry.projector_spans import Spans
from otel_runtime.telemetry.projector_steps import RunWriter
from otel_runtime.telemetry.projector_telling import Teller
from otel_runtime.telemetry.projector_units import Ending, Held, Run, Unit
from otel_runtime.telemetry.projector_waiting import Waiting
from otel_runtime.telemetry.run_view import Seen, nanoseconds, see
from otel_runtime.telemetry.worker import Worker
from otel_runtime.values.trace import TraceEvent

__all__ = ["Projector"]

Clock = Callable[[], int]
_REASONS: Final = 64
_SWEEP_NS: Final = 200_000_000


class Projector:
    """Opens, finds and ends spans for TraceEvents. Safe to call from several threads.

    Args:
        spans: Where spans come from; `TracerSpans(tracer)` for OpenTelemetry.
        signals: Where counts and log records go.
        clock: Nanoseconds since 1970, for events without a time and for windows.
        max_runs: Runs open at once; the oldest is closed, flagged, when there are more.
        max_steps: Steps open at once in one run.
        max_events: Span events in one run; the first and the last are kept, failures and terminal events always.
        max_seen: Event ids remembered at least, and twice as many at most, to recognise duplicates.
        window_s: Seconds that an event may come before the one it should follow.
        idle_s: Seconds without any event or heartbeat after which a run is closed.
        sweep_every_s: Seconds between looks at windows and idle runs when no event comes; 0 starts no thread.
        mask: Masks secrets in free text; None leaves it as it is.
        log: True when all events come out of a log.
    """

    def __init__(
        self,
        spans: Spans,
        signals: Signals | None = None,
        *,
        clock: Clock = time.time_ns,
        max_runs: int = 1024,
        max_steps: int = 1024,
        max_events: int = 1024,
        max_seen: int = 8192,
        window_s: float = 2.0,
        idle_s: float = 1800.0,
        sweep_every_s: float = 1.0,
        mask: Mask | None = None,
        log: bool = False,
    ) -> None:
        self._spans = spans
        signals = signals or Signals()
        self._teller = Teller(spans, signals, mask)
        self._mask = mask
        self._writer = RunWriter(spans, signals, max_steps, max_events, mask)
        self._clock = clock
        self._max_runs = max_runs
        self._window_ns, self._idle_ns = int(window_s * 1e9), int(idle_s * 1e9)
        self._runs: OrderedDict[str, Run] = OrderedDict()
        self._waiting = Waiting()
        self._ended: OrderedDict[str, Run] = OrderedDict()
        self._known = Known(max_seen)
        self._problems: Counter[str] = Counter()
        self._late = Latecomers(self._writer, self._note, mask)
        self._lock = threading.RLock()
        self._closed = False
        # Logs that are being read: in them more may follow the end of a run, and the last end counts.
        self._logs = int(log)
        self._sweep_at = 0
        # The last event when it was only counted, where it was counted, and how often it came again.
        self._again: TraceEvent | None = None
        self._again_at: tuple[Run, Unit] | None = None
        self._agains = 0
        self._worker = Worker("otel-runtime-events", sweep_every_s, self.tick, self._forget_parent) if sweep_every_s else None

    @property
    def problems(self) -> Mapping[str, int]:
        """What was dropped or could not be done, by reason."""
        return MappingProxyType(self._problems)

    @property
    def open_runs(self) -> int:
        """Runs whose span has not ended."""
        return len(self._runs)

    def observe(self, event: TraceEvent) -> None:
        """Project one event. Never raises."""
        try:
            with self._lock:
                if event is self._again:
                    self._agains += 1
                    return
                if self._again is not None:
                    self._forget_again()
                self._observe(event)
        except Exception as problem:  # noqa: BLE001 - see the next line
            # Telemetry fails open: a broken exporter or a hostile attribute must not reach the agent.
            self._note(f"error: {type(problem).__name__}")

    def tick(self) -> None:
        """Look at windows and idle runs; called by a thread of its own, so that silence does not keep a span open."""
        try:
            with self._lock:
                self._forget_again()
                self._sweep(self._clock())
        except Exception as problem:  # noqa: BLE001 - as above
            self._note(f"error: {type(problem).__name__}")

    def settle(self) -> None:
        """Hold nothing any longer: whatever waits for an earlier event is projected as it is."""
        with self._lock:
            self._forget_again()
            self._settle()
            self._teller.speak()

    def close(self) -> None:
        """End every open span, flagged as not finished; later events are dropped."""
        with self._lock:
            self._forget_again()
            self._closed = True
            if self._worker is not None:
                self._worker.stop()
            for run_id in self._waiting.every():
                self._release(run_id)
            self._settle()
            for run in list(self._runs.values()):
                self._close(run, "closed")
            self._teller.speak()

    def _observe(self, event: TraceEvent) -> None:
        clock = self._clock()
        if clock >= self._sweep_at:
            self._sweep(clock)
        facts = event.attributes
        special = event.type != "run"
        if special and self._is_of_stream(facts):
            return
        unsampled = event.trace is not None and event.trace.sampled is False
        numbered = "event.id" in facts or "event.seq" in facts
        if self._closed or unsampled or (numbered and self._known.again(event)):
            self._note("closed" if self._closed else "unsampled" if unsampled else "duplicate")
            return
        self._teller.count(event)
        seen, now = see(event), (event.timestamp is not None and nanoseconds(event.timestamp)) or clock
        if special and facts.get("session.ended") is True:
            self._tell(event, seen, self._runs.get(self._turn_of(seen.session) or ""), now)
            self._close_session(seen, event, now, clock)
            return
        if "stream.lost" in facts:
            self._flag(seen.session, facts["stream.lost"])
        run_id = seen.run or self._turn_of(seen.session)
        run = None if run_id is None else self._runs.get(run_id)
        if run is not None and run.ending is not None and self._begins_again(run, run.ending, seen, now):
            run = None
        if run_id is None:
            self._without_run(event, seen, now, clock)
        elif run := run or self._arrive(run_id, seen, event, now, clock):
            self._apply(run, seen, event, now, clock)
        if "log.level" in facts or "component.status" in facts:
            self._tell(event, seen, run, now)

    def _is_of_stream(self, facts: Mapping[str, object]) -> bool:
        """True for what its reader says of a stream, and no foreign event."""
        if facts.get("stream.ended") is True:
            self._settle()
        elif "stream.log" in facts:
            self._logs += 1 if facts["stream.log"] is True else -1
        else:
            return False
        return True

    def _begins_again(self, run: Run, ending: Ending, seen: Seen, now: int) -> bool:
        """True for the start of a run that has ended and only lingered: it has its end now, and begins once more."""
        if not seen.opens or seen.announced or now < ending.at_ns:
            return False
        self._end(run, ending)
        return True

    def _flag(self, session: str | None, lost: object) -> None:
        """What is open may lack what was lost: it says so at its end."""
        for run in self._runs.values():
            if session in (None, run.session):
                run.unit.count_more("lost", lost if type(lost) is int and lost > 0 else 1)

    def _tell(self, event: TraceEvent, seen: Seen, run: Run | None, now: int) -> None:
        self._teller.tell(event, event.trace if run is None else run.places.get(seen.step or "", run.unit.span), now)

    def _forget_again(self) -> None:
        if self._again is not None and self._again_at is not None and self._agains:
            event, (run, unit), times = self._again, self._again_at, self._agains
            unit.count_more(event.name, times)
            run.heard_ns = self._clock()
            run.last_ns = max(run.last_ns, run.heard_ns)
            self._teller.count(event, times)
        self._again = self._again_at = None
        self._agains = 0

    def _forget_parent(self) -> None:
        # After a fork the parent process still has these spans and ends them; a copy here would be exported twice.
        self._lock = threading.RLock()
        self._runs.clear()
        self._waiting.clear()
        self._ended.clear()
        self._again = self._again_at = None
        self._teller.forget()

    def _note(self, reason: str) -> None:
        known = reason in self._problems or len(self._problems) < _REASONS
        self._problems[reason if known else "other"] += 1

    def _turn_of(self, session: str | None) -> str | None:
        """The run of a session that was opened last."""
        if session is None:
            return None
        return next((run.id for run in reversed(self._runs.values()) if run.session == session), None)

    def _without_run(self, event: TraceEvent, seen: Seen, now: int, clock: int) -> None:
        if seen.often:
            self._note(f"counted: {event.name[:64]}")
            for run in self._runs.values():
                if seen.session in (None, run.session):
                    run.heard_ns = clock
            return
        if isinstance(event.attributes.get("log.level"), str):
            # It is a log record, and there is no span for it to stand on.
            return
        facts = attributes_of(event, mask=self._mask)
        if facts.get(names.DECISION) not in (None, "allow"):
            self._teller.decided(facts, event.trace)
        span = self._spans.start(sanitize.name(event.name), {**facts, ORPHAN: True}, now, event.trace)
        span.end(now, None)

    def _arrive(self, run_id: str, seen: Seen, event: TraceEvent, now: int, clock: int) -> Run | None:
        """The run of an event that belongs to none that is open; None when the event was held or came too late."""
        ended = self._ended.get(run_id)
        if ended is not None:
            if not begins_again(ended, seen, event, now):
                self._late.take(ended, seen, event, now, clock)
                return None
            del self._ended[run_id]
        if not seen.announced:
            return self._open(run_id, event, seen, now, {})
        enough = self._waiting.add(run_id, Held(event, now, clock))
        self._watch()
        if enough:
            self._release(run_id)
        elif len(self._waiting) > self._max_runs:
            self._release(self._waiting.oldest())
        return None

    def _release(self, run_id: str) -> None:
        """Open a run with what was held of it, in the order of time, terminal events last."""
        first, placed, flags, held = self._waiting.take(run_id)
        run = self._open(run_id, first.event, see(first.event), began(first), flags, placed)
        for each in held:
            if run_id in self._runs:
                self._apply(run, see(each.event), each.event, each.at_ns, each.since_ns)
            else:
                self._late.take(run, see(each.event), each.event, each.at_ns, each.since_ns)

    def _open(self, run_id: str, event: TraceEvent, seen: Seen, now: int, flags: Attributes, placed: TraceEvent | None = None) -> Run:
        placed = placed or event
        parent, more = parent_of(self._runs, self._ended, run_id, placed)
        run = self._runs[run_id] = self._writer.open(run_id, event, seen, now, parent, {**flags, **more})
        run.alone = "parent.run.id" not in placed.attributes
        self._watch()
        if len(self._runs) > self._max_runs:
            self._close(next(iter(self._runs.values())), "evicted")
        return run

    def _apply(self, run: Run, seen: Seen, event: TraceEvent, now: int, clock: int) -> None:
        run.heard_ns = clock
        run.last_ns = max(run.last_ns, now)
        counted = self._writer.apply(run, seen, event, now)
        if seen.outcome is not None:
            self._terminal(run, seen, event, now, clock)
        elif counted is not None and event.timestamp is None and "event.id" not in event.attributes and "event.seq" not in event.attributes:
            self._again, self._again_at = event, (run, counted)

    def _terminal(self, run: Run, seen: Seen, event: TraceEvent, now: int, clock: int) -> None:
        # Who says an outcome means it.
        lasting = self._logs > 0 and not run.announced and "run.outcome" not in event.attributes
        if run.ending is not None and run.ending.final and not lasting:
            self._note("second terminal event")
            return
        ending = ending_of_run(run, seen, event, now, clock)
        unfinished = seen.outcome == "completed" and any(unit.ended_hint_ns is None for unit in run.units())
        if not ending.final or lasting or run.early or unfinished:
            run.ending = ending
        else:
            self._end(run, ending)

    def _sweep(self, clock: int) -> None:
        self._sweep_at = clock + _SWEEP_NS
        self._teller.speak()
        since = clock - self._window_ns
        for run_id in self._waiting.overdue(since, clock - self._idle_ns):
            self._release(run_id)
        for run in list(self._runs.values()):
            if run.ending is not None and run.ending.since_ns < since:
                self._end(run, run.ending)
            elif run.heard_ns < clock - self._idle_ns:
                self._note("idle")
                self._close(run, "idle")
            elif run.early:
                self._writer.release_early(run, since)
        self._late.settle(self._ended.values(), since)

    def _settle(self) -> None:
        for run_id in self._waiting.started():
            self._release(run_id)
        for run in list(self._runs.values()):
            if run.ending is not None:
                self._end(run, run.ending)
            else:
                self._writer.release_early(run, self._clock())
        self._late.settle(self._ended.values(), self._clock())

    def _close_session(self, seen: Seen, event: TraceEvent, now: int, clock: int) -> None:
        """Every run of the session ends with it; where there is none, the event is counted and logged, and makes no span."""
        for run_id in [] if seen.session is None else self._waiting.of_session(seen.session):
            self._release(run_id)
        for run in [run for run in self._runs.values() if seen.session is not None and run.session == seen.session]:
            if run.ending is None:
                self._apply(run, seen, event, now, clock)
            self._close(run, "closed")

    def _close(self, run: Run, outcome: str) -> None:
        if run.ending is not None:
            self._end(run, run.ending)
        elif run.tentative is not None:
            self._end(run, Ending(run.tentative[0], run.tentative[1], None, run.heard_ns))
        else:
            self._end(run, Ending(run.last_ns, run.failure, outcome, run.heard_ns))

    def _end(self, run: Run, ending: Ending) -> None:
        if self._runs.pop(run.id, None) is None:
            # It was closed with the run above it.
            return
        self._ended[run.id] = run
        if len(self._ended) > self._max_runs:
            self._ended.popitem(last=False)
        for child in run.children:
            if (below := self._runs.get(child)) is not None:
                # One that lingers has an end of its own.
                shared = Ending(ending.at_ns, ending.error, ending.outcome or "closed", ending.since_ns)
                self._end(below, below.ending or shared)
        run.last_ns = max(ending.at_ns, run.unit.started_ns)
        self._writer.finish(run, ending)

    def _watch(self) -> None:
        if self._worker is not None and not self._closed:
            self._worker.ensure()
