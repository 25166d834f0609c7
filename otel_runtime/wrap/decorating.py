"""From a callable of any kind to one that behaves the same and is traced and guarded."""

from __future__ import annotations

import copy
import functools
import inspect
import types
from collections.abc import Awaitable, Callable
from types import FunctionType, MethodType
from typing import Any, TypeVar

from otel_runtime.values.action import Kind
from otel_runtime.wrap import bodies
from otel_runtime.wrap.callables import body_of
from otel_runtime.wrap.construction import decorate_class
from otel_runtime.wrap.plan import PLAN_ATTRIBUTE, CallPlan, Options, plan_of
from otel_runtime.wrap.registry import register
from otel_runtime.wrap.streams import OFF, Life, async_stepped
from otel_runtime.wrap.twice import inner_plan, merged_options

__all__ = ["decorate"]

F = TypeVar("F", bound=Callable[..., Any])
_DISPATCHING = functools.singledispatchmethod


def decorate(kind: Kind, options: Options, fn: F) -> F:
    """The callable, wrapped; it keeps its kind, signature and names.

    Args:
        kind: Which operation.
        options: What the decorator was told.
        fn: A function, method, property, class, partial or any other callable.

    Raises:
        TypeError: It is nothing that can be called, or was decorated before with other options.
    """
    descriptor = _descriptor(kind, options, fn)
    if descriptor is not None:
        return descriptor  # type: ignore[no-any-return]  # of the same type
    if not callable(fn):
        below = "; put the decorator below it, and on each function that is registered" if isinstance(fn, _DISPATCHING) else ""
        raise TypeError(f"expected a function to decorate, got `{type(fn).__name__}`{below}")
    inner = inner_plan(kind, fn)
    if inner is not None:
        merged = merged_options(inner, options)
        if plan_of(fn) is None:
            # Another decorator stands between: ours is inside it already, and one call is one span.
            if merged != inner.options:
                raise TypeError(f"`{inner.name}` is decorated twice with another decorator between; give all options to one of the two")
            return fn
        # The undecorated function, as a method again when this one is bound.
        undecorated: Any = inner.fn.__get__(fn.__self__) if isinstance(fn, MethodType) and inner.fn is not None else inner.fn
        return decorate(kind, merged, undecorated)  # type: ignore[no-any-return]  # the same function
    return _wrap(kind, options, fn)  # type: ignore[no-any-return]  # the wrapper keeps the signature


def wrapper_of(plan: CallPlan, fn: Callable[..., Any]) -> Callable[..., Any]:
    """A function that runs the callable under its plan; of the same kind (`async def`, generator, ...)."""
    wrapper = _WRAPPERS[plan.function_kind](plan, fn)
    plan.code = wrapper.__code__
    setattr(wrapper, PLAN_ATTRIBUTE, plan)
    return wrapper  # type: ignore[no-any-return]


def _wrap(kind: Kind, options: Options, fn: Any) -> Any:
    wrapped: Any
    if isinstance(fn, type):
        plan, wrapped = decorate_class(kind, options, fn, wrapper_of)
    else:
        plan = CallPlan(kind, options, fn)
        wrapped = wrapper_of(plan, fn)
        if type(fn) is not FunctionType:
            from otel_runtime.wrap.objects import decorated_object  # wrapt takes longer to import than the rest of the package

            wrapped = decorated_object(plan, fn, wrapped)
    if kind == "tool":
        register(plan)
    return wrapped


def _descriptor(kind: Kind, options: Options, fn: Any) -> Any:
    """What stays outermost, as it was written, with the function inside decorated; None for everything else."""
    if isinstance(fn, classmethod | staticmethod):
        return type(fn)(decorate(kind, options, fn.__func__))
    if isinstance(fn, property):
        if fn.fget is None:
            raise TypeError("expected a property with a getter to decorate")
        return _property(fn, decorate(kind, options, fn.fget))
    if isinstance(fn, functools.cached_property):
        # A copy keeps the name that its class gave it, and a constructor of the application's own may take other arguments.
        made = copy.copy(fn)
        made.func = decorate(kind, options, fn.func)
        return made
    if isinstance(fn, functools.partialmethod):
        return type(fn)(decorate(kind, options, fn.func), *fn.args, **fn.keywords)
    return None


def _property(fn: Any, getter: Callable[..., Any]) -> Any:
    """The property with another getter; one of the application's own class keeps what its constructor, which takes what it likes, gave it."""
    if type(fn) is property or not hasattr(fn, "__dict__"):
        return fn.getter(getter)
    made: Any = property.__new__(type(fn))
    property.__init__(made, getter, fn.fset, fn.fdel, fn.__doc__)
    for name, value in vars(fn).items():
        # It may keep the function under a name of its own as well.
        made.__dict__[name] = getter if value is fn.fget else value
    if hasattr(fn, "__name__"):
        # Since 3.13 a property keeps that elsewhere.
        made.__name__ = fn.__name__
    return made


def _sync(plan: CallPlan, fn: Callable[..., Any]) -> Any:
    @functools.wraps(fn)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        call = bodies.start_call(plan, args, kwargs)
        return fn(*args, **kwargs) if call is None else bodies.run_sync(call, fn)

    return wrapper


def _async(plan: CallPlan, fn: Callable[..., Any]) -> Any:
    @functools.wraps(fn)
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        call = bodies.start_call(plan, args, kwargs)
        return await (fn(*args, **kwargs) if call is None else bodies.run_async(call, fn))

    return wrapper


def _generator(plan: CallPlan, fn: Callable[..., Any]) -> Any:
    @functools.wraps(fn)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        call = bodies.start_call(plan, args, kwargs)
        return (yield from (fn(*args, **kwargs) if call is None else bodies.begin_generator(call, fn)))

    code = getattr(body_of(fn), "__code__", None)
    if code is not None and code.co_flags & inspect.CO_ITERABLE_COROUTINE:
        return types.coroutine(wrapper)
    return wrapper


def _async_generator(plan: CallPlan, fn: Callable[..., Any]) -> Any:
    def begin(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Awaitable[tuple[Life, Any]]:
        call = bodies.start_call(plan, args, kwargs)
        return _passing(fn(*args, **kwargs)) if call is None else bodies.begin_async_generator(call, fn)

    return functools.wraps(fn)(async_stepped(begin))


async def _passing(source: Any) -> tuple[Life, Any]:
    return OFF, source


_WRAPPERS: dict[str, Callable[[CallPlan, Callable[..., Any]], Any]] = {
    "sync": _sync,
    "async": _async,
    "generator": _generator,
    "async-generator": _async_generator,
}
