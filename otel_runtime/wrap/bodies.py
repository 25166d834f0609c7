"""How the body of each kind of function runs under its span. Admission and settling are written once, in `admission`.

The span is attached only while the function's own code runs: around the call, around each await of a coroutine's task, around each step
of a generator, never across a yield. Attach and detach stand in one uninterrupted stretch.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from typing import Any, TypeGuard

from otel_runtime.errors import RetryableFailure
from otel_runtime.wrap.active import OURS, Active, current_active, refused_by
from otel_runtime.wrap.admission import admit, admitted_at_once, retries, settle
from otel_runtime.wrap.call import Call
from otel_runtime.wrap.effects import Sleep, drive, drive_async, on_event_loop
from otel_runtime.wrap.endings import end, end_async, give_up
from otel_runtime.wrap.following import follower
from otel_runtime.wrap.plan import CallPlan
from otel_runtime.wrap.streams import OFF, Life, StreamLife, async_stepped, stepped
from otel_runtime.wrap.witnessing import saw_input

__all__ = [
    "begin_async_generator",
    "begin_generator",
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
    if active is None and plan.options.guard != "required":
        return None
    if not isinstance(active, Active):
        if active is OURS and plan.options.guard != "required":
            return None
        raise refused_by(active, plan.name)
    return Call(plan, active, args, kwargs)


def run_sync(call: Call, fn: Callable[..., Any]) -> Any:
    """Admit and run a plain function."""
    try:
        while True:
            if not admitted_at_once(call):
                refusal = drive(admit(call, waits=not on_event_loop()))
                if refusal is not None:
                    return _refused(call, refusal)
            try:
                return run_permitted(call, fn, may_retry=True)
            except _Again as again:
                drive(_pause(call, again.failure))
    except BaseException:
        give_up(call)
        raise


async def run_async(call: Call, fn: Callable[..., Any]) -> Any:
    """Admit and run a coroutine function."""
    try:
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
    except BaseException:
        give_up(call)
        raise


def run_permitted(call: Call, fn: Callable[..., Any], *, may_retry: bool = False) -> Any:
    """Run the body of a plain function that was admitted; what it returns may still run, and ends the call when it is done."""
    try:
        _open(call)
        call.enter()
        result = fn(*call.args, **call.kwargs)
        call.leave()
        follow = follower(call.plan.kind, result)
    except BaseException as error:
        call.leave()
        if may_retry and _says_again(error) and not on_event_loop() and _again(call, error):
            raise _Again(error) from None
        end(call, error)
        raise
    if follow is not None:
        return follow(StreamLife(call, result), result)
    end(call, None, result)
    return result


async def run_permitted_async(call: Call, fn: Callable[..., Any], *, may_retry: bool = False) -> Any:
    """Run the body of a coroutine function that was admitted; what it returns may still run, as above."""
    try:
        _open(call)
        call.enter()
        result = await fn(*call.args, **call.kwargs)
        call.leave()
        follow = follower(call.plan.kind, result)
    except BaseException as error:
        call.leave()
        if may_retry and _says_again(error) and _again(call, error):
            raise _Again(error) from None
        await end_async(call, error)
        raise
    if follow is not None:
        return follow(StreamLife(call, result), result)
    await end_async(call, None, result)
    return result


def run_generator(call: Call, fn: Callable[..., Any]) -> Generator[Any, Any, Any]:
    """Run a generator function; the decision falls at the first `next`."""
    return (yield from begin_generator(call, fn))


def begin_generator(call: Call, fn: Callable[..., Any]) -> Generator[Any, Any, Any]:
    """Admit a generator function and give what its caller steps; to be called at the first `next`, where the decision falls."""
    try:
        if not admitted_at_once(call):
            refusal = drive(admit(call, waits=not on_event_loop()))
            if refusal is not None:
                value: Generator[Any, Any, Any] = _refused(call, refusal)
                return value
    except BaseException:
        give_up(call)
        raise
    try:
        _open(call)
        source = fn(*call.args, **call.kwargs)
        life = StreamLife(call)
    except BaseException as error:
        end(call, error)
        raise
    return stepped(life, source)


async def begin_async_generator(call: Call, fn: Callable[..., Any]) -> tuple[Life, Any]:
    """Admit an async generator function and give what is stepped; to be called at the first `anext`, where the decision falls."""
    try:
        if not admitted_at_once(call):
            refusal = await drive_async(admit(call, waits=True))
            if refusal is not None:
                return OFF, aiter(_refused(call, refusal))
    except BaseException:
        give_up(call)
        raise
    try:
        _open(call)
        source = fn(*call.args, **call.kwargs)
        life = StreamLife(call)
    except BaseException as error:
        await end_async(call, error)
        raise
    return life, source


def run_async_generator(call: Call, fn: Callable[..., Any]) -> AsyncGenerator[Any, Any]:
    """Run an async generator function."""

    def begin(_args: tuple[Any, ...], _kwargs: dict[str, Any]) -> Awaitable[tuple[Life, Any]]:
        return begin_async_generator(call, fn)

    return async_stepped(begin)()


def _open(call: Call) -> None:
    call.open()
    if call.plan.kind == "agent" and call.active.guard is not None:
        saw_input(call)


def _refused(call: Call, refusal: Exception) -> Any:
    handler = call.plan.options.on_refusal
    if handler is None or not hasattr(refusal, "as_tool_result"):
        raise refusal
    return handler(refusal)


def _says_again(error: BaseException) -> TypeGuard[RetryableFailure]:
    return issubclass(type(error), RetryableFailure)


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
