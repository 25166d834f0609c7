"""Callables that are no plain functions: partials, bound methods, builtins, cached functions, objects with `__call__`.

The proxy is the object for everybody who looks at it (`isinstance`, attributes, equality, `inspect`); only a call goes through the plan.
Loaded only when such a callable is decorated.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable
from dataclasses import replace
from operator import attrgetter
from types import FunctionType, MethodType
from typing import Any

import wrapt

from otel_runtime.values.action import Kind
from otel_runtime.wrap.plan import CallPlan, Options, plan_of

__all__ = ["decorated_object"]

# wrapt 2 has a base without `__iter__`; before it every proxy looks iterable.
_Base: Any = getattr(wrapt, "BaseObjectProxy", wrapt.ObjectProxy)


def decorated_object(plan: CallPlan, wrapped: Callable[..., Any], run: Callable[..., Any]) -> Any:
    """The proxy of a callable.

    Args:
        plan: Of the callable.
        wrapped: The callable.
        run: The function that runs it under the plan.
    """
    plan.code = None
    return _Callable(plan, wrapped, run)


class _Callable(_Base):  # type: ignore[misc]  # wrapt's classes are untyped
    def __init__(self, plan: CallPlan, wrapped: Callable[..., Any], run: Callable[..., Any]) -> None:
        super().__init__(wrapped)
        self._self_plan = plan
        self._self_run = run

    @property
    def __call__(self) -> Callable[..., Any]:
        # The function itself and no method around it, so that whoever inspects `obj.__call__` sees its kind: `async def`, generator, ...
        run: Callable[..., Any] = self._self_run
        return run

    @property
    def __otel_runtime_plan__(self) -> CallPlan:
        plan: CallPlan = self._self_plan
        return plan

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        bind = getattr(type(self.__wrapped__), "__get__", None)
        if bind is None:
            return self
        bound = bind(self.__wrapped__, instance, owner)
        # What binds as a method, such as a function under `functools.lru_cache`, binds with its plan.
        if isinstance(bound, MethodType) and instance is not None:
            return self if bound is self.__wrapped__ else MethodType(self, instance)
        if bound is self.__wrapped__ or isinstance(bound, MethodType):
            return self
        # A descriptor of the application's own, or a builtin one, gives what it gives; what is called of that is called under the plan.
        return _bound(self._self_plan, bound) if callable(bound) and not isinstance(bound, type) else bound

    def __set_name__(self, owner: type, name: str) -> None:
        named = getattr(type(self.__wrapped__), "__set_name__", None)
        if named is not None:
            named(self.__wrapped__, owner, name)

    def __repr__(self) -> str:
        return repr(self.__wrapped__)

    def __copy__(self) -> Any:
        return _decorated(self._self_plan.kind, self._self_plan.options, copy.copy(self.__wrapped__))

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        return _decorated(self._self_plan.kind, self._self_plan.options, copy.deepcopy(self.__wrapped__, memo))

    def __reduce_ex__(self, protocol: Any) -> Any:
        found = self.__wrapped__.__reduce_ex__(protocol)
        if isinstance(found, str) and _named(self.__wrapped__.__module__, found) is self:
            return found
        return _decorated, (self._self_plan.kind, self._self_plan.options, self.__wrapped__)


def _bound(plan: CallPlan, bound: Callable[..., Any]) -> Any:
    """What a decorated descriptor gave, under the name of the descriptor; made at each look, and so not among the tools that have a name."""
    from otel_runtime.wrap.decorating import wrapper_of  # as below

    if plan_of(bound) is not None:
        return bound
    made = CallPlan(plan.kind, replace(plan.options, name=plan.name), bound)
    wrapper = wrapper_of(made, bound)
    return wrapper if type(bound) is FunctionType else decorated_object(made, bound, wrapper)


def _named(module: str, name: str) -> object:
    """What a pickle that says only this name would find."""
    try:
        return attrgetter(name)(sys.modules[module])
    except (KeyError, AttributeError):
        return None


def _decorated(kind: Kind, options: Options, fn: Any) -> Any:
    from otel_runtime.wrap.decorating import decorate  # which imports this module when it meets such a callable

    return decorate(kind, options, fn)
