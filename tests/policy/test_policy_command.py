from __future__ import annotations

import json
from pathlib import Path

import pytest

from otel_runtime.cli.main import main

GOOD = """version: 1
default: deny
tools: {refund: {args: {amount: number}}}
rules:
  - {id: small, tool: refund, args: {amount: {lte: 100}}, decision: allow, match: [{args: {amount: 5}}]}
  - {id: split, tool: refund, over: {calls: 2, by: session, per: 1d}, decision: deny}
  - {id: after, tool: refund, after: {label: untrusted}, decision: require-approval, approval: {approvers: ["role:finance"]}}
"""


@pytest.fixture
def good(tmp_path: Path) -> str:
    path = tmp_path / "good.yaml"
    path.write_text(GOOD)
    return str(path)


class TestCheck:
    def test_good(self, good: str, capsys: pytest.CaptureFixture[str]) -> None:
        """A usable policy is exit code 0, with its warnings and a summary."""
        assert main(["policy", "check", good]) == 0
        out = capsys.readouterr().out
        assert ("warning[P104]" in out, "the policy can be used: 3 rules in 1 file, 1 case passes, 4 warnings" in out) == (True, True)

    def test_faults(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """Every fault is printed with its line and caret, and the exit code is 2."""
        path = tmp_path / "bad.yaml"
        path.write_text(GOOD.replace("lte", "lte_").replace("decision: deny}", "decision: Deny}"))
        assert main(["policy", "check", str(path)]) == 2
        out = capsys.readouterr().out
        assert f"{path}:5:47: error[P014]: unknown operator `lte_`; did you mean `lte`?" in out
        assert ("error[P005]" in out, "the policy cannot be used: 2 faults" in out) == (True, True)

    def test_json(self, good: str, capsys: pytest.CaptureFixture[str]) -> None:
        """--json gives the same as data."""
        assert main(["policy", "check", good, "--json"]) == 0
        said = json.loads(capsys.readouterr().out)
        assert (True, 3, {"warning"}) == (said["ok"], said["rules"], {fault["severity"] for fault in said["faults"]})

    def test_missing(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """A path that does not exist is a fault, not a traceback."""
        assert main(["policy", "check", str(tmp_path / "no.yaml")]) == 2
        assert "no such policy file" in capsys.readouterr().out

    def test_app(self, good: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        """A module that cannot be imported is a fault that says why."""
        monkeypatch.chdir(tmp_path)
        assert main(["policy", "check", good, "--app", "no_such_app"]) == 2
        assert "cannot import `no_such_app`" in capsys.readouterr().out
        (tmp_path / "app_that_leaves.py").write_text("import sys\nsys.exit(0)\n")
        assert main(["policy", "check", good, "--app", "app_that_leaves"]) == 2
        assert "cannot import `app_that_leaves`: SystemExit: 0" in capsys.readouterr().out


class TestExplain:
    def explain(self, good: str, capsys: pytest.CaptureFixture[str], *words: str) -> str:
        assert main(["policy", "explain", "--policy", good, "--tool", "refund", *words]) == 0
        return capsys.readouterr().out

    def test_text(self, good: str, capsys: pytest.CaptureFixture[str]) -> None:
        """The decision comes first, then every rule about the call with its conditions."""
        out = self.explain(good, capsys, "--args", '{"amount": 250}')
        assert out.startswith("deny  tool refund")
        assert ("false  args.amount lte 100  (250)" in out, "false  over calls 2 by session  (0 of 2 used, this call adds 1)" in out) == (
            True,
            True,
        )

    def test_session_facts(self, good: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """Labels, history and used amounts of a session come from a file."""
        facts = tmp_path / "facts.json"
        facts.write_text('{"session": "s1", "labels": ["untrusted"], "used": {"split": 1}}')
        out = self.explain(good, capsys, "--args", '{"amount": 5}', "--session-facts", str(facts), "--json")
        said = json.loads(out)
        assert ("require-approval", "after") == (said["decision"]["value"], said["decision"]["rule"])
        assert {"small": "true", "split": "false", "after": "true"} == {rule["rule"]: rule["outcome"] for rule in said["rules"]}

    @pytest.mark.parametrize(
        "words", [["--args", "{"], ["--args", "[]"], ["--args", '{"a": 1, "a": 2}'], ["--args", '{"a": NaN', "--json"]]
    )
    def test_bad_arguments(self, good: str, words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
        """Arguments that are no JSON object are refused with exit code 2."""
        assert main(["policy", "explain", "--policy", good, "--tool", "refund", *words]) == 2
        assert "--args" in capsys.readouterr().err

    def test_policy_beside(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        """Without --policy the directory `policy/` is used where nothing is configured."""
        (tmp_path / ".git").mkdir()
        (tmp_path / "policy").mkdir()
        (tmp_path / "policy" / "a.yaml").write_text(GOOD)
        monkeypatch.chdir(tmp_path)
        assert main(["policy", "explain", "--tool", "refund", "--args", '{"amount": 5}', "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["decision"]["value"] == "allow"

    def test_no_session(self, good: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """Where there is no session its facts are unknown, and a limit by session binds."""
        facts = tmp_path / "facts.json"
        facts.write_text('{"session": null}')
        out = self.explain(good, capsys, "--args", '{"amount": 5}', "--session-facts", str(facts))
        assert ("deny  tool refund" in out, "unknown  over calls 2 by session  (no session is known" in out) == (True, True)

    def test_fresh_session_is_said(self, good: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """Where rules ask what happened before and nobody said, the answer says so; with facts it does not."""
        facts = tmp_path / "facts.json"
        facts.write_text('{"session": "s1"}')
        words = [self.explain(good, capsys, "--args", '{"amount": 5}', *more) for more in ((), ("--session-facts", str(facts)))]
        assert [True, False] == ["--session FILE" in out for out in words]

    def test_nearest_rule(self, good: str, capsys: pytest.CaptureFixture[str]) -> None:
        """A denial by default names the rule that came nearest, and what failed."""
        out = self.explain(good, capsys, "--args", '{"amount": 250}')
        assert "says allow, but `args.amount lte 100` is false (250)" in out

    @pytest.mark.parametrize(
        ("tool", "words"),
        [
            ("refnd", "did you mean `refund`?"),
            ("REFUND", "another case"),
            ("search", "`search*` does not fit `search`: `*` is one or more characters"),
            ("crm.a.b", "`crm.*` does not fit `crm.a.b`: `*` never crosses"),
            ("Search_x", "names are exact in their case"),
        ],
    )
    def test_nearest_name(self, tool: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """A name no rule is about gets the likest ones, and why a glob does not fit."""
        path = tmp_path / "names.yaml"
        path.write_text("version: 1\ndefault: deny\nrules:\n  - {id: a, tool: [refund, 'search*', 'crm.*'], decision: allow}\n")
        assert main(["policy", "explain", "--policy", str(path), "--tool", tool]) == 0
        assert words in capsys.readouterr().out

    def test_no_hint_far_off(self, good: str, capsys: pytest.CaptureFixture[str]) -> None:
        """A name like no other gets no hint."""
        assert main(["policy", "explain", "--policy", good, "--tool", "launch_rocket"]) == 0
        assert "did you mean" not in capsys.readouterr().out


class TestTest:
    def run(self, text: str, tmp_path: Path, *words: str) -> int:
        path = tmp_path / "tried.yaml"
        path.write_text(text)
        return main(["policy", "test", str(path), *words])

    WHOLE = """version: 1
default: deny
tools: {refund: {args: {amount: number}}}
rules:
  - {id: small, tool: refund, args: {amount: {lte: 100}}, decision: allow, match: [{args: {amount: 5}}], no_match: [{args: {amount: 500}}]}
  - {id: never, tool: wipe, decision: deny, match: [{}]}
"""

    def test_passes(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """Cases that pass are counted, rule by rule; a rule of a name alone needs no counterexample."""
        assert self.run(self.WHOLE, tmp_path, "--require-coverage") == 0
        assert "3 cases pass; 2 of 2 rules are seen both to apply and not to (100%)" in capsys.readouterr().out

    def test_fails(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """A failing case is told at its place, with exit code 1."""
        assert self.run(self.WHOLE.replace("lte: 100", "lte: 1"), tmp_path) == 1
        assert "tried.yaml:5:82: error[P020]" in capsys.readouterr().out.replace("\n", "")

    def test_cannot_be_used(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """A policy that cannot be used is exit code 2."""
        assert self.run(self.WHOLE.replace("lte", "lte_"), tmp_path) == 2
        assert "error[P014]" in capsys.readouterr().out

    @pytest.mark.parametrize(
        ("words", "code"), [((), 0), (("--require-coverage",), 1), (("--require-coverage", "50"), 0), (("--require-coverage", "51"), 1)]
    )
    def test_coverage(self, words: tuple[str, ...], code: int, tmp_path: Path) -> None:
        """Too little coverage is exit code 1 only where it is asked for."""
        assert self.run(self.WHOLE.replace(", no_match: [{args: {amount: 500}}]", ""), tmp_path, *words) == code

    def test_json(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """--json gives the same as data."""
        assert self.run(self.WHOLE, tmp_path, "--json") == 0
        said = json.loads(capsys.readouterr().out)
        assert (True, 3, 100.0, [("small", 1, 1, True), ("never", 1, 0, True)]) == (
            said["ok"],
            said["cases"],
            said["coverage_percent"],
            [(rule["rule"], rule["hits"], rule["misses"], rule["whole"]) for rule in said["rules"]],
        )

    @pytest.mark.parametrize("percent", ["-1", "101", "x"])
    def test_bad_percentage(self, percent: str, tmp_path: Path) -> None:
        """A percentage that is none is refused."""
        with pytest.raises(SystemExit):
            self.run(self.WHOLE, tmp_path, "--require-coverage", percent)
