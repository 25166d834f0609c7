"""What `doctor` says of spans that earlier processes lost."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from otel_runtime.cli.main import main

PROGRAM = """
import otel_runtime as rt
runtime = rt.configure(otlp="on", queue_spans=5, flush_timeout="500ms")

@rt.tool
def work(): pass

for _ in range(50): work()
runtime.shutdown()
"""


@pytest.mark.parametrize(("settings", "said"), [("spool: spool\n", "queue_full: "), ("", "set `spool`")])
class TestLosses:
    """A real process whose collector is down."""

    def test_are_told_by_reason_or_said_to_be_unknown(
        self, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], settings: str, said: str
    ) -> None:
        """Where counts are kept they are shown; where nothing keeps them that is said, with what would."""
        monkeypatch.chdir(here)
        (here / "otel-runtime.yaml").write_text(f'flush_timeout: 500ms\notlp: "on"\n{settings}')
        environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "OTEL_METRICS_EXPORTER": "none"}
        subprocess.run(
            [sys.executable, "-c", PROGRAM], cwd=here, env={**os.environ, **environ}, capture_output=True, timeout=60, check=True
        )
        assert main(["doctor"]) == 0
        assert said in " ".join(capsys.readouterr().out.split())
