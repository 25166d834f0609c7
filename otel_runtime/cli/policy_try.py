"""`otel-runtime policy test`: the cases by themselves, and how well they cover the rules."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from otel_runtime.cli.policy_opening import FAILED, OK, UNUSABLE, add_app, add_json, add_paths, counted, open_policy
from otel_runtime.errors import ConfigError, Fault

if TYPE_CHECKING:
    from otel_runtime.policy.loading import LoadedPolicy

__all__ = ["register"]

_FAILING_CASE = "P020"


def register(inner: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = inner.add_parser(
        "test",
        help="try the cases, and say how well they cover the rules",
        description="Try `match`, `no_match` and `cases`, and show for every rule how many of them it applies to and how many not.",
        epilog="Exit codes: 0 all pass, 1 a case fails or too few rules are covered, 2 the policy cannot be used.",
    )
    add_paths(parser)
    add_app(parser)
    parser.add_argument(
        "--require-coverage",
        metavar="PERCENT",
        type=_percent,
        nargs="?",
        const=100.0,
        help="fail when fewer rules are seen both to apply and not to; 100 when no number is given",
    )
    add_json(parser)
    parser.set_defaults(run=_test)


def _percent(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number <= 100:
        raise argparse.ArgumentTypeError(f"expected a percentage from 0 to 100, got `{text}`")
    return number


def _test(arguments: argparse.Namespace) -> int:
    loaded: LoadedPolicy | None = None
    faults: Sequence[Fault] = ()
    try:
        loaded = open_policy(arguments.paths, arguments.app)
    except ConfigError as error:
        faults = error.faults
    percent = _covered(loaded)
    short = loaded is not None and arguments.require_coverage is not None and percent < arguments.require_coverage
    if arguments.json:
        told = [{**asdict(cover), "whole": cover.whole} for cover in loaded.coverage] if loaded is not None else []
        cases = loaded.cases if loaded is not None else None
        document = {"ok": loaded is not None and not short, "cases": cases, "coverage_percent": percent, "rules": told}
        print(json.dumps({**document, "faults": [asdict(fault) for fault in faults]}, indent=2))
    else:
        _show(loaded, faults, arguments.require_coverage)
    if loaded is None:
        return FAILED if all(fault.code == _FAILING_CASE for fault in faults) else UNUSABLE
    return FAILED if short else OK


def _covered(loaded: LoadedPolicy | None) -> float:
    if loaded is None or not loaded.coverage:
        return 0.0
    return 100 * sum(cover.whole for cover in loaded.coverage) / len(loaded.coverage)


def _show(loaded: LoadedPolicy | None, faults: Sequence[Fault], required: float | None) -> None:
    from rich.text import Text

    from otel_runtime.cli.policy_view import console, print_coverage, print_faults

    out = console()
    print_faults(out, faults)
    if loaded is not None:
        print_coverage(out, loaded.coverage, loaded.cases, required)
        return
    failing = all(fault.code == _FAILING_CASE for fault in faults)
    what = f"{counted(len(faults), 'case')} failed" if failing else f"the policy cannot be used: {counted(len(faults), 'fault')}"
    out.print(Text(f"{what}; coverage is told when every case passes", style="bold red"), soft_wrap=True)
