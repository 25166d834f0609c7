"""Recorded calls under another policy: what changes, and what a trace does not tell is never guessed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from otel_runtime.policy.loading import load_policy_text
from otel_runtime.policy.recorded import (
    CONTEXT_CUT,
    CUT,
    NOT_CAPTURED,
    NOT_DATA,
    NOT_JSON,
    REDACTED,
    Caller,
    RecordedCall,
    Seen,
    read_captured,
)
from otel_runtime.policy.replay import OTHERWISE, Replayed, guarded, replay
from otel_runtime.policy.replay_report import compared
from otel_runtime.values.action import Parameter, ToolSignature, Unreadable

START = datetime(2026, 11, 20, 9, tzinfo=UTC)
HEAD = "version: 1\ndefault: {default}\ntools: {{fetch: {{adds: [untrusted]}}}}\ncontext: {{risk: 'str?'}}\nrules:\n"
ANN = Caller(user="ann", roles=frozenset({"clerk"}))


def call(name: str = "pay", at: int = 0, **more: Any) -> RecordedCall:
    facts: dict[str, Any] = {"args": {}, "caller": ANN, "agents": (), "session": "s1", "decided": "allow", "ran": True, **more}
    return RecordedCall("tool", name, START + timedelta(seconds=at), **facts)


def tried(rules: str, *calls: RecordedCall, default: str = "deny", seen: tuple[Seen, ...] = (), **more: Any) -> list[Replayed]:
    engine = load_policy_text(HEAD.format(default=default) + rules).engine
    return replay(calls, seen, engine, {}, **more)


def verdicts(rules: str, *calls: RecordedCall, **more: Any) -> list[object]:
    return [one.verdict or one.gaps for one in tried(rules, *calls, **more)]


SMALL = "  - {id: small, tool: pay, args: {amount: {lte: 10}}, decision: allow}\n"


class TestCaptured:
    @pytest.mark.parametrize(
        ("text", "gap"),
        [
            ('{"a": "[redacted]"}', REDACTED),
            ('{"a": "key=[redacted] and more"}', REDACTED),
            ('{"a": "aaaa…(5000 characters)"}', CUT),
            ('{"a": ["x", "…(50 items)"]}', CUT),
            ('{"a": {"b": 1, "…": "(40 entries)"}}', CUT),
            ('{"a": "…"}', CUT),
            ('{"a": "<12 bytes>"}', NOT_DATA),
            ('{"a": "<decimal.Context>"}', NOT_DATA),
            ('{"a": "<list: deeper than 8>"}', NOT_DATA),
            ('{"a": "<nan>"}', NOT_DATA),
        ],
    )
    def test_what_is_lost(self, text: str, gap: str) -> None:
        """A mark of capture's is no value: it reads as unreadable, and says why."""
        value, gaps = read_captured(text)
        assert isinstance(value, dict)
        assert ({gap}, True) == (set(gaps), isinstance(value["a"], Unreadable))

    @pytest.mark.parametrize(("text", "gap"), [(None, NOT_CAPTURED), ('{"a": "cut in the mid', NOT_JSON)])
    def test_nothing_to_read(self, text: object, gap: str) -> None:
        """What was not captured, and half a document, tell nothing."""
        assert (None, frozenset({gap})) == read_captured(text)

    def test_what_is_whole(self) -> None:
        """Everything else is what it was, also text that looks a little like a mark; what was unreadable then is unreadable still."""
        text = '{"a": [1, 2.5, null, true], "b": {"c": "<b>bold</b> … (3 items)"}, "d": {"type_name": "x.Y", "why": "type"}}'
        assert (
            {"a": [1, 2.5, None, True], "b": {"c": "<b>bold</b> … (3 items)"}, "d": Unreadable("x.Y", "type")},
            frozenset(),
        ) == read_captured(text)


