"""`otel-runtime ingest FILE|- --source NAME`: a recorded or piped stream of foreign events becomes spans; `--listen` takes HTTP."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import BinaryIO, Final

from otel_runtime.cli.openings import port, web_command
from otel_runtime.errors import ConfigError, Fault

__all__ = ["register"]

# Bytes of one event; a file without a line end must not fill the memory.
_LONGEST: Final = 64 * 1024 * 1024
# Lines that are spelled out when they cannot be read.
_SHOWN: Final = 20


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
    with build_runtime(settings.model_copy(update={"policy": ()})) as runtime, _opened(arguments.file) as stream:
        lines = _Lines(stream, arguments.file)
        count = runtime.ingest(lines, source=arguments.source)
    print(f"{count} events read from {arguments.file}")
    if lines.unread:
        raise ConfigError(lines.faults)
    return 0


def _opened(name: str) -> nullcontext[BinaryIO] | BinaryIO:
    try:
        if name != "-":
            return Path(name).open("rb")
        if sys.stdin is not None:
            return nullcontext(sys.stdin.buffer)
    except OSError as error:
        raise ConfigError.of("S301", f"cannot read the events: {(error.strerror or str(error)).lower()}; check the path", name) from None
    raise ConfigError.of("S301", "cannot read the events: standard input is closed; name a file, or pipe the events in", name)


class _Lines:
    """The events of a stream of JSON Lines. What is no event is passed over and told at the end: the others are not lost with it.

    Args:
        stream: Bytes; what a program left that was killed, or a file that is no text, must not end the reading.
        name: What the stream is called in messages.
    """

    def __init__(self, stream: BinaryIO, name: str) -> None:
        self._stream = stream
        self._name = name
        self._faults: list[Fault] = []
        self.unread = 0

    def __iter__(self) -> Iterator[object]:
        for number, line in enumerate(iter(partial(self._stream.readline, _LONGEST + 1), b""), start=1):
            if len(line) > _LONGEST:
                self._pass_over(line)
                self._complain(number, f"is longer than {_LONGEST} bytes")
            elif line.strip():
                try:
                    yield json.loads(line.strip().decode("utf-8-sig"))
                except UnicodeDecodeError:
                    self._complain(number, "is not UTF-8")
                except RecursionError:
                    self._complain(number, "is nested too deep")
                except json.JSONDecodeError as error:
                    self._complain(number, f"is not JSON: {error.msg.lower()}", error.colno)
                except ValueError as error:
                    self._complain(number, f"is not JSON: {error}")

    @property
    def faults(self) -> list[Fault]:
        """The first lines that could not be read, and how many more there are."""
        more = self.unread - len(self._faults)
        told = [Fault("S302", f"{more} more lines could not be read", self._name)] if more else []
        return [*self._faults, *told]

    def _complain(self, number: int, why: str, column: int = 1) -> None:
        self.unread += 1
        if self.unread <= _SHOWN:
            message = f"line {number} {why}; expected one event per line; the line was passed over"
            self._faults.append(Fault("S302", message, self._name, line=number, column=column))

    def _pass_over(self, line: bytes) -> None:
        while line and not line.endswith(b"\n"):
            line = self._stream.readline(_LONGEST)
