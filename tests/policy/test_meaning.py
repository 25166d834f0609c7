"""The page "Policy", clause by clause: each table row is a rule, a call and what must come of it."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, ClassVar

import pytest

from otel_runtime.policy.loading import LoadedPolicy, load_policy_text
from otel_runtime.policy.protocol import CounterKey, FactsView, Ruling
from otel_runtime.values.action import Action, Kind, Parameter, ToolSignature, Unreadable
from otel_runtime.values.decision import Decision

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
HEAD = """version: 1
default: deny
context: {risk: str, note: "str?", limit: number, region: str}
tools:
  pay: {args: {amount: number, currency: "str?", tags: "list[str]?", data: "any?", flag: "bool?", to: "list[str]?", cc: "any?"}}
  other: {args: {name: "str?"}}
  web_fetch: {adds: [untrusted], tags: [network]}
"""
CLEAN = FactsView({}, {}, frozenset())


def policy(rules: str, head: str = HEAD) -> LoadedPolicy:
    return load_policy_text(f"{head}rules:\n{rules}")


def ask(loaded: LoadedPolicy, tool: str = "pay", facts: FactsView | None = CLEAN, attempt: int = 1, **more: Any) -> Ruling:
    given: dict[str, Any] = {"kind": "tool", "name": tool, "session": "s", "user": "carla", "roles": frozenset({"agent"}), **more}
    return loaded.engine.decide(Action(**given), facts, NOW, attempt)


def decided(loaded: LoadedPolicy, tool: str = "pay", **more: Any) -> Decision:
    return ask(loaded, tool, **more).decision


class TestStrictestWins:
    rules: ClassVar[dict[str, str]] = {
        "deny": "  - {id: d, tool: pay, decision: deny}\n",
        "retryable-failure": "  - {id: r, tool: pay, decision: retryable-failure}\n",
        "require-approval": "  - {id: q, tool: pay, decision: require-approval, approval: {approvers: [anyone]}}\n",
        "allow": "  - {id: a, tool: pay, decision: allow}\n",
    }

    @pytest.mark.parametrize("stricter", range(4))
    @pytest.mark.parametrize("looser", range(4))
    def test_order_of_verdicts(self, stricter: int, looser: int) -> None:
        """A deny > retryable-failure > require-approval > allow, in whichever order the rules stand."""
        if looser <= stricter:
            return
        verdicts = list(self.rules)
        first, second = self.rules[verdicts[stricter]], self.rules[verdicts[looser]]
        for text in (first + second, second + first):
            assert verdicts[stricter] == decided(policy(text), args={"amount": 1}).value

    def test_default(self) -> None:
        """Where no rule matches the default decides, and says so."""
        decision = decided(policy(self.rules["allow"]), "other", args={})
        assert ("deny", "policy.default", None) == (decision.value, decision.code, decision.rule)

    def test_default_require_approval(self) -> None:
        """A default of require-approval carries its own terms."""
        head = HEAD.replace("default: deny", "default: require-approval\napproval: {approvers: [acting-user], expires: 10min}")
        decision = decided(policy(self.rules["deny"], head), "other", args={})
        assert decision.approval is not None
        assert ("require-approval", 600.0, ("acting-user",)) == (
            decision.value,
            decision.approval.expires_s,
            decision.approval.requirements[0].approvers,
        )

    def test_every_match_is_recorded(self) -> None:
        """A decision names its rule and lists every rule that matched, with its place."""
        decision = decided(policy("".join(self.rules.values())), args={"amount": 1})
        assert ("d", "policy:9") == (decision.rule, decision.place)
        assert ["d", "r", "q", "a"] == [match.rule for match in decision.matched]

    @pytest.mark.parametrize("kind", ["model", "agent", "workflow"])
    def test_other_kinds_are_allowed(self, kind: Kind) -> None:
        """Models, agents and workflows are allowed unless a rule says otherwise."""
        loaded = policy(self.rules["allow"] + f'  - {{id: bad, kind: {kind}, name: "bad*", decision: deny}}\n')
        assert ["allow", "deny"] == [decided(loaded, "good", kind=kind).value, decided(loaded, "bad-one", kind=kind).value]

    def test_capabilities_follow_the_default(self) -> None:
        """A capability no rule matches is decided by the default."""
        loaded = policy("  - {id: c, kind: capability, name: database, decision: allow}\n")
        assert ["allow", "deny"] == [decided(loaded, name, kind="capability").value for name in ("database", "mail")]


class TestCatalogue:
    loaded = policy('  - {id: all, tool: "*", decision: allow}\n')

    @pytest.mark.parametrize(
        "args",
        [
            {},
            {"amount": "1"},
            {"amount": True},
            {"amount": 1, "Amount": 5},
            {"amount": None},
            {"amount": float("nan")},
            {"amount": complex(50, 0)},
        ],
    )
    def test_misfits_are_denied_first(self, args: dict[str, object]) -> None:
        """Missing, extra and mistyped arguments are denied before any rule is asked."""
        assert ("deny", "policy.catalogue") == (decided(self.loaded, args=args).value, decided(self.loaded, args=args).code)

    def test_decorated_signature_counts(self) -> None:
        """Where the file declares no arguments the decorator's signature is checked."""
        signature = ToolSignature((Parameter("url", "str"),))
        assert ["allow", "deny"] == [
            decided(self.loaded, "web_fetch", signature=signature, args=args).value for args in ({"url": "x"}, {"url": 1})
        ]

    @pytest.mark.parametrize("name", ["ghost", "pay ", "Pay", "pay\u200b", "\uff50ay", "mcp__evil__pay", "pay\n"])
    def test_unregistered(self, name: str) -> None:
        """A tool that nobody registered or declared is denied, whatever it looks like."""
        assert decided(self.loaded, name, registered=False).code == "policy.unregistered"

    @pytest.mark.parametrize("name", [None, ["pay"], {"name": "pay"}])
    def test_name_of_another_type(self, name: object) -> None:
        """A name that is no text is denied, and nothing is raised."""
        assert decided(self.loaded, name=name).value == "deny"

    def test_declared_tool_needs_no_decorator(self) -> None:
        """A tool of the catalogue is known without a decorator."""
        assert decided(self.loaded, "other", registered=False, args={}).value == "allow"


