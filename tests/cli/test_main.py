"""The console script: help everywhere, no traceback for a user's mistake, honest exit codes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from otel_runtime._version import __version__
from otel_runtime.cli.main import build_parser, main

POLICY = "version: 1\nname: t\ndefault: deny\nrules:\n  - {id: a, tool: ok, decision: allow, match: [{args: {}}]}\n"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty project."""
    (tmp_path / ".git").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


class TestHelp:
    """Every command explains itself."""

    @pytest.mark.parametrize(
        "words",
        [
            [],
            ["policy"],
            ["policy", "check"],
            ["policy", "explain"],
            ["approvals"],
            ["approvals", "approve"],
            ["trace", "show"],
            ["doctor"],
            ["audit"],
            ["ingest"],
            ["serve"],
            ["run"],
            ["hook"],
            ["hook", "claude-code"],
        ],
    )
    def test_is_everywhere(self, words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
        """--help prints usage and exits with 0."""
        with pytest.raises(SystemExit) as stop:
            main([*words, "--help"])
        assert (stop.value.code, capsys.readouterr().out.startswith("usage: otel-runtime")) == (0, True)

    def test_version(self, capsys: pytest.CaptureFixture[str]) -> None:
        """--version says which."""
        with pytest.raises(SystemExit):
            main(["--version"])
        assert capsys.readouterr().out.strip() == f"otel-runtime {__version__}"

    def test_a_wrong_word_is_exit_code_2(self) -> None:
        """Unknown commands are the user's mistake."""
        with pytest.raises(SystemExit) as stop:
            main(["polcy"])
        assert stop.value.code == 2

    def test_building_the_parser_loads_nothing_heavy(self) -> None:
        """A command pays only for what it uses."""
        program = "import sys; from otel_runtime.cli.main import build_parser; build_parser(); print([m for m in sys.modules if m.split('.')[0] in ('opentelemetry','pydantic','yaml','rich','sqlite3')])"
        out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        assert out.stdout.strip() == "[]"


class TestMistakes:
    """What a user got wrong is one message and exit code 2."""

    @pytest.mark.parametrize(
        ("words", "said"),
        [
            (["doctor", "--settings", "nowhere.yaml"], "cannot read the settings file"),
            (["policy", "check", "nowhere.yaml"], "nowhere.yaml"),
            (["trace", "show", "nowhere.json"], "nowhere.json"),
            (["ingest", "nowhere.jsonl", "--source", "dreadnode"], "cannot read the events"),
            (["ingest", "-", "--source", "unknown"], "unknown event source `unknown`"),
        ],
    )
    def test_have_no_traceback(self, words: list[str], said: str, here: Path) -> None:
        """The message names the thing and the mend."""
        done = subprocess.run(
            [sys.executable, "-m", "otel_runtime", *words], capture_output=True, text=True, check=False, input="{}\n", cwd=here
        )
        assert (done.returncode, said in done.stderr + done.stdout, "Traceback" in done.stderr) == (2, True, False)

    def test_a_closed_pipe_is_no_error(self, here: Path) -> None:
        """`otel-runtime ... | head -0` ends quietly."""
        command = f"{sys.executable} -m otel_runtime policy schema | head -c 1"
        done = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, check=False, cwd=here)
        assert done.stderr == ""

    @pytest.mark.parametrize(("word", "code"), [("deny", 0), ("dny", 2)])
    @pytest.mark.parametrize("reader", ["| :", ">&-"])
    def test_whoever_stops_reading_changes_no_answer(self, word: str, code: int, reader: str, here: Path) -> None:
        """A check whose output nobody reads says by its exit code whether the policy is usable."""
        rules = "".join(f"  - {{id: r{at}, tool: t{at}, decision: allow}}\n" for at in range(2000))
        (here / "policy.yaml").write_text(f"version: 1\ndefault: {word}\nrules:\n{rules}")
        command = f"{sys.executable} -m otel_runtime policy check policy.yaml {reader}; exit ${{PIPESTATUS[0]}}"
        done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False, cwd=here)
        assert (done.returncode, done.stderr) == (code, "")


