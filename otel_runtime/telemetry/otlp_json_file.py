"""An OTLP-JSON trace file: one valid JSON document at all times, one line per export, several processes may write it.

Theory: the document ends in a fixed tail. An export takes the file lock, and one write puts the new entries over the old tail and a new tail
behind them. Whoever is killed between two exports leaves a complete document; a write that the disk refused is cut back to the old tail.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from otel_runtime.errors import ConfigError
from otel_runtime.telemetry.losses import Losses
from otel_runtime.telemetry.otlp_json import resource_spans

try:
    import fcntl
except ImportError:  # Windows has no flock; there each process needs a file of its own ({pid})
    fcntl = None  # type: ignore[assignment]

__all__ = ["OtlpJsonFile", "trace_file_path"]

_HEAD: Final = b'{"resourceSpans":[\n'
_TAIL: Final = b"\n]}\n"


def trace_file_path(given: Path, now: datetime, pid: int) -> Path:
    """The path with `{pid}` and `{time}` filled in."""
    filled = str(given).replace("{pid}", str(pid)).replace("{time}", now.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ"))
    return Path(filled).expanduser()


class OtlpJsonFile(SpanExporter):
    """Appends spans to the file.

    Args:
        path: The file; its directory is created.
        losses: Where problems go.

    Raises:
        ConfigError: The file cannot be written, or holds something that is no trace file.
    """

    def __init__(self, path: Path, losses: Losses) -> None:
        self.path = path
        self._losses = losses
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with self._locked() as handle:
                _prepare(handle, path)
        except OSError as error:
            message = f"cannot write the trace file ({error.strerror}); choose another `trace_file` or make its directory writable"
            raise ConfigError.of("T003", message, str(path)) from error

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Append one batch."""
        try:
            lines = [json.dumps(entry, ensure_ascii=False, separators=(",", ":")) for entry in resource_spans(spans)]
            self._append(",\n".join(lines).encode("utf-8", "replace"))
        except OSError as error:
            self._losses.problem("trace_file", f"{self.path}: {error.strerror}")
            return SpanExportResult.FAILURE
        except ValueError as error:
            self._losses.problem("trace_file", error)
            return SpanExportResult.FAILURE
        return SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        """The file is complete after every export."""

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Nothing is buffered here."""
        return True

    def report(self) -> Mapping[str, object]:
        """Where the file is."""
        return {"path": str(self.path)}

    def _append(self, entries: bytes) -> None:
        with self._locked() as handle:
            _prepare(handle, self.path)
            size = os.fstat(handle).st_size
            keep = size - len(_TAIL)
            new = (b"" if keep == len(_HEAD) - 1 else b",") + b"\n" + entries + _TAIL
            _write_over(handle, keep, new, size)

    @contextmanager
    def _locked(self) -> Iterator[int]:
        # Opened for every export: a file that was moved or deleted meanwhile is simply begun anew.
        handle = os.open(self.path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o600)
        try:
            if fcntl is not None:
                fcntl.flock(handle, fcntl.LOCK_EX)
            yield handle
        finally:
            os.close(handle)


def _write_over(handle: int, start: int, new: bytes, size: int) -> None:
    """One write from `start`; a short or failed one is undone."""
    try:
        os.lseek(handle, start, os.SEEK_SET)
        written = os.write(handle, new)
    except OSError:
        _undo(handle, start, size)
        raise
    if written < len(new):
        _undo(handle, start, size)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _undo(handle: int, start: int, size: int) -> None:
    # The old tail's bytes are already paid for, so putting them back needs no space.
    os.ftruncate(handle, size)
    os.lseek(handle, start, os.SEEK_SET)
    os.write(handle, _TAIL)


def _prepare(handle: int, path: Path) -> None:
    """Begin an empty file, accept our own, mend one that was cut in the middle of a write, refuse anything else."""
    size = os.fstat(handle).st_size
    empty = _HEAD[:-1] + _TAIL
    if size == 0:
        os.write(handle, empty)
        return
    os.lseek(handle, 0, os.SEEK_SET)
    if os.read(handle, len(_HEAD)) != _HEAD:
        message = "the file exists and is no trace file of ours; choose another `trace_file`, or move it away"
        raise ConfigError.of("T004", message, str(path))
    os.lseek(handle, max(0, size - len(_TAIL)), os.SEEK_SET)
    if size < len(empty) or os.read(handle, len(_TAIL)) != _TAIL:
        _mend(handle)


def _mend(handle: int) -> None:
    """End a file whose writer died in the middle of a line behind its last complete one."""
    at, end = len(_HEAD), len(_HEAD) - 1
    os.lseek(handle, 0, os.SEEK_SET)
    with os.fdopen(os.dup(handle), "rb") as lines:
        next(lines, None)
        for line in lines:
            entry = line.rstrip(b",\n")
            if not _is_entry(entry):
                break
            at, end = at + len(line), at + len(entry)
    # What is whole stays where it is: a disk that refuses, or another kill, costs nothing of it.
    os.lseek(handle, end, os.SEEK_SET)
    os.write(handle, _TAIL)
    os.ftruncate(handle, end + len(_TAIL))


def _is_entry(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False
