"""The durable question and its answer, as people and programs see them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import Literal

from otel_runtime.values.decision import ApprovalTerms
from otel_runtime.values.trace import TraceRef

__all__ = ["OPEN_STATES", "TERMINAL_STATES", "ApprovalDecision", "ApprovalRequest", "ApprovalState", "Vote"]

ApprovalState = Literal[
    "awaiting-approval", "approved", "denied", "expired", "cancelled", "superseded", "executing", "completed", "failed", "unknown"
]
OPEN_STATES: frozenset[ApprovalState] = frozenset({"awaiting-approval", "approved"})
TERMINAL_STATES: frozenset[ApprovalState] = frozenset({"denied", "expired", "cancelled", "superseded", "completed", "failed", "unknown"})
_EMPTY: Mapping[str, object] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Vote:
    """One person's answer.

    Args:
        approver: Identity that the surface established, such as `os:alice`.
        approved: Yes or no.
        at: When, in UTC.
        rules: The rules whose requirement this vote counts for.
        reason: What the person wrote.
    """

    approver: str
    approved: bool
    at: datetime
    rules: tuple[str, ...] = ()
    reason: str = ""


@dataclass(frozen=True, slots=True)
class ApprovalRequest:
    """One question to people about exactly one call.

    Args:
        id: 128 random bits, 32 hex digits.
        capability: Name of the tool or capability that waits (the seed's field name).
        input: The bound arguments by name, as hashed.
        reason: Why a person is asked.
        state: Where the request stands.
        call_digest: SHA-256 of the call that would run, hex.
        requirement_digest: SHA-256 of the terms, hex.
        policy_digest: SHA-256 of the policy that asked, hex.
        terms: Who must answer, how many, until when.
        requested_at: When it was asked, in UTC.
        expires_at: After this nobody can answer, in UTC.
        kind: Kind of the action.
        session, user, agents, run, call_id: Where the call came from; `user` with `agents` is the requester.
        place: `file:line` of the deciding rule.
        rule: Id of the deciding rule.
        facts: What the decision read besides the arguments (roles, context, labels), for deciding again later.
        trace: The caller's span, the parent of a resumed run.
        requested_span: The span `approval requested`, for links; set by `attach_trace`.
        votes: The answers so far.
        decided_at: When the state stopped being `awaiting-approval`.
        supersedes: Id of the request this one replaces, or None.
        edited_from: Call digest before an approver's edit, or None.
    """

    id: str
    capability: str
    input: Mapping[str, object]
    reason: str
    state: ApprovalState
    call_digest: str
    requirement_digest: str
    policy_digest: str
    terms: ApprovalTerms
    requested_at: datetime
    expires_at: datetime
    kind: str = "tool"
    session: str | None = None
    user: str | None = None
    agents: tuple[str, ...] = ()
    run: str | None = None
    call_id: str | None = None
    place: str = ""
    rule: str | None = None
    facts: Mapping[str, object] = field(default_factory=lambda: _EMPTY)
    trace: TraceRef | None = None
    requested_span: TraceRef | None = None
    votes: tuple[Vote, ...] = ()
    decided_at: datetime | None = None
    supersedes: str | None = None
    edited_from: str | None = None


@dataclass(frozen=True, slots=True)
class ApprovalDecision:
    """The answer to a request (the seed's `approval-decision`).

    Args:
        request_id: The request.
        approved: True when the call may run.
        state: State of the request after the answer.
        decided_at: When, in UTC.
        reason: What the approver wrote, or why it ended without one.
        approver: Who answered last; None for expiry and cancellation.
    """

    request_id: str
    approved: bool
    state: ApprovalState
    decided_at: datetime
    reason: str = ""
    approver: str | None = None
