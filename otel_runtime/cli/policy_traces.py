"""Where `policy replay` finds spans: OTLP-JSON files of ours and of the Collector, or a query of a running Jaeger or Tempo."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from otel_runtime.cli.trace_source import Source, Window
    from otel_runtime.telemetry.span_view import SpanView

__all__ = ["is_address", "spans_of"]


def is_address(text: str) -> bool:
    """True when the word names a server and no file."""
    return text.startswith(("http://", "https://"))


def spans_of(words: Sequence[str], window: Window, headers: Mapping[str, str]) -> list[SpanView]:
    """Every span of the files, directories and servers.

    Args:
        words: Paths, or addresses of Jaeger or Tempo.
        window: Which traces of a server are asked for.
        headers: Sent to servers.

    Raises:
        ConfigError: A file cannot be read, or a server does not answer.
    """
    from otel_runtime.telemetry.trace_files import read_spans

    found: list[SpanView] = []
    for word in words:
        if is_address(word):
            found.extend(_server(word, headers).recent(window))
        else:
            found.extend(span for span in read_spans(Path(word)) if window.service in ("", span.service))
    # A trace that is named twice, by a file and by a server, is one trace.
    return list({(span.trace_id, span.span_id): span for span in found}.values())


def _server(address: str, headers: Mapping[str, str]) -> Source:
    from otel_runtime.cli.trace_http import base_url, get_json
    from otel_runtime.cli.trace_source import JaegerSource, TempoSource

    base = base_url(address, option="TRACES", example="http://127.0.0.1:16686")
    answer = get_json(f"{base}/api/v3/services", {}, headers)
    if isinstance(answer, dict) and "services" in answer:
        return JaegerSource(base, headers)
    return TempoSource(base, headers)
