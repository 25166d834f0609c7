"""A request as rows: the sealed question, the state beside it, and the votes. No SQL here, no clock."""

from __future__ import annotations

import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from datetime import datetime, timedelta
from typing import Any

from otel_runtime.approvals.encoding import decode, encode
from otel_runtime.approvals.protocol import Ask
from otel_runtime.approvals.terms import requirement_digest
from otel_runtime.audit.chain import from_microseconds
from otel_runtime.audit.key import derive
from otel_runtime.values.approval import ApprovalRequest, ApprovalState, Vote
from otel_runtime.values.decision import ApprovalTerms, Requirement
from otel_runtime.values.trace import TraceRef

__all__ = ["Row", "Seals", "ask_question", "edit_question", "read_vote", "request_of", "trace_text", "vote_text"]


@dataclass(frozen=True, slots=True)
class Row:
    """One row of `approval_requests`, its columns in order.

    Args:
        id: Request id.
        state: Where it stands.
        revision: Counts edits; votes belong to one revision.
        call_digest: Digest of the call, as in the question.
        dedupe: Hash of the dedupe key.
        supersedes: The request it replaces.
        requested_us: When it was asked, microseconds since 1970.
        due_us: Until when it may be answered, or, once approved, used.
        decided_us: When it stopped waiting.
        owner: Who claimed it.
        trace: The span `approval requested`; the only column that is not sealed.
        question: The sealed document.
        question_mac: Its code.
        state_mac: Code over the other columns.
    """

    id: str
    state: ApprovalState
    revision: int
    call_digest: str
    dedupe: str | None
    supersedes: str | None
    requested_us: int
    due_us: int
    decided_us: int | None
    owner: str | None
    trace: str | None
    question: str
    question_mac: bytes
    state_mac: bytes


class Seals:
    """Makes and checks the codes that tell our rows from edited ones.

    Args:
        key: The secret of the database.
    """

    def __init__(self, key: bytes) -> None:
        self._question = derive(key, "approval-question")
        self._state = derive(key, "approval-state")
        self._vote = derive(key, "approval-vote")

    def sealed(self, row: Row) -> Row:
        """The row with fresh codes."""
        question_mac = self._code(self._question, [row.id, row.question])
        return replace(row, question_mac=question_mac, state_mac=self._state_code(row, question_mac))

    def sound(self, row: Row) -> bool:
        """True when nothing but this library wrote the row."""
        question_mac = self._code(self._question, [row.id, row.question])
        return _same(question_mac, row.question_mac) and _same(self._state_code(row, question_mac), row.state_mac)

    def vote(self, row: Row, text: str) -> bytes:
        """The code of a vote on this revision of this request's call."""
        return self._code(self._vote, [row.id, row.revision, row.call_digest, text])

    def sound_vote(self, row: Row, text: object, mac: object) -> bool:
        """True when this library stored the vote for this revision of this request."""
        return isinstance(text, str) and _same(self.vote(row, text), mac)

    def _state_code(self, row: Row, question_mac: bytes) -> bytes:
        columns = [
            row.id,
            row.state,
            row.revision,
            row.call_digest,
            row.dedupe,
            row.supersedes,
            row.requested_us,
            row.due_us,
            row.decided_us,
        ]
        return self._code(self._state, [*columns, row.owner, question_mac.hex()])

    @staticmethod
    def _code(key: bytes, parts: list[Any]) -> bytes:
        # `default`: a column edited by hand may hold bytes; it then has a code, only not the stored one.
        return hmac.digest(key, json.dumps(parts, default=repr).encode(), "sha256")


