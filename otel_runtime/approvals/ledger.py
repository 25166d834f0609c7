"""What may happen to a request inside one transaction: rows are checked when read, and sealed, conditional and recorded when changed."""

from __future__ import annotations

import hashlib
import secrets
import sqlite3
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from otel_runtime.approvals import store
from otel_runtime.approvals.protocol import Ask
from otel_runtime.approvals.records import Row, Seals, ask_question, read_vote, request_of, vote_text
from otel_runtime.audit.chain import microseconds
from otel_runtime.audit.log import AuditLog
from otel_runtime.errors import StoreError
from otel_runtime.values.approval import OPEN_STATES, ApprovalRequest, ApprovalState, Vote
from otel_runtime.values.decision import ApprovalTerms

__all__ = ["Ledger", "RowChanged", "dedupe_hash"]


class RowChanged(StoreError):
    """A row was changed by something other than this library; nothing it says is believed.

    Attributes:
        request_id: The request.
    """

    def __init__(self, request_id: str, path: str) -> None:
        self.request_id = request_id
        super().__init__(
            f"approval request `{request_id}` in `{path}` was changed by something other than otel-runtime, or the key file is another one; "
            "it cannot be used; run `otel-runtime audit verify`, then ask again",
            path=path,
        )


class Ledger:
    """The transitions of requests. Every method works inside the caller's transaction.

    Args:
        path: Name of the database, for errors.
        seals: Codes of rows and votes.
        audit: Where each change is recorded.
    """

    def __init__(self, path: str, seals: Seals, audit: AuditLog) -> None:
        self._path = path
        self._seals = seals
        self._audit = audit

    def checked(self, row: Row) -> Row:
        """The row itself.

        Raises:
            RowChanged: It is not sound.
        """
        if not self._seals.sound(row):
            raise RowChanged(row.id, self._path)
        return row

    def load(self, connection: sqlite3.Connection, request_id: str) -> Row | None:
        """The sound row of a request, or None.

        Raises:
            RowChanged: It is not sound.
        """
        row = store.load(connection, request_id)
        return None if row is None else self.checked(row)

    def current(self, connection: sqlite3.Connection, request_id: str, now: datetime) -> Row | None:
        """The same, marked expired first when its time is over; needs a write transaction."""
        row = self.load(connection, request_id)
        return None if row is None else self.settled(connection, row, now)

    def settled(self, connection: sqlite3.Connection, row: Row, now: datetime) -> Row:
        """The row, marked expired when its time is over."""
        if row.state not in OPEN_STATES or row.due_us > microseconds(now):
            return row
        decided = row.decided_us if row.decided_us is not None else microseconds(now)
        return self.change(connection, row, "expired", now, {"unused": row.state == "approved"}, decided_us=decided)

    def view(self, connection: sqlite3.Connection, row: Row) -> ApprovalRequest:
        """The request with the votes that count for its present call.

        Raises:
            RowChanged: A vote is not sound.
        """
        return request_of(row, tuple(self._vote(row, text, mac) for text, mac in store.votes(connection, row)))

    def create(self, connection: sqlite3.Connection, ask: Ask, terms: ApprovalTerms, now: datetime) -> Row:
        """A new request, waiting for approval.

        Raises:
            CannotEncode: An argument or fact has no exact text form.
        """
        request_id = secrets.token_hex(16)
        dedupe = dedupe_hash(ask.dedupe_key)
        asked, due = microseconds(now), microseconds(now + timedelta(seconds=terms.expires_s))
        question = ask_question(ask, terms, request_id, now)
        row = self._seals.sealed(
            Row(
                request_id,
                "awaiting-approval",
                1,
                ask.call_digest,
                dedupe,
                ask.supersedes,
                asked,
                due,
                None,
                None,
                None,
                question,
                b"",
                b"",
            )
        )
        store.insert(connection, row)
        self.note(connection, "approval.requested", row, now, {"tool": ask.action.name, "user": ask.action.user, "rule": ask.decision.rule})
        return row

    def change(
        self, connection: sqlite3.Connection, row: Row, state: ApprovalState, now: datetime, why: Mapping[str, object], **columns: Any
    ) -> Row:
        """Move a row on, on condition that it stands as it was read.

        Args:
            connection: In a write transaction.
            row: As it was read.
            state: Where it goes.
            now: Time of the change.
            why: Facts for the record.
            columns: Other columns that change with it.

        Raises:
            StoreError: It no longer stands so; a write transaction that read it first cannot see this.
        """
        changed = self._seals.sealed(replace(row, state=state, **columns))
        # A time limit binds answers and claims; everything else may come later.
        limit = microseconds(now) if state in ("approved", "denied", "executing", "awaiting-approval") else None
        if not store.move(connection, row, changed, limit):
            raise StoreError(f"approval request `{row.id}` changed while it was being changed; try again", path=self._path)
        self.note(connection, _KINDS.get(state, f"approval.{state}"), changed, now, why)
        return changed

    def add_vote(self, connection: sqlite3.Connection, row: Row, vote: Vote) -> None:
        """Store a vote on the row's present call."""
        text = vote_text(vote)
        store.add_vote(connection, row, text, self._seals.vote(row, text))
        facts = {"approver": vote.approver, "approved": vote.approved, "reason": vote.reason, "rules": list(vote.rules)}
        self.note(connection, "approval.answered", row, vote.at, facts)

    def was_claimed(self, connection: sqlite3.Connection, row: Row) -> bool:
        """True when the record says that this request was used once: a row set back by hand stays used."""
        return self._audit.has(connection, "approval.claimed", row.id)

    def note(self, connection: sqlite3.Connection, kind: str, row: Row, now: datetime, facts: Mapping[str, object]) -> None:
        """Record an event about a request."""
        about = {"state": row.state, "call_digest": row.call_digest, "revision": row.revision}
        self._audit.append(connection, kind, row.id, {**about, **facts}, now)

    def _vote(self, row: Row, text: object, mac: object) -> Vote:
        if not isinstance(text, str) or not self._seals.sound_vote(row, text, mac):
            raise RowChanged(row.id, self._path)
        return read_vote(text)


_KINDS: Mapping[ApprovalState, str] = {"executing": "approval.claimed", "awaiting-approval": "approval.edited"}


def dedupe_hash(key: str | None) -> str | None:
    """Hash under which a dedupe key is stored: it may hold any text of a provider."""
    return None if key is None else hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()
