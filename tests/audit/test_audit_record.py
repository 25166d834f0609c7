"""The record: authenticated, append-only, and checkable."""

from __future__ import annotations

import errno
import io
import json
import os
import sqlite3
import stat
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_runtime.audit.chain import from_microseconds, microseconds
from otel_runtime.audit.decisions import DecisionLog
from otel_runtime.audit.key import key_path_for, load_or_create_key
from otel_runtime.audit.log import AuditLog
from otel_runtime.audit.schema import AUDIT
from otel_runtime.errors import StoreError
from otel_runtime.storage.sqlite import Database
from otel_runtime.values.action import Action
from otel_runtime.values.decision import Decision, RuleMatch
from otel_runtime.values.trace import TraceRef

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    made = Database(tmp_path / "state.db", [AUDIT])
    yield made
    made.close()


@pytest.fixture
def log(database: Database) -> AuditLog:
    made = AuditLog(database, b"k" * 32, lambda: NOON)
    for number in range(5):
        with database.writing() as connection:
            made.append(connection, "note", f"s{number % 2}", {"number": number})
    return made


def by_hand(database: Database, *statements: str) -> None:
    """What somebody with write access to the file can do."""
    connection = sqlite3.connect(database.path)
    connection.executescript("DROP TRIGGER IF EXISTS audit_events_stay; DROP TRIGGER IF EXISTS audit_events_last;" + ";".join(statements))
    connection.close()


