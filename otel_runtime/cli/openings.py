"""What several commands open in the same way: the approvals of a state database, and the packages of the extra `web`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from otel_runtime.approvals.service import ApprovalService
    from otel_runtime.settings.model import Settings

__all__ = ["add_approvals_command", "add_place_options", "port", "web_command"]

_MISTAKE = 2
_WEB_PACKAGES = frozenset({"starlette", "uvicorn"})


def add_place_options(parser: argparse.ArgumentParser) -> None:
    """Let a person name the state database and the settings file."""
    parser.add_argument("--state-file", type=Path, metavar="PATH", help="state database, instead of the setting `state`")
    parser.add_argument("--settings", type=Path, metavar="FILE", help="settings file, instead of the one found from here")


def add_approvals_command(
    actions: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    text: str,
    act: Callable[[ApprovalService, Settings, argparse.Namespace], int],
    *,
    before_the_first: Callable[[argparse.Namespace], int] | None = lambda _: _MISTAKE,
) -> argparse.ArgumentParser:
    """Add a command that works on the approvals of a state database.

    Args:
        actions: The group it belongs to.
        name: What is typed.
        text: What it does, without a capital and a full stop.
        act: The work; returns the exit code.
        before_the_first: The work where no state database is yet, after that was said: looking makes none. None where it is made, as by an agent.
    """
    parser = actions.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
    add_place_options(parser)
    parser.set_defaults(run=lambda args: _with_approvals(args, act, before_the_first))
    return parser


def port(text: str) -> int:
    """The port number a person typed.

    Raises:
        argparse.ArgumentTypeError: It is none.
    """
    number = int(text) if text.isdecimal() and len(text) <= 5 else -1
    if not 0 <= number <= 65535:
        raise argparse.ArgumentTypeError(f"expected a port from 0 to 65535, got `{text}`")
    return number


def web_command(module: str, command: str) -> Any:  # Any: a module loaded by name has no type
    """A module of the room `web`, or None after saying that the packages of its extra are missing.

    Args:
        module: Name of the module inside the room.
        command: What the person typed, such as `serve`.
    """
    try:
        # By name: the console script and the web room are neighbours, and only this extra brings that room's packages.
        return import_module(f"otel_runtime.web.{module}")
    except ModuleNotFoundError as missing:
        if missing.name is None or missing.name.partition(".")[0] not in _WEB_PACKAGES:
            raise
        sys.stderr.write(f"otel-runtime {command} needs the extra `web`: pip install 'otel-runtime[web]'\n")
        return None


def _with_approvals(
    args: argparse.Namespace,
    act: Callable[[ApprovalService, Settings, argparse.Namespace], int],
    before_the_first: Callable[[argparse.Namespace], int] | None,
) -> int:
    from otel_runtime.runtime.build import open_approvals
    from otel_runtime.settings.loading import load_settings

    if args.state_file is not None and not args.state_file.exists():
        sys.stderr.write(
            f"otel-runtime: there is no state database `{args.state_file}`; give the file that the agent's setting `state` names\n"
        )
        return _MISTAKE
    settings = load_settings(args.settings, state=args.state_file)
    if before_the_first is not None and not settings.state.exists():
        sys.stderr.write(
            f"otel-runtime: there is no state database `{settings.state}`: nothing was ever asked here; run this in the agent's folder, or name "
            "its file with --state-file\n"
        )
        return before_the_first(args)
    service = open_approvals(settings)
    try:
        return act(service, settings, args)
    finally:
        service.close()
        service.database.close()
