"""What a decorator must leave as it was, as programs: each runs undecorated and decorated, must observe the same, and leave these spans.

Only the standard library and OpenTelemetry are imported: the programs run in the environments of other packages.
"""

from __future__ import annotations

import contextlib
import contextvars
import inspect
import logging
import traceback
import typing
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

__all__ = ["CHECKS", "Check", "Decorator", "Tools", "check", "collect", "listening", "named", "outcome", "variable"]

Decorator = Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class Tools:
    """What a program is given.

    Args:
        wrap: The decorator for a tool; for nothing, when the program runs undecorated.
        stream: The decorator for what streams.
        lasts: True while no span has ended yet, undecorated too; asked by programs about what still runs.
    """

    wrap: Decorator
    stream: Decorator
    lasts: Callable[[], bool]


@dataclass(frozen=True, slots=True)
class Check:
    """One promise.

    Args:
        promise: What must hold.
        program: Gives what it observed.
        spans: `ok` or `error` for each span it leaves, in any order.
        nested: True when all but one of the spans must hang below that one.
        distinct: True when every span must be of a trace of its own.
    """

    promise: str
    program: Callable[[Tools], object]
    spans: tuple[str, ...]
    nested: bool = False
    distinct: bool = False


CHECKS: list[Check] = []
variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


def check(promise: str, *spans: str, nested: bool = False, distinct: bool = False) -> Callable[[Callable[[Tools], object]], None]:
    """Add a program."""

    def add(program: Callable[[Tools], object]) -> None:
        CHECKS.append(Check(promise, program, spans, nested, distinct))

    return add


def outcome(run: Callable[[], object]) -> object:
    """What a call gave or raised, with the frames of this file."""
    try:
        return "value", run()
    except BaseException as error:  # noqa: BLE001  # every kind of ending is compared
        frames = [frame.name for frame in traceback.extract_tb(error.__traceback__) if frame.filename == __file__]
        try:
            words = str(error)
        except Exception:  # noqa: BLE001  # that is one of the checks
            words = "unprintable"
        return type(error).__name__, words, frames[-1:]


async def collect(source: Any) -> list[Any]:
    """Every item."""
    return [item async for item in source]


def named(fn: Any) -> object:
    """What tools that read functions read."""
    return str(inspect.signature(fn)), fn.__name__, fn.__qualname__, fn.__doc__, fn.__module__, typing.get_type_hints(fn)


def module_function(a: int) -> int:
    """Found by pickle under this name."""
    return a


class Records(logging.Handler):
    """Keeps what is logged."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(record.getMessage())


@contextlib.contextmanager
def listening() -> Iterator[list[str]]:
    """What is logged meanwhile, by anybody."""
    handler = Records()
    logging.getLogger().addHandler(handler)
    try:
        yield handler.said
    finally:
        logging.getLogger().removeHandler(handler)
