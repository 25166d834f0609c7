"""configure: one runtime per name, refused when anything about it is wrong."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import otel_runtime as rt
from otel_runtime.runtime import configuring
from otel_runtime.runtime.build import build_runtime
from otel_runtime.settings.loading import load_settings
from otel_runtime.wrap.active import reset_slot

POLICY = "version: 1\nname: t\ndefault: deny\nrules:\n  - {id: a, tool: ok, decision: allow}\n"


@rt.tool
def ok() -> int:
    """Allowed."""
    return 1


@rt.tool
def other() -> int:
    """Denied."""
    return 2


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty project; whatever was configured is shut down."""
    (tmp_path / ".git").mkdir()
    (tmp_path / "policy.yaml").write_text(POLICY)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OTEL_RUNTIME_OTLP", "off")
    yield tmp_path
    for _, _, runtime in configuring._configured.values():
        runtime.shutdown()
    configuring._configured.clear()
    reset_slot()


class TestConfigure:
    """Putting a runtime in force."""

    def test_guards_the_process(self) -> None:
        """Decorated functions are decided from then on."""
        rt.configure(policy="policy.yaml")
        assert ok() == 1
        with pytest.raises(rt.PolicyDenied):
            other()

    def test_again_with_equal_settings_is_the_same_runtime(self) -> None:
        """Libraries may configure what the application has configured."""
        assert rt.configure(policy="policy.yaml") is rt.configure(policy="policy.yaml")

    def test_again_with_others_is_refused_and_changes_nothing(self) -> None:
        """Two owners of one runtime would surprise each other."""
        rt.configure(policy="policy.yaml")
        with pytest.raises(rt.RuntimeStateError, match="wait_at_most"):
            rt.configure(policy="policy.yaml", wait_at_most="5s")
        assert ok() == 1

    def test_after_shutdown_it_can_be_configured_anew(self) -> None:
        """A program may restart its runtime; in between nothing runs unguarded."""
        rt.configure(policy="policy.yaml").shutdown()
        with pytest.raises(rt.PolicyUnavailable, match="was shut down"):
            ok()
        rt.configure(policy="policy.yaml", wait_at_most="5s")
        assert ok() == 1

    @pytest.mark.parametrize("policy", ["missing.yaml", "broken.yaml", "empty"])
    def test_a_policy_that_cannot_be_used_blocks(self, here: Path, policy: str) -> None:
        """Nothing runs unguarded because of a mistake in the policy; mending it opens the way again."""
        (here / "broken.yaml").write_text("version: 1\ndefault: deny\nrules:\n  - {id: a, tol: x, decision: allow}\n")
        (here / "empty").mkdir()
        with pytest.raises(rt.ConfigError) as caught:
            rt.configure(policy=policy)
        assert policy in caught.value.faults[0].place
        with pytest.raises(rt.PolicyUnavailable, match="`configure` failed"):
            ok()
        rt.configure(policy="policy.yaml")
        assert ok() == 1

    @pytest.mark.parametrize("content", [b"not a database at all, but long enough to be read as one" * 30, None])
    def test_a_state_that_cannot_be_used_blocks(self, here: Path, content: bytes | None) -> None:
        """A corrupt file or a directory in its place is refused at start."""
        state = here / "s" / "state.db"
        if content is None:
            state.mkdir(parents=True)
        else:
            state.parent.mkdir()
            state.write_bytes(content)
        with pytest.raises(rt.StoreError):
            rt.configure(policy="policy.yaml", state=state)
        with pytest.raises(rt.PolicyUnavailable):
            ok()

    def test_a_bad_setting_blocks(self) -> None:
        """A program that goes on after a refused configure runs nothing."""
        with pytest.raises(rt.ConfigError):
            rt.configure(policy="policy.yaml", wait_at_most="soon")
        with pytest.raises(rt.PolicyUnavailable):
            ok()

    def test_without_a_policy_it_says_so_once(self, caplog: pytest.LogCaptureFixture) -> None:
        """Traced only, with one line at the start."""
        with caplog.at_level(logging.INFO, "otel_runtime"):
            rt.configure()
            rt.configure()
        assert [record.message for record in caplog.records] == [
            "runtime `otel-runtime` has no policy: calls are traced and nothing is guarded; set `policy` to guard them"
        ]
        assert other() == 2

    def test_no_state_without_a_policy(self, here: Path) -> None:
        """A program that only traces leaves no files behind."""
        rt.configure()
        other()
        assert not (here / ".otel-runtime").exists()


