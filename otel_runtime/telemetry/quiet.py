"""Keeps the SDK's export errors out of the application's log: on our export threads they become counted problems instead."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

__all__ = ["Listener", "install", "quietly"]

# A filter on a logger does not see what its children log, so each is named. Only records of our own threads are held back: an
# application that exports by itself keeps its log.
_LOGGERS = (
    "opentelemetry.attributes",
    "opentelemetry.exporter.http.transport",
    "opentelemetry.exporter.otlp.common.http",
    "opentelemetry.exporter.otlp.proto.common._internal",
    "opentelemetry.exporter.otlp.proto.common._internal.metrics_encoder",
    "opentelemetry.exporter.otlp.proto.common._internal.trace_encoder",
    "opentelemetry.exporter.otlp.proto.grpc.exporter",
    "opentelemetry.exporter.otlp.proto.http._common",
    "opentelemetry.exporter.otlp.proto.http._log_exporter",
    "opentelemetry.exporter.otlp.proto.http.metric_exporter",
    "opentelemetry.exporter.otlp.proto.http.trace_exporter",
    "opentelemetry.sdk.metrics._internal.export",
    "urllib3.connectionpool",
)


class Listener(Protocol):
    """Who is told what exporters say: `Losses`, or what stands before it."""

    def problem(self, where: str, what: object) -> None:
        """Remember it."""
        ...


class _Exporting(threading.local):
    losses: Listener | None = None


_here = _Exporting()


class _HoldBack(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        losses = _here.losses
        if losses is None:
            return True
        if record.levelno >= logging.WARNING:
            losses.problem("export", record.getMessage())
        return False


_filter = _HoldBack()


def install() -> None:
    """Put the filter on the SDK's export loggers; doing it twice does nothing."""
    for name in _LOGGERS:
        logging.getLogger(name).addFilter(_filter)


@contextmanager
def quietly(losses: Listener) -> Iterator[None]:
    """Within it, what this thread's exporters log goes to `losses`."""
    before, _here.losses = _here.losses, losses
    try:
        yield
    finally:
        _here.losses = before
