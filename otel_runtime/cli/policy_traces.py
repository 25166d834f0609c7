"""Where `policy replay` finds spans: OTLP-JSON files of ours and of the Collector, or a query of a running Jaeger or Tempo."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from otel_runtime.errors import ConfigError

if TYPE_CHECKING:
    from otel_runtime.cli.trace_source import Source, Window
    from otel_runtime.telemetry.span_view import SpanView

__all__ = ["is_address", "spans_of"]

_SUFFIXES: Final = (".json", ".jsonl", ".json.gz", ".jsonl.gz")
_GZIP: Final = b"\x1f\x8b"
_ZSTD: Final = b"\x28\xb5\x2f\xfd"
# More than this is no trace, nor is a small file that unpacks to more.
_MAX_BYTES: Final = 2 << 30
_MAX_PIPED: Final = 256 << 20


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
    found: list[SpanView] = []
    for word in words:
        if is_address(word):
            found.extend(_server(word, headers).recent(window))
        else:
            found.extend(span for path in _files(Path(word)) for span in _spans(path) if window.service in ("", span.service))
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


def _files(path: Path) -> list[Path]:
    try:
        if not path.is_dir():
            return [path]
        inside = sorted(one for one in path.iterdir() if one.name.endswith(_SUFFIXES) and one.is_file())
    except OSError as error:
        raise _unreadable(path, error) from None
    if not inside:
        raise ConfigError.of("T031", "the directory holds no trace file (*.json, *.jsonl, either with .gz)", str(path))
    return inside


def _spans(path: Path) -> Iterator[SpanView]:
    from otel_runtime.telemetry.otlp_json import views

    for document in _documents(_content(path), path):
        yield from views(document)


def _content(path: Path) -> bytes:
    try:
        # A device has no end.
        most = _MAX_BYTES if path.is_file() else _MAX_PIPED
        with path.open("rb") as file:
            start = file.peek(4)
            if start.startswith(_ZSTD):
                raise ConfigError.of("T032", "the file is packed with zstd; unpack it first: zstd -d FILE", str(path))
            content = (gzip.GzipFile(fileobj=file) if start.startswith(_GZIP) else file).read(most + 1)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise _unreadable(path, error) from None
    if len(content) > most:
        raise ConfigError.of("T034", f"the file holds more than {most >> 20:,} MiB; give a part of it", str(path))
    return content


def _unreadable(path: Path, error: Exception) -> ConfigError:
    reason = getattr(error, "strerror", None) or str(error)
    return ConfigError.of("T033", f"cannot read the trace file ({reason}); give the path of an existing file", str(path))


def _documents(content: bytes, path: Path) -> Iterator[object]:
    """One document, as `trace_file` writes it, or one per line, as the Collector's file exporter does."""
    try:
        yield json.loads(content)
    except (ValueError, RecursionError):
        yield from _lines(content, path)


def _lines(content: bytes, path: Path) -> Iterator[object]:
    lines = [line for line in content.splitlines() if line.strip()]
    for at, line in enumerate(lines, 1):
        try:
            yield json.loads(line)
        except (ValueError, RecursionError) as error:
            # The exporter may be writing its last line right now.
            if at == len(lines) > 1:
                return
            raise ConfigError.of(
                "T035", f"line {at} is no JSON ({error}); expected OTLP-JSON, whole or one document per line", str(path)
            ) from None
