"""`otel-runtime serve` as a process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

ROOT = Path(__file__).parents[2]
SERVE = [sys.executable, "-m", "otel_runtime", "serve"]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def run(*arguments: str, cwd: Path, command: list[str] = SERVE) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*command, *arguments], cwd=cwd, env=environment(), capture_output=True, text=True, timeout=120, check=False)


class TestServe:
    def test_from_start_to_ctrl_c(self, tmp_path: Path) -> None:
        """It prints the address, lets a browser in by it, and ends without a traceback."""
        command = [*SERVE, "--port", "0", "--state-file", str(tmp_path / "state" / "state.db")]
        with subprocess.Popen(
            command, cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            url = process.stdout.readline().removeprefix("Approval inbox: ").strip()
            with httpx.Client(trust_env=False, follow_redirects=True, timeout=60) as client:
                page = client.get(url).text
            process.send_signal(signal.SIGINT)
            said = process.stderr.read()
            assert (0, "Nothing waits for you" in page, "Traceback" in said) == (process.wait(60), True, False)
        assert "token" not in said

    def test_other_addresses(self, tmp_path: Path) -> None:
        """Refused with exit code 2, and no database is left behind."""
        done = run("--host", "0.0.0.0", cwd=tmp_path)
        assert (2, []) == (done.returncode, list(tmp_path.iterdir()))
        assert "this machine only" in done.stderr

    @pytest.mark.parametrize("port", ["-1", "65536", "http"])
    def test_bad_ports(self, tmp_path: Path, port: str) -> None:
        """The message says what is expected."""
        done = run(f"--port={port}", cwd=tmp_path)
        assert (2, True) == (done.returncode, f"expected a port from 0 to 65535, got `{port}`" in done.stderr)

    @pytest.mark.parametrize("package", ["uvicorn", "starlette"])
    @pytest.mark.parametrize(
        ("command", "typed"), [("serve", ["serve"]), ("ingest --listen", ["ingest", "--listen", "0", "--source", "a3s"])]
    )
    def test_without_the_extra(self, tmp_path: Path, package: str, command: str, typed: list[str]) -> None:
        """The pip line is named, by every command that needs it."""
        program = f"import sys; sys.modules[{package!r}] = None; from otel_runtime.cli.main import main; sys.exit(main({typed!r}))"
        done = run(cwd=tmp_path, command=[sys.executable, "-c", program])
        expected = f"otel-runtime {command} needs the extra `web`: pip install 'otel-runtime[web]'\n"
        assert (2, expected) == (done.returncode, done.stderr)
