"""The rooms of ARCHITECTURE.md import one way."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


class TestLayers:
    def test_every_import_points_one_way(self) -> None:
        """import-linter finds no import against the layers of pyproject.toml, and no room that stands outside of them."""
        lint = Path(sys.executable).parent / "lint-imports"
        done = subprocess.run([lint, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
        assert (0, "") == (done.returncode, "" if done.returncode == 0 else done.stdout + done.stderr)
