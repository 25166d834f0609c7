"""`otel-runtime serve`: the approval inbox in a browser."""

from __future__ import annotations

import argparse
import sys
from importlib import import_module
from pathlib import Path

__all__ = ["register"]

_MISSING = "otel-runtime serve needs the extra `web`: pip install 'otel-runtime[web]'"
_PORT = 8765


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the console script."""
    parser = commands.add_parser(
        "serve",
        help="answer approvals in a browser on this machine",
        description="Serve the approval inbox on the loopback interface and print the address to open. Ctrl-C stops it.",
    )
    parser.add_argument("--host", default="127.0.0.1", help="loopback address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=_port, default=_PORT, help="port to listen on; 0 takes a free one (default: %(default)s)")
    parser.add_argument("--state-file", type=Path, metavar="PATH", help="state database, instead of the setting `state`")
    parser.add_argument("--settings", type=Path, metavar="FILE", help="settings file, instead of the one found from here")
    parser.set_defaults(run=_run)


def _port(text: str) -> int:
    number = int(text) if text.isdecimal() and len(text) <= 5 else -1
    if not 0 <= number <= 65535:
        raise argparse.ArgumentTypeError(f"expected a port from 0 to 65535, got `{text}`")
    return number


def _run(args: argparse.Namespace) -> int:
    try:
        # By name: the console script and the inbox are neighbours, and only this extra brings the inbox's packages.
        command = import_module("otel_runtime.web.command")
    except ModuleNotFoundError as missing:
        if missing.name is None or missing.name.partition(".")[0] not in {"starlette", "uvicorn"}:
            raise
        sys.stderr.write(f"{_MISSING}\n")
        return 2
    code: int = command.serve(args.host, args.port, args.settings, args.state_file)
    return code
