"""Shared facts over real processes: limits hold, kills lose and double nothing, and a store that is away lets nothing through."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from otel_runtime.errors import StoreError
from otel_runtime.policy.facts_schema import FACTS
from otel_runtime.policy.facts_sql import SqlFacts
from otel_runtime.policy.protocol import CounterKey, Needs, Reservation, Spent, Start
from otel_runtime.policy.provenance import LOST
from otel_runtime.storage.sqlite import Database
from otel_runtime.storage.sqlite_transactions import SqliteTransactions
from otel_runtime.storage.transactions import Transactions

FORK = multiprocessing.get_context("fork")
KEY = CounterKey("r:usd", "user:carla", "sliding:3600")
OTHER = CounterKey("q:calls", "all", "sliding:3600")
# Newer Pythons warn about exactly what is tried here.
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")

Open = Callable[..., SqlFacts]


@pytest.fixture(params=["sqlite", "postgres"])
def open_facts(request: pytest.FixtureRequest, tmp_path: Path) -> Open:
    """Opens the store, as every process does for itself."""
    url = request.getfixturevalue("postgres_url") if request.param == "postgres" else ""

    def store(timeout_s: float) -> Transactions:
        if url:
            from otel_runtime.storage.postgres import PostgresTransactions

            return PostgresTransactions(url, [FACTS], timeout_s=timeout_s)
        return SqliteTransactions(Database(tmp_path / "home" / "state.db", [FACTS], busy_timeout_s=timeout_s, setup_timeout_s=30))

    def made(timeout_s: float = 60.0, **more: Any) -> SqlFacts:
        facts = SqlFacts(store(timeout_s), timeout_s=timeout_s, **more)
        facts.open()
        return facts

    return made


def now() -> datetime:
    return datetime.now(UTC)


def start(amount: int = 1, limit: int = 20) -> Start:
    return Start((Reservation(KEY, Decimal(amount), Decimal(limit), "usd"), Reservation(OTHER, Decimal(1), Decimal(1000))))


def total(facts: SqlFacts, key: CounterKey = KEY) -> Decimal:
    view = facts.peek(Needs((key,)), now())
    assert not view.failure
    return view.counters[key]


def run(work: Callable[[], int | None], count: int = 1) -> list[int | None]:
    """Run something in so many forked processes; their exit codes."""

    def child() -> None:
        os._exit(work() or 0)

    processes = [FORK.Process(target=child) for _ in range(count)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    return [process.exitcode for process in processes]


class TestLimitsOverProcesses:
    def test_fifty_calls_never_pass_a_limit(self, open_facts: Open) -> None:
        """Fifty processes that begin at once, each with two counters in its own order, get exactly what the limit holds."""
        gate = FORK.Barrier(50)

        def one_call() -> int:
            facts = open_facts()
            given = start().reservations
            gate.wait(120)
            hold = facts.begin(Start(given if os.getpid() % 2 else given[::-1]), now())
            facts.close()
            return 7 if hold is not None else 8

        codes = run(one_call, 50)
        facts = open_facts()
        assert (20, 30) == (codes.count(7), codes.count(8))
        assert (Decimal(20), Decimal(20)) == (total(facts), total(facts, OTHER))
        facts.close()

    def test_what_is_given_back_can_be_taken(self, open_facts: Open) -> None:
        """Processes that take, settle and give back at once leave exactly what was really used."""

        def many_calls() -> None:
            facts = open_facts()
            for turn in range(8):
                hold = facts.begin(start(5, 10_000), now())
                assert hold is not None
                if turn % 2:
                    facts.settle(hold, Spent(usd=Decimal("0.25")), now())
                else:
                    facts.release(hold)
            facts.close()

        assert [0] * 6 == run(many_calls, 6)
        facts = open_facts()
        assert (Decimal("6.00"), 0) == (total(facts), facts.size()["holds"])
        facts.close()

    def test_four_start_together(self, open_facts: Open) -> None:
        """Tables are made once, whoever comes first."""
        gate = FORK.Barrier(4)

        def opened() -> None:
            gate.wait(60)
            open_facts().close()

        assert [0] * 4 == run(opened, 4)


class TestKill:
    def test_between_begin_and_settle(self, open_facts: Open) -> None:
        """What a killed process had taken stands, once: never lost, never double."""

        def killed() -> None:
            facts = open_facts()
            facts.begin(start(3), now())
            os.kill(os.getpid(), signal.SIGKILL)

        assert [-signal.SIGKILL] * 3 == run(killed, 3)
        facts = open_facts()
        assert (Decimal(9), 3 * 2) == (total(facts), facts.size()["holds"])
        hold = facts.begin(start(11), now())
        assert hold is not None
        assert facts.begin(start(1), now()) is None
        facts.settle(hold, Spent(usd=Decimal(1)), now())
        assert Decimal(10) == total(facts)
        facts.close()

    def test_at_any_moment(self, open_facts: Open) -> None:
        """Killed anywhere, a start is there whole or not at all: both counters say the same number of calls."""
        open_facts().close()

        def endless() -> None:
            facts = open_facts()
            while True:
                facts.begin(start(1, 100_000), now())

        for wait_s in (0.05, 0.1, 0.15, 0.2):
            process = FORK.Process(target=endless)
            process.start()
            time.sleep(wait_s)
            os.kill(process.pid or 0, signal.SIGKILL)
            process.join(60)
        facts = open_facts()
        # One reading: what the server still does for the killed one may end between two.
        found = facts.peek(Needs((KEY, OTHER)), now())
        assert ("", found.counters[KEY]) == (found.failure, found.counters[OTHER])
        facts.close()


class TestFork:
    def test_a_child_has_its_own_connection(self, open_facts: Open) -> None:
        """A child uses a store that its parent opened, and what was queued in the parent is written by the parent, once."""
        facts = open_facts()
        assert facts.begin(start(), now()) is not None
        facts._owed._jobs.append(facts_job := _job(lambda: facts._append("s", "user", '{"text": "x"}', 1)))

        def child() -> int:
            if facts._owed._jobs:
                return 8
            return 0 if facts.begin(start(), now()) is not None and total(facts) == 2 else 9

        assert [0] == run(child)
        assert [facts_job] == list(facts._owed._jobs)
        assert Decimal(2) == total(facts)
        facts.close()

    def test_while_a_thread_holds_the_locks(self, open_facts: Open) -> None:
        """Locks that a thread of the parent holds do not hang the child."""
        facts = open_facts()

        def child() -> None:
            facts.saw("s", "user", "mail bob@corp.example")
            view = facts.peek(Needs(session="s", values=("bob@corp.example",)), now())
            os._exit(0 if view.origins == {"bob@corp.example": frozenset({"user"})} else 9)

        with facts._replaying, facts._owed._lock, facts._owed._writing:
            process = FORK.Process(target=child)
            process.start()
        process.join(60)
        hangs = process.is_alive()
        process.kill()
        process.join(60)
        assert (False, 0) == (hangs, process.exitcode)
        facts.close()


def _job(run: Callable[[], None]) -> Any:
    from otel_runtime.policy.facts_owed import _Job

    return _Job(run, "a sighting", 0, None)


@pytest.fixture
def locked_file(tmp_path: Path) -> Iterator[tuple[SqlFacts, sqlite3.Connection]]:
    """A store whose file another program has locked for writing."""
    path = tmp_path / "state.db"
    facts = SqlFacts(SqliteTransactions(Database(path, [FACTS], busy_timeout_s=0.05, setup_timeout_s=30)), timeout_s=0.05)
    facts.open()
    other = sqlite3.connect(path, isolation_level=None)
    yield facts, other
    other.close()
    facts.close()


class TestAway:
    def test_nothing_begins(self, locked_file: tuple[SqlFacts, sqlite3.Connection]) -> None:
        """While the store cannot be written no body starts, and the error says what to do."""
        facts, other = locked_file
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match="locked by another process"):
            facts.begin(start(), now())
        other.execute("ROLLBACK")
        assert facts.begin(start(), now()) is not None

    def test_the_end_of_a_call_is_written_later(self, locked_file: tuple[SqlFacts, sqlite3.Connection]) -> None:
        """A real cost that could not be written is written before the next reading; until then reading fails closed."""
        facts, other = locked_file
        hold = facts.begin(start(3), now())
        assert hold is not None
        other.execute("BEGIN IMMEDIATE")
        facts.settle(hold, Spent(usd=Decimal(8)), now())
        view = facts.peek(Needs((KEY,)), now())
        assert ({}, True) == (dict(view.counters), "locked" in view.failure)
        other.execute("ROLLBACK")
        assert Decimal(8) == total(facts)

    def test_a_sighting_that_was_lost_makes_origins_unknown(self, locked_file: tuple[SqlFacts, sqlite3.Connection]) -> None:
        """Where there was no room to keep what a session saw, nothing is said about where its values come from."""
        facts, other = locked_file
        other.execute("BEGIN IMMEDIATE")
        for number in range(200):
            facts.saw("s", "tool:x", f"{number} " + "lorem " * 20_000)
        other.execute("ROLLBACK")
        facts.saw("t", "tool:x", "bob@corp.example")
        seen = {session: facts.peek(Needs(session=session, values=("bob@corp.example",)), now()).origins for session in "st"}
        assert seen["s"] is None
        assert seen["t"] is not None
        assert "tool:x" in seen["t"]["bob@corp.example"]

    def test_the_others_are_told_what_was_lost(
        self, locked_file: tuple[SqlFacts, sqlite3.Connection], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Whoever shares the store learns of which source something is missing, so that no value counts as never seen there."""
        facts, other = locked_file
        monkeypatch.setattr("otel_runtime.policy.facts_owed._MOST", 1)
        other.execute("BEGIN IMMEDIATE")
        facts.saw("s", "tool:kept", "ann@corp.example")
        facts.saw("s", "tool:x", "bob@corp.example")
        other.execute("ROLLBACK")
        facts.peek(Needs(session="s"), now())
        path = other.execute("PRAGMA database_list").fetchone()[2]
        theirs = SqlFacts(SqliteTransactions(Database(Path(path), [FACTS])))
        seen = theirs.peek(Needs(session="s", values=("bob@corp.example",)), now()).origins
        theirs.close()
        assert seen is not None
        assert {f"{LOST}tool:x"} == seen["bob@corp.example"]


