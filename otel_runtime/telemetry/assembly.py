"""Puts providers, exporters and the rest together. Imported by `provider` only, because it imports the SDK."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from opentelemetry import metrics, trace
from opentelemetry.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import ConsoleMetricExporter, MetricExporter
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import SpanLimits
from opentelemetry.sdk.trace import TracerProvider as SdkTracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter
from opentelemetry.sdk.trace.sampling import Sampler
from opentelemetry.trace import ProxyTracerProvider, TracerProvider

from otel_runtime._version import __version__
from otel_runtime.errors import ConfigError
from otel_runtime.settings.model import Settings
from otel_runtime.telemetry import conventions as c
from otel_runtime.telemetry import otlp, quiet
from otel_runtime.telemetry.capture import Capture, capture_mode
from otel_runtime.telemetry.console_tree import ConsoleTree
from otel_runtime.telemetry.event_logs import EventLogs
from otel_runtime.telemetry.event_signals import EventSignals
from otel_runtime.telemetry.identifiers import OwnIds, with_own_ids
from otel_runtime.telemetry.loss_file import LossFile, loss_directory
from otel_runtime.telemetry.losses import Losses
from otel_runtime.telemetry.metrics import Recorder
from otel_runtime.telemetry.otlp_json_file import OtlpJsonFile, trace_file_path
from otel_runtime.telemetry.otlp_logs import log_provider
from otel_runtime.telemetry.otlp_sender import OtlpSender
from otel_runtime.telemetry.outlets import Outlets
from otel_runtime.telemetry.own_meters import OwnMeters, interval_from
from otel_runtime.telemetry.pipe import Limits, Pipe, limits_from
from otel_runtime.telemetry.projector import Projector
from otel_runtime.telemetry.projector_spans import MOST_EVENTS, TracerSpans, room_for_events
from otel_runtime.telemetry.redaction import Redactor
from otel_runtime.telemetry.sending import Sender
from otel_runtime.telemetry.spool import Spool
from otel_runtime.telemetry.spooled import SpooledSender
from otel_runtime.telemetry.starting import RECORD_ALL
from otel_runtime.telemetry.tracing import OtelTracing
from otel_runtime.telemetry.variables import wrong_values

__all__ = ["assemble"]

_HOST_NAME = "host.name"
_CAPTURE_VARIABLE = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
# https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/#general-sdk-configuration
_SAMPLERS = frozenset("always_on always_off traceidratio parentbased_always_on parentbased_always_off parentbased_traceidratio".split())
_Whose = Literal["own", "given", "global"]
_Flush = Callable[[int], object]


@dataclass(frozen=True, slots=True)
class _Surroundings:
    settings: Settings
    environ: Mapping[str, str]
    losses: Losses
    limits: Limits
    spool: Path | None


def assemble(
    settings: Settings, tracer_provider: TracerProvider | None, meter_provider: MeterProvider | None, environ: Mapping[str, str]
) -> OtelTracing:
    """The tracing of one runtime, running.

    Raises:
        ConfigError: Something of our own settings cannot work.
    """
    spool: Path | None = getattr(settings, "spool", None)
    losses = Losses(LossFile(lambda: loss_directory(settings.state, spool)))
    limits = limits_from(environ, losses, getattr(settings, "queue_spans", None), getattr(settings, "queue_bytes", None))
    around = _Surroundings(settings, environ, losses, limits, spool)
    quiet.install()
    redactor = Redactor(settings.redact_keys, settings.redact_patterns)
    pipes = _own_pipes(around)
    tracers, whose = _tracers(around, tracer_provider, pipes)
    meters = _meters(around, meter_provider)
    mode, wrong = capture_mode(settings.capture, environ.get(_CAPTURE_VARIABLE))
    if wrong:
        losses.problem(_CAPTURE_VARIABLE, wrong, warn=False)
    for name, why in wrong_values(environ).items():
        # What was met on the way says more.
        if name not in losses.problems:
            losses.problem(name, why, warn=False)
    scope = {c.CONVENTIONS: c.VERSION}
    tracer = with_own_ids(tracers.get_tracer(c.SCOPE, __version__, attributes=scope))
    meter = None if meters is None else meters.get_meter(c.SCOPE, __version__, attributes=scope)
    recorder = Recorder(meter, settings.metric_names, losses)
    logs = EventLogs(lambda: _log_provider(around), losses)
    flushes = [*_flushes(None if whose == "own" else tracers), *_flushes(meters), logs.flush]
    stops: list[_Flush] = [*([meters.shutdown] if isinstance(meters, OwnMeters) else []), logs.shutdown]
    spans = TracerSpans(tracer, lambda error: losses.problem("processor", error))
    return OtelTracing(
        tracer,
        recorder,
        Outlets(whose, pipes, flushes, stops, exports=bool(pipes) or whose != "own" or meters is not None),
        projector=Projector(spans, EventSignals(recorder, logs), max_events=room_for_events(tracer), mask=redactor.mask),
        losses=losses,
        capture=Capture(mode, redactor),
        redactor=redactor,
        decision_spans=settings.decision_spans,
        resume_trace=settings.resume_trace,
        trace_url=settings.trace_url,
    )


def _tracers(around: _Surroundings, given: TracerProvider | None, pipes: list[Pipe]) -> tuple[TracerProvider, _Whose]:
    """The provider; our pipes for file and tree are added to it, an OTLP pipe only to one of our own."""
    known = given or _global_tracers(around.losses)
    if known is not None:
        _add_to_foreign(known, pipes, around.losses)
        if around.spool is not None:
            around.losses.problem("spool", "has no effect: the application's own provider exports the spans", warn=False)
        return known, "global" if given is None else "given"
    pipes.extend(_standard_pipes(around))
    _check_sampler(around)
    # The SDK's 128 are too few for a run of another system; who set the variable wants it so.
    limits = SpanLimits() if "OTEL_SPAN_EVENT_COUNT_LIMIT" in around.environ else SpanLimits(max_events=MOST_EVENTS)
    provider = SdkTracerProvider(
        sampler=_sampler(around), resource=_resource(around), shutdown_on_exit=False, id_generator=OwnIds(), span_limits=limits
    )
    for pipe in pipes:
        provider.add_span_processor(pipe)
    return provider, "own"


def _global_tracers(losses: Losses) -> TracerProvider | None:
    try:
        found = trace.get_tracer_provider()
    except Exception as error:  # noqa: BLE001 - OTEL_PYTHON_TRACER_PROVIDER may name something that cannot be loaded
        losses.problem("OTEL_PYTHON_TRACER_PROVIDER", error, warn=False)
        return None
    return None if isinstance(found, ProxyTracerProvider) else found


def _add_to_foreign(provider: TracerProvider, pipes: list[Pipe], losses: Losses) -> None:
    add = getattr(provider, "add_span_processor", None)
    if callable(add):
        for pipe in pipes:
            add(pipe)
    elif pipes:
        losses.problem("provider", f"`{type(provider).__name__}` takes no span processors: no trace file, no tree", warn=False)


def _own_pipes(around: _Surroundings) -> list[Pipe]:
    """Pipes that our own settings ask for."""
    found: list[Pipe] = []
    if around.settings.trace_file is not None:
        path = trace_file_path(around.settings.trace_file, datetime.now(UTC), os.getpid())
        found.append(Pipe("file", OtlpJsonFile(path, around.losses), around.losses, around.limits))
    if around.settings.console:
        found.append(Pipe("console", ConsoleTree(around.losses), around.losses, around.limits))
    return found


def _standard_pipes(around: _Surroundings) -> list[Pipe]:
    """Pipes that the OTEL_* variables ask for."""
    found: list[Pipe] = []
    for name in _exporters(around, "TRACES"):
        try:
            target = ConsoleSpanExporter(out=sys.stdout) if name == "console" else _otlp_spans(around)
        except ConfigError:
            raise
        except Exception as error:  # noqa: BLE001 - a bad OTEL_EXPORTER_OTLP_* value; the other exporters still work
            around.losses.problem("otlp", error, warn=False)
            continue
        if target is not None:
            found.append(Pipe(name, target, around.losses, around.limits, _described(around, name)))
    return found


def _described(around: _Surroundings, name: str) -> Callable[[], Mapping[str, object]] | None:
    if name != "otlp" or not _endpoint_known(around, "TRACES"):
        return None
    protocol = otlp.protocol_of(around.environ, "TRACES", around.losses)
    return otlp.Collector.configured(around.environ, "TRACES", protocol).report


def _exporters(around: _Surroundings, signal: str) -> list[str]:
    variable = f"OTEL_{signal}_EXPORTER"
    asked = [part.strip().lower() for part in around.environ.get(variable, "otlp").split(",") if part.strip()] or ["otlp"]
    unknown = [name[:64] for name in asked if name not in ("otlp", "console", "none")]
    if unknown:
        around.losses.problem(variable, f"`{', '.join(unknown)}` is not supported; expected `otlp`, `console` or `none`", warn=False)
    return [name for name in dict.fromkeys(asked) if name in ("otlp", "console")]


def _otlp_spans(around: _Surroundings) -> Sender | None:
    if around.settings.otlp == "off":
        return None
    sender = _collector(around)
    return sender if around.spool is None else SpooledSender(Spool(around.spool), sender, _collector(around), around.losses)


def _collector(around: _Surroundings) -> OtlpSender:
    protocol = otlp.protocol_of(around.environ, "TRACES", around.losses)
    known = _endpoint_known(around, "TRACES")
    sender = OtlpSender(
        lambda watch: otlp.span_exporter(protocol, watch),
        around.losses,
        timeout_s=otlp.timeout_of(around.environ),
        collector=None if known else otlp.Collector.local(protocol),
        patient=around.spool is not None,
    )
    if known:
        # Now, so that `doctor` hears of a bad variable before the first span does.
        sender.prepare()
    return sender


def _endpoint_known(around: _Surroundings, signal: str) -> bool:
    names = (f"OTEL_EXPORTER_OTLP_{signal}_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
    asked = around.environ.get(f"OTEL_{signal}_EXPORTER", "")
    return around.settings.otlp == "on" or "otlp" in asked or any(around.environ.get(name, "").strip() for name in names)


def _meters(around: _Surroundings, given: MeterProvider | None) -> MeterProvider | OwnMeters | None:
    """The provider; none at all when nobody would read the metrics."""
    known = given or _global_meters(around.losses)
    if known is not None:
        return known
    own = OwnMeters(lambda: _metric_exporters(around), _resource(around), around.losses, interval_from(around.environ, around.losses))
    return own if own.reads else None


def _metric_exporters(around: _Surroundings) -> list[MetricExporter]:
    found: list[MetricExporter] = []
    for name in _exporters(around, "METRICS"):
        try:
            exporter = otlp.QuietMetrics(ConsoleMetricExporter, around.losses) if name == "console" else _otlp_metrics(around)
            if exporter is not None:
                found.append(exporter)
        except Exception as error:  # noqa: BLE001 - a bad OTEL_* value; spans still work
            around.losses.problem("otlp metrics", error, warn=False)
    return found


def _global_meters(losses: Losses) -> MeterProvider | None:
    try:
        found = metrics.get_meter_provider()
    except Exception as error:  # noqa: BLE001 - OTEL_PYTHON_METER_PROVIDER may name something that cannot be loaded
        losses.problem("OTEL_PYTHON_METER_PROVIDER", error, warn=False)
        return None
    # The proxy that stands in before an application sets one has no public class.
    return None if type(found).__name__ == "_ProxyMeterProvider" else found


def _otlp_metrics(around: _Surroundings) -> MetricExporter | None:
    if around.settings.otlp == "off":
        return None
    protocol = otlp.protocol_of(around.environ, "METRICS", around.losses)

    def make() -> MetricExporter:
        return otlp.metric_exporter(protocol)

    known = _endpoint_known(around, "METRICS")
    # Built at once only when its preferences matter: the exporter reads them from variables itself.
    like = make() if known or any(name.startswith("OTEL_EXPORTER_OTLP_METRICS_") for name in around.environ) else None
    meant = "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT" in around.environ
    return otlp.QuietMetrics(make, around.losses, None if known else otlp.Collector.local(protocol), like, meant=meant)


def _log_provider(around: _Surroundings) -> object:
    """Where log records of foreign events go when the application has no provider for them; None when nothing takes them now."""
    if around.settings.otlp == "off":
        return None
    protocol = otlp.protocol_of(around.environ, "LOGS", around.losses)
    collector = None if _endpoint_known(around, "LOGS") else otlp.Collector.local(protocol)
    return log_provider(_exporters(around, "LOGS"), protocol, collector, _resource(around), around.losses)


def _flushes(provider: TracerProvider | MeterProvider | OwnMeters | None) -> list[_Flush]:
    flush = getattr(provider, "force_flush", None)
    return [flush] if callable(flush) else []


def _resource(around: _Surroundings) -> Resource:
    given = around.environ.get("OTEL_RESOURCE_ATTRIBUTES", "")
    # The machine's name: back ends compare clocks only between hosts, and a person wants to know where it ran.
    found = {} if "host.name=" in given else {_HOST_NAME: socket.gethostname()}
    if not around.environ.get("OTEL_SERVICE_NAME") and "service.name=" not in given:
        found[SERVICE_NAME] = around.settings.name
    return Resource.create(found)


def _sampler(around: _Surroundings) -> Sampler | None:
    """What OTEL_TRACES_SAMPLER names; without it everything, whatever a caller's `traceparent ...-00` would have."""
    if around.environ.get("OTEL_TRACES_SAMPLER", "").strip():
        return None
    return RECORD_ALL


def _check_sampler(around: _Surroundings) -> None:
    given = around.environ.get("OTEL_TRACES_SAMPLER", "").strip().lower()
    if given and given not in _SAMPLERS:
        around.losses.problem("OTEL_TRACES_SAMPLER", f"`{given[:64]}` is not known; the SDK samples everything", warn=False)
