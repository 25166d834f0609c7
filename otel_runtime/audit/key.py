"""The secret that authenticates the record: a file of its own, outside the database."""

from __future__ import annotations

import errno
import hmac
import os
import stat
from pathlib import Path

from otel_runtime.errors import StoreError
from otel_runtime.storage.places import create_private, prepare_directory

__all__ = ["derive", "key_path_for", "load_or_create_key"]

_LENGTH = 32


def key_path_for(state: Path) -> Path:
    """Where the key of a state database lies when nothing else is said: `<state>.key` beside it."""
    return state.with_name(f"{state.name}.key")


def load_or_create_key(state: Path, key_file: Path | None = None) -> bytes:
    """The key of a state database; made from 32 random bytes when both are new.

    Call it before the database is opened: an existing database without its key is refused.

    Args:
        state: The database file.
        key_file: The key file; None means `key_path_for(state)`.

    Raises:
        StoreError: The key is missing while the database exists, is no key, or may be read by everyone.
    """
    path = key_file if key_file is not None else key_path_for(state)
    try:
        if not path.exists():
            _create(path, state)
        return _read(path)
    except OSError as error:
        mend = "free some space, then try again" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "check the path and its permissions"
        raise StoreError(f"key file `{path}` cannot be used: {error.strerror or error}; {mend}", path=str(path)) from error


def derive(key: bytes, purpose: str) -> bytes:
    """A key for one purpose, so that a code made for one thing never fits another."""
    return hmac.digest(key, f"otel-runtime/{purpose}/1".encode(), "sha256")


def _create(path: Path, state: Path) -> None:
    # The order matters: another process makes the key first and the database second, so a key seen missing before a database was seen
    # is looked for once more.
    if state.exists() and state.stat().st_size > 0 and not path.exists():
        raise StoreError(
            f"key file `{path}` is missing but its database `{state}` exists, so nothing in it can be trusted; restore the key from a backup, "
            "or move the database away to start anew",
            path=str(path),
        )
    prepare_directory(path.parent)
    create_private(path, os.urandom(_LENGTH))


def _read(path: Path) -> bytes:
    key = path.read_bytes()
    if len(key) != _LENGTH:
        raise StoreError(
            f"key file `{path}` is damaged: expected {_LENGTH} bytes, got {len(key)}; restore it from a backup", path=str(path)
        )
    if stat.S_IMODE(path.stat().st_mode) & 0o007:
        raise StoreError(f"key file `{path}` is open to every user of this machine; run `chmod 600 {path}`", path=str(path))
    return key
