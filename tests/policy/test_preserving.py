"""A rule set that went through JSON decides as before."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_runtime.policy import terms
from otel_runtime.policy.case_model import Case
from otel_runtime.policy.loading import load_policy, load_policy_text
from otel_runtime.policy.preserving import ruleset_from, ruleset_json
from otel_runtime.policy.ruleset import RuleSet

ROOT = Path(__file__).parents[2]
FILES = [*sorted((ROOT / "policy").glob("*.yaml")), *sorted((ROOT / "tests/policy/cases").glob("*.yaml"))]
EVERYTHING = """
version: 1
name: all
default: require-approval
approval: {approvers: [anyone], quorum: 2, expires: 30m, edit: [to]}
mode: shadow
workspace: .
context: {risk: str, limit: "number?"}
tools:
  odd: {tags: [a, b], adds: [seen], trusted_source: true, args: {"$Rule": str, to: "list[str]?", amount: number}}
rules:
  - id: one
    tool: ["pay*", odd]
    tags: a
    agent: [planner, "*"]
    user: [ann, bob]
    role: [admin]
    session: {id: {exists: true}}
    context: {risk: {in: [high, {ref: session.user}]}, limit: {lte: 12.50}}
    args:
      $Rule: {eq: "1", ne: 1, not_in: [true, 1.5, 0.1000000000000000000001, "x"]}
      "to|cc": {some: {email_domain: [a.example]}, every: {glob: "*.x"}, none: {contains: "@"}, length: {lte: 3}}
      amount: {gt: 0.10, gte: 1, lt: {ref: args.limit}}
      path: {under: ["workspace:data", /srv], file_name: [".env", "*.pem"]}
      site: {url: {scheme: https, host: [a.example, "*.b.example"], port: [443, 8443], path: "/v1/*"}}
      line: {any_of: [{runs_only: [ls]}, {reads_only: [cat]}, {may_run: [rm]}], not: {starts_with: [x, y], ends_with: z}}
      text: {all_of: [{regex: "a+"}, {search: ["b", "c"]}], origin: {none_of: [user, "tool:x"]}}
    only_args: [to, cc]
    after: {label: [untrusted], tool: "get_*"}
    all_of: [{user: ann}, {unless: {role: root}}]
    any_of: [{not: {session: {user: {eq: eve}}}}]
    over: {sum: args.amount, max: "99.90", by: user, per: month, tz: UTC}
    decision: require-approval
    reason: "why — because"
    mode: shadow
    approval: {approvers: ["role:finance", acting-user], quorum: 2, expires: 4h, use_within: 500ms, edit: [amount]}
  - {id: two, tool: x, over: {usd: "1.10", by: all, per: 1min, reserve: 0.2}, decision: retryable-failure, retry: {after: 2s, max_attempts: 5, class: rate}}
  - {id: tries, tool: x, over: {attempts: 4, by: all, per: 1min}, decision: deny}
  - {id: words, kind: model, name: m, over: {tokens: 5, by: all, per: 1min, reserve: 2}, decision: deny}
  - {id: three, kind: model, name: ["gpt 5"], over: {calls: 3, by: agent, per: 1h}, decision: deny}
  - {id: four, tool: y, decision: allow, match: [{args: {}}]}
