"""The seam between a call that must be approved and the durable store that keeps the question.

State machine (approvals.md): awaiting-approval -> approved | denied | expired | cancelled | superseded;
approved -> executing -> completed | failed | unknown, or expired when nobody used it in time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, Protocol

from otel_runtime.values.action import Action
from otel_runtime.values.approval import ApprovalRequest, ApprovalState
from otel_runtime.values.decision import Decision
from otel_runtime.values.trace import TraceRef

__all__ = ["Approvals", "Ask", "Claim", "ClaimRefused"]


@dataclass(frozen=True, slots=True)
class Ask:
    """A question to open.

    Args:
        action: The call, as decided.
        decision: The decision with its `approval` terms.
        call_digest: Digest of exactly this call.
        dedupe_key: Names the same call of the same run; a restarted agent finds its own open request by it. None never matches.
        explicit_call: True when the key holds the provider's call id: then a denial is found again too, not asked twice.
        facts: What the decision read besides the action, for deciding again later (JSON data).
        trace: The span that asks.
        supersedes: Request this one replaces.
    """

    action: Action
    decision: Decision
    call_digest: str
    dedupe_key: str | None = None
    explicit_call: bool = False
    facts: Mapping[str, object] = field(default_factory=dict)
    trace: TraceRef | None = None
    supersedes: str | None = None


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to run the body once.

    Args:
        request: The request, now `executing`.
    """

    request: ApprovalRequest


@dataclass(frozen=True, slots=True)
class ClaimRefused:
    """The body must not run.

    Args:
        state: What the request is instead.
        why: `digest`, `state`, `expired`, `authentication`, `votes` or `missing`.
        request: The request as it stands; None when it does not exist.
    """

    state: ApprovalState | None
    why: Literal["digest", "state", "expired", "authentication", "votes", "missing"]
    request: ApprovalRequest | None


class Approvals(Protocol):
    """The service that calls and surfaces talk to. Every method blocks (a disk is behind it) except `wait_async`."""

    def open(self, ask: Ask) -> tuple[ApprovalRequest, bool]:
        """Find the open request of this very call or store a new one; True when it is new."""
        ...

    def get(self, request_id: str) -> ApprovalRequest | None:
        """The request as it stands; expired ones are marked so first."""
        ...

    def list(self, states: Sequence[ApprovalState] = (), limit: int = 100) -> list[ApprovalRequest]:
        """Requests, newest first; all states when none is given."""
        ...

    def attach_trace(self, request_id: str, trace: TraceRef) -> None:
        """Remember the span `approval requested`, for links."""
        ...

    def wait(self, request_id: str, timeout_s: float) -> ApprovalRequest:
        """Block until the request is no longer `awaiting-approval` or the time is up; returns it either way."""
        ...

    async def wait_async(self, request_id: str, timeout_s: float) -> ApprovalRequest:
        """The same without a blocked thread; all waiters of a loop share one poller."""
        ...

    def claim(self, request_id: str, call_digest: str, requirement_digest: str, now: datetime | None = None) -> Claim | ClaimRefused:
        """Take the right to run, exactly once over all processes."""
        ...

    def finish(self, request_id: str, outcome: Literal["completed", "failed"]) -> None:
        """Record how the claimed body ended."""
        ...

    def supersede(self, request_id: str, ask: Ask) -> ApprovalRequest:
        """Replace a request whose terms no longer hold by a new one, linked."""
        ...

    def cancel(self, request_id: str, why: str) -> ApprovalRequest | None:
        """Withdraw a question that nobody has answered."""
        ...
