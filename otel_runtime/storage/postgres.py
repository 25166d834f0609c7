"""PostgreSQL behind the seam of `transactions`: many hosts, row locks, and the server's clock.

Only this module's users need psycopg; it is loaded when a store is made. Tables lie in the schema `otel_runtime`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from otel_runtime.errors import StoreError
from otel_runtime.storage.migrations import Migration
from otel_runtime.storage.postgres_faults import Address, address_of, translated
from otel_runtime.storage.transactions import CommitUnknown, Statements

if TYPE_CHECKING:
    from otel_runtime.storage.postgres_link import Link

__all__ = ["PostgresTransactions"]

# "OTRT" twice: nobody else takes this advisory lock by accident.
_MIGRATING = 0x4F5452544F545254
_CLOCK = "SELECT (extract(epoch from clock_timestamp()) * 1000000)::bigint"


@lru_cache(maxsize=256)
def _spelled(statement: str) -> bytes:
    return statement.replace("%", "%%").replace("?", "%s").encode()


class _Open:
    """One open transaction."""

    __slots__ = ("_link",)

    def __init__(self, link: Link) -> None:
        self._link = link

    def rows(self, statement: str, parameters: Sequence[object] = ()) -> list[tuple[Any, ...]]:  # Any: columns of any type
        return self._link.execute(_spelled(statement), parameters).fetchall()

    def run(self, statement: str, parameters: Sequence[object] = ()) -> int:
        return self._link.execute(_spelled(statement), parameters).rowcount

    def now_us(self, given_us: int) -> int:
        return int(self.rows(_CLOCK)[0][0])


class PostgresTransactions:
    """A PostgreSQL database.

    Args:
        url: `postgresql://USER@HOST:PORT/DATABASE`; a password is better kept in PGPASSWORD or ~/.pgpass.
        migrations: The tables of whoever keeps some in it.
        timeout_s: Seconds that one transaction may take.
        setup_timeout_s: The same while tables are brought up to date.

    Raises:
        StoreError: psycopg is not installed, or the URL cannot be understood.
    """

    def __init__(self, url: str, migrations: Sequence[Migration], *, timeout_s: float = 1.0, setup_timeout_s: float = 30.0) -> None:
        self._address: Address = address_of(url, timeout_s)
        self._setup: Address = address_of(url, max(timeout_s, setup_timeout_s))
        self._migrations = tuple(migrations)
        from otel_runtime.storage.postgres_link import Links  # psycopg is there, as `address_of` made sure

        self._links = Links(self._address)

    @property
    def place(self) -> str:
        """Host and database, without user and password."""
        return self._address.place

    @property
    def own_clock(self) -> bool:
        """True: hosts differ."""
        return True

    @property
    def skip_locked(self) -> str:
        """Lock, and pass over what others hold."""
        return " FOR UPDATE SKIP LOCKED"

    def open(self) -> None:
        """Connect and migrate now, once over all processes.

        Raises:
            StoreError: It cannot be used; the message says why and how to mend it.
        """
        from otel_runtime.storage.postgres_link import Links

        links = Links(self._setup)
        try:
            with self._transaction(links, self._setup, "") as statements:
                _migrate(statements, self._migrations, self._address.place)
        finally:
            links.close()

    @contextmanager
    def writing(self) -> Iterator[Statements]:
        """A write transaction.

        Raises:
            CommitUnknown: The connection broke during the commit.
            StoreError: The database failed; nothing of the block was stored.
        """
        with self._transaction(self._links, self._address, "SET TRANSACTION ISOLATION LEVEL READ COMMITTED") as statements:
            yield statements

    @contextmanager
    def reading(self) -> Iterator[Statements]:
        """A read transaction: every statement inside sees the same moment.

        Raises:
            StoreError: The database failed.
        """
        with self._transaction(self._links, self._address, "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY") as statements:
            yield statements

    @contextmanager
    def together(self) -> Iterator[None]:
        """Nothing shares these connections: each transaction stays one of its own."""
        yield

    def close(self) -> None:
        """Close every connection of this process."""
        self._links.close()

    @contextmanager
    def _transaction(self, links: Any, address: Address, mode: str) -> Iterator[Statements]:  # Any: its module needs psycopg
        owner = os.getpid()
        with translated(address), links.taken(mode) as link:
            try:
                yield _Open(link)
                _still_the_same(owner)
                _commit(link, address)
            except BaseException:
                # The open transaction of a forked child is the parent's.
                if os.getpid() == owner:
                    _roll_back(link)
                raise


def _commit(link: Link, address: Address) -> None:
    import psycopg

    try:
        link.execute(b"COMMIT")
    except (psycopg.Error, TimeoutError) as error:
        # An answer of the server is one: nothing was stored.
        if isinstance(error, psycopg.Error) and not link.closed:
            raise
        raise CommitUnknown(
            f"the connection to the database `{address.place}` broke during a commit, so nobody knows whether it was stored; check that the "
            "server runs and can be reached, then try again",
            path=address.place,
        ) from None


def _still_the_same(owner: int) -> None:
    if os.getpid() != owner:
        raise StoreError("the process forked inside a transaction; the parent goes on with it, the child has none")


def _roll_back(link: Link) -> None:
    import psycopg

    # A connection that is in the middle of something is thrown away by whoever lent it; the server then rolls back by itself.
    if not link.closed and link.info.transaction_status in {psycopg.pq.TransactionStatus.INTRANS, psycopg.pq.TransactionStatus.INERROR}:
        with suppress(psycopg.Error, TimeoutError):
            link.execute(b"ROLLBACK")


def _migrate(statements: Statements, migrations: Sequence[Migration], place: str) -> None:
    statements.rows("SELECT pg_advisory_xact_lock(?)", (_MIGRATING,))
    if not statements.rows("SELECT 1 FROM pg_namespace WHERE nspname = ?", ("otel_runtime",)):
        statements.run("CREATE SCHEMA otel_runtime")
    statements.run("CREATE TABLE IF NOT EXISTS otel_runtime.schema_versions (room TEXT PRIMARY KEY, version BIGINT NOT NULL)")
    present = {str(room): int(version) for room, version in statements.rows("SELECT room, version FROM otel_runtime.schema_versions")}
    for migration in migrations:
        done = present.get(migration.room, 0)
        if done > len(migration.steps):
            raise StoreError(
                f"the database `{place}` was written by a newer otel-runtime: expected version {len(migration.steps)} or older of "
                f"`{migration.room}`, got {done}; upgrade otel-runtime, or name another database",
                path=place,
            )
        for step in migration.steps[done:]:
            for statement in step:
                statements.run(statement)
        statements.run(
            "INSERT INTO otel_runtime.schema_versions VALUES (?, ?) ON CONFLICT (room) DO UPDATE SET version = excluded.version",
            (migration.room, len(migration.steps)),
        )
