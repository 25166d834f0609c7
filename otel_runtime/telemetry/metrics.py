"""Instruments and the queue in front of them: the caller appends one tuple, a worker records it with the call's context.

`histogram.record` of the SDK costs as much as half a span, so it runs on a worker; the context that travels with the value keeps the
exemplar pointing at its trace. A collection drains the queue first, through the callback of the one observable instrument.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

from opentelemetry.context import Context
from opentelemetry.metrics import CallbackOptions, Meter, Observation

from otel_runtime.telemetry import conventions as c
from otel_runtime.telemetry.fork_gate import ForkGate
from otel_runtime.telemetry.losses import Losses
from otel_runtime.telemetry.open_questions import OpenQuestions
from otel_runtime.telemetry.peaks import Peaks
from otel_runtime.telemetry.sanitize import name as clean_name
from otel_runtime.telemetry.worker import Worker

__all__ = ["Generation", "Labels", "Record", "Recorder", "Value"]

Generation = Literal["both", "legacy", "latest"]
Value = str | bool | int | float
# Any: an instrument takes a number and its labels, several measurements of one event take what they are taken from.
Record = Callable[[Any, Any, Context], object]
_QUEUE_LIMIT = 16_384
_PERIOD_S = 0.2
_LABELS_LIMIT = 200
_GENERATIONS: Mapping[Generation, str] = {"both": "on, legacy and latest names", "legacy": "on, legacy names", "latest": "on, latest names"}


class Labels:
    """A bounded set of label values: the first so many keep their name, later ones become `_OTHER`.

    Args:
        limit: Most distinct values.
    """

    __slots__ = ("_known", "_limit")

    def __init__(self, limit: int = _LABELS_LIMIT) -> None:
        self._limit = limit
        self._known: dict[str, str] = {}

    def of(self, given: str) -> str:
        """The value to put on a metric for this name."""
        known = self._known.get(given)
        if known is not None:
            return known
        if len(self._known) >= self._limit:
            return c.OTHER
        label = clean_name(given)
        self._known[given] = label
        return label


class Recorder:
    """Creates every instrument of `conventions.METRICS` and records into them on a worker.

    Args:
        meter: Where the instruments live; None records nothing.
        generation: Which GenAI metric names are on.
        losses: Read by the lost-spans counter, and told about measurements that found the queue full.
    """

    def __init__(self, meter: Meter | None, generation: Generation, losses: Losses) -> None:
        self._losses = losses
        self._queue: deque[tuple[Record, Any, Any, Context]] = deque()
        self._records: dict[str, Record] = {}
        # Recording takes locks of the meter provider, which in a forked child nobody would ever release.
        self._gate = ForkGate()
        self._peaks: list[Peaks] = []
        #: What waits for a person.
        self.questions: OpenQuestions = OpenQuestions(self._drain, lambda error: losses.problem("approvals", error))
        self._worker = Worker("otel-runtime-metrics", _PERIOD_S, self._step, self._forked)
        self.on: bool = meter is not None
        self.described: str = _GENERATIONS[generation] if self.on else "off: nobody reads them"
        for name, metric in c.METRICS.items() if meter is not None else ():
            if metric.generation in ("always", "ours", generation) or generation == "both":
                self._create(meter, name, metric)  # type: ignore[arg-type]  # not None: the loop is empty otherwise

    def record(self, name: str) -> Record | None:
        """What to hand to `put` for this instrument; None when it is off."""
        return self._records.get(name)

    def put(self, record: Record, value: object, attributes: object, context: Context) -> None:
        """Queue one event's measurements: `record` is called with the rest. Never blocks; `attributes` must not change afterwards."""
        if len(self._queue) >= _QUEUE_LIMIT:
            self._losses.add("metrics_full")
            return
        self._queue.append((record, value, attributes, context))

    def ensure(self) -> None:
        """Start the worker unless it runs; called where a span opens, never from a finaliser."""
        if not self._worker.running:
            self._worker.ensure()

    def flush(self, timeout_s: float) -> bool:
        """Record everything queued; False when that took longer."""
        if not self._worker.running:
            self._drain()
            return True
        return self._worker.drain(timeout_s)

    def stop(self) -> None:
        """Let the worker end; never waits."""
        self._worker.stop()

    def _forked(self) -> None:
        self._queue.clear()
        self.questions.clear()
        for peaks in self._peaks:
            peaks.clear()

    def _step(self) -> None:
        self._drain()
        self._losses.speak()

    def _drain(self) -> None:
        while True:
            try:
                record, value, attributes, context = self._queue.popleft()
            except IndexError:
                return
            try:
                with self._gate:
                    record(value, attributes, context)
            except Exception as error:  # noqa: BLE001 - an application's own meter provider may raise anything
                self._losses.problem("metrics", error)

    def _create(self, meter: Meter, name: str, metric: c.Metric) -> None:
        if metric.kind == "histogram":
            self._records[name] = meter.create_histogram(
                name, unit=metric.unit, description=metric.text, explicit_bucket_boundaries_advisory=metric.buckets
            ).record
        elif metric.kind == "counter":
            self._records[name] = meter.create_counter(name, unit=metric.unit, description=metric.text).add
        elif metric.kind == "updown":
            self._records[name] = self.questions.record
            meter.create_observable_up_down_counter(name, [self.questions.observe], unit=metric.unit, description=metric.text)
        elif metric.kind == "gauge":
            self._records[name] = meter.create_gauge(name, unit=metric.unit, description=metric.text).set
        elif metric.kind == "peak":
            peaks = Peaks(self._drain)
            self._peaks.append(peaks)
            self._records[name] = peaks.record
            meter.create_observable_gauge(name, [peaks.observe], unit=metric.unit, description=metric.text)
        else:
            meter.create_observable_counter(name, [self._observe], unit=metric.unit, description=metric.text)

    def _observe(self, _options: CallbackOptions) -> Iterable[Observation]:
        # The SDK calls observable instruments before it reads the others, so a collection sees everything queued until now.
        self._drain()
        return [Observation(count, {c.LOST_REASON: reason}) for reason, count in self._losses.counts.items()]
