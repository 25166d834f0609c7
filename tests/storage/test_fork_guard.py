"""Forks while other threads use SQLite."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from otel_runtime.storage.fork_guard import ForkGuard
from otel_runtime.storage.sqlite import Database

# Newer Pythons warn about exactly what is tried here.
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow disk may keep a thread inside for longer than a fork waits; then the child is on its own."""
    monkeypatch.setattr("otel_runtime.storage.fork_guard._LONGEST_S", 60.0)


def forked(work: Callable[[], object]) -> int:
    """What the exit status of a child that runs this is; one that hangs ends by an alarm."""
    pid = os.fork()
    if pid == 0:
        signal.alarm(60)
        try:
            work()
        except BaseException:  # noqa: BLE001  # a child must not go on with the tests
            os._exit(1)
        os._exit(0)
    return os.waitpid(pid, 0)[1]


class TestSqlite:
    @pytest.mark.usefixtures("patient")
    def test_a_child_can_connect(self, tmp_path: Path) -> None:
        """Whatever the parent's threads did in SQLite at the moment of the fork, the child's first transaction does not hang."""
        path, stop = tmp_path / "state.db", threading.Event()
        parents = Database(path)
        parents.open()

        def busy(number: int) -> None:
            while not stop.is_set():
                database = Database(tmp_path / f"other-{number}.db")
                with database.writing() as connection:
                    connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
                database.close()

        def child() -> None:
            with Database(path).writing() as connection:
                connection.execute("SELECT count(*) FROM sqlite_master").fetchone()

        threads = [threading.Thread(target=busy, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        try:
            for _ in range(60):
                assert 0 == forked(child)
        finally:
            stop.set()
            for thread in threads:
                thread.join()
            parents.close()


class TestGuard:
    @pytest.mark.usefixtures("patient")
    def test_a_fork_waits_for_those_inside(self) -> None:
        """The child never sees a thread inside, and the parent's threads go on."""
        guard, stop, inside = ForkGuard(), threading.Event(), set[int]()

        def work(number: int) -> None:
            while not stop.is_set():
                with guard:
                    inside.add(number)
                    time.sleep(0.001)
                    inside.discard(number)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
        for thread in threads:
            thread.start()

        def child() -> None:
            assert not inside
            with guard, guard:
                pass

        seen = [forked(child) for _ in range(30)]
        stop.set()
        for thread in threads:
            thread.join(60)
        assert ([0] * 30, [False] * 3) == (seen, [thread.is_alive() for thread in threads])

    def test_a_fork_from_inside(self) -> None:
        """The forking thread's own stay is no reason to wait, and both sides can leave and enter again."""
        guard = ForkGuard()

        def leaves() -> None:
            guard.__exit__()
            with guard:
                pass
            assert guard._inside == 0

        with guard:
            assert 0 == forked(leaves)
        with guard:
            assert guard._inside == 1

    def test_one_that_stays_too_long_is_not_waited_for(self) -> None:
        """A fork goes on after its bound, and the thread that stayed is not disturbed."""
        guard, entered, leave = ForkGuard(), threading.Event(), threading.Event()

        def stays() -> None:
            with guard:
                entered.set()
                leave.wait(60)

        thread = threading.Thread(target=stays)
        thread.start()
        entered.wait(60)
        assert 0 == forked(guard.__enter__)
        leave.set()
        thread.join(60)
        assert guard._inside == 0
