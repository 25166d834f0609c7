"""`otel-runtime ingest FILE|- --source NAME`: a recorded or piped stream of foreign events becomes spans; `--listen` takes HTTP."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import TextIO

from otel_runtime.cli.openings import port, web_command
from otel_runtime.errors import ConfigError

__all__ = ["register"]


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "ingest",
        help="turn recorded events of another system into spans",
        description="Turn JSON Lines of another system's events into spans.",
    )
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("file", nargs="?", help="a JSONL file, or - for standard input")
    where.add_argument("--listen", type=port, metavar="PORT", help="take events by HTTP POST on this machine instead; 0 takes a free port")
    parser.add_argument("--source", required=True, help="vocabulary of the events: vitehub, a3s or dreadnode")
    parser.add_argument("--settings", type=Path, default=None, help="settings file; searched for from here when left out")
    parser.set_defaults(run=_run)


def _listen(arguments: argparse.Namespace) -> int:
    web = web_command("receiver_command", "ingest --listen")
    if web is None:
        return 2
    code: int = web.receive(arguments.listen, arguments.source, arguments.settings)
    return code


def _run(arguments: argparse.Namespace) -> int:
    if arguments.listen is not None:
        return _listen(arguments)
    from otel_runtime.runtime.build import build_runtime  # only this command pays for it
    from otel_runtime.settings.loading import load_settings

    settings = load_settings(arguments.settings)
    # Foreign work was decided elsewhere: our policy and its database have no part in it.
    with build_runtime(settings.model_copy(update={"policy": ()})) as runtime, _opened(arguments.file) as lines:
        count = runtime.ingest(_events(lines, arguments.file), source=arguments.source)
    print(f"{count} events read from {arguments.file}")
    return 0


def _opened(name: str) -> nullcontext[TextIO] | TextIO:
    if name == "-":
        return nullcontext(sys.stdin)
    try:
        return Path(name).open(encoding="utf-8")
    except OSError as error:
        raise ConfigError.of("S301", f"cannot read the events: {(error.strerror or str(error)).lower()}; check the path", name) from None


def _events(lines: TextIO, source: str) -> Iterator[object]:
    for number, line in enumerate(lines, start=1):
        if line.strip():
            try:
                yield json.loads(line)
            except ValueError as error:
                raise ConfigError.of("S302", f"line {number} is not JSON: {error}; expected one event per line", source) from None
