"""What must hold for every policy: tried on random small ones."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from otel_runtime.policy.decide import scope_of
from otel_runtime.policy.explain import explain
from otel_runtime.policy.index import MAX_PLANS
from otel_runtime.policy.loading import LoadedPolicy, load_policy_text
from otel_runtime.policy.protocol import FactsView
from otel_runtime.policy.truth import spell
from otel_runtime.values.action import Action, Unreadable
from otel_runtime.values.decision import Decision

NOW = datetime(2026, 11, 20, tzinfo=UTC)
TOOLS = ["a", "b", "crm.a", "mcp:x:a"]
RANK = {"allow": 0, "require-approval": 1, "retryable-failure": 2, "deny": 3}

scalars = st.sampled_from([0, 1, 2.5, "x", "y", True, "a@corp.example"])
values = st.one_of(scalars, st.none(), st.lists(scalars, max_size=2), st.just(Unreadable("T", "opaque")))
leaf_tests = st.one_of(
    st.builds(lambda op, value: {op: value}, st.sampled_from(["eq", "ne"]), scalars),
    st.builds(lambda op, value: {op: value}, st.sampled_from(["gt", "lte"]), st.integers(-1, 2)),
    st.builds(lambda value: {"exists": value}, st.booleans()),
    st.builds(lambda value: {"contains": value}, scalars),
    st.just({"email_domain": "corp.example"}),
    st.just({"length": 1}),
)
value_tests = st.recursive(
    leaf_tests,
    lambda inner: st.one_of(
        st.builds(lambda op, test: {op: test}, st.sampled_from(["not", "some", "every", "none"]), inner),
        st.builds(lambda op, tests: {op: tests}, st.sampled_from(["all_of", "any_of"]), st.lists(inner, min_size=1, max_size=2)),
    ),
    max_leaves=3,
)
leaf_conditions = st.one_of(
    st.builds(lambda name, test: {"args": {name: test}}, st.sampled_from(["p", "q"]), value_tests),
    st.builds(lambda user: {"user": user}, st.sampled_from(["u", "v"])),
    st.builds(lambda role: {"role": role}, st.sampled_from(["r", "s"])),
    st.builds(lambda agent: {"agent": agent}, st.sampled_from(["m", "n"])),
    st.builds(lambda test: {"context": {"c": test}}, leaf_tests),
    st.just({"after": {"label": "untrusted"}}),
    st.just({"only_args": ["p"]}),
)
conditions = st.recursive(
    leaf_conditions,
    lambda inner: st.one_of(
        st.builds(lambda op, one: {op: one}, st.sampled_from(["not", "unless"]), inner),
        st.builds(lambda op, many: {op: many}, st.sampled_from(["all_of", "any_of"]), st.lists(inner, min_size=1, max_size=2)),
    ),
    max_leaves=3,
)


@st.composite
def rules(draw: st.DrawFn, decision: str | None = None) -> dict[str, Any]:
    verdict = decision or draw(st.sampled_from(list(RANK)))
    rule: dict[str, Any] = {"decision": verdict, "tool": draw(st.sampled_from([*TOOLS, "*", "crm.*", ["a", "b"]]))}
    rule |= draw(st.one_of(st.just({}), conditions))
    if verdict == "require-approval":
        rule["approval"] = {"approvers": ["anyone"]}
    if draw(st.integers(0, 9)) == 0:
        rule["mode"] = "shadow"
    return rule


@st.composite
def actions(draw: st.DrawFn) -> tuple[Action, FactsView | None]:
    action = Action(
        "tool",
        draw(st.sampled_from(TOOLS)),
        draw(st.dictionaries(st.sampled_from(["p", "q", "z"]), values, max_size=2)),
        agents=tuple(draw(st.lists(st.sampled_from(["m", "n"]), max_size=2))),
        session="s",
        user=draw(st.sampled_from(["u", "v", None])),
        roles=draw(st.sampled_from([None, frozenset(), frozenset({"r"})])),
        context=draw(st.sampled_from([{}, {"c": "x"}, {"c": 5}])),
    )
    return action, draw(st.sampled_from([None, FactsView({}, {}, frozenset()), FactsView({}, {"untrusted": frozenset()}, frozenset())]))


def build(many: list[dict[str, Any]], default: str = "deny") -> LoadedPolicy:
    numbered = [{"id": f"r{at}", **rule} for at, rule in enumerate(many)]
    text = {"version": 1, "default": default, "context": {"c": "str"}, "tools": {"w": {"adds": ["untrusted"]}}, "rules": numbered}
    return load_policy_text(json.dumps(text))


def decided(loaded: LoadedPolicy, call: tuple[Action, FactsView | None]) -> Decision:
    return loaded.engine.decide(call[0], call[1], NOW).decision


class Reference:
    """The meaning once more: slow, without index, closures or cache, straight from the page and the raw rules."""

    ABSENT, UNKNOWN = object(), object()

    def __init__(self, action: Action, facts: FactsView | None) -> None:
        self.action = action
        self.facts = facts

    def decide(self, many: list[dict[str, Any]], default: str) -> str:
        agents: list[str | None] = list(dict.fromkeys(self.action.agents)) if self.action.agents else [None]
        return max((self.as_seen_by(agent, many, default) for agent in agents), key=RANK.__getitem__)

    def as_seen_by(self, agent: str | None, many: list[dict[str, Any]], default: str) -> str:
        said = []
        for rule in many:
            if rule.get("mode") == "shadow" or not self.named(rule["tool"]):
                continue
            holds = self.block({key: value for key, value in rule.items() if key not in {"tool", "decision", "approval", "mode"}}, agent)
            if holds is True:
                said.append(rule["decision"])
            elif holds is None and rule["decision"] != "allow":
                said.append("deny" if rule["decision"] == "retryable-failure" else rule["decision"])
        return max(said, key=RANK.__getitem__) if said else default

    def named(self, patterns: str | list[str]) -> bool:
        many = [patterns] if isinstance(patterns, str) else patterns
        return self.action.name in many or "*" in many or ("crm.*" in many and self.action.name == "crm.a")

    def block(self, conditions: dict[str, Any], agent: str | None) -> bool | None:
        return fold_all([self.one(key, value, agent) for key, value in conditions.items()])

    def one(self, key: str, value: Any, agent: str | None) -> bool | None:
        if key in {"not", "unless"}:
            return flip(self.block(value, agent))
        if key == "all_of":
            return fold_all([self.block(part, agent) for part in value])
        if key == "any_of":
            return fold_any([self.block(part, agent) for part in value])
        if key == "agent":
            return bool(agent == value)
        if key == "user":
            return None if self.action.user is None else self.action.user == value
        if key == "role":
            return None if self.action.roles is None else value in self.action.roles
        if key == "only_args":
            return all(name in value or self.action.args[name] is None or opaque(self.action.args[name]) for name in self.action.args)
        if key == "after":
            labels = self.facts.labels if self.facts is not None else None
            return None if labels is None else value["label"] in labels
        if key == "context":
            risk = self.action.context.get("c")
            return self.test(value["c"], risk if isinstance(risk, str) else self.UNKNOWN)
        ((name, test),) = value.items()
        return self.test(test, self.argument(name))

    def argument(self, name: str) -> object:
        # No signature: what was not given may stand under another name.
        value = self.action.args.get(name, self.UNKNOWN)
        return self.ABSENT if value is None else value

    def test(self, test: dict[str, Any], value: Any) -> bool | None:
        ((op, operand),) = test.items()
        if op in {"all_of", "any_of"}:
            return (fold_all if op == "all_of" else fold_any)([self.test(part, value) for part in operand])
        if op == "not":
            return flip(self.test(operand, value))
        if value is self.UNKNOWN:
            return None
        if op == "exists":
            return bool((value is not self.ABSENT) == operand)
        if value is self.ABSENT:
            return False
        return None if opaque(value) else self.operator(op, operand, value)

    def operator(self, op: str, operand: Any, value: Any) -> bool | None:
        if op in {"some", "every", "none"}:
            if not isinstance(value, list):
                return None
            results = [self.test(operand, element) for element in value]
            return {"some": fold_any(results), "every": fold_all(results) if results else False, "none": flip(fold_any(results))}[op]
        if op == "length":
            return len(value) == operand if isinstance(value, str | list) else None
        if op == "email_domain":
            return bool(value.endswith("@corp.example")) if isinstance(value, str) and "@" in value else None
        if op == "contains":
            if isinstance(value, str):
                return operand in value if isinstance(operand, str) else None
            return fold_any([same(element, operand) for element in value]) if isinstance(value, list) else None
        if op in {"gt", "lte"}:
            if isinstance(value, bool) or not isinstance(value, int | float):
                return None
            return bool(value > operand if op == "gt" else value <= operand)
        return same(value, operand) if op == "eq" else flip(same(value, operand))


def opaque(value: object) -> bool:
    return isinstance(value, Unreadable)


def same(left: Any, right: Any) -> bool | None:
    kinds = [
        bool if isinstance(one, bool) else str if isinstance(one, str) else float if isinstance(one, int | float) else None
        for one in (left, right)
    ]
    return bool(left == right) if kinds[0] is not None and kinds[0] is kinds[1] else None


def flip(value: bool | None) -> bool | None:
    return None if value is None else not value


def fold_all(results: list[bool | None]) -> bool | None:
    return False if False in results else None if None in results else True


def fold_any(results: list[bool | None]) -> bool | None:
    return flip(fold_all([flip(result) for result in results]))


class TestEveryPolicy:
    @settings(max_examples=400, deadline=None)
    @given(st.lists(rules(), min_size=1, max_size=4), actions(), st.sampled_from(["allow", "deny"]))
    def test_agrees_with_the_reference(self, many: list[dict[str, Any]], call: tuple[Action, FactsView | None], default: str) -> None:
        """The engine decides what a slow and obvious evaluator decides."""
        assert Reference(*call).decide(many, default) == decided(build(many, default), call).value

    @settings(max_examples=150, deadline=None)
    @given(st.lists(rules(), min_size=1, max_size=4), rules("deny"), actions(), st.sampled_from(["allow", "deny"]))
    def test_more_denies_never_allow_more(
        self, many: list[dict[str, Any]], deny: dict[str, Any], call: tuple[Action, FactsView | None], default: str
    ) -> None:
        """Adding a deny never loosens a decision, whatever it asks and whatever is unknown."""
        before, after = decided(build(many, default), call), decided(build([*many, deny], default), call)
        # An absent match falls to the default, so a deny can only add to what is refused.
        assert RANK[after.value] >= RANK[before.value]

    @settings(max_examples=150, deadline=None)
    @given(st.lists(rules(), min_size=1, max_size=4), actions(), st.randoms())
    def test_order_and_names_do_not_matter(self, many: list[dict[str, Any]], call: tuple[Action, FactsView | None], random: Any) -> None:
        """Another order and other names of the rules decide the same."""
        mixed = list(many)
        random.shuffle(mixed)
        one, two = decided(build(many), call), decided(build(mixed), call)
        assert (one.value, one.would_be, one.retry) == (two.value, two.would_be, two.retry)
        assert sorted((match.verdict, match.outcome) for match in one.matched) == sorted(
            (match.verdict, match.outcome) for match in two.matched
        )

    @settings(max_examples=150, deadline=None)
    @given(st.lists(rules(), min_size=1, max_size=4), actions())
    def test_explanation_agrees(self, many: list[dict[str, Any]], call: tuple[Action, FactsView | None]) -> None:
        """What `explain` says of a rule is what the engine found, and its conditions add up to it."""
        loaded = build(many)
        action, facts = call
        explanation = explain(action, loaded.engine.policy, facts, NOW)
        decision = decided(loaded, call)
        assert decision == explanation.decision
        if decision.code in {"policy.catalogue", "policy.unregistered"}:
            return
        found = {match.rule: match.outcome for match in decision.matched}
        told: dict[str, set[str]] = {}
        for rule in explanation.rules:
            told.setdefault(rule.rule, set()).add(spell(rule.outcome))
            outcomes = [condition.outcome for condition in rule.conditions]
            folded = False if False in outcomes else None if None in outcomes else True
            assert folded == rule.outcome
        assert all(found.get(rule, "false") in outcomes for rule, outcomes in told.items())


class TestFlat:
    def build(self, others: int) -> LoadedPolicy:
        many = [{"tool": f"other_{at}", "args": {"p": {"eq": at}}, "decision": "deny"} for at in range(others)]
        return build([*many, {"tool": "*_glob", "decision": "deny"}, {"tool": "a", "args": {"p": {"eq": "x"}}, "decision": "allow"}])

    def test_rules_for_other_tools_cost_nothing(self) -> None:
        """The rules that are tried for a name do not grow with the rules for other names."""
        tried = [len(self.build(others).engine.policy.index.named("tool", "a").rules) for others in (0, 10, 1000)]
        assert [1, 1, 1] == tried

    def test_work_is_the_same(self) -> None:
        """One decision enters as many functions at 1,000 rules as at 10."""
        import sys

        def work(loaded: LoadedPolicy) -> int:
            action = Action("tool", "a", {"p": "x"})
            loaded.engine.decide(action, None, NOW)
            entered = 0

            def count(_frame: object, event: str, _arg: object) -> None:
                nonlocal entered
                entered += event in {"call", "c_call"}

            sys.setprofile(count)
            try:
                loaded.engine.decide(action, None, NOW)
            finally:
                sys.setprofile(None)
            return entered

        assert work(self.build(10)) == work(self.build(1000))

    def test_made_up_names_are_bounded(self) -> None:
        """Names made up by a model do not fill the memory."""
        loaded = self.build(1)
        for at in range(MAX_PLANS + 10):
            loaded.engine.decide(Action("tool", f"made_up_{at}"), None, NOW)
        assert len(loaded.engine.policy.index._plans) <= MAX_PLANS

    def test_scope_is_not_shared(self) -> None:
        """Two decisions share no mutable state."""
        loaded = self.build(1)
        action = Action("tool", "a", {"p": "x"})
        plan = loaded.engine.policy.index.plan(action)
        assert scope_of(action, plan, loaded.engine.policy, None, NOW) is not scope_of(action, plan, loaded.engine.policy, None, NOW)
