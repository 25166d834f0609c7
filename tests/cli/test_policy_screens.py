"""How the policy commands look: on terminals of 80 and 120 columns, without colours, and piped."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from otel_runtime.cli.main import main

ROOT = Path(__file__).parents[2]
LONG = """version: 1
default: deny
tools: {refund: {args: {amount: number, order: int, reason: str}}}
rules:
  - {id: small, tool: refund, args: {amount: {lte: 100}, order: {gt: 0}, reason: {ne: fraud}}, decision: Allow, match: [{args: {amount: 5}}]}
"""
GOOD = """version: 1
default: deny
tools: {refund: {args: {amount: number}}, fetch: {adds: [untrusted]}}
rules:
  - {id: small, tool: refund, args: {amount: {lte: 100}}, decision: allow, match: [{args: {amount: 5}}]}
  - {id: split, tool: refund, over: {sum: args.amount, max: 200, by: user, per: 1d}, decision: deny}
  - {id: known, tool: send, args: {to: {origin: [user, 'tool:find']}}, decision: allow}
  - {id: after, tool: refund, after: {label: untrusted, tool: fetch}, role: clerk, decision: require-approval, approval: {approvers: ["role:finance"]}}
"""
HEAD = "version: 1\ndefault: deny\nrules:\n"
ESCAPE = re.compile(r"\x1b\[[0-9;]*m")


@pytest.fixture(autouse=True)
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "long.yaml").write_text(LONG)
    (tmp_path / "good.yaml").write_text(GOOD)


def screen(columns: int, *words: str, **more: str) -> tuple[int, str]:
    """The exit code and everything a terminal of that width gets."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    environ = {name: value for name, value in os.environ.items() if name not in {"NO_COLOR", "COLUMNS", "LINES"}}
    process = subprocess.Popen(
        [sys.executable, "-m", "otel_runtime", "policy", *words],
        stdout=theirs,
        stderr=theirs,
        env={**environ, "TERM": "xterm-256color", **more},
    )
    os.close(theirs)
    parts = []
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:  # what a closed terminal says on Linux
            break
        if not part:
            break
        parts.append(part)
    os.close(ours)
    return process.wait(), b"".join(parts).decode().replace("\r\n", "\n")


