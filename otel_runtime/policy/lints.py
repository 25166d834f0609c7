"""Warnings: rules that are legal and probably not what was meant."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from otel_runtime.policy.checks import Finding
from otel_runtime.policy.lints_beside import lint_beside
from otel_runtime.policy.lints_types import lint_types
from otel_runtime.policy.names import Globs, is_glob
from otel_runtime.policy.terms import Conditions, Rule, plain
from otel_runtime.policy.walk import Path, blocks, subjects, tests
from otel_runtime.settings.nearest import did_you_mean
from otel_runtime.values.action import ToolSignature
from otel_runtime.values.decision import Verdict

__all__ = ["Surroundings", "canonical_conditions", "lint_rule", "lint_rules"]


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a rule is read beside.

    Args:
        labels: Labels that tools add.
        tools: Tools that decorators registered or the policy declares; empty when none are known.
        signatures: Their signatures, where known.
        roles: Roles the settings know; None when there are none to compare with.
        covered: Rules that a case tries.
        undeclared: Tools of the catalogue whose arguments neither it nor a decorator declares.
    """

    labels: frozenset[str]
    tools: frozenset[str]
    signatures: Mapping[str, ToolSignature]
    roles: Collection[str] | None
    covered: frozenset[str]
    undeclared: frozenset[str] = frozenset()


def lint_rule(rule: Rule, path: Path, around: Surroundings) -> Iterator[Finding]:
    """Doubts about one rule by itself."""
    if rule.decision == "allow" and not rule.conditions and _names(rule).everything:
        yield Finding(path, "P101", f"rule `{rule.id}` allows everything of kind `{rule.kind}`; name the tools it is meant for")
    if rule.id not in around.covered:
        yield Finding((*path, "id"), "P102", f"no case tries rule `{rule.id}`; add `match` and `no_match`, or a call under `cases`")
    yield from _unanchored(rule, path)
    yield from _unknown_labels(rule, path, around)
    yield from _unknown_roles(rule, path, around)
    yield from _unknown_tools(rule, path, around)
    yield from _open_arguments(rule, path, around)
    yield from _loose_urls(rule, path)
    yield from lint_types(rule, path, around.signatures)


def _names(rule: Rule) -> Globs:
    patterns = rule.patterns
    return Globs(("*",) if patterns is None else patterns)


def _unanchored(rule: Rule, path: Path) -> Iterator[Finding]:
    if rule.decision != "allow":
        return
    for block, at in blocks(rule, path):
        for _root, _name, test, where in subjects(block, at):
            for part, inner in tests(test, where):
                for pattern in part.search or ():
                    if not (pattern.startswith(("^", r"\A")) and pattern.endswith(("$", r"\z"))):
                        message = f"`search: {pattern}` lets anything stand around it in an `allow`; use `regex`, which asks the whole text"
                        yield Finding((*inner, "search"), "P103", message)


def _unknown_labels(rule: Rule, path: Path, around: Surroundings) -> Iterator[Finding]:
    for block, at in blocks(rule, path):
        after = (block.after.label or ()) if block.after is not None else ()
        for label, where in (*((label, (*at, "after", "label")) for label in after), *_origin_labels(block, at)):
            if label not in around.labels:
                hint = did_you_mean(label, around.labels) or f"; add it, such as `tools: {{web_fetch: {{adds: [{label}]}}}}`"
                yield Finding(where, "P104", f"no tool adds the label `{label}`{hint}")


def _origin_labels(block: Conditions, at: Path) -> Iterator[tuple[str, Path]]:
    for _root, _name, test, where in subjects(block, at):
        for part, inner in tests(test, where):
            if part.origin is not None:
                for names in (part.origin.any_of, part.origin.none_of, part.origin.only):
                    yield from ((name.removeprefix("label:"), (*inner, "origin")) for name in names or () if name.startswith("label:"))


def _unknown_roles(rule: Rule, path: Path, around: Surroundings) -> Iterator[Finding]:
    if around.roles is None or rule.approval is None:
        return
    for at, approver in enumerate(rule.approval.approvers):
        role = approver.removeprefix("role:")
        if role != approver and role not in around.roles:
            hint = did_you_mean(role, around.roles) or "; give it to someone under `people` in the settings"
            yield Finding((*path, "approval", "approvers", at), "P105", f"nobody in the settings has the role `{role}`{hint}")


