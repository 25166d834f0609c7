"""SQLite behind the seam of `transactions`: one writer at a time, and the caller's clock."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from otel_runtime.storage.sqlite import Database
from otel_runtime.storage.transactions import Statements

__all__ = ["SqliteTransactions"]


class _Open:
    """One open transaction."""

    __slots__ = ("_connection",)

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def rows(self, statement: str, parameters: Sequence[object] = ()) -> list[tuple[Any, ...]]:  # Any: columns of any type
        return self._connection.execute(statement, tuple(parameters)).fetchall()

    def run(self, statement: str, parameters: Sequence[object] = ()) -> int:
        return self._connection.execute(statement, tuple(parameters)).rowcount

    def now_us(self, given_us: int) -> int:
        return given_us


class SqliteTransactions:
    """A SQLite file whose writers take the lock at once.

    Args:
        database: Made with the migrations of whoever keeps tables in it.
        wait_s: Seconds to wait for another process's write; None is what the database was made with.
        shared: True when others use this `Database` too: then they close it.
    """

    def __init__(self, database: Database, *, wait_s: float | None = None, shared: bool = False) -> None:
        self._database = database
        self._wait_s = wait_s
        self._shared = shared

    @property
    def place(self) -> str:
        """The path."""
        return str(self._database.path)

    @property
    def own_clock(self) -> bool:
        """False: all who use it are on this machine."""
        return False

    @property
    def skip_locked(self) -> str:
        """Empty: a writer is alone."""
        return ""

    def open(self) -> None:
        """Connect and migrate now.

        Raises:
            StoreError: It cannot be used.
        """
        self._database.open()

    @contextmanager
    def writing(self) -> Iterator[Statements]:
        """A write transaction.

        Raises:
            StoreError: The database failed; nothing of the block was stored.
        """
        with self._database.writing(self._wait_s) as connection:
            yield _Open(connection)

    @contextmanager
    def reading(self) -> Iterator[Statements]:
        """A read transaction.

        Raises:
            StoreError: The database failed.
        """
        with self._database.reading(self._wait_s) as connection:
            yield _Open(connection)

    @contextmanager
    def together(self) -> Iterator[None]:
        """One transaction for everything that this thread writes to this `Database` inside, where others use it too.

        Raises:
            StoreError: The database failed; nothing of the block was stored.
        """
        if not self._shared:
            # Another `Database` on the same file would wait for this very thread.
            yield
            return
        with self._database.together():
            yield

    def close(self) -> None:
        """Close every connection of this process, unless others use them."""
        if not self._shared:
            self._database.close()