class TestKey:
    def test_made_once(self, tmp_path: Path) -> None:
        """The first start makes 32 private bytes beside the database, later ones read them."""
        state = tmp_path / "home" / "state.db"
        first, second = load_or_create_key(state), load_or_create_key(state)
        mode = stat.S_IMODE(key_path_for(state).stat().st_mode)
        assert (first, 32, 0o600, "state.db.key") == (second, len(first), mode, key_path_for(state).name)

    def test_missing_beside_a_database(self, database: Database) -> None:
        """A database without its key is refused: a new key would make everything in it look forged."""
        database.open()
        with pytest.raises(StoreError, match="is missing but its database"):
            load_or_create_key(database.path)

    def test_damaged(self, tmp_path: Path) -> None:
        """A file of another length is no key."""
        (tmp_path / "k").write_bytes(b"short")
        with pytest.raises(StoreError, match="expected 32 bytes, got 5"):
            load_or_create_key(tmp_path / "state.db", tmp_path / "k")

    def test_open_to_everyone(self, tmp_path: Path) -> None:
        """A key that every user can read is refused with the command that mends it."""
        load_or_create_key(tmp_path / "state.db")
        key_path_for(tmp_path / "state.db").chmod(0o644)
        with pytest.raises(StoreError, match="chmod 600"):
            load_or_create_key(tmp_path / "state.db")

    def test_full_disk(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A key that finds no room on the disk says so, and not that permissions were wrong."""

        def full(*_: object) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(StoreError, match="free some space"):
            load_or_create_key(tmp_path / "state.db")

    def test_directory(self, tmp_path: Path) -> None:
        """A directory in its place is reported as a store error."""
        (tmp_path / "k").mkdir()
        with pytest.raises(StoreError, match="cannot be used"):
            load_or_create_key(tmp_path / "state.db", tmp_path / "k")


class TestVerify:
    def test_sound(self, log: AuditLog) -> None:
        """An untouched record is sound, and says how long it is."""
        found = log.verify()
        assert (True, 5, None, "") == (found.sound, found.checked, found.first_bad, found.problem)

    def test_empty(self, database: Database) -> None:
        """An empty record is sound."""
        assert (True, 0) == ((found := AuditLog(database, b"k" * 32, lambda: NOON).verify()).sound, found.checked)

    @pytest.mark.parametrize(
        ("change", "first_bad"),
        [
            ("UPDATE audit_events SET payload = '{\"number\":9}' WHERE seq = 3", 3),
            ("UPDATE audit_events SET at_us = at_us + 1 WHERE seq = 1", 1),
            ("UPDATE audit_events SET at_us = x'00' WHERE seq = 2", 2),
            ("UPDATE audit_events SET mac = 5 WHERE seq = 2", 2),
            ("UPDATE audit_events SET kind = 'other' WHERE seq = 5", 5),
            ("DELETE FROM audit_events WHERE seq = 2", 2),
            ("DELETE FROM audit_events WHERE seq = 1", 1),
            ("DELETE FROM audit_events WHERE seq >= 4", 4),
            ("DELETE FROM audit_events", 1),
            ("UPDATE audit_events SET seq = -seq; UPDATE audit_events SET seq = CASE seq WHEN -2 THEN 3 WHEN -3 THEN 2 ELSE -seq END", 2),
            ("INSERT INTO audit_events SELECT 6, at_us, kind, subject, payload, mac FROM audit_events WHERE seq = 5", 6),
            (
                "UPDATE audit_head SET seq = 4, mac = (SELECT mac FROM audit_events WHERE seq = 4); DELETE FROM audit_events WHERE seq = 5",
                5,
            ),
            ("DELETE FROM audit_head", 6),
        ],
    )
    def test_names_the_first_bad_event(self, database: Database, log: AuditLog, change: str, first_bad: int) -> None:
        """Edits, deletion anywhere, reordering and copies are found where they start."""
        by_hand(database, change)
        assert first_bad == log.verify().first_bad

    def test_another_key(self, database: Database, log: AuditLog) -> None:
        """With another key nothing is sound."""
        assert log.verify().sound
        assert 1 == AuditLog(database, b"x" * 32, lambda: NOON).verify().first_bad

    def test_a_tampered_end_takes_no_more_events(self, database: Database, log: AuditLog) -> None:
        """Nothing is appended to a record whose end was forged."""
        by_hand(database, "UPDATE audit_head SET seq = 3")
        with pytest.raises(StoreError, match="audit verify"), database.writing() as connection:
            log.append(connection, "note", "s", {})


class TestAppend:
    def test_belongs_to_the_transaction(self, database: Database, log: AuditLog) -> None:
        """An event of a transaction that failed never was."""
        with pytest.raises(ZeroDivisionError), database.writing() as connection:
            connection.execute("SELECT ?", (log.append(connection, "note", "lost", {}) // 0,))
        assert (True, 5) == ((found := log.verify()).sound, found.checked)

    def test_never_changed(self, database: Database, log: AuditLog) -> None:
        """Our own code cannot change or delete an event either."""
        assert log.verify().sound
        for statement in ("UPDATE audit_events SET kind = 'x'", "DELETE FROM audit_events"):
            with pytest.raises(StoreError), database.writing() as connection:
                connection.execute(statement)

    def test_any_text(self, database: Database, log: AuditLog) -> None:
        """Lone surrogates and quotes of a hostile tool name are stored, and stay verifiable."""
        with database.writing() as connection:
            log.append(connection, "note", "\ud800'; DROP TABLE audit_events; --", {"x": "\udfff"})
        assert log.verify().sound

    @given(st.datetimes(min_value=datetime(1971, 1, 1), max_value=datetime(2200, 1, 1), timezones=st.just(UTC)))  # noqa: DTZ001
    def test_times_are_exact(self, moment: datetime) -> None:
        """A time comes back to the microsecond."""
        assert moment == from_microseconds(microseconds(moment))


class TestExport:
    def test_one_object_per_line(self, log: AuditLog) -> None:
        """Every event is one JSON line, in order."""
        out = io.StringIO()
        count = log.export(out)
        lines = [json.loads(line) for line in out.getvalue().splitlines()]
        assert (5, [1, 2, 3, 4, 5], {"number": 2}) == (count, [line["seq"] for line in lines], lines[2]["payload"])

    def test_by_subject(self, log: AuditLog) -> None:
        """Events of one subject can be read alone."""
        assert [2, 4] == [event.seq for event in log.events("s1")]


class TestDecisionLog:
    ACTION = Action(
        "tool", "send_email", {"to": "secret@corp.example"}, user="carla", agents=("outer", "inner"), session="s1", run="r1", call_id="c1"
    )

    def test_refusals_only(self, database: Database, log: AuditLog) -> None:
        """A plain allow is not recorded; a refusal, and what shadow mode would have refused, is."""
        decisions = DecisionLog(database, log)
        recorded = [
            decisions.record(self.ACTION, Decision("allow", "fine")),
            decisions.record(self.ACTION, Decision("deny", "no", rule="mail")),
            decisions.record(self.ACTION, Decision("allow", "shadow", shadow=True, would_be="deny")),
        ]
        assert [None, 6, 7] == recorded

    def test_joined_to_the_trace(self, database: Database, log: AuditLog) -> None:
        """The event carries what a reader joins on, and never the arguments."""
        decision = Decision("deny", "no", rule="mail", policy_digest="pd", input_digest="id", matched=(RuleMatch("mail", "deny", "true"),))
        DecisionLog(database, log).record(self.ACTION, decision, TraceRef("a" * 32, "b" * 16))
        event = next(log.events("send_email"))
        payload = json.loads(event.payload)
        assert ("decision", NOON) == (event.kind, event.at)
        expected = {"decision": "deny", "rule": "mail", "user": "carla", "agents": ["outer", "inner"], "session": "s1", "run": "r1"}
        expected |= {"call_id": "c1", "policy_digest": "pd", "input_digest": "id", "trace_id": "a" * 32, "span_id": "b" * 16}
        assert expected == {key: payload[key] for key in expected}
        assert "secret@corp.example" not in event.payload