def test_name() -> None:
    """A name outside the grammar is denied even where a decorator registered it, and the author is told how to mend it."""
    decision = decided(TestCatalogue.loaded, "get weather", registered=True)
    assert ("policy.unregistered", True) == (
        decision.code,
        decision.reason.startswith("`get weather` is no name that a rule could say; expected"),
    )
    assert "there is no tool `get weather`" == decided(TestCatalogue.loaded, "get weather", registered=False).reason


# Condition on `pay`, arguments, and what the condition must come to.
VALUES: list[tuple[str, dict[str, Any], bool | None]] = [
    ("{amount: {eq: 5}}", {"amount": 5}, True),
    ("{amount: {eq: 5}}", {"amount": 5.0}, True),
    ("{amount: {eq: 5}}", {"amount": Decimal("5.00")}, True),
    ("{amount: {eq: 0.1}}", {"amount": 0.1}, True),
    ("{amount: {eq: 0.1}}", {"amount": Decimal("0.1")}, True),
    ("{amount: {eq: '5'}}", {"amount": 5}, None),
    ("{amount: {ne: '5'}}", {"amount": 5}, None),
    ("{flag: {eq: true}}", {"flag": True}, True),
    ("{flag: {eq: 1}}", {"flag": True}, None),
    ("{amount: {lte: 100}}", {"amount": 100}, True),
    ("{amount: {lte: 100}}", {"amount": 100.00000000000001}, False),
    ("{amount: {gt: 0}}", {"amount": -0.0}, False),
    ("{amount: {gt: 0, lte: 100}}", {"amount": 0}, False),
    ("{data: {gt: 0}}", {"data": "5"}, None),
    ("{data: {gt: 0}}", {"data": True}, None),
    ("{data: {gt: 0}}", {"data": [1]}, None),
    ("{currency: {in: [USD, EUR]}}", {"currency": "EUR"}, True),
    ("{currency: {in: [USD, EUR]}}", {"currency": "usd"}, False),
    ("{currency: {eq: USD}}", {"currency": "USD\u200b"}, False),
    ("{currency: {not_in: [USD]}}", {"currency": "EUR"}, True),
    ("{data: {in: [a, 1]}}", {"data": "b"}, False),
    ("{data: {in: [a, b]}}", {"data": 1}, None),
    ("{data: {in: [1, 2.5]}}", {"data": Decimal("2.50")}, True),
    ("{data: {in: [1, 2.5]}}", {"data": 2}, False),
    ("{data: {in: [1, 2.5]}}", {"data": True}, None),
    ("{data: {in: [1, 2.5]}}", {"data": "1"}, None),
    ("{data: {in: [true, 1]}}", {"data": True}, True),
    ("{data: {in: [true, 1]}}", {"data": False}, False),
    ("{data: {not_in: [1, 2]}}", {"data": 2}, False),
    ("{data: {not_in: [1, 2]}}", {"data": 3}, True),
    ("{currency: {starts_with: [EU, US]}}", {"currency": "USD"}, True),
    ("{currency: {starts_with: EU}}", {"currency": "USD"}, False),
    ("{currency: {ends_with: [R, P]}}", {"currency": "GBP"}, True),
    ("{currency: {ends_with: R}}", {"currency": "USD"}, False),
    ("{data: {starts_with: a}}", {"data": 5}, None),
    ("{data: {ends_with: a}}", {"data": ["a"]}, None),
    ("{data: {glob: 'a*'}}", {"data": 5}, None),
    ("{data: {regex: '5'}}", {"data": 5}, None),
    ("{data: {email_domain: corp.example}}", {"data": 5}, None),
    ("{data: {email_domain: corp.example}}", {"data": "a" * 64 + "@corp.example"}, True),
    ("{data: {email_domain: corp.example}}", {"data": "a" * 65 + "@corp.example"}, None),
    ("{data: {email_domain: corp.example}}", {"data": "a@" + "b." * 130 + "corp.example"}, None),
    ("{data: {url: {scheme: https}}}", {"data": 5}, None),
    ("{currency: {glob: 'U*'}}", {"currency": "USD"}, True),
    ("{currency: {glob: 'U*'}}", {"currency": "U.D"}, False),
    ("{currency: {regex: '[A-Z]{3}'}}", {"currency": "USD"}, True),
    ("{currency: {regex: '[A-Z]{3}'}}", {"currency": "USDX"}, False),
    ("{currency: {search: '[0-9]'}}", {"currency": "US1D"}, True),
    ("{currency: {regex: '.*'}}", {"currency": "x" * 70_000}, None),
    ("{currency: {contains: S}}", {"currency": "USD"}, True),
    ("{tags: {contains: a}}", {"tags": ["b", "a"]}, True),
    ("{tags: {contains: a}}", {"tags": ["b"]}, False),
    ("{data: {contains: a}}", {"data": [Unreadable("X", "opaque")]}, None),
    ("{data: {contains: a}}", {"data": 5}, None),
    ("{currency: {starts_with: [US, EU]}}", {"currency": "EUR"}, True),
    ("{currency: {ends_with: D}}", {"currency": "EUR"}, False),
    ("{currency: {exists: true}}", {}, False),
    ("{currency: {exists: true}}", {"currency": None}, False),
    ("{currency: {exists: false}}", {}, True),
    ("{currency: {exists: true}}", {"currency": ""}, True),
    ("{currency: {eq: USD}}", {}, False),
    ("{currency: {ne: USD}}", {}, False),
    ("{currency: {not: {eq: USD}}}", {}, True),
    ("{tags: {length: 2}}", {"tags": ["a", "b"]}, True),
    ("{currency: {length: {lte: 3}}}", {"currency": "USDX"}, False),
    ("{data: {length: 2}}", {"data": 12}, None),
    ("{data: {exists: true}}", {"data": Unreadable("X", "opaque")}, True),
    ("{data: {eq: 1}}", {"data": Unreadable("X", "opaque")}, None),
    ("{data: {not: {eq: 1}}}", {"data": Unreadable("X", "opaque")}, None),
    ("{to: {every: {email_domain: corp.example}}}", {"to": ["a@corp.example", "b@CORP.example"]}, True),
    ("{to: {every: {email_domain: corp.example}}}", {"to": []}, False),
    ("{to: {every: {email_domain: corp.example}}}", {}, False),
    ("{to: {every: {email_domain: corp.example}}}", {"to": ["a@sub.corp.example"]}, False),
    ("{to: {every: {email_domain: corp.example}}}", {"to": ["a@corp.example", "x"]}, None),
    ("{to: {every: {email_domain: corp.example}}}", {"to": ["a@evil.example", "x"]}, False),
    ("{to: {some: {email_domain: corp.example}}}", {"to": ["x", "a@corp.example"]}, True),
    ("{to: {some: {email_domain: corp.example}}}", {"to": ["x", "a@evil.example"]}, None),
    ("{to: {none: {email_domain: corp.example}}}", {"to": []}, True),
    ("{to: {none: {email_domain: corp.example}}}", {"to": ["a@evil.example"]}, True),
    ("{data: {some: {eq: 1}}}", {"data": "1"}, None),
    ('{"to|cc": {every: {email_domain: corp.example}}}', {"to": [], "cc": "a@corp.example"}, True),
    ('{"to|cc": {every: {email_domain: corp.example}}}', {"to": ["a@corp.example"], "cc": "x@evil.com"}, False),
    ('{"to|cc": {every: {email_domain: corp.example}}}', {"to": [], "cc": ""}, False),
    ('{"to|cc": {some: {email_domain: corp.example}}}', {"cc": Unreadable("X", "opaque")}, None),
    ('{"to|cc": {length: 3}}', {"to": ["a", "b"], "cc": "c"}, True),
    ("{amount: {all_of: [{gt: 1}, {lt: 3}]}}", {"amount": 2}, True),
    ("{amount: {any_of: [{lt: 1}, {gt: 3}]}}", {"amount": 2}, False),
    ("{data: {any_of: [{eq: a}, {gt: 3}]}}", {"data": "a"}, True),
    ("{data: {any_of: [{eq: b}, {gt: 3}]}}", {"data": "a"}, None),
    ("{data: {all_of: [{eq: b}, {gt: 3}]}}", {"data": "a"}, False),
    ("{currency: {eq: {ref: session.user}}}", {"currency": "carla"}, True),
    ("{currency: {eq: {ref: session.tenant}}}", {"currency": "carla"}, None),
    ("{amount: {lte: {ref: context.limit}}}", {"amount": 5}, True),
    ("{amount: {gt: {ref: context.limit}}}", {"amount": 5}, False),
    ("{currency: {eq: {ref: args.data}}}", {"currency": "x", "data": "x"}, True),
    ("{currency: {eq: {ref: args.data}}}", {"currency": "x"}, None),
    ("{currency: {in: [a, {ref: session.user}]}}", {"currency": "carla"}, True),
    # A reference that leads nowhere could be the very value, whatever stands beside it.
    ("{currency: {in: [a, {ref: session.user}]}}", {"currency": "b"}, False),
    ("{currency: {not_in: [a, {ref: session.user}]}}", {"currency": "b"}, True),
    ("{data: {in: [a, {ref: session.user}]}}", {"data": 5}, None),
    ("{currency: {in: [a, {ref: session.tenant}]}}", {"currency": "b"}, None),
    ("{currency: {in: [a, {ref: session.tenant}]}}", {"currency": "a"}, True),
    ("{currency: {not_in: [a, {ref: session.tenant}]}}", {"currency": "b"}, None),
    ("{currency: {not_in: [a, {ref: args.data}]}}", {"currency": "b"}, None),
    ("{currency: {not_in: [a, {ref: args.data}]}}", {"currency": "b", "data": ["b"]}, None),
]


