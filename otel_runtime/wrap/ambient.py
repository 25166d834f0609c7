"""What code inside a run may ask of the runtime around it: decide, record usage, fetch a capability, publish, listen, wait."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import Future
from typing import Any, Literal, TypeVar, overload

from otel_runtime.errors import CapabilityNotFound, RuntimeStateError
from otel_runtime.hooks.bus import Subscriptions
from otel_runtime.hooks.kinds import check_custom_kind
from otel_runtime.hooks.lifecycle import HookName, Observers
from otel_runtime.hooks.native import native_event
from otel_runtime.values.approval import ApprovalRequest
from otel_runtime.values.decision import Decision
from otel_runtime.values.host import CapabilityHandle, HostContext
from otel_runtime.values.trace import EventEnvelope, TraceEvent
from otel_runtime.values.usage import UsageRecord
from otel_runtime.wrap.active import Active, Unavailable, current_active
from otel_runtime.wrap.admission import admit, settle
from otel_runtime.wrap.call import Call
from otel_runtime.wrap.effects import drive, on_event_loop
from otel_runtime.wrap.guarding import peek, with_input_digest
from otel_runtime.wrap.plan import CallPlan, Options
from otel_runtime.wrap.registry import find_plans
from otel_runtime.wrap.scope import current_scope
from otel_runtime.wrap.toolcalls import planned_tool

__all__ = [
    "OBSERVERS",
    "SUBSCRIPTIONS",
    "capability",
    "decide",
    "notify",
    "on",
    "on_event",
    "publish",
    "record_usage",
    "wait_until",
]

O = TypeVar("O", bound=Callable[[EventEnvelope], object])  # noqa: E741  # a handler of events
ContextObserver = TypeVar("ContextObserver", bound=Callable[[HostContext], object])
ApprovalObserver = TypeVar("ApprovalObserver", bound=Callable[[ApprovalRequest, HostContext], object])
TraceObserver = TypeVar("TraceObserver", bound=Callable[[TraceEvent, HostContext], object])
ErrorObserver = TypeVar("ErrorObserver", bound=Callable[[BaseException, HostContext], object])
# Registered before any runtime exists, so they belong to all of them.
OBSERVERS = Observers()
SUBSCRIPTIONS = Subscriptions()


@overload
def on(name: Literal["request", "finish"]) -> Callable[[ContextObserver], ContextObserver]: ...
@overload
def on(name: Literal["approval"]) -> Callable[[ApprovalObserver], ApprovalObserver]: ...
@overload
def on(name: Literal["trace"]) -> Callable[[TraceObserver], TraceObserver]: ...
@overload
def on(name: Literal["error"]) -> Callable[[ErrorObserver], ErrorObserver]: ...
def on(name: HookName) -> Callable[[Any], Any]:
    """Observe a lifecycle hook of every runtime: `@rt.on("approval")`.

    Args:
        name: `request(ctx)`, `approval(request, ctx)`, `trace(event, ctx)`, `error(error, ctx)` or `finish(ctx)`. Observers may be
            asynchronous. They never change a call: one that raises is counted and logged.

    Raises:
        ValueError: There is no such hook.
    """

    def register(observer: Any) -> Any:
        OBSERVERS.add(name, observer)
        return observer

    return register


def on_event(kind: str, *, queue: int | None = None) -> Callable[[O], O]:
    """Subscribe to events of a kind on every runtime's bus: `@rt.on_event("turn.completed")`.

    Args:
        kind: A kind, `prefix.*` or `*`. The handler takes an `EventEnvelope` and may be asynchronous.
        queue: Events that may wait for the handler, at least 1; it then works at its own pace, and is told what it lost. None queues 1,024
            for asynchronous handlers, and runs others where the event is published.

    Raises:
        ValueError: The pattern is malformed, or the queue has no place.
    """

    def register(handler: O) -> O:
        SUBSCRIPTIONS.add(kind, handler, queue=queue)
        return handler

    return register


def publish(kind: str, payload: Mapping[str, object] | None = None, *, session_id: str | None = None) -> EventEnvelope | None:
    """Publish an event of the application's own.

    Args:
        kind: Dotted kind outside of `turn.`, `prompt.`, `session.`, `transport.`, `capabilities.` and `component.`.
        payload: Plain data.
        session_id: The session; that of the running code when left out.

    Returns:
        The envelope; None when no runtime is configured.

    Raises:
        ReservedKind: The kind belongs to the runtime.
        ValueError: The kind is malformed.
    """
    active = current_active()
    if not isinstance(active, Active):
        check_custom_kind(kind)
        return None
    return active.bus.publish(kind, payload, session_id=session_id or current_scope().session)


def notify(message: str, *, level: str = "info", **facts: object) -> EventEnvelope | None:
    """Tell the human operator something; it reaches subscribers of `operator.notification`.

    Args:
        message: A sentence.
        level: `info`, `warning` or `error`.
        facts: More plain data.

    Raises:
        ValueError: The level is unknown.
    """
    if level not in ("info", "warning", "error"):
        raise ValueError(f"expected level `info`, `warning` or `error`, got `{level}`")
    return publish("operator.notification", {"message": message, "level": level, **facts})


def record_usage(response: object) -> UsageRecord | None:
    """Add what a model used to the operation around: tokens, cost, budgets.

    Args:
        response: A provider's response object, its dict, or a `UsageRecord`.

    Returns:
        The record with its price; None when nothing was recognised or nothing is configured.
    """
    operation = current_scope().operation
    if operation is not None:
        return operation.record_usage(response)
    active = current_active()
    if not isinstance(active, Active):
        return None
    record = active.usage_of(response)
    if record is not None:
        active.sums.add(record)
    return record


def wait_until(task: Awaitable[object] | Future[Any]) -> None:
    """Have a piece of work finished before the runtime shuts down, within the bound of its flush.

    Args:
        task: A coroutine, task or future.

    Raises:
        RuntimeStateError: No runtime is configured that could wait.
    """
    active = current_active()
    if not isinstance(active, Active):
        raise RuntimeStateError("no runtime is configured to wait for this; call `otel_runtime.configure()` at start")
    active.background.add(task)


def decide(tool: str | Callable[..., Any], args: Mapping[str, object] | None = None) -> Decision:
    """Ask what would happen to a call, and reserve nothing.

    Args:
        tool: Name of a tool, or a function.
        args: Arguments by name.

    Returns:
        The decision; `allow` with code `policy.none` when no policy is configured.

    Raises:
        PolicyUnavailable: A policy should decide and none can.
    """
    call = _asked(tool, args)
    if call is None or call.active.guard is None:
        return Decision("allow", "no policy is configured", "policy.none")
    guard, now, action = call.active.guard, call.active.clock(), call.action()
    facts = drive(peek(guard, guard.engine.needs(action, now), now))
    return with_input_digest(action, guard.engine.decide(action, facts, now).decision)


def capability(name: str) -> CapabilityHandle:
    """Fetch a capability the host registered with `configure(capabilities={...})`; policy is asked each time.

    Args:
        name: Its registered name.

    Raises:
        CapabilityNotFound: Nothing of that name is registered.
        Blocked: The policy does not let this code have it.
    """
    active = current_active()
    if isinstance(active, Unavailable):
        raise active.refuse(name)
    if active is None or name not in active.capabilities:
        raise CapabilityNotFound(name)
    call = Call(CallPlan("capability", Options(name=name), None), active)
    refusal = drive(admit(call, waits=not on_event_loop()))
    if refusal is not None:
        raise refusal
    call.announce(lambda place: native_event("capability", name, place, outcome="ok"))
    drive(settle(call, completed=True))
    return active.capabilities[name]


def _asked(tool: str | Callable[..., Any], args: Mapping[str, object] | None) -> Call | None:
    name = tool if isinstance(tool, str) else getattr(tool, "__name__", "")
    active = current_active()
    if active is None:
        return None
    if isinstance(active, Unavailable):
        raise active.refuse(name)
    plans = find_plans(tool) if isinstance(tool, str) else (planned_tool(tool)[0],)
    if not plans:
        return Call(CallPlan("tool", Options(name=name), None), active, named=args or {}, registered=False)
    plan = plans[-1]
    named = plan.binder.with_defaults(args or {}) if plan.binder is not None else dict(args or {})
    return Call(plan, active, named=named)
