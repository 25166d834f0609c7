"""`otel-runtime ingest FILE|- --source NAME`: a recorded or piped stream of foreign events becomes spans; `--listen` takes HTTP."""

from __future__ import annotations

import argparse
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import BinaryIO

from otel_runtime.cli.openings import port, web_command
from otel_runtime.errors import ConfigError

__all__ = ["register"]


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "ingest",
        help="turn recorded events of another system into spans",
        description="Turn JSON Lines of another system's events into spans, which go where the settings say: a collector, `trace_file`, the console.",
        epilog="Exit codes: 0 every line was read, 2 a line, the file or a setting cannot be used; what can be read is read all the same.",
    )
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("file", nargs="?", help="a JSONL file, or - for standard input")
    where.add_argument("--listen", type=port, metavar="PORT", help="take events by HTTP POST on this machine instead; 0 takes a free port")
    parser.add_argument("--source", required=True, metavar="NAME", help="vocabulary of the events: vitehub, a3s or dreadnode")
    parser.add_argument("--settings", type=Path, default=None, metavar="FILE", help="settings file; searched for from here when left out")
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
    from otel_runtime.runtime.event_lines import EventLines, open_events
    from otel_runtime.settings.loading import load_settings

    settings = load_settings(arguments.settings)
    # Foreign work was decided elsewhere: our policy and its database have no part in it.
    with (
        build_runtime(settings.model_copy(update={"policy": ()})) as runtime,
        _standard_input() if arguments.file == "-" else open_events(Path(arguments.file)) as stream,
    ):
        lines = EventLines(stream, arguments.file)
        count = runtime.ingest(lines, source=arguments.source)
    print(f"{count} events read from {arguments.file}")
    if lines.unread:
        raise ConfigError(lines.faults)
    return 0


def _standard_input() -> nullcontext[BinaryIO]:
    if sys.stdin is None:
        raise ConfigError.of("S301", "cannot read the events: standard input is closed; name a file, or pipe the events in", "-")
    return nullcontext(sys.stdin.buffer)
