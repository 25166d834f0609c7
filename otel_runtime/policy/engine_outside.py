"""What engines of other languages share: the catalogue comes first, the strictest agent counts, and whatever is not understood is a denial.

An outside engine says which of its rules hold (`Outcome`s); what follows from several of them is decided by `verdicts`, as for rules of our
own. INVARIANT: nothing here turns an error, a gap or a doubt into an allow.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from functools import lru_cache
from typing import Final
from uuid import UUID

from otel_runtime.policy.catalogue import Shape, ToolEntry
from otel_runtime.policy.conditions import Condition
from otel_runtime.policy.names import is_name, no_such_tool
from otel_runtime.policy.protocol import FactsView, Needs, Ruling, Start
from otel_runtime.policy.rules import CompiledRule
from otel_runtime.policy.verdicts import Defaults, Outcome, Situation, judge, refuse, stricter, verdict_of
from otel_runtime.values.action import Action, Kind, ToolSignature, Unreadable
from otel_runtime.values.decision import Decision, Verdict

__all__ = [
    "ASKED",
    "Opaque",
    "Untold",
    "as_text",
    "callers",
    "catalogue_refusal",
    "outside_rule",
    "rule_on",
    "session_needs",
    "shortened",
    "spelled",
    "tagged",
]

# Written in another language and evaluated there: the closure of our own engine has nothing to add.
ASKED: Final = Condition("asked of another engine", lambda _scope: True)
_MAX_REASON: Final = 500


class Untold(ValueError):
    """A call holds something that the other engine cannot be told exactly; the message says what."""


class Opaque:
    """Stands for a value that enters a decision by its type name only."""

    __slots__ = ("type_name",)

    def __init__(self, type_name: str) -> None:
        self.type_name: str = type_name


def tagged(action: Action, tools: Mapping[str, ToolEntry]) -> Action:
    """The call with the tags that a catalogue gives its tool, beside those of the decorator.

    Args:
        action: The call.
        tools: The catalogue.
    """
    entry = tools.get(action.name) if action.kind == "tool" else None
    return action if entry is None or entry.tags <= action.tags else replace(action, tags=action.tags | entry.tags)


def catalogue_refusal(action: Action, known: Container[str], defaults: Defaults) -> Decision | None:
    """The denial of an unregistered tool and of arguments that do not fit; None when nothing is wrong with the call.

    Args:
        action: The call.
        known: Tools that a catalogue declares.
        defaults: Digest and mode.
    """
    if action.kind != "tool":
        return None
    if not is_name(action.name) or not (action.registered or action.name in known):
        return refuse(no_such_tool(action.name, registered=action.registered), "policy.unregistered", defaults)
    misfit = _shape(action.signature).misfit(action.args) if action.signature is not None else ""
    return refuse(f"the arguments of `{action.name}` do not fit: {misfit}", "policy.catalogue", defaults) if misfit else None


@lru_cache(maxsize=4096)
def _shape(signature: ToolSignature) -> Shape:
    return Shape(signature)


def callers(action: Action) -> tuple[str | None, ...]:
    """The points of view a call is decided from: each agent of the chain, or nobody's."""
    return tuple(dict.fromkeys(action.agents)) or (None,)


def session_needs(action: Action) -> Needs | None:
    """Labels and history of the session; None without a session."""
    return None if action.session is None else Needs(session=action.session, around=action.around)


def outside_rule(kind: Kind, rule: CompiledRule) -> CompiledRule:
    """The same rule, about this kind of call."""
    return rule if rule.kind == kind else replace(rule, kind=kind)


def rule_on(action: Action, views: Sequence[Sequence[Outcome]], defaults: Defaults, facts: FactsView | None, attempt: int) -> Ruling:
    """One ruling from what held for each caller: the strictest view counts.

    Args:
        action: The call.
        views: What is not false, per caller.
        defaults: For calls nothing speaks of.
        facts: What was read, or None.
        attempt: Which attempt it is, starts at 1.
    """
    situation = Situation(action, attempt, facts.failure if facts is not None else "")
    verdicts: list[Verdict] = [verdict_of(view, defaults, situation) for view in views]
    strictest = verdicts[0]
    for verdict in verdicts[1:]:
        strictest = stricter(strictest, verdict)
    counting = _merged(view for view, verdict in zip(views, verdicts, strict=True) if verdict == strictest)
    decision = judge(counting, _merged(views), defaults, situation)
    if decision.value == "require-approval" and (action.kind not in {"tool", "capability"} or decision.approval is None):
        decision = refuse(f"a person cannot be asked about a call of kind `{action.kind}`", "policy.error", defaults)
    lets_run = decision.value in {"allow", "require-approval"} and action.kind == "tool" and action.session is not None
    return Ruling(decision, Start(session=action.session, tool=action.name, around=action.around) if lets_run else None)


def _merged(views: Iterable[Sequence[Outcome]]) -> list[Outcome]:
    # By the whole rule: another engine may say something else to each caller under one name, and all of it counts.
    merged: dict[CompiledRule, Outcome] = {}
    for outcome in (outcome for view in views for outcome in view):
        known = merged.get(outcome.rule)
        # What one caller makes certain is certain.
        if known is None or known.holds is None:
            merged[outcome.rule] = outcome
    return sorted(merged.values(), key=lambda outcome: outcome.rule.order)


def as_text(value: object) -> str | Opaque | None:
    """What a value that is no number, text, list or mapping is told as; None for one of these.

    Raises:
        Untold: It could not be read.
    """
    if isinstance(value, Unreadable):
        if value.why != "opaque":
            raise Untold(f"holds a value that cannot be read ({value.type_name}: {value.why})")
        return Opaque(value.type_name)
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, timedelta | UUID):
        return str(value)
    return Opaque("bytes") if isinstance(value, bytes | bytearray) else None


def spelled(value: float | Decimal) -> str:
    """An exact number as JSON takes it."""
    return repr(value) if isinstance(value, float) else str(value)


def shortened(text: str) -> str:
    """A message of another program, on one line and short."""
    line = " ".join(text.split())
    return line if len(line) <= _MAX_REASON else f"{line[: _MAX_REASON - 3]}..."
