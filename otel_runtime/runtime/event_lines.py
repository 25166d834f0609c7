"""Events out of files of JSON Lines: what can be read is read, and what cannot is told by line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import BinaryIO, Final

from otel_runtime.errors import ConfigError, Fault

__all__ = ["EventLines", "event_of", "open_events"]

# Bytes of one event; a file without a line end must not fill the memory.
_LONGEST: Final = 64 * 1024 * 1024
# Lines that are spelled out when they cannot be read.
_SHOWN: Final = 20


def open_events(path: Path) -> BinaryIO:
    """Open a file of events.

    Raises:
        ConfigError: It cannot be read.
    """
    try:
        return path.open("rb")
    except OSError as error:
        message = f"cannot read the events: {(error.strerror or str(error)).lower()}; check the path"
        raise ConfigError.of("S301", message, str(path)) from None


def event_of(raw: object) -> object:
    """An event that came as a line of text: its JSON; anything else, and text that is none, as it is."""
    if not isinstance(raw, str | bytes | bytearray):
        return raw
    try:
        return json.loads(raw)
    except (ValueError, RecursionError):
        return raw


class EventLines:
    """The events of a stream of JSON Lines. What is no event is passed over and told at the end: the others are not lost with it.

    Args:
        stream: Bytes; what a program left that was killed, or a file that is no text, must not end the reading.
        name: What the stream is called in messages.
    """

    def __init__(self, stream: BinaryIO, name: str) -> None:
        self._stream = stream
        self._name = name
        self._faults: list[Fault] = []
        self.unread: int = 0

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
