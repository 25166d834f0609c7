"""`otel-runtime audit`: check the record of decisions and approvals, and write it out."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from otel_runtime.cli.openings import add_approvals_command

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
    group = commands.add_parser(
        "audit",
        help="check or export the record of decisions and approvals",
        description="Check the record of decisions and approvals, and write it out.",
        epilog="Exit codes of all: 0 done and sound, 1 the record was changed, 2 a mistake.",
    )
    actions = group.add_subparsers(title="commands", metavar="COMMAND", required=True)
    add_approvals_command(
        actions, "verify", "find edits, reordering and missing events", lambda service, _, __: verify(service.audit, sys.stdout)
    )
    exporting = add_approvals_command(
        actions,
        "export",
        "write the record as JSON lines",
        lambda service, _, args: _export_to(service.audit, args),
        # Nothing is all there is to write.
        before_the_first=lambda _: SOUND,
    )
    exporting.add_argument("--output", type=Path, metavar="FILE", help="write here, instead of standard output; must not exist")


def _export_to(log: AuditLog, args: argparse.Namespace) -> int:
    if args.output is None:
        return export(log, sys.stdout)
    try:
        with args.output.open("x", encoding="utf-8") as out:
            return export(log, out)
    except OSError as error:
        sys.stderr.write(f"otel-runtime: cannot write `{args.output}`: {error.strerror or error}; choose another file with --output\n")
        return MISTAKE
