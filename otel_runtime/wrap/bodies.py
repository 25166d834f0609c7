"""How the body of each kind of function runs under its span. Admission and settling are written once, in `admission`.

The span is attached only while the function's own code runs: around the call, around each await of a coroutine's task, around each step
of a generator, never across a yield. Attach and detach stand in one uninterrupted stretch.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable, Generator
from functools import partial
from typing import Any

from otel_runtime.errors import RetryableFailure
from otel_runtime.telemetry.protocol import Outcome
from otel_runtime.wrap.active import StreamMeter, Unavailable, current_active
from otel_runtime.wrap.admission import admit, admitted_at_once, retries, settle
from otel_runtime.wrap.call import Call
from otel_runtime.wrap.effects import Sleep, drive, drive_async, on_event_loop
from otel_runtime.wrap.plan import CallPlan

__all__ = [
    "outcome_of",
    "run_async",
    "run_async_generator",
    "run_generator",
    "run_permitted",
    "run_permitted_async",
    "run_sync",
    "start_call",
]


class _Again(BaseException):
    """The body said retryable-failure and the tool asks for another attempt; never seen outside of this module."""

    def __init__(self, failure: RetryableFailure) -> None:
        self.failure = failure


def start_call(plan: CallPlan, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call | None:
    """The call's state; None when nothing is configured and it passes through.

    Raises:
        PolicyUnavailable: A policy should decide and none can.
    """
    active = current_active()
    if active is None:
        if plan.options.guard != "required":
            return None
        active = Unavailable("it says guard=`required` and nothing is configured; call `otel_runtime.configure(policy=...)` at start")
    if isinstance(active, Unavailable):
        raise active.refuse(plan.name)
    return Call(plan, active, args, kwargs)


def run_sync(call: Call, fn: Callable[..., Any]) -> Any:
    """Admit and run a plain function."""
    while True:
        if not admitted_at_once(call):
            refusal = drive(admit(call, waits=not on_event_loop()))
            if refusal is not None:
                return _refused(call, refusal)
        try:
            return run_permitted(call, fn, may_retry=True)
        except _Again as again:
            drive(_pause(call, again.failure))


async def run_async(call: Call, fn: Callable[..., Any]) -> Any:
    """Admit and run a coroutine function."""
    while True:
        if not admitted_at_once(call):
            refusal = await drive_async(admit(call, waits=True))
            if refusal is not None:
                value = _refused(call, refusal)
                return await value if hasattr(value, "__await__") else value
        try:
            return await run_permitted_async(call, fn, may_retry=True)
        except _Again as again:
            await drive_async(_pause(call, again.failure))


def run_permitted(call: Call, fn: Callable[..., Any], *, may_retry: bool = False) -> Any:
    """Run the body of a plain function that was admitted."""
    call.open()
    call.enter()
    try:
        result = fn(*call.args, **call.kwargs)
    except BaseException as error:
        call.leave()
        if may_retry and isinstance(error, RetryableFailure) and not on_event_loop() and _again(call, error):
            raise _Again(error) from None
        _end(call, error)
        raise
    call.leave()
    _end(call, None, result)
    return result


async def run_permitted_async(call: Call, fn: Callable[..., Any], *, may_retry: bool = False) -> Any:
    """Run the body of a coroutine function that was admitted."""
    call.open()
    call.enter()
    try:
        result = await fn(*call.args, **call.kwargs)
    except BaseException as error:
        call.leave()
        if may_retry and isinstance(error, RetryableFailure) and _again(call, error):
            raise _Again(error) from None
        await _end_async(call, error)
        raise
    call.leave()
    await _end_async(call, None, result)
    return result


def run_generator(call: Call, fn: Callable[..., Any]) -> Generator[Any, Any, Any]:
    """Run a generator function; the decision falls at the first `next`."""
    refusal = drive(admit(call, waits=not on_event_loop()))
    if refusal is not None:
        return (yield from _refused(call, refusal))
    call.open()
    meter = _meter(call)
    try:
        source = fn(*call.args, **call.kwargs)
        step: Callable[[], Any] = partial(next, source)
        while True:
            call.enter()
            try:
                item = step()
            except StopIteration as stop:
                call.leave()
                _end(call, None, stop.value, meter)
                return stop.value
            finally:
                call.leave()
            _see(call, meter, item)
            try:
                sent = yield item
            except GeneratorExit:
                _within(call, source.close)
                raise
            except BaseException as error:  # noqa: BLE001  # thrown in by the consumer, handed to the body
                step = partial(source.throw, error)
            else:
                step = partial(next, source) if sent is None else partial(source.send, sent)
    except BaseException as error:
        _end(call, error, meter=meter)
        raise


async def run_async_generator(call: Call, fn: Callable[..., Any]) -> AsyncIterator[Any]:
    """Run an async generator function; the decision falls at the first `anext`."""
    refusal = await drive_async(admit(call, waits=True))
    if refusal is not None:
        async for item in _refused(call, refusal):
            yield item
        return
    call.open()
    meter = _meter(call)
    try:
        source = fn(*call.args, **call.kwargs)
        step: Callable[[], Any] = source.__anext__
        while True:
            call.enter()
            try:
                item = await step()
            except StopAsyncIteration:
                call.leave()
                await _end_async(call, None, meter=meter)
                return
            finally:
                call.leave()
            _see(call, meter, item)
            try:
                sent = yield item
            except GeneratorExit:
                call.enter()
                try:
                    await source.aclose()
                finally:
                    call.leave()
                raise
            except BaseException as error:  # noqa: BLE001  # thrown in by the consumer, handed to the body
                step = partial(source.athrow, error)
            else:
                step = source.__anext__ if sent is None else partial(source.asend, sent)
    except BaseException as error:
        # Clean-up may run in the garbage collector: nothing is awaited here, what blocks is handed on.
        _end_later(call, error, meter)
        raise


def outcome_of(error: BaseException | None) -> Outcome:
    """How an ending is shown: cancellation and an early close are no failures."""
    if error is None:
        return "ok"
    if isinstance(error, GeneratorExit):
        return "closed"
    asyncio = sys.modules.get("asyncio")
    if asyncio is not None and isinstance(error, asyncio.CancelledError):
        return "cancelled"
    return "cancelled" if type(error).__module__.startswith("trio") and type(error).__name__ == "Cancelled" else "error"


def _refused(call: Call, refusal: Exception) -> Any:
    handler = call.plan.options.on_refusal
    if handler is None or not hasattr(refusal, "as_tool_result"):
        raise refusal
    return handler(refusal)


def _again(call: Call, failure: RetryableFailure) -> bool:
    if not failure.tool:
        failure.tool = call.name
    # The tool that raises it need not count: the attempts are ours.
    failure.attempt = max(failure.attempt, call.attempt)
    return retries(call, failure)


def _pause(call: Call, failure: RetryableFailure) -> Generator[Any, Any, None]:
    yield from settle(call, completed=False)
    call.refused_attempt(failure)
    yield Sleep(failure.retry_after_s)


def _within(call: Call, run: Callable[[], object]) -> None:
    call.enter()
    try:
        run()
    finally:
        call.leave()


def _meter(call: Call) -> StreamMeter | None:
    return call.active.stream_meter() if call.plan.kind == "model" else None


def _see(call: Call, meter: StreamMeter | None, item: object) -> None:
    if meter is not None:
        if call.span is not None:
            call.span.first_chunk()
        meter.feed(item)


def _finished(call: Call, error: BaseException | None, result: Any, meter: StreamMeter | None) -> None:
    if meter is not None:
        record = meter.record()
        if record is not None:
            call.record_usage(record)
    elif error is None and call.plan.kind == "model":
        call.record_usage(result)
    if error is None:
        call.end("ok", None, result)
        return
    outcome = outcome_of(error)
    call.end(outcome, error if outcome == "error" else None, result)


def _end(call: Call, error: BaseException | None, result: Any = None, meter: StreamMeter | None = None) -> None:
    _finished(call, error, result, meter)
    if call.must_settle:
        if isinstance(error, GeneratorExit):
            _settle_later(call)
        else:
            drive(settle(call, completed=error is None))


async def _end_async(call: Call, error: BaseException | None, result: Any = None, meter: StreamMeter | None = None) -> None:
    _finished(call, error, result, meter)
    if not call.must_settle:
        return
    if outcome_of(error) in ("cancelled", "closed"):
        _settle_later(call)
    else:
        await drive_async(settle(call, completed=error is None))


def _end_later(call: Call, error: BaseException, meter: StreamMeter | None) -> None:
    _finished(call, error, None, meter)
    if call.must_settle:
        _settle_later(call)


def _settle_later(call: Call) -> None:
    call.active.later(lambda: drive(settle(call, completed=False)))