class TestDoctor:
    """What is configured, reachable and lost."""

    def test_says_when_nothing_is_guarded(self, capsys: pytest.CaptureFixture[str]) -> None:
        """No policy is a warning, not an error."""
        assert main(["doctor"]) == 0
        assert "nothing is guarded" in " ".join(capsys.readouterr().out.split())

    def test_one_line_each_where_nobody_looks(self, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """In a pipe or a log nothing is wrapped or cut, so that paths can be searched for; the lines of a fault stay below each other."""
        policy = here / ("deep" * 30) / "policy.yaml"
        policy.parent.mkdir()
        policy.write_text(POLICY.replace("decision", "decison"))
        (here / "otel-runtime.yaml").write_text(f"policy: {policy}\n")
        assert main(["doctor"]) == 2
        lines = capsys.readouterr().out.splitlines()
        (at,) = [place for place, line in enumerate(lines) if line.startswith("FAULT  policy ") and f"{policy}:5" in line]
        source, caret = lines[at + 1 : at + 3]
        assert ("decison" == source[caret.index("^") :][:7], len(lines[at]) - len(lines[at].rstrip())) == (True, 0)

    def test_a_long_path_on_a_narrow_terminal(
        self, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """It goes on in the next line instead of ending in `…`."""
        monkeypatch.setenv("FORCE_COLOR", "1")
        monkeypatch.setenv("COLUMNS", "40")
        settings = here / ("deep" * 20) / "otel-runtime.yaml"
        settings.parent.mkdir()
        settings.write_text("")
        main(["doctor", "--settings", str(settings)])
        out = capsys.readouterr().out
        assert ("…" in out, settings.parent.name in "".join(out.split())) == (False, True)

    def test_as_json(self, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """Machines read the same findings."""
        (here / "policy.yaml").write_text(POLICY)
        (here / "otel-runtime.yaml").write_text("policy: policy.yaml\n")
        assert main(["doctor", "--json"]) == 0
        found = {finding["what"]: finding for finding in json.loads(capsys.readouterr().out)}
        assert found["policy"]["state"] in ("ok", "warning")
        assert found["state"]["detail"].endswith("made at the first start")

    def test_a_broken_policy_is_a_fault_and_the_rest_is_still_checked(self, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """Exit code 2, with the place of the mistake."""
        (here / "policy.yaml").write_text(POLICY.replace("decision", "decison"))
        (here / "otel-runtime.yaml").write_text("policy: policy.yaml\n")
        assert main(["doctor", "--json"]) == 2
        found = json.loads(capsys.readouterr().out)
        assert any(finding["state"] == "fault" and "policy.yaml:5" in finding["detail"] for finding in found)
        assert any(finding["what"].startswith("telemetry") for finding in found)

    def test_a_bad_otel_variable_is_reported_and_breaks_nothing(self, here: Path) -> None:
        """The SDK raises on it; doctor says so."""
        env = {**os.environ, "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT": "many"}
        done = subprocess.run(
            [sys.executable, "-m", "otel_runtime", "doctor", "--json"], capture_output=True, text=True, check=False, cwd=here, env=env
        )
        assert done.returncode == 0, done.stderr
        problems = [finding for finding in json.loads(done.stdout) if finding["what"] == "telemetry problems"]
        assert problems[0]["state"] == "warning"

    def test_a_collector_that_does_not_answer_is_a_warning(
        self, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """A configured endpoint is tried; without one, nobody listening is no news."""
        main(["doctor", "--json"])
        quiet = {finding["what"]: finding["state"] for finding in json.loads(capsys.readouterr().out)}
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
        main(["doctor", "--json"])
        told = {finding["what"]: finding["state"] for finding in json.loads(capsys.readouterr().out)}
        assert (quiet["telemetry exporters"], told["telemetry exporters"]) == ("ok", "warning")

    def test_losses_of_earlier_processes_are_shown(self, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """What a program that has ended could not send is still known."""
        (here / "policy.yaml").write_text(POLICY)
        program = (
            "import otel_runtime as rt\nrt.configure(policy='policy.yaml', flush_timeout='500ms')\n@rt.tool\ndef ok(): pass\nok()\nok()"
        )
        env = {**os.environ, "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}
        subprocess.run([sys.executable, "-c", program], cwd=here, env=env, capture_output=True, check=True)
        main(["doctor", "--json"])
        lost = [finding["detail"] for finding in json.loads(capsys.readouterr().out) if finding["what"] == "lost before"]
        assert lost
        assert "2" in lost[0]


class TestIngest:
    """Recorded events of another system."""

    def test_become_spans(self, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """A JSONL file turns into a trace file."""
        events = [
            {
                "name": "tool.start",
                "type": "run",
                "timestamp": "2026-01-01T00:00:00Z",
                "attributes": {"run.id": "r1", "tool.id": "t1", "tool.name": "look"},
            },
            {"name": "tool.finish", "type": "run", "timestamp": "2026-01-01T00:00:01Z", "attributes": {"run.id": "r1", "tool.id": "t1"}},
            {"name": "run.finish", "type": "run", "timestamp": "2026-01-01T00:00:02Z", "attributes": {"run.id": "r1"}},
        ]
        (here / "e.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
        (here / "otel-runtime.yaml").write_text("trace_file: t.json\notlp: 'off'\nflush_timeout: 60s\n")
        assert main(["ingest", "e.jsonl", "--source", "vitehub"]) == 0
        assert "3 events read" in capsys.readouterr().out
        assert "execute_tool look" in (here / "t.json").read_text()
        assert main(["trace", "show", "t.json"]) == 0
        assert "execute_tool look" in capsys.readouterr().out


def test_the_parser_is_complete() -> None:
    """Each command sets what runs it."""
    assert build_parser().parse_args(["doctor"]).run is not None


class TestBeforeTheFirstQuestion:
    """A folder in which nothing was ever asked, often because it is the wrong one."""

    @pytest.mark.parametrize(
        ("words", "code", "out"),
        [
            (["approvals", "list"], 0, "nothing waits for approval\n"),
            (["approvals", "list", "--json"], 0, "[]\n"),
            (["approvals", "show", "abcdef12"], 2, ""),
            (["approvals", "approve", "abcdef12", "--yes"], 2, ""),
            (["approvals", "deny", "abcdef12"], 2, ""),
            (["audit", "verify"], 2, ""),
            (["audit", "export"], 0, ""),
        ],
    )
    def test_looking_makes_nothing(self, words: list[str], code: int, out: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """The place that was looked at is named; no empty record is called sound, and no database is made by looking."""
        assert code == main(words)
        said = capsys.readouterr()
        assert (out, True) == (said.out, f"no state database `{here / '.otel-runtime' / 'state.db'}`" in said.err)
        assert not (here / ".otel-runtime").exists()
