"""TraceEvents become spans: a run is a span, a step of it a child span, anything else an event on the span it belongs to.

Theory of operation. A run's span starts with the first event that names the run and ends with a terminal event, at `close()`, or when
there are too many runs. A run that ended with `invocation.error` or the like lingers a little: another terminal event may follow. Open
steps take their run's end. Deltas are counted, not recorded. Everything is bounded: runs, steps, events, ids seen.

Not yet here: a reorder window (an end before its start becomes a span of its own, flagged), a reaper for idle runs, parents by
explicit step id, and exact root spans for given trace ids (a synthetic remote parent stands in, flagged).

Telemetry fails open: `observe` never raises; what it could not do is counted in `problems`.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final, Literal

from otel_runtime.telemetry import conventions as names
from otel_runtime.telemetry import sanitize
from otel_runtime.telemetry.event_attributes import ORPHAN, TRUNCATED, Attributes, attributes_of, error_type, run_name, step_name
from otel_runtime.telemetry.projector_spans import Spans
from otel_runtime.telemetry.projector_units import Run, Unit
from otel_runtime.telemetry.run_view import Effect, Seen, is_counted_only, nanoseconds, see
from otel_runtime.values.trace import TraceEvent

__all__ = ["Projector"]

Clock = Callable[[], int]
_LINGER_NS: Final = 2_000_000_000
_REASONS: Final = 64
# A run that has ended is opened again only by these; anything else that still arrives is late.
_OPENING: Final = (".start", ".started", ".accepted")


class Projector:
    """Opens, finds and ends spans for TraceEvents. Safe to call from several threads.

    Args:
        spans: Where spans come from; `TracerSpans(tracer)` for OpenTelemetry.
        clock: Nanoseconds since 1970, for events without a time and for lingering runs.
        max_runs: Runs open at once; the oldest is closed, flagged, when there are more.
        max_steps: Steps open at once in one run.
        max_events: Span events in one run; later ones are dropped and counted, failures are kept.
        max_seen: Event ids remembered to recognise duplicates.
    """

    def __init__(
        self,
        spans: Spans,
        *,
        clock: Clock = time.time_ns,
        max_runs: int = 1024,
        max_steps: int = 1024,
        max_events: int = 1024,
        max_seen: int = 8192,
    ) -> None:
        self._spans = spans
        self._clock = clock
        self._max_runs, self._max_steps, self._max_events, self._max_seen = max_runs, max_steps, max_events, max_seen
        self._runs: OrderedDict[str, Run] = OrderedDict()
        self._seen: OrderedDict[tuple[object, ...], None] = OrderedDict()
        self._ended: OrderedDict[str, None] = OrderedDict()
        # Runs that ended with a failure that another terminal event may follow: end time, error type, and when that was observed.
        self._pending: dict[str, tuple[int, str, int]] = {}
        self._problems: Counter[str] = Counter()
        self._lock = threading.RLock()
        self._closed = False

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
                self._observe(event)
        except Exception as problem:  # noqa: BLE001 - see the next line
            # Telemetry fails open: a broken exporter or a hostile attribute must not reach the agent.
            self._note(f"error: {type(problem).__name__}")

    def close(self) -> None:
        """End every open span, flagged as not finished; later events are dropped."""
        with self._lock:
            self._closed = True
            for run_id in list(self._runs):
                self._close(run_id, "closed")

    def _observe(self, event: TraceEvent) -> None:
        self._end_lingering()
        if reason := self._unwanted(event):
            self._note(reason)
            return
        now = nanoseconds(event.timestamp) or self._clock()
        seen = see(event)
        if seen.run is None:
            self._without_run(event, now)
            return
        if seen.run in self._ended and not event.name.endswith(_OPENING):
            self._note("late")
            return
        run = self._run(seen.run, event, now)
        run.last_ns = max(run.last_ns, now)
        if seen.step is not None:
            self._step(run, seen, event, now)
        else:
            self._on_run(run, seen, event, now)

    def _note(self, reason: str) -> None:
        known = reason in self._problems or len(self._problems) < _REASONS
        self._problems[reason if known else "other"] += 1

    def _unwanted(self, event: TraceEvent) -> str | None:
        if self._closed:
            return "closed"
        if event.trace is not None and event.trace.sampled is False:
            return "unsampled"
        event_id = event.attributes.get("event.id")
        if not isinstance(event_id, str):
            return None
        # One foreign event may become several TraceEvents, so the name is part of the key.
        key = (event.attributes.get("event.source"), event_id, event.name)
        if key in self._seen:
            return "duplicate"
        self._seen[key] = None
        if len(self._seen) > self._max_seen:
            self._seen.popitem(last=False)
        return None

    def _without_run(self, event: TraceEvent, now: int) -> None:
        if is_counted_only(event):
            self._note(f"counted: {event.name[:64]}")
            return
        span = self._spans.start(sanitize.name(event.name), {**attributes_of(event), ORPHAN: True}, now, event.trace)
        span.end(now, None)

    def _run(self, run_id: str, event: TraceEvent, now: int) -> Run:
        run = self._runs.get(run_id)
        if run is None:
            name = run_name(event, "")
            facts = {**attributes_of(event), names.OPERATION: name.split(" ")[0]}
            run = self._runs[run_id] = Run(Unit(self._spans.start(name, facts, now, event.trace), now, name, said=facts))
            if len(self._runs) > self._max_runs:
                self._close(next(iter(self._runs)), "evicted")
        elif (name := run_name(event, run.unit.name)) != run.unit.name:
            run.unit.name = name
            run.unit.span.update({}, name)
        return run

    def _on_run(self, run: Run, seen: Seen, event: TraceEvent, now: int) -> None:
        facts = attributes_of(event)
        run.unit.span.update({key: value for key, value in facts.items() if key.startswith("gen_ai.")})
        if is_counted_only(event):
            run.unit.count(event.name)
        elif facts.get(names.DECISION) not in (None, "allow"):
            self._decision(run, facts, now)
        else:
            self._event(run, run.unit, event, facts, now, keep=seen.failure or seen.outcome is not None)
        if seen.failure:
            run.failure = error_type(event)
        if seen.outcome is not None:
            self._terminal(run, seen, event, now)

    def _terminal(self, run: Run, seen: Seen, event: TraceEvent, now: int) -> None:
        run_id = seen.run or ""
        if not seen.final:
            self._pending[run_id] = (now, error_type(event), self._clock())
        elif seen.outcome == "failed":
            self._end(run_id, now, run.failure or error_type(event))
        else:
            self._end(
                run_id, now, run.failure if seen.outcome == "completed" else None, "cancelled" if seen.outcome == "cancelled" else None
            )

    def _step(self, run: Run, seen: Seen, event: TraceEvent, now: int) -> None:
        step = seen.step or ""
        facts, label = attributes_of(event), step_name(event, seen.kind)
        unit = run.find(step, label.key)
        if unit is None:
            parent = run.unit.span
            flags: Attributes = {} if seen.effect == "running" or seen.kind == "step" else {ORPHAN: True}
            span = self._spans.start(
                sanitize.name(label.text), {**facts, **label.attributes, **flags}, now, parent, client=seen.kind == "model"
            )
            unit = Unit(span, now, label.text, label.key, facts)
            run.add(step, unit)
            self._bound_steps(run, now)
        else:
            unit.span.update(facts, unit.resolved(event.attributes.get("approval.outcome")) if seen.kind == "approval" else None)
            if seen.effect == "running":
                self._progress(run, unit, event, facts, now)
        unit.ended_hint_ns = nanoseconds(event.attributes.get("step.ended_at")) or unit.ended_hint_ns
        if seen.effect != "running":
            run.forget(step, unit)
            unit.end(unit.ended_hint_ns or now, *_ending(seen.effect, event))

    def _progress(self, run: Run, unit: Unit, event: TraceEvent, facts: Attributes, now: int) -> None:
        if is_counted_only(event):
            unit.count(event.name)
        elif "step.ended_at" not in event.attributes:
            self._event(run, unit, event, facts, now)

    def _event(self, run: Run, unit: Unit, event: TraceEvent, facts: Attributes, now: int, *, keep: bool = False) -> None:
        run.events += 1
        if run.events <= self._max_events or keep:
            # What the span says already is not said again.
            unit.span.event(sanitize.name(event.name), unit.news(facts), now)
        else:
            run.truncated += 1

    def _decision(self, run: Run, facts: Attributes, now: int) -> None:
        # The facts hold no gen_ai.tool.name: viewers would paint a refused call as an executed tool.
        name = sanitize.name(f"policy {facts[names.DECISION]} {facts.get(names.OWN_TOOL, '')}")
        self._spans.start(name, facts, now, run.unit.span).end(now, None)

    def _bound_steps(self, run: Run, now: int) -> None:
        if run.open_steps > self._max_steps:
            self._note("step evicted")
            run.take_oldest().end(now, None, "evicted")

    def _end_lingering(self) -> None:
        now = self._clock()
        for run_id in [run_id for run_id, pending in self._pending.items() if now - pending[2] > _LINGER_NS]:
            self._close(run_id, "closed")

    def _close(self, run_id: str, outcome: Literal["closed", "evicted"]) -> None:
        run, pending = self._runs[run_id], self._pending.get(run_id)
        if pending:
            self._end(run_id, pending[0], pending[1])
        else:
            self._end(run_id, run.last_ns, run.failure, outcome)

    def _end(self, run_id: str, at_ns: int, error: str | None, outcome: str | None = None) -> None:
        run = self._runs.pop(run_id)
        self._pending.pop(run_id, None)
        self._ended[run_id] = None
        if len(self._ended) > self._max_runs:
            self._ended.popitem(last=False)
        if run.truncated:
            run.unit.span.update({TRUNCATED: run.truncated})
        for unit in run.units():
            # Its own work was over, or it is closed with its run: a failed run's open steps failed with it.
            over = unit.ended_hint_ns is not None
            unit.end(unit.ended_hint_ns or at_ns, None if over else error, None if over else outcome or "closed")
        run.unit.end(at_ns, error, outcome)


def _ending(effect: Effect, event: TraceEvent) -> tuple[str | None, str | None]:
    if effect == "failed":
        return error_type(event), None
    return ("cancelled", "cancelled") if effect == "cancelled" else (None, None)
