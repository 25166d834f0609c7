"""Ctrl-C while SQLite runs a statement of a transaction: it happened or did not, and the database can be used."""

from __future__ import annotations

import _thread
import signal
import sqlite3
from collections.abc import Callable
from functools import partial
from itertools import chain, repeat
from pathlib import Path

import pytest

from otel_runtime.storage.migrations import Migration
from otel_runtime.storage.sqlite import Database

NOTES = Migration("notes", (("CREATE TABLE notes (text TEXT)",),))


def alone(database: Database, text: str) -> None:
    with database.writing() as connection:
        connection.execute("INSERT INTO notes VALUES (?)", (text,))


def joined(database: Database, text: str) -> None:
    with database.together():
        alone(database, text)


class TestInterrupted:
    @pytest.mark.parametrize("write", [alone, joined])
    def test_at_every_step(self, tmp_path: Path, write: Callable[[Database, str], None]) -> None:
        """No transaction stays open, which would lock every other process out, and the next one of this thread is stored."""
        database = Database(tmp_path / "state.db", (NOTES,))
        with database.writing() as connection:
            pass
        other = sqlite3.connect(tmp_path / "state.db", timeout=0)
        at, interrupted = 0, True
        while interrupted:
            at += 1
            # SQLite calls it at each of its steps. No Python code of its own runs, in which the signal would be handled: that is as it is
            # with a key, which is noticed when the statement is done.
            steps = chain(repeat(0, at - 1), map(_thread.interrupt_main, [signal.SIGINT]))
            connection.set_progress_handler(partial(next, steps, 0), 1)
            try:
                write(database, f"interrupted {at}")
            except KeyboardInterrupt:
                interrupted = True
            else:
                interrupted = False
            connection.set_progress_handler(None, 1)
            with other:
                other.execute("INSERT INTO notes VALUES ('other')")
            write(database, f"next {at}")
            assert other.execute("SELECT count(*) FROM notes WHERE text = ?", (f"next {at}",)).fetchone() == (1,), f"at step {at}"
        assert at > 3
        other.close()
        database.close()
