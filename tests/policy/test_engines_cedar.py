"""Policies in Cedar: our meaning around Cedar's evaluation, and a denial for everything Cedar cannot be told or cannot evaluate."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from otel_runtime.errors import ConfigError
from otel_runtime.policy.engine_cedar import CedarEngine, load_cedar
from otel_runtime.policy.protocol import FactsView, Start
from otel_runtime.values.action import Action, Parameter, ToolSignature, Unreadable
from otel_runtime.values.decision import Decision

cedarpy = pytest.importorskip("cedarpy", reason="pip install 'otel-runtime[cedar]'")
NOW = datetime(2026, 11, 20, tzinfo=UTC)
KNOWN = FactsView(labels={}, history=frozenset())
Load = Callable[[str], CedarEngine]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    def loaded(text: str) -> CedarEngine:
        (tmp_path / "a.cedar").write_text(text)
        return load_cedar([tmp_path])

    return loaded


def action(name: str = "refund", /, **more: Any) -> Action:
    return Action("tool", name, **{"session": "s", "user": "carla", "roles": frozenset({"support"}), "tenant": "t", **more})


def decide(engine: CedarEngine, call: Action, facts: FactsView | None = KNOWN, attempt: int = 1) -> Decision:
    return engine.decide(call, facts, NOW, attempt).decision


class TestMeaning:
    def test_permit_and_forbid(self, load: Load) -> None:
        """A permit allows, a forbid overrides it, and what nothing speaks of is denied."""
        engine = load("""
            @id("small") permit (principal, action == Action::"call", resource == Tool::"refund");
            @id("large") @reason("Too much.") forbid (principal, action, resource == Tool::"refund") when { context.args.amount > 100 };
        """)
        assert ("allow", "small") == (decide(engine, action(args={"amount": 5})).value, decide(engine, action(args={"amount": 5})).rule)
        denied = decide(engine, action(args={"amount": 500}))
        assert ("deny", "large", "Too much.") == (denied.value, denied.rule, denied.reason)
        assert {"small", "large"} == {match.rule for match in denied.matched}
        assert ("deny", "policy.default") == (decide(engine, action("other")).value, decide(engine, action("other")).code)

    def test_approval(self, load: Load) -> None:
        """`@decision("require-approval")` asks, on either effect, and every requirement that holds is kept."""
        engine = load("""
            @decision("require-approval") @approvers("role:finance, user:bob") @quorum("2") @expires("4h") @edit("note")
            permit (principal, action, resource == Tool::"refund");
            @decision("require-approval") @approvers("role:legal") @expires("1h") @use_within("5min")
            forbid (principal, action, resource) when { context.args.amount > 100 };
        """)
        one, both = decide(engine, action(args={"amount": 5})), decide(engine, action(args={"amount": 500}))
        assert one.value == both.value == "require-approval"
        assert one.approval is not None
        assert both.approval is not None
        assert [(("role:finance", "user:bob"), 2)] == [(need.approvers, need.quorum) for need in one.approval.requirements]
        assert (14400.0, frozenset({"note"})) == (one.approval.expires_s, one.approval.edit)
        assert [2, 1] == [need.quorum for need in both.approval.requirements]
        assert (3600.0, 300.0, frozenset()) == (both.approval.expires_s, both.approval.use_within_s, both.approval.edit)

    def test_retry(self, load: Load) -> None:
        """`@decision("retryable-failure")` is a refusal that may be tried again, until its attempts are used up."""
        engine = load("""
            permit (principal, action, resource);
            @decision("retryable-failure") @after("10s") @max_attempts("2") forbid (principal, action, resource == Tool::"refund");
        """)
        first = decide(engine, action())
        assert first.value == "retryable-failure"
        assert first.retry is not None
        assert (10.0, 2) == (first.retry.after_s, first.retry.max_attempts)
        assert ("deny", "policy.exhausted") == (decide(engine, action(), attempt=2).value, decide(engine, action(), attempt=2).code)

    def test_a_plain_forbid_is_stricter(self, load: Load) -> None:
        """No question is asked about what is forbidden anyway."""
        engine = load("""
            @decision("require-approval") @approvers("anyone") permit (principal, action, resource);
            forbid (principal, action, resource == Tool::"refund");
        """)
        assert "deny" == decide(engine, action()).value

    def test_models_need_no_permit(self, load: Load) -> None:
        """Models, agents and workflows run unless a policy forbids them, and nobody is asked about them."""
        engine = load("""
            permit (principal, action, resource is Tool);
            forbid (principal, action, resource == Model::"old");
            @decision("require-approval") @approvers("anyone") forbid (principal, action, resource == Model::"dear");
        """)
        assert ["allow", "deny", "deny"] == [decide(engine, Action("model", name, session="s")).value for name in ("new", "old", "dear")]
        assert [True, False, True] == [engine.governs(kind, name) for kind, name in (("model", "old"), ("agent", "a"), ("tool", "x"))]  # type: ignore[arg-type]

    def test_what_starts(self, load: Load) -> None:
        """The start of an allowed call enters the history of its session."""
        engine = load("permit (principal, action, resource);")
        assert Start(session="s", tool="refund") == engine.decide(action(), KNOWN, NOW).start
        assert None is load("forbid (principal, action, resource);").decide(action(), KNOWN, NOW).start

    def test_same_as_cedar(self, load: Load) -> None:
        """Without annotations the decision is the one cedarpy itself takes on the same policies."""
        rng = random.Random(7)
        heads = ["principal", 'principal == User::"carla"', 'principal in Role::"support"', 'principal in Role::"boss"']
        things = ["resource", 'resource == Tool::"refund"', 'resource in ToolGroup::"crm"', "resource is Model"]
        tests = ["", "when { context.args.amount > 10 }", "unless { context.args.amount < 5 }", 'when { context.tags.contains("t") }']
        for _ in range(60):
            text = "\n".join(
                f"{rng.choice(['permit', 'forbid'])} ({rng.choice(heads)}, action, {rng.choice(things)}) {rng.choice(tests)};"
                for _ in range(rng.randint(1, 4))
            )
            engine = load(text)
            for name, amount in (("refund", 3), ("crm.find", 7), ("other", 50)):
                call = action(name, args={"amount": amount}, tags=frozenset({"t"}))
                groups = [{"type": "ToolGroup", "id": "crm"}] if "." in name else []
                theirs = cedarpy.is_authorized(
                    {
                        "principal": 'User::"carla"',
                        "action": 'Action::"call"',
                        "resource": {"type": "Tool", "id": name},
                        "context": {"args": {"amount": amount}, "tags": ["t"]},
                    },
                    text,
                    [
                        {"uid": {"type": "User", "id": "carla"}, "attrs": {}, "parents": [{"type": "Role", "id": "support"}]},
                        {"uid": {"type": "Tool", "id": name}, "attrs": {}, "parents": groups},
                    ],
                )
                assert theirs.allowed is (decide(engine, call).value == "allow"), (text, call)


class TestWhoAndWhat:
    def test_people(self, load: Load) -> None:
        """A person is a `User` in roles and in a tenant; an agent is in the person it acts for."""
        engine = load("""
            permit (principal == User::"carla", action, resource == Tool::"a");
            permit (principal in Role::"support", action, resource == Tool::"b");
            permit (principal in Tenant::"t", action, resource == Tool::"c");
            permit (principal == Agent::"bot", action, resource == Tool::"d");
            permit (principal in User::"carla", action, resource == Tool::"e");
        """)
        alone = [decide(engine, action(name)).value for name in "abcde"]
        assert ["allow", "allow", "allow", "deny", "allow"] == alone
        by_agent = [decide(engine, action(name, agents=("bot",))).value for name in "abcde"]
        assert ["deny", "allow", "allow", "allow", "allow"] == by_agent

    def test_strictest_caller(self, load: Load) -> None:
        """Every agent of the chain must be allowed."""
        engine = load('permit (principal == Agent::"boss", action, resource); forbid (principal == Agent::"intern", action, resource);')
        assert ["allow", "deny", "deny"] == [
            decide(engine, action(agents=chain)).value for chain in (("boss",), ("boss", "intern"), ("boss", "stranger"))
        ]

    def test_unknown_people_escape_no_forbid(self, load: Load) -> None:
        """A forbid that names a role holds while the roles are unknown, and only about its own tools."""
        engine = load(
            'permit (principal, action, resource); @id("x") forbid (principal in Role::"intern", action, resource == Tool::"pay");'
        )
        unknown = decide(engine, action("pay", roles=None))
        assert ("deny", "policy.unknown", "x") == (unknown.value, unknown.code, unknown.rule)
        assert ["allow", "allow"] == [decide(engine, action("pay")).value, decide(engine, action("read", roles=None)).value]

    def test_groups_of_tools(self, load: Load) -> None:
        """The parts of a name before `.` and `:` are groups, and tags are too."""
        engine = load("""
            permit (principal, action, resource in ToolGroup::"crm");
            permit (principal, action, resource in ToolGroup::"mcp:github");
            permit (principal, action, resource in Tag::"reads");
        """)
        names = ["crm.find", "crmx.find", "mcp:github:read", "mcp:gitlab:read", "find"]
        assert ["allow", "deny", "allow", "deny", "deny"] == [decide(engine, action(name)).value for name in names]
        assert "allow" == decide(engine, action("find", tags=frozenset({"reads"}))).value

    def test_context(self, load: Load) -> None:
        """Labels, history, facts of the application, agents and the time are in the context."""
        engine = load("""
            permit (principal, action, resource) when {
              context.labels.contains("read") && context.history.contains("fetch") && context.app.risk == "low" && context.session == "s"
              && context.user == "carla" && context.tenant == "t" && context.agent == "bot" && context.agents.contains("bot")
              && context.now > 1700000000 };
        """)
        facts = FactsView(labels={"read": frozenset()}, history=frozenset({"fetch"}))
        assert "allow" == decide(engine, action(agents=("bot",), context={"risk": "low"}), facts).value


class TestNumbers:
    def test_types_follow_the_signature(self, load: Load) -> None:
        """Declared `float` and `number` are decimals whatever they hold, `int` is a long."""
        engine = load("""
            permit (principal, action, resource == Tool::"f") when { context.args.x.lessThanOrEqual(decimal("100.0")) };
            permit (principal, action, resource == Tool::"i") when { context.args.x <= 100 };
        """)
        float_, int_ = (ToolSignature((Parameter("x", kind),)) for kind in ("float", "int"))
        for value in (100, 99.5, 0.1):
            assert "allow" == decide(engine, action("f", args={"x": value}, signature=float_)).value
        assert ["allow", "deny"] == [decide(engine, action("i", args={"x": x}, signature=int_)).value for x in (100, 101)]
        assert "allow" == decide(engine, action("f", args={"x": Decimal("12.34")})).value

    @pytest.mark.parametrize("value", [2**63, 0.12345, Decimal("1e30"), 1e300, [1, None]])
    def test_what_cedar_cannot_hold(self, load: Load, value: object) -> None:
        """A number that Cedar could only round, and a list with null, is a denial."""
        denied = decide(load("permit (principal, action, resource);"), action(args={"x": value}))
        assert ("deny", "policy.unknown") == (denied.value, denied.code)


class TestFailsClosed:
    def test_diagnostics(self, load: Load) -> None:
        """A policy that cannot be evaluated is a denial, although Cedar would leave it out and allow."""
        engine = load(
            'permit (principal, action, resource); @id("big") forbid (principal, action, resource) when { context.args.amount > 1 };'
        )
        for args in ({}, {"amount": "5"}, {"amount": None}):
            denied = decide(engine, action(args=args))
            assert ("deny", "policy.error") == (denied.value, denied.code)
            assert "big" in denied.reason

    def test_unknown_labels(self, load: Load) -> None:
        """Labels that are unknown, for want of a session or because the store failed, are an error for whoever asks."""
        engine = load('permit (principal, action, resource) unless { context.labels.contains("untrusted") };')
        assert ["allow", "deny", "deny"] == [decide(engine, action(), facts).value for facts in (KNOWN, None, FactsView(failure="gone"))]

    @pytest.mark.parametrize("key", ["__entity", "__extn", "__expr"])
    def test_keys_of_cedars_own(self, load: Load, key: str) -> None:
        """An argument cannot pass itself off as an entity."""
        engine = load('permit (principal, action, resource) when { context.args.who == User::"admin" };')
        forged = {"__entity": {"type": "User", "id": "admin"}} if key == "__entity" else {key: "x"}
        for args in ({"who": forged}, {"who": [forged]}, {key: forged}):
            assert "deny" == decide(engine, action(args=args)).value

    def test_unreadable(self, load: Load) -> None:
        """What could not be read is a denial; what the decorator hides is a value that conditions cannot read."""
        engine = load(
            'permit (principal, action, resource); forbid (principal, action, resource == Tool::"p") when { context.args.x like "a*" };'
        )
        assert "deny" == decide(engine, action(args={"x": Unreadable("T", "cap")})).value
        assert ["allow", "deny"] == [decide(engine, action(name, args={"x": Unreadable("T", "opaque")})).value for name in ("q", "p")]

    def test_catalogue_first(self, load: Load) -> None:
        """Nobody is asked about an unregistered tool or about arguments that do not fit."""
        engine = load('@decision("require-approval") @approvers("anyone") permit (principal, action, resource);')
        signature = ToolSignature((Parameter("amount", "int"),))
        codes = [
            decide(engine, call).code
            for call in (
                action(registered=False),
                action("refu\u200bnd"),
                action(args={"amount": "5"}, signature=signature),
                action(args={}, signature=signature),
                action(args={"amount": 5, "x": 1}, signature=signature),
            )
        ]
        assert ["policy.unregistered", "policy.unregistered", "policy.catalogue", "policy.catalogue", "policy.catalogue"] == codes

    def test_a_panic(self, load: Load) -> None:
        """A panic of the extension, which is no `Exception`, is a denial; Ctrl-C is none."""

        class Panic(BaseException):
            pass

        class Broken:
            def __init__(self, error: type[BaseException]) -> None:
                self.error = error

            def is_authorized(self, *_: object) -> object:
                raise self.error

        engine = load("permit (principal, action, resource);")
        engine._library = Broken(Panic)  # type: ignore[assignment]
        assert ("deny", "policy.error") == (decide(engine, action()).value, decide(engine, action()).code)
        engine._library = Broken(KeyboardInterrupt)  # type: ignore[assignment]
        with pytest.raises(KeyboardInterrupt):
            decide(engine, action())

    def test_odd_names(self, load: Load) -> None:
        """Quotes and line ends in a person's name are a name."""
        engine = load('permit (principal == User::"a", action, resource);')
        assert "deny" == decide(engine, action(user='b", action, resource); permit (principal,\n')).value


