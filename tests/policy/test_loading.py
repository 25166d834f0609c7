from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from otel_runtime.errors import ConfigError, Fault
from otel_runtime.policy.loading import load_policy, load_policy_text
from otel_runtime.values.action import Parameter, ToolSignature

HEAD = "version: 1\ndefault: deny\ntools: {pay: {args: {amount: number, note: 'str?'}}, web: {adds: [untrusted]}}\ncontext: {risk: str}\nrules:\n"
GOOD = (
    HEAD
    + "  - {id: a, tool: pay, args: {amount: {lte: 100}}, decision: allow, match: [{args: {amount: 5}}], no_match: [{args: {amount: 500}}]}\n"
)


def faults(text: str) -> list[Fault]:
    with pytest.raises(ConfigError) as caught:
        load_policy_text(text, "p.yaml")
    return list(caught.value.faults)


def warned(text: str, **more: object) -> list[str]:
    return sorted(fault.code for fault in load_policy_text(text, "p.yaml", **more).warnings)  # type: ignore[arg-type]  # table-driven


# One rule, and the code, column and words of its fault.
RULES: list[tuple[str, str, int, str]] = [
    ("{id: a, tool: pay, args: {amount: {gte_: 1}}, decision: allow}", "P014", 40, "unknown operator `gte_`; did you mean `gte`?"),
    ("{id: a, tool: pay, decision: Deny}", "P005", 34, "did you mean `deny`?"),
    ("{id: a, tool: pay, effect: deny, decision: deny}", "P003", 24, "write `decision:"),
    ("{id: a, tool: pay, decison: deny, decision: deny}", "P003", 24, "did you mean `decision`?"),
    ("{id: a, tool: pay}", "P004", 5, "`decision` is missing"),
    ("{tool: pay, decision: deny}", "P004", 5, "`id` is missing"),
    ("{id: a b, tool: pay, decision: deny}", "P016", 10, "not a name"),
    ("{id: a, tool: 'p a y', decision: deny}", "P016", 19, "not a name or glob"),
    ("{id: a, tool: [], decision: deny}", "P016", 19, "expected text"),
    ("{id: a, tool: pay, args: {amount: {gt: '100'}}, decision: deny}", "P016", 44, "without quotes"),
    ("{id: a, tool: pay, args: {amount: {gt: true}}, decision: deny}", "P016", 44, "expected a number"),
    ("{id: a, tool: pay, args: {amount: {}}, decision: deny}", "P013", 39, "empty condition"),
    ("{id: a, tool: pay, args: {amount: {eq: }}, decision: deny}", "P016", 44, "exists: false"),
    ("{id: a, tool: pay, args: {amount: 5}, decision: deny}", "P005", 39, "expected"),
    ("{id: a, tool: pay, args: {amonut: {gt: 1}}, decision: deny}", "P018", 31, "did you mean `amount`?"),
    ("{id: a, tool: pay, args: {'y': {some: {gt: 1}}}, decision: deny}", "P018", 31, "no argument `y`"),
    ("{id: a, tool: pay, args: {'amount|note': {gt: 1}}, decision: deny}", "P016", 47, "together are a list"),
    ("{id: a, tool: pay, args: {'amount|': {some: {gt: 1}}}, decision: deny}", "P016", 31, "argument names"),
    ("{id: a, tool: pay, args: {note: {regex: '(?=x)'}}, decision: deny}", "P015", 45, "RE2"),
    ("{id: a, tool: pay, args: {note: {eq: {ref: env.X}}}, decision: deny}", "P016", 42, "ref: args.NAME"),
    ("{id: a, tool: pay, args: {note: {eq: {ref: session.pet}}}, decision: deny}", "P016", 42, "a session has no `pet`"),
    ("{id: a, tool: pay, args: {note: {eq: {ref: context.rsk}}}, decision: deny}", "P017", 42, "did you mean `risk`?"),
    ("{id: a, tool: pay, args: {note: {eq: {ref: args.nope}}}, decision: deny}", "P018", 42, "no argument `nope`"),
    ("{id: a, tool: pay, args: {note: {email_domain: '*.x.example'}}, decision: deny}", "P016", 52, "whole domain"),
    ("{id: a, tool: pay, args: {note: {origin: model}}, decision: deny}", "P016", 46, "expected `user`"),
    ("{id: a, tool: pay, args: {note: {sql: {}}}, decision: deny}", "P016", 43, "expected"),
    ("{id: a, tool: pay, context: {rsk: {eq: x}}, decision: deny}", "P017", 34, "did you mean `risk`?"),
    ("{id: a, tool: pay, session: {pet: {eq: x}}, decision: deny}", "P005", 34, "expected"),
    ("{id: a, tool: pay, cel: 'x > 1', decision: deny}", "P003", 24, "unknown key `cel`"),
    ("{id: a, tool: pay, unless: {}, decision: deny}", "P013", 32, "empty block"),
    ("{id: a, tool: pay, unless: , decision: deny}", "P005", 32, "got nothing"),
    ("{id: a, tool: pay, after: {}, decision: deny}", "P013", 31, "expected `label`"),
    ("{id: a, tool: pay, when: 'no_such_module:f', decision: deny}", "P019", 30, "cannot load"),
    ("{id: a, tool: pay, when: 'sys:maxsize', decision: deny}", "P019", 30, "not a function"),
    ("{id: a, tool: pay, when: 'x', decision: deny}", "P016", 30, "expected a function such as `package.module:function`"),
    ("{id: a, tool: pay, decision: require-approval}", "P013", 34, "needs `approval`"),
    ("{id: a, tool: pay, decision: require-approval, approval: {approvers: []}}", "P005", 74, "at least 1"),
    ("{id: a, tool: pay, decision: require-approval, approval: {approvers: [finance]}}", "P016", 75, "role:NAME"),
    ("{id: a, tool: pay, decision: require-approval, approval: {approvers: [acting-user], quorum: 2}}", "P013", 97, "never be reached"),
    ("{id: a, tool: pay, decision: require-approval, approval: {approvers: [anyone], expires: 30}}", "P016", 93, "with its unit"),
    ("{id: a, tool: pay, decision: require-approval, approval: {approvers: [anyone], expires: -1s}}", "P016", 93, "duration"),
    ("{id: a, tool: pay, decision: deny, approval: {approvers: [anyone]}}", "P013", 40, "belongs to `require-approval`"),
    ("{id: a, tool: pay, decision: deny, retry: {after: 1s}}", "P013", 40, "belongs to `retryable-failure`"),
    ("{id: a, kind: model, decision: require-approval, approval: {approvers: [anyone]}}", "P021", 36, "never sent to approval"),
    ("{id: a, kind: model, tool: x, name: y, decision: deny}", "P013", 26, "write one of them"),
    ("{id: a, name: x, decision: deny}", "P013", 13, "write `tool`"),
    ("{id: a, tool: pay, over: {calls: 1, by: all, per: 1min}, decision: allow}", "P022", 24, "cannot hang on a passed limit"),
    ("{id: a, tool: pay, over: {by: all, per: 1min}, decision: deny}", "P022", 24, "exactly one of"),
    ("{id: a, tool: pay, over: {calls: 1, usd: 5, by: all, per: 1min}, decision: deny}", "P022", 24, "exactly one of"),
    ("{id: a, tool: pay, over: {sum: args.amount, by: all, per: 1min}, decision: deny}", "P022", 24, "belong together"),
    ("{id: a, tool: pay, over: {calls: 1, reserve: 1, by: all, per: 1min}, decision: deny}", "P022", 41, "belongs to `usd`"),
    ("{id: a, tool: pay, over: {calls: 1, by: all, per: day}, decision: deny}", "P022", 55, "needs `tz`"),
    ("{id: a, tool: pay, over: {calls: 1, by: all, per: day, tz: Mars/X}, decision: deny}", "P022", 64, "unknown time zone"),
    ("{id: a, tool: pay, over: {calls: 1, by: everyone, per: 1min}, decision: deny}", "P005", 45, "expected"),
    ("{id: a, tool: pay, unless: {over: {calls: 1, by: all, per: 1min}}, decision: deny}", "P003", 33, "unknown key `over`"),
    ("{id: a, tool: pay, decision: deny, match: [{args: {amount: '5'}}]}", "P020", 48, "never reaches the rule"),
    (
        "{id: a, tool: pay, args: {amount: {gt: 5}}, decision: deny, match: [{args: {amount: 5}}]}",
        "P020",
        73,
        "`args.amount gt 5` is false (5)",
    ),
    ("{id: a, tool: pay, context: {risk: {eq: x}}, decision: deny, match: [{args: {amount: 5}}]}", "P020", 74, "is unknown"),
    ("{id: a, tool: pay, context: {risk: {eq: x}}, decision: deny, no_match: [{args: {amount: 5}}]}", "P020", 77, "is unknown"),
    ("{id: a, tool: 'p*', decision: deny, match: [{args: {amount: 5}}]}", "P020", 49, "say which `tool`"),
    ("{id: a, tool: pay, decision: deny, match: [{scope: hi}]}", "P003", 49, "an approval covers one execution"),
]


