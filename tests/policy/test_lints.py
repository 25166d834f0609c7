"""Doubts: each is told at its place with how to mend it, and a rule that is meant so is left alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from otel_runtime.policy.loading import load_policy, load_policy_text
from otel_runtime.values.action import Parameter, ToolSignature

PACKS = sorted((Path(__file__).parents[2] / "policy").glob("*.yaml"))
HEAD = "version: 1\ndefault: {default}\ntools: {{fetch: {{adds: [untrusted]}}, note: {{}}, tell: {{args: {{who: 'list[str]'}}}}, pay: {{args: {{amount: number, to: str}}}}}}\nrules:\n"
KNOWN = {
    "fetch": ToolSignature((Parameter("url", "str"),)),
    "pay": ToolSignature((Parameter("amount", "number"), Parameter("to", "str"))),
    "anything": ToolSignature((), open=True),
}
PAY = "  - {id: small, tool: pay, args: {amount: {gt: 0, lte: 100}}, decision: allow}\n"
SENDS = "  - {id: send, tool: send, decision: allow}\n"
AFTER = "  - {id: after, tool: send, after: {label: untrusted}, decision: deny}\n"
SOME = "  - {id: some, tool: pay, args: {to: {eq: me}, amount: {eq: 5}}, decision: allow}\n"

# Name -> rules with § at the place, code, words of the message.
HITS: dict[str, tuple[str, str, str]] = {
    "everything": ('  - §{id: a, tool: "*", decision: allow}\n', "P101", "name the tools it is meant for"),
    "everything, unnamed": ("  - §{id: a, decision: allow}\n", "P101", "name the tools it is meant for"),
    "origin asked of a list": ("  - {id: a, tool: tell, args: {who: {§origin: user}}, decision: allow}\n", "P116", "this rule never holds"),
    "text asked of a number": (
        "  - {id: a, tool: pay, args: {amount: {§starts_with: '5'}}, decision: deny}\n",
        "P116",
        "denies every such call",
    ),
    "a number asked of text": (
        "  - {id: a, tool: pay, args: {to: {any_of: [{eq: me}, {§gt: 5}]}}, decision: allow}\n",
        "P116",
        "never holds",
    ),
    "another type": ("  - {id: a, tool: pay, args: {amount: {§eq: '500'}}, decision: deny}\n", "P116", "`amount` is `number`"),
    "a list asked of text": (
        "  - {id: a, tool: pay, args: {to: {§every: {email_domain: a.example}}}, decision: allow}\n",
        "P116",
        "asks a list",
    ),
    "a sum of text": (
        "  - {id: a, tool: pay, over: {sum: §args.to, max: 5, by: user, per: 1h}, decision: deny}\n",
        "P116",
        "denies every such call",
    ),
    "one of a pool that no tool has": (
        '  - {id: a, tool: pay, args: {§"to|bcc": {some: {eq: x}}}, decision: deny}\n',
        "P118",
        "it adds nothing",
    ),
    "no case": ("  - {id: §a, tool: fetch, decision: allow}\n", "P102", "add `match` and `no_match`"),
    "search in the middle": ("  - {id: a, tool: fetch, args: {url: {search: §example}}, decision: allow}\n", "P103", "use `regex`"),
    "search with one end": (
        "  - {id: a, tool: fetch, args: {url: {search: §'^https://example'}}, decision: allow}\n",
        "P103",
        "use `regex`",
    ),
    "label nobody adds": ("  - {id: a, tool: pay, after: {label: §untrused}, decision: deny}\n", "P104", "did you mean `untrusted`?"),
    "unknown role": (
        '  - {id: a, tool: pay, decision: require-approval, approval: {approvers: [§"role:finanse"]}}\n',
        "P105",
        "did you mean `finance`?",
    ),
    "unreachable": (
        "  - {id: wall, tool: pay, decision: deny}\n  - §{id: a, tool: pay, user: ann, decision: allow}\n",
        "P106",
        "`wall` denies",
    ),
    "unreachable behind a glob": (
        '  - {id: wall, tool: "p*", decision: deny}\n  - §{id: a, tool: pay, user: ann, decision: allow}\n',
        "P106",
        "`wall`",
    ),
    "the same twice": (
        "  - {id: a, tool: pay, user: ann, decision: deny}\n  - §{id: b, tool: pay, user: ann, decision: deny}\n",
        "P107",
        "asks exactly what `a` asks",
    ),
    "conflicting": (
        "  - {id: a, tool: pay, user: ann, decision: deny}\n  - §{id: b, tool: pay, user: ann, decision: allow}\n",
        "P107",
        "ask the same and disagree",
    ),
    "unknown tool": ("  - {id: a, tool: §pya, decision: deny}\n", "P108", "did you mean `pay`?"),
    "open arguments": ("  - {id: a, tool: anything, §args: {x: {eq: 1}}, decision: allow}\n", "P110", "add `only_args`"),
    "arguments nobody declares": (
        "  - {id: a, tool: [note, pay], §args: {x: {eq: 1}}, decision: allow}\n",
        "P110",
        "declares the arguments of `note`",
    ),
    "any host": ("  - {id: a, tool: fetch, args: {url: {§url: {scheme: https}}}, decision: allow}\n", "P111", "`host`"),
    "amount without a sum": (PAY.replace("amount: {gt", "§amount: {gt"), "P112", "over: {sum: args.amount"),
    "amount with a sum of another": (
        PAY.replace("amount: {gt", "§amount: {gt")
        + "  - {id: all, tool: pay, over: {sum: args.to, max: 5, by: user, per: 1h}, decision: deny}\n",
        "P112",
        "over: {sum: args.amount",
    ),
    "amount whose limit is only recorded": (
        PAY.replace("amount: {gt", "§amount: {gt")
        + "  - {id: all, tool: pay, mode: shadow, over: {sum: args.amount, max: 5, by: user, per: 1h}, decision: deny}\n",
        "P112",
        "over: {sum: args.amount",
    ),
    "one label": (SENDS + AFTER.replace("label: unt", "label: §unt"), "P113", "one tool that forgets to add it"),
    "one label before a glob": (
        '  - {id: send, tool: "se*", decision: allow}\n' + AFTER.replace("label: unt", "label: §unt"),
        "P113",
        "nothing to go by but the label `untrusted`",
    ),
    "shadowed by a denial": (
        "  - {id: all, tool: pay, args: {to: {eq: me}}, decision: deny}\n" + SOME.replace("{id", "§{id"),
        "P114",
        "can never matter: `all` asks less and is stricter",
    ),
    "shadowed by a question": (
        "  - {id: all, tool: pay, decision: require-approval, approval: {approvers: [anyone]}}\n" + SOME.replace("{id", "§{id"),
        "P114",
        "can never matter",
    ),
    "shadowed by the same": (
        "  - {id: all, tool: [pay, fetch], args: {to: {eq: me}}, decision: allow}\n" + SOME.replace("{id", "§{id"),
        "P114",
        "adds nothing",
    ),
}

# What looks alike and is meant so: nothing of this code is said.
QUIET: dict[str, tuple[str, str]] = {
    "a pool of what one tool has each": ('  - {id: a, tool: [pay, fetch], args: {"to|url": {some: {eq: x}}}, decision: deny}\n', "P118"),
    "a sum of numbers": ("  - {id: a, tool: pay, over: {sum: args.amount, max: 5, by: user, per: 1h}, decision: deny}\n", "P116"),
    "what the type answers": (
        "  - {id: a, tool: pay, args: {to: {starts_with: a, length: 3}, amount: {in: [5, x]}}, decision: deny}\n",
        "P116",
    ),
    "one tool of two that answers": ("  - {id: a, tool: [pay, fetch], args: {to: {gt: 5}}, decision: deny}\n", "P116"),
    "compared with another value": ("  - {id: a, tool: pay, args: {amount: {lte: {ref: args.to}}}, decision: deny}\n", "P116"),
    "one glob is not everything": ('  - {id: a, tool: "get_*", decision: allow}\n', "P101"),
    "everything with a condition": ('  - {id: a, tool: "*", user: ann, decision: allow}\n', "P101"),
    "everything denied": ('  - {id: a, tool: "*", decision: deny}\n', "P101"),
    "a case of the file": (
        "  - {id: a, tool: fetch, decision: allow}\ncases:\n  - {call: {tool: fetch, args: {url: x}}, expect: allow}\n",
        "P102",
    ),
    "search in a denial": ("  - {id: a, tool: fetch, args: {url: {search: secret}}, decision: deny}\n", "P103"),
    "search with both ends": ("  - {id: a, tool: fetch, args: {url: {search: '^a.*b$'}}, decision: allow}\n", "P103"),
    "a label that is added": ("  - {id: a, tool: pay, after: {label: untrusted}, decision: deny}\n", "P104"),
    "a known role": ('  - {id: a, tool: pay, decision: require-approval, approval: {approvers: ["role:finance"]}}\n', "P105"),
    "a wall with a condition": (
        "  - {id: wall, tool: pay, user: bob, decision: deny}\n  - {id: a, tool: pay, user: ann, decision: allow}\n",
        "P106",
    ),
    "a wall that is only recorded": (
        "  - {id: wall, tool: pay, mode: shadow, decision: deny}\n  - {id: a, tool: pay, user: ann, decision: allow}\n",
        "P106",
    ),
    "other tools": ("  - {id: a, tool: pay, user: ann, decision: deny}\n  - {id: b, tool: fetch, user: ann, decision: allow}\n", "P107"),
    "a declared tool": ("  - {id: a, tool: pay, decision: deny}\n", "P108"),
    "open arguments, listed": ("  - {id: a, tool: anything, only_args: [x], args: {x: {eq: 1}}, decision: allow}\n", "P110"),
    "origin asked of elements": ("  - {id: a, tool: tell, args: {who: {every: {origin: user}}}, decision: allow}\n", "P116"),
    "arguments nobody declares, listed": ("  - {id: a, tool: note, only_args: [x], args: {x: {eq: 1}}, decision: allow}\n", "P110"),
    "arguments the program declares": ("  - {id: a, tool: fetch, args: {url: {eq: x}}, decision: allow}\n", "P110"),
    "scheme and host": ("  - {id: a, tool: fetch, args: {url: {url: {scheme: https, host: a.example}}}, decision: allow}\n", "P111"),
    "an amount with its sum": (
        PAY + "  - {id: all, tool: pay, over: {sum: args.amount, max: 300, by: user, per: 1h}, decision: deny}\n",
        "P112",
    ),
    "an amount so many times": (PAY + '  - {id: all, tool: "*", over: {calls: 2, by: session, per: 1d}, decision: deny}\n', "P112"),
    "an amount asked above": (
        "  - {id: large, tool: pay, args: {amount: {gt: 100}}, decision: require-approval, approval: {approvers: [anyone]}}\n",
        "P112",
    ),
    "a number that is no amount": ("  - {id: a, tool: pay, args: {to: {length: {lte: 5}}}, decision: allow}\n", "P112"),
    "a label and a value": (SENDS + AFTER.replace("after:", "args: {to: {eq: me}}, after:"), "P113"),
    "a label where nothing opens": (AFTER, "P113"),
    "a label that opens": ("  - {id: a, tool: send, after: {label: untrusted}, decision: allow}\n", "P113"),
    "two labels": (SENDS + AFTER.replace("label: untrusted", "label: [untrusted, other]"), "P113"),
    "a tool that ran": (SENDS + AFTER.replace("label: untrusted", "tool: fetch"), "P113"),
    "more conditions, looser": (
        "  - {id: all, tool: pay, args: {to: {eq: me}}, decision: allow}\n" + SOME.replace("decision: allow", "decision: deny"),
        "P114",
    ),
    "fewer names": ("  - {id: all, tool: send, args: {to: {eq: me}}, decision: deny}\n" + SOME, "P114"),
    "another condition": ("  - {id: all, tool: pay, args: {to: {eq: you}}, decision: deny}\n" + SOME, "P114"),
    "only recorded": ("  - {id: all, tool: pay, mode: shadow, args: {to: {eq: me}}, decision: deny}\n" + SOME, "P114"),
    "two that ask": (
        "  - {id: all, tool: pay, args: {to: {eq: me}}, decision: require-approval, approval: {approvers: [anyone]}}\n"
        + SOME.replace("allow}", "require-approval, approval: {approvers: ['role:finance']}}"),
        "P114",
    ),
}


def warnings(rules: str, default: str = "deny") -> list[tuple[str, int, int, str]]:
    text = HEAD.format(default=default) + rules.replace("§", "")
    loaded = load_policy_text(text, "p.yaml", KNOWN, roles=["finance"])
    return [(fault.code, fault.line, fault.column, fault.message) for fault in loaded.warnings]


class TestLints:
    @pytest.mark.parametrize("name", HITS)
    def test_hit(self, name: str) -> None:
        """The doubt is told at its line and column, with a way to mend it."""
        rules, code, words = HITS[name]
        before, _, _ = (HEAD.format(default="deny") + rules).partition("§")
        place = (before.count("\n") + 1, len(before.rpartition("\n")[2]) + 1)
        found = [(line, column) for found, line, column, message in warnings(rules) if found == code and words in message]
        assert [place] == found, warnings(rules)

    @pytest.mark.parametrize("name", QUIET)
    def test_no_false_hit(self, name: str) -> None:
        """What is meant so is left alone."""
        rules, code = QUIET[name]
        assert [] == [message for found, _, _, message in warnings(rules) if found == code]

    def test_every_code_is_tried_both_ways(self) -> None:
        """Each warning of a rule has a hit and a quiet neighbour here; P109 is about a file, P115 about a case, P117 about a folder."""
        hit, quiet = ({entry[1] for entry in table.values()} for table in (HITS, QUIET))
        assert hit == quiet == {f"P{number}" for number in range(101, 119)} - {"P109", "P115", "P117"}

    def test_a_label_under_default_allow(self) -> None:
        """Where everything is allowed, a rule that hangs on a label hangs on it alone, whatever other rules say."""
        assert ["P113"] == [code for code, *_ in warnings(AFTER, default="allow") if code == "P113"]

    @pytest.mark.parametrize("path", PACKS, ids=lambda path: path.stem)
    def test_shipped_packs(self, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """No pack that we ship raises a doubt."""
        monkeypatch.chdir(tmp_path)
        assert () == load_policy([path]).warnings

    def test_a_file_everybody_may_write(self, tmp_path: Path) -> None:
        """A policy that every user may rewrite is told without a line, and one that is kept is not."""
        path = tmp_path / "p.yaml"
        path.write_text("version: 1\ndefault: deny\nrules:\n  - {id: a, tool: t, decision: deny, match: [{}]}\n")
        path.chmod(0o666)
        assert [("P109", 0)] == [(fault.code, fault.line) for fault in load_policy([path]).warnings]
        path.chmod(0o644)
        assert () == load_policy([path]).warnings
