"""PostgreSQL, the real server: migrations once, waits that end, restarts, forks, and errors that say how to mend them and no password."""

from __future__ import annotations

import multiprocessing
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from otel_runtime.errors import StoreError
from otel_runtime.storage.migrations import Migration
from otel_runtime.storage.transactions import CommitUnknown, Statements

pytest.importorskip("psycopg", reason="psycopg is missing: pip install 'otel-runtime[postgres]'")

import psycopg  # after the look for it

from otel_runtime.storage.postgres import PostgresTransactions  # as above
from otel_runtime.storage.postgres_faults import address_of, store_error  # as above

NOTES = Migration("notes", (("CREATE TABLE notes (n BIGINT PRIMARY KEY, text TEXT)",),))
FORK = multiprocessing.get_context("fork")
# Newer Pythons warn about exactly what is tried here.
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")


@pytest.fixture
def store(postgres_url: str) -> Iterator[PostgresTransactions]:
    made = PostgresTransactions(postgres_url, [NOTES], timeout_s=20)
    made.open()
    yield made
    made.close()


def write(store: PostgresTransactions, n: int, text: str = "") -> None:
    with store.writing() as statements:
        statements.run("INSERT INTO notes VALUES (?, ?)", (n, text))


def until_it_answers(work: Callable[[], object]) -> None:
    """A busy machine may need more than one try within a short time, and a server that stood still goes on at its own pace."""
    deadline = time.monotonic() + 60
    while True:
        try:
            work()
            return
        except StoreError:
            assert time.monotonic() < deadline
            time.sleep(0.1)


def numbers(store: PostgresTransactions) -> list[int]:
    with store.reading() as statements:
        return [n for (n,) in statements.rows("SELECT n FROM notes ORDER BY n")]