class TestRuleFaults:
    @pytest.mark.parametrize(("rule", "code", "column", "words"), RULES)
    def test_place_and_words(self, rule: str, code: str, column: int, words: str) -> None:
        """A mistake in a rule is told with its code, its place and what was expected."""
        (fault,) = faults(f"{HEAD}  - {rule}\n")
        assert (code, 6, column, True) == (fault.code, fault.line, fault.column, words in fault.message), fault

    def test_all_at_once(self) -> None:
        """Every mistake of a policy is told at once, in the order of the file."""
        text = (
            HEAD
            + "  - {id: a, tool: pay, decision: Deny}\n  - {id: b, tool: pay, args: {amonut: {gt: 1}}, decision: deny}\n  - {id: b, tool: x, decision: require-approval}\n"
        )
        assert [("P005", 6), ("P018", 7), ("P010", 8), ("P013", 8)] == [(fault.code, fault.line) for fault in faults(text)]

    def test_reads_like_a_compiler(self) -> None:
        """File, line, column, severity and code, then the line and a caret."""
        printed = str(faults(f"{HEAD}  - {{id: a, tool: pay, decision: Deny}}\n")[0])
        expected = "p.yaml:6:34: error[P005]: expected `allow`, `deny`, `require-approval` or `retryable-failure`, got `Deny`; did you mean `deny`?"
        assert (expected, " " * 37 + "^") == tuple(printed.split("\n")[::2])