class TestOperators:
    @pytest.mark.parametrize(("condition", "args", "expected"), VALUES)
    def test_three_values(self, condition: str, args: dict[str, Any], expected: bool | None) -> None:
        """A true or unknown condition binds a deny, only a true one an allow."""
        args = {"amount": 1, **args}
        context = {"limit": 10}
        deny = decided(policy(f"  - {{id: x, tool: pay, args: {condition}, decision: deny}}\n"), args=args, context=context)
        allow = decided(policy(f"  - {{id: x, tool: pay, args: {condition}, decision: allow}}\n"), args=args, context=context)
        code = {True: "policy.rule", None: "policy.unknown", False: "policy.default"}[expected]
        assert ("deny", code) == (deny.value, deny.code)
        assert ("allow" if expected else "deny") == allow.value


# Conditions of a rule besides arguments, what is changed in the call, and what they must come to.
WHO: list[tuple[str, dict[str, Any], bool | None]] = [
    ("user: carla", {}, True),
    ("user: [bob, carla]", {}, True),
    ("user: bob", {}, False),
    ("user: carla", {"user": None}, None),
    ("role: agent", {}, True),
    ("role: finance", {}, False),
    ("role: finance", {"roles": None}, None),
    ("agent: planner", {"agents": ("planner",)}, True),
    ("agent: 'plan*'", {"agents": ("planner",)}, True),
    ("agent: planner", {"agents": ("writer",)}, False),
    ("agent: planner", {}, False),
    ("session: {id: {eq: s}}", {}, True),
    ("session: {id: {eq: s}}", {"session": None}, None),
    ("session: {tenant: {eq: acme}}", {"tenant": "acme"}, True),
    ("context: {risk: {eq: high}}", {"context": {"risk": "high"}}, True),
    ("context: {risk: {eq: high}}", {"context": {"risk": "low"}}, False),
    ("context: {risk: {eq: high}}", {}, None),
    ("context: {risk: {eq: high}}", {"context": {"risk": 5}}, None),
    ("context: {risk: {exists: true}}", {"context": {"risk": 5}}, None),
    ("context: {note: {eq: x}}", {}, False),
    ("context: {note: {exists: false}}", {}, True),
    ("only_args: [amount]", {}, True),
    ("only_args: [currency]", {}, False),
    ("only_args: [amount]", {"args": {"amount": 1, "currency": None}}, True),
    ("only_args: [amount]", {"args": {"amount": 1, "data": Unreadable("app.Row", "type")}}, False),
    ("only_args: [amount]", {"args": {"amount": 1, "data": Unreadable("app.Row", "opaque")}}, True),
    ("tags: sends-out", {"tags": frozenset({"sends-out"})}, True),
    ("tags: sends-out", {}, False),
    ("after: {label: untrusted}", {"facts": FactsView({}, {"untrusted": frozenset({"web"})}, frozenset())}, True),
    ("after: {label: untrusted}", {}, False),
    ("after: {label: untrusted}", {"facts": None}, None),
    ("after: {label: untrusted}", {"facts": FactsView()}, None),
    ("after: {tool: 'web_*'}", {"facts": FactsView({}, {}, frozenset({"web_fetch"}))}, True),
    ("after: {tool: 'web_*'}", {}, False),
    ("after: {tool: [a, b], label: [x, y]}", {"facts": FactsView({}, {"y": frozenset()}, frozenset({"b"}))}, True),
    ("after: {tool: [a, b], label: [x, y]}", {"facts": FactsView({}, {"y": frozenset()}, frozenset())}, False),
    ("unless: {user: carla}", {}, False),
    ("unless: {user: bob}", {}, True),
    ("unless: {user: bob}", {"user": None}, None),
    ("not: {role: agent}", {}, False),
    ("any_of: [{user: bob}, {role: agent}]", {}, True),
    ("any_of: [{user: bob}, {role: x}]", {"user": None}, None),
    ("all_of: [{user: carla}, {role: agent}]", {}, True),
    ("all_of: [{user: bob}, {context: {risk: {eq: high}}}]", {}, False),
    ("unless: {tool: 'p*'}", {}, False),
    ("any_of: [{tool: other}, {user: bob}]", {}, False),
    ("all_of: [{tool: other}]", {}, False),
    ("not: {tool: other}", {}, True),
    ("unless: {any_of: [{tool: other}]}", {}, True),
    ("user: carla, role: finance", {}, False),
    ("when: 'posixpath:isabs'", {}, None),
    ("when: 'builtins:dict'", {}, None),
]


