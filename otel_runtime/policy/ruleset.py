"""A policy found sound, as plain data: everything that decides, and nothing that was needed to check it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from otel_runtime.policy.argtypes import parse_type
from otel_runtime.policy.catalogue import ToolEntry
from otel_runtime.policy.decide import CompiledPolicy
from otel_runtime.policy.index import Index
from otel_runtime.policy.names import Globs
from otel_runtime.policy.places import places_for
from otel_runtime.policy.rules import approval_terms, compile_rule
from otel_runtime.policy.terms import Approval, Rule
from otel_runtime.policy.verdicts import Defaults
from otel_runtime.policy.walk import blocks, folders_of, history_of
from otel_runtime.values.decision import Verdict

__all__ = ["RuleSet"]


@dataclass(frozen=True, slots=True)
class RuleSet:
    """The rules of a policy with what they refer to.

    Args:
        rules: Each with its place, `file:line`.
        catalogue: Tools the policy declares.
        context: Facts the application supplies, with their types.
        default: What follows where no rule matches.
        approval: Terms of a default that asks people.
        shadow: True when nothing is enforced.
        workspace: Folder that `workspace:` stands for; None when no file says it.
        digest: Hex SHA-256 of what decides.
    """

    rules: tuple[tuple[Rule, str], ...]
    catalogue: Mapping[str, ToolEntry]
    context: Mapping[str, str]
    default: Verdict
    approval: Approval | None
    shadow: bool
    workspace: str | None
    digest: str

    def compiled(self, protected: Iterable[Path], tool: str | None = None) -> CompiledPolicy:
        """Closures that decide. Folders and predicates are those of now.

        Args:
            protected: Files that no rule can open.
            tool: The only tool that will be asked about: rules that are not about it are left out, and what they need is not loaded.

        Raises:
            ValueError: A predicate, time zone or package that a rule needs is missing here.
        """
        rules = [
            compile_rule(rule, order, place)
            for order, (rule, place) in enumerate(self.rules)
            if tool is None or (rule.kind == "tool" and (rule.patterns is None or Globs(rule.patterns).fits(tool)))
        ]
        history = (pattern for rule, _ in self.rules for pattern in history_of(rule))
        types = {name: parse_type(kind) for name, kind in self.context.items()}
        terms = approval_terms("default", self.approval, "") if self.approval is not None else None
        roots = (root for rule, _ in self.rules for root in folders_of(rule))
        places = places_for(roots, self.workspace, protected)
        defaults = Defaults(self.default, terms, self.shadow, self.digest)
        return CompiledPolicy(tuple(rules), Index(rules, self.catalogue, history), defaults, self.catalogue, types, places)

    @property
    def asks_predicates(self) -> bool:
        """True when code of the operator's own decides with it."""
        return any(block.when is not None for rule, _ in self.rules for block, _ in blocks(rule, ()))