class TestFileFaults:
    @pytest.mark.parametrize(
        ("text", "code"),
        [
            ("", "P002"),
            ("[]", "P002"),
            ("deny", "P002"),
            ("default: deny\nrules: []", "P004"),
            ("version: 2\ndefault: deny\nrules: [{id: a, decision: deny}]", "P005"),
            ("version: 1\nrules: [{id: a, decision: deny}]", "P011"),
            ("version: 1\ndefault: deny", "P012"),
            ("version: 1\ndefault: deny\nrules: []", "P012"),
            ("version: 1\ndefault: deny\nrules: {id: a}", "P005"),
            ("version: 1\ndefault: maybe\nrules: [{id: a, decision: deny}]", "P005"),
            ("version: 1\ndefault: require-approval\nrules: [{id: a, decision: deny}]", "P013"),
            ("version: 1\ndefault: deny\napproval: {approvers: [anyone]}\nrules: [{id: a, decision: deny}]", "P013"),
            ("version: 1\ndefault: deny\ntools: {x: {args: {a: string}}}\nrules: [{id: a, decision: deny}]", "P016"),
            ("version: 1\ndefault: deny\ntools: {'x y': {}}\nrules: [{id: a, decision: deny}]", "P016"),
            ("version: 1\ndefault: deny\ncontext: {risk: text}\nrules: [{id: a, decision: deny}]", "P016"),
            ("version: 1\ndefault: deny\nrules: [{id: a, decision: deny}]\ncases: [{call: {tool: x}, expect: allow}]", "P020"),
            ("version: 1\ndefault: no\n", "Y008"),
        ],
    )
    def test_refused(self, text: str, code: str) -> None:
        """What cannot be a policy is refused with one clear fault."""
        assert [code] == [fault.code for fault in faults(text)]

    def test_too_many_rules(self) -> None:
        """More than 10,000 rules are refused before they are read."""
        assert [fault.code for fault in faults("version: 1\nrules: [" + "a," * 10_001 + "]")] == ["P002"]

    def test_json(self) -> None:
        """A policy may be written in JSON."""
        text = '{"version": 1, "default": "deny", "rules": [{"id": "a", "tool": "x", "decision": "allow"}]}'
        assert load_policy_text(text).rules == 1


