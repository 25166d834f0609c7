"""Where `otel-runtime trace` reads spans: an OTLP-JSON file, Jaeger's /api/v3, or Tempo's API."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol

from otel_runtime.cli.trace_http import get_json
from otel_runtime.telemetry.otlp_json import views
from otel_runtime.telemetry.span_view import SpanView
from otel_runtime.telemetry.trace_files import read_spans

__all__ = ["FileSource", "JaegerSource", "Source", "TempoSource", "Window", "now"]

# Tempo writes enums by name and ids in base64, as protobuf's own JSON does; OTLP/JSON wants numbers and hex.
_KINDS = ("UNSPECIFIED", "INTERNAL", "SERVER", "CLIENT", "PRODUCER", "CONSUMER")
_STATUS = {"STATUS_CODE_UNSET": 0, "STATUS_CODE_OK": 1, "STATUS_CODE_ERROR": 2}
_IDS = {"traceId": 32, "spanId": 16, "parentSpanId": 16}
_HEX = re.compile(r"[0-9a-fA-F]+")
# A trace document with attributes of any sensible depth has fewer.
_LEVELS = 200


@dataclass(frozen=True, slots=True)
class Window:
    """Which traces to look at.

    Args:
        now: Its end.
        since: How far back it goes.
        limit: Traces at most.
        service: Value of service.name; every service when empty.
    """

    now: datetime
    since: timedelta
    limit: int = 100
    service: str = ""

    @property
    def start(self) -> datetime:
        """Its beginning."""
        return self.now - self.since


class Source(Protocol):
    """Something that holds traces."""

    def trace(self, trace_id: str) -> list[SpanView]:
        """Every span of one trace; empty when it is not there."""
        ...

    def recent(self, window: Window) -> list[SpanView]:
        """Every span of the traces in the window."""
        ...

    def link(self, trace_id: str) -> str:
        """Where a person looks at it; empty when there is no page."""
        ...


@dataclass(frozen=True, slots=True)
class FileSource:
    """OTLP-JSON files as the setting `trace_file` or a Collector writes them, and directories of such files.

    Args:
        paths: The files; what two of them hold is there once.
    """

    paths: tuple[Path, ...]

    def spans(self) -> list[SpanView]:
        """Every span of every file."""
        return _cleaned({(span.trace_id, span.span_id): span for path in self.paths for span in read_spans(path)}.values())

    def trace(self, trace_id: str) -> list[SpanView]:
        """Every span of one trace; empty when it is not there."""
        return [span for span in self.spans() if span.trace_id == trace_id]

    def recent(self, window: Window) -> list[SpanView]:
        """Every span: files hold what they hold, however old."""
        return [span for span in self.spans() if window.service in ("", span.service)]

    def link(self, trace_id: str) -> str:
        """No page: a file has none."""
        return ""


@dataclass(frozen=True, slots=True)
class JaegerSource:
    """Jaeger's query service; only /api/v3 is used, because 2.21 takes the older paths away.

    Args:
        base: Address of the user interface.
        headers: Sent with each request.
    """

    base: str
    headers: Mapping[str, str] = field(default_factory=dict)

    def trace(self, trace_id: str) -> list[SpanView]:
        """Every span of one trace; empty when it is not there."""
        # As they were sent: Jaeger would otherwise move spans whose clocks it doubts.
        return _unwrapped(get_json(f"{self.base}/api/v3/traces/{trace_id}", {"raw_traces": "true"}, self.headers))

    def recent(self, window: Window) -> list[SpanView]:
        """Every span of the traces in the window; one search per service, because a search names one."""
        found: list[SpanView] = []
        for service in (window.service,) if window.service else self._services():
            query = {
                "query.service_name": service,
                "query.start_time_min": window.start.isoformat().replace("+00:00", "Z"),
                "query.start_time_max": window.now.isoformat().replace("+00:00", "Z"),
                "query.num_traces": str(window.limit),
                "query.raw_traces": "true",
            }
            found += _unwrapped(get_json(f"{self.base}/api/v3/traces", query, self.headers))
        # A trace of two services is found by both searches.
        return list({(span.trace_id, span.span_id): span for span in found}.values())

    def link(self, trace_id: str) -> str:
        """The trace's page."""
        return f"{self.base}/trace/{trace_id}"

    def _services(self) -> tuple[str, ...]:
        answer = get_json(f"{self.base}/api/v3/services", {}, self.headers)
        names = answer.get("services") if isinstance(answer, dict) else None
        return tuple(str(name) for name in names) if isinstance(names, list) else ()


