"""Whole policies in Cedar, evaluated in this process by cedarpy.

Theory of operation. Cedar answers Allow or Deny and names the policies that decided, but not those it overruled. To apply our meaning (the
strictest wins, every requirement of the winners is kept, every rule that matched is recorded) the engine must know every policy that holds:
the set it evaluates holds each policy with the effect `permit`, so that Cedar names them all, and what each of them says follows from its
own effect and its `@decision`. For policies without annotations this is Cedar's own decision: forbid overrides permit, nothing is a denial.

Cedar leaves a policy out when it cannot be evaluated. Here any such diagnostic is a denial: a `forbid` must not vanish for a missing
argument. So is whatever Cedar cannot be told exactly (see `engine_cedar_view`).
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from otel_runtime.errors import ConfigError
from otel_runtime.policy.catalogue import ToolEntry
from otel_runtime.policy.engine_cedar_files import CedarPolicy, cedar_files, cedarpy, read_policies
from otel_runtime.policy.engine_cedar_view import RESOURCE, entities_of, request_of, unknown_types
from otel_runtime.policy.engine_outside import Untold, callers, catalogue_refusal, outside_rule, rule_on, session_needs, shortened, tagged
from otel_runtime.policy.protocol import FactsView, Needs, Ruling
from otel_runtime.policy.verdicts import Defaults, Outcome, refuse
from otel_runtime.values.action import Action, Kind

__all__ = ["CedarEngine", "load_cedar"]

_log = logging.getLogger(__name__)
_STOPS: Final = (KeyboardInterrupt, SystemExit, GeneratorExit)


def load_cedar(paths: Sequence[Path], tools: Mapping[str, ToolEntry] = MappingProxyType({}), *, shadow: bool = False) -> CedarEngine:
    """Read Cedar policies.

    Args:
        paths: `.cedar` files, or folders of them.
        tools: The catalogue beside them; tools that it does not name must be registered by a decorator.
        shadow: True decides and records, and lets everything run.

    Raises:
        ConfigError: cedarpy is missing, or every mistake in the files at once.
    """
    return CedarEngine(read_policies(cedar_files(paths)), tools, shadow=shadow)


class CedarEngine:
    """Decides by Cedar policies.

    Args:
        policies: What `read_policies` gave.
        tools: The catalogue: which tools there are besides the registered ones, and tags.
        shadow: True decides and records, and lets everything run.
    """

    __slots__ = ("_about", "_defaults", "_library", "_mentions", "_policies", "_set", "_tools", "_tried")

    def __init__(
        self, policies: Sequence[CedarPolicy], tools: Mapping[str, ToolEntry] = MappingProxyType({}), *, shadow: bool = False
    ) -> None:
        self._library = cedarpy()
        self._policies: Mapping[str, CedarPolicy] = {policy.rule.id: policy for policy in policies}
        self._tools = tools
        bodies = {name: dict(policy.body) for name, policy in self._policies.items()}
        normal = json.dumps(bodies, sort_keys=True)
        mode = "shadow\n" if shadow else ""
        self._defaults = Defaults("deny", shadow=shadow, digest=hashlib.sha256(f"cedar\n{mode}{normal}".encode()).hexdigest())
        asked = {name: {**body, "effect": "permit"} for name, body in bodies.items()}
        # Those in shadow are asked apart, so that an error in one of them stops nothing.
        self._set = self._together({name: body for name, body in asked.items() if not self._policies[name].rule.shadow})
        tried = {name: body for name, body in asked.items() if self._policies[name].rule.shadow}
        self._tried = self._together(tried) if tried else None
        self._about = {name: _resource_of(policy.body) for name, policy in self._policies.items()}
        # Only what could be overlooked matters: an allow that cannot be known does not hold anyway.
        self._mentions = {name: _types_in(policy.body) for name, policy in self._policies.items() if policy.rule.verdict != "allow"}

    def _together(self, bodies: Mapping[str, object]) -> Any:  # Any: a type of the library, which may be missing
        try:
            return self._library.PolicySet.from_json_str(json.dumps({"staticPolicies": bodies, "templates": {}, "templateLinks": []}))
        except ValueError as error:
            raise ConfigError.of("C003", f"cedarpy does not take the policies together: {shortened(str(error))}", "cedar") from None

    @property
    def digest(self) -> str:
        """Hex SHA-256 of the policies."""
        return self._defaults.digest

    @property
    def rules(self) -> int:
        """How many policies there are."""
        return len(self._policies)

    def governs(self, kind: Kind, name: str) -> bool:
        """True for tools and capabilities, and for what a policy could be about."""
        return kind in {"tool", "capability"} or any(_concerns(about, kind, name) for about in self._about.values())

    def needs(self, action: Action, now: datetime) -> Needs | None:
        """Labels and history of the session."""
        return session_needs(action)

    def decide(self, action: Action, facts: FactsView | None, now: datetime, attempt: int = 1) -> Ruling:
        """Decide one action; whatever goes wrong is a denial."""
        try:
            return self._decided(action, facts, now, attempt)
        except Untold as untold:
            reason = f"Cedar cannot be told exactly what `{action.name}` is called with: {untold}"
            return Ruling(refuse(reason, "policy.unknown", self._defaults))
        except _STOPS:
            raise
        except BaseException as error:  # noqa: BLE001  # a panic of the extension is no Exception; nothing runs because of one
            _log.exception("policy: Cedar failed to decide on `%s`", action.name)
            return Ruling(refuse(f"Cedar could not decide ({type(error).__name__})", "policy.error", self._defaults))

    def _decided(self, action: Action, facts: FactsView | None, now: datetime, attempt: int) -> Ruling:
        refusal = catalogue_refusal(action, self._tools, self._defaults)
        if refusal is not None:
            return Ruling(refusal)
        action = tagged(action, self._tools)
        views: list[list[Outcome]] = []
        for agent in callers(action):
            request, entities = request_of(action, agent, facts, now), entities_of(action, agent)
            answer = self._library.is_authorized(request, self._set, entities)
            errors = answer.diagnostics.errors
            if errors:
                return Ruling(refuse(f"Cedar could not evaluate every policy: {shortened(str(errors[0]))}", "policy.error", self._defaults))
            held = answer.diagnostics.reasons
            if answer.allowed != bool(held):
                return Ruling(refuse(f"Cedar answered `{answer.decision.value}` without a reason", "policy.error", self._defaults))
            views.append([*self._outcomes(action, held, shadow=False), *self._shadowed(action, request, entities)])
        return rule_on(action, views, self._defaults, facts, attempt)

    def _shadowed(self, action: Action, request: Any, entities: Any) -> list[Outcome]:  # Any: what cedarpy takes
        """What policies in shadow say; where one cannot be evaluated, none of them that does not plainly hold is known."""
        if self._tried is None:
            return []
        answer = self._library.is_authorized(request, self._tried, entities)
        held, errors = answer.diagnostics.reasons, answer.diagnostics.errors
        found = self._outcomes(action, held, shadow=True)
        if errors:
            named = {outcome.rule.id for outcome in found}
            doubt = f"a policy in shadow ({shortened(str(errors[0]))})"
            found += [
                Outcome(outside_rule(action.kind, policy.rule), None, doubt)
                for name, policy in self._policies.items()
                if policy.rule.shadow and name not in named and _concerns(self._about[name], action.kind, action.name)
            ]
        return found

    def _outcomes(self, action: Action, held: Sequence[str], *, shadow: bool) -> list[Outcome]:
        outcomes = [Outcome(outside_rule(action.kind, self._policies[name].rule), holds=True) for name in held]
        unknown = unknown_types(action)
        if unknown:
            for name, types in self._mentions.items():
                lacking = sorted(types & unknown)
                if (
                    lacking
                    and name not in held
                    and self._policies[name].rule.shadow is shadow
                    and _concerns(self._about[name], action.kind, action.name)
                ):
                    rule = outside_rule(action.kind, self._policies[name].rule)
                    outcomes.append(Outcome(rule, None, f"whether the caller is a `{lacking[0]}` the policy names"))
        return outcomes


def _resource_of(body: Mapping[str, Any]) -> tuple[str, str]:
    """Type and id of the one resource a policy is about, where its head says so; empty where it does not."""
    head = body["resource"]
    if head["op"] == "==":
        return head["entity"]["type"], head["entity"]["id"]
    return (head["entity_type"], "") if head["op"] == "is" else ("", "")


def _concerns(about: tuple[str, str], kind: Kind, name: str) -> bool:
    return about[0] in {"", RESOURCE[kind]} and about[1] in {"", name}


def _types_in(node: object) -> frozenset[str]:
    """Every entity type a policy speaks of."""
    if isinstance(node, Mapping):
        named = {str(node[key]) for key in ("type", "entity_type") if isinstance(node.get(key), str)}
        return frozenset(named).union(*(_types_in(value) for value in node.values()))
    return frozenset().union(*(_types_in(value) for value in node)) if isinstance(node, list) else frozenset()