class TestPaths:
    def write(self, folder: Path, **texts: str) -> Path:
        for name, text in texts.items():
            (folder / f"{name}.yaml").write_text(text)
        return folder

    def test_directory_is_one_policy(self, tmp_path: Path) -> None:
        """The files of a directory pool their rules and tools; the schema among them is no policy."""
        (tmp_path / "schema.json").write_text("{}")
        self.write(tmp_path, a=GOOD, b="version: 1\nrules: [{id: b, tool: web, decision: allow}]")
        loaded = load_policy([tmp_path])
        assert (2, 2, "enforce", {"pay", "web"}) == (loaded.rules, len(loaded.files), loaded.mode, set(loaded.tools_catalogue))

    def test_head_is_set_once(self, tmp_path: Path) -> None:
        """Two files that set the default, an id or a tool twice are refused, each at its place."""
        self.write(tmp_path, a=GOOD, b=GOOD)
        with pytest.raises(ConfigError) as caught:
            load_policy([tmp_path])
        assert [("P011", 2), ("P010", 3), ("P010", 3), ("P010", 6)] == [(fault.code, fault.line) for fault in caught.value.faults]
        assert {str(tmp_path / "b.yaml")} == {fault.source for fault in caught.value.faults}

    def test_what_cannot_be_read_is_not_passed_over(self, tmp_path: Path) -> None:
        """A link that leads nowhere and a pipe are faults, in a directory and by name: a rule that is not read could be the one that denies."""
        (tmp_path / "a.yaml").write_text(HEAD + "  - {id: a, tool: pay, decision: allow}\n")
        (tmp_path / "b.yaml").symlink_to(tmp_path / "gone.yaml")
        os.mkfifo(tmp_path / "c.yaml")
        # As editors leave them.
        (tmp_path / ".#a.yaml").symlink_to("ann@host.17")
        with pytest.raises(ConfigError) as caught:
            load_policy([tmp_path])
        found = [(Path(fault.source).name, fault.code, fault.message.partition(";")[0]) for fault in caught.value.faults]
        assert [
            ("b.yaml", "P001", "this link leads nowhere"),
            ("c.yaml", "P001", "this is no plain file, so it cannot be read as a policy"),
        ] == found
        with pytest.raises(ConfigError, match="no plain file"):
            load_policy([tmp_path / "c.yaml"])

    def test_names_in_any_case(self, tmp_path: Path) -> None:
        """A file is read whatever case its ending is written in: it could hold the rule that denies."""
        (tmp_path / "a.yaml").write_text(HEAD + "  - {id: a, tool: pay, decision: allow}\n")
        (tmp_path / "B.YAML").write_text("version: 1\nrules: [{id: b, tool: pay, decision: deny}]")
        assert 2 == load_policy([tmp_path]).rules

    def test_folders_inside_are_not_read(self, tmp_path: Path) -> None:
        """Files in a folder of the directory do not count, and that is said; hidden folders and those of other files are not spoken of."""
        (tmp_path / "a.yaml").write_text(HEAD + "  - {id: a, tool: pay, decision: allow}\n")
        for name, file in (("more", "b.yaml"), (".git", "b.yaml"), ("notes", "b.txt")):
            (tmp_path / name).mkdir()
            (tmp_path / name / file).write_text("nonsense")
        found = load_policy([tmp_path])
        assert [("more", "P117")] == [(Path(fault.source).name, fault.code) for fault in found.warnings if fault.code != "P102"]
        assert 1 == found.rules

    def test_missing(self, tmp_path: Path) -> None:
        """A missing path, an empty directory and no path at all are refused."""
        for paths in ([tmp_path / "no.yaml"], [tmp_path], []):
            with pytest.raises(ConfigError, match="P001"):
                load_policy(paths)

    def test_unreadable(self, tmp_path: Path) -> None:
        """A file that cannot be read is refused with the reason of the system."""
        broken = tmp_path / "a.yaml"
        broken.symlink_to(broken)
        with pytest.raises(ConfigError, match="P001"):
            load_policy([broken])

    def test_what_cannot_be_looked_at(self, tmp_path: Path) -> None:
        """A path that the system does not even look up is a fault, told with the others."""
        with pytest.raises(ConfigError) as caught:
            load_policy([tmp_path / ("x" * 300), tmp_path / "no.yaml"])
        missing = "no such policy file or directory; check the path"
        too_long = "cannot read the policy: file name too long; check the path and its permissions"
        # From Python 3.14 on such a path is taken for one that does not exist.
        assert [missing if sys.version_info >= (3, 14) else too_long, missing] == [fault.message for fault in caught.value.faults]

    def test_not_utf8(self, tmp_path: Path) -> None:
        """A file in another encoding is refused at the byte."""
        (tmp_path / "a.yaml").write_bytes(b"version: 1\nname: \xff\n")
        with pytest.raises(ConfigError, match=r"a\.yaml:2:7: error\[Y002\]"):
            load_policy([tmp_path])

    def test_world_writable(self, tmp_path: Path) -> None:
        """A policy that every user may rewrite is a warning."""
        path = self.write(tmp_path, a=GOOD) / "a.yaml"
        path.chmod(0o666)
        assert "P109" in {fault.code for fault in load_policy([path]).warnings}