"""

# Whatever a file can hold, and names that look like our own marks.
TEXTS = st.text() | st.sampled_from(["$", "$Test", "$decimal", "$ref", "$Rule", ""])
SCALARS = st.one_of(
    TEXTS,
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.decimals(allow_nan=False, allow_infinity=False),
    st.builds(terms.Ref, st.sampled_from(["args", "session", "context"]), TEXTS),
)


def nested(inner: st.SearchStrategy[terms.Test]) -> st.SearchStrategy[terms.Test]:
    many = st.lists(inner, min_size=1, max_size=3).map(tuple)
    return st.fixed_dictionaries({}, optional={"not_": inner, "some": inner, "length": inner, "all_of": many, "any_of": many}).map(
        lambda written: terms.Test(**written)
    )


LEAVES = st.fixed_dictionaries(
    {},
    optional={
        "eq": SCALARS,
        "in_": st.lists(SCALARS).map(tuple),
        "gt": SCALARS,
        "regex": st.lists(TEXTS).map(tuple),
        "exists": st.booleans(),
    },
).map(lambda written: terms.Test(**written))
TESTS = st.recursive(LEAVES, nested, max_leaves=8)


def twice(rules: RuleSet) -> RuleSet:
    return ruleset_from(ruleset_json(rules))


def unproven(rules: RuleSet) -> tuple[tuple[terms.Rule, str], ...]:
    """The rules without their cases, which are not kept."""
    return tuple(
        (terms.Rule(**{name: value for name, value in vars(rule).items() if name not in {"match", "no_match"}}), place)
        for rule, place in rules.rules
    )


def same(before: RuleSet, after: RuleSet) -> bool:
    heads = [
        (dict(one.catalogue), dict(one.context), one.default, one.approval, one.shadow, one.workspace, one.digest)
        for one in (before, after)
    ]
    return heads[0] == heads[1] and unproven(before) == after.rules and repr(unproven(before)) == repr(after.rules)


class TestRuleSet:
    """To JSON and back."""

    @pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
    def test_of_every_policy_we_have(self, path: Path) -> None:
        """Packs and the files of the tests come back as they were, types and order included."""
        rules = load_policy([path]).ruleset
        assert same(rules, twice(rules))

    def test_with_everything_a_rule_can_say(self) -> None:
        """No operator, reference, number type or name is lost or taken for something else."""
        rules = load_policy_text(EVERYTHING).ruleset
        said = {name for rule, _ in rules.rules for name in rule.written} | {
            name for test in (rules.rules[0][0].args or {}).values() for name in test.written
        }
        missing = (set(vars(terms.Conditions)["__annotations__"]) | set(vars(terms.Rule)["__annotations__"])) - said - {"no_match", "when"}
        assert set() == missing - {"not_", "unless"}
        assert same(rules, twice(rules))

    def test_keeps_number_types(self) -> None:
        """A float, an exact decimal and an integer stay what they are."""
        (rule, _), *_ = twice(load_policy_text(EVERYTHING).ruleset).rules
        assert rule.args is not None
        odd = rule.args["$Rule"].not_in
        assert isinstance(odd, tuple)
        assert [bool, float, Decimal, str] == [type(item) for item in odd]

    @given(st.dictionaries(TEXTS, TESTS, max_size=4), TEXTS, TEXTS)
    def test_of_any_shape(self, args: dict[str, terms.Test], reason: str, workspace: str) -> None:
        """Any nesting of any values under any names comes back equal, in its order and with its types."""
        rule = terms.Rule(args=args, id="x", reason=reason)
        before = RuleSet(((rule, f"{reason}:1"),), {}, {reason: "str"}, "deny", None, shadow=False, workspace=workspace, digest="d")
        assert same(before, twice(before))

    def test_cases_are_left_out(self) -> None:
        """They prove a rule when it is read, and are most of a file."""
        kept = json.loads(ruleset_json(load_policy_text(EVERYTHING).ruleset))
        assert [] == [rule for rule, _ in kept["rules"] if "match" in dict(rule["$Rule"])]

    def test_refuses_what_it_does_not_know(self) -> None:
        """A new kind of value must be taught, never written as something else."""
        rules = load_policy_text(EVERYTHING).ruleset
        strange = RuleSet(
            ((terms.Rule(id="x", reason=Case.model_validate({})), "x:1"),),
            rules.catalogue,
            rules.context,
            "deny",
            None,
            shadow=False,
            workspace=None,
            digest="",
        )
        with pytest.raises(TypeError, match="expected a value of a rule"):
            ruleset_json(strange)

    @pytest.mark.parametrize("text", ["", "[]", "{}", '{"rules": 1}', "null"])
    def test_something_else_is_refused(self, text: str) -> None:
        """Never half a rule set."""
        with pytest.raises((ValueError, KeyError, TypeError)):
            ruleset_from(text)
