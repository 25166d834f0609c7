"""What answering a request gives back, or refuses."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from otel_runtime.errors import OtelRuntimeError
from otel_runtime.values.approval import ApprovalDecision, ApprovalRequest, ApprovalState
from otel_runtime.values.decision import Decision

__all__ = ["Answer", "AnswerRefused", "Redecide", "Redecided", "decision_of"]

Refusal = Literal["missing", "state", "expired", "entitled", "edit", "policy", "changed", "authentication"]


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer that was taken.

    Args:
        request: The request as it stands now.
        repeated: True when this person had said the same before, so that nothing changed.
        missing: Approvals still needed, by rule id; empty when none are.
    """

    request: ApprovalRequest
    repeated: bool = False
    missing: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Redecided:
    """What policy says of the edited call.

    Args:
        args: Every argument of the edited call by name, as hashed.
        call_digest: Digest of the edited call.
        decision: `require-approval` with its terms, or `allow` (the stored terms then stay); anything else refuses the edit.
    """

    args: Mapping[str, object]
    call_digest: str
    decision: Decision


Redecide = Callable[[ApprovalRequest, Mapping[str, object]], Redecided]


class AnswerRefused(OtelRuntimeError):
    """An answer did not count: somebody else was first, it came too late, or this person may not give it.

    Attributes:
        request_id: The request.
        why: `missing`, `state`, `expired`, `entitled`, `edit`, `policy`, `changed` or `authentication`.
        state: Where the request stands; None when that cannot be said.
        winner: Who answered it; None when nobody did.
    """

    def __init__(
        self, message: str, *, request_id: str, why: Refusal, state: ApprovalState | None = None, winner: str | None = None
    ) -> None:
        self.request_id = request_id
        self.why = why
        self.state = state
        self.winner = winner
        super().__init__(message)


# `executing` and what follows it can only come after an approval.
_APPROVED: frozenset[ApprovalState] = frozenset({"approved", "executing", "completed", "failed", "unknown"})
_WITHOUT_ANSWER: Mapping[ApprovalState, str] = {
    "expired": "nobody answered in time",
    "cancelled": "the question was withdrawn",
    "superseded": "a new question took its place",
}


def decision_of(request: ApprovalRequest) -> ApprovalDecision | None:
    """The seed's `approval-decision` of a request; None while nobody has answered."""
    if request.state == "awaiting-approval":
        return None
    approved = request.state in _APPROVED
    answered = approved or request.state == "denied"
    last = next((vote for vote in reversed(request.votes) if vote.approved == approved), None) if answered else None
    reason = last.reason if last else _WITHOUT_ANSWER.get(request.state, "")
    if request.state == "expired" and request.votes:
        reason = "not used in time, or too few answers in time"
    return ApprovalDecision(
        request_id=request.id,
        approved=approved,
        state=request.state,
        decided_at=request.decided_at or request.requested_at,
        reason=reason,
        approver=last.approver if last else None,
    )
