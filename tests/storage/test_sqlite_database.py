"""The database: private files, transactions that hold, forks, threads, and refusals that say how to mend them."""

from __future__ import annotations

import multiprocessing
import os
import resource
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from otel_runtime.errors import StoreError
from otel_runtime.storage.migrations import Migration
from otel_runtime.storage.sqlite import Database

NOTES = Migration("notes", (("CREATE TABLE notes (text TEXT)",),))
FORK = multiprocessing.get_context("fork")
# Newer Pythons warn about exactly what is tried here.
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    made = Database(tmp_path / "home" / "state.db", [NOTES])
    yield made
    made.close()


def write(database: Database, text: str) -> None:
    with database.writing() as connection:
        connection.execute("INSERT INTO notes VALUES (?)", (text,))


def texts(database: Database) -> list[str]:
    with database.reading() as connection:
        return [text for (text,) in connection.execute("SELECT text FROM notes ORDER BY rowid")]


def exit_code(child: multiprocessing.process.BaseProcess) -> int | None:
    child.join(60)
    return child.exitcode


class TestFiles:
    def test_private(self, database: Database) -> None:
        """The file and the directory made for it belong to this user alone."""
        write(database, "a")
        modes = [stat.S_IMODE(path.stat().st_mode) for path in (database.path.parent, database.path)]
        assert modes == [0o700, 0o600]

    def test_write_ahead_log_and_full_sync(self, database: Database) -> None:
        """What was acknowledged is on the disk."""
        with database.reading() as connection:
            assert ("wal", 2) == (
                connection.execute("PRAGMA journal_mode").fetchone()[0],
                connection.execute("PRAGMA synchronous").fetchone()[0],
            )

    def test_constructing_touches_nothing(self, tmp_path: Path) -> None:
        """A database that is only named creates no file."""
        Database(tmp_path / "x" / "state.db")
        assert [] == list(tmp_path.iterdir())


