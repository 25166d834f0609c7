"""`python -m benchmarks.agentdojo`: replay AgentDojo under the shipped packs and under a pack that asks on every write; print the table."""

from __future__ import annotations

import argparse
import sys
import tempfile
import warnings
from pathlib import Path

from benchmarks.agentdojo.record import record
from benchmarks.agentdojo.replay import Guarded
from benchmarks.agentdojo.report import Score, details, placed, score, table
from benchmarks.agentdojo.suites import attacks, benign, functions_module, load_suite, package_version

__all__ = ["main"]

ROOT = Path(__file__).parents[2]
DOCUMENT = ROOT / "docs" / "benchmarks-agentdojo.md"
RECORDED = ROOT / "tests" / "policy" / "data" / "agentdojo.json"
BASELINE = Path(__file__).parent / "ask-on-every-write.yaml"
PACKS = {"banking": "banking", "slack": "team-chat", "travel": "personal-assistant", "workspace": "personal-assistant"}
VERSIONS = ("v1.1.2", "v1.2.2")


def arguments() -> argparse.Namespace:
    """What was asked for."""
    parser = argparse.ArgumentParser(prog="make bench-agentdojo ARGS='...'", description="AgentDojo's ground-truth calls under policies.")
    parser.add_argument("--versions", nargs="+", default=list(VERSIONS[-1:]), metavar="VERSION", help="benchmark versions (v1.2.2)")
    parser.add_argument("--suites", nargs="+", default=list(PACKS), choices=list(PACKS), help="all four when left out")
    parser.add_argument("--policy", type=Path, metavar="FILE", help="a policy of your own instead of the shipped packs")
    parser.add_argument("--details", action="store_true", help="say what was asked and what went through")
    parser.add_argument("--docs", action="store_true", help="run the versions of the document and write its tables")
    parser.add_argument("--record", action="store_true", help="write the few runs that the test suite replays without AgentDojo")
    return parser.parse_args()


def scored(version: str, name: str, policy: Path, *, say: bool) -> Score:
    """Run one suite under one policy."""
    suite = load_suite(version, name)
    with tempfile.TemporaryDirectory() as folder:
        guarded = Guarded(functions_module(), suite.tools, policy, Path(folder) / "state" / "state.db")
        try:
            peaceful, hostile = list(benign(suite, guarded)), list(attacks(suite, guarded))
        finally:
            guarded.close()
    if say and (said := details(peaceful, hostile)):
        print(f"{name} under {policy.stem}:\n{said}\n")
    return score(name, policy.stem, peaceful, hostile)


def measured(version: str, suites: list[str], own: Path | None, *, say: bool) -> str:
    """The table of one version."""
    rows: list[Score] = []
    for policies in (dict.fromkeys(suites, BASELINE), {name: own or ROOT / "policy" / f"{PACKS[name]}.yaml" for name in suites}):
        found = [scored(version, name, policy, say=say) for name, policy in policies.items()]
        whole = found[0]
        for one in found[1:]:
            whole += one
        rows += [*found, whole] if len(found) > 1 else found
    return table(rows)


def main() -> None:
    """Run, print, and write what was asked for."""
    warnings.simplefilter("ignore", DeprecationWarning)
    asked = arguments()
    if asked.record:
        RECORDED.write_text(
            record(VERSIONS[-1], {name: ROOT / "policy" / f"{pack}.yaml" for name, pack in PACKS.items()}), encoding="utf-8"
        )
        print(f"wrote {RECORDED.relative_to(ROOT)}")
        return
    tables = {}
    for version in VERSIONS if asked.docs else asked.versions:
        tables[version] = measured(version, asked.suites, asked.policy, say=asked.details)
        print(f"agentdojo {package_version()}, benchmark version {version}\n\n{tables[version]}\n", flush=True)
    if asked.docs:
        DOCUMENT.write_text(placed(DOCUMENT.read_text(encoding="utf-8"), tables), encoding="utf-8")
        print(f"wrote {DOCUMENT.relative_to(ROOT)}", file=sys.stderr)


if __name__ == "__main__":
    main()
