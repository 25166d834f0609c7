"""Build the sdist, the wheel from the sdist, and run the tests against the installed wheel where no source can be imported."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# These read the source tree itself.
NOT_FOR_WHEELS = ("tests/project", "tests/typing")
NEVER_COPIED = shutil.ignore_patterns("otel_runtime", ".git", ".venv*", "__pycache__", "build", "dist", ".*_cache", ".hypothesis", ".demo")

# A source tree still in sight would make the tests prove nothing about the wheel.
SOURCE_IS_HIDDEN = """
import pathlib, sys, otel_runtime
place = pathlib.Path(otel_runtime.__file__)
sys.exit(None if place.is_relative_to(sys.prefix) else f"wheel: the tests would import {place}, expected the installed package")
"""


def run(*command: str | Path, cwd: Path) -> None:
    """Run one command and stop with its exit code when it fails."""
    # PYTHONPATH could put the source back in sight.
    env = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run([str(word) for word in command], cwd=cwd, env=env, check=False)
    if done.returncode:
        sys.exit(f"wheel: `{' '.join(str(word) for word in command)}` ended with {done.returncode}")


def build(into: Path) -> Path:
    """The wheel, built from the sdist and not from the tree, as an index would serve it."""
    print("wheel: building the sdist, and the wheel from it", flush=True)
    run(sys.executable, "-m", "build", "--outdir", into, cwd=ROOT)
    return next(into.glob("*.whl"))


def install(wheel: Path, where: Path) -> Path:
    """A fresh environment with the wheel, its declared dependencies and the test tools; returns its interpreter."""
    print(f"wheel: installing {wheel.name} into a fresh environment", flush=True)
    venv.create(where, with_pip=True)
    python = where / "bin" / "python"
    run(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", f"{wheel}[test]", cwd=where)
    return python


def main() -> None:
    """Build, install, copy everything but the package, and test."""
    with tempfile.TemporaryDirectory(prefix="otel-runtime-wheel-") as name:
        scratch = Path(name)
        python = install(build(scratch / "dist"), scratch / "venv")
        tree = scratch / "tree"
        shutil.copytree(ROOT, tree, ignore=NEVER_COPIED)
        # The recordings and cases that lie beside a checkout, for the tests that read them there.
        if (shared := ROOT.parent / "shared").is_dir():
            (scratch / "shared").symlink_to(shared.resolve())
        run(python, "-c", SOURCE_IS_HIDDEN, cwd=tree)
        print("wheel: running the tests without the source", flush=True)
        ignored = [f"--ignore={path}" for path in NOT_FOR_WHEELS]
        run(python, "-m", "pytest", "--quiet", "-p", "no:cacheprovider", *ignored, cwd=tree)


if __name__ == "__main__":
    main()
