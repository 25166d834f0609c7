"""A meter provider of our own that begins anew in every forked child.

A child that went on with its parent's would send what the parent measured a second time, and would wait for good for a lock of the SDK's
that another thread of the parent held at the moment of the fork. So what `Recorder` holds are stand-ins, and behind them is whatever
provider belongs to this process; in a child it is made when something is first measured there.

The readers are the SDK's; the thread that has them collect is ours, because the SDK's own is started again in every child.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from opentelemetry.context import Context
from opentelemetry.metrics import Meter
from opentelemetry.sdk.metrics import AlignedHistogramBucketExemplarReservoir, ExemplarReservoir, MeterProvider
from opentelemetry.sdk.metrics.export import MetricExporter, PeriodicExportingMetricReader
from opentelemetry.sdk.metrics.view import View
from opentelemetry.sdk.resources import Resource

from otel_runtime.telemetry.losses import Losses
from otel_runtime.telemetry.worker import Worker

__all__ = ["OwnMeters", "interval_from"]

_INTERVAL = "OTEL_METRIC_EXPORT_INTERVAL"
_DEFAULT_MS = 60_000.0
# For histograms without buckets of their own: exponential ones.
_DECADES = tuple(10.0**power for power in range(-3, 6))
# Any: what the SDK's instruments and their makers are handed passes through.
_Make = Callable[[Meter], Any]


def interval_from(environ: Mapping[str, str], losses: Losses) -> float:
    """Seconds between two exports of metrics, as OTEL_METRIC_EXPORT_INTERVAL asks for in milliseconds; a bad value is reported.

    Args:
        environ: The variables.
        losses: Where a bad value is reported.
    """
    given = environ.get(_INTERVAL, "").strip()
    if not given:
        return _DEFAULT_MS / 1000
    try:
        found = float(given)
    except ValueError:
        found = 0.0
    # Infinity asks, as with the SDK, for no export but those of a flush.
    if found > 0:
        return min(found / 1000, threading.TIMEOUT_MAX)
    losses.problem(_INTERVAL, f"`{given[:64]}` is no positive number; using {_DEFAULT_MS:.0f}", warn=False)
    return _DEFAULT_MS / 1000


class OwnMeters:
    """What is used of an SDK meter provider, over one provider per process.

    Args:
        exporters: Makes the exporters; called again in a forked child.
        resource: Of the metrics.
        losses: Where problems go.
        period_s: Seconds between two exports.
    """

    def __init__(self, exporters: Callable[[], Sequence[MetricExporter]], resource: Resource, losses: Losses, period_s: float) -> None:
        self._exporters = exporters
        self._resource = resource
        self._losses = losses
        self._lock = threading.RLock()
        # Held while a period's export is under way, which a shutdown of its exporter must not meet.
        self._turn = threading.Lock()
        self._makers: list[tuple[_Instrument, _Make]] = []
        self._scope: tuple[Any, ...] = ("", None, None, None)
        self._provider: MeterProvider | None = None
        self._stopped = False
        self._worker = Worker("otel-runtime-metrics-export", period_s, self._collect, self._forked)
        self.reads: bool = self._build()

    def get_meter(self, name: str, version: str | None = None, attributes: Mapping[str, Any] | None = None) -> Any:
        """A stand-in for the one meter of our own: it makes stand-ins of instruments."""
        self._scope = (name, version, None, attributes)
        return _Meter(self)

    def make(self, maker: _Make) -> _Instrument:
        """An instrument of whatever provider belongs to this process.

        Args:
            maker: Makes it from a meter.
        """
        made = _Instrument(self)
        with self._lock:
            self._makers.append((made, maker))
            if self._provider is not None:
                made.real = maker(self._provider.get_meter(*self._scope))
        return made

    def ensure(self) -> None:
        """Have a provider in this process, unless it was shut down."""
        if not self._stopped:
            self._build()

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        """Collect and export now.

        Raises:
            Exception: A reader failed, as the SDK says it.
        """
        provider = self._provider
        return provider is None or provider.force_flush(timeout_millis)

    def shutdown(self, timeout_millis: float = 30_000) -> None:
        """Stop the exporters; nothing is collected any more."""
        self._stopped = True
        self._worker.stop()
        provider, began = self._provider, time.monotonic()
        if provider is None:
            return
        in_time = self._turn.acquire(timeout=timeout_millis / 1000)
        try:
            provider.shutdown(max(1.0, timeout_millis - (time.monotonic() - began) * 1000))
        finally:
            if in_time:
                self._turn.release()

    def _build(self) -> bool:
        with self._lock:
            if self._provider is not None:
                return True
            # Without a period the SDK starts no thread.
            readers = [PeriodicExportingMetricReader(exporter, math.inf) for exporter in self._exporters()]
            if not readers:
                return False
            provider = MeterProvider(readers, resource=self._resource, shutdown_on_exit=False, views=[_exemplars()])
            for instrument, maker in self._makers:
                instrument.real = maker(provider.get_meter(*self._scope))
            self._provider = provider
        self._worker.ensure()
        return True

    def _collect(self) -> None:
        if self._stopped:
            # Whoever stops it holds the turn, and under gevent waits on this very thread.
            return
        with self._turn:
            if self._stopped:
                return
            try:
                self.force_flush()
            except Exception as error:  # noqa: BLE001 - the next period tries again
                self._losses.problem("metrics", error)

    def _forked(self) -> None:
        self._lock, self._turn = threading.RLock(), threading.Lock()
        self._provider = None
        for instrument, _ in self._makers:
            instrument.real = None


def _exemplars() -> View:
    """The latest measurement of each bucket is the exemplar. The SDK draws one where there are no buckets, from the generator that the
    application may have seeded.
    """

    def reservoir(**given: Any) -> ExemplarReservoir:
        buckets = given.get("boundaries", _DECADES if given.get("size", 1) > 1 else ())
        return AlignedHistogramBucketExemplarReservoir(buckets)

    # The SDK hands keywords over, and types it as one dict.
    builder: Any = reservoir
    return View(instrument_name="*", exemplar_reservoir_factory=lambda _aggregation: builder)


class _Instrument:
    """Records into the instrument of this process."""

    __slots__ = ("_owner", "real")

    def __init__(self, owner: OwnMeters) -> None:
        self._owner = owner
        self.real: Any = None

    def record(self, value: float, attributes: Mapping[str, Any], context: Context) -> None:
        """One measurement of a histogram."""
        if (real := self._found()) is not None:
            real.record(value, attributes, context)

    def add(self, value: float, attributes: Mapping[str, Any], context: Context) -> None:
        """One addition to a counter."""
        if (real := self._found()) is not None:
            real.add(value, attributes, context)

    def set(self, value: float, attributes: Mapping[str, Any], context: Context) -> None:
        """One state of a gauge."""
        if (real := self._found()) is not None:
            real.set(value, attributes, context)

    def _found(self) -> Any:
        if self.real is None:
            self._owner.ensure()
        return self.real


class _Meter:
    """Makes the instruments that `Recorder` asks for."""

    def __init__(self, owner: OwnMeters) -> None:
        self._owner = owner

    def __getattr__(self, name: str) -> Callable[..., _Instrument]:
        # `create_histogram` and its like: whatever the SDK's meter makes, with the same arguments.
        return lambda *args, **kwargs: self._owner.make(lambda meter: getattr(meter, name)(*args, **kwargs))
