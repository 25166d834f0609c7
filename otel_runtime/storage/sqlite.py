"""One SQLite file: a connection per thread and process, and transactions that either happened or did not.

Rules:
- A write transaction takes its lock at once (BEGIN IMMEDIATE): a deferred one fails when it wants to write later.
- WAL with synchronous=FULL: what was acknowledged survives a power cut; NORMAL loses it.
- A connection never crosses a fork. The child forgets its parent's connections without closing them, because closing one may
  checkpoint a log that the parent still writes.
- No thread is inside of SQLite when another one forks, or the child would hang on a lock of SQLite's own.
- SQLite rolls back by itself on a full disk: `in_transaction` is asked before ROLLBACK.
"""

from __future__ import annotations

import ctypes
import os
import sqlite3
import threading
import time
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from otel_runtime.errors import StoreError
from otel_runtime.storage.faults import store_error, translated
from otel_runtime.storage.fork_guard import ForkGuard
from otel_runtime.storage.migrations import Migration, migrate
from otel_runtime.storage.places import prepare

__all__ = ["Database"]

# One for all databases: SQLite's own locks are the process's.
_UNFORKED = ForkGuard()


@dataclass(slots=True)
class _Link:
    thread: weakref.ref[threading.Thread]
    connection: sqlite3.Connection
    # Held during a transaction: SQLite must not have a connection closed under its feet. Reentrant, so that a nested one is told apart.
    busy: threading.RLock
    # How long it waits for another writer now.
    patience_s: float
    # How many transactions of `together` are open around the next one.
    joined: int = 0