def _unknown_tools(rule: Rule, path: Path, around: Surroundings) -> Iterator[Finding]:
    if rule.kind != "tool" or not around.tools:
        return
    for at, pattern in enumerate(rule.tool or ()):
        if is_glob(pattern) or pattern in around.tools:
            continue
        where = (*path, "tool", at) if len(rule.tool or ()) > 1 else (*path, "tool")
        yield Finding(where, "P108", f"no tool `{pattern}` is declared or registered{did_you_mean(pattern, around.tools)}")


def _open_arguments(rule: Rule, path: Path, around: Surroundings) -> Iterator[Finding]:
    if rule.decision != "allow" or rule.args is None or rule.only_args is not None:
        return
    loose = [name for name in rule.tool or () if name in around.signatures and around.signatures[name].open]
    if loose:
        message = f"`{loose[0]}` takes any argument; add `only_args` so that arguments nobody thought of do not pass"
        yield Finding((*path, "args"), "P110", message, "key")
        return
    unsaid = [name for name in rule.tool or () if name in around.undeclared]
    if unsaid:
        message = f"nothing declares the arguments of `{unsaid[0]}`, so it takes any; add `args` under `tools`, or `only_args` here"
        yield Finding((*path, "args"), "P110", message, "key")


def _loose_urls(rule: Rule, path: Path) -> Iterator[Finding]:
    if rule.decision != "allow":
        return
    for block, at in blocks(rule, path):
        for _root, _name, test, where in subjects(block, at):
            for part, inner in tests(test, where):
                missing = [name for name in ("scheme", "host") if part.url is not None and getattr(part.url, name) is None]
                if missing:
                    message = f"`url` without `{missing[0]}` lets every {missing[0]} pass in an `allow`; name the ones that are meant"
                    yield Finding((*inner, "url"), "P111", message, "key")


def lint_rules(rules: Sequence[tuple[Rule, Path]], default: Verdict = "deny") -> Iterator[tuple[int, Finding]]:
    """Doubts about rules beside each other, with the position of the rule in the sequence.

    Args:
        rules: Each rule with its path.
        default: What follows where no rule matches.
    """
    yield from _duplicates(rules)
    yield from lint_beside(rules, default)
    walls = _Walls(rule for rule, _ in rules if _is_wall(rule))
    for at, (rule, path) in enumerate(rules):
        # Two denies without conditions on the same names are duplicates, which is another warning.
        wall = None if _is_wall(rule) else walls.around(rule)
        if wall is not None:
            yield at, Finding(path, "P106", f"rule `{rule.id}` can never matter: `{wall.id}` denies every call it is about")


def _is_wall(rule: Rule) -> bool:
    return rule.decision == "deny" and rule.mode == "enforce" and not rule.conditions


class _Walls:
    """Denies without conditions, found by the names they deny."""

    def __init__(self, rules: Iterable[Rule]) -> None:
        self._exact: dict[tuple[str, str], Rule] = {}
        self._globs: dict[str, list[tuple[Globs, Rule]]] = {}
        for rule in rules:
            names = _names(rule)
            for name in names.patterns:
                self._exact.setdefault((rule.kind, name), rule)
            if not names.only_exact:
                self._globs.setdefault(rule.kind, []).append((names, rule))

    def around(self, rule: Rule) -> Rule | None:
        """A deny that stands in the way of every call the rule is about."""
        found = [self._denying(rule.kind, pattern) for pattern in _names(rule).patterns]
        return found[0] if all(wall is not None for wall in found) else None

    def _denying(self, kind: str, pattern: str) -> Rule | None:
        known = self._exact.get((kind, pattern))
        if known is not None:
            return known
        return next(
            (wall for names, wall in self._globs.get(kind, ()) if names.everything or (not is_glob(pattern) and names.fits(pattern))), None
        )


def _duplicates(rules: Iterable[tuple[Rule, Path]]) -> Iterator[tuple[int, Finding]]:
    first: dict[str, Rule] = {}
    for at, (rule, path) in enumerate(rules):
        earlier = first.setdefault(canonical_conditions(rule), rule)
        if earlier is rule:
            continue
        if earlier.decision == rule.decision:
            message = f"rule `{rule.id}` asks exactly what `{earlier.id}` asks"
        else:
            message = f"rules `{earlier.id}` and `{rule.id}` ask the same and disagree; the stricter one always wins"
        yield at, Finding(path, "P107", message)


def canonical_conditions(rule: Rule) -> str:
    """The rule's conditions as text that is equal for equal conditions."""
    written = plain(rule, rule.conditions | rule.written & {"tool", "name"} | {"kind"})
    return json.dumps({"kind": rule.kind, **written}, sort_keys=True, default=repr)
