"""What may have been meant where no rule decided: the nearest names and globs."""

from __future__ import annotations

import difflib
from collections.abc import Iterator

from otel_runtime.policy.decide import CompiledPolicy
from otel_runtime.policy.names import is_glob
from otel_runtime.policy.rules import CompiledRule
from otel_runtime.values.action import Action

__all__ = ["near_misses"]

_MAX_HINTS = 3
_OPENING = frozenset({"allow", "require-approval"})
_MAX_PATTERNS = 2_000


def near_misses(action: Action, policy: CompiledPolicy) -> tuple[str, ...]:
    """Hints for people, at most three; nothing where a rule could allow this very name."""
    name = str(action.name)[:128]
    if any(rule.names is None or rule.names.fits(name) for rule in policy.rules if rule.kind == action.kind and rule.verdict in _OPENING):
        return ()
    hints = [hint for rule, pattern in _patterns(action, policy) if (hint := _hint(name, rule, pattern))]
    return tuple(dict.fromkeys(hints))[:_MAX_HINTS]


def _patterns(action: Action, policy: CompiledPolicy) -> list[tuple[CompiledRule, str]]:
    """Patterns of rules of the same kind, the likest first; bounded, because this is only said to people."""
    found = [(rule, pattern) for rule in policy.rules if rule.kind == action.kind for pattern in _names(rule)][:_MAX_PATTERNS]
    matcher = difflib.SequenceMatcher(b=str(action.name)[:128].casefold(), autojunk=False)

    def likeness(one: tuple[CompiledRule, str]) -> float:
        matcher.set_seq1(one[1].replace("*", "").casefold())
        return matcher.quick_ratio()

    return sorted(found, key=likeness, reverse=True)


def _names(rule: CompiledRule) -> Iterator[str]:
    yield from rule.names.patterns if rule.names is not None else ()


def _hint(name: str, rule: CompiledRule, pattern: str) -> str:
    said = f"(rule `{rule.id}` at {rule.place})"
    if is_glob(pattern):
        return f"`{pattern}` does not fit `{name}`: {why} {said}" if (why := _missed(name, pattern)) else ""
    if name.casefold() == pattern.casefold():
        return f"`{pattern}` is written in another case than `{name}`; names are exact {said}"
    close = difflib.SequenceMatcher(None, name.casefold(), pattern.casefold(), autojunk=False).ratio() >= 0.75
    return f"did you mean `{pattern}`? {said}" if close else ""


def _missed(name: str, pattern: str) -> str:
    """Why a glob that looks as if it fitted does not."""
    if pattern.count("*") != 1:
        return ""
    head, _, tail = pattern.partition("*")
    if name == f"{head}{tail}":
        return "`*` is one or more characters; name it, too"
    if head + tail and name.startswith(head) and name.endswith(tail) and len(name) > len(head) + len(tail):
        return "`*` never crosses `.` or `:`; write one `*` for each part"
    if name.casefold().startswith(head.casefold()) and name.casefold().endswith(tail.casefold()) and head + tail:
        return "names are exact in their case"
    return ""
