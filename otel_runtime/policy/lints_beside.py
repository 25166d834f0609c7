"""Warnings about rules beside each other: what one leaves open, and what another makes pointless.

Every look is by name and by equal conditions in tables, so that ten thousand rules stay cheap. Nothing is proven: two conditions that mean the
same in other words are taken for different ones, and then nothing is said.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import combinations
from typing import Final

from otel_runtime.policy.checks import Finding
from otel_runtime.policy.names import Globs, is_glob
from otel_runtime.policy.terms import Rule, Test, plain
from otel_runtime.policy.verdicts import stricter
from otel_runtime.policy.walk import Path
from otel_runtime.values.action import Kind
from otel_runtime.values.decision import Verdict

__all__ = ["lint_beside"]

_SINGLY: Final = frozenset({"args", "context", "session"})
# Subsets of more conditions than these are not looked for.
_MOST_CONDITIONS: Final = 8
_AMOUNTS: Final = frozenset(
    "amount amounts budget cash cents charge cost costs credit debit discount dollars eur euros fee fees fund funds gbp money payment payout "
    "price prices refund spend sum total usd value".split()
)
Written = Sequence[tuple[Rule, Path]]


def lint_beside(rules: Written, default: Verdict) -> Iterator[tuple[int, Finding]]:
    """Doubts, with the position of the rule in the sequence.

    Args:
        rules: Each rule with its path.
        default: What follows where no rule matches.
    """
    yield from _unsummed(rules)
    yield from _by_one_label(rules, default)
    yield from _shadowed(rules)


# --- an amount rule without a sum ---


def _unsummed(rules: Written) -> Iterator[tuple[int, Finding]]:
    limits = _Names((rule for rule, _ in rules if rule.over is not None and rule.decision != "allow" and rule.mode == "enforce"))
    for at, (rule, path) in enumerate(rules):
        if rule.kind != "tool" or rule.decision != "allow":
            continue
        for name, test in (rule.args or {}).items():
            if "|" in name or not _is_amount(name) or not _bounded(test) or any(_counts(limit, name) for limit in limits.about(rule)):
                continue
            message = (
                f"many small calls make a large one: nothing limits the sum of `{name}`; add a rule with "
                f"`over: {{sum: args.{name}, max: ..., by: user, per: day, tz: UTC}}`"
            )
            yield at, Finding((*path, "args", name), "P112", message, "key")


def _is_amount(name: str) -> bool:
    parted = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
    return not _AMOUNTS.isdisjoint(re.split(r"[^a-z0-9]+", parted))


def _bounded(test: Test) -> bool:
    return test.lt is not None or test.lte is not None


def _counts(limit: Rule, argument: str) -> bool:
    # So many calls of so much each are bounded too.
    return limit.over is not None and (
        limit.over.calls is not None or limit.over.attempts is not None or limit.over.sum == f"args.{argument}"
    )


# --- a rule that leans on one label alone ---


def _by_one_label(rules: Written, default: Verdict) -> Iterator[tuple[int, Finding]]:
    opening = _Names(rule for rule, _ in rules if rule.decision == "allow" and rule.mode == "enforce")
    for at, (rule, path) in enumerate(rules):
        if rule.decision == "allow" or rule.mode == "shadow" or rule.kind not in {"tool", "capability"}:
            continue
        after = rule.after
        if rule.conditions != {"after"} or after is None or after.written != {"label"} or len(after.label or ()) != 1:
            continue
        if default == "allow" or any(True for _ in opening.about(rule)):
            label = (after.label or ("",))[0]
            message = (
                f"`{rule.id}` has nothing to go by but the label `{label}`: one tool that forgets to add it, and the call runs; "
                "add what does not hang on it, such as `origin` on where it goes, or ask without it"
            )
            yield at, Finding((*path, "after", "label"), "P113", message)


# --- a rule that another makes pointless ---


def _shadowed(rules: Written) -> Iterator[tuple[int, Finding]]:
    wholes: dict[tuple[Kind, frozenset[str]], list[Rule]] = defaultdict(list)
    conditions = [_conditions(rule) for rule, _ in rules]
    for (rule, _), asked in zip(rules, conditions, strict=True):
        if rule.mode == "enforce":
            wholes[rule.kind, asked].append(rule)
    tables: dict[tuple[Kind, frozenset[str]], _Names] = {key: _Names(members) for key, members in wholes.items()}
    for at, (rule, path) in enumerate(rules):
        other = next((found for found in _wider(rule, conditions[at], tables) if _outdoes(found, rule)), None)
        if other is not None:
            said = "can never matter" if other.decision != rule.decision else "adds nothing"
            what = "asks less and is stricter" if other.decision != rule.decision else "asks less and says the same"
            yield at, Finding(path, "P114", f"rule `{rule.id}` {said}: `{other.id}` {what}")


def _wider(rule: Rule, asked: frozenset[str], tables: Mapping[tuple[Kind, frozenset[str]], _Names]) -> Iterator[Rule]:
    """Rules with some of its conditions and no others, about all of its names."""
    if len(asked) > _MOST_CONDITIONS:
        return
    for size in range(len(asked)):
        for part in combinations(sorted(asked), size):
            table = tables.get((rule.kind, frozenset(part)))
            if table is not None:
                yield from table.around(rule)


def _outdoes(other: Rule, rule: Rule) -> bool:
    if other.decision == "deny" and not _conditions(other):
        # Said by P106.
        return False
    if other.decision == rule.decision:
        return rule.decision in {"allow", "deny"}
    # Two that ask are one request with the requirements of both; a wait that ends differs from a denial.
    return stricter(other.decision, rule.decision) == other.decision


def _conditions(rule: Rule) -> frozenset[str]:
    """Each condition as text that is equal for equal ones; values of `args`, `context` and `session` one by one."""
    found: set[str] = set()
    for name, value in plain(rule, rule.conditions).items():
        if name in _SINGLY and isinstance(value, dict):
            found.update(json.dumps([name, key, test], sort_keys=True, default=repr) for key, test in value.items())
        else:
            found.add(json.dumps([name, value], sort_keys=True, default=repr))
    return frozenset(found)


class _Names:
    """Rules by the names they are about."""

    def __init__(self, rules: Iterable[Rule]) -> None:
        self._exact: defaultdict[tuple[Kind, str], list[Rule]] = defaultdict(list)
        self._globs: list[tuple[str, Rule]] = []
        self._everything: list[Rule] = []
        for rule in rules:
            for name in _patterns(rule):
                self._exact[rule.kind, name].append(rule)
                if name == "*":
                    self._everything.append(rule)
                elif is_glob(name):
                    self._globs.append((name, rule))

    def about(self, rule: Rule) -> Iterator[Rule]:
        """Rules about one of its names."""
        for name in _patterns(rule):
            yield from self._exact.get((rule.kind, name), ())
            yield from (other for other in self._everything if other.kind == rule.kind)
            yield from (other for glob, other in self._globs if other.kind == rule.kind and _fits(glob, name.replace("*", "x")))
            if is_glob(name):
                yield from (
                    other for (kind, one), found in self._exact.items() if kind == rule.kind and _fits(name, one) for other in found
                )

    def around(self, rule: Rule) -> Iterator[Rule]:
        """Rules about all of its names."""
        names = _patterns(rule)
        for other in (*self._exact.get((rule.kind, names[0]), ()), *self._everything):
            whole = _patterns(other)
            if other is not rule and other.kind == rule.kind and ("*" in whole or all(name in whole for name in names)):
                yield other


def _patterns(rule: Rule) -> tuple[str, ...]:
    return rule.patterns or ("*",)


def _fits(glob: str, name: str) -> bool:
    # Most names differ before the first `*`, which is cheaper to see than an expression is to make.
    return name.startswith(glob.partition("*")[0]) and _compiled(glob).fits(name)


@lru_cache(maxsize=4096)
def _compiled(glob: str) -> Globs:
    return Globs((glob,))
