"""The guarded call for one's own tool loop: arguments come from a model, by name."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import nullcontext
from typing import Any, TypeVar, overload

from otel_runtime.errors import Blocked, PolicyDenied
from otel_runtime.wrap import bodies
from otel_runtime.wrap.active import Active, current_active, refused_by
from otel_runtime.wrap.call import Call
from otel_runtime.wrap.callables import callable_name
from otel_runtime.wrap.plan import CallPlan, Options, plan_of
from otel_runtime.wrap.registry import find_plans
from otel_runtime.wrap.scope import call as within_call
from otel_runtime.wrap.scope import current_scope

__all__ = ["arun_tool", "planned_tool", "run_tool"]

T = TypeVar("T")
Tool = Callable[..., Any] | str


@overload
def run_tool(tool: Callable[..., T], args: Mapping[str, object], *, call_id: str | None = None) -> T: ...
@overload
def run_tool(tool: str, args: Mapping[str, object], *, call_id: str | None = None) -> Any: ...
def run_tool(tool: Tool, args: Mapping[str, object], *, call_id: str | None = None) -> Any:
    """Call a tool as a model asked for it: decided, traced, and only then run.

    Args:
        tool: A decorated or plain function, or the name of a decorated one.
        args: Arguments by name, as the model gave them; what does not fit the signature is denied by the policy's catalogue.
        call_id: The provider's tool-call id.

    Returns:
        What the function returns.

    Raises:
        Blocked: It was not allowed to run. `error.as_tool_result()` is what to hand the model.
        TypeError: The function is asynchronous: use `arun_tool`.
    """
    if isinstance(tool, type) and _decides_itself(tool):
        return _made(tool, args, call_id)
    plan, fn = planned_tool(tool)
    if plan.function_kind in ("async", "async-generator"):
        raise TypeError(f"`{plan.name}` is asynchronous: use `await rt.arun_tool(...)`")
    call = _call(plan, args, call_id)
    if call is None:
        return fn(**args)
    return bodies.run_sync(call, fn) if plan.function_kind == "sync" else bodies.run_generator(call, fn)


@overload
async def arun_tool(tool: Callable[..., Awaitable[T]], args: Mapping[str, object], *, call_id: str | None = None) -> T: ...
@overload
async def arun_tool(tool: Callable[..., T], args: Mapping[str, object], *, call_id: str | None = None) -> T: ...
@overload
async def arun_tool(tool: str, args: Mapping[str, object], *, call_id: str | None = None) -> Any: ...
async def arun_tool(tool: Tool, args: Mapping[str, object], *, call_id: str | None = None) -> Any:
    """`run_tool` for asynchronous functions; synchronous ones run in place, as a direct call would.

    Raises:
        Blocked: It was not allowed to run.
    """
    if isinstance(tool, type) and _decides_itself(tool):
        return _made(tool, args, call_id)
    plan, fn = planned_tool(tool)
    call = _call(plan, args, call_id)
    if plan.function_kind == "async":
        return await (fn(**args) if call is None else bodies.run_async(call, fn))
    if call is None:
        return fn(**args)
    if plan.function_kind == "async-generator":
        return bodies.run_async_generator(call, fn)
    if plan.function_kind == "generator":
        return bodies.run_generator(call, fn)
    return await bodies.run_async(call, _as_async(fn))


def _as_async(fn: Callable[..., Any]) -> Callable[..., Awaitable[Any]]:
    async def run(*args: Any, **kwargs: Any) -> Any:
        return fn(*args, **kwargs)

    return run


def _decides_itself(tool: type) -> bool:
    """True for a decorated class: making one is the call already."""
    return any(plan_of(getattr(tool, name)) is not None for name in ("__new__", "__init__"))


def _made(tool: type, args: Mapping[str, object], call_id: str | None) -> Any:
    with nullcontext() if call_id is None else within_call(id=call_id):
        return tool(**args)


def planned_tool(tool: Tool) -> tuple[CallPlan, Callable[..., Any]]:
    """The plan and the undecorated function: the call's span and decision are made here, once."""
    if isinstance(tool, str):
        plans = find_plans(tool)
        if len(plans) != 1 or plans[0].fn is None:
            raise _no_such_tool(tool, len(plans))
        if plans[0].receiver:
            raise TypeError(
                f"`{tool}` is a method or a class, and its name does not say of which object; pass the bound method or the class itself"
            )
        return plans[0], plans[0].fn
    plan = plan_of(tool)
    if plan is None:
        if not callable(tool):
            raise TypeError(f"expected a function or the name of a decorated one, got `{type(tool).__name__}`")
        return CallPlan("tool", Options(name=callable_name(tool)), tool), tool
    if plan.receiver and (owner := getattr(tool, "__self__", None)) is not None and plan.fn is not None:
        # A bound method: the plan is of the function, the call is of the method.
        bound = plan.fn.__get__(owner)
        return CallPlan(plan.kind, plan.options if plan.options.name else _named(plan), bound), bound
    return plan, plan.fn or tool


def _named(plan: CallPlan) -> Options:
    options = {field: getattr(plan.options, field) for field in plan.options.__slots__}
    return Options(**{**options, "name": plan.name})


def _call(plan: CallPlan, args: Mapping[str, object], call_id: str | None) -> Call | None:
    active = current_active()
    if active is None and plan.options.guard != "required":
        return None
    if not isinstance(active, Active):
        raise refused_by(active, plan.name)
    scope = current_scope() if call_id is None else current_scope().for_call(call_id)
    named = plan.binder.with_defaults(args) if plan.binder is not None else args
    return Call(plan, active, (), dict(args), scope=scope, named=named)


def _no_such_tool(name: str, found: int) -> Blocked:
    reason = "no tool of that name exists" if not found else "several tools have that name; pass the function itself"
    return PolicyDenied(f"`{name}` was denied: {reason}", tool=name, reason=reason)
