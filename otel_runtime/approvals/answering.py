"""Taking an answer: who may give it, what it counts for, and who was first. Works inside one write transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from otel_runtime.approvals.answers import Answer, AnswerRefused, Redecide, Redecided, Refusal, decision_of
from otel_runtime.approvals.encoding import encode
from otel_runtime.approvals.ledger import Ledger
from otel_runtime.approvals.records import Row, edit_question
from otel_runtime.approvals.terms import entitled_rules, missing_votes, same_person
from otel_runtime.audit.chain import microseconds
from otel_runtime.values.approval import ApprovalRequest, Vote
from otel_runtime.values.decision import ApprovalTerms

__all__ = ["Ballot", "Teller", "edited_ballot"]


@dataclass(frozen=True, slots=True)
class Ballot:
    """One person's answer on its way into the store.

    Args:
        approver: Identity from the surface.
        approved: Yes or no.
        reason: What the person wrote.
        edited: The call as the person changed it; None when unchanged.
        seen: Call digest the edit was made on.
    """

    approver: str
    approved: bool
    reason: str = ""
    edited: Redecided | None = None
    seen: str = ""


def edited_ballot(request: ApprovalRequest, ballot: Ballot, edits: Mapping[str, object], redecide: Redecide | None) -> Ballot:
    """The ballot with the edited call, decided anew. Runs before the transaction: deciding may take time.

    Raises:
        AnswerRefused: The edit is not allowed, or policy refuses the edited call.
    """
    if not ballot.approved:
        raise _refused(request, "edit", "a denial carries no edits; leave them out")
    if fixed := sorted(set(edits) - request.terms.edit):
        allowed = ", ".join(f"`{name}`" for name in sorted(request.terms.edit)) or "none"
        raise _refused(request, "edit", f"`{fixed[0]}` may not be edited (editable: {allowed})")
    if redecide is None:
        raise _refused(request, "edit", "this surface cannot decide the edited call; answer without edits")
    edited = redecide(request, edits)
    if edited.decision.value in ("deny", "retryable-failure"):
        raise _refused(request, "policy", f"the edited call is refused by policy: {edited.decision.reason}")
    if _untouched(request.input, edits) != _untouched(edited.args, edits):
        raise _refused(request, "changed", "the edited call differs in arguments that were not edited")
    return replace(ballot, edited=edited, seen=request.call_digest)


class Teller:
    """Counts answers.

    Args:
        ledger: Where rows change.
        people: Role names by plain name.
    """

    def __init__(self, ledger: Ledger, people: Mapping[str, frozenset[str]]) -> None:
        self._ledger = ledger
        self._people = people

    def take(self, connection: sqlite3.Connection, request_id: str, ballot: Ballot, now: datetime) -> Answer | AnswerRefused:
        """Take an answer, or say why not. A refusal is returned, not raised: an expiry noticed on the way must be stored."""
        row = self._ledger.current(connection, request_id, now)
        if row is None:
            return AnswerRefused(f"there is no approval request `{request_id}`", request_id=request_id, why="missing")
        request = self._ledger.view(connection, row)
        if row.state != "awaiting-approval":
            return _late(request, ballot)
        if refusal := self._not_entitled(request, ballot):
            return refusal
        if ballot.edited is None:
            return self._count(connection, row, request, ballot, now)
        if ballot.seen != row.call_digest:
            return _refused(request, "changed", "somebody else edited the call meanwhile; look at it again")
        row = self._edit(connection, row, request, ballot.edited, now)
        request = self._ledger.view(connection, row)
        if self._not_entitled(request, ballot):
            # The edited call asks for other people: it waits for them, without this vote.
            return Answer(request, missing=self._missing(request))
        return self._count(connection, row, request, ballot, now)

    def missing(self, request: ApprovalRequest) -> Mapping[str, int]:
        """Approvals still needed, by rule id; votes of people who lost their role do not count."""
        return self._missing(request)

    def _missing(self, request: ApprovalRequest) -> dict[str, int]:
        return missing_votes(request.terms, request.votes, request.user, self._people)

    def _not_entitled(self, request: ApprovalRequest, ballot: Ballot) -> AnswerRefused | None:
        if entitled_rules(request.terms, ballot.approver, request.user, self._people):
            return None
        if request.user is not None and same_person(ballot.approver, request.user):
            return _refused(
                request, "entitled", f"`{ballot.approver}` is the person the call acts for, and nobody approves their own call here"
            )
        return _refused(request, "entitled", f"`{ballot.approver}` may not answer it; expected {_wanted(request.terms)}")

    def _count(self, connection: sqlite3.Connection, row: Row, request: ApprovalRequest, ballot: Ballot, now: datetime) -> Answer:
        rules = entitled_rules(request.terms, ballot.approver, request.user, self._people)
        if ballot.approved and _said_before(request, ballot, rules):
            return Answer(request, repeated=True, missing=self._missing(request))
        self._ledger.add_vote(connection, row, Vote(ballot.approver, ballot.approved, now, rules, ballot.reason))
        request = self._ledger.view(connection, row)
        missing = self._missing(request) if ballot.approved else {}
        if missing:
            return Answer(request, missing=missing)
        return Answer(self._ledger.view(connection, self._close(connection, row, request, ballot, now)))

    def _close(self, connection: sqlite3.Connection, row: Row, request: ApprovalRequest, ballot: Ballot, now: datetime) -> Row:
        facts = {"approver": ballot.approver, "reason": ballot.reason}
        if not ballot.approved:
            return self._ledger.change(connection, row, "denied", now, facts, decided_us=microseconds(now))
        due = row.due_us
        if request.terms.use_within_s is not None:
            due = microseconds(now + timedelta(seconds=request.terms.use_within_s))
        return self._ledger.change(connection, row, "approved", now, facts, decided_us=microseconds(now), due_us=due)

    def _edit(self, connection: sqlite3.Connection, row: Row, request: ApprovalRequest, edited: Redecided, now: datetime) -> Row:
        terms = edited.decision.approval or request.terms
        question = edit_question(request, edited.args, edited.call_digest, terms, edited.decision.policy_digest)
        facts = {"edited_from": request.call_digest}
        # A new revision: the votes on the old call stay on record and count for nothing.
        return self._ledger.change(
            connection, row, "awaiting-approval", now, facts, revision=row.revision + 1, call_digest=edited.call_digest, question=question
        )


def _late(request: ApprovalRequest, ballot: Ballot) -> Answer | AnswerRefused:
    decision = decision_of(request)
    decided = decision is not None and (decision.approved or decision.state == "denied")
    mine = any(vote.approved == ballot.approved and same_person(vote.approver, ballot.approver) for vote in request.votes)
    if decided and decision is not None and decision.approved == ballot.approved and mine and ballot.edited is None:
        return Answer(request, repeated=True)
    winner = decision.approver if decision else None
    if request.state == "expired":
        return _refused(request, "expired", f"it expired at {request.expires_at.isoformat(timespec='seconds')}")
    moment = f" at {request.decided_at.isoformat(timespec='seconds')}" if request.decided_at else ""
    return _refused(
        request, "state", f"it is {request.state} already" + (f": `{winner}` answered first{moment}" if winner else moment), winner
    )


def _said_before(request: ApprovalRequest, ballot: Ballot, rules: tuple[str, ...]) -> bool:
    earlier = (vote for vote in request.votes if vote.approved and same_person(vote.approver, ballot.approver))
    return any(set(rules) <= set(vote.rules) for vote in earlier)


def _wanted(terms: ApprovalTerms) -> str:
    return "; ".join(f"{req.quorum} of {', '.join(f'`{entry}`' for entry in req.approvers)}" for req in terms.requirements)


def _untouched(args: Mapping[str, object], edits: Mapping[str, object]) -> dict[str, str]:
    # Compared as stored text: 1 and True are equal in Python and different calls.
    return {name: encode(value) for name, value in args.items() if name not in edits}


def _refused(request: ApprovalRequest, why: Refusal, text: str, winner: str | None = None) -> AnswerRefused:
    message = f"approval request `{request.id}` was not answered: {text}"
    return AnswerRefused(message, request_id=request.id, why=why, state=request.state, winner=winner)
