"""OpenTelemetry log records of foreign events, with the ids of the trace they belong to.

The application's own logger provider is used when it has set one; else one of our own exports by OTLP, where OTEL_* or a collector on
this machine say so. Nothing is built before the first record, and then on a thread of our own: a record costs its caller one append.
Telemetry fails open: what cannot be exported is a counted problem.
"""

from __future__ import annotations

import inspect
import logging
import time
from collections import deque
from collections.abc import Callable
from functools import cache
from typing import Any, Final, NamedTuple

from opentelemetry import _logs, trace
from opentelemetry.context import Context

from otel_runtime.telemetry import conventions as names
from otel_runtime.telemetry.event_attributes import Attributes
from otel_runtime.telemetry.losses import Losses
from otel_runtime.telemetry.quiet import quietly
from otel_runtime.telemetry.worker import Worker

__all__ = ["EventLogs"]

_WAITING: Final = 4096
_PERIOD_S: Final = 1.0
_SEVERITY: Final = {logging.DEBUG: ("DEBUG", 5), logging.INFO: ("INFO", 9), logging.WARNING: ("WARN", 13), logging.ERROR: ("ERROR", 17)}


class _Waiting(NamedTuple):
    level: int
    name: str
    facts: Attributes
    at_ns: int
    where: Context


class EventLogs:
    """Emits log records from a thread of its own.

    Args:
        make: Builds a logger provider of our own; None when there is nowhere to send records to. Called when first needed.
        losses: Where problems are counted.
    """

    # Any: the logs part of the SDK is typed differently in each version that is supported.
    def __init__(self, make: Callable[[], Any], losses: Losses) -> None:
        self._make = make
        self._losses = losses
        self._queue: deque[_Waiting] = deque()
        self._own: Any = None
        self._logger: Any = None
        self._worker = Worker("otel-runtime-logs", _PERIOD_S, self._step, self._forked)

    def emit(self, level: int, name: str, facts: Attributes, at_ns: int, where: Context) -> None:
        """Queue one record. Never blocks, never raises.

        Args:
            level: Of Python's logging.
            name: What happened.
            facts: Attributes, clean.
            at_ns: Nanoseconds since 1970.
            where: The context it belongs to.
        """
        if len(self._queue) >= _WAITING:
            self._losses.problem("logs", "too many records wait; one was dropped")
            return
        if not _bridged():
            self._queue.append(_Waiting(level, name, facts, at_ns, where))
            self._worker.ensure()

    def flush(self, timeout_ms: float) -> bool:
        """Send what is queued; False when it was not done in time."""
        if not self._queue and self._own is None:
            return True
        began = time.monotonic()
        done = self._worker.drain(timeout_ms / 1000)
        left = max(0, timeout_ms - (time.monotonic() - began) * 1000)
        if self._own is None:
            return done
        with quietly(self._losses):
            return bool(self._own.force_flush(int(left))) and done

    def shutdown(self, timeout_ms: float) -> None:
        """Flush and stop what is ours."""
        self.flush(timeout_ms)
        self._worker.stop()
        if self._own is not None:
            with quietly(self._losses):
                self._own.shutdown()

    def _step(self) -> None:
        with quietly(self._losses):
            while self._queue:
                waiting = self._queue.popleft()
                try:
                    self._emit(waiting)
                except Exception as error:  # noqa: BLE001 - whatever a provider does, the next record is tried
                    self._losses.problem("logs", error)

    def _emit(self, waiting: _Waiting) -> None:
        logger = self._logger or self._open()
        if logger is not None:
            logger.emit(_record(waiting, logger))

    def _open(self) -> Any:
        provider = _logs.get_logger_provider()
        # The proxy that stands in before an application sets one has no public class.
        if type(provider).__name__ in ("ProxyLoggerProvider", "NoOpLoggerProvider"):
            if self._own is None:
                self._own = self._make()
            provider = self._own
            if provider is None:
                # A collector may start later; then the records from then on are sent.
                return None
        self._logger = provider.get_logger(names.SCOPE)
        return self._logger

    def _forked(self) -> None:
        # The parent still has these records and sends them; its provider's threads do not exist here.
        self._queue.clear()
        self._own = self._logger = None


def _bridged() -> bool:
    """True when the application hands Python's log records to OpenTelemetry itself: they would come twice."""
    logger: logging.Logger | None = logging.getLogger("otel_runtime.events")
    while logger is not None:
        if any(
            type(handler).__name__ == "LoggingHandler" and type(handler).__module__.startswith("opentelemetry")
            for handler in logger.handlers
        ):
            return True
        logger = logger.parent if logger.propagate else None
    return False


def _record(waiting: _Waiting, logger: Any) -> Any:
    """The record as this version of the SDK wants it."""
    text, number = _SEVERITY.get(waiting.level, _SEVERITY[logging.INFO])
    place = trace.get_current_span(waiting.where).get_span_context()
    facts: dict[str, Any] = {
        "timestamp": waiting.at_ns,
        "observed_timestamp": time.time_ns(),
        "severity_text": text,
        "severity_number": _logs.SeverityNumber(number),
        "body": waiting.name,
        "attributes": dict(waiting.facts),
    }
    kind, known = _record_class()
    if "event_name" in known:
        facts["event_name"] = waiting.name
    if "context" in known:
        return kind(**facts, context=waiting.where)
    # The older class: zeros where there is no trace, and the resource of whatever provider it goes to.
    facts |= {"trace_id": place.trace_id, "span_id": place.span_id, "trace_flags": place.trace_flags}
    if "resource" in known:
        facts["resource"] = getattr(logger, "resource", None)
    return kind(**facts)


@cache
def _record_class() -> tuple[Any, frozenset[str]]:
    """Older SDKs take records of their own class only; newer ones the API's. With the names of what it takes."""
    from opentelemetry.sdk import _logs as sdk_logs

    kind = getattr(sdk_logs, "LogRecord", None) or _logs.LogRecord
    return kind, frozenset(inspect.signature(kind).parameters)
