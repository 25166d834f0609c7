"""`python -m benchmarks [--short] [--json FILE] [--policy NAME]`: measure everything, print the table, write the figures."""

from __future__ import annotations

import argparse
import importlib
import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import cast

from benchmarks.measure import SHORT, Effort, measure
from benchmarks.report import render
from benchmarks.startup import hooks, render_hooks, startup

__all__ = ["main"]

NAMES = ("off", "traced", "captured", "guarded", "sampled out", "decisions")
# `policy_NAME.py` beside this file measures one side of the policy engine.
POLICY = tuple(sorted(path.stem.removeprefix("policy_") for path in Path(__file__).parent.glob("policy_*.py")))


def arguments() -> argparse.Namespace:
    """What was asked for."""
    parser = argparse.ArgumentParser(
        prog="make bench ARGS='...'", description="Costs as ratios to a raw SDK span measured in the same run."
    )
    parser.add_argument("--short", action="store_true", help="few rounds: shows that it runs, the figures are rough")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to FILE too")
    parser.add_argument(
        "--policy", choices=[*POLICY, "all"], help="measure the policy engine instead: beside others, or operator by operator"
    )
    parser.add_argument("--scenario", choices=NAMES, help="measure one state of the runtime in this process and print its figures as JSON")
    return parser.parse_args()


def one(name: str, effort: Effort) -> dict[str, float]:
    """Measure one scenario here."""
    # The scenarios import the package; the process that only prints has no need of it.
    from benchmarks.scenarios import SCENARIOS

    return measure(SCENARIOS[name](), effort)


def fresh(name: str, *, short: bool) -> dict[str, float]:
    """Measure one scenario in a process of its own."""
    print(f"measuring: {name}", file=sys.stderr, flush=True)
    words = ["--short"] if short else []
    done = subprocess.run([sys.executable, "-m", "benchmarks", "--scenario", name, *words], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        sys.exit(f"benchmarks: scenario `{name}` ended with {done.returncode}; its own words are above")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def everything(*, short: bool) -> dict[str, Mapping[str, object]]:
    """Every scenario in turn, then the fresh starts."""
    found: dict[str, Mapping[str, object]] = {name: fresh(name, short=short) for name in NAMES}
    print("measuring: imports", file=sys.stderr, flush=True)
    found["startup"] = startup(3 if short else 11)
    print("measuring: hook processes", file=sys.stderr, flush=True)
    found["hooks"] = hooks(2 if short else 11)
    return found


def main() -> None:
    """Run as a program."""
    asked = arguments()
    if asked.scenario:
        print(json.dumps(one(asked.scenario, SHORT if asked.short else Effort())))
        return
    if asked.policy:
        for name in POLICY if asked.policy == "all" else [asked.policy]:
            importlib.import_module(f"benchmarks.policy_{name}").main(short=asked.short, out=asked.json)
        return
    found = everything(short=asked.short)
    print(render(found))
    print(render_hooks(cast("Mapping[str, Mapping[str, float]]", found["hooks"])))
    if asked.json:
        asked.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
