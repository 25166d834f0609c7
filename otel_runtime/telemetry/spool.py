"""A directory that keeps spans until a collector has taken them: segments that outlive a killed process, sent by whichever process is there.

Theory: a batch becomes one file, written aside, synced and renamed, so a segment is whole or absent. A sender claims a segment with a lock
on the open file; the lock dies with its process, so nothing has to be cleaned up after kill -9. A segment is deleted when the collector has
acknowledged it. Ids are stable, so what at-least-once leaves over (a kill between acknowledgement and deletion, an acknowledgement lost on
the way) arrives as the same span again, which stores that key by span id keep once.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path

from opentelemetry.sdk.trace import ReadableSpan

from otel_runtime.errors import ConfigError
from otel_runtime.telemetry.spool_format import packed, unpacked

try:
    import fcntl
except ImportError:  # Windows has no flock: there a spool is refused
    fcntl = None  # type: ignore[assignment]

__all__ = ["SPOOL_BYTES", "Segment", "Spool"]

SPOOL_BYTES = 64 << 20
_SUFFIX = ".spans"
_ASIDE = ".damaged"
_UNFINISHED = ".new"
_UNFINISHED_S = 60.0


class Segment:
    """A claimed segment; valid while its claim is held.

    Args:
        path: The file.
        handle: The open, locked file.
    """

    def __init__(self, path: Path, handle: int) -> None:
        self.path: Path = path
        self._handle = handle

    def spans(self) -> list[ReadableSpan]:
        """What it holds.

        Raises:
            Damaged: It is not what was written.
            OSError: It cannot be read.
        """
        parts = []
        while part := os.read(self._handle, 1 << 20):
            parts.append(part)
        return unpacked(b"".join(parts))

    def done(self) -> None:
        """The collector has it, or nobody ever will."""
        self.path.unlink(missing_ok=True)

    def set_aside(self) -> None:
        """Keep it for a person to look at; nobody sends it any more."""
        self.path.replace(self.path.with_suffix(_ASIDE))


class Spool:
    """The directory.

    Args:
        directory: Made when it is missing, readable by its owner only.
        most_bytes: Most bytes of all its files.

    Raises:
        ConfigError: It cannot be written, or the platform has no file locks.
    """

    def __init__(self, directory: Path, most_bytes: int = SPOOL_BYTES) -> None:
        self.directory: Path = directory
        self._most_bytes = most_bytes
        self._numbers = count()
        self._claims: set[int] = set()
        if fcntl is None:
            raise ConfigError.of("T006", "a spool needs file locks, which this platform does not have; remove `spool`", str(directory))
        try:
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            probe = directory / f".probe-{os.getpid()}"
            probe.write_bytes(b"")
            probe.unlink()
            self._tidy()
        except OSError as error:
            message = f"cannot write the spool ({error.strerror}); choose another `spool` or make its directory writable"
            raise ConfigError.of("T005", message, str(directory)) from error

    def keep(self, spans: Sequence[ReadableSpan]) -> bool:
        """Write a segment; False when there is no room for it.

        Raises:
            OSError: The disk refused it; nothing is left behind.
        """
        content = packed(spans)
        if self.size() + len(content) > self._most_bytes:
            return False
        # The time first: names sort by age, over all processes.
        name = f"{time.time_ns():020d}-{os.getpid()}-{next(self._numbers)}"
        aside = self.directory / f".{name}{_UNFINISHED}"
        try:
            _write(aside, content)
            aside.rename(self.directory / f"{name}{_SUFFIX}")
        except OSError:
            with suppress(OSError):
                aside.unlink(missing_ok=True)
            raise
        return True

    def waiting(self) -> list[Path]:
        """Segments, oldest first."""
        return sorted(path for path in self.directory.iterdir() if path.suffix == _SUFFIX)

    def damaged(self) -> int:
        """Segments that were set aside."""
        return sum(1 for path in self.directory.iterdir() if path.suffix == _ASIDE)

    def size(self) -> int:
        """Bytes of all files."""
        found = 0
        with os.scandir(self.directory) as entries:
            for entry in entries:
                # Another process may have sent it meanwhile.
                with suppress(OSError):
                    found += entry.stat().st_size
        return found

    @contextmanager
    def claimed(self, path: Path) -> Iterator[Segment | None]:
        """Claim a segment for as long as the block runs; None when another process has it, or has sent it."""
        try:
            handle = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
        except FileNotFoundError:
            yield None
            return
        self._claims.add(handle)
        try:
            yield Segment(path, handle) if _locked(handle) and _is_still(path, handle) else None
        finally:
            self._claims.discard(handle)
            os.close(handle)

    def forked(self) -> None:
        """In a forked child: let go of the parent's claims, which would else live as long as the child."""
        for handle in self._claims:
            with suppress(OSError):
                os.close(handle)
        self._claims = set()

    def _tidy(self) -> None:
        """Remove what a process left that was killed in the middle of writing."""
        for path in self.directory.glob(f".*{_UNFINISHED}"):
            with suppress(OSError):
                if time.time() - path.stat().st_mtime > _UNFINISHED_S:
                    path.unlink()


def _write(path: Path, content: bytes) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0), 0o600)
    try:
        left = memoryview(content)
        while left:
            left = left[os.write(handle, left) :]
        os.fsync(handle)
    finally:
        os.close(handle)


def _locked(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _is_still(path: Path, handle: int) -> bool:
    # Between opening and locking, its sender may have deleted it: the name is then gone.
    try:
        return path.stat().st_ino == os.fstat(handle).st_ino
    except FileNotFoundError:
        return False
