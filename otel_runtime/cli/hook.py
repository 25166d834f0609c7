"""`otel-runtime hook claude-code`: answer one hook event of a host program, read from standard input."""

from __future__ import annotations

import argparse
import os
import sys
import threading
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from otel_runtime.integrations.claude_code import Hooks
    from otel_runtime.integrations.claude_code_rules import Rules
    from otel_runtime.settings.model import Settings

__all__ = ["register"]

_DEADLINE_S = 20.0
_MAX_BYTES = 64 << 20


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    group = commands.add_parser("hook", help="answer a host program's hook events", description="Answer hook events of host programs.")
    hosts = group.add_subparsers(metavar="HOST", required=True, prog=group.prog)
    parser = hosts.add_parser(
        "claude-code",
        help="answer one event of Claude Code from standard input",
        description="Answer one hook event of Claude Code, read from standard input: decide on tools by the policy, trace the session.",
        epilog="The settings to paste are in hooks/claude-code/settings.json.",
    )
    parser.add_argument(
        "--settings", type=Path, default=None, metavar="FILE", help="settings file; searched for from the project when left out"
    )
    parser.add_argument(
        "--defer-allow",
        action="store_true",
        help="leave what the policy allows to Claude Code's own permissions, instead of letting it run",
    )
    parser.add_argument(
        "--no-cache",
        action="store_true",
        help="read and check every policy file anew, instead of what was found in unchanged ones; leave nothing beside the state database",
    )
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    # The host stops waiting some time after this, and then runs the tool: the answer must come first.
    watchdog = threading.Timer(_DEADLINE_S, _too_late)
    watchdog.daemon = True
    watchdog.start()
    try:
        return _answered(arguments, watchdog)
    except Exception as error:  # noqa: BLE001  # exit code 2 blocks, and any other failure would let the tool run
        print(f"otel-runtime blocked the call because it could not decide: {error}", file=sys.stderr)
        return 2


def _answered(arguments: argparse.Namespace, watchdog: threading.Timer) -> int:
    from otel_runtime.integrations.claude_code import Hooks
    from otel_runtime.integrations.claude_code_session import Sessions

    project = _project()
    # The host may have moved on into another folder, whose settings are not the project's.
    os.chdir(project)
    load = partial(_settings, arguments.settings)
    rules = partial(_rules, load, arguments.settings, keep=not arguments.no_cache)
    hooks = Hooks(Sessions(_directory(project)), load, rules, defer_allow=arguments.defer_allow)
    answer = hooks.answer(sys.stdin.buffer.read(_MAX_BYTES))
    if answer.err:
        print(answer.err, file=sys.stderr, flush=True)
    if answer.out:
        if sys.__stdout__ is None:
            # `print` would say nothing, and the host would take that for no opinion.
            raise OSError("standard output is closed")
        print(answer.out, flush=True)
    watchdog.cancel()
    if answer.write == "now" or (answer.write == "soon" and _detached()):
        _write(hooks, answer.session)
    return answer.code


def _settings(file: Path | None) -> Settings:
    from otel_runtime.settings.loading import load_settings

    return load_settings(file)


def _rules(load: Callable[[], Settings], file: Path | None, tool: str, *, keep: bool) -> Rules:
    from otel_runtime.integrations.claude_code_rules import rules_for

    return rules_for(tool, load, file, keep=keep)


def _project() -> Path:
    given = os.environ.get("CLAUDE_PROJECT_DIR")
    return Path(given) if given and Path(given).is_dir() else Path.cwd()


def _directory(project: Path) -> Path:
    state = os.environ.get("OTEL_RUNTIME_STATE")
    return (project / state).parent / "hooks" / "claude-code" if state else project / ".otel-runtime" / "hooks" / "claude-code"


def _detached() -> bool:
    """Fork; True in the child, which the host neither waits for nor hears."""
    sys.stdout.flush()
    if os.fork() != 0:
        return False
    os.setsid()
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in range(3):
        os.dup2(nothing, stream)
    return True


def _write(hooks: Hooks, session: str) -> None:
    try:
        hooks.write(session)
    except Exception as error:  # noqa: BLE001  # telemetry fails open: the host has its answer
        print(f"otel-runtime: the session's spans were not written: {error}", file=sys.stderr)


def _too_late() -> None:
    os.write(2, b"otel-runtime blocked the call because no decision was made in time\n")
    os._exit(2)
