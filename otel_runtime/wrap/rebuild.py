"""From stored plain data back to the objects a function's annotations name."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Mapping
from typing import Any

from otel_runtime.errors import OtelRuntimeError
from otel_runtime.values.action import Unreadable
from otel_runtime.wrap.plan import CallPlan

__all__ = ["rebuild_arguments"]


def rebuild_arguments(plan: CallPlan, stored: Mapping[str, object]) -> dict[str, object]:
    """Objects for a function from the snapshot an approval keeps.

    Args:
        plan: Of the function.
        stored: Snapshot by name.

    Returns:
        Values by name, converted where the annotation names a type that plain data is not.

    Raises:
        OtelRuntimeError: A value cannot be rebuilt: it was opaque, or does not fit its annotation any more.
    """
    hints = _hints(plan)
    return {name: _rebuild(plan.name, name, value, hints.get(name, Any)) for name, value in stored.items()}


def _hints(plan: CallPlan) -> dict[str, Any]:
    if plan.fn is None:
        return {}
    try:
        return typing.get_type_hints(inspect.unwrap(plan.fn))
    except Exception:  # noqa: BLE001  # annotations that cannot be evaluated name no types; the digest still decides
        return {}


def _rebuild(tool: str, name: str, value: object, hint: Any) -> object:
    if isinstance(value, Unreadable):
        raise OtelRuntimeError(
            f"`{tool}` cannot be resumed here: argument `{name}` is opaque ({value.type_name}) and was never stored; "
            "call the tool again in the same run, it will find and use its approval"
        )
    if hint in (Any, str, int, float, bool, bytes, dict, list, inspect.Parameter.empty) or value is None:
        return value
    from pydantic import TypeAdapter, ValidationError  # only resumed and edited calls pay for it

    try:
        return TypeAdapter(hint, config=None).validate_python(value)
    except ValidationError as error:
        raise OtelRuntimeError(f"`{tool}` cannot be resumed: argument `{name}` does not fit its annotation any more: {error}") from None
    except Exception:  # noqa: BLE001  # a type pydantic has no schema for: only the plain data itself can fit
        return value
