"""What a case expects besides the decision: by which rule, who is asked, and when the call may be tried again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from otel_runtime.policy.case_model import Asked, FileCase, Retried
from otel_runtime.policy.walk import Path
from otel_runtime.values.decision import ApprovalTerms, Decision, Retry

__all__ = ["missed"]


def missed(case: FileCase, decision: Decision) -> Iterator[tuple[Path, str]]:
    """What the case says and the decision does not: the key of the case, and what is wrong.

    Args:
        case: A case whose `expect` is met.
        decision: What was decided.
    """
    if case.rule is not None and case.rule != decision.rule:
        by = f"rule `{decision.rule}`" if decision.rule is not None else decision.code
        yield ("rule",), f"case fails: expected `{case.expect}` by rule `{case.rule}`, got it by {by}"
    if case.approval is not None:
        yield from _compared("approval", case.approval, None if decision.approval is None else _asked(decision.approval))
    if case.retry is not None:
        yield from _compared("retry", case.retry, None if decision.retry is None else _retried(decision.retry))


def _compared(key: str, wanted: Asked | Retried, got: Mapping[str, object] | None) -> Iterator[tuple[Path, str]]:
    if got is None:
        belongs = "`require-approval`" if key == "approval" else "`retryable-failure`"
        yield (key,), f"case fails: `{key}` belongs to calls that are decided {belongs}"
        return
    for name in sorted(wanted.model_fields_set):
        value = getattr(wanted, name)
        value = sorted(set(value)) if isinstance(value, list) else value
        if value != got[name]:
            written = name.rstrip("_")
            yield (key, written), f"case fails: expected `{written}` {_spelled(value)}, got {_spelled(got[name])}"


def _asked(terms: ApprovalTerms) -> Mapping[str, object]:
    return {
        "approvers": sorted({approver for requirement in terms.requirements for approver in requirement.approvers}),
        "quorum": max(requirement.quorum for requirement in terms.requirements),
        "expires": terms.expires_s,
        "use_within": terms.use_within_s,
        "edit": sorted(terms.edit),
    }


def _retried(retry: Retry) -> Mapping[str, object]:
    return {"after": retry.after_s, "max_attempts": retry.max_attempts, "class_": retry.retry_class}


def _spelled(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(f"`{item}`" for item in value) or "nothing"
    if value is None:
        return "nothing"
    return f"`{value:g}s`" if isinstance(value, float) else f"`{value}`"
