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


class TestEveryPolicy:
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