class TestConditions:
    @pytest.mark.parametrize(("condition", "changes", "expected"), WHO)
    def test_three_values(self, condition: str, changes: dict[str, Any], expected: bool | None) -> None:
        """Every condition is true, false or unknown, and what is unknown binds a deny and not an allow."""
        call: dict[str, Any] = {"args": {"amount": 1}, **changes}
        deny = decided(policy(f"  - {{id: x, tool: pay, {condition}, decision: deny}}\n"), **call)
        allow = decided(policy(f"  - {{id: x, tool: pay, {condition}, decision: allow}}\n"), **call)
        code = {True: "policy.rule", None: "policy.unknown", False: "policy.default"}[expected]
        assert ("deny", code) == (deny.value, deny.code)
        assert ("allow" if expected else "deny") == allow.value

    def test_catalogue_tags(self) -> None:
        """Tags of the catalogue count like those of the decorator."""
        assert decided(policy("  - {id: x, tags: network, decision: allow}\n"), "web_fetch").value == "allow"

    def test_inapplicable(self) -> None:
        """A condition on an argument the signature does not have is false, whatever it asks."""
        loaded = policy(
            '  - {id: x, tool: ["pay*", other], args: {amount: {not: {eq: 1}}}, decision: deny}\n  - {id: y, tool: "*", decision: allow}\n'
        )
        assert decided(loaded, "other", args={"name": "x"}).value == "allow"

    def test_undeclared(self) -> None:
        """Without a signature an argument that was not given may stand under another name: unknown."""
        loaded = policy('  - {id: x, tool: "m*", args: {amount: {gt: 1}}, decision: deny}\n  - {id: y, tool: "*", decision: allow}\n')
        assert ["deny", "deny", "allow"] == [
            decided(loaded, "mx", args=args).value for args in ({"Amount": 5}, {"amount": 5}, {"amount": 1})
        ]

    def test_doubt_names_the_field(self) -> None:
        """The reason of an unknown rule names what could not be checked."""
        decision = decided(policy("  - {id: x, tool: pay, context: {risk: {eq: high}}, decision: deny}\n"), args={"amount": 1})
        assert "`context.risk` could not be checked, so it is refused" == decision.reason
        assert ("unknown", "`context.risk`") == (decision.matched[0].outcome, decision.matched[0].why)