class TestDecisions:
    def test_changes(self) -> None:
        """Each call is decided by the new rules on what was recorded of it."""
        rules = (
            SMALL
            + "  - {id: ask, tool: pay, args: {amount: {gt: 10, lte: 50}}, decision: require-approval, approval: {approvers: [anyone]}}\n"
        )
        calls = [call(at=at, args={"amount": amount}) for at, amount in enumerate((5, 20, 99))]
        assert ["allow", "require-approval", "deny"] == verdicts(rules, *calls)

    def test_order_of_times(self) -> None:
        """Calls are decided in the order of their times, whatever order they are handed over in."""
        rules = "  - {id: twice, tool: pay, over: {calls: 2, by: session, per: 1h}, decision: deny}\n"
        found = tried(rules, call(at=3), call(at=1), call(at=2), default="allow")
        assert [(1, "allow"), (2, "allow"), (3, "deny")] == [((one.call.at - START).seconds, one.verdict) for one in found]

    def test_labels_and_history(self) -> None:
        """A tool that ran leaves its labels and its name on the session, and on no other."""
        rules = "  - {id: after, tool: pay, after: {label: untrusted}, decision: deny}\n  - {id: past, tool: send, after: {tool: fetch}, decision: deny}\n"
        calls = [call(), call("send"), call("fetch", 1), call(at=2), call("send", 3), call(at=4, session="s2")]
        assert ["allow", "allow", "allow", "deny", "deny", "allow"] == verdicts(rules, *calls, default="allow")

    def test_a_denied_call_leaves_nothing(self) -> None:
        """A call that the new rules deny adds no label, whatever it did when it was recorded."""
        rules = "  - {id: never, tool: fetch, decision: deny}\n  - {id: after, tool: pay, after: {label: untrusted}, decision: deny}\n"
        assert ["deny", "allow"] == verdicts(rules, call("fetch"), call(at=1), default="allow")

    @pytest.mark.parametrize(("ran", "after"), [(True, "deny"), (False, "allow")])
    def test_an_asked_call_counts_as_it_went(self, ran: bool, after: str) -> None:
        """Where people are asked, the call counts when it ran, and does not when it did not."""
        rules = (
            "  - {id: ask, tool: fetch, decision: require-approval, approval: {approvers: [anyone]}}\n"
            "  - {id: after, tool: pay, after: {label: untrusted}, decision: deny}\n"
        )
        assert ["require-approval", after] == verdicts(rules, call("fetch", ran=ran), call(at=1), default="allow")

    def test_sums_by_time(self) -> None:
        """Amounts are summed within the window they were made in."""
        rules = "  - {id: sum, tool: pay, over: {sum: args.amount, max: 100, by: user, per: 1h}, decision: deny}\n"
        calls = [call(at=at, args={"amount": 60}) for at in (0, 60, 3700)]
        assert ["allow", "deny", "allow"] == verdicts(rules, *calls, default="allow")

    def test_real_costs(self) -> None:
        """A model call counts with what it cost."""
        rules = '  - {id: day, kind: model, over: {usd: "1.00", by: user, per: day, tz: UTC, reserve: "0.10"}, decision: deny}\n'
        calls = [
            RecordedCall("model", "m", START + timedelta(seconds=at), {}, caller=ANN, agents=(), ran=True, usd=Decimal("0.95"))
            for at in (0, 1)
        ]
        assert ["allow", "deny"] == verdicts(rules, *calls)

    def test_attempts(self) -> None:
        """The attempt that it was decides whether another one is left."""
        rules = "  - {id: rate, tool: pay, over: {calls: 0, by: session, per: 1h}, decision: retryable-failure, retry: {max_attempts: 3}}\n"
        assert ["retryable-failure", "deny"] == verdicts(
            rules, call(attempt=2, ran=False), call(at=1, attempt=3, ran=False), default="allow"
        )

    def test_agents(self) -> None:
        """The chain of agents is looked at as it was."""
        rules = "  - {id: helper, tool: pay, agent: helper, decision: deny}\n"
        assert ["deny", "allow"] == verdicts(rules, call(agents=("main", "helper")), call(at=1, agents=("main",)), default="allow")

    def test_shadow(self) -> None:
        """A policy in shadow mode is taken at its word: what it would decide."""
        engine = load_policy_text("version: 1\ndefault: deny\nmode: shadow\nrules:\n  - {id: never, tool: pay, decision: deny}\n").engine
        assert ["deny"] == [one.verdict for one in replay([call()], [], engine, {})]

    def test_signatures(self) -> None:
        """Signatures of the application refuse what does not fit them."""
        engine = load_policy_text("version: 1\ndefault: allow\nrules:\n  - {id: never, tool: other, decision: deny}\n").engine
        known = {"pay": ToolSignature((Parameter("amount", "number"),))}
        calls = [call(args={"amount": 1}), call(args={"amount": "1"}), call(args={"amout": 1})]
        assert ["allow", "deny", "deny"] == [one.verdict for one in replay(calls, [], engine, known)]

    def test_origins(self) -> None:
        """Values are looked for in what agents were told and tools gave back before the call."""
        rules = "  - {id: known, tool: pay, args: {to: {origin: [user, 'tool:find']}}, decision: allow}\n"
        seen = (
            Seen("s1", "user", START, {"q": "pay bob@corp.example"}),
            Seen("s1", "tool:find", START + timedelta(seconds=5), "eve@evil.example"),
        )
        calls = [call(at=at, args={"to": to}) for at, to in ((1, "bob@corp.example"), (2, "eve@evil.example"), (6, "eve@evil.example"))]
        assert ["allow", "deny", "allow"] == verdicts(rules, *calls, seen=seen, all_words=True)


