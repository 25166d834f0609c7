"""Decorated classes: the class stays the very same object, so that isinstance, subclasses and pickles keep working; making one is the call."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import replace
from types import FunctionType
from typing import Any

from otel_runtime.values.action import Kind
from otel_runtime.wrap.plan import CallPlan, Options

__all__ = ["decorate_class"]


def decorate_class(
    kind: Kind, options: Options, cls: type[Any], wrapper_of: Callable[[CallPlan, Callable[..., Any]], Callable[..., Any]]
) -> tuple[CallPlan, type[Any]]:
    """The class, whose first own code at construction (`__new__` when it has one, else `__init__`) runs under a plan.

    Args:
        kind: Which operation.
        options: What the decorator was told.
        cls: The class.
        wrapper_of: Makes the function that runs another one under a plan.

    Raises:
        TypeError: Its construction cannot be changed, or a refusal is to become a value, which no constructor can return.
    """
    if options.on_refusal is not None:
        raise TypeError(
            f"`{cls.__name__}`: a constructor cannot return the value of on_refusal=; decorate a function that makes the object"
        )
    name = "__new__" if isinstance(cls.__new__, FunctionType) else "__init__"
    own = cls.__dict__.get(name)
    function = getattr(own, "__func__", own)
    if not isinstance(function, FunctionType):
        function = _inherited_new(cls) if name == "__new__" else _inherited_init(cls)
    plan = CallPlan(kind, replace(options, name=options.name or cls.__name__), function)
    wrapper: Any = wrapper_of(plan, function)
    if own is None and name == "__init__" and cls.__init__ is vars(object)["__init__"]:
        # Whoever asks is told what the class says by itself; beside another base class it takes what that one takes.
        wrapper.__signature__ = inspect.Signature([inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)])
    try:
        setattr(cls, name, staticmethod(wrapper) if name == "__new__" else wrapper)
    except TypeError as error:
        raise TypeError(f"`{cls.__name__}` cannot be decorated: {error}; decorate a function that makes the object") from None
    return plan, cls


def _inherited_new(owner: type[Any]) -> Any:
    def __new__(cls: type[Any], /, *args: Any, **kwargs: Any) -> Any:  # noqa: N807  # it becomes the method of that name
        return super(owner, cls).__new__(cls, *args, **kwargs)

    return _like(__new__, owner.__new__, owner)


def _inherited_init(owner: type[Any]) -> Any:
    inherited: Any = owner.__init__

    def __init__(self: Any, /, *args: Any, **kwargs: Any) -> None:  # noqa: N807  # as above
        made_of: Any = type(self)
        following: Any = super(owner, self).__init__
        if getattr(following, "__objclass__", None) is not object:
            following(*args, **kwargs)
        elif (args or kwargs) and made_of.__new__ is object.__new__:
            # What Python says of a class that has neither method; with one of ours in place it would speak of `object`.
            raise TypeError(f"{made_of.__name__}() takes no arguments")

    if inherited is not vars(object)["__init__"]:
        return _like(__init__, inherited, owner)
    __init__.__module__, __init__.__qualname__ = owner.__module__, f"{owner.__qualname__}.__init__"
    return __init__


def _like(made: Any, inherited: Any, cls: type[Any]) -> Any:
    functools.update_wrapper(made, inherited)
    made.__module__, made.__qualname__ = cls.__module__, f"{cls.__qualname__}.{made.__name__}"
    return made
