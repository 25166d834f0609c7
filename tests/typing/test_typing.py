"""mypy and pyright read the programs beside this file: what users' editors show is what users wrote."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAMS = Path(__file__).parent / "programs"
CONFIG = Path(__file__).parent / "pyrightconfig.json"
BIN = Path(sys.executable).parent


def mypy(*paths: Path) -> tuple[int, str]:
    """Exit code and lines of mypy in this project's strict configuration."""
    done = subprocess.run([BIN / "mypy", *paths], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout


def pyright(*paths: Path) -> list[str]:
    """`file:line: message` of every diagnostic of pyright."""
    done = subprocess.run(
        [BIN / "pyright", "--outputjson", "--project", CONFIG, "--pythonpath", sys.executable, *paths],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    found = json.loads(done.stdout)["generalDiagnostics"]
    return [
        f"{Path(one['file']).name}:{one['range']['start']['line'] + 1}: {one['message']}"
        for one in found
        if one["severity"] != "information"
    ]


class TestPrograms:
    def test_mypy_agrees(self) -> None:
        """Mypy finds every declared type and every declared refusal, and nothing else."""
        code, lines = mypy(*sorted(PROGRAMS.glob("*.py")))
        assert (0, "") == (code, "" if code == 0 else lines)

    def test_pyright_agrees(self) -> None:
        """Pyright finds every declared type and every declared refusal, and nothing else."""
        assert [] == pyright(*sorted(PROGRAMS.glob("*.py")))


class TestCheckers:
    """The instruments themselves: a checker that refuses nothing proves nothing."""

    @pytest.fixture
    def wrong(self, tmp_path: Path) -> Path:
        program = tmp_path / "wrong.py"
        program.write_text("def half(of: int) -> float:\n    return of / 2\n\n\nhalf('x')\n")
        return program

    def test_mypy_refuses(self, wrong: Path) -> None:
        """A wrong argument is an error to mypy as it is set up here."""
        code, lines = mypy(wrong)
        assert 1 == code
        assert "arg-type" in lines

    def test_pyright_refuses(self, wrong: Path) -> None:
        """A wrong argument is an error to pyright as it is set up here."""
        assert 1 == len(pyright(wrong))


class TestPublicTypes:
    def test_are_complete(self) -> None:
        """`pyright --verifytypes` knows the type of everything public."""
        command = [str(BIN / "pyright"), "--verifytypes", "otel_runtime", "--ignoreexternal", "--outputjson"]
        # It looks for the package where the first python on PATH has it.
        env = {**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
        done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
        completeness = json.loads(done.stdout)["typeCompleteness"]
        incomplete = [symbol["name"] for symbol in completeness["symbols"] if symbol["isExported"] and not symbol["isTypeKnown"]]
        assert ([], 1.0) == (incomplete, completeness["completenessScore"])
