"""The append-only record: events are added inside the transaction of what they tell of, and can be checked at any time."""

from __future__ import annotations

import hmac
import json
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TextIO

from otel_runtime.audit.chain import GENESIS, Event, code, from_microseconds, microseconds, payload_text, plain_text
from otel_runtime.audit.key import derive
from otel_runtime.errors import StoreError
from otel_runtime.storage.sqlite import Database

__all__ = ["AuditLog", "Verification"]

_PAGE = 500


@dataclass(frozen=True, slots=True)
class Verification:
    """What a check of the whole record found.

    Args:
        checked: Events that are sound, counted from the first.
        first_bad: Sequence number of the first bad one; None when the record is sound.
        problem: What is wrong with it; empty when sound.
        head: Code of the last sound event, hex; write it down elsewhere to prove later that nothing was cut off.
    """

    checked: int
    first_bad: int | None
    problem: str
    head: str

    @property
    def sound(self) -> bool:
        """True when nothing was changed, reordered or taken out."""
        return self.first_bad is None


class AuditLog:
    """The record in one database.

    Args:
        database: A database opened with the migration `AUDIT`.
        key: The secret from `load_or_create_key`.
        clock: Says what time it is, in UTC.
    """

    def __init__(self, database: Database, key: bytes, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._chain_key = derive(key, "audit-chain")
        self._head_key = derive(key, "audit-head")
        self._clock = clock

    def append(
        self, connection: sqlite3.Connection, kind: str, subject: str, payload: Mapping[str, object], at: datetime | None = None
    ) -> int:
        """Add an event to the caller's open write transaction.

        Args:
            connection: From `Database.writing`.
            kind: Dotted kind.
            subject: What it is about.
            payload: JSON data.
            at: When, in UTC; None asks the clock.

        Returns:
            Its sequence number.

        Raises:
            StoreError: The end of the record was changed from outside, so nothing may be added to it.
        """
        last, previous = self._head(connection)
        at_us = microseconds(at if at is not None else self._clock())
        row = (last + 1, at_us, plain_text(kind), plain_text(subject), payload_text(payload))
        mac = code(self._chain_key, previous, *row)
        connection.execute("INSERT INTO audit_events VALUES (?, ?, ?, ?, ?, ?)", (*row, mac))
        connection.execute("INSERT OR REPLACE INTO audit_head VALUES (1, ?, ?, ?)", (last + 1, mac, self._seal(last + 1, mac)))
        return last + 1

    def has(self, connection: sqlite3.Connection, kind: str, subject: str) -> bool:
        """True when an event of this kind was recorded about the subject."""
        found = connection.execute(
            "SELECT 1 FROM audit_events WHERE subject = ? AND kind = ? LIMIT 1", (plain_text(subject), plain_text(kind))
        )
        return found.fetchone() is not None

    def events(self, subject: str | None = None) -> Iterator[Event]:
        """Every event, oldest first; with a subject, only those about it.

        Raises:
            StoreError: The database cannot be read.
        """
        last = 0
        # Page by page: a consumer that stops half-way leaves no transaction open.
        while page := self._page(last, subject):
            yield from page
            last = page[-1].seq

    def verify(self) -> Verification:
        """Check every event, the order, and that none is missing, also at the end.

        Events cut off together with an older copy of the head, or a restored backup, are only found by comparing `head` with one
        that was kept elsewhere.
        """
        checked, previous = 0, GENESIS
        with self._database.reading() as connection:
            for *fields, mac in connection.execute("SELECT seq, at_us, kind, subject, payload, mac FROM audit_events ORDER BY seq"):
                if problem := self._problem(fields, mac, checked + 1, previous):
                    return Verification(checked, checked + 1, problem, previous.hex())
                checked, previous = checked + 1, bytes(mac)
            problem = self._end_problem(connection, checked, previous)
        return Verification(checked, checked + 1 if problem else None, problem, previous.hex())

    def export(self, out: TextIO) -> int:
        """Write every event as one JSON object per line.

        Returns:
            How many were written.
        """
        count = 0
        for event in self.events():
            line = {"seq": event.seq, "at": event.at.isoformat(), "kind": event.kind, "subject": event.subject}
            out.write(json.dumps({**line, "payload": json.loads(event.payload), "mac": event.mac.hex()}) + "\n")
            count += 1
        return count

    def _page(self, after: int, subject: str | None) -> list[Event]:
        columns = "SELECT seq, at_us, kind, subject, payload, mac FROM audit_events"
        with self._database.reading() as connection:
            if subject is None:
                rows = connection.execute(f"{columns} WHERE seq > ? ORDER BY seq LIMIT ?", (after, _PAGE))
            else:
                rows = connection.execute(
                    f"{columns} WHERE seq > ? AND subject = ? ORDER BY seq LIMIT ?", (after, plain_text(subject), _PAGE)
                )
            return [_event(row) for row in rows]

    def _problem(self, fields: list[Any], mac: object, expected: int, previous: bytes) -> str:
        # Any: a row changed from outside may hold anything.
        if fields[0] != expected:
            return f"event {expected} is missing; the next one there is {fields[0]}"
        readable = all(isinstance(field, int | str) for field in fields)
        if readable and isinstance(mac, bytes) and hmac.compare_digest(code(self._chain_key, previous, *fields), mac):
            return ""
        return f"event {expected} was changed, or moved from another place"

    def _end_problem(self, connection: sqlite3.Connection, checked: int, previous: bytes) -> str:
        try:
            last, mac = self._head(connection)
        except StoreError as error:
            return str(error)
        if (last, mac) == (checked, previous):
            return ""
        return f"event {checked + 1} is missing: the record ends at {checked} and had {last} events"

    def _head(self, connection: sqlite3.Connection) -> tuple[int, bytes]:
        row = connection.execute("SELECT seq, mac, seal FROM audit_head").fetchone()
        if row is None and connection.execute("SELECT 1 FROM audit_events LIMIT 1").fetchone() is None:
            return 0, GENESIS
        if row is None or not hmac.compare_digest(self._seal(row[0], bytes(row[1])), bytes(row[2])):
            raise StoreError(
                f"the head of the audit record in `{self._database.path}` was changed by something else, or the key file is another one; "
                "run `otel-runtime audit verify`, keep the file as evidence and start with a new one",
                path=str(self._database.path),
            )
        return int(row[0]), bytes(row[1])

    def _seal(self, seq: int, mac: bytes) -> bytes:
        return hmac.digest(self._head_key, f"{seq}:{mac.hex()}".encode(), "sha256")


def _event(row: tuple[int, int, str, str, str, bytes]) -> Event:
    seq, at_us, kind, subject, payload, mac = row
    return Event(seq, from_microseconds(at_us), kind, subject, payload, bytes(mac))
