"""How a call ends: its usage, its span, what the policy must record; now, later, or from the garbage collector."""

from __future__ import annotations

import sys
from _thread import allocate_lock
from typing import Any

from otel_runtime.telemetry.protocol import NOTHING, Outcome
from otel_runtime.wrap.active import StreamMeter
from otel_runtime.wrap.admission import settle
from otel_runtime.wrap.call import Call
from otel_runtime.wrap.effects import drive, drive_async
from otel_runtime.wrap.witnessing import saw_result

__all__ = ["end", "end_async", "end_from_anywhere", "end_without_waiting", "give_up", "outcome_of"]

# How long a closed stream waits for the thread that ends its span, so that the span is there when `close` returns.
_PATIENCE_S = 0.05
_CANCELLED = {"asyncio": "CancelledError", "concurrent.futures": "CancelledError", "trio": "Cancelled"}


def outcome_of(error: BaseException | None) -> Outcome:
    """How an ending is shown: cancellation and an early close are no failures."""
    if error is None:
        return "ok"
    # Of its type, here and wherever an exception passes: `isinstance` asks an object for its `__class__`, which may raise.
    kind = type(error)
    if issubclass(kind, GeneratorExit):
        return "closed"
    for name, cancelled in _CANCELLED.items():
        module = sys.modules.get(name)
        if module is not None and issubclass(kind, getattr(module, cancelled, ())):
            return "cancelled"
    return "error"


def end(call: Call, error: BaseException | None, result: Any = NOTHING, meter: StreamMeter | None = None) -> None:
    """End a call where waiting for a disk is allowed."""
    try:
        _finish(call, error, result, meter)
        if call.must_settle:
            drive(settle(call, completed=error is None))
    except BaseException:
        give_up(call, completed=error is None)
        raise


async def end_async(call: Call, error: BaseException | None, result: Any = NOTHING, meter: StreamMeter | None = None) -> None:
    """End a call of a coroutine; one that was cancelled or closed awaits nothing more."""
    _finish(call, error, result, meter)
    if not call.must_settle:
        return
    if outcome_of(error) in ("cancelled", "closed"):
        _settle_later(call, completed=False)
        return
    try:
        await drive_async(settle(call, completed=error is None))
    except BaseException:
        give_up(call, completed=error is None)
        raise


def give_up(call: Call, *, completed: bool = False) -> None:
    """Let go of a call that an exception cut off, such as a cancellation: what it took before its body is given back, the end of its body recorded.

    Only enqueues. Does nothing for a call that has neither.

    Args:
        call: The call.
        completed: True when its body was done.
    """
    taking, call.taking = call.taking, None
    if call.must_settle:
        _settle_later(call, completed=completed)
    elif taking is not None:
        taking.give_up()


def end_without_waiting(call: Call, error: BaseException | None, result: Any = NOTHING, meter: StreamMeter | None = None) -> None:
    """End a call now; what may wait for a disk happens on the runtime's own thread."""
    _finish(call, error, result, meter)
    if call.must_settle:
        _settle_later(call, completed=error is None)


def end_from_anywhere(call: Call, error: BaseException, meter: StreamMeter | None = None) -> None:
    """End a call from where a finaliser may run: in the garbage collector, on any thread, inside any lock.

    Only enqueues. A lock that somebody holds around us would never be released to us, so the span is ended on the runtime's own thread; a
    `close()` that holds none finds it ended when it returns, because that thread is given a moment.
    """
    done = allocate_lock()
    done.acquire()

    # Popped by the job, so that the arguments are let go of when `close` returns, as they would be undecorated.
    held = [call]

    def job() -> None:
        ending = held.pop()
        try:
            _finish(ending, error, NOTHING, meter)
        finally:
            settles = [ending] if ending.must_settle else []
            del ending
            done.release()
        if settles:
            drive(settle(settles[0], completed=False))

    try:
        call.active.later(job)
    except RuntimeError:
        return  # the interpreter ends and starts no thread any more: nobody is left to read the span
    if not sys.is_finalizing():
        done.acquire(timeout=_PATIENCE_S)


def _finish(call: Call, error: BaseException | None, result: Any, meter: StreamMeter | None) -> None:
    if call.span is not None and (meter is not None or call.plan.kind == "model"):
        call.span.stop()
    record = meter.record() if meter is not None else None
    if record is not None:
        call.record_usage(record)
    elif error is None and result is not NOTHING and call.plan.kind == "model":
        call.record_usage(result)
    guard = call.active.guard
    if guard is not None and guard.witness is not None:
        saw_result(call, result, error)
    if error is None:
        call.end("ok", None, result)
        return
    outcome = outcome_of(error)
    call.end(outcome, error if outcome == "error" else None, result)


def _settle_later(call: Call, *, completed: bool) -> None:
    call.active.later(lambda: drive(settle(call, completed=completed)))