class TestUnknownByDecision:
    def test_remembered_decisions_keep_doubt_apart(self) -> None:
        """A decision by a rule that holds is not handed out where the same rule is in doubt, nor the other way round."""
        loaded = policy("  - {id: x, tool: pay, user: bob, decision: deny}\n")
        codes = [decided(loaded, args={"amount": 1}, user=user).code for user in ("bob", None, "bob", None, "carla")]
        assert ["policy.rule", "policy.unknown", "policy.rule", "policy.unknown", "policy.default"] == codes

    def test_approval(self) -> None:
        """An unknown approval rule asks."""
        rules = "  - {id: x, tool: pay, user: bob, decision: require-approval, approval: {approvers: [anyone]}}\n  - {id: y, tool: pay, decision: allow}\n"
        decision = decided(policy(rules), args={"amount": 1}, user=None)
        assert ("require-approval", "policy.unknown") == (decision.value, decision.code)

    def test_retry_denies(self) -> None:
        """An unknown retry rule denies."""
        decision = decided(policy("  - {id: x, tool: pay, user: bob, decision: retryable-failure}\n"), args={"amount": 1}, user=None)
        assert ("deny", "policy.unknown") == (decision.value, decision.code)

    def test_retry_after_backend_failure(self) -> None:
        """Where the facts store failed, an unknown retry rule may be tried again, class dependency."""
        rules = "  - {id: x, tool: pay, over: {calls: 3, by: user, per: 1min}, decision: retryable-failure, retry: {after: 5s, max_attempts: 2}}\n"
        decision = decided(policy(rules), args={"amount": 1}, facts=FactsView(failure="timeout"))
        assert decision.retry is not None
        assert ("retryable-failure", "dependency", 5.0) == (decision.value, decision.retry.retry_class, decision.retry.after_s)
        assert decided(policy(rules), args={"amount": 1}, facts=FactsView(failure="timeout"), attempt=2).code == "policy.exhausted"