class TestTerminal:
    @pytest.mark.parametrize("columns", [80, 120])
    def test_the_caret_points(self, columns: int) -> None:
        """A line longer than the terminal is shown around its fault, and the caret stands below it."""
        code, shown = screen(columns, "check", "long.yaml")
        lines = ESCAPE.sub("", shown).splitlines()
        at = next(number for number, line in enumerate(lines) if line.strip() == "^")
        assert (2, "Allow") == (code, lines[at - 1][lines[at].index("^") :][:5])
        assert all(len(line) <= columns for line in lines)

    @pytest.mark.parametrize("columns", [80, 120])
    def test_nothing_is_wider(self, columns: int) -> None:
        """No line of any command is wider than the terminal."""
        workload = str(ROOT / "policy" / "workloads" / "mcp-client.jsonl.gz")
        for words in (
            ("test", "good.yaml"),
            ("explain", "--policy", "good.yaml", "--tool", "refund", "--args", '{"amount": 250}'),
            ("replay", workload, "--policy", "pack:mcp-client"),
            ("pack", "list"),
        ):
            _, shown = screen(columns, *words)
            wide = [line for line in ESCAPE.sub("", shown).splitlines() if len(line.rstrip()) > columns]
            assert [] == wide, words

    def test_narrow_coverage_breaks_no_word(self, tmp_path: Path) -> None:
        """On a terminal of 40 columns the table of coverage says what a rule needs in whole words."""
        (tmp_path / "names.yaml").write_text(HEAD + "  - {id: mail.to-strangers, tool: t, user: ann, decision: allow}\n")
        _, shown = screen(40, "test", "names.yaml")
        plain = ESCAPE.sub("", shown)
        assert all(len(line.rstrip()) <= 40 for line in plain.splitlines())
        assert {"mail.to-strangers", "needs", "`match`", "`no_match`"} <= set(plain.split())

    def test_colours(self) -> None:
        """A terminal gets colours, and with NO_COLOR none."""
        assert "\x1b[" in screen(80, "check", "long.yaml")[1]
        assert not re.search(r"\x1b\[[0-9;]*3[0-9]", screen(80, "check", "long.yaml", NO_COLOR="1")[1])

    def test_piped(self, capsys: pytest.CaptureFixture[str]) -> None:
        """What is piped is plain, whole and one line per fault's head."""
        assert 2 == main(["policy", "check", "long.yaml"])
        out = capsys.readouterr().out
        assert "\x1b" not in out
        assert f"    {LONG.splitlines()[4]}\n" in out

    def test_what_a_file_says_cannot_act(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """Control characters that a policy or a call spells as escapes do not reach the terminal, in faults and in explanations."""
        (tmp_path / "evil.yaml").write_text(HEAD + '  - {id: "a\\e[2J\\u202eb\\nc", tool: t, "\\e[31m": 1, decision: "\\a"}\n')
        (tmp_path / "odd.yaml").write_text(
            HEAD + '  - {id: a, tool: t, args: {x: {ne: "\\e[3J"}}, decision: deny, reason: "\\e[2J\\u202e"}\n'
        )
        assert 2 == main(["policy", "check", "evil.yaml"])
        for x, tool in (("5", "t"), ('"\\u001b[2J"', "t"), ("5", "t\x1b[2J\u202e")):
            assert 0 == main(["policy", "explain", "--policy", "odd.yaml", "--tool", tool, "--args", f'{{"x": {x}}}'])
        out = capsys.readouterr().out
        assert "`a\\x1b[2J\\u202eb\\nc` is not a name" in out
        assert out.isascii() or all(char.isprintable() for char in out.replace("\n", ""))
        assert not set("\x1b\x07\u202e") & set(out)


class TestCommands:
    def test_coverage_says_what_is_missing(self, capsys: pytest.CaptureFixture[str]) -> None:
        """A rule that its cases show too little of says what it needs."""
        assert 0 == main(["policy", "test", "good.yaml"])
        lines = capsys.readouterr().out.splitlines()
        assert ["needs `no_match`", "needs `match` and `no_match`"] == [
            line[line.index("needs") :].rstrip() for line in lines if "needs" in line
        ][:2]

    def test_strict(self, tmp_path: Path) -> None:
        """With --strict a warning is exit code 1."""
        assert (0, 1) == (main(["policy", "check", "good.yaml"]), main(["policy", "check", "good.yaml", "--strict"]))

    @pytest.mark.parametrize(
        "words", [["check", "good.yaml"], ["test", "good.yaml"], ["schema"], ["pack", "list"], ["pack", "show", "mcp-client"]]
    )
    def test_json(self, words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
        """Each command gives data for machines."""
        assert 0 == main(["policy", *words, "--json"])
        assert json.loads(capsys.readouterr().out)

    @pytest.mark.parametrize("command", ["check", "test", "explain", "schema", "replay", "init", "pack"])
    def test_exit_codes_are_in_the_help(self, command: str, capsys: pytest.CaptureFixture[str]) -> None:
        """--help says what each exit code means."""
        with pytest.raises(SystemExit):
            main(["policy", command, "--help"])
        assert "Exit code" in capsys.readouterr().out

    @pytest.mark.parametrize(
        ("facts", "tool", "args", "decision"),
        [
            ({}, "send", {"to": "eve@evil.example"}, "deny"),
            ({"user_said": "mail eve@evil.example"}, "send", {"to": "eve@evil.example"}, "allow"),
            ({"seen": {"tool:find": ["eve@evil.example"]}}, "send", {"to": "eve@evil.example"}, "allow"),
            ({"origins": {"eve@evil.example": ["tool:find"]}}, "send", {"to": "eve@evil.example"}, "allow"),
            ({"origins": {"eve@evil.example": ["tool:other"]}}, "send", {"to": "eve@evil.example"}, "deny"),
            ({"user": "ann", "roles": []}, "refund", {"amount": 5}, "allow"),
            ({"user": "ann", "roles": [], "used": {"split": 196}}, "refund", {"amount": 5}, "deny"),
            (
                {"user": "ann", "roles": ["clerk"], "labels": ["untrusted"], "history": ["fetch"]},
                "refund",
                {"amount": 5},
                "require-approval",
            ),
            ({"user": "ann", "roles": ["clerk"], "labels": ["untrusted"]}, "refund", {"amount": 5}, "allow"),
            ({"user": "ann", "roles": ["clerk"], "history": ["fetch"]}, "refund", {"amount": 5}, "require-approval"),
            ({"user": "ann", "roles": ["clerk"], "labels": [], "history": ["fetch"]}, "refund", {"amount": 5}, "allow"),
        ],
    )
    def test_session_facts(
        self, facts: object, tool: str, args: object, decision: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Labels, history, counters, the user's words and where values were seen decide as they would in a session."""
        (tmp_path / "facts.json").write_text(json.dumps(facts))
        words = ["--policy", "good.yaml", "--tool", tool, "--args", json.dumps(args), "--session", "facts.json", "--json"]
        assert 0 == main(["policy", "explain", *words])
        assert decision == json.loads(capsys.readouterr().out)["decision"]["value"]

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ('{"lables": []}', "did you mean `labels`?"),
            ('{"used": 3}', "`used`: expected a mapping"),
            ('{"user": "ann", "used": {"split": "nan"}}', "`used`: expected numbers"),
            ('{"labels": "x"}', "expected a list"),
            ("[]", "JSON object"),
        ],
    )
    def test_bad_facts(self, text: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """Facts that cannot be understood are refused with exit code 2."""
        (tmp_path / "facts.json").write_text(text)
        assert 2 == main(
            ["policy", "explain", "--policy", "good.yaml", "--tool", "refund", "--session", "facts.json", "--args", '{"amount": 5}']
        )
        assert said in capsys.readouterr().err
