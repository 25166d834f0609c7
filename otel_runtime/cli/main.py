"""The console script `otel-runtime`. Parsers are built by the commands' own modules; heavy imports happen when a command runs.

Exit codes: 0 done, 1 refused or negative, 2 the user's mistake (wrong words, bad file, bad setting), 130 interrupted.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

from otel_runtime._version import __version__
from otel_runtime.errors import OtelRuntimeError

__all__ = ["build_parser", "main"]

# Modules of this room; one command loads its own only, because a host program waits for every hook.
_ROOMS = ("policy", "approvals", "trace", "doctor", "audit", "ingest", "serve", "run", "hook")


def build_parser(only: str | None = None) -> argparse.ArgumentParser:
    """The parser of every command.

    Args:
        only: The one command that will be parsed; None for all.
    """
    parser = _Parser(
        prog="otel-runtime",
        description="OpenTelemetry tracing and policy middleware for AI agents.",
        epilog="Start with `otel-runtime doctor`: it says what is configured, reachable and lost.",
    )
    parser.add_argument("--version", action="version", version=f"otel-runtime {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True, prog=parser.prog)
    for room in _ROOMS if only is None else (only,):
        importlib.import_module(f"otel_runtime.cli.{room}").register(commands)
    return parser


class _Formatter(argparse.HelpFormatter):
    """Help as wide as the terminal. argparse makes a formatter for every argument that is added, and each looks for the width by `shutil`,
    which loads three compressors.
    """

    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=_width())


class _Parser(argparse.ArgumentParser):
    """The parser of the program and, because sub-parsers are of their parent's class, of every command."""

    def __init__(self, **options: Any) -> None:  # Any: argparse's own options, passed on
        super().__init__(**{"formatter_class": _Formatter, **options})


def _width() -> int:
    try:
        columns = int(os.environ.get("COLUMNS", "0")) or os.get_terminal_size(1).columns
    except (OSError, ValueError):
        columns = 80
    return max(columns, 20) - 2


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; a user's mistake is one clear message and exit code 2, never a traceback.

    Args:
        argv: Words after the program's name; those of the process when None.
    """
    if sys.stdout is None:  # closed by whoever started the program
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115, PTH123  # for the rest of the process
    words = sys.argv[1:] if argv is None else argv
    arguments = build_parser(words[0] if words and words[0] in _ROOMS else None).parse_args(words)
    command: Callable[[argparse.Namespace], int | Callable[[], int]] = arguments.run
    try:
        code = command(arguments)
        if isinstance(code, int):
            sys.stdout.flush()
            return code
    except OtelRuntimeError as error:
        print(f"otel-runtime: {error}" if "\n" not in str(error) else str(error), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader (`head`, a closed pager) has seen enough; the interpreter must not complain about it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    # A program of the user's: whatever ends it is none of our own endings.
    return code()