class TestSeveral:
    """Several runtimes in one process."""

    def test_a_context_names_which(self, here: Path) -> None:
        """Without a name nothing runs; with one, its policy decides."""
        (here / "open.yaml").write_text(POLICY.replace("tool: ok", "tool: other"))
        first, second = (
            rt.configure(name="a", policy="policy.yaml", state="a/s.db"),
            rt.configure(name="b", policy="open.yaml", state="b/s.db"),
        )
        with pytest.raises(rt.PolicyUnavailable, match="several runtimes are configured"):
            ok()
        with first.use():
            assert ok() == 1
        with second.use(), pytest.raises(rt.PolicyDenied):
            ok()
        second.shutdown()
        assert ok() == 1

    def test_the_end_of_one_that_was_only_used_by_name_is_its_own(self, here: Path) -> None:
        """A runtime that was never configured for the process leaves the process alone."""
        settings = load_settings(policy="policy.yaml")
        build_runtime(settings).shutdown()
        assert other() == 2

    def test_that_only_trace_never_block(self) -> None:
        """Telemetry fails open, also when nobody can say whose it is."""
        rt.configure(name="a")
        rt.configure(name="b")
        assert ok() == 1


class TestProcessLife:
    """The end of a program."""

    def run(self, program: str, here: Path, code: int = 0) -> str:
        """Output of a program in its own process."""
        done = subprocess.run([sys.executable, "-c", program], cwd=here, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == code, done.stderr
        return done.stdout + done.stderr

    @pytest.mark.parametrize(("ending", "code"), [("pass", 0), ("raise SystemExit(3)", 3), ("raise ValueError('x')", 1)])
    def test_spans_are_written_in_every_ordinary_ending(self, here: Path, ending: str, code: int) -> None:
        """The trace file has the span after a normal end, an exit and an error."""
        program = (
            f"import otel_runtime as rt\nrt.configure(trace_file='t.json', flush_timeout='60s')\n@rt.tool\ndef f(): pass\nf()\n{ending}"
        )
        self.run(program, here, code)
        assert "execute_tool f" in (here / "t.json").read_text()

    def test_a_dead_collector_does_not_hold_the_end_up(self, here: Path) -> None:
        """With a configured endpoint that refuses, the program ends within its bound, quietly about each span."""
        program = (
            "import otel_runtime as rt\nrt.configure(otlp='on', flush_timeout='1s')\n@rt.tool\ndef f(): pass\nfor _ in range(100): f()"
        )
        env = {**os.environ, "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}
        done = subprocess.run([sys.executable, "-c", program], cwd=here, capture_output=True, text=True, check=True, timeout=60, env=env)
        assert done.stderr.count("Traceback") == 0
        assert len(done.stderr.splitlines()) <= 4

    def test_interrupted_by_a_person(self, here: Path) -> None:
        """Ctrl-C ends the program as Python does, with the spans written."""
        program = (
            "import otel_runtime as rt, time\nrt.configure(trace_file='t.json', flush_timeout='60s')\n"
            "@rt.tool\ndef f():\n  print('in', flush=True); time.sleep(90)\nf()"
        )
        process = subprocess.Popen([sys.executable, "-c", program], cwd=here, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert process.stdout is not None
        assert process.stdout.readline() == "in\n"
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
        assert "KeyboardInterrupt" in (here / "t.json").read_text()
