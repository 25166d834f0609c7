"""The seam between a room that keeps tables and the database they lie in: the same statements for SQLite and PostgreSQL.

Statements are written once, with `?` for parameters and in the SQL that both speak: amounts and names are TEXT, times BIGINT
microseconds since 1970. What differs is asked of the database: whose clock counts, and how rows that others hold are passed over.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

from otel_runtime.errors import StoreError

__all__ = ["CommitUnknown", "Statements", "Transactions"]


class CommitUnknown(StoreError):
    """The connection broke during the commit: all of the transaction was stored, or nothing was."""


class Statements(Protocol):
    """An open transaction."""

    def rows(self, statement: str, parameters: Sequence[object] = ()) -> list[tuple[Any, ...]]:  # Any: columns of any type
        """Run a query; all of its rows.

        Raises:
            StoreError: The database failed; the transaction is lost.
        """
        ...

    def run(self, statement: str, parameters: Sequence[object] = ()) -> int:
        """Run a change; how many rows it touched.

        Raises:
            StoreError: The database failed; the transaction is lost.
        """
        ...

    def now_us(self, given_us: int) -> int:
        """The time that counts, in microseconds since 1970.

        Args:
            given_us: The caller's time, which counts where the database has no clock of its own.
        """
        ...


class Transactions(Protocol):
    """A database with somebody's tables in it, shared by threads and processes."""

    @property
    def place(self) -> str:
        """Where it is, for people; never with a password."""
        ...

    @property
    def own_clock(self) -> bool:
        """True when the database's clock counts and not the caller's: many hosts share it."""
        ...

    @property
    def skip_locked(self) -> str:
        """What a SELECT ends with to lock its rows and pass over those that others hold; empty where a writer is always alone."""
        ...

    def open(self) -> None:
        """Connect and migrate now.

        Raises:
            StoreError: It cannot be used; the message says why and how to mend it.
        """
        ...

    def writing(self) -> AbstractContextManager[Statements]:
        """A write transaction: committed when the block ends, rolled back when it raises.

        Raises:
            CommitUnknown: The connection broke during the commit.
            StoreError: The database failed; nothing of the block was stored.
        """
        ...

    def reading(self) -> AbstractContextManager[Statements]:
        """A read transaction: every statement inside sees the same moment.

        Raises:
            StoreError: The database failed.
        """
        ...

    def together(self) -> AbstractContextManager[None]:
        """One transaction for everything that this thread writes inside, by whatever shares the database's connections; all of it is
        stored, or none is. Where nothing can share them, each part stays a transaction of its own.

        Raises:
            StoreError: The database failed.
        """
        ...

    def close(self) -> None:
        """Close every connection of this process; later use raises `StoreError`."""
        ...
