"""OTLP exporters: configured by the standard variables, or sent to a collector on this machine whenever one listens."""

from __future__ import annotations

import math
import os
import re
import socket
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

from opentelemetry.sdk.metrics.export import MetricExporter, MetricExportResult, MetricsData
from opentelemetry.sdk.trace.export import SpanExporter

from otel_runtime.telemetry.losses import Losses
from otel_runtime.telemetry.quiet import Listener, quietly

if TYPE_CHECKING:
    from otel_runtime.telemetry.otlp_watch import Watch

__all__ = ["Collector", "Protocol", "QuietMetrics", "metric_exporter", "protocol_of", "span_exporter", "timeout_of"]

Protocol = Literal["grpc", "http/protobuf"]
_PORTS: Mapping[Protocol, int] = {"grpc": 4317, "http/protobuf": 4318}
_PROBE_EVERY_S = 30.0
_PROBE_TIMEOUT_S = 0.05
# One of a vendor's may be an ocean away; only `doctor` waits for it.
_FAR_TIMEOUT_S = 3.0
_TIMEOUT_S = 10.0
# How the SDK's two exporters say it.
_NO_PLACE = re.compile(r"code: (?:404|StatusCode\.UNIMPLEMENTED)\b")
_NO_METRICS = (
    "the server that takes the spans takes no metrics, as Jaeger and Tempo do not; "
    "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT names another one, OTEL_METRICS_EXPORTER=none stops trying"
)
_CREDENTIAL_PROVIDERS = ("OTEL_PYTHON_EXPORTER_OTLP_HTTP_CREDENTIAL_PROVIDER", "OTEL_PYTHON_EXPORTER_OTLP_HTTP_TRACES_CREDENTIAL_PROVIDER")


def protocol_of(environ: Mapping[str, str], signal: str, losses: Losses) -> Protocol:
    """Which OTLP protocol a signal (`TRACES`, `METRICS`) uses."""
    for name in (f"OTEL_EXPORTER_OTLP_{signal}_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"):
        given = environ.get(name, "").strip().lower()
        if given in ("grpc", "http/protobuf"):
            return "grpc" if given == "grpc" else "http/protobuf"
        if given:
            losses.problem(name, f"`{given[:64]}` is not supported; expected `grpc` or `http/protobuf`; using `http/protobuf`", warn=False)
            break
    return "http/protobuf"


def timeout_of(environ: Mapping[str, str]) -> float:
    """Seconds that one export may take, as the exporter reads them; a bad value is the exporter's to report."""
    for name in ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "OTEL_EXPORTER_OTLP_TIMEOUT"):
        try:
            found = float(environ.get(name) or 0)
        except ValueError:
            continue
        if math.isfinite(found) and found > 0:
            return found
    return _TIMEOUT_S


def span_exporter(protocol: Protocol, watch: Watch) -> SpanExporter:
    """The SDK's exporter, which reads endpoint, headers, TLS and timeout from OTEL_EXPORTER_OTLP_* itself, under a watch.

    Raises:
        ValueError: A variable it reads has a bad value.
    """
    # Imported here: both pull in a network stack that a program without a collector never needs.
    if protocol == "grpc":
        from otel_runtime.telemetry.otlp_grpc import WatchedGrpc

        return WatchedGrpc(watch)
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as Http

    from otel_runtime.telemetry.otlp_watch import watched_session

    # A credential provider brings a session of its own, which the exporter only uses when it is given none.
    if any(os.environ.get(name) for name in _CREDENTIAL_PROVIDERS):
        watch.blind = True
        return Http()
    return Http(session=watched_session(watch))


def metric_exporter(protocol: Protocol) -> MetricExporter:
    """The same for metrics.

    Raises:
        ValueError: A variable it reads has a bad value.
    """
    if protocol == "grpc":
        from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter as Grpc

        return Grpc()
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter as Http

    return Http()


