"""The claim: the one conditional write after which a body runs. Works inside one write transaction."""

from __future__ import annotations

import sqlite3
from datetime import datetime

from otel_runtime.approvals.answering import Teller
from otel_runtime.approvals.ledger import Ledger
from otel_runtime.approvals.owner import owner_text, this_process
from otel_runtime.approvals.protocol import Claim, ClaimRefused
from otel_runtime.approvals.records import Row
from otel_runtime.values.approval import ApprovalRequest

__all__ = ["claimed"]


def claimed(
    connection: sqlite3.Connection,
    ledger: Ledger,
    teller: Teller,
    request_id: str,
    call_digest: str,
    requirement_digest: str,
    now: datetime,
) -> Claim | ClaimRefused:
    """Move an approved request to `executing` for exactly this call, or say why the body must not run.

    Raises:
        RowChanged: The row or a vote on it is not ours.
        StoreError: The database failed.
    """
    row = ledger.current(connection, request_id, now)
    if row is None:
        return ClaimRefused(None, "missing", None)
    request = ledger.view(connection, row)
    if row.state != "approved":
        return ClaimRefused(row.state, "expired" if row.state == "expired" else "state", request)
    if refusal := _refusal(connection, ledger, teller, row, request, call_digest, requirement_digest):
        return refusal
    owner = this_process()
    row = ledger.change(connection, row, "executing", now, {"host": owner.host, "pid": owner.pid}, owner=owner_text(owner))
    return Claim(ledger.view(connection, row))


def _refusal(
    connection: sqlite3.Connection,
    ledger: Ledger,
    teller: Teller,
    row: Row,
    request: ApprovalRequest,
    call_digest: str,
    requirement_digest: str,
) -> ClaimRefused | None:
    if row.call_digest != call_digest or request.call_digest != call_digest:
        return ClaimRefused(row.state, "digest", request)
    # The state alone proves nothing: the votes are counted again, by the roles people have now.
    if request.requirement_digest != requirement_digest or teller.missing(request) or any(not vote.approved for vote in request.votes):
        return ClaimRefused(row.state, "votes", request)
    # A whole older copy of the row has sound seals; the record still knows that it was used.
    if ledger.was_claimed(connection, row):
        return ClaimRefused(row.state, "authentication", request)
    return None