class TestChangedFromOutside:
    def test_nothing_is_known(self, open_facts: Open) -> None:
        """Rows that something else changed make facts unknown and let nothing begin; they never raise while reading."""
        facts = open_facts()
        assert facts.begin(start(), now()) is not None
        with facts._store.writing() as statements:
            statements.run("UPDATE facts_counters SET total = 'much'")
        assert "cannot be read" in facts.peek(Needs((KEY,)), now()).failure
        with pytest.raises(ArithmeticError):
            facts.begin(start(), now())
        facts.close()


class TestEventLoop:
    def test_never_held_up(self, locked_file: tuple[SqlFacts, sqlite3.Connection]) -> None:
        """On an event loop noting and giving back only queue; another thread writes, in order."""
        facts, other = locked_file
        handed: list[Callable[[], None]] = []
        facts._owed._soon = handed.append
        hold = facts.begin(start(3), now())
        assert hold is not None
        other.execute("BEGIN IMMEDIATE")
        asyncio.run(self.note(facts, hold))
        assert (2, 2) == (len(handed), len(facts._owed._jobs))
        other.execute("ROLLBACK")
        thread = threading.Thread(target=handed[0])
        thread.start()
        thread.join(60)
        assert 0 == len(facts._owed._jobs)
        assert Decimal(0) == total(facts)

    async def note(self, facts: SqlFacts, hold: Any) -> None:
        facts.saw("s", "user", "mail bob@corp.example")
        facts.release(hold)
