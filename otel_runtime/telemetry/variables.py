"""What is wrong with the values of the standard OTEL_* variables. Loads no OpenTelemetry: a bad value may make that raise when it is imported.

The SDK logs some bad values, raises at others and passes over the rest; here each of them is a sentence for `doctor`. Sources: the
specification's "SDK environment variables" and "OTLP exporter", and the SDK of Python for those that begin with OTEL_PYTHON_.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

__all__ = ["wrong_values"]

_Check = Callable[[str], str | None]
_SIGNALS: Final = ("", "TRACES_", "METRICS_", "LOGS_")
_LONGEST: Final = 64


def wrong_values(environ: Mapping[str, str]) -> dict[str, str]:
    """What is wrong, by the variable's name; an empty value is none.

    Args:
        environ: The variables.
    """
    found: dict[str, str] = {}
    for name, value in environ.items():
        check = _CHECKS.get(name) if name.startswith("OTEL_") else None
        if check is not None and (given := value.strip()) and (expected := check(given)) is not None:
            found[name] = _said(name, expected, given)
    for name, given, grpc in _endpoints(environ):
        if not _is_address(given, grpc=grpc):
            found[name] = _said(name, f"an address such as `http://127.0.0.1:{4317 if grpc else 4318}`", given)
    # Others than those by ratio take no argument, or one of their own.
    if "OTEL_TRACES_SAMPLER" not in found and "ratio" not in environ.get("OTEL_TRACES_SAMPLER", "").lower():
        found.pop("OTEL_TRACES_SAMPLER_ARG", None)
    return found


def _said(name: str, expected: str, given: str) -> str:
    # Headers hold credentials, and so may an address.
    secret = name.endswith("HEADERS") or "@" in given
    return f"expected {expected}" if secret else f"expected {expected}, got `{given[:_LONGEST].encode(errors='replace').decode()}`"


def _endpoints(environ: Mapping[str, str]) -> Iterator[tuple[str, str, bool]]:
    """Name and value of those that are set, and whether gRPC is spoken there."""
    for signal in _SIGNALS:
        name = f"OTEL_EXPORTER_OTLP_{signal}ENDPOINT"
        protocols = [environ.get(f"OTEL_EXPORTER_OTLP_{part}PROTOCOL", "") for part in ((signal, "") if signal else _SIGNALS)]
        spoken = next((protocol for protocol in protocols if protocol.strip()), "")
        if given := environ.get(name, "").strip():
            yield name, given, spoken.strip().lower() == "grpc"


def _is_address(given: str, *, grpc: bool) -> bool:
    try:
        parts = urlsplit(given if "://" in given else f"//{given}")
        sound = parts.port != 0 and not any(sign.isspace() for sign in given)
    except ValueError:
        return False
    # gRPC also takes addresses without a scheme, and those of sockets such as `unix:///run/collector.sock`.
    return sound and (bool(parts.hostname or parts.path) if grpc else bool(parts.hostname) and parts.scheme in ("http", "https"))


def _truth(given: str) -> str | None:
    return None if given.lower() in ("true", "false") else "`true` or `false`"


def _whole(given: str) -> str | None:
    return None if given.isascii() and given.isdigit() else "a whole number that is not negative"


def _more_than_nothing(given: str) -> str | None:
    return None if _number(given, 0.0, 1e12) and float(given) > 0 else "a positive number"


def _ratio(given: str) -> str | None:
    return None if _number(given, 0.0, 1.0) else "a number from 0 to 1"


def _number(given: str, least: float, most: float) -> bool:
    try:
        return least <= float(given) <= most
    except ValueError:
        return False


def _one_of(*known: str) -> _Check:
    return lambda given: None if given.lower() in known else ", ".join(f"`{word}`" for word in known)


def _each_of(*known: str) -> _Check:
    one = _one_of(*known)
    return lambda given: next((wrong for part in given.split(",") if part.strip() and (wrong := one(part.strip()))), None)


def _pairs(given: str) -> str | None:
    parts = [part for part in given.split(",") if part.strip()]
    return None if all(part.partition("=")[0].strip() and "=" in part for part in parts) else "pairs such as `name=value,other=value`"


def _file(given: str) -> str | None:
    try:
        return None if Path(given).is_file() else "the path of a file that exists"
    except (OSError, ValueError):
        return "the path of a file that exists"


def _plug_ins(group: str, *known: str) -> _Check:
    """Names that an installed package registers."""

    def check(given: str) -> str | None:
        from importlib.metadata import entry_points  # only for who sets such a variable

        there = {*known, *(point.name for point in entry_points(group=group))}
        missing = [part.strip() for part in given.split(",") if part.strip() and part.strip() not in there]
        return f"what an installed package registers, one of {', '.join(f'`{name}`' for name in sorted(there))}" if missing else None

    return check


_LIMITS: Final = (
    "ATTRIBUTE_COUNT ATTRIBUTE_VALUE_LENGTH SPAN_ATTRIBUTE_COUNT SPAN_ATTRIBUTE_VALUE_LENGTH SPAN_EVENT_COUNT SPAN_LINK_COUNT"
    " EVENT_ATTRIBUTE_COUNT LINK_ATTRIBUTE_COUNT LOGRECORD_ATTRIBUTE_COUNT LOGRECORD_ATTRIBUTE_VALUE_LENGTH"
).split()
_BATCHES: Final = "SCHEDULE_DELAY EXPORT_TIMEOUT MAX_QUEUE_SIZE MAX_EXPORT_BATCH_SIZE".split()
_OTLP: Final[Mapping[str, _Check]] = {
    "PROTOCOL": _one_of("grpc", "http/protobuf"),
    "HEADERS": _pairs,
    "TIMEOUT": _more_than_nothing,
    "COMPRESSION": _one_of("gzip", "deflate", "none"),
    "CERTIFICATE": _file,
    "CLIENT_KEY": _file,
    "CLIENT_CERTIFICATE": _file,
    "INSECURE": _truth,
}
_EXPORTERS: Final = _each_of("otlp", "console", "none")
_CHECKS: Final[Mapping[str, _Check]] = {
    "OTEL_SDK_DISABLED": _truth,
    "OTEL_RESOURCE_ATTRIBUTES": _pairs,
    "OTEL_PROPAGATORS": _plug_ins("opentelemetry_propagator", "none"),
    "OTEL_TRACES_SAMPLER": _one_of(
        "always_on", "always_off", "traceidratio", "parentbased_always_on", "parentbased_always_off", "parentbased_traceidratio"
    ),
    "OTEL_TRACES_SAMPLER_ARG": _ratio,
    **{f"OTEL_{name}_LIMIT": _whole for name in _LIMITS},
    **{f"OTEL_{kind}_{name}": _more_than_nothing for kind in ("BSP", "BLRP") for name in _BATCHES},
    **{f"OTEL_EXPORTER_OTLP_{signal}{name}": check for signal in _SIGNALS for name, check in _OTLP.items()},
    **{f"OTEL_{signal}EXPORTER": _EXPORTERS for signal in _SIGNALS[1:]},
    "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE": _one_of("cumulative", "delta", "lowmemory"),
    "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION": _one_of("explicit_bucket_histogram", "base2_exponential_bucket_histogram"),
    "OTEL_METRICS_EXEMPLAR_FILTER": _one_of("always_on", "always_off", "trace_based"),
    "OTEL_METRIC_EXPORT_INTERVAL": _more_than_nothing,
    "OTEL_METRIC_EXPORT_TIMEOUT": _more_than_nothing,
    "OTEL_PYTHON_CONTEXT": _plug_ins("opentelemetry_context"),
    "OTEL_PYTHON_ID_GENERATOR": _plug_ins("opentelemetry_id_generator"),
    "OTEL_PYTHON_TRACER_PROVIDER": _plug_ins("opentelemetry_tracer_provider"),
    "OTEL_PYTHON_METER_PROVIDER": _plug_ins("opentelemetry_meter_provider"),
    "OTEL_EXPERIMENTAL_RESOURCE_DETECTORS": _plug_ins("opentelemetry_resource_detector", "*"),
}
