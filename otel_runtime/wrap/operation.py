"""One operation with its options: a decorator, and a context manager of the same name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, TypeVar

from otel_runtime.telemetry.protocol import NOTHING
from otel_runtime.values.action import Kind
from otel_runtime.values.trace import TraceRef
from otel_runtime.values.usage import UsageRecord
from otel_runtime.wrap import bodies
from otel_runtime.wrap.admission import admit, settle
from otel_runtime.wrap.call import Call
from otel_runtime.wrap.decorating import decorate
from otel_runtime.wrap.effects import drive, drive_async, on_event_loop
from otel_runtime.wrap.endings import give_up, outcome_of
from otel_runtime.wrap.plan import CallPlan, Options
from otel_runtime.wrap.witnessing import saw_result

__all__ = ["CallHandle", "Operation"]

F = TypeVar("F", bound=Callable[..., Any])


class CallHandle:
    """What `with rt.tool(...) as call:` gives: a hold of the running operation."""

    __slots__ = ("_call", "result", "said")

    def __init__(self, call: Call | None) -> None:
        self._call = call
        self.result: object = None
        self.said: bool = False

    def record_usage(self, response: object) -> UsageRecord | None:
        """Add the usage of a response (a provider's object, a dict or a `UsageRecord`); None when it has none."""
        return self._call.record_usage(response) if self._call is not None else None

    def set_result(self, value: object) -> None:
        """Say what the block came to: rules with `origin` ask for it; it reaches the span only when content is captured."""
        self.result = value
        self.said = True

    @property
    def trace(self) -> TraceRef | None:
        """Where the operation stands in its trace; None when nothing is recorded."""
        return self._call.span.ref() if self._call is not None and self._call.span is not None else None

    @property
    def approval_id(self) -> str | None:
        """Id of the approval that let it run; None when none was needed."""
        permit = self._call.permit if self._call is not None else None
        return permit.request_id if permit is not None else None


class Operation:
    """A decorator with its options, and a context manager of the same name (sync and async).

    Args:
        kind: Which operation.
        options: Its options.
        args: Arguments by name, for a guarded `with` block.
    """

    __slots__ = ("_args", "_kind", "_open", "_options")

    def __init__(self, kind: Kind, options: Options, args: Mapping[str, object] | None = None) -> None:
        self._kind: Kind = kind
        self._options = options
        self._args = args
        self._open: list[tuple[Call | None, CallHandle]] = []

    def __call__(self, fn: F) -> F:
        """Decorate a function.

        Raises:
            TypeError: `args` was given, which belongs to a `with` block.
        """
        if self._args is not None:
            raise TypeError("args= belongs to a `with` block; a decorated function has arguments of its own")
        return decorate(self._kind, self._options, fn)

    def __enter__(self) -> CallHandle:
        call = self._start()
        try:
            return self._entered(call, drive(admit(call, waits=not on_event_loop())) if call is not None else None)
        except BaseException:
            if call is not None:
                give_up(call)
            raise

    async def __aenter__(self) -> CallHandle:
        call = self._start()
        try:
            return self._entered(call, await drive_async(admit(call, waits=True)) if call is not None else None)
        except BaseException:
            if call is not None:
                give_up(call)
            raise

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if (call := self._left(error)) is not None:
            try:
                drive(settle(call, completed=error is None))
            except BaseException:
                give_up(call, completed=error is None)
                raise

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if (call := self._left(error)) is not None:
            try:
                await drive_async(settle(call, completed=error is None))
            except BaseException:
                give_up(call, completed=error is None)
                raise

    def _start(self) -> Call | None:
        if self._options.name is None and self._options.model is None:
            raise TypeError(f'a `with` block needs a name: `with rt.{self._kind}("name"):`')
        if self._options.retry or self._options.on_refusal is not None:
            raise TypeError(
                "a `with` block can neither be retried nor replaced by a value; use a decorated function for retry= and on_refusal="
            )
        call = bodies.start_call(CallPlan(self._kind, self._options, None), (), {})
        if call is not None:
            call.bound = dict(self._args or {})
        return call

    def _entered(self, call: Call | None, refusal: Exception | None) -> CallHandle:
        if refusal is not None:
            raise refusal
        handle = CallHandle(call)
        self._open.append((call, handle))
        if call is not None:
            call.open()
            call.enter()
        return handle

    def _left(self, error: BaseException | None) -> Call | None:
        call, handle = self._open.pop()
        if call is None:
            return None
        call.leave()
        saw_result(call, handle.result if handle.said else NOTHING, error)
        outcome = outcome_of(error)
        call.end(outcome, error if outcome == "error" else None, handle.result)
        return call
