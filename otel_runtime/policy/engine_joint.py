"""Two engines over one call, such as rules of our own beside Cedar: both decide, the stricter decision counts, and what both ask for is asked.

So a policy in another language keeps what only ours has: a catalogue with labels and argument types, budgets, the origin of values.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Final

from otel_runtime.policy.protocol import Engine, FactsView, Needs, Ruling, Start
from otel_runtime.policy.verdicts import stricter
from otel_runtime.values.action import Action, Kind
from otel_runtime.values.decision import ApprovalTerms, Decision, Retry, Verdict

__all__ = ["JointEngine"]

_RUNS: Final[Mapping[Verdict, bool]] = {"allow": True, "require-approval": True, "deny": False, "retryable-failure": False}


class JointEngine:
    """Decides by two engines.

    Args:
        first: One of them; it is named where both say the same.
        second: The other.
    """

    __slots__ = ("_digest", "_first", "_second")

    def __init__(self, first: Engine, second: Engine) -> None:
        self._first = first
        self._second = second
        self._digest = _joined_digest(first.digest, second.digest)

    @property
    def digest(self) -> str:
        """Hex SHA-256 of both digests."""
        return self._digest

    def governs(self, kind: Kind, name: str) -> bool:
        """True when one of them can decide anything but a plain allow."""
        return self._first.governs(kind, name) or self._second.governs(kind, name)

    def needs(self, action: Action, now: datetime) -> Needs | None:
        """What either must know."""
        one, other = self._first.needs(action, now), self._second.needs(action, now)
        if one is None or other is None:
            return one or other
        return Needs(
            tuple(dict.fromkeys((*one.counters, *other.counters))),
            one.session or other.session,
            tuple(dict.fromkeys((*one.values, *other.values))),
            tuple(dict.fromkeys((*one.around, *other.around))),
            one.ask or other.ask,
        )

    def decide(self, action: Action, facts: FactsView | None, now: datetime, attempt: int = 1) -> Ruling:
        """Decide one action by both."""
        one, other = self._first.decide(action, facts, now, attempt), self._second.decide(action, facts, now, attempt)
        decision = _decided(one.decision, other.decision)
        start = _started(one.start, other.start) if _RUNS[decision.value] else None
        return Ruling(decision, start, one.uses + other.uses, _started(one.tried, other.tried))


def _joined_digest(one: str, other: str) -> str:
    return hashlib.sha256(f"{one}\n{other}".encode()).hexdigest()


def _decided(one: Decision, other: Decision) -> Decision:
    verdict = stricter(one.value, other.value)
    named, second = (one, other) if one.value == verdict else (other, one)
    same = one.value == other.value
    would_be = stricter(one.would_be or one.value, other.would_be or other.value)
    return replace(
        named,
        matched=(*one.matched, *other.matched),
        policy_digest=_joined_digest(one.policy_digest, other.policy_digest),
        retry=_retried(named.retry, second.retry) if same else named.retry,
        approval=_asked(named.approval, second.approval) if same else named.approval,
        shadow=one.shadow or other.shadow,
        would_be=would_be if one.shadow or other.shadow else None,
    )


def _asked(one: ApprovalTerms | None, other: ApprovalTerms | None) -> ApprovalTerms | None:
    if one is None or other is None:
        return one or other
    uses = [terms.use_within_s for terms in (one, other) if terms.use_within_s is not None]
    return ApprovalTerms(
        (*one.requirements, *other.requirements), min(one.expires_s, other.expires_s), min(uses) if uses else None, one.edit & other.edit
    )


def _retried(one: Retry | None, other: Retry | None) -> Retry | None:
    if one is None or other is None:
        return one or other
    slower = one if one.after_s >= other.after_s else other
    return replace(slower, max_attempts=min(one.max_attempts, other.max_attempts))


def _started(one: Start | None, other: Start | None) -> Start | None:
    if one is None or other is None:
        return one or other
    return Start(
        (*one.reservations, *other.reservations),
        one.session or other.session,
        one.tool or other.tool,
        one.labels | other.labels,
        tuple(dict.fromkeys((*one.around, *other.around))),
    )
