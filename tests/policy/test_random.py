"""The engine against the reference on random policies and calls, and what must hold between two policies.

`OTEL_RUNTIME_RANDOM_PAIRS=100000` (or `make test-random`) says how many pairs of policy and call; another `OTEL_RUNTIME_RANDOM_SEED` makes others.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from otel_runtime.errors import ConfigError
from otel_runtime.policy.loading import LoadedPolicy, load_policy_text
from otel_runtime.policy.model import Conditions, Test
from otel_runtime.policy.protocol import FactsView, Needs, Ruling
from otel_runtime.values.action import Action, Parameter, ToolSignature, Unreadable

if TYPE_CHECKING:
    from tests.policy import random_policies, random_values, reference
else:

    def _beside(name: str) -> ModuleType:
        """A module of this folder, which is no package."""
        spec = importlib.util.spec_from_file_location(f"otel_runtime_tests_{name}", Path(__file__).with_name(f"{name}.py"))
        module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    reference, random_values, random_policies = (_beside(name) for name in ("reference", "random_values", "random_policies"))

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
PAIRS = int(os.environ.get("OTEL_RUNTIME_RANDOM_PAIRS", "20000"))
SEED = int(os.environ.get("OTEL_RUNTIME_RANDOM_SEED", "4"))
CALLS = 20
RANK = {"allow": 0, "require-approval": 1, "retryable-failure": 2, "deny": 3}


class Watched(reference.Reference):  # type: ignore[misc,unused-ignore]  # loaded by its path
    """The reference, which notes what each operator and condition came to."""

    outcomes: ClassVar[Counter[tuple[str, bool | None]]] = Counter()

    def operator(self, name: str, operand: Any, value: Any) -> bool | None:
        return self.noted(name, super().operator(name, operand, value))

    def condition(self, key: str, value: Any, agent: str | None) -> bool | None:
        return self.noted(key, super().condition(key, value, agent))

    def over(self, rule: str, over: Any) -> bool | None:
        return self.noted("over", super().over(rule, over))

    def noted(self, name: str, result: bool | None) -> bool | None:
        self.outcomes[name, result] += 1
        return result


# What is always known.
NEVER_UNKNOWN = {"agent", "tags", "only_args"}
OPERATORS = set(Test.model_fields) | set(Conditions.model_fields) | {"over"}


class World:
    """Makes pairs, and shows each to the engine and to the reference."""

    def __init__(self, root: Path) -> None:
        random_values.make_tree(root)
        self.root = root
        self.read = random_values.read_tables(root)
        tables = {
            "address": random_values.ADDRESSES,
            "path": random_values.PATHS,
            "url": random_values.URLS,
            "command": random_values.COMMANDS,
            "query": random_values.QUERIES,
        }
        self.texts = {name: [text.replace("ROOT", str(root)) for text in table] for name, table in tables.items()}

    def made(self, seed: int) -> Any:
        return random_policies.Made(seed, self.texts)

    def load(self, policy: dict[str, Any]) -> LoadedPolicy:
        text = json.dumps(policy).replace("ROOT", str(self.root))
        return load_policy_text(text, protected=[self.root / random_values.PROTECTED])

    def situation(self, made: Any, policies: list[LoadedPolicy]) -> tuple[Any, Action, FactsView | None]:
        """A call, as both see it, with facts for whatever one of the policies asks."""
        given = made.call()
        call = reference.Situation(**{**given, "args": opened(given["args"], reference.Opaque())})
        action = action_of(call, {"args": opened(given["args"], Unreadable("T", "opaque"))})
        asked = [needs for loaded in policies if (needs := loaded.engine.needs(action, NOW)) is not None]
        call.failed = bool(asked) and made.chance(0.04)
        call.tried = bool(asked) and made.chance(0.1)
        if call.session is not None and not call.failed:
            call.labels = set(made.random.sample(["untrusted", "crm"], made.pick([0, 0, 1, 2])))
            call.history = set(made.random.sample(["get", "crm.find", "pay"], made.pick([0, 0, 1, 2])))
        view = self.facts(made, call, asked) if asked else None
        return call, action, view

    def facts(self, made: Any, call: Any, asked: list[Needs]) -> FactsView:
        if call.failed:
            return FactsView(failure="the store is gone", tried=call.tried)
        counters: dict[Any, Decimal] = {}
        for key in dict.fromkeys(key for needs in asked for key in needs.counters):
            if made.chance(0.95):
                counters[key] = Decimal(made.pick(["0", "1", "2", "4", "99.5", "100", "250"]))
                call.used[(key.name.partition(":")[0], key.scope)] = Fraction(str(counters[key]))
        origins: dict[str, frozenset[str]] = {}
        for value in dict.fromkeys(value for needs in asked for value in needs.values):
            if (seen := made.seen()) is not None and call.session is not None:
                origins[value] = frozenset(seen)
                call.seen[Fraction(value.rpartition("#")[2]) if value.startswith(("#", "\x1f#")) else value] = seen
        watched = any(needs.session is not None for needs in asked)
        labels = {label: frozenset[str]() for label in call.labels} if watched and call.labels is not None else None
        history = frozenset(call.history) if watched and call.history is not None else None
        if not watched:
            call.labels = call.history = None
        return FactsView(counters, labels, history, origins=origins if call.session is not None else None, tried=call.tried)


def opened(value: Any, opaque: object) -> Any:
    """A made value with its opaque parts put in."""
    if isinstance(value, dict):
        return {key: opened(item, opaque) for key, item in value.items()}
    if isinstance(value, list):
        return [opened(item, opaque) for item in value]
    return opaque if value == "OPAQUE" else value


def action_of(call: Any, more: dict[str, Any]) -> Action:
    declared = call.signature
    signature = None
    if declared is not None:
        parameters = (Parameter(name, kind.rstrip("?"), not kind.endswith("?"), kind.endswith("?")) for name, kind in declared.items())
        signature = ToolSignature(tuple(parameters))
    same = {
        name: getattr(call, name)
        for name in ("kind", "name", "registered", "agents", "session", "user", "tenant", "context", "run", "call_id")
    }
    roles = None if call.roles is None else frozenset(call.roles)
    return Action(**same, roles=roles, tags=frozenset(call.tags), signature=signature, **more)


def said_by(ruling: Ruling) -> dict[str, Any]:
    """What of a ruling the reference speaks of."""
    decision, tried = ruling.decision, ruling.tried.reservations if ruling.tried is not None else ()
    approval, retry = decision.approval, decision.retry
    return {
        "value": decision.value,
        "would_be": decision.would_be or decision.value,
        "matched": {(match.rule, match.outcome) for match in decision.matched},
        "approvers": {(need.rule, need.approvers, need.quorum) for need in approval.requirements} if approval is not None else set(),
        "terms": (approval.expires_s, approval.use_within_s, approval.edit) if approval is not None else None,
        "retry": (retry.after_s, retry.max_attempts) if retry is not None else None,
        "counted": {(held.key.name.partition(":")[0], held.key.scope) for held in tried},
    }


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    root = tmp_path_factory.mktemp("tree") / "root"
    root.mkdir()
    before = Path.cwd()
    os.chdir(root)
    try:
        yield World(root)
    finally:
        os.chdir(before)


@pytest.mark.timeout(3600)
class TestRandom:
    def test_agrees_with_the_reference(self, world: World) -> None:
        """Verdict, shadow verdict, matching rules, approval and retry terms are those of a slow and obvious evaluator."""
        made = world.made(SEED)
        verdicts: Counter[str] = Counter()
        pairs = refused = 0
        while pairs < PAIRS:
            policy = made.policy()
            try:
                loaded = world.load(policy)
            except ConfigError as error:
                refused += 1
                if refused > 50 + pairs // 20:
                    pytest.fail(f"too many policies are refused: {error}")
                continue
            for _ in range(CALLS):
                call, action, facts = world.situation(made, [loaded])
                expected = vars(Watched(policy, call, world.read).decide())
                ruling = loaded.engine.decide(action, facts, NOW, call.attempt)
                decision = ruling.decision
                assert expected == said_by(ruling), (json.dumps(policy["rules"]), policy["default"], call, decision)
                verdicts[decision.value] += 1
                pairs += 1
        # Seen with `pytest -s`.
        sys.stdout.write(f"{pairs} pairs, {refused} policies refused, {dict(verdicts)}\n")
        # Every verdict is reached, and often enough to mean something.
        assert all(verdicts[verdict] > pairs // 100 for verdict in RANK), verdicts
        names = {name.rstrip("_") for name in OPERATORS} - {"tool", "name"}
        missing = {(name, result) for name in names for result in (True, False, None) if not Watched.outcomes[name, result]}
        assert pairs < 20_000 or {(name, None) for name in NEVER_UNKNOWN} == missing

    def test_a_deny_never_adds_an_allow(self, world: World) -> None:
        """Adding a deny, whatever it asks and whatever of it is unknown, never loosens a decision."""
        made = world.made(SEED + 1)
        for first, call, facts, attempt in self.pairs(world, made, lambda policy: [*policy["rules"], made.rule("more", "deny")]):
            before, after = (engine.engine.decide(call, facts, NOW, attempt).decision for engine in first)
            assert RANK[after.value] >= RANK[before.value], (call, before, after)

    def test_order_and_names_do_not_matter(self, world: World) -> None:
        """Rules in another order decide the same; only which of several equal rules is named may differ."""
        made = world.made(SEED + 2)
        for both, call, facts, attempt in self.pairs(world, made, lambda policy: made.random.sample(policy["rules"], len(policy["rules"]))):
            one, other = (said_by(engine.engine.decide(call, facts, NOW, attempt)) for engine in both)
            assert one == other, call

    def test_renaming_does_not_matter(self, world: World) -> None:
        """Other ids of the rules decide the same."""
        made = world.made(SEED + 3)
        for both, call, facts, attempt in self.pairs(
            world,
            made,
            lambda policy: [{**rule, "id": f"z{9 - at}"} for at, rule in enumerate(policy["rules"])],
            keep=lambda rule: "over" not in rule,
        ):
            one, other = (engine.engine.decide(call, facts, NOW, attempt).decision for engine in both)
            assert (one.value, one.would_be, one.retry, one.code) == (other.value, other.would_be, other.retry, other.code), call
            assert Counter((match.verdict, match.outcome) for match in one.matched) == Counter(
                (match.verdict, match.outcome) for match in other.matched
            )

    def test_an_error_in_a_deny_never_allows(self, world: World) -> None:
        """A deny whose conditions cannot be known decides as one that plainly holds."""
        made = world.made(SEED + 4)
        unknown = {"id": "unsure", "decision": "deny", "when": "operator:truediv"}
        for both, call, facts, attempt in self.pairs(
            world, made, lambda policy: [*policy["rules"], unknown], keep=lambda rule: rule.get("kind", "tool") == "tool"
        ):
            decision = both[1].engine.decide(call, facts, NOW, attempt).decision
            if call.kind == "tool" and not decision.shadow:
                assert "deny" == decision.value, (call, decision)

    def pairs(
        self, world: World, made: Any, change: Any, keep: Any = lambda _rule: True
    ) -> Iterator[tuple[list[LoadedPolicy], Action, Any, int]]:
        """Two policies, one changed, and calls with facts for both."""
        for _ in range(max(1, PAIRS // CALLS // 10)):
            policy = made.policy()
            policy["rules"] = [rule for rule in policy["rules"] if keep(rule)] or [{"id": "r0", "decision": "allow", "tool": "pay"}]
            try:
                both = [world.load(policy), world.load({**policy, "rules": change(policy)})]
            except ConfigError:
                continue
            for _ in range(CALLS):
                call, action, facts = world.situation(made, both)
                yield both, action, facts, call.attempt
