"""`otel-runtime trace show FILE`: a recorded run as a tree in the terminal."""

from __future__ import annotations

import argparse
from pathlib import Path

__all__ = ["register"]


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = commands.add_parser("trace", help="look at recorded runs", description="Look at recorded runs.")
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    show = actions.add_parser("show", help="print an OTLP-JSON file as a tree", description="Print an OTLP-JSON file as a tree of runs.")
    show.add_argument("file", type=Path, help="a file written by the setting `trace_file`")
    show.set_defaults(run=_show)


def _show(arguments: argparse.Namespace) -> int:
    from rich.console import Console  # only this command pays for it

    from otel_runtime.telemetry.console_tree import render
    from otel_runtime.telemetry.otlp_json_file import read_spans

    Console().print(render(read_spans(arguments.file)))
    return 0
