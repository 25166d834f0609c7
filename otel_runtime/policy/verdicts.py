"""From the rules that matched to one decision: the strictest wins, and every requirement of the winners is kept.

What an unknown rule does: deny and require-approval match; allow does not; retryable-failure denies, unless the facts store failed, then
the call may be tried again. Order and names decide only which of several equal rules is named.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from otel_runtime.policy.rules import CompiledRule, RetryTerms
from otel_runtime.policy.truth import Tri
from otel_runtime.values.action import Action
from otel_runtime.values.decision import ApprovalTerms, Decision, Requirement, Retry, RuleMatch, Verdict

__all__ = ["Defaults", "Outcome", "Situation", "judge", "refuse", "stricter", "verdict_of"]

_RANK: dict[Verdict, int] = {"allow": 0, "require-approval": 1, "retryable-failure": 2, "deny": 3}
_DEPENDENCY_AFTER_S = 1.0
_DEFAULTED_KINDS = frozenset({"tool", "capability"})


class Outcome(NamedTuple):
    """A rule that is not false.

    Args:
        rule: The rule.
        holds: True or unknown.
        doubt: What could not be known; empty when it holds.
    """

    rule: CompiledRule
    holds: Tri
    doubt: str = ""


@dataclass(frozen=True, slots=True)
class Defaults:
    """What holds for the whole policy.

    Args:
        verdict: For tools and capabilities no rule matches.
        approval: Terms where that is `require-approval`.
        shadow: True when nothing is enforced.
        digest: Digest of the policy.
    """

    verdict: Verdict
    approval: ApprovalTerms | None = None
    shadow: bool = False
    digest: str = ""


@dataclass(frozen=True, slots=True)
class Situation:
    """What besides the rules decides.

    Args:
        action: The call.
        attempt: Which attempt it is, starts at 1.
        failure: Why the facts store failed; empty when it did not.
    """

    action: Action
    attempt: int = 1
    failure: str = ""


def stricter(left: Verdict, right: Verdict) -> Verdict:
    """The one that lets less through."""
    return left if _RANK[left] >= _RANK[right] else right


def verdict_of(outcomes: Iterable[Outcome], defaults: Defaults, situation: Situation) -> Verdict:
    """The strictest of what the rules say, or the default."""
    said: list[Verdict] = [word for outcome in outcomes if (word := _says(outcome, situation)) is not None]
    return max(said, key=_RANK.__getitem__) if said else _default(defaults, situation)


def judge(outcomes: Sequence[Outcome], seen: Sequence[Outcome], defaults: Defaults, situation: Situation) -> Decision:
    """Decide.

    Args:
        outcomes: What counts.
        seen: Everything that matched, for the record.
        defaults: The policy's own terms.
        situation: The call.
    """
    enforced = [outcome for outcome in outcomes if not outcome.rule.shadow]
    verdict = verdict_of(enforced, defaults, situation)
    would_be = verdict if len(enforced) == len(outcomes) else verdict_of(outcomes, defaults, situation)
    matched = tuple(_match(outcome) for outcome in seen)
    decided = _decision(verdict, enforced, matched, defaults, situation)
    return shadowed(decided, would_be, shadow=defaults.shadow)


def refuse(reason: str, code: str, defaults: Defaults) -> Decision:
    """A denial that no rule made."""
    return shadowed(Decision("deny", reason, code, policy_digest=defaults.digest), "deny", shadow=defaults.shadow)


def shadowed(decision: Decision, would_be: Verdict, *, shadow: bool) -> Decision:
    """The decision as it is enforced, with what it would have been when the two differ."""
    if not shadow and would_be == decision.value:
        return decision
    return Decision(
        "allow" if shadow else decision.value,
        decision.reason,
        decision.code,
        decision.rule,
        decision.place,
        decision.matched,
        decision.policy_digest,
        retry=None if shadow else decision.retry,
        approval=None if shadow else decision.approval,
        shadow=True,
        would_be=would_be,
    )


def _says(outcome: Outcome, situation: Situation) -> Verdict | None:
    rule, holds, _ = outcome
    if rule.verdict == "allow":
        return "allow" if holds else None
    if rule.verdict != "retryable-failure":
        return rule.verdict
    if holds is None and not _dependency(outcome, situation):
        return "deny"
    return "deny" if situation.attempt >= _retry_terms(outcome).max_attempts else "retryable-failure"


def _dependency(outcome: Outcome, situation: Situation) -> bool:
    return outcome.holds is None and bool(situation.failure) and outcome.rule.uses_facts


def _retry_terms(outcome: Outcome) -> RetryTerms:
    return outcome.rule.retry or RetryTerms(_DEPENDENCY_AFTER_S, 1, "dependency")


def _default(defaults: Defaults, situation: Situation) -> Verdict:
    return defaults.verdict if situation.action.kind in _DEFAULTED_KINDS else "allow"


def _match(outcome: Outcome) -> RuleMatch:
    rule = outcome.rule
    why = rule.reason if outcome.holds else outcome.doubt
    return RuleMatch(rule.id, rule.verdict, "true" if outcome.holds else "unknown", rule.place, why, rule.shadow)


def _decision(
    verdict: Verdict, enforced: Sequence[Outcome], matched: tuple[RuleMatch, ...], defaults: Defaults, situation: Situation
) -> Decision:
    deciding = [outcome for outcome in enforced if _says(outcome, situation) == verdict]
    if not deciding:
        return _by_default(verdict, matched, defaults, situation)
    # A rule that plainly holds is named before one in doubt, then the first of the file.
    named = min(deciding, key=lambda outcome: (outcome.holds is None, outcome.rule.order))
    return Decision(
        verdict,
        _reason(verdict, named, situation),
        _code(verdict, named, situation),
        named.rule.id,
        named.rule.place,
        matched,
        defaults.digest,
        retry=_retry(deciding, situation) if verdict == "retryable-failure" else None,
        approval=_approval(deciding) if verdict == "require-approval" else None,
    )


def _by_default(verdict: Verdict, matched: tuple[RuleMatch, ...], defaults: Defaults, situation: Situation) -> Decision:
    name = situation.action.name
    reasons: dict[Verdict, str] = {
        "allow": f"no rule speaks against `{name}`",
        "require-approval": f"no rule allows `{name}`, so a person decides",
    }
    reason = reasons.get(verdict, f"no rule allows `{name}` like this")
    approval = defaults.approval if verdict == "require-approval" else None
    return Decision(verdict, reason, "policy.default", None, "", matched, defaults.digest, approval=approval)


def _code(verdict: Verdict, named: Outcome, situation: Situation) -> str:
    if named.rule.verdict == "retryable-failure" and verdict == "deny" and (named.holds or _dependency(named, situation)):
        return "policy.exhausted"
    return "policy.rule" if named.holds else "policy.unknown"


def _reason(verdict: Verdict, named: Outcome, situation: Situation) -> str:
    name = situation.action.name
    if _code(verdict, named, situation) == "policy.exhausted":
        return f"`{name}` was tried {situation.attempt} times, which is all there is; do not try again"
    if named.holds is None:
        follows = (
            "the call may be tried again"
            if verdict == "retryable-failure"
            else "a person decides"
            if verdict != "deny"
            else "it is refused"
        )
        return f"{named.doubt} could not be checked, so {follows}"
    plain: dict[Verdict, str] = {
        "allow": f"`{name}` is allowed",
        "deny": f"`{name}` is not allowed like this",
        "require-approval": f"`{name}` needs the approval of a person",
        "retryable-failure": f"`{name}` is at its limit for now",
    }
    return named.rule.reason or plain[verdict]


def _retry(deciding: Sequence[Outcome], situation: Situation) -> Retry:
    """The longest wait and the fewest attempts of all."""
    terms = [_retry_terms(outcome) for outcome in deciding]
    slowest = max(terms, key=lambda term: term.after_s)
    failed = any(_dependency(outcome, situation) for outcome in deciding)
    fewest = min(term.max_attempts for term in terms)
    return Retry(slowest.after_s, situation.attempt, fewest, "dependency" if failed else slowest.retry_class)


def _approval(deciding: Sequence[Outcome]) -> ApprovalTerms:
    """Every requirement, the earliest expiry, the fields all agree may be edited."""
    ordered = sorted(deciding, key=lambda outcome: outcome.rule.order)
    terms = [outcome.rule.approval for outcome in ordered if outcome.rule.approval is not None]
    requirements: list[Requirement] = [requirement for term in terms for requirement in term.requirements]
    uses = [term.use_within_s for term in terms if term.use_within_s is not None]
    return ApprovalTerms(
        tuple(requirements),
        min(term.expires_s for term in terms),
        min(uses) if uses else None,
        frozenset.intersection(*(term.edit for term in terms)),
    )
