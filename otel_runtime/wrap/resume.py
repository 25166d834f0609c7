"""Go on with a call that a person has answered, in any process that has the function."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from otel_runtime.errors import OtelRuntimeError
from otel_runtime.values.approval import ApprovalRequest
from otel_runtime.values.trace import TraceRef
from otel_runtime.wrap import bodies
from otel_runtime.wrap.active import Active, Guard
from otel_runtime.wrap.admission import guarded_effects
from otel_runtime.wrap.approval import follow
from otel_runtime.wrap.binding import NO_RECEIVER
from otel_runtime.wrap.call import Call
from otel_runtime.wrap.effects import drive, drive_async
from otel_runtime.wrap.endings import give_up
from otel_runtime.wrap.plan import CallPlan
from otel_runtime.wrap.rebuild import rebuild_arguments
from otel_runtime.wrap.registry import find_plans
from otel_runtime.wrap.scope import RunState, Scope

__all__ = ["aresume", "resume"]

# Backends show one trace well while it is young; an older wait becomes a trace of its own with a link (telemetry.md, "Resumed approvals").
_SAME_TRACE_S = 3600.0


def resume(active: Active, request_id: str) -> Any:
    """Run the body of an approved request, once.

    Args:
        active: The running parts.
        request_id: As `ApprovalPending.request_id` gave it.

    Returns:
        What the function returns.

    Raises:
        Blocked: It may not run (denied, expired, used already, policy changed), or nobody has answered yet (`ApprovalPending`).
        OtelRuntimeError: The request or its function is not to be found here.
    """
    guard, request, plan = _found(active, request_id)
    if plan.function_kind != "sync":
        raise OtelRuntimeError(f"`{plan.name}` is asynchronous or a generator: use `await runtime.aresume(request_id)`")
    call = _call(active, plan, request)
    try:
        refusal = drive(guarded_effects(call, follow(call, guard, request, waits=False)))
    except BaseException:
        give_up(call)
        raise
    if refusal is not None:
        raise refusal
    return bodies.run_permitted(call, _function(plan))


async def aresume(active: Active, request_id: str) -> Any:
    """`resume` for asynchronous functions; synchronous ones run in place.

    Raises:
        Blocked: It may not run.
        OtelRuntimeError: The request or its function is not to be found here.
    """
    guard, request, plan = _found(active, request_id)
    if plan.function_kind not in ("sync", "async"):
        raise OtelRuntimeError(f"`{plan.name}` is a generator: iterate it again in the same run, it will find and use its approval")
    call = _call(active, plan, request)
    try:
        refusal = await drive_async(guarded_effects(call, follow(call, guard, request, waits=False)))
    except BaseException:
        give_up(call)
        raise
    if refusal is not None:
        raise refusal
    fn = _function(plan)
    return bodies.run_permitted(call, fn) if plan.function_kind == "sync" else await bodies.run_permitted_async(call, fn)


def _found(active: Active, request_id: str) -> tuple[Guard, ApprovalRequest, CallPlan]:
    if active.guard is None:
        raise OtelRuntimeError("no policy is configured, so there are no approvals to resume; pass policy=... to configure()")
    request = active.guard.approvals.get(request_id)
    if request is None:
        raise OtelRuntimeError(
            f"no approval request `{request_id}` in the state database; `otel-runtime approvals list --all` shows what is there"
        )
    return active.guard, request, _plan_for(request)


def _plan_for(request: ApprovalRequest) -> CallPlan:
    wanted = str(request.facts.get("function") or "")
    plans = [plan for plan in find_plans(request.capability) if plan.resumable and _same_function(plan.target, wanted)]
    if len(plans) == 1:
        return plans[0]
    raise OtelRuntimeError(
        f"the function `{wanted}` of tool `{request.capability}`, which approval {request.id} is for, is not to be found here; import its "
        "module, or, for methods, closures and `with` blocks, make the call again in the same run: it finds and uses its approval"
    )


def _same_function(target: str, wanted: str) -> bool:
    if target == wanted:
        return True
    # A script's functions live in `__main__` while it runs and under the script's name when it is imported.
    module, _, name = target.partition(":")
    wanted_module, _, wanted_name = wanted.partition(":")
    return name == wanted_name and "__main__" in (module, wanted_module)


def _function(plan: CallPlan) -> Callable[..., Any]:
    if plan.fn is None:
        raise OtelRuntimeError(f"`{plan.name}` is a `with` block: enter it again in the same run, it will find and use its approval")
    return plan.fn


def _call(active: Active, plan: CallPlan, request: ApprovalRequest) -> Call:
    arguments = rebuild_arguments(plan, request.input)
    args, kwargs = plan.binder.unbind(arguments, NO_RECEIVER) if plan.binder is not None else ((), arguments)
    return Call(plan, active, args, kwargs, scope=_scope(request), parent=_parent(active, request, active.clock()))


def _scope(request: ApprovalRequest) -> Scope:
    facts = request.facts
    roles, context, tenant, around = facts.get("roles"), facts.get("context"), facts.get("tenant"), facts.get("around")
    return Scope(
        session=request.session,
        user=request.user,
        roles=frozenset(roles) if isinstance(roles, list | tuple) else None,
        tenant=tenant if isinstance(tenant, str) else None,
        context=context if isinstance(context, Mapping) else {},
        agents=request.agents,
        run=RunState(request.run) if request.run is not None else None,
        call_id=request.call_id,
        around=tuple(around) if isinstance(around, list | tuple) else (),
    )


def _parent(active: Active, request: ApprovalRequest, now: datetime) -> TraceRef | None:
    if request.trace is None or active.resume_trace == "new":
        return None
    waited = (now - request.requested_at).total_seconds()
    same = active.resume_trace == "same" or waited < _SAME_TRACE_S
    return request.trace if same else None
