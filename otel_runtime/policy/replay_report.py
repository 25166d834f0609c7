"""What changes between two ways of deciding the same calls, and how often people would be asked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Literal, NamedTuple

from otel_runtime.policy.recorded import RecordedCall
from otel_runtime.policy.replay import Replayed
from otel_runtime.values.decision import Decision, Verdict

__all__ = ["CHANGES", "Asked", "Change", "ChangeKind", "Report", "compared"]

ChangeKind = Literal["denied", "asked", "delayed", "allowed"]
CHANGES: Final[Mapping[Verdict, ChangeKind]] = {
    "deny": "denied",
    "require-approval": "asked",
    "retryable-failure": "delayed",
    "allow": "allowed",
}
_EXAMPLES: Final = 3
_ASKABLE: Final = frozenset({"tool", "capability"})
_ASKS: Final = "require-approval"


@dataclass(frozen=True, slots=True)
class Change:
    """Calls of one name that go from one decision to the same other one, by the same rule.

    Args:
        kind: What they newly are.
        was: What was decided before.
        now: What is decided now.
        name: What is called.
        rule: Rule that decides now; None where no rule does.
        place: Its `file:line`.
        reason: Why.
        code: Which step decided, such as `policy.rule` or `policy.default`.
        calls: How many.
        examples: Some of them, the first ones.
    """

    kind: ChangeKind
    was: Verdict
    now: Verdict
    name: str
    rule: str | None
    place: str
    reason: str
    code: str
    calls: int
    examples: tuple[RecordedCall, ...]


@dataclass(frozen=True, slots=True)
class Asked:
    """How often people are asked.

    Args:
        requests: Requests in all.
        per_100: Requests per hundred calls of tools and capabilities; models are never asked about.
        approvers: Requests by who may answer them, such as `role:finance`, the most first.
        per_day: The same per day of the trace; a trace shorter than a day counts as one.
    """

    requests: int
    per_100: float
    approvers: Mapping[str, int]
    per_day: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Report:
    """Two ways of deciding, side by side.

    Args:
        calls: Calls looked at.
        unchanged: Calls decided alike.
        changes: The others, grouped.
        gaps: Calls that are not replayable, by reason; one with several reasons counts under each.
        unreplayable: How many those are.
        days: Length of the trace in days, at least 1.
        before: How often people were asked.
        after: How often they are asked now.
    """

    calls: int
    unchanged: int
    changes: tuple[Change, ...]
    gaps: Mapping[str, int]
    unreplayable: int
    days: float
    before: Asked
    after: Asked

    def count(self, kind: ChangeKind) -> int:
        """Calls that are newly so."""
        return sum(change.calls for change in self.changes if change.kind == kind)


class _Pair(NamedTuple):
    """One call, decided twice; `before` is None where only the recorded verdict is known."""

    after: Replayed
    before: Decision | None
    was: Verdict
    now: Verdict


def compared(new: Sequence[Replayed], old: Sequence[Replayed] | None) -> Report:
    """Compare a policy with another, or with what was recorded.

    Args:
        new: Calls under the policy on trial.
        old: The same calls under the other policy; None compares with what was decided when they were recorded.
    """
    pairs: list[_Pair] = []
    gaps: Counter[str] = Counter()
    for at, after in enumerate(new):
        before = None if old is None else old[at]
        # What nothing guarded ran, as an allow lets it.
        was = (after.call.decided or "allow") if before is None else before.verdict
        if after.verdict is None or was is None:
            gaps.update({*after.gaps, *(() if before is None else before.gaps)})
        else:
            pairs.append(_Pair(after, None if before is None else before.decision, was, after.verdict))
    days = _days([pair.after.call for pair in pairs])
    askable = sum(pair.after.call.kind in _ASKABLE for pair in pairs)
    return Report(
        calls=len(new),
        unchanged=sum(pair.was == pair.now for pair in pairs),
        changes=_changes(pairs),
        gaps=dict(gaps.most_common()),
        unreplayable=len(new) - len(pairs),
        days=days,
        before=_asked([_approvers(pair.before, pair.after.call) for pair in pairs if pair.was == _ASKS], askable, days),
        after=_asked([_approvers(pair.after.decision, pair.after.call) for pair in pairs if pair.now == _ASKS], askable, days),
    )


def _changes(pairs: Iterable[_Pair]) -> tuple[Change, ...]:
    groups: dict[tuple[Verdict, Verdict, str, str | None], list[Replayed]] = {}
    for pair in pairs:
        if pair.was != pair.now:
            groups.setdefault((pair.was, pair.now, pair.after.call.name, pair.after.decision.rule), []).append(pair.after)
    found = [_change(was, now, members) for (was, now, _, _), members in groups.items()]
    order = list(CHANGES.values())
    return tuple(sorted(found, key=lambda change: (order.index(change.kind), -change.calls, change.name, change.rule or "")))


def _change(was: Verdict, now: Verdict, members: Sequence[Replayed]) -> Change:
    first = members[0].decision
    examples = tuple(member.call for member in members[:_EXAMPLES])
    return Change(CHANGES[now], was, now, examples[0].name, first.rule, first.place, first.reason, first.code, len(members), examples)


def _days(calls: Sequence[RecordedCall]) -> float:
    times = [call.at for call in calls]
    return max(1.0, (max(times) - min(times)) / timedelta(days=1)) if times else 1.0


def _approvers(decision: Decision | None, call: RecordedCall) -> tuple[str, ...]:
    """Who is asked: one entry per requirement that must be met."""
    if decision is None:
        return (" or ".join(call.approvers),) if call.approvers else ()
    terms = decision.approval
    return () if terms is None else tuple(" or ".join(requirement.approvers) for requirement in terms.requirements)


def _asked(requests: Sequence[tuple[str, ...]], askable: int, days: float) -> Asked:
    counted = dict(Counter(who for request in requests for who in request).most_common())
    per_100 = 100 * len(requests) / askable if askable else 0.0
    return Asked(len(requests), per_100, counted, {who: count / days for who, count in counted.items()})
