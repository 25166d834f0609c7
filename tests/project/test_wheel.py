"""What the wheel carries."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (0, "") == (done.returncode, "" if done.returncode == 0 else done.stderr)
    return zipfile.ZipFile(next(out.glob("*.whl")))


@pytest.fixture(scope="module")
def info(wheel: zipfile.ZipFile) -> str:
    return next(name.partition("/")[0] for name in wheel.namelist() if ".dist-info/" in name)


class TestWheel:
    def test_holds_the_package_and_nothing_else(self, wheel: zipfile.ZipFile, info: str) -> None:
        """The wheel installs one top-level name: no tests, no policy/, no hooks/ of ours land in site-packages."""
        assert {"otel_runtime", info} == {name.partition("/")[0] for name in wheel.namelist()}

    def test_is_typed_and_licensed(self, wheel: zipfile.ZipFile, info: str) -> None:
        """py.typed and the licence travel with it."""
        assert {"otel_runtime/py.typed", f"{info}/licenses/LICENSE"} <= set(wheel.namelist())

    def test_carries_every_module(self, wheel: zipfile.ZipFile) -> None:
        """Every module of the tree is in the wheel, with the data files beside them and the packs of `policy/`."""
        there = {
            str(path.relative_to(ROOT)) for path in (ROOT / "otel_runtime").rglob("*") if path.is_file() and "__pycache__" not in path.parts
        }
        packs = {
            f"otel_runtime/policy/pack_files/{path.relative_to(ROOT / 'policy')}" for path in (ROOT / "policy").rglob("*") if path.is_file()
        }
        assert there | packs == {name for name in wheel.namelist() if name.startswith("otel_runtime/")}

    def test_names_its_entry_points(self, wheel: zipfile.ZipFile, info: str) -> None:
        """The console script is `otel-runtime`, as the distribution is."""
        assert "otel-runtime = otel_runtime.cli.main:main" in wheel.read(f"{info}/entry_points.txt").decode().splitlines()
        assert "otel-runtime" == Parser().parsestr(wheel.read(f"{info}/METADATA").decode())["Name"]

    def test_pins_nothing_from_above(self, wheel: zipfile.ZipFile, info: str) -> None:
        """No dependency is held below its next major version: users' own requirements decide."""
        required = Parser().parsestr(wheel.read(f"{info}/METADATA").decode()).get_all("Requires-Dist") or []
        assert len(required) > 5
        assert [] == [line for line in required if "==" in line.partition(";")[0] or "~=" in line or "<0." in line]

    def test_works_without_the_checkout(self, wheel: zipfile.ZipFile, tmp_path: Path) -> None:
        """Its packs are listed, checked and copied, and they are its own and not those of the tree."""
        site = tmp_path / "site"
        wheel.extractall(site)
        environ = {**os.environ, "PYTHONPATH": str(site)}
        for words in (["pack", "list"], ["check", "pack:careful-default", "--strict"], ["pack", "copy", "mcp-client", "rules"]):
            command = [sys.executable, "-m", "otel_runtime", "policy", *words]
            done = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, check=False)
            assert 0 == done.returncode, done.stderr
        program = "from otel_runtime.policy.packs import packs; print(packs()[0].path)"
        where = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, env=environ, capture_output=True, text=True, check=True)
        assert where.stdout.startswith(str(site))
