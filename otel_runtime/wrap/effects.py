"""The blocking things an admission asks for, and the two drivers that perform them: one logic for sync and async.

An admission is a generator. It yields an effect and is sent an `Outcome`; outcomes are values, so that no exception of a user, least
of all StopIteration, ever travels through it. The synchronous driver performs effects in place, the asynchronous one in threads.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, TypeVar

from otel_runtime.approvals.protocol import Approvals

__all__ = ["AwaitAnswer", "Blocking", "Effect", "Effects", "Outcome", "Sleep", "blocking", "drive", "drive_async", "on_event_loop"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Blocking:
    """Run something that may wait for a disk or the network."""

    run: Callable[[], object]


@dataclass(frozen=True, slots=True)
class Sleep:
    """Let time pass.

    Args:
        seconds: How long.
    """

    seconds: float


@dataclass(frozen=True, slots=True)
class AwaitAnswer:
    """Wait until a request is answered or the time is up.

    Args:
        approvals: Whom to ask.
        request_id: The request.
        timeout_s: Seconds.
    """

    approvals: Approvals
    request_id: str
    timeout_s: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of an effect: a value or an error.

    Args:
        value: The result.
        error: What was raised instead; None when nothing was.
    """

    value: Any = None
    error: Exception | None = None

    def get(self) -> Any:
        """The value; raises the error inside the admission, which turns it into a refusal."""
        if self.error is not None:
            raise self.error
        return self.value


Effect = Blocking | Sleep | AwaitAnswer
Effects = Generator[Effect, Outcome, T]


def blocking(run: Callable[[], T]) -> Effects[T]:
    """Yield one blocking effect and return its value."""
    outcome = yield Blocking(run)
    value: T = outcome.get()
    return value


def drive(effects: Effects[T]) -> T:
    """Perform every effect in place."""
    try:
        effect = next(effects)
        while True:
            effect = effects.send(_perform(effect))
    except StopIteration as stop:
        result: T = stop.value
        return result


async def drive_async(effects: Effects[T]) -> T:
    """Perform every effect without blocking the event loop."""
    try:
        effect = next(effects)
        while True:
            effect = effects.send(await _perform_async(effect))
    except StopIteration as stop:
        result: T = stop.value
        return result


def on_event_loop() -> bool:
    """True when this thread runs an event loop that a blocking wait would stop."""
    module = sys.modules.get("asyncio")
    # The public get_running_loop() raises where there is none, which costs ten times as much on the way of every call.
    return module is not None and module._get_running_loop() is not None  # noqa: SLF001


def _perform(effect: Effect) -> Outcome:
    try:
        match effect:
            case Blocking(run):
                return Outcome(run())
            case Sleep(seconds):
                time.sleep(seconds)
                return Outcome()
            case AwaitAnswer(approvals, request_id, timeout_s):
                return Outcome(approvals.wait(request_id, timeout_s))
    except Exception as error:  # noqa: BLE001  # outcomes are values: the admission decides what an error means
        return Outcome(error=error)


async def _perform_async(effect: Effect) -> Outcome:
    if not on_event_loop():
        # Another async library drives us: it has no threads of ours to use, so the effect runs in place.
        return _perform(effect)
    import asyncio  # loaded already where a loop runs; programs without one never pay for it

    try:
        match effect:
            case Blocking(run):
                return Outcome(await asyncio.to_thread(run))
            case Sleep(seconds):
                await asyncio.sleep(seconds)
                return Outcome()
            case AwaitAnswer(approvals, request_id, timeout_s):
                return Outcome(await approvals.wait_async(request_id, timeout_s))
    except Exception as error:  # noqa: BLE001  # as above
        return Outcome(error=error)