class Collector:
    """Looks whether a collector listens, at most every 30 seconds.

    Args:
        host: Host name or address.
        port: TCP port.
        patience_s: Seconds to wait for the connection.
    """

    def __init__(self, host: str, port: int, patience_s: float = _PROBE_TIMEOUT_S) -> None:
        self.address: tuple[str, int] = (host, port)
        self._patience_s = patience_s
        self._looked_at = -_PROBE_EVERY_S
        self._listens = False

    @classmethod
    def local(cls, protocol: Protocol) -> Collector:
        """The one on this machine, on the protocol's own port."""
        return cls("localhost", _PORTS[protocol])

    @classmethod
    def configured(cls, environ: Mapping[str, str], signal: str, protocol: Protocol) -> Collector:
        """The one that OTEL_EXPORTER_OTLP_ENDPOINT or the signal's own variable names."""
        names = (f"OTEL_EXPORTER_OTLP_{signal}_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
        given = next((environ[name] for name in names if environ.get(name, "").strip()), "")
        try:
            # gRPC endpoints may come without a scheme.
            parts = urlsplit(given if "://" in given else f"//{given}")
        except ValueError:
            return cls.local(protocol)
        try:
            port = parts.port or (443 if parts.scheme == "https" and protocol != "grpc" else _PORTS[protocol])
        except ValueError:
            port = _PORTS[protocol]
        return cls(parts.hostname or "localhost", port, _FAR_TIMEOUT_S)

    def report(self) -> Mapping[str, object]:
        """What `doctor` shows; without path and credentials."""
        host, port = self.address
        return {"endpoint": f"{host}:{port}", "listening": self.listens()}

    def listens(self) -> bool:
        """True when something accepts a TCP connection; blocks up to `patience_s`, so only for export threads and commands."""
        if time.monotonic() - self._looked_at < _PROBE_EVERY_S:
            return self._listens
        try:
            with socket.create_connection(self.address, self._patience_s):
                self._listens = True
        except OSError:
            self._listens = False
        self._looked_at = time.monotonic()
        return self._listens

    def gone(self) -> None:
        """An export failed: look again before the next one."""
        self._looked_at = -_PROBE_EVERY_S


class _MetricsRefused:
    """Hears the exporters of metrics: a server that takes spans and has no place for metrics, as Jaeger and Tempo, is no fault.

    Args:
        losses: Where problems go.
    """

    def __init__(self, losses: Losses) -> None:
        self._losses = losses

    def problem(self, where: str, what: object) -> None:
        """A problem to warn of, or a fact that `doctor` shows."""
        if _NO_PLACE.search(str(what)):
            self._losses.problem("metrics", _NO_METRICS, warn=False)
        else:
            self._losses.problem(where, what)


class QuietMetrics(MetricExporter):
    """Sends metrics through another exporter; its log records become counted problems.

    Args:
        make: Builds the real exporter when it is first needed.
        losses: Where problems go.
        collector: Given when metrics are only sent while a local collector listens.
        like: An exporter whose temporality and aggregation preferences hold; None for the defaults.
        meant: True when an address was named for metrics alone; that it takes none is then a problem.
    """

    def __init__(
        self,
        make: Callable[[], MetricExporter],
        losses: Losses,
        collector: Collector | None = None,
        like: MetricExporter | None = None,
        *,
        meant: bool = True,
    ) -> None:
        # The SDK keeps the two preferences in these attributes and has no public way to hand them on.
        super().__init__(
            preferred_temporality=getattr(like, "_preferred_temporality", None),
            preferred_aggregation=getattr(like, "_preferred_aggregation", None),
        )
        self._make = make
        self._losses = losses
        self._listener: Listener = losses if meant else _MetricsRefused(losses)
        self._collector = collector
        self._real = like

    def export(self, metrics_data: MetricsData, timeout_millis: float = 10_000, **kwargs: object) -> MetricExportResult:
        """Send, or drop when nothing listens."""
        with quietly(self._listener):
            try:
                if self._collector is not None and not self._collector.listens():
                    return MetricExportResult.SUCCESS
                if self._real is None:
                    self._real = self._make()
                result = self._real.export(metrics_data, timeout_millis=timeout_millis)
            except Exception as error:  # noqa: BLE001 - an exporter's failure must not reach the SDK's logger
                self._losses.problem("metrics", error)
                result = MetricExportResult.FAILURE
            if result is not MetricExportResult.SUCCESS and self._collector is not None:
                self._collector.gone()
            return result

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        """Nothing is buffered here."""
        return True

    def shutdown(self, timeout_millis: float = 30_000, **kwargs: object) -> None:
        """Stop the real exporter, if there is one."""
        if self._real is not None:
            with quietly(self._losses):
                self._real.shutdown(timeout_millis=timeout_millis)
