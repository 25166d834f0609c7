"""The terms of an approval or a retry as another engine states them; every key and value is checked, because nobody else does."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, TypeVar

from otel_runtime.policy.budgets import MAX_SECONDS
from otel_runtime.policy.names import is_name
from otel_runtime.policy.rules import RetryTerms
from otel_runtime.settings.durations import parse_duration
from otel_runtime.settings.nearest import did_you_mean
from otel_runtime.values.decision import ApprovalTerms, Requirement, RetryClass, Verdict

__all__ = ["VERDICTS", "approval_from", "known_keys", "retry_from", "verdict_from"]

T = TypeVar("T")
VERDICTS: Final[Mapping[str, Verdict]] = {
    "allow": "allow",
    "deny": "deny",
    "require-approval": "require-approval",
    "retryable-failure": "retryable-failure",
}
_CLASSES: Final[Mapping[str, RetryClass]] = {"rate": "rate", "budget-window": "budget-window", "dependency": "dependency"}
_HOUR_S: Final = 3600.0
_MOST_VOTES: Final = 100
_MOST_ATTEMPTS: Final = 1000


def verdict_from(value: object) -> Verdict:
    """One of the four verdicts, spelled exactly.

    Raises:
        ValueError: It is none.
    """
    verdict = VERDICTS.get(value) if isinstance(value, str) else None
    if verdict is None:
        raise ValueError(f"expected one of {', '.join(f'`{name}`' for name in VERDICTS)}, got `{str(value)[:60]}`")
    return verdict


def approval_from(rule: str, given: Mapping[str, object], reason: str) -> ApprovalTerms:
    """Who must agree, from `approvers`, `quorum`, `expires`, `use_within` and `edit`.

    Raises:
        ValueError: Something in it is missing, unknown or of another shape.
    """
    known_keys(given, ("approvers", "quorum", "expires", "use_within", "edit"))
    approvers = _texts(given, "approvers")
    if not approvers:
        raise ValueError("`approvers` is missing; a question needs someone who may answer it, such as `role:finance`")
    for approver in approvers:
        _check_approver(approver)
    quorum = _taken(given, "quorum", 1, lambda value: _whole(value, _MOST_VOTES))
    expires = _taken(given, "expires", _HOUR_S, _seconds)
    use_within = _taken(given, "use_within", None, _seconds)
    return ApprovalTerms((Requirement(rule, approvers, quorum, reason),), expires, use_within, frozenset(_texts(given, "edit")))


def retry_from(given: Mapping[str, object]) -> RetryTerms:
    """When to try again, from `after`, `max_attempts` and `class`.

    Raises:
        ValueError: Something in it is unknown or of another shape.
    """
    known_keys(given, ("after", "max_attempts", "class"))
    after = _taken(given, "after", 1.0, _seconds)
    attempts = _taken(given, "max_attempts", 3, lambda value: _whole(value, _MOST_ATTEMPTS))
    return RetryTerms(after, attempts, _taken(given, "class", "rate", _retry_class))


def known_keys(given: Mapping[str, object], known: tuple[str, ...]) -> None:
    """Refuse a key that nobody reads: a misspelt `quorum` must not become a quorum of one.

    Raises:
        ValueError: There is one.
    """
    for name in given:
        if name not in known:
            raise ValueError(f"unknown key `{str(name)[:60]}`{did_you_mean(str(name), known)}; known: {', '.join(known)}")


def _taken(given: Mapping[str, object], name: str, default: T, read: Callable[[object], T]) -> T:
    if name not in given:
        return default
    try:
        return read(given[name])
    except ValueError as error:
        raise ValueError(f"`{name}`: {error}") from None


def _texts(given: Mapping[str, object], name: str) -> tuple[str, ...]:
    value = given.get(name, [])
    if not isinstance(value, list) or not all(isinstance(item, str) and item for item in value):
        raise ValueError(f"`{name}`: expected a list of texts, got `{str(value)[:60]}`")
    return tuple(value)


def _check_approver(text: str) -> None:
    kind, _, name = text.partition(":")
    if not (text in {"acting-user", "anyone"} or (kind == "role" and is_name(name)) or (kind == "user" and name)):
        raise ValueError(f"`approvers`: expected `role:NAME`, `user:NAME`, `acting-user` or `anyone`, got `{text[:60]}`")


def _whole(value: object, most: int) -> int:
    if type(value) is not int or not 1 <= value <= most:
        raise ValueError(f"expected a whole number from 1 to {most}, got `{str(value)[:60]}`")
    return value


def _seconds(value: object) -> float:
    if not isinstance(value, str):
        raise ValueError(f"expected a duration with its unit such as `30s` or `4h`, got `{str(value)[:60]}`")  # noqa: TRY004  # one kind of error for every mistake
    seconds = parse_duration(value)
    if seconds <= 0:
        raise ValueError(f"expected a duration above zero, got `{value}`")
    if seconds > MAX_SECONDS:
        raise ValueError(f"expected at most ten years, `{MAX_SECONDS // 86400}d`, got `{value}`")
    return seconds


def _retry_class(value: object) -> RetryClass:
    found = _CLASSES.get(value) if isinstance(value, str) else None
    if found is None:
        raise ValueError(f"expected `rate`, `budget-window` or `dependency`, got `{str(value)[:60]}`")
    return found
