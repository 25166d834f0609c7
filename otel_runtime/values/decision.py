"""What was decided, why, and what must follow."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["ApprovalTerms", "Decision", "Requirement", "Retry", "RetryClass", "RuleMatch", "Verdict"]

# Spelled as in the seed page "Runtime events", table "Policy and approvals".
Verdict = Literal["allow", "deny", "require-approval", "retryable-failure"]
RetryClass = Literal["rate", "budget-window", "dependency"]


@dataclass(frozen=True, slots=True)
class Requirement:
    """Whose votes one approval rule asks for.

    Args:
        rule: Id of the rule.
        approvers: `role:NAME`, `user:NAME`, `acting-user` or `anyone`; one of them must fit the voter.
        quorum: Distinct approvers needed, at least 1.
        reason: The rule's sentence.
    """

    rule: str
    approvers: tuple[str, ...]
    quorum: int = 1
    reason: str = ""


@dataclass(frozen=True, slots=True)
class ApprovalTerms:
    """Everything one approval request must satisfy; the terms of all matching approval rules together.

    Args:
        requirements: One per rule; all must be met.
        expires_s: Seconds until nobody can answer any more; the shortest of the rules.
        use_within_s: Seconds in which an approval must be used; None means until it expires.
        edit: Arguments an approver may change; what all rules have in common.
    """

    requirements: tuple[Requirement, ...]
    expires_s: float
    use_within_s: float | None = None
    edit: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Retry:
    """When the call may be tried again.

    Args:
        after_s: Seconds to wait.
        attempt: The attempt that failed, starts at 1.
        max_attempts: Attempts in all, the first included.
        retry_class: Why it failed.
    """

    after_s: float
    attempt: int
    max_attempts: int
    retry_class: RetryClass = "rate"


@dataclass(frozen=True, slots=True)
class RuleMatch:
    """One rule that matched, or whose conditions could not be known.

    Args:
        rule: Id of the rule.
        verdict: What the rule says.
        outcome: `true` when every condition held, `unknown` when one could not be known.
        place: `file:line` of the rule.
        why: For `unknown`, the field that was in doubt; else the rule's reason.
        shadow: True when the rule is only recorded.
    """

    rule: str
    verdict: Verdict
    outcome: Literal["true", "unknown"]
    place: str = ""
    why: str = ""
    shadow: bool = False


@dataclass(frozen=True, slots=True)
class Decision:
    """The outcome of asking a policy about one action.

    Args:
        value: What happens.
        reason: A sentence for people and models.
        code: Stable machine word: `policy.rule`, `policy.default`, `policy.unknown`, `policy.unregistered`, `policy.catalogue`,
            `policy.exhausted`, `policy.error`, `policy.none`.
        rule: Id of the deciding rule; None when none decided.
        place: `file:line` of that rule.
        matched: Every rule that matched or was unknown, shadow rules too.
        policy_digest: Which rules were in force (hex SHA-256 of the normalised set).
        input_digest: Digest of the action that was decided (hex SHA-256); empty when it cannot be taken.
        duration_s: Seconds the decision took.
        retry: Set for `retryable-failure`.
        approval: Set for `require-approval`.
        shadow: True when the file or rule is in shadow mode: recorded, not enforced. `value` is then what is enforced (`allow`) and
            `would_be` what would have been.
        would_be: The verdict without shadow mode; None outside of it.
    """

    value: Verdict
    reason: str
    code: str = "policy.rule"
    rule: str | None = None
    place: str = ""
    matched: tuple[RuleMatch, ...] = ()
    policy_digest: str = ""
    input_digest: str = ""
    duration_s: float = 0.0
    retry: Retry | None = None
    approval: ApprovalTerms | None = None
    shadow: bool = False
    would_be: Verdict | None = None
