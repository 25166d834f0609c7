"""Files that hold spans as OTLP-JSON: one document, as `trace_file` writes it, or one per line, as the Collector's file exporter does."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from otel_runtime.errors import ConfigError
from otel_runtime.telemetry.otlp_json import views
from otel_runtime.telemetry.span_view import SpanView

__all__ = ["read_spans"]

_SUFFIXES: Final = (".json", ".jsonl", ".json.gz", ".jsonl.gz")
_GZIP: Final = b"\x1f\x8b"
_ZSTD: Final = b"\x28\xb5\x2f\xfd"
# More than this is no trace, nor is a small file that unpacks to more.
_MAX_BYTES: Final = 2 << 30
_MAX_PIPED: Final = 256 << 20


def read_spans(path: Path) -> list[SpanView]:
    """Every span of a file, packed with gzip or not, or of all files of a directory by name; in file order.

    Args:
        path: A file, a pipe, or a directory with `*.json` and `*.jsonl` files, either with `.gz`.

    Raises:
        ConfigError: It cannot be read, holds something else, or holds too much.
    """
    return [span for file in _files(path) for document in _documents(_content(file), file) for span in views(document)]


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
    return ConfigError.of("T001", f"cannot read the trace file ({reason}); give the path of an existing file", str(path))


def _documents(content: bytes, path: Path) -> Iterator[object]:
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
                "T002", f"line {at} is no JSON ({error}); expected OTLP-JSON, whole or one document per line", str(path)
            ) from None
