"""`audit verify` and `audit export`."""

from __future__ import annotations

import io
import json
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from otel_runtime.audit.log import AuditLog
from otel_runtime.audit.schema import AUDIT
from otel_runtime.cli.audit import export, verify
from otel_runtime.storage.sqlite import Database


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    made = Database(tmp_path / "state.db", [AUDIT])
    yield made
    made.close()


@pytest.fixture
def log(database: Database) -> AuditLog:
    made = AuditLog(database, b"k" * 32, lambda: datetime(2026, 11, 20, tzinfo=UTC))
    for number in range(3):
        with database.writing() as connection:
            made.append(connection, "note", "s", {"number": number})
    return made


class TestVerify:
    def test_sound(self, log: AuditLog) -> None:
        """A sound record is said so, with its length and head."""
        out = io.StringIO()
        assert (0, f"the record is sound: 3 events, head {log.verify().head}\n") == (verify(log, out), out.getvalue())

    def test_broken(self, database: Database, log: AuditLog) -> None:
        """A broken record names the first bad event and exits with 1."""
        connection = sqlite3.connect(database.path)
        connection.executescript("DROP TRIGGER audit_events_last; DELETE FROM audit_events WHERE seq = 2")
        connection.close()
        out = io.StringIO()
        assert (1, True) == (verify(log, out), "broken at event 2" in out.getvalue())


class TestExport:
    def test_lines(self, log: AuditLog) -> None:
        """Every event is a line of JSON."""
        out = io.StringIO()
        assert (0, [0, 1, 2]) == (export(log, out), [json.loads(line)["payload"]["number"] for line in out.getvalue().splitlines()])