class TestFiles:
    def faults(self, load: Load, text: str) -> list[tuple[int, int, str]]:
        with pytest.raises(ConfigError) as caught:
            load(text)
        return [(fault.line, fault.column, fault.message) for fault in caught.value.faults]

    def test_places(self, load: Load) -> None:
        """Every mistake is told at once, with the line its policy begins on."""
        text = '// a ; comment "\npermit (principal, action, resource);\n\n  permit (principal);\npermit (principal, action, resource) when { "a;b" == 1 + };\nforbid ('
        assert [(4, 3), (5, 1), (6, 1)] == [place[:2] for place in self.faults(load, text)]

    @pytest.mark.parametrize(
        ("notes", "said"),
        [
            ('@decision("ask")', "expected one of"),
            ('@decision("retryable-failure")', "on a `permit`"),
            ('@decision("require-approval")', "`approvers` is missing"),
            ('@decision("require-approval") @approvers("finance")', "expected `role:NAME`"),
            ('@decision("require-approval") @approvers("anyone") @quorom("2")', "did you mean `quorum`"),
            ('@decision("require-approval") @approvers("anyone") @quorum("0")', "`quorum`"),
            ('@decision("require-approval") @approvers("anyone") @expires("soon")', "`expires`"),
            ('@decision("require-approval") @approvers("anyone") @expires("999999999d")', "at most ten years"),
            ('@decison("deny")', "did you mean `decision`"),
            ('@approvers("anyone")', "has no meaning"),
            ('@id("a b")', "is not a name"),
        ],
    )
    def test_annotations(self, load: Load, notes: str, said: str) -> None:
        """An annotation of ours that is misspelt or misplaced is refused, never ignored."""
        ((_, _, message),) = self.faults(load, f"{notes} permit (principal, action, resource);")
        assert said in message

    def test_annotations_of_others(self, load: Load) -> None:
        """Annotations that are nobody's here are left alone."""
        assert 1 == load('@owner("team-a") permit (principal, action, resource);').rules

    def test_every_file_below(self, tmp_path: Path) -> None:
        """A file in a folder of the folder is read whatever case its ending is written in: it could hold the policy that forbids."""
        (tmp_path / "more").mkdir()
        for name in ("a.cedar", "more/B.CEDAR"):
            (tmp_path / name).write_text("permit (principal, action, resource);")
        assert 2 == load_cedar([tmp_path]).rules

    def test_a_folder_that_may_not_be_entered(self, load: Load, tmp_path: Path) -> None:
        """A folder below that cannot be looked into is a fault and not passed over."""
        load("permit (principal, action, resource);")
        for parent in (tmp_path, tmp_path.parent, tmp_path.parent.parent):
            parent.chmod(0o755)
        (tmp_path / "more").mkdir(mode=0)
        before = os.geteuid()
        try:
            if before == 0:
                # Root may enter any.
                os.seteuid(65534)
            with pytest.raises(ConfigError, match=r"more: error\[C002\]: cannot read the Cedar policy: permission denied"):
                load_cedar([tmp_path])
        finally:
            os.seteuid(before)

    def test_refused(self, load: Load, tmp_path: Path) -> None:
        """Templates, ids that are taken, empty files and empty folders are refused."""
        assert "template" in self.faults(load, "permit (principal == ?principal, action, resource);")[0][2]
        assert "is taken" in self.faults(load, '@id("a") permit (principal, action, resource);' * 2)[0][2]
        assert "expected from one" in self.faults(load, "// nothing")[0][2]
        (tmp_path / "empty").mkdir()
        with pytest.raises(ConfigError, match=r"\.cedar"):
            load_cedar([tmp_path / "empty"])

    def test_digest(self, load: Load) -> None:
        """The digest names what decides, not how it is laid out."""
        one, same, other = (
            load(text).digest
            for text in (
                "permit(principal,action,resource);",
                "permit (principal, action, resource); // x",
                "forbid(principal,action,resource);",
            )
        )
        assert one == same != other
