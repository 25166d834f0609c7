"""SQLite's errors in words a person can act on."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from otel_runtime.errors import StoreError

__all__ = ["store_error", "translated"]

# First prefix that fits wins: the special cases stand above the general ones.
_SENTENCES = (
    ("SQLITE_BUSY", "is locked by another process and stayed so; end the process that holds it (`fuser {path}` names it), then try again"),
    ("SQLITE_LOCKED", "is locked by another connection of this process; try again"),
    ("SQLITE_FULL", "cannot grow: the disk or quota is full; nothing was changed; free some space, then try again"),
    ("SQLITE_NOTADB", "is no SQLite database; move the file away, or set `state` to another path"),
    ("SQLITE_CORRUPT", "is damaged; restore it from a backup, or save what is left with `sqlite3 {path} .recover` and move it away"),
    ("SQLITE_READONLY", "cannot be written; give this user write access to the file and its directory, or set `state` to another path"),
    ("SQLITE_PERM", "may not be used by this user; mend its permissions, or set `state` to another path"),
    ("SQLITE_AUTH", "may not be used by this user; mend its permissions, or set `state` to another path"),
    ("SQLITE_CANTOPEN", "cannot be opened; check that its directory exists and that this user may write there"),
    ("SQLITE_IOERR", "cannot be read or written; nothing was changed; check the disk, its space and its quota, then try again"),
    ("SQLITE_TOOBIG", "refused a value that is too large for one row; pass a smaller one"),
    ("SQLITE_CONSTRAINT", "refused a row that breaks its own rules; this is a defect, please report it"),
)
_OTHERWISE = "could not be used; check the file with `sqlite3 {path} 'pragma integrity_check'`"


def store_error(path: Path, error: sqlite3.Error) -> StoreError:
    """The `StoreError` for an error of SQLite, with the path and how to mend it."""
    name = getattr(error, "sqlite_errorname", "") or ""
    sentence = next((text for prefix, text in _SENTENCES if name.startswith(prefix)), _OTHERWISE)
    return StoreError(f"state database `{path}` {sentence.format(path=path)} ({name or type(error).__name__}: {error})", path=str(path))


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Turn every error of SQLite inside into a `StoreError`.

    Raises:
        StoreError: SQLite failed.
    """
    try:
        yield
    except sqlite3.Error as error:
        raise store_error(path, error) from error
