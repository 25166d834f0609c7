"""Finding the request that asks for this very call already, so that a restarted agent does not ask twice."""

from __future__ import annotations

import sqlite3
from datetime import datetime

from otel_runtime.approvals import store
from otel_runtime.approvals.ledger import Ledger, dedupe_hash
from otel_runtime.approvals.protocol import Ask
from otel_runtime.approvals.records import Row
from otel_runtime.approvals.terms import requirement_digest
from otel_runtime.audit.chain import microseconds
from otel_runtime.errors import RuntimeStateError
from otel_runtime.values.approval import OPEN_STATES, ApprovalRequest
from otel_runtime.values.decision import ApprovalTerms

__all__ = ["find_again", "terms_of"]


def terms_of(ask: Ask) -> ApprovalTerms:
    """The terms of a question.

    Raises:
        RuntimeStateError: The decision asks nobody.
    """
    if ask.decision.approval is None or not ask.decision.approval.requirements:
        raise RuntimeStateError(
            f"the decision `{ask.decision.value}` on `{ask.action.name}` names nobody to ask; expected `require-approval` with its terms"
        )
    return ask.decision.approval


def find_again(
    connection: sqlite3.Connection, ledger: Ledger, ask: Ask, terms: ApprovalTerms, now: datetime
) -> tuple[Row | None, Row | None]:
    """The request to use again, or the outdated one that the new request replaces.

    Used requests are never found; a denied one only when the provider's own call id says that it is the same call.
    """
    dedupe = dedupe_hash(ask.dedupe_key)
    if dedupe is None:
        return None, None
    row = store.of_dedupe(connection, dedupe, ("awaiting-approval", "approved"))
    if row is not None:
        row = ledger.settled(connection, ledger.checked(row), now)
        if row.state in OPEN_STATES:
            if _asks_the_same(row, ledger.view(connection, row), ask, terms):
                return row, None
            decided = row.decided_us if row.decided_us is not None else microseconds(now)
            return None, ledger.change(connection, row, "superseded", now, {}, decided_us=decided)
    return (_denied(connection, ledger, dedupe, ask) if ask.explicit_call else None), None


def _denied(connection: sqlite3.Connection, ledger: Ledger, dedupe: str, ask: Ask) -> Row | None:
    row = store.of_dedupe(connection, dedupe, ("denied",))
    if row is None:
        return None
    request = ledger.view(connection, ledger.checked(row))
    return row if ask.call_digest in (request.call_digest, request.edited_from) else None


def _asks_the_same(row: Row, request: ApprovalRequest, ask: Ask, terms: ApprovalTerms) -> bool:
    if ask.call_digest not in (request.call_digest, request.edited_from):
        return False
    # An edited call has terms of its own, and votes already given are judged at the claim.
    kept = row.state == "approved" or request.edited_from is not None
    return kept or request.requirement_digest == requirement_digest(terms)