class TestApprovalTerms:
    def test_merge(self) -> None:
        """One request carries every requirement, the earliest expiry, the shortest use and the fields all agree on."""
        rules = (
            "  - {id: a, tool: pay, decision: require-approval, approval: {approvers: ['role:finance'], quorum: 2, expires: 4h, use_within: 1h, edit: [to, cc]}}\n"
            "  - {id: b, tool: pay, decision: require-approval, approval: {approvers: [acting-user], expires: 30m, edit: [cc, tags]}}\n"
        )
        terms = decided(policy(rules), args={"amount": 1}).approval
        assert terms is not None
        assert ["a", "b"] == [requirement.rule for requirement in terms.requirements]
        assert (1800.0, 3600.0, frozenset({"cc"})) == (terms.expires_s, terms.use_within_s, terms.edit)


class TestRetry:
    rules = (
        "  - {id: a, tool: pay, decision: retryable-failure, retry: {after: 10s, max_attempts: 5}}\n"
        "  - {id: b, tool: pay, decision: retryable-failure, retry: {after: 2s, max_attempts: 3, class: dependency}}\n"
    )

    def test_merge(self) -> None:
        """Several retry rules: the longest wait and the fewest attempts."""
        retry = decided(policy(self.rules), args={"amount": 1}, attempt=2).retry
        assert retry is not None
        assert (10.0, 2, 3, "rate") == (retry.after_s, retry.attempt, retry.max_attempts, retry.retry_class)

    def test_exhausted(self) -> None:
        """The last attempt is denied and not retried."""
        decision = decided(policy(self.rules), args={"amount": 1}, attempt=3)
        assert ("deny", "policy.exhausted", None) == (decision.value, decision.code, decision.retry)


