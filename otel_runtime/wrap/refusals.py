"""From decisions to the errors that callers see."""

from __future__ import annotations

from otel_runtime.approvals.protocol import ClaimRefused
from otel_runtime.errors import (
    ApprovalDenied,
    ApprovalExpired,
    ApprovalPending,
    ArgumentsChanged,
    Blocked,
    PolicyDenied,
    PolicyUnavailable,
    RetryableFailure,
)
from otel_runtime.values.approval import ApprovalRequest
from otel_runtime.values.decision import Decision

__all__ = ["arguments_changed", "claim_refused", "closed_request", "outrun", "pending", "refusal_of"]


def refusal_of(tool: str, decision: Decision) -> Blocked:
    """The error for a `deny` or `retryable-failure`."""
    because = f"{decision.reason}{_origin(decision.rule, decision.place)}"
    if decision.value == "retryable-failure" and decision.retry is not None:
        retry = decision.retry
        return RetryableFailure(
            f"`{tool}` may be tried again in {retry.after_s:g} s (attempt {retry.attempt} of {retry.max_attempts}): {because}",
            tool=tool,
            reason=decision.reason,
            retry_after_s=retry.after_s,
            attempt=retry.attempt,
            max_attempts=retry.max_attempts,
            retry_class=retry.retry_class,
            rule=decision.rule,
            place=decision.place,
        )
    return PolicyDenied(f"`{tool}` was denied: {because}", tool=tool, reason=decision.reason, rule=decision.rule, place=decision.place)


def pending(request: ApprovalRequest) -> ApprovalPending:
    """The error for a question that nobody has answered yet."""
    expires = request.expires_at.isoformat(timespec="seconds")
    return ApprovalPending(
        f"`{request.capability}` waits for approval {request.id} until {expires}: {request.reason}; "
        f"answer it with `otel-runtime approvals approve {request.id[:8]}`, then `runtime.resume(request_id)`",
        tool=request.capability,
        reason=request.reason,
        request_id=request.id,
        expires_at=expires,
        rule=request.rule,
        place=request.place,
    )


def closed_request(request: ApprovalRequest) -> Blocked:
    """The error for a request that can no longer let its call run."""
    tool, rule, place = request.capability, request.rule, request.place
    if request.state == "expired":
        return ApprovalExpired(
            f"`{tool}` did not run: approval {request.id} expired", tool=tool, reason="nobody approved it in time, or it was not used in time",
            request_id=request.id, rule=rule, place=place,
        )  # fmt: skip
    if request.state in ("denied", "cancelled"):
        vote = next((vote for vote in reversed(request.votes) if not vote.approved), None)
        words = (vote.reason if vote is not None else "") or ("a person denied it" if request.state == "denied" else "it was withdrawn")
        who = vote.approver if vote is not None else None
        by = f" by {who}" if who else ""
        return ApprovalDenied(
            f"`{tool}` did not run: approval {request.id} was {request.state}{by}: {words}",
            tool=tool, reason=words, request_id=request.id, approver=who, rule=rule, place=place,
        )  # fmt: skip
    reason = f"its approval {request.id} is already {request.state}; an approval covers one execution"
    return ApprovalDenied(f"`{tool}` did not run: {reason}", tool=tool, reason=reason, request_id=request.id, rule=rule, place=place)


def claim_refused(request: ApprovalRequest, refused: ClaimRefused) -> Blocked:
    """The error for an approval that could not be claimed."""
    if refused.why == "digest":
        return arguments_changed(request.capability, request.rule, request.place)
    if refused.request is not None and refused.request.state != "approved":
        return closed_request(refused.request)
    reason = f"approval {request.id} cannot be used: {_CLAIM_WORDS.get(refused.why, refused.why)}"
    return ApprovalDenied(f"`{request.capability}` did not run: {reason}", tool=request.capability, reason=reason, request_id=request.id)


_CLAIM_WORDS = {
    "authentication": "its record in the database was changed by hand",
    "votes": "its votes do not satisfy the rules",
    "missing": "it does not exist",
    "expired": "it expired",
    "state": "it is not approved",
}


def arguments_changed(tool: str, rule: str | None = None, place: str = "") -> ArgumentsChanged:
    """The error for arguments that differ from those that were decided or approved."""
    reason = "its arguments changed after they were decided or approved"
    return ArgumentsChanged(f"`{tool}` did not run: {reason}", tool=tool, reason=reason, rule=rule, place=place)


def outrun(tool: str) -> PolicyUnavailable:
    """The error for a call whose limit changed under it each time it was about to start."""
    reason = "its budget is taken by other calls faster than it can be reserved"
    return PolicyUnavailable(f"`{tool}` did not run: {reason}", tool=tool, reason=reason)


def _origin(rule: str | None, place: str) -> str:
    if rule is None:
        return ""
    return f" (rule `{rule}`{f' at {place}' if place else ''})"
