"""Every SQL statement of the approvals room, each taking an open connection. Values only ever travel as parameters."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Collection, Sequence
from dataclasses import astuple

from otel_runtime.approvals.records import Row
from otel_runtime.values.approval import ApprovalState

__all__ = [
    "add_vote",
    "attach_trace",
    "due",
    "ids_starting",
    "insert",
    "load",
    "move",
    "newest",
    "of_dedupe",
    "states",
    "successor",
    "votes",
]

_COLUMNS = "id, state, revision, call_digest, dedupe, supersedes, requested_us, due_us, decided_us, owner, trace, question, question_mac, state_mac"
_SELECT = f"SELECT {_COLUMNS} FROM approval_requests"  # noqa: S608 - a constant
_OPEN = "('awaiting-approval', 'approved')"
_ID = re.compile(r"[0-9a-f]{1,32}")
# SQLite takes 999 parameters in its oldest supported builds.
_MANY = 900


def insert(connection: sqlite3.Connection, row: Row) -> None:
    """Store a new request."""
    connection.execute(f"INSERT INTO approval_requests ({_COLUMNS}) VALUES ({', '.join('?' * 14)})", astuple(row))  # noqa: S608


def load(connection: sqlite3.Connection, request_id: str) -> Row | None:
    """The row of a request; None when there is none, or the id cannot be one."""
    if not _ID.fullmatch(request_id):
        return None
    return _first(connection.execute(f"{_SELECT} WHERE id = ?", (request_id,)))


def move(connection: sqlite3.Connection, old: Row, new: Row, now_us: int | None) -> bool:
    """Change a row's state on condition that it stands as it was read; True when this call won.

    Args:
        connection: In a write transaction.
        old: The row as it was read.
        new: The row as it shall be, sealed.
        now_us: When given, the row must not be due yet.
    """
    changed = connection.execute(
        "UPDATE approval_requests SET state = ?, revision = ?, call_digest = ?, due_us = ?, decided_us = ?, owner = ?, question = ?, "
        "question_mac = ?, state_mac = ? WHERE id = ? AND state = ? AND revision = ? AND call_digest = ? AND due_us > ?",
        (
            *(
                new.state,
                new.revision,
                new.call_digest,
                new.due_us,
                new.decided_us,
                new.owner,
                new.question,
                new.question_mac,
                new.state_mac,
            ),
            *(old.id, old.state, old.revision, old.call_digest, -(1 << 62) if now_us is None else now_us),
        ),
    )
    return changed.rowcount == 1


def attach_trace(connection: sqlite3.Connection, request_id: str, text: str) -> None:
    """Remember the span `approval requested`."""
    connection.execute("UPDATE approval_requests SET trace = ? WHERE id = ?", (text, request_id))


def add_vote(connection: sqlite3.Connection, row: Row, text: str, mac: bytes) -> None:
    """Store a vote on the row's revision."""
    connection.execute("INSERT INTO approval_votes (request, revision, vote, mac) VALUES (?, ?, ?, ?)", (row.id, row.revision, text, mac))


def votes(connection: sqlite3.Connection, row: Row) -> list[tuple[object, object]]:
    """Text and code of each vote on the row's revision, oldest first."""
    found = connection.execute(
        "SELECT vote, mac FROM approval_votes WHERE request = ? AND revision = ? ORDER BY number", (row.id, row.revision)
    )
    return [(text, mac) for text, mac in found]


def of_dedupe(connection: sqlite3.Connection, dedupe: str, states: Sequence[ApprovalState]) -> Row | None:
    """The newest row of a dedupe hash in one of the states."""
    marks = ", ".join("?" * len(states))
    order = "ORDER BY requested_us DESC, rowid DESC LIMIT 1"
    return _first(connection.execute(f"{_SELECT} WHERE dedupe = ? AND state IN ({marks}) {order}", (dedupe, *states)))


def successor(connection: sqlite3.Connection, request_id: str) -> Row | None:
    """The request that replaced this one."""
    return _first(connection.execute(f"{_SELECT} WHERE supersedes = ? ORDER BY rowid DESC LIMIT 1", (request_id,)))


def due(connection: sqlite3.Connection, now_us: int, limit: int) -> list[Row]:
    """Open rows whose time is over, the longest over first."""
    found = connection.execute(f"{_SELECT} WHERE state IN {_OPEN} AND due_us <= ? ORDER BY due_us LIMIT ?", (now_us, limit))
    return [Row(*values) for values in found]


def newest(connection: sqlite3.Connection, states: Sequence[ApprovalState], limit: int) -> list[Row]:
    """Rows, newest first; all states when none is given."""
    where = f"WHERE state IN ({', '.join('?' * len(states))})" if states else ""
    found = connection.execute(f"{_SELECT} {where} ORDER BY requested_us DESC, rowid DESC LIMIT ?", (*states, limit))
    return [Row(*values) for values in found]


def states(connection: sqlite3.Connection, ids: Collection[str]) -> dict[str, tuple[str, int]]:
    """State and due time of each request that exists."""
    known = [each for each in ids if _ID.fullmatch(each)]
    found: dict[str, tuple[str, int]] = {}
    for start in range(0, len(known), _MANY):
        some = known[start : start + _MANY]
        marks = ", ".join("?" * len(some))
        rows = connection.execute(f"SELECT id, state, due_us FROM approval_requests WHERE id IN ({marks})", some)  # noqa: S608
        found.update({each: (state, due_us) for each, state, due_us in rows})
    return found


def ids_starting(connection: sqlite3.Connection, prefix: str, limit: int) -> list[str]:
    """Ids that begin with a prefix of hex digits."""
    if not _ID.fullmatch(prefix):
        return []
    # `g` comes right after the last hex digit.
    found = connection.execute(
        "SELECT id FROM approval_requests WHERE id >= ? AND id < ? ORDER BY id LIMIT ?", (prefix, prefix + "g", limit)
    )
    return [str(each) for (each,) in found]


def _first(found: sqlite3.Cursor) -> Row | None:
    values = found.fetchone()
    return None if values is None else Row(*values)