class TestAgentChain:
    loaded = policy(
        "  - {id: planner, tool: pay, agent: planner, decision: allow}\n"
        "  - {id: both, tool: other, agent: [planner, helper], decision: allow}\n"
        "  - {id: helper.q, tool: other, agent: helper, decision: require-approval, approval: {approvers: [anyone]}}\n"
        "  - {id: banned.other, tool: other, agent: banned, decision: deny}\n"
    )

    @pytest.mark.parametrize(
        ("tool", "agents", "expected"),
        [
            ("pay", ("planner",), "allow"),
            ("pay", ("planner", "helper"), "deny"),
            ("pay", ("helper", "planner"), "deny"),
            ("other", ("planner",), "allow"),
            ("other", ("planner", "helper"), "require-approval"),
            ("other", ("planner", "helper", "banned"), "deny"),
            ("other", ("banned", "planner"), "deny"),
        ],
    )
    def test_strictest_of_the_chain(self, tool: str, agents: tuple[str, ...], expected: str) -> None:
        """A sub-agent may do no more than every agent above it."""
        assert expected == decided(self.loaded, tool, agents=agents, args={"amount": 1} if tool == "pay" else {}).value

    def test_repeated_agent(self) -> None:
        """An agent that calls itself counts once."""
        assert decided(self.loaded, "pay", agents=("planner", "planner"), args={"amount": 1}).value == "allow"

    def test_a_counter_that_is_missing(self) -> None:
        """Where the limit of one caller is not known, the limit binds."""
        rules = "  - {id: pace, tool: pay, over: {calls: 3, by: agent, per: 1h}, decision: deny}\n  - {id: a, tool: pay, decision: allow}\n"
        facts = FactsView({CounterKey("pace:calls", "agent:boss", "sliding:3600"): Decimal(1)})
        decision = decided(policy(rules), args={"amount": 1}, agents=("boss", "helper"), facts=facts)
        assert ("deny", "policy.unknown") == (decision.value, decision.code)

    @pytest.mark.parametrize("agents", [("boss",), ("boss", "helper")])
    def test_refused_attempts_of_an_agent(self, agents: tuple[str, ...]) -> None:
        """A call with arguments that do not fit is an attempt under the rules for its callers, too."""
        loaded = policy("  - {id: tries, tool: pay, agent: boss, over: {attempts: 3, by: session, per: 1h}, decision: deny}\n")
        key = CounterKey("tries:attempts", "session:s", "sliding:3600")
        ruling = ask(loaded, args={}, agents=agents, facts=FactsView({key: Decimal(0)}))
        assert ruling.tried is not None
        assert ("deny", [key]) == (ruling.decision.value, [held.key for held in ruling.tried.reservations])


class TestShadow:
    def test_file(self) -> None:
        """A file in shadow mode blocks nothing and says what it would have done."""
        loaded = policy("  - {id: d, tool: pay, decision: deny}\n", HEAD + "mode: shadow\n")
        calls: list[dict[str, Any]] = [{"args": {"amount": 1}}, {"args": {}}, {"args": {}, "name": "ghost", "registered": False}]
        for call in calls:
            decision = decided(loaded, **call)
            assert ("allow", True, "deny") == (decision.value, decision.shadow, decision.would_be)
        assert loaded.mode == "shadow"

    @pytest.mark.parametrize("rest", ["require-approval, approval: {approvers: [anyone]}", "retryable-failure, retry: {after: 1s}"])
    def test_nobody_waits(self, rest: str) -> None:
        """In shadow mode nobody is asked and nothing is tried again."""
        decision = decided(policy(f"  - {{id: r, tool: pay, decision: {rest}}}\n", HEAD + "mode: shadow\n"), args={"amount": 1})
        assert ("allow", rest.partition(",")[0], None, None) == (decision.value, decision.would_be, decision.approval, decision.retry)

    def test_a_rule_leaves_the_terms_of_others(self) -> None:
        """Beside a shadow rule that would decide otherwise, people are asked and waits are told as without it."""
        shadow = "  - {id: s, tool: pay, mode: shadow, decision: deny}\n"
        asks = "  - {id: q, tool: pay, decision: require-approval, approval: {approvers: [anyone], expires: 5min}}\n"
        waits = "  - {id: w, tool: pay, decision: retryable-failure, retry: {after: 7s}}\n"
        asked, waiting = (decided(policy(shadow + rule), args={"amount": 1}) for rule in (asks, waits))
        assert asked.approval is not None
        assert waiting.retry is not None
        assert ("require-approval", "deny", 300.0) == (asked.value, asked.would_be, asked.approval.expires_s)
        assert ("retryable-failure", "deny", 7.0) == (waiting.value, waiting.would_be, waiting.retry.after_s)

    def test_limits_of_a_refused_call(self) -> None:
        """A call that the catalogue would refuse runs in shadow, is an attempt, and no store can refuse it."""
        rules = "  - {id: tries, tool: pay, over: {attempts: 1, by: session, per: 1h}, decision: deny}\n"
        ruling = ask(
            policy(rules, HEAD + "mode: shadow\n"),
            args={},
            facts=FactsView({CounterKey("tries:attempts", "session:s", "sliding:3600"): Decimal(0)}),
        )
        assert ruling.start is not None
        assert ["Infinity"] == [str(held.limit) for held in ruling.start.reservations]

    def test_an_unreadable_sum(self) -> None:
        """A shadow limit that cannot be summed up neither blocks nor counts."""
        rules = "  - {id: sum, tool: pay, mode: shadow, over: {sum: args.data, max: 5, by: session, per: 1h}, decision: deny}\n"
        facts = FactsView({CounterKey("sum:sum", "session:s", "sliding:3600"): Decimal(0)})
        ruling = ask(policy(rules + "  - {id: a, tool: pay, decision: allow}\n"), args={"amount": 1, "data": "much"}, facts=facts)
        assert ("allow", "deny", None) == (ruling.decision.value, ruling.decision.would_be, ruling.start)

    def test_rule_never_allows(self) -> None:
        """A shadow allow opens nothing."""
        decision = decided(policy("  - {id: a, tool: pay, mode: shadow, decision: allow}\n"), args={"amount": 1})
        assert ("deny", True, "allow") == (decision.value, decision.shadow, decision.would_be)

    def test_rule_never_blocks(self) -> None:
        """A shadow deny, known or unknown, lets the call pass and is recorded."""
        rules = "  - {id: d, tool: pay, mode: shadow, user: bob, decision: deny}\n  - {id: a, tool: pay, decision: allow}\n"
        decision = decided(policy(rules), args={"amount": 1}, user=None)
        assert ("allow", "deny", [True, False]) == (decision.value, decision.would_be, [match.shadow for match in decision.matched])


