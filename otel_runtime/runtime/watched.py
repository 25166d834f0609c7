"""Policy files on disk, watched: their marks, and a wake-up when something near them moves.

Editors write a new file and rename it over the old one, Kubernetes swaps a symbolic link (`..data`), and whole directories are moved into
place. So directories are watched and not files, links are followed, and marks say which file a name leads to.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from otel_runtime.policy.packs import resolved

__all__ = ["Marks", "Watched"]

_log = logging.getLogger("otel_runtime")
# Per name: where it leads, inode, size, times of content and of status. None where there is nothing.
Marks = tuple[tuple[str, tuple[object, ...] | None], ...]
_SUFFIXES: Final = frozenset({".yaml", ".yml", ".json", ".cedar"})
_STEP_MS: Final = 50
_DEBOUNCE_MS: Final = 300


class Watched:
    """The files and directories of a policy.

    Args:
        paths: As the settings name them; of a directory, the files in it.
        deep: The same, where a directory means everything below it.
    """

    def __init__(self, paths: Sequence[Path], deep: Sequence[Path] = ()) -> None:
        self._deep = frozenset(map(resolved, deep))
        self._paths = (*map(resolved, paths), *self._deep)

    def files(self) -> list[Path]:
        """The files that are there now."""
        found: list[Path] = []
        for path in self._paths:
            try:
                inside = sorted(self._inside(path)) if path.is_dir() else [path]
            except OSError:
                continue
            found.extend(one for one in inside if (one.suffix.lower() in _SUFFIXES or one == path) and one.is_file())
        return found

    def _inside(self, folder: Path) -> Iterator[Path]:
        """Files and directories in it, or below it."""
        if folder not in self._deep:
            yield from folder.iterdir()
            return
        for home, directories, names in os.walk(folder):
            yield from (Path(home) / name for name in (*directories, *names))

    def marks(self) -> Marks:
        """What would differ if anything were changed, replaced, added or removed."""
        names = sorted({*self.files(), *self._paths})
        return tuple((str(name), _mark(name)) for name in names)

    def wakes(self, stop: threading.Event, poll_s: float) -> Iterator[None]:
        """Yield whenever something near the files moved, and every few seconds; ends when told to stop.

        Args:
            stop: Ends it.
            poll_s: Seconds after which it yields although nothing moved, also where files cannot be watched (no more inotify watches).
        """
        while not stop.is_set():
            yield
            try:
                yield from self._until_moved(stop, poll_s)
            except (OSError, RuntimeError) as error:
                _log.warning("the policy files cannot be watched (%s); they are looked at every %g s", error, poll_s)
                while not stop.wait(poll_s):
                    yield

    def _until_moved(self, stop: threading.Event, poll_s: float) -> Iterator[None]:
        from watchfiles import watch  # the extra `reload`

        directories = self._directories()
        changes = watch(
            *directories,
            watch_filter=None,
            debounce=_DEBOUNCE_MS,
            step=_STEP_MS,
            stop_event=stop,
            rust_timeout=int(poll_s * 1000),
            yield_on_timeout=True,
            raise_interrupt=False,
            recursive=False,
            ignore_permission_denied=True,
        )
        for _ in changes:
            yield
            if self._directories() != directories:
                # A directory came, went or leads elsewhere now: watch that.
                return

    def _directories(self) -> list[Path]:
        """Directories whose entries decide what the policy is: of each path and where it leads, itself and its parent."""
        near: set[Path] = set()
        for path in self._paths:
            for way in (path.absolute(), Path(os.path.realpath(path))):
                near.update(one for one in (way, way.parent) if one.is_dir())
            if path.is_dir():
                inside = list(self._inside(path))
                near.update(Path(os.path.realpath(one)).parent for one in inside if one.suffix.lower() in _SUFFIXES)
                near.update(one for one in inside if path in self._deep and one.is_dir())
        return sorted(one for one in near if one.is_dir()) or [Path.cwd()]


def _mark(path: Path) -> tuple[object, ...] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    if path.is_dir():
        return (os.path.realpath(path), found.st_ino)
    return (os.path.realpath(path), found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
