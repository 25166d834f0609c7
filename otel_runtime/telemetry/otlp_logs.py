"""A logger provider of our own: OTLP by the standard variables, or a collector on this machine, or the console. Built when first needed."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from opentelemetry.sdk.resources import Resource

from otel_runtime.telemetry import otlp
from otel_runtime.telemetry.losses import Losses
from otel_runtime.telemetry.quiet import quietly

__all__ = ["log_provider"]


def log_provider(
    exporters: Sequence[str], protocol: otlp.Protocol, collector: otlp.Collector | None, resource: Resource, losses: Losses
) -> Any:
    """The provider; None when nothing would take its records now.

    Args:
        exporters: `otlp`, `console`, or nothing.
        protocol: Of the OTLP exporter.
        collector: Given when records are only sent while a local collector listens.
        resource: Of the records.
        losses: Where failed exports are counted.

    Raises:
        ValueError: A variable that the exporter reads has a bad value.
    """
    # Any: the logs part of the SDK is typed differently in each version that is supported.
    found: list[Any] = []
    for name in exporters:
        if name == "console":
            found.append(_Quiet(_console(), losses))
        elif collector is None or collector.listens():
            found.append(_Quiet(_otlp(protocol), losses))
    if not found:
        return None
    # Imported here: a program without foreign events needs none of it.
    from opentelemetry.sdk._logs import LoggerProvider
    from opentelemetry.sdk._logs.export import BatchLogRecordProcessor

    provider = LoggerProvider(resource=resource, shutdown_on_exit=False)
    for exporter in found:
        provider.add_log_record_processor(BatchLogRecordProcessor(exporter))
    return provider


class _Quiet:
    """Exports through another exporter, whose log records become counted problems."""

    # Any: as above.
    def __init__(self, real: Any, losses: Losses) -> None:
        self._real = real
        self._losses = losses

    def export(self, batch: Any, *arguments: Any) -> Any:
        with quietly(self._losses):
            return self._real.export(batch, *arguments)

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        return True

    def shutdown(self, *arguments: Any) -> None:
        with quietly(self._losses):
            self._real.shutdown(*arguments)


def _console() -> Any:
    from opentelemetry.sdk._logs import export

    # Renamed in a later SDK; the old name stayed for a while.
    kind: Any = getattr(export, "ConsoleLogRecordExporter", None) or export.ConsoleLogExporter
    return kind(out=sys.stdout)


def _otlp(protocol: otlp.Protocol) -> Any:
    if protocol == "grpc":
        from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter as Grpc

        return Grpc()
    from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter as Http

    return Http()