class TestFailsClosed:
    def test_engine_error(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Whatever fails inside becomes a deny with code policy.error; nothing is raised."""
        loaded = policy("  - {id: a, tool: pay, args: {data: {exists: true}}, decision: allow}\n")

        class Hostile(dict[str, object]):
            def items(self) -> Any:
                raise RuntimeError("boom")

        decision = decided(loaded, args=Hostile(amount=1))
        assert ("deny", "policy.error") == (decision.value, decision.code)

    def test_erroring_deny_beats_blanket_allow(self) -> None:
        """A deny whose condition cannot be known wins over an allow of everything."""
        rules = '  - {id: all, tool: "*", decision: allow}\n  - {id: risky, tool: pay, context: {risk: {eq: high}}, decision: deny}\n'
        assert decided(policy(rules), args={"amount": 1}).value == "deny"


class TestRulingsAreKept:
    @pytest.mark.parametrize("verdict", ["allow", "deny"])
    def test_only_for_what_is_plain(self, verdict: str) -> None:
        """One rule may hold, be unknown and not hold in turn; none of it is taken for the other."""
        loaded = policy(f"  - {{id: r, tool: pay, context: {{risk: {{eq: low}}}}, decision: {verdict}}}\n")
        contexts: list[dict[str, object]] = [{"risk": "low"}, {}, {"risk": "low"}, {"risk": "high"}, {}, {"risk": "low"}]
        unknown = ("deny", "policy.default" if verdict == "allow" else "policy.unknown")
        expected = [
            (verdict, "policy.rule"),
            unknown,
            (verdict, "policy.rule"),
            ("deny", "policy.default"),
            unknown,
            (verdict, "policy.rule"),
        ]
        found = [decided(loaded, args={"amount": 1}, context=context) for context in contexts]
        assert expected == [(decision.value, decision.code) for decision in found]


class TestPredicates:
    def test_copy(self, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        """A predicate sees a copy: what it changes reaches neither the call nor the conditions after it."""
        (tmp_path / "greedy_predicate.py").write_text("def ask(action, facts):\n    action.args['data'].append('x')\n    return True\n")
        monkeypatch.syspath_prepend(str(tmp_path))
        args: dict[str, object] = {"amount": 1, "data": []}
        loaded = policy("  - {id: x, tool: pay, when: 'greedy_predicate:ask', decision: allow}\n")
        assert ("allow", []) == (decided(loaded, args=args).value, args["data"])


class TestStart:
    def test_labels_and_history(self) -> None:
        """Labels of the catalogue come with the start, the name only where a rule asks about history."""
        loaded = policy('  - {id: a, tool: ["*"], decision: allow}\n  - {id: b, tool: pay, after: {tool: other}, decision: deny}\n')
        fetch, other, pay = (ask(loaded, name, args={"amount": 1} if name == "pay" else {}).start for name in ("web_fetch", "other", "pay"))
        assert fetch is not None
        assert other is not None
        assert (frozenset({"untrusted"}), "s", "other", None) == (fetch.labels, other.session, other.tool, pay)

    def test_denied_call_starts_nothing(self) -> None:
        """A denied call adds no label."""
        assert ask(policy("  - {id: d, tool: web_fetch, decision: deny}\n"), "web_fetch").start is None


class TestNamesOfOtherKinds:
    @pytest.mark.parametrize("key", ["tool", "name"])
    def test_tool_and_name_mean_the_same(self, key: str) -> None:
        """A rule about a capability or model names it with `tool`, as every rule does, or with `name`, which reads better."""
        text = f"version: 1\nname: t\ndefault: deny\nrules:\n  - {{id: v, kind: capability, {key}: vault, decision: allow}}\n"
        engine = load_policy_text(text).engine
        assert [engine.decide(Action("capability", name), None, NOW).decision.value for name in ("vault", "safe")] == ["allow", "deny"]
