"""What a process lost, left in a small file, so that `doctor` can tell of processes that are gone. No OpenTelemetry import.

One file per process, replaced as a whole, written by telemetry's own threads; only losses are written, so a healthy process leaves none.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

__all__ = ["LossFile", "loss_directory", "past_losses"]

_PATTERN = "losses-*.json"
_MOST_FILES = 64
_KEPT_S = 7 * 24 * 3600.0


def loss_directory(state: Path, spool: Path | None) -> Path | None:
    """Where processes leave their losses: in the spool, else beside the state if the program keeps any; telemetry asks for no place of its own.

    Args:
        state: The setting `state`.
        spool: The setting `spool`.
    """
    if spool is not None:
        return spool
    own_folder = state.parent.is_dir() and state.parent.absolute() != Path.cwd()
    return state.parent / "telemetry" if own_folder or state.exists() else None


class LossFile:
    """The file of this process.

    Args:
        directory: Tells where it is, when there is something to write; None for nowhere. The directory is made when it is missing.
    """

    def __init__(self, directory: Callable[[], Path | None]) -> None:
        self._directory = directory
        self._started = time.time_ns()
        self._written: Mapping[str, int] = {}

    def save(self, counts: Mapping[str, int]) -> None:
        """Write the counts unless they are written already; a disk that refuses is no reason to stop anything.

        Args:
            counts: Lost spans by reason.
        """
        if not counts or counts == self._written:
            return
        with suppress(OSError):
            directory = self._directory()
            if directory is None:
                return
            path = directory / f"losses-{os.getpid()}-{self._started}.json"
            aside = path.with_suffix(".new")
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            if not self._written:
                _prune(directory)
            aside.write_text(json.dumps({"pid": os.getpid(), "lost": dict(counts)}), "utf-8")
            aside.replace(path)
            self._written = dict(counts)

    def forked(self) -> None:
        """A child has lost nothing yet."""
        self._started, self._written = time.time_ns(), {}


def past_losses(directory: Path | None) -> Mapping[str, int]:
    """Spans that processes of the last seven days lost, by reason, those that still run included.

    Args:
        directory: As `loss_directory` gives it; it need not exist.
    """
    found: dict[str, int] = {}
    for path in [] if directory is None else sorted(directory.glob(_PATTERN)):
        for reason, count in _read(path).items():
            found[reason] = found.get(reason, 0) + count
    return found


def _read(path: Path) -> Mapping[str, int]:
    try:
        if time.time() - path.stat().st_mtime > _KEPT_S:
            return {}
        lost = json.loads(path.read_text("utf-8"))["lost"]
        return {str(reason): int(count) for reason, count in lost.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        # Pruned meanwhile, or no file of ours.
        return {}


def _prune(directory: Path) -> None:
    known = sorted(directory.glob(_PATTERN), key=lambda path: path.name.rpartition("-")[2])
    now = time.time()
    for number, path in enumerate(known):
        with suppress(OSError):
            if number < len(known) - _MOST_FILES or now - path.stat().st_mtime > _KEPT_S:
                path.unlink()
