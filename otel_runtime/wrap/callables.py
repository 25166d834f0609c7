"""What a callable is, whatever wraps it: how its body runs, what it is called, what it takes."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any, Literal

__all__ = ["FunctionKind", "body_of", "callable_name", "function_kind", "refuses_wrong_calls", "signature_of"]

FunctionKind = Literal["sync", "async", "generator", "async-generator"]
# A partial of a partial flattens itself; deeper than this is a cycle somebody built.
_LAYERS = 16
# What a callable takes that does not say what it takes, such as `max`.
_ANYTHING = inspect.Signature(
    [inspect.Parameter("args", inspect.Parameter.VAR_POSITIONAL), inspect.Parameter("kwargs", inspect.Parameter.VAR_KEYWORD)]
)


def body_of(fn: Callable[..., Any]) -> Callable[..., Any]:
    """The function whose code runs when a partial, bound method or callable object is called; the callable itself when it has none."""
    for _ in range(_LAYERS):
        if isinstance(fn, functools.partial):
            fn = fn.func
        elif isinstance(fn, MethodType):
            fn = fn.__func__
        elif isinstance(fn, FunctionType | BuiltinFunctionType | type):
            return fn
        else:
            call = inspect.getattr_static(type(fn), "__call__", None)
            if not isinstance(call, FunctionType):
                return fn
            fn = call
    return fn


def function_kind(fn: Callable[..., Any]) -> FunctionKind:
    """How the callable's body runs."""
    body = body_of(fn)
    if inspect.isasyncgenfunction(body):
        return "async-generator"
    if inspect.iscoroutinefunction(fn) or inspect.iscoroutinefunction(body):
        return "async"
    return "generator" if inspect.isgeneratorfunction(body) else "sync"


def callable_name(fn: Callable[..., Any] | None) -> str:
    """Its own name; that of the function inside for a partial, of the class for an object."""
    while isinstance(fn, functools.partial):
        fn = fn.func
    name = getattr(fn, "__name__", None)
    if isinstance(name, str) and name:
        # `<lambda>` is no name that a rule could say.
        return name.strip("<>")
    return "anonymous" if fn is None else type(fn).__name__


def signature_of(fn: Callable[..., Any]) -> inspect.Signature:
    """Its signature; one that takes anything for a builtin that has none."""
    try:
        return inspect.signature(fn)
    except (ValueError, TypeError):
        return _ANYTHING


def refuses_wrong_calls(fn: Callable[..., Any] | None) -> bool:
    """True when Python itself refuses arguments that do not fit, before any code runs: the signature is that of the code."""
    if fn is None:
        return False
    body = body_of(fn)
    return isinstance(body, FunctionType) and not any(
        hasattr(layer, mark) for layer in (fn, body) for mark in ("__wrapped__", "__signature__")
    )