class TestTransactions:
    # Older versions of psycopg miss the server's last word, and say only that the connection is gone.
    @pytest.mark.parametrize(
        ("kind", "said"), [(CommitUnknown, "nobody knows"), (StoreError, "nothing was changed|cannot be reached or used")]
    )
    def test_cut_off(self, store: PostgresTransactions, kind: type[StoreError], said: str) -> None:
        """Whoever commits on a connection that breaks is told that nobody knows whether it was stored; before the commit it was not."""

        def end(statements: Statements) -> None:
            ((pid,),) = statements.rows("SELECT pg_backend_pid()")
            with psycopg.connect(store._address.url) as other:
                other.execute("SELECT pg_terminate_backend(%s, 20000)", (pid,))
            if kind is StoreError:
                statements.run("INSERT INTO notes VALUES (2, '')")

        with pytest.raises(StoreError, match=said) as caught:
            self.write_and(store, end)
        assert (type(caught.value), numbers(store)) == (kind, [])

    def test_an_error_undoes_everything(self, store: PostgresTransactions) -> None:
        """A block that raises leaves no trace, whoever raises, and the connection goes on."""
        with pytest.raises(StoreError):
            self.write_and(store, lambda statements: statements.run("INSERT INTO notes VALUES (1, 'again')"))
        with pytest.raises(StoreError):
            self.write_and(store, lambda statements: statements.run("no SQL at all"))
        with pytest.raises(ZeroDivisionError):
            self.write_and(store, lambda _: 1 // 0)
        write(store, 2, "100% sure? yes")
        assert [2] == numbers(store)

    def write_and(self, store: PostgresTransactions, more: Callable[[Statements], object]) -> None:
        with store.writing() as statements:
            statements.run("INSERT INTO notes VALUES (1, 'a')")
            more(statements)

    def test_a_reader_sees_one_moment(self, store: PostgresTransactions) -> None:
        """Statements of one read transaction agree, whatever is written meanwhile; it cannot write."""
        with store.reading() as statements:
            before = statements.rows("SELECT count(*) FROM notes")
            write(store, 1)
            assert before == statements.rows("SELECT count(*) FROM notes")
        with pytest.raises(StoreError), store.reading() as statements:
            statements.run("INSERT INTO notes VALUES (2, '')")

    def test_its_own_schema(self, store: PostgresTransactions, postgres: Any) -> None:
        """Tables lie in the schema `otel_runtime`, beside whatever else is there."""
        database = store.place.rpartition("/")[2]
        assert "notes\nschema_versions" == postgres.sql(
            "SELECT tablename FROM pg_tables WHERE schemaname = 'otel_runtime' ORDER BY 1", database
        )

    def test_rows_that_others_hold_are_passed_over(self, store: PostgresTransactions) -> None:
        """Cleaning up waits for nobody."""
        write(store, 1)
        write(store, 2)
        query = f"SELECT n FROM notes ORDER BY n{store.skip_locked}"
        with store.writing() as first, store.writing() as second:
            first.run("UPDATE notes SET text = 'mine' WHERE n = 1")
            assert [(2,)] == second.rows(query)

    def test_the_servers_clock(self, store: PostgresTransactions) -> None:
        """What the caller thinks of the time does not count, and time goes on inside a transaction."""
        with store.writing() as statements:
            first, second = statements.now_us(0), statements.now_us(0)
        assert 0 < first <= second
        assert abs(first / 1_000_000 - time.time()) < 3600


class TestMigrations:
    def test_four_processes_start_together(self, postgres_url: str, postgres: Any) -> None:
        """Each step is applied once, whoever comes first."""
        once = Migration("once", (("CREATE TABLE marks (text TEXT)", "INSERT INTO marks VALUES ('made')"),))
        barrier = FORK.Barrier(4)

        def start() -> None:
            made = PostgresTransactions(postgres_url, [NOTES, once], timeout_s=60, setup_timeout_s=60)
            barrier.wait(60)
            made.open()
            os._exit(0)

        processes = [FORK.Process(target=start) for _ in range(4)]
        for process in processes:
            process.start()
        for process in processes:
            process.join(60)
        assert [0] * 4 == [process.exitcode for process in processes]
        assert "made" == postgres.sql("SELECT text FROM otel_runtime.marks", postgres_url.rpartition("/")[2])

    def test_next_step_whole_or_not(self, store: PostgresTransactions, postgres_url: str) -> None:
        """An older database gets only the steps it lacks, and one that fails half-way leaves nothing."""
        write(store, 1)
        steps = (*NOTES.steps, ("ALTER TABLE notes ADD COLUMN at BIGINT",))
        with pytest.raises(StoreError):
            PostgresTransactions(postgres_url, [Migration("notes", (*NOTES.steps, (*steps[1], "no SQL")))]).open()
        second = PostgresTransactions(postgres_url, [Migration("notes", steps)], timeout_s=20)
        second.open()
        with second.reading() as statements:
            assert [(1, None)] == statements.rows("SELECT n, at FROM notes")
        second.close()

    def test_newer(self, store: PostgresTransactions, postgres_url: str) -> None:
        """A database of a newer version is not touched by an older one."""
        PostgresTransactions(postgres_url, [Migration("notes", (*NOTES.steps, ("CREATE TABLE more (x BIGINT)",)))]).open()
        with pytest.raises(StoreError, match="newer otel-runtime"):
            PostgresTransactions(postgres_url, [NOTES]).open()


def take(store: PostgresTransactions) -> None:
    with store.writing() as statements:
        statements.run("UPDATE notes SET text = 'mine' WHERE n = 1")


class TestWaits:
    def test_a_lock(self, store: PostgresTransactions, postgres_url: str) -> None:
        """A lock that is not given up in time is an error that names the setting."""
        hurried = PostgresTransactions(postgres_url, [NOTES], timeout_s=0.2)
        write(store, 1)
        until_it_answers(lambda: numbers(hurried))
        with store.writing() as statements:
            statements.run("UPDATE notes SET text = 'held' WHERE n = 1")
            with pytest.raises(StoreError, match=r"within 0\.2 s.*facts_timeout"):
                take(hurried)
        until_it_answers(lambda: take(hurried))
        hurried.close()

    def test_a_server_that_stands_still(self, store: PostgresTransactions, postgres_url: str, postgres: Any) -> None:
        """A server that neither answers nor refuses holds nobody up, on old connections and on new ones; afterwards it is used again."""
        hurried = PostgresTransactions(postgres_url, [NOTES], timeout_s=0.3)
        write(store, 1)
        until_it_answers(lambda: numbers(hurried))
        postgres.freeze(frozen=True)
        try:
            # Three bounded waits; without bounds this would never come back.
            for _ in range(3):
                with pytest.raises(StoreError, match=r"did not answer|cannot be reached"):
                    numbers(hurried)
        finally:
            postgres.freeze(frozen=False)
        until_it_answers(lambda: numbers(hurried))
        assert [1] == numbers(store)
        hurried.close()

    def test_more_threads_than_connections(self, store: PostgresTransactions) -> None:
        """Fifty threads share a few connections and all get their turn."""
        threads = [threading.Thread(target=write, args=(store, number)) for number in range(50)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert list(range(50)) == numbers(store)
        assert 8 >= len(store._links._idle)


class TestRestart:
    def test_it_goes_on(self, store: PostgresTransactions, postgres: Any) -> None:
        """After a restart of the server the store is used again without anybody's help; in between it says what is wrong."""
        write(store, 1)
        postgres.stop()
        with pytest.raises(StoreError, match="check that it runs"):
            numbers(store)
        postgres.start()
        assert [1] == numbers(store)


class TestFork:
    def test_child_gets_its_own_connection(self, store: PostgresTransactions) -> None:
        """A child writes through a connection of its own, and neither its work nor its end disturbs the parent's."""
        write(store, 1)
        mine = self.session(store)

        def child() -> None:
            write(store, 2)
            differs = self.session(store) != mine
            store.close()
            os._exit(0 if differs else 3)

        process = FORK.Process(target=child)
        process.start()
        process.join(60)
        assert 0 == process.exitcode
        write(store, 3)
        assert ([1, 2, 3], mine) == (numbers(store), self.session(store))

    def session(self, store: PostgresTransactions) -> int:
        with store.reading() as statements:
            return int(statements.rows("SELECT pg_backend_pid()")[0][0])

    def test_fork_inside_a_transaction(self, store: PostgresTransactions) -> None:
        """The child of an open transaction neither commits nor undoes it: it is the parent's."""
        pid = -1
        try:
            with store.writing() as statements:
                statements.run("INSERT INTO notes VALUES (1, '')")
                pid = os.fork()
        except StoreError as error:
            os._exit(0 if pid == 0 and "forked" in str(error) else 1)
        if pid == 0:
            os._exit(2)
        assert 0 == os.waitpid(pid, 0)[1]
        assert [1] == numbers(store)


class TestRefusals:
    def refused(self, url: str, **more: Any) -> str:
        with pytest.raises(StoreError) as caught:
            PostgresTransactions(url, [NOTES], **more).open()
        for shown in (str(caught.value), repr(caught.value), repr(caught.value.__cause__), repr(caught.value.__context__)):
            assert "s3cret" not in shown
        return str(caught.value)

    def test_nobody_listens(self) -> None:
        """A server that is not there is named by host and port, without the password."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
            # Taken and not listening: nobody else can come to listen there meanwhile.
            said = self.refused(f"postgresql://tester:s3cret@127.0.0.1:{port}/x")
        assert f"`postgresql://127.0.0.1:{port}/x` cannot be reached" in said

    def test_no_such_database(self, postgres: Any) -> None:
        """A database that does not exist is said to be missing."""
        assert "has no such database" in self.refused(postgres.url("nowhere", "s3cret"))

    @pytest.mark.parametrize("url", ["postgresql://u:s3cret@[::1/x", "postgresql://u:s3cret%zz@h/x", "postgresql:s3cret@h", "s3cret"])
    def test_no_url(self, url: str) -> None:
        """What is no URL is refused without being repeated: it may hold a password."""
        assert "cannot be understood" in self.refused(url)

    def test_not_allowed(self, postgres: Any, postgres_url: str) -> None:
        """A user who may not create the schema is told which one to create."""
        database = postgres_url.rpartition("/")[2]
        postgres.sql("DO $$ BEGIN CREATE ROLE poor LOGIN; EXCEPTION WHEN duplicate_object THEN END $$", database)
        said = self.refused(postgres_url.replace("tester@", "poor:s3cret@"))
        assert "create that schema and make the user its owner" in said
        postgres.sql("CREATE SCHEMA otel_runtime AUTHORIZATION poor", database)
        made = PostgresTransactions(postgres_url.replace("tester@", "poor@"), [NOTES], timeout_s=20)
        made.open()
        write(made, 1)
        made.close()

    def test_closed(self, store: PostgresTransactions) -> None:
        """After close, use is refused."""
        store.close()
        with pytest.raises(StoreError, match="was closed"):
            numbers(store)

    def test_a_server_that_repeats_it(self) -> None:
        """Whatever the driver says, the password is not in what we say."""
        address = address_of("postgresql://u:s3cret@h:5/x", 1.0)
        said = store_error(address, psycopg.OperationalError("bad login u:s3cret"))
        assert "s3cret" not in str(said) + repr(address)
        assert "u:***" in str(said)

    def test_missing_driver(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Without psycopg the error is the line that installs it."""
        monkeypatch.setitem(sys.modules, "psycopg", None)
        with pytest.raises(StoreError, match=r"pip install 'otel-runtime\[postgres\]'"):
            PostgresTransactions("postgresql://h/x", [NOTES])