def ask_question(ask: Ask, terms: ApprovalTerms, request_id: str, now: datetime) -> str:
    """The document of a new request.

    Raises:
        CannotEncode: An argument or fact has no exact text form.
    """
    action, decision = ask.action, ask.decision
    return encode(
        {
            "id": request_id,
            "capability": action.name,
            "kind": action.kind,
            "input": _named(action.args, "args"),
            "reason": decision.reason,
            "call_digest": ask.call_digest,
            "requirement_digest": requirement_digest(terms),
            "policy_digest": decision.policy_digest,
            "terms": _terms_data(terms),
            "requested_at": now,
            "expires_at": now + timedelta(seconds=terms.expires_s),
            "session": action.session,
            "user": action.user,
            "agents": action.agents,
            "run": action.run,
            "call_id": action.call_id,
            "place": decision.place,
            "rule": decision.rule,
            "facts": _named(ask.facts, "facts"),
            "trace": _trace_data(ask.trace),
            "supersedes": ask.supersedes,
            "edited_from": None,
        }
    )


def edit_question(request: ApprovalRequest, args: Mapping[str, object], call_digest: str, terms: ApprovalTerms, policy_digest: str) -> str:
    """The document of a request whose call an approver changed; everything else stays, also the expiry."""
    question = _document(request)
    return encode(
        {
            **question,
            "input": _named(args, "args"),
            "call_digest": call_digest,
            "requirement_digest": requirement_digest(terms),
            "policy_digest": policy_digest or request.policy_digest,
            "terms": _terms_data(terms),
            "edited_from": request.edited_from or request.call_digest,
        }
    )


def request_of(row: Row, votes: tuple[Vote, ...]) -> ApprovalRequest:
    """The request of a sound row."""
    data = decode(row.question)
    plain = {name: value for name, value in data.items() if name not in ("terms", "trace")}
    return ApprovalRequest(
        **plain,
        terms=_terms(data["terms"]),
        trace=_trace(data["trace"]),
        state=row.state,
        votes=votes,
        decided_at=None if row.decided_us is None else from_microseconds(row.decided_us),
        requested_span=_trace(decode(row.trace)) if row.trace else None,
    )


def vote_text(vote: Vote) -> str:
    """A vote as stored text."""
    return encode({"approver": vote.approver, "approved": vote.approved, "at": vote.at, "rules": vote.rules, "reason": vote.reason})


def read_vote(text: str) -> Vote:
    """The vote of a stored text."""
    return Vote(**decode(text))


def trace_text(trace: TraceRef) -> str:
    """A place in a trace as stored text."""
    return encode(_trace_data(trace))


def _document(request: ApprovalRequest) -> dict[str, object]:
    # These are columns: they belong to the row, not to the question.
    beside = {"state", "votes", "decided_at", "requested_span"}
    question = {each.name: getattr(request, each.name) for each in fields(request) if each.name not in beside}
    return {**question, "terms": _terms_data(request.terms), "trace": _trace_data(request.trace)}


def _named(values: Mapping[str, object], where: str) -> Mapping[str, object]:
    # Encoded once on its own, so that an error names the argument and not our document around it.
    encode(values, where)
    return values


def _terms_data(terms: ApprovalTerms) -> dict[str, object]:
    requirements = [[req.rule, list(req.approvers), req.quorum, req.reason] for req in terms.requirements]
    return {"requirements": requirements, "expires_s": terms.expires_s, "use_within_s": terms.use_within_s, "edit": terms.edit}


def _terms(data: Mapping[str, Any]) -> ApprovalTerms:
    requirements = tuple(Requirement(rule, tuple(approvers), quorum, reason) for rule, approvers, quorum, reason in data["requirements"])
    return ApprovalTerms(requirements, data["expires_s"], data["use_within_s"], data["edit"])


def _trace_data(trace: TraceRef | None) -> list[object] | None:
    return None if trace is None else [trace.id, trace.parent_id, trace.sampled]


def _trace(data: list[Any] | None) -> TraceRef | None:
    return None if data is None else TraceRef(data[0], data[1], data[2])


def _same(code: bytes, stored: object) -> bool:
    return isinstance(stored, bytes) and hmac.compare_digest(code, stored)
