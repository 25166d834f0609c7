"""`otel-runtime policy check` and `policy schema`: faults and doubts of rules, and what editors check while one types."""

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


def register(inner: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the commands."""
    check = inner.add_parser(
        "check",
        help="find faults and doubtful rules",
        description="Load a policy, try its cases, and print every fault and warning with its place.",
        epilog="Exit codes: 0 it can be used, 1 it can and --strict finds a warning, 2 it cannot be used.",
    )
    add_paths(check)
    add_app(check)
    check.add_argument("--strict", action="store_true", help="exit with 1 when there is a warning")
    add_json(check)
    check.set_defaults(run=_check)
    schema = inner.add_parser(
        "schema",
        help="print the JSON Schema of policy files",
        description="Print the JSON Schema of policy files (draft 07, which VS Code and IntelliJ read).",
        epilog="A policy says where its schema is in its first line: # yaml-language-server: $schema=schema.json. Exit code: 0.",
    )
    schema.add_argument("--json", action="store_true", help="changes nothing: a schema is JSON")
    schema.set_defaults(run=_schema)


def _schema(_arguments: argparse.Namespace) -> int:
    from otel_runtime.policy.schema import schema_text

    print(schema_text(), end="")
    return OK


def _check(arguments: argparse.Namespace) -> int:
    loaded: LoadedPolicy | None = None
    try:
        loaded = open_policy(arguments.paths, arguments.app)
        faults: Sequence[Fault] = loaded.warnings
    except ConfigError as error:
        faults = error.faults
    if arguments.json:
        document = {
            "ok": loaded is not None,
            "rules": loaded.rules if loaded else None,
            "cases": loaded.cases if loaded else None,
            "mode": loaded.mode if loaded else None,
            "faults": [asdict(one) for one in faults],
        }
        print(json.dumps(document, indent=2))
    else:
        _show(loaded, faults)
    return UNUSABLE if loaded is None else FAILED if arguments.strict and faults else OK


def _show(loaded: LoadedPolicy | None, faults: Sequence[Fault]) -> None:
    from rich.text import Text

    from otel_runtime.cli.policy_view import console, print_faults

    out = console()
    print_faults(out, faults)
    if loaded is None:
        out.print(Text(f"the policy cannot be used: {counted(len(faults), 'fault')}", style="bold red"), soft_wrap=True)
        return
    cases = f"{counted(loaded.cases, 'case')} {'passes' if loaded.cases == 1 else 'pass'}" if loaded.cases else "no cases"
    said = f"the policy can be used: {counted(loaded.rules, 'rule')} in {counted(len(loaded.files), 'file')}, {cases}"
    noted = f", {counted(len(faults), 'warning')}" if faults else ""
    shadow = ", in shadow mode (nothing is blocked)" if loaded.mode == "shadow" else ""
    out.print(Text(f"{said}{noted}{shadow}", style="bold yellow" if faults else "bold green"), soft_wrap=True)
