"""What lies where in the repository."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# Written apart, so that this file does not find itself.
MACHINE = re.compile("(?<!/proc/self)/" + "(?:work|farm|root)/|[.]" + "pyenv")
CONTENT_FOLDERS = ("policy/", "hooks/", "collector-config/")


@pytest.fixture(scope="module")
def tracked() -> list[str]:
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout: which files belong to the project is not known")
    return subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()


class TestTree:
    def test_content_folders_hold_no_python(self, tracked: list[str]) -> None:
        """No Python in policy/, hooks/ and collector-config/: as import names they would collide with users' own."""
        assert [] == [path for path in tracked if path.startswith(CONTENT_FOLDERS) and path.endswith((".py", ".pyi", ".pyx"))]

    def test_only_one_package_can_be_imported(self, tracked: list[str]) -> None:
        """No second importable package at the top, besides the folders that are run from the tree and never installed."""
        tops = {path.partition("/")[0] for path in tracked if path.endswith(".py") and path.count("/") == 1}
        assert {"otel_runtime"} == tops - {"tests", "benchmarks", "examples", "docs", ".ci"}

    def test_no_path_of_one_machine(self, tracked: list[str]) -> None:
        """No tracked file names a folder of the machine it was written on."""
        texts = {path: (ROOT / path).read_text(encoding="utf-8", errors="replace") for path in tracked if (ROOT / path).is_file()}
        assert [] == [path for path, text in texts.items() if MACHINE.search(text)]

    def test_tests_have_no_init(self, tracked: list[str]) -> None:
        """No `__init__.py` in tests/: import-mode=importlib, and two folders may hold files of one name."""
        assert [] == [path for path in tracked if path.startswith("tests/") and path.endswith("__init__.py")]

    def test_no_module_is_too_long(self, tracked: list[str]) -> None:
        """No module of the package is above 400 lines: past that it has a second role."""
        modules = [path for path in tracked if path.startswith("otel_runtime/") and path.endswith(".py") and (ROOT / path).is_file()]
        assert [] == [path for path in modules if (ROOT / path).read_text(encoding="utf-8").count("\n") > 400]
