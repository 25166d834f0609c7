"""The oldest versions that `make lowest` tests with are the ones that pyproject.toml allows."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# What nobody installs to use the package.
FOR_THE_PROJECT = {"bench", "dev", "docs", "test"}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = {name: wanted for name, wanted in PROJECT["optional-dependencies"].items() if name not in FOR_THE_PROJECT}


def lower_bounds() -> dict[str, str]:
    """Name and lower bound of everything that the package or an extra for its users depends on."""
    found = {}
    for wanted in [*PROJECT["dependencies"], *(one for extra in EXTRAS.values() for one in extra)]:
        named = re.match(r"([A-Za-z0-9._-]+)(?:\[[a-z,]+\])?>=([0-9.]+)(?:,<[0-9]+)?$", wanted)
        assert named, f"`{wanted}` has no lower bound; expected `name>=version` or `name>=version,<major`"
        found[named[1]] = named[2]
    return found


class TestLowest:
    def test_constraints(self) -> None:
        """Each lower bound is tested with, and nothing else is held back."""
        lines = (ROOT / ".ci" / "lowest.txt").read_text().splitlines()
        constraints = dict(line.split("==") for line in lines if not line.startswith("#"))
        assert lower_bounds() == constraints

    def test_everything_is_installed(self) -> None:
        """The environment of `make lowest` has every extra, so that no constraint is idle."""
        named = re.search(r"--editable '\.\[([a-z,]+)\]' --constraint \.ci/lowest\.txt", (ROOT / "Makefile").read_text())
        assert named
        assert sorted(EXTRAS) == sorted(named[1].split(","))

    def test_ci_runs_it(self) -> None:
        """CI tests with the oldest versions after it has tested with the newest."""
        lines = [line.strip() for line in (ROOT / ".ci" / "run").read_text().splitlines()]
        assert lines.index("make check") < next(at for at, line in enumerate(lines) if line.startswith("timeout") and "make lowest" in line)