class Database:
    """A SQLite database shared by threads and processes.

    Args:
        path: The file; it and its directory are created, private, when missing.
        migrations: The tables of every room that uses it.
        busy_timeout_s: Seconds to wait for another process's write.
        setup_timeout_s: The same while a connection is made and tables are brought up to date, where many processes may start at once;
            None is `busy_timeout_s`.
    """

    def __init__(
        self, path: Path, migrations: Sequence[Migration] = (), *, busy_timeout_s: float = 30.0, setup_timeout_s: float | None = None
    ) -> None:
        self._path = path
        self._migrations = tuple(migrations)
        self._busy_timeout_s = busy_timeout_s
        self._setup_timeout_s = busy_timeout_s if setup_timeout_s is None else setup_timeout_s
        self._lock = threading.Lock()
        self._links: dict[int, _Link] = {}
        self._closed = False
        _after_fork(weakref.ref(self))

    @property
    def path(self) -> Path:
        """The file as it was configured."""
        return self._path

    def open(self) -> None:
        """Connect and migrate now, so that a bad database is refused at start.

        Raises:
            StoreError: It cannot be used; the message says why and how to mend it.
        """
        self._link()

    @contextmanager
    def writing(self, wait_s: float | None = None) -> Iterator[sqlite3.Connection]:
        """A write transaction: committed when the block ends, rolled back when it raises.

        Args:
            wait_s: Seconds to wait for another process's write; None is what the database was made with.

        Raises:
            StoreError: The database failed; nothing of the block was stored.
        """
        with self._transaction("BEGIN IMMEDIATE", wait_s) as connection:
            yield connection

    @contextmanager
    def reading(self, wait_s: float | None = None) -> Iterator[sqlite3.Connection]:
        """A read transaction: every statement inside sees the same moment. It waits for nobody.

        Args:
            wait_s: As for `writing`; only a log that is being recovered is waited for.

        Raises:
            StoreError: The database failed.
        """
        with self._transaction("BEGIN", wait_s) as connection:
            yield connection

    @contextmanager
    def together(self) -> Iterator[None]:
        """One write transaction for every one that this thread opens inside: all of them are stored, or none is.

        One that raises inside undoes its own part; whoever catches that may go on.

        Raises:
            StoreError: The database failed; nothing of the block was stored.
        """
        link = self._link()
        with self._transaction("BEGIN IMMEDIATE", None):
            joined = link.joined
            try:
                link.joined = joined + 1
                yield
            finally:
                link.joined = joined

    def close(self) -> None:
        """Close every connection of this process; later use raises `StoreError`. One that is in use is closed by its own thread, afterwards."""
        with self._lock:
            self._closed = True
            links, self._links = self._links, {}
        with _UNFORKED:
            for link in links.values():
                if link.busy.acquire(blocking=False):
                    try:
                        # One in a transaction is this thread's own: it is closed when that ends. One that is closed says so by an error.
                        with suppress(sqlite3.ProgrammingError):
                            if not link.connection.in_transaction:
                                link.connection.close()
                    finally:
                        link.busy.release()

    @contextmanager
    def _transaction(self, begin: str, wait_s: float | None) -> Iterator[sqlite3.Connection]:
        with _UNFORKED:
            link, owner = self._link(), os.getpid()
            if link.joined:
                with translated(self._path), _part_of(link.connection, owner, self._path):
                    yield link.connection
                return
            with link.busy:
                yield from self._alone(link, begin, wait_s, owner)

    def _alone(self, link: _Link, begin: str, wait_s: float | None, owner: int) -> Iterator[sqlite3.Connection]:
        try:
            self._wait(link, self._busy_timeout_s if wait_s is None else wait_s)
            with self._transaction_on(link.connection, begin, owner) as connection:
                yield connection
        finally:
            if self._closed and os.getpid() == owner:
                link.connection.close()

    @contextmanager
    def _transaction_on(self, connection: sqlite3.Connection, begin: str, owner: int) -> Iterator[sqlite3.Connection]:
        with translated(self._path):
            if connection.in_transaction:
                raise StoreError("a transaction is already open in this thread; pass its connection on instead", path=str(self._path))
            try:
                # Inside: a Ctrl-C that comes while the lock is waited for is raised once the transaction has begun.
                connection.execute(begin)
                yield connection
                _still_the_same(owner, self._path)
                connection.execute("COMMIT")
            finally:
                # The open transaction of a forked child is the parent's.
                if os.getpid() == owner:
                    _roll_back(connection)

    def _wait(self, link: _Link, seconds: float) -> None:
        if link.patience_s == seconds:
            return
        with translated(self._path):
            if not link.connection.in_transaction:
                link.connection.execute(f"PRAGMA busy_timeout = {int(seconds * 1000)}")
                link.patience_s = seconds

    def _link(self) -> _Link:
        link = self._links.get(threading.get_ident())
        # A thread's ident is used again after its death.
        if link is not None and link.thread() is threading.current_thread():
            return link
        with _UNFORKED, self._lock:
            if self._closed:
                raise StoreError(f"state database `{self._path}` was closed by this process", path=str(self._path))
            self._drop_dead_threads()
            link = _Link(weakref.ref(threading.current_thread()), self._connect(), threading.RLock(), self._busy_timeout_s)
            self._links[threading.get_ident()] = link
            return link

    def _drop_dead_threads(self) -> None:
        for ident, link in list(self._links.items()):
            thread = link.thread()
            if thread is None or not thread.is_alive() or ident == threading.get_ident():
                del self._links[ident]
                link.connection.close()

    def _connect(self) -> sqlite3.Connection:
        real = prepare(self._path)
        with translated(self._path):
            # Threads never share a connection; the check is off because the last thread to leave closes those of dead ones.
            connection = sqlite3.connect(real, timeout=self._setup_timeout_s, isolation_level=None, check_same_thread=False)
        try:
            with translated(self._path):
                self._set_up(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _set_up(self, connection: sqlite3.Connection) -> None:
        self._enter_wal(connection)
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA trusted_schema = OFF")
        migrate(connection, self._migrations, self._path)
        connection.execute(f"PRAGMA busy_timeout = {int(self._busy_timeout_s * 1000)}")

    def _enter_wal(self, connection: sqlite3.Connection) -> None:
        deadline = time.monotonic() + self._setup_timeout_s
        while (mode := self._try_wal(connection, final=time.monotonic() > deadline)) is None:
            time.sleep(0.01)
        if mode != "wal":
            raise StoreError(
                f"state database `{self._path}` lies on a file system without shared memory (journal mode `{mode}`, expected `wal`); "
                "set `state` to a path on a local disk",
                path=str(self._path),
            )

    def _try_wal(self, connection: sqlite3.Connection, *, final: bool) -> str | None:
        try:
            return str(connection.execute("PRAGMA journal_mode = WAL").fetchone()[0])
        except sqlite3.OperationalError as error:
            # SQLite does not wait by itself when two processes change the mode of a new file at once.
            if final or not error.sqlite_errorname.startswith("SQLITE_BUSY"):
                raise store_error(self._path, error) from error
            return None

    def _forget_parent(self) -> None:
        for link in self._links.values():
            # One reference more than anyone will ever drop: the interpreter must not close it at exit either.
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(link.connection))
        self._links = {}
        # Another thread of the parent may have held the lock at the moment of the fork.
        self._lock = threading.Lock()


@contextmanager
def _part_of(connection: sqlite3.Connection, owner: int, path: Path) -> Iterator[None]:
    """A part of an open transaction, undone by itself when it raises."""
    connection.execute("SAVEPOINT part")
    try:
        yield
        _still_the_same(owner, path)
    except BaseException:
        # The open transaction of a forked child is the parent's; one that SQLite has rolled back by itself has no parts.
        if os.getpid() == owner and connection.in_transaction:
            connection.execute("ROLLBACK TO part")
            connection.execute("RELEASE part")
        raise
    connection.execute("RELEASE part")


def _still_the_same(owner: int, path: Path) -> None:
    if os.getpid() != owner:
        raise StoreError("the process forked inside a transaction; the parent goes on with it, the child has none", path=str(path))


def _roll_back(connection: sqlite3.Connection) -> None:
    if connection.in_transaction:
        # The first error tells more than a failed rollback; closing the connection would undo the transaction as well.
        with suppress(sqlite3.Error):
            connection.execute("ROLLBACK")


def _after_fork(database: weakref.ref[Database]) -> None:
    def forget() -> None:
        if (alive := database()) is not None:
            alive._forget_parent()  # noqa: SLF001 - same module, the hook of the class itself

    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=forget)
