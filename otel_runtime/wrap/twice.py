"""Decorated twice is one call: the options of both decorators together, or a clear refusal where they contradict each other."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

from otel_runtime.values.action import Kind
from otel_runtime.wrap.plan import PLAN_ATTRIBUTE, CallPlan, Options

__all__ = ["inner_plan", "merged_options"]

_UNTOLD = Options()
_UNITED = ("tags", "opaque")


def inner_plan(kind: Kind, fn: Callable[..., Any]) -> CallPlan | None:
    """The plan of the same kind that a callable carries already, itself or inside; None when there is none."""
    while isinstance(fn, functools.partial):
        fn = fn.func
    plan = getattr(fn, PLAN_ATTRIBUTE, None)
    return plan if isinstance(plan, CallPlan) and plan.kind == kind else None


def merged_options(inner: CallPlan, outer: Options) -> Options:
    """What both decorators said.

    Args:
        inner: Plan of the decorator that came first.
        outer: Options of the second.

    Raises:
        TypeError: They say different things.
    """
    merged: dict[str, Any] = {}
    for field in dataclasses.fields(Options):
        ours, theirs, untold = (getattr(options, field.name) for options in (inner.options, outer, _UNTOLD))
        if field.name in _UNITED:
            merged[field.name] = ours | theirs
        elif field.name == "attributes":
            merged[field.name] = {**theirs, **ours}
        elif theirs in (untold, ours):
            merged[field.name] = ours
        elif ours == untold:
            merged[field.name] = theirs
        else:
            raise TypeError(
                f"`{inner.name}` is decorated twice, with {field.name}=`{ours}` and {field.name}=`{theirs}`; keep one of the two"
            )
    return Options(**merged)