class TestGaps:
    """What is not told makes a call not replayable only where it could turn the decision."""

    def test_not_captured(self) -> None:
        """Without arguments a rule that asks for them leaves the call open, and one that does not decides."""
        bare = call(args=None, gaps=frozenset({NOT_CAPTURED}))
        assert [(NOT_CAPTURED,)] == verdicts(SMALL, bare)
        assert ["deny"] == verdicts("  - {id: never, tool: pay, decision: deny}\n", bare, default="allow")
        assert ["deny"] == verdicts(SMALL + "  - {id: never, tool: pay, decision: deny}\n", bare)

    def test_only_args(self) -> None:
        """Nobody knows which arguments there were, so a list of them holds for nobody."""
        rules = "  - {id: few, tool: pay, only_args: [amount], decision: allow}\n"
        assert [(NOT_CAPTURED,)] == verdicts(rules, call(args=None, gaps=frozenset({NOT_CAPTURED})))

    def test_the_catalogue_is_not_guessed(self) -> None:
        """What was not captured may not fit a declared signature."""
        engine = load_policy_text(
            "version: 1\ndefault: allow\ntools: {pay: {args: {amount: number}}}\nrules:\n  - {id: never, tool: x, decision: deny}\n"
        ).engine
        found = replay([call(args=None, gaps=frozenset({NOT_CAPTURED}))], [], engine, {})
        assert [(None, (NOT_CAPTURED,))] == [(one.verdict, one.gaps) for one in found]

    @pytest.mark.parametrize(
        ("text", "gap"), [('{"amount": 5, "note": "x…(9 characters)"}', CUT), ('{"amount": 5, "note": "[redacted]"}', REDACTED)]
    )
    def test_only_where_it_matters(self, text: str, gap: str) -> None:
        """An argument that is lost matters to a rule that looks at it, and to no other."""
        args, gaps = read_captured(text)
        lost = call(args=args, gaps=gaps)
        assert ["allow"] == verdicts(SMALL, lost)
        assert [(gap,)] == verdicts("  - {id: note, tool: pay, args: {note: {contains: x}}, decision: deny}\n", lost, default="allow")

    @pytest.mark.parametrize(
        ("condition", "gap"),
        [
            ("role: clerk", "roles not recorded"),
            ("user: ann", "user not recorded"),
            ("tags: money", "tags not recorded"),
            ("context: {risk: {eq: high}}", "context not recorded"),
            ("session: {user: {eq: ann}}", "user not recorded"),
            ("over: {calls: 5, by: user, per: 1h}", "user not recorded"),
            ("over: {calls: 5, by: tenant, per: 1h}", "tenant not recorded"),
            ("args: {amount: {lte: {ref: context.risk}}}", "context not recorded"),
        ],
    )
    def test_who_asked(self, condition: str, gap: str) -> None:
        """Where the trace does not say who asked, a rule that wants to know leaves the call open."""
        rules = f"  - {{id: who, tool: pay, {condition}, decision: deny}}\n"
        assert [(gap,)] == verdicts(rules, call(caller=None, args={"amount": 5}), default="allow")

    def test_a_call_without_a_session(self) -> None:
        """That there was no session is told: a limit by session refuses such a call in the replay as it would have then."""
        rules = (
            "  - {id: pace, tool: pay, over: {calls: 300, by: session, per: 1h}, decision: retryable-failure, retry: {max_attempts: 3}}\n"
        )
        assert ["deny"] == verdicts(rules, call(session=None, args=None, gaps=frozenset({NOT_CAPTURED}), caller=None), default="allow")

    def test_a_context_in_parts(self) -> None:
        """A fact that was redacted or cut leaves open the rules that ask for it."""
        rules = "  - {id: risky, tool: pay, context: {risk: {eq: high}}, decision: deny}\n"
        lost = call(caller=Caller(user="ann", context={"risk": Unreadable("str", "text")}), gaps=frozenset({CONTEXT_CUT}))
        assert [(CONTEXT_CUT,)] == verdicts(rules, lost, default="allow")
        assert ["deny"] == verdicts("  - {id: ann, tool: pay, user: ann, decision: deny}\n", lost, default="allow")

    def test_agents_not_told(self) -> None:
        """The same for the chain of agents."""
        rules = "  - {id: who, tool: pay, agent: helper, decision: deny}\n"
        assert [("agents not recorded",)] == verdicts(rules, call(agents=None), default="allow")

    def test_assumed(self) -> None:
        """Somebody may say who is taken to have asked."""
        rules = "  - {id: who, tool: pay, role: clerk, decision: deny}\n"
        assert ["deny"] == verdicts(rules, call(caller=None), default="allow", assumed=ANN)

    def test_an_amount_nobody_knows_spoils_its_sum(self) -> None:
        """After a call that ran with an unknown amount the sum is not known any more, for that user and no other."""
        rules = "  - {id: sum, tool: pay, over: {sum: args.amount, max: 100, by: user, per: 1h}, decision: deny}\n"
        bob = Caller(user="bob")
        calls = [
            call(args=None, gaps=frozenset({NOT_CAPTURED})),
            call(at=1, args={"amount": 5}),
            call(at=2, args={"amount": 5}, caller=bob),
        ]
        found = verdicts(rules, *calls, default="allow")
        assert [(NOT_CAPTURED,), ("an earlier call that counts on the same limit cannot be read",), "allow"] == found

    def test_a_call_nobody_can_read_still_counts(self) -> None:
        """A call that is not replayable and ran leaves its labels, its name and itself on limits of calls."""
        rules = (
            "  - {id: url, tool: fetch, args: {url: {eq: x}}, decision: deny}\n"
            "  - {id: after, tool: pay, after: {label: untrusted}, decision: deny}\n"
            "  - {id: once, tool: [fetch, send], over: {calls: 1, by: session, per: 1h}, decision: deny}\n"
        )
        calls = [call("fetch", args=None, gaps=frozenset({NOT_CAPTURED})), call(at=1), call("send", 2)]
        assert [(NOT_CAPTURED,), "deny", "deny"] == verdicts(rules, *calls, default="allow")

    def test_a_call_nobody_can_read_that_did_not_run(self) -> None:
        """A call that is not replayable and did not run leaves nothing."""
        rules = (
            "  - {id: url, tool: fetch, args: {url: {eq: x}}, decision: deny}\n"
            "  - {id: after, tool: pay, after: {label: untrusted}, decision: deny}\n"
        )
        calls = [call("fetch", args=None, gaps=frozenset({NOT_CAPTURED}), ran=False), call(at=1)]
        assert [(NOT_CAPTURED,), "allow"] == verdicts(rules, *calls, default="allow")

    def test_words_of_the_user(self) -> None:
        """What `session.user_said` added stands in no trace, so a value that only the user could have named is not judged."""
        rules = "  - {id: known, tool: pay, args: {to: {origin: user}}, decision: allow}\n"
        seen = (Seen("s1", "user", START, "pay bob@corp.example"),)
        calls = [call(at=1, args={"to": "bob@corp.example"}), call(at=2, args={"to": "eve@evil.example"})]
        assert ["allow", ("what the user said is not in the trace",)] == verdicts(rules, *calls, seen=seen)

    def test_results_not_captured(self) -> None:
        """A tool whose result was not captured may have named anything."""
        rules = "  - {id: known, tool: pay, args: {to: {origin: 'tool:find'}}, decision: allow}\n"
        seen = (Seen("s1", "tool:find", START, None, whole=False),)
        assert [("results of tools not captured",)] == verdicts(
            rules, call(at=1, args={"to": "eve@evil.example"}), seen=seen, all_words=True
        )

    def test_the_same_rules_decided_otherwise(self) -> None:
        """Where the very rules that were in force now say something else, the trace does not tell all, and the call is not counted as a change."""
        engine = load_policy_text(HEAD.format(default="deny") + SMALL).engine
        found = replay([call(args={"amount": 50}, digest=engine.digest)], [], engine, {})
        assert [(OTHERWISE,)] == [one.gaps for one in found]
        assert ["deny"] == [one.verdict for one in replay([call(args={"amount": 50}, digest="other")], [], engine, {})]


