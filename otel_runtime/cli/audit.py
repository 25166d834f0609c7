"""`otel-runtime audit`: check the record of decisions and approvals, and write it out."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from otel_runtime.audit.log import AuditLog

__all__ = ["export", "register", "verify"]

SOUND, BROKEN, MISTAKE = 0, 1, 2


def verify(log: AuditLog, out: TextIO) -> int:
    """Check the whole record and say what was found."""
    found = log.verify()
    if found.sound:
        out.write(f"the record is sound: {found.checked} events, head {found.head}\n")
        return SOUND
    out.write(f"the record is broken at event {found.first_bad}: {found.problem} ({found.checked} events before it are sound)\n")
    return BROKEN


def export(log: AuditLog, out: TextIO) -> int:
    """Write every event as one JSON object per line."""
    log.export(out)
    return SOUND


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the console script."""
    group = commands.add_parser("audit", help="check or export the record of decisions and approvals", description=__doc__)
    actions = group.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _command(actions, "verify", "find edits, reordering and missing events", lambda log, _: verify(log, sys.stdout))
    exporting = _command(actions, "export", "write the record as JSON lines", _export_to)
    exporting.add_argument("--output", type=Path, metavar="FILE", help="write here, instead of standard output; must not exist")


def _command(
    actions: argparse._SubParsersAction[argparse.ArgumentParser], name: str, text: str, act: Callable[[AuditLog, argparse.Namespace], int]
) -> argparse.ArgumentParser:
    parser = actions.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
    parser.add_argument("--state-file", type=Path, metavar="PATH", help="state database, instead of the setting `state`")
    parser.add_argument("--settings", type=Path, metavar="FILE", help="settings file, instead of the one found from here")
    parser.set_defaults(run=lambda args: _run(args, act))
    return parser


def _run(args: argparse.Namespace, act: Callable[[AuditLog, argparse.Namespace], int]) -> int:
    from otel_runtime.runtime.build import open_approvals
    from otel_runtime.settings.loading import load_settings

    if args.state_file is not None and not args.state_file.exists():
        sys.stderr.write(
            f"otel-runtime: there is no state database `{args.state_file}`; give the file that the agent's setting `state` names\n"
        )
        return MISTAKE
    service = open_approvals(load_settings(args.settings, state=args.state_file))
    try:
        return act(service.audit, args)
    finally:
        service.close()
        service.database.close()


def _export_to(log: AuditLog, args: argparse.Namespace) -> int:
    if args.output is None:
        return export(log, sys.stdout)
    try:
        with args.output.open("x", encoding="utf-8") as out:
            return export(log, out)
    except OSError as error:
        sys.stderr.write(f"otel-runtime: cannot write `{args.output}`: {error.strerror or error}; choose another file with --output\n")
        return MISTAKE
