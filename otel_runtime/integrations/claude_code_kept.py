"""What one hook process leaves for the next: a private file beside the state database, authenticated by the key of its audit record.

INVARIANT: what is read back was written by a process that had the key, and into a file of this user's own that nobody else may write. A
file that is missing, cut off, edited, of another user or no plain file reads as nothing: it is never an error, the next process merely
does the work again. docs/adr/009 says what keeps a forged file from deciding.
"""

from __future__ import annotations

import hmac
import os
import stat
from pathlib import Path
from typing import Final

from otel_runtime.audit.key import derive, key_path_for, load_or_create_key
from otel_runtime.errors import StoreError

__all__ = ["Kept"]

_MAX_BYTES: Final = 32 << 20
_PURPOSE: Final = "hook-policy"
_OTHERS_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH


class Kept:
    """The file of one project.

    Args:
        state: The project's state database; its rules protect everything named after it.
    """

    def __init__(self, state: Path) -> None:
        self._state = state
        self.path: Path = state.with_name(f"{state.name}-policy")

    def read(self) -> bytes | None:
        """What was written last; None for anything that cannot be trusted."""
        try:
            content = _private(self.path)
            if content is None or _private(key_path_for(self._state)) is None:
                return None
            key = load_or_create_key(self._state)
        except (OSError, StoreError):
            return None
        code, _, body = content.partition(b"\n")
        return body if hmac.compare_digest(code, _code(key, body)) else None

    def write(self, body: bytes) -> bool:
        """Replace it; False where nothing can be kept, such as in a folder that is read-only.

        Args:
            body: What the next process reads; all of it or nothing of it appears.
        """
        draft = self.path.with_name(f".{self.path.name}.{os.getpid()}.{os.urandom(4).hex()}")
        try:
            # Makes the key of a project that has none yet, before there is a database.
            key = load_or_create_key(self._state)
            descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            try:
                with os.fdopen(descriptor, "wb") as file:
                    file.write(_code(key, body) + b"\n" + body)
                draft.replace(self.path)
            finally:
                draft.unlink(missing_ok=True)
        except (OSError, StoreError):
            return False
        return True


def _code(key: bytes, body: bytes) -> bytes:
    return hmac.digest(derive(key, _PURPOSE), body, "sha256").hex().encode()


def _private(path: Path) -> bytes | None:
    """The content of a plain file of this user's that nobody else may write; None for any other."""
    # A pipe in its place must not make the process wait.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        found = os.fstat(descriptor)
        mine = found.st_uid == os.geteuid() and found.st_nlink == 1 and not found.st_mode & _OTHERS_WRITE
        if not stat.S_ISREG(found.st_mode) or not mine or found.st_size > _MAX_BYTES:
            return None
        with os.fdopen(os.dup(descriptor), "rb") as file:
            return file.read(_MAX_BYTES)
    finally:
        os.close(descriptor)
