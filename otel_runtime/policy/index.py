"""Which rules can matter for a name, found once per name: rules for other tools cost nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from otel_runtime.policy.budgets import Budget
from otel_runtime.policy.catalogue import Shape, ToolEntry
from otel_runtime.policy.names import Globs, is_name
from otel_runtime.policy.protocol import Ruling
from otel_runtime.policy.rules import CompiledRule
from otel_runtime.policy.scope import Scope
from otel_runtime.policy.truth import Tri
from otel_runtime.values.action import Action, Kind, ToolSignature

__all__ = ["MAX_PLANS", "Index", "Plan"]

MAX_PLANS: Final = 4096


class Plan:
    """Everything that is known about a name before a call of it arrives."""

    __slots__ = (
        "_declared",
        "_found",
        "adds",
        "attempts",
        "budgets",
        "in_history",
        "known",
        "needs_facts",
        "ruled",
        "rules",
        "tags",
        "tries",
        "uses_agent",
        "uses_origin",
        "uses_session",
        "valid",
    )

    def __init__(self, rules: tuple[CompiledRule, ...], entry: ToolEntry | None, *, in_history: bool, valid: bool) -> None:
        self.rules: tuple[CompiledRule, ...] = rules
        self.valid: bool = valid
        self.known: bool = entry is not None
        self.tags: frozenset[str] = entry.tags if entry is not None else frozenset()
        self.adds: frozenset[str] = entry.adds if entry is not None else frozenset()
        self.in_history: bool = in_history
        self.budgets: tuple[Budget, ...] = tuple(rule.budget for rule in rules if rule.budget is not None)
        # Rules that count calls whether they run or not.
        self.attempts: tuple[CompiledRule, ...] = tuple(
            rule for rule in rules if rule.budget is not None and rule.budget.unit == "attempts"
        )
        self.uses_agent: bool = any(rule.uses_agent for rule in rules)
        self.uses_origin: bool = any(rule.uses_origin for rule in rules)
        self.uses_session: bool = any(rule.uses_session for rule in rules)
        self.needs_facts: bool = self.uses_session or bool(self.budgets)
        # Each rule with what tries it: without a limit, that is its condition alone.
        self.tries: tuple[tuple[CompiledRule, Callable[[Scope], Tri]], ...] = tuple(
            (rule, rule.condition.check if rule.budget is None else rule.evaluate) for rule in rules
        )
        # Rulings that depend on nothing but which rules hold, by the order of those rules; what must be begun is not in them.
        self.ruled: dict[tuple[int, ...], Ruling] = {}
        self._declared = Shape(entry.signature) if entry is not None and entry.signature is not None else None
        self._found: Shape | None = None

    def shape(self, signature: ToolSignature | None) -> Shape | None:
        """The signature to check against: the catalogue's, else the one the decorator found."""
        if self._declared is not None or signature is None:
            return self._declared
        shape = self._found
        if shape is None or shape.signature is not signature:
            # Kept for the next call; a racing thread computes the same.
            shape = self._found = Shape(signature)
        return shape


class Index:
    """Rules by kind and name.

    Args:
        rules: In the order of the files.
        catalogue: Tools the policy declares.
        history: Tools, or globs of them, whose start some rule asks about, also one that is not among `rules`.
    """

    def __init__(self, rules: Sequence[CompiledRule], catalogue: Mapping[str, ToolEntry], history: Iterable[str] = ()) -> None:
        self._catalogue = catalogue
        self._exact: dict[tuple[Kind, str], list[CompiledRule]] = {}
        self._loose: dict[Kind, list[CompiledRule]] = {}
        self._plans: dict[tuple[Kind, str], Plan] = {}
        self._history = Globs((*history, *(pattern for rule in rules for pattern in rule.history)))
        for rule in rules:
            self._add(rule)

    def _add(self, rule: CompiledRule) -> None:
        if rule.names is not None and rule.names.only_exact:
            for name in rule.names.exact:
                self._exact.setdefault((rule.kind, name), []).append(rule)
        else:
            self._loose.setdefault(rule.kind, []).append(rule)

    def plan(self, action: Action) -> Plan:
        """The plan of an action's name."""
        # As `named` looks it up: most names are known, and every decision asks.
        plan = self._plans.get((action.kind, action.name))
        return self.named(action.kind, action.name) if plan is None else plan

    def named(self, kind: Kind, name: str) -> Plan:
        """The plan of a name, made when it is first asked for."""
        key = (kind, name)
        plan = self._plans.get(key)
        if plan is None:
            plan = self._make(kind, name)
            # Bounded against names made up by a model; threads may race here, each result is the same.
            if len(self._plans) >= MAX_PLANS:
                self._plans = {}
            self._plans[key] = plan
        return plan

    def _make(self, kind: Kind, name: str) -> Plan:
        loose = (rule for rule in self._loose.get(kind, ()) if rule.names is None or rule.names.fits(name))
        rules = tuple(sorted((*self._exact.get((kind, name), ()), *loose), key=lambda rule: rule.order))
        entry = self._catalogue.get(name) if kind == "tool" else None
        history = kind == "tool" and self._history.fits(name)
        return Plan(rules, entry, in_history=history, valid=kind != "tool" or is_name(name))
