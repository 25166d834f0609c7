"""How many checks of wrapping our decorator and those of other packages pass: `python -m benchmarks.peers_conformance [--write] [--why]`.

Every package gets an environment of its own, made once in a cache outside of the checkout (`OTEL_RUNTIME_PEERS` names another folder), so
that none constrains the versions of another. One that cannot be installed is named, with what pip said. The checks are in `peer_checks`,
how each decorator is set up in `peer_decorators`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.peer_checks import CHECKS
from benchmarks.peer_decorators import PEERS, Peer

__all__ = ["main"]

TOP = Path(__file__).parents[1]
PAGE = TOP / "docs" / "wrapping.md"
BEGIN, END = "<!-- peers: written by `python -m benchmarks.peers_conformance --write` -->", "<!-- end of peers -->"
INSTALL_SECONDS = 600
RUN_SECONDS = 300


@dataclass(frozen=True, slots=True)
class Result:
    """What came of one decorator.

    Args:
        version: Of its package; empty for ours.
        found: Why each check fails, empty where it passes, by promise.
        missing: Why it could not be tried; empty when it was.
    """

    version: str = ""
    found: Mapping[str, str] = field(default_factory=dict)
    missing: str = ""

    @property
    def passed(self) -> int:
        """How many checks passed."""
        return sum(not why for why in self.found.values())


def environment(name: str, peer: Peer) -> tuple[Path, str]:
    """The Python that has the package, and why there is none."""
    folder = Path(os.environ.get("OTEL_RUNTIME_PEERS") or Path.home() / ".cache" / "otel-runtime" / "peers") / name
    python, stamp = folder / "bin" / "python", folder / ".complete"
    if stamp.exists():
        return python, ""
    print(f"{name}: installing `{peer.package}` into {folder}", file=sys.stderr, flush=True)
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", peer.package, *peer.more]
    try:
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True, capture_output=True)
        done = subprocess.run(pip, capture_output=True, text=True, timeout=INSTALL_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return python, f"pip found no versions that fit each other within {INSTALL_SECONDS} s"
    if done.returncode:
        return python, (done.stderr.strip().splitlines() or ["pip failed"])[-1]
    stamp.touch()
    return python, ""


def tried(name: str, peer: Peer) -> Result:
    """Run the checks with one decorator."""
    python, missing = (Path(sys.executable), "") if not peer.package else environment(name, peer)
    if missing:
        return Result(missing=missing)
    known = {key: value for key, value in os.environ.items() if not key.startswith("OTEL_")}
    command = [str(python), "-m", "benchmarks.peer_decorators", name]
    environ = {**known, "PYTHONPATH": str(TOP)}
    try:
        # Somewhere else: some leave logs and databases where they run.
        with tempfile.TemporaryDirectory() as cwd:
            done = subprocess.run(command, cwd=cwd, env=environ, capture_output=True, text=True, timeout=RUN_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return Result(missing=f"the checks did not end within {RUN_SECONDS} s")
    try:
        said = json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        return Result(missing=(done.stderr.strip().splitlines() or ["it said nothing"])[-1])
    return Result(said["version"], said["found"])


def table(results: Mapping[str, Result]) -> str:
    """The results as Markdown: one column each, one row per check, and the sums."""
    names = [name for name, result in results.items() if not result.missing]
    lines = [
        f"| {len(CHECKS)} checks | {' | '.join(names)} |",
        f"|---|{'---|' * len(names)}",
        f"| version | {' | '.join(results[name].version or 'this' for name in names)} |",
        f"| decorator | {' | '.join(PEERS[name].decorator for name in names)} |",
        f"| **passed** | {' | '.join(f'**{results[name].passed}**' for name in names)} |",
        *(
            f"| {check.promise} | {' | '.join('no' if results[name].found[check.promise] else 'yes' for name in names)} |"
            for check in CHECKS
        ),
    ]
    absent = [f"- {name} (`{PEERS[name].package}`) could not be tried: {results[name].missing}" for name in results if name not in names]
    return "\n".join([*lines, *([""] if absent else []), *absent])


def write(text: str) -> None:
    """Put the table between the marks on the page."""
    page = PAGE.read_text(encoding="utf-8")
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        sys.exit(f"expected `{BEGIN}` and `{END}` in {PAGE}; put them where the table belongs")
    PAGE.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}", encoding="utf-8")


def main() -> None:
    """Try them all and print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers_conformance", description=str(__doc__).partition("\n")[0])
    parser.add_argument("--write", action="store_true", help="put the table into docs/wrapping.md too")
    parser.add_argument("--why", action="store_true", help="say what each failing check observed")
    parser.add_argument("--only", nargs="+", choices=list(PEERS), help="try these alone")
    given = parser.parse_args()
    results = {name: tried(name, peer) for name, peer in PEERS.items() if not given.only or name in given.only}
    text = table(results)
    print(text)
    if given.why:
        for name, result in results.items():
            print(f"\n{name}:", *(f"  {promise}: {why}" for promise, why in result.found.items() if why), sep="\n")
    if given.write:
        write(text)


if __name__ == "__main__":
    main()
