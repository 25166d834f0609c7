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
    """

    def __init__(self, database: Database) -> None:
        self._database = database

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
        with self._database.writing() as connection:
            yield _Open(connection)

    @contextmanager
    def reading(self) -> Iterator[Statements]:
        """A read transaction.

        Raises:
            StoreError: The database failed.
        """
        with self._database.reading() as connection:
            yield _Open(connection)

    def close(self) -> None:
        """Close every connection of this process."""
        self._database.close()