class TestCasesOfSessions:
    @pytest.mark.parametrize(
        ("case", "holds"),
        [
            ("history: [web]", True),
            ("history: [pay, web]", True),
            ("history: [pay]", False),
            ("history: [web], labels: []", False),
            ("labels: [untrusted]", True),
        ],
    )
    def test_history_brings_its_labels(self, case: str, holds: bool) -> None:
        """In a case the tools that started have put their labels on, unless the case names the labels itself."""
        rule = HEAD + "  - {id: a, tool: t, after: {label: untrusted}, decision: deny, %s: [{%s}]}\n"
        load_policy_text(rule % ("match" if holds else "no_match", case))
        with pytest.raises(ConfigError, match="P020"):
            load_policy_text(rule % ("no_match" if holds else "match", case))


class TestDigest:
    def test_names_what_decides(self) -> None:
        """Comments, cases, order and file names change nothing; a condition does."""
        one = HEAD + "  - {id: a, tool: pay, args: {amount: {lte: 100}}, decision: allow}\n  - {id: b, tool: web, decision: deny}\n"
        two = (
            "# comment\n"
            + HEAD
            + "  - {id: b, tool: web, decision: deny}\n  - {id: a, decision: allow, tool: pay, args: {amount: {lte: 100}}, match: [{args: {amount: 5}}]}\n"
        )
        digests = [load_policy_text(text).engine.digest for text in (one, two, one.replace("100", "101"))]
        assert (digests[0], 64, True) == (digests[1], len(digests[0]), digests[0] != digests[2])