class TestTransactions:
    def test_an_error_undoes_everything(self, database: Database) -> None:
        """A block that raises leaves no trace."""
        with pytest.raises(StoreError), database.writing() as connection:
            connection.executemany("INSERT INTO notes VALUES (?)", [("a",), ("b", "one too many")])
        assert [] == texts(database)

    def test_nesting_is_refused(self, database: Database) -> None:
        """A second transaction in one thread is refused, and the first is undone with it."""
        with pytest.raises(StoreError, match="already open"), database.writing(), database.writing():
            pass
        write(database, "after")
        assert ["after"] == texts(database)

    def test_a_bad_statement_is_a_store_error(self, database: Database) -> None:
        """SQLite's own errors never leave the room."""
        with pytest.raises(StoreError) as caught, database.writing() as connection:
            connection.execute("INSERT INTO nowhere VALUES (1)")
        assert str(database.path) == caught.value.path

    def test_reads_wait_for_nobody(self, database: Database) -> None:
        """A reader sees the last committed state while another thread writes."""
        write(database, "a")
        seen: list[list[str]] = []
        with database.writing() as connection:
            connection.execute("INSERT INTO notes VALUES ('b')")
            reader = threading.Thread(target=lambda: seen.append(texts(database)))
            reader.start()
            reader.join(60)
        assert [["a"]] == seen

    def test_locked(self, tmp_path: Path) -> None:
        """A lock held too long is reported with the path and how to find its holder."""
        database = Database(tmp_path / "state.db", [NOTES], busy_timeout_s=0.05)
        database.open()
        other = sqlite3.connect(tmp_path / "state.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match=r"locked by another process.*fuser"):
            write(database, "a")
        other.execute("ROLLBACK")
        other.close()
        write(database, "b")
        assert ["b"] == texts(database)
        database.close()

    def test_eight_writers(self, database: Database) -> None:
        """Threads and processes that write at once all succeed."""
        database.open()

        def many(who: str) -> None:
            for number in range(20):
                write(database, f"{who}{number}")

        processes = [FORK.Process(target=many, args=(f"p{index}-",)) for index in range(4)]
        for process in processes:
            process.start()
        threads = [threading.Thread(target=many, args=(f"t{index}-",)) for index in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert [0] * 4 == [exit_code(process) for process in processes]
        assert 160 == len(set(texts(database)))


class TestTogether:
    def test_all_or_none(self, database: Database) -> None:
        """Transactions opened inside are stored with the block, or undone with it."""
        with database.together():
            write(database, "a")
            write(database, "b")
            assert ["a", "b"] == texts(database)
        with pytest.raises(ZeroDivisionError):
            self.write_and_fail(database, "c")
        assert ["a", "b"] == texts(database)

    def write_and_fail(self, database: Database, text: str) -> None:
        with database.together():
            write(database, text)
            raise ZeroDivisionError

    def test_a_part_is_undone_alone(self, database: Database) -> None:
        """A part that raises leaves no trace; whoever catches that goes on, and the rest is stored."""
        with database.together():
            write(database, "a")
            with pytest.raises(StoreError):
                self.write_twice(database, "b")
            with pytest.raises(ZeroDivisionError):
                self.write_and_fail(database, "c")
            write(database, "d")
        assert ["a", "d"] == texts(database)

    def write_twice(self, database: Database, text: str) -> None:
        with database.writing() as connection:
            connection.execute("INSERT INTO notes VALUES (?)", (text,))
            connection.execute("no SQL")

    def test_only_its_own_thread(self, database: Database) -> None:
        """Another thread sees nothing of it before its end, and has transactions of its own."""
        seen: list[list[str]] = []
        with database.together():
            write(database, "a")
            reader = threading.Thread(target=lambda: seen.append(texts(database)))
            reader.start()
            reader.join(60)
        assert [[]] == seen

    def test_closed_inside_of_its_own_transaction(self, database: Database) -> None:
        """What this thread writes is stored, and only then is its connection closed."""
        with database.writing() as connection:
            connection.execute("INSERT INTO notes VALUES ('a')")
            database.close()
        with pytest.raises(sqlite3.ProgrammingError, match="closed"):
            connection.execute("SELECT 1")
        with pytest.raises(StoreError, match="was closed by this process"):
            database.open()
        again = Database(database.path)
        assert ["a"] == texts(again)
        again.close()

    def test_patience_of_one_transaction(self, database: Database, tmp_path: Path) -> None:
        """A transaction may wait shorter than others of the same connection; the next one waits as ever."""
        database.open()
        other = sqlite3.connect(database.path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match="locked"), database.writing(0.01):
            pass
        other.execute("ROLLBACK")
        other.close()
        with database.writing() as connection:
            assert 30_000 == connection.execute("PRAGMA busy_timeout").fetchone()[0]


class TestThreads:
    def test_each_has_its_own_connection(self, database: Database) -> None:
        """Two threads never share a connection."""
        found: list[int] = []
        barrier = threading.Barrier(2)

        def look() -> None:
            with database.reading() as connection:
                found.append(id(connection))
                barrier.wait(60)

        threads = [threading.Thread(target=look) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert 2 == len(set(found))

    def test_connections_of_dead_threads_are_closed(self, database: Database) -> None:
        """Twenty threads that lived at once leave at most a connection or two open."""
        barrier = threading.Barrier(20)
        used: list[sqlite3.Connection] = []

        def work() -> None:
            with database.reading() as connection:
                used.append(connection)
                barrier.wait(60)

        threads = [threading.Thread(target=work) for _ in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        write(database, "the next one to connect closes them")
        assert 1 == len(database._links)
        with pytest.raises(sqlite3.ProgrammingError, match="closed"):
            used[0].execute("SELECT 1")

    def test_closed(self, database: Database) -> None:
        """After close, use is refused."""
        database.open()
        database.close()
        with pytest.raises(StoreError, match="was closed"):
            texts(database)


class TestFork:
    def test_child_gets_its_own_connection(self, database: Database) -> None:
        """A child process writes through a connection of its own, and the parent's goes on."""
        write(database, "parent")
        with database.reading() as connection:
            inherited = connection

        def child() -> None:
            with database.reading() as connection:
                if connection is inherited:
                    os._exit(3)
            write(database, "child")

        process = FORK.Process(target=child)
        process.start()
        assert 0 == exit_code(process)
        write(database, "again")
        assert ["parent", "child", "again"] == texts(database)

    def test_fork_inside_a_transaction(self, database: Database) -> None:
        """The child of an open transaction neither commits nor undoes it: it is the parent's."""
        pid, inherited = -1, None
        try:
            with database.writing() as connection:
                inherited = connection
                connection.execute("INSERT INTO notes VALUES ('a')")
                pid = os.fork()
        except StoreError as error:
            untouched = inherited is not None and inherited.in_transaction
            os._exit(0 if pid == 0 and untouched and "forked" in str(error) else 1)
        if pid == 0:
            os._exit(2)
        assert 0 == os.waitpid(pid, 0)[1]
        assert ["a"] == texts(database)

    def test_fork_inside_a_part(self, database: Database) -> None:
        """The same holds for a part of it: in the child nothing is said to be stored, and the parent's connection is left alone."""
        pid, said = -1, list[str]()
        with database.together():
            try:
                with database.writing() as connection:
                    connection.execute("INSERT INTO notes VALUES ('a')")
                    pid = os.fork()
                    if pid == 0:
                        connection.set_trace_callback(said.append)
            except StoreError as error:
                os._exit(0 if pid == 0 and said == [] and "forked" in str(error) else 1)
            if pid == 0:
                os._exit(2)
            assert 0 == os.waitpid(pid, 0)[1]
        assert ["a"] == texts(database)

    def test_fork_while_another_thread_connects(self, database: Database) -> None:
        """A lock that some thread of the parent holds does not hang the child's threads."""
        database.open()

        def child() -> None:
            thread = threading.Thread(target=write, args=(database, "child"), daemon=True)
            thread.start()
            thread.join(60)
            os._exit(1 if thread.is_alive() else 0)

        with database._lock:
            process = FORK.Process(target=child)
            process.start()
            assert 0 == exit_code(process)
        assert ["child"] == texts(database)


class TestMigrations:
    def test_four_processes_start_together(self, tmp_path: Path) -> None:
        """Each step is applied once, whoever comes first."""
        steps = Migration("once", (("CREATE TABLE marks (text TEXT)", "INSERT INTO marks VALUES ('made')"),))
        barrier = FORK.Barrier(4)

        def start() -> None:
            database = Database(tmp_path / "new" / "state.db", [NOTES, steps])
            barrier.wait(60)
            database.open()

        processes = [FORK.Process(target=start) for _ in range(4)]
        for process in processes:
            process.start()
        assert [0] * 4 == [exit_code(process) for process in processes]
        database = Database(tmp_path / "new" / "state.db", [NOTES, steps])
        with database.reading() as connection:
            assert [("made",)] == connection.execute("SELECT text FROM marks").fetchall()
        database.close()

    def test_next_step(self, tmp_path: Path) -> None:
        """An older database gets only the steps it lacks."""
        first = Database(tmp_path / "state.db", [NOTES])
        write(first, "kept")
        first.close()
        second = Database(tmp_path / "state.db", [Migration("notes", (*NOTES.steps, ("ALTER TABLE notes ADD COLUMN at INTEGER",)))])
        assert ["kept"] == texts(second)
        with second.reading() as connection:
            connection.execute("SELECT at FROM notes")
        second.close()

    def test_a_step_happens_whole_or_not(self, tmp_path: Path) -> None:
        """A step that fails half-way leaves nothing, and the mended one works."""
        broken = Database(
            tmp_path / "state.db", [Migration("notes", (("CREATE TABLE notes (text TEXT)", "CREATE TABLE notes (text TEXT)"),))]
        )
        with pytest.raises(StoreError):
            broken.open()
        mended = Database(tmp_path / "state.db", [NOTES])
        write(mended, "a")
        assert ["a"] == texts(mended)
        mended.close()


class TestRefusals:
    def refused(self, path: Path) -> StoreError:
        database = Database(path, [NOTES], busy_timeout_s=0.1)
        with pytest.raises(StoreError) as caught:
            database.open()
        assert str(path) in str(caught.value)
        assert str(path) == caught.value.path
        return caught.value

    def test_no_database(self, tmp_path: Path) -> None:
        """A text file is named as what it is, and left alone."""
        path = tmp_path / "state.db"
        path.write_text("no database at all, but long enough to be read as a header of one hundred bytes" * 3)
        assert "no SQLite database" in str(self.refused(path))
        assert path.read_text().startswith("no database")

    def test_directory(self, tmp_path: Path) -> None:
        """A directory is no file."""
        assert "is a directory" in str(self.refused(tmp_path))

    def test_parent_is_a_file(self, tmp_path: Path) -> None:
        """A path through a file cannot be created."""
        (tmp_path / "file").write_text("")
        assert "cannot be created" in str(self.refused(tmp_path / "file" / "state.db"))

    def test_newer(self, tmp_path: Path) -> None:
        """A database of a newer version is not touched by an older one."""
        newer = Database(tmp_path / "state.db", [Migration("notes", (*NOTES.steps, ("CREATE TABLE more (x)",)))])
        newer.open()
        newer.close()
        assert "newer otel-runtime" in str(self.refused(tmp_path / "state.db"))

    def test_another_program(self, tmp_path: Path) -> None:
        """Another program's database is refused before anything is added to it."""
        other = sqlite3.connect(tmp_path / "state.db")
        other.execute("CREATE TABLE theirs (x)")
        other.close()
        assert "another program" in str(self.refused(tmp_path / "state.db"))

    def test_damaged(self, tmp_path: Path) -> None:
        """A database with overwritten pages is reported as damaged, not as an internal error."""
        path = tmp_path / "state.db"
        database = Database(path, [NOTES])
        for number in range(500):
            write(database, f"{number}" * 50)
        database.close()
        content = bytearray(path.read_bytes())
        content[4096:] = b"\xff" * (len(content) - 4096)
        path.write_bytes(content)
        broken = Database(path, [NOTES])
        with pytest.raises(StoreError, match="damaged"):
            texts(broken)
        broken.close()

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
    def test_permission(self, tmp_path: Path) -> None:
        """A file of another user is refused with its permissions as the reason."""
        path = tmp_path / "state.db"
        database = Database(path, [NOTES])
        database.open()
        database.close()
        for parent in (tmp_path, tmp_path.parent, tmp_path.parent.parent):
            parent.chmod(0o755)

        def as_nobody() -> None:
            os.setuid(65534)
            try:
                Database(path, [NOTES]).open()
            except StoreError as error:
                os._exit(0 if "permissions" in str(error) else 3)

        process = FORK.Process(target=as_nobody)
        process.start()
        assert 0 == exit_code(process)


class TestFullDisk:
    def test_nothing_is_lost(self, database: Database) -> None:
        """When the disk is full the write fails as a whole, and what was there stays."""
        write(database, "before")

        def fill() -> None:
            # Files may not grow past this size: to SQLite the disk is full.
            resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
            try:
                for _ in range(50):
                    write(database, "x" * 50_000)
            except StoreError:
                write_works_after = texts(database)[0] == "before"
                os._exit(0 if write_works_after else 4)
            os._exit(5)

        process = FORK.Process(target=fill)
        process.start()
        assert 0 == exit_code(process)
        write(database, "after")
        found = texts(database)
        assert ("before", "after") == (found[0], found[-1])
        assert {50_000} >= {len(text) for text in found[1:-1]}


CLOSING = """
import sys, threading, time
from pathlib import Path
from otel_runtime.errors import StoreError
from otel_runtime.storage.migrations import Migration
from otel_runtime.storage.sqlite import Database

TABLE = Migration("busy", (("CREATE TABLE busy (n INTEGER)",),))
FILL = "INSERT INTO busy WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c LIMIT 3000) SELECT n FROM c"

def work(database, started, ended):
    started.wait()
    try:
        while True:
            with database.writing() as connection:
                connection.execute(FILL)
            with database.reading() as connection:
                connection.execute("SELECT count(*) FROM busy, (SELECT 1 FROM busy LIMIT 50)").fetchone()
    except StoreError as error:
        ended.append("was closed by this process" in str(error))

for number in range(20):
    database = Database(Path(sys.argv[1]) / f"{number}.db", (TABLE,))
    database.open()
    started, ended = threading.Barrier(5), []
    threads = [threading.Thread(target=work, args=(database, started, ended)) for _ in range(4)]
    for thread in threads:
        thread.start()
    started.wait()
    time.sleep(0.03)
    database.close()
    for thread in threads:
        thread.join(60)
    if ended != [True] * 4:
        sys.exit(f"round {number}: {ended}")
"""


class TestCloseWhileInUse:
    def test_breaks_nobody(self, tmp_path: Path) -> None:
        """Closing while other threads are inside transactions ends each of them with a clear error, never the process."""
        done = subprocess.run([sys.executable, "-c", CLOSING, str(tmp_path)], capture_output=True, text=True, check=False, timeout=120)
        assert (0, "") == (done.returncode, done.stderr)
