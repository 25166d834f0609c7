"""`otel-runtime serve`: the approval inbox in a browser."""

from __future__ import annotations

import argparse

from otel_runtime.cli.openings import add_place_options, port, web_command

__all__ = ["register"]

_PORT = 8765


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the console script."""
    parser = commands.add_parser(
        "serve",
        help="answer approvals in a browser on this machine",
        description="Serve the approval inbox on the loopback interface and print the address to open. Ctrl-C stops it.",
        epilog="Exit codes: 0 it was stopped, 2 it cannot listen there, or the state database or a setting cannot be used.",
    )
    parser.add_argument("--host", default="127.0.0.1", help="loopback address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=port, default=_PORT, help="port to listen on; 0 takes a free one (default: %(default)s)")
    add_place_options(parser)
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    web = web_command("command", "serve")
    if web is None:
        return 2
    code: int = web.serve(args.host, args.port, args.settings, args.state_file)
    return code