class TestLints:
    def rule(self, text: str, **more: object) -> list[str]:
        return [code for code in warned(f"{HEAD}  - {text}\n", **more) if code != "P102"]

    @pytest.mark.parametrize(
        ("text", "code"),
        [
            ("{id: a, decision: allow}", "P101"),
            ("{id: a, tool: '*', decision: allow}", "P101"),
            ("{id: a, tool: pay, args: {note: {search: 'git status'}}, decision: allow}", "P103"),
            ("{id: a, tool: pay, after: {label: untrustd}, decision: deny}", "P104"),
            ("{id: a, tool: pay, decision: deny}\n  - {id: b, tool: pay, args: {amount: {gt: 5}}, decision: allow}", "P106"),
            ("{id: a, tool: pay, user: x, decision: deny}\n  - {id: b, tool: pay, user: x, decision: allow}", "P107"),
        ],
    )
    def test_warns(self, text: str, code: str) -> None:
        """A rule that is legal and doubtful is a warning."""
        assert [code] == self.rule(text)

    def test_partly_denied(self) -> None:
        """A rule of which a deny leaves something is not pointless."""
        assert self.rule("{id: a, tool: pay, decision: deny}\n  - {id: b, tool: [pay, web], decision: allow}") == []

    def test_uncovered(self) -> None:
        """A rule no case tries is a warning; a case of its own or of the file covers it."""
        bare = HEAD + "  - {id: a, tool: web, decision: allow}\n"
        assert [["P102"], [], []] == [
            warned(bare),
            warned(bare + "cases: [{call: {tool: web}, expect: allow}]"),
            [code for code in warned(GOOD) if code == "P102"],
        ]

    def test_roles(self) -> None:
        """A role that no setting gives to anyone is a warning, when there are settings."""
        text = "{id: a, tool: pay, decision: require-approval, approval: {approvers: ['role:finanse']}}"
        assert [[], [], ["P105"]] == [self.rule(text), self.rule(text, roles=["finanse"]), self.rule(text, roles=["finance"])]

    def test_tools(self) -> None:
        """A rule for a tool that no decorator knows is a warning, when decorators are known."""
        known = {"refund": ToolSignature((Parameter("amount", "number"),))}
        assert [[], ["P108"]] == [self.rule("{id: a, tool: refnd, decision: deny}", **more) for more in ({}, {"known_tools": known})]

    def test_open_arguments(self) -> None:
        """An allow on arguments of a tool that takes any is asked for `only_args`."""
        known = {"run": ToolSignature((Parameter("a", "str"),), open=True)}
        rule = "{{id: a, tool: run, args: {{a: {{eq: x}}}}{}, decision: allow}}"
        assert [["P110"], []] == [self.rule(rule.format(more), known_tools=known) for more in ("", ", only_args: [a]")]


class TestArbitraryInput:
    @settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
    @given(st.data())
    def test_mutations(self, data: st.DataObject) -> None:
        """A policy with some of its text cut, doubled or replaced loads or raises ConfigError, nothing else."""
        text = HEAD + "".join(f"  - {rule}\n" for rule, *_ in data.draw(st.lists(st.sampled_from(RULES), min_size=1, max_size=3)))
        start = data.draw(st.integers(0, len(text)))
        end = data.draw(st.integers(start, min(len(text), start + 12)))
        with contextlib.suppress(ConfigError):
            load_policy_text(
                text[:start]
                + data.draw(st.sampled_from(["", text[start:end] * 2, "[", "{", ": ", "null", "-1", "{}", "'x'", "\t"]))
                + text[end:]
            )

    @settings(max_examples=60)
    @given(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(max_size=5),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(st.sampled_from(["rules", "id", "tool", "args", "a", "eq", "decision", "not", "over"]), inner, max_size=3)
            ),
            max_leaves=12,
        )
    )
    def test_shapes(self, value: object) -> None:
        """Whatever stands where rules are expected is refused politely."""
        import json

        with contextlib.suppress(ConfigError):
            load_policy_text(json.dumps({"version": 1, "default": "deny", "rules": value}))