@dataclass(frozen=True, slots=True)
class TempoSource:
    """Tempo's HTTP API.

    Args:
        base: Address of Tempo.
        headers: Sent with each request, such as X-Scope-OrgID.
    """

    base: str
    headers: Mapping[str, str] = field(default_factory=dict)

    def trace(self, trace_id: str) -> list[SpanView]:
        """Every span of one trace; empty when it is not there."""
        answer = get_json(f"{self.base}/api/v2/traces/{trace_id}", {}, self.headers)
        found = answer.get("trace") if isinstance(answer, dict) else None
        return _cleaned(views(_in_otlp_json(found)))

    def recent(self, window: Window) -> list[SpanView]:
        """Every span of the traces in the window that hold something of otel-runtime's."""
        # A string in TraceQL is quoted as in Go.
        service = window.service.replace("\\", "\\\\").replace('"', '\\"')
        query = {
            "q": "{ " + (f'resource.service.name = "{service}"' if service else 'span.gen_ai.operation.name != ""') + " }",
            "start": str(int(window.start.timestamp())),
            "end": str(int(window.now.timestamp()) + 1),
            "limit": str(window.limit),
        }
        answer = get_json(f"{self.base}/api/search", query, self.headers)
        traces = answer.get("traces") if isinstance(answer, dict) else None
        ids = [str(entry.get("traceID", "")).zfill(32) for entry in traces if isinstance(entry, dict)] if isinstance(traces, list) else []
        return [span for trace_id in ids for span in self.trace(trace_id)]

    def link(self, trace_id: str) -> str:
        """No page: Grafana shows Tempo's traces, and its address is not known here."""
        return ""


def _unwrapped(answer: object | None) -> list[SpanView]:
    result = answer.get("result", answer) if isinstance(answer, dict) else None
    return _cleaned(views(result))


def _in_otlp_json(given: object, level: int = 0) -> object:
    """The same document with hex ids and numbers for enums."""
    if level > _LEVELS:
        return None
    if isinstance(given, list):
        return [_in_otlp_json(part, level + 1) for part in given]
    if not isinstance(given, dict):
        return given
    return {key: _field(str(key), value, level) for key, value in given.items()}


def _field(key: str, value: object, level: int) -> object:
    if isinstance(value, str):
        if key in _IDS:
            return _hex_id(value, _IDS[key])
        if key == "kind" and value.removeprefix("SPAN_KIND_") in _KINDS:
            return _KINDS.index(value.removeprefix("SPAN_KIND_"))
        return _STATUS.get(value, value) if key == "code" else value
    return _in_otlp_json(value, level + 1)


def _hex_id(given: str, digits: int) -> str:
    if not given or (len(given) == digits and _HEX.fullmatch(given)):
        return given.lower()
    try:
        return base64.b64decode(given, validate=True).hex()
    except (binascii.Error, ValueError):
        return given


def _cleaned(spans: Iterable[SpanView]) -> list[SpanView]:
    # What a server or a file holds was written by others: control characters must not reach the terminal.
    return [
        replace(
            span,
            trace_id=_printable(span.trace_id),
            name=_printable(span.name),
            message=_printable(span.message),
            service=_printable(span.service),
        )
        for span in spans
    ]


def _printable(given: str) -> str:
    return given if given.isprintable() else "".join(char if char.isprintable() else " " for char in given)


def now() -> datetime:
    """This moment, in UTC."""
    return datetime.now(UTC)
