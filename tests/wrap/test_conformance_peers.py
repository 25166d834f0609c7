"""The checks that are compared with other decorators: ours passes every one, and each can fail."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

TOP = Path(__file__).parents[2]


def found(name: str, folder: Path) -> dict[str, str]:
    """Why each check fails with one decorator, empty where it passes."""
    if not (TOP / "benchmarks" / "peer_decorators.py").exists():
        pytest.skip("the benchmarks are not here, so their checks were not run; run this from a checkout")
    # A state folder of its own: what other programs left is not asked.
    known = {key: value for key, value in os.environ.items() if not key.startswith("OTEL_")}
    environ = {**known, "PYTHONPATH": str(TOP), "OTEL_RUNTIME_STATE": str(folder / "state.db")}
    command = [sys.executable, "-m", "benchmarks.peer_decorators", name]
    done = subprocess.run(command, cwd=TOP, env=environ, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    said: dict[str, str] = json.loads(done.stdout.splitlines()[-1])["found"]
    return said


class TestChecks:
    def test_ours_passes_all(self, tmp_path: Path) -> None:
        """Nothing can tell that a function is decorated, and its spans are right."""
        said = found("ours", tmp_path)
        assert len(said) > 50
        assert {} == {promise: why for promise, why in said.items() if why}

    def test_another_does_not(self, tmp_path: Path) -> None:
        """With OpenTelemetry's own decorator a good part of them fails: they look at something."""
        said = found("opentelemetry", tmp_path)
        assert 10 < sum(bool(why) for why in said.values()) < len(said)