class TestReport:
    def report(self, *calls: RecordedCall, old: str | None = None) -> Any:
        new = "  - {id: ask, tool: pay, args: {amount: {gt: 10}}, decision: require-approval, approval: {approvers: ['role:finance', 'user:zoe']}}\n"
        engine = load_policy_text(HEAD.format(default="allow") + new + "  - {id: never, tool: wipe, decision: deny}\n").engine
        against = None if old is None else replay(calls, [], load_policy_text(HEAD.format(default="allow") + old).engine, {})
        return compared(replay(calls, [], engine, {}), against)

    def test_against_what_was_decided(self) -> None:
        """Every call is in one group: newly denied, asked, allowed, unchanged or not replayable."""
        calls = [
            call(args={"amount": 5}),
            call(at=1, args={"amount": 50}),
            call("wipe", 2),
            call("look", 3, decided="deny", ran=False),
            call("look", 4, decided=None),
            call(at=5, args=None, gaps=frozenset({NOT_CAPTURED})),
        ]
        report = self.report(*calls)
        assert (6, 2, 1, {NOT_CAPTURED: 1}) == (report.calls, report.unchanged, report.unreplayable, report.gaps)
        assert [("denied", "wipe", "never"), ("asked", "pay", "ask"), ("allowed", "look", None)] == [
            (change.kind, change.name, change.rule) for change in report.changes
        ]

    def test_against_other_rules(self) -> None:
        """Compared with other rules it does not matter what was decided at the time."""
        report = self.report(
            call(args={"amount": 50}, decided="deny"), old="  - {id: was, tool: pay, args: {amount: {gt: 40}}, decision: deny}\n"
        )
        assert [("asked", "deny")] == [(change.kind, change.was) for change in report.changes]

    def test_how_often_people_are_asked(self) -> None:
        """Requests per hundred calls of tools, and per approver and day; models are not counted, and a short trace is a day."""
        calls = [call(at=at, args={"amount": 50 if at % 4 == 0 else 5}) for at in range(8)]
        models = [RecordedCall("model", "m", START, {}, ran=True) for _ in range(8)]
        report = self.report(*calls, *models)
        assert (2, 25.0, {"role:finance or user:zoe": 2.0}) == (report.after.requests, report.after.per_100, report.after.per_day)
        later = call(at=4 * 86_400, args={"amount": 50})
        assert pytest.approx({"role:finance or user:zoe": 3 / 4}) == self.report(*calls, later).after.per_day

    def test_recorded_approvers(self) -> None:
        """Without other rules the people who were asked at the time are those of before."""
        asked = call(args={"amount": 5}, decided="require-approval", approvers=("role:boss",))
        report = self.report(asked)
        assert ({"role:boss": 1}, {}) == (report.before.approvers, report.after.approvers)

    def test_nothing(self) -> None:
        """No calls, no numbers that divide by them."""
        assert (0, 0.0) == (self.report().calls, self.report().after.per_100)

    def test_only_what_a_policy_decides_on(self) -> None:
        """Agents and models that nothing decides on are left out, decided ones are not."""
        engine = load_policy_text(HEAD.format(default="deny") + SMALL).engine
        agent = RecordedCall("agent", "a", START, {}, ran=True)
        decided = RecordedCall("model", "m", START, {}, decided="allow", ran=True)
        assert [decided, call()] == guarded([agent, decided, call()], [engine])
