"""Decorated tools by name: how a resumed approval finds its function, and a policy the signatures it checks against."""

from __future__ import annotations

import threading
from dataclasses import replace

from otel_runtime.values.action import ToolSignature
from otel_runtime.wrap.plan import CallPlan

__all__ = ["find_plans", "known_plans", "known_signatures", "register"]

_lock = threading.Lock()
_plans: dict[str, tuple[CallPlan, ...]] = {}


def register(plan: CallPlan) -> None:
    """Remember a decorated tool; a module that is loaded again replaces its own."""
    with _lock:
        others = tuple(known for known in _plans.get(plan.name, ()) if known.target != plan.target)
        _plans[plan.name] = (*others, plan)


def find_plans(name: str) -> tuple[CallPlan, ...]:
    """Every decorated tool of that name."""
    return _plans.get(name, ())


def known_plans() -> tuple[CallPlan, ...]:
    """Every decorated tool, also those that share a name."""
    with _lock:
        return tuple(plan for known in _plans.values() for plan in known)


def known_signatures() -> dict[str, ToolSignature]:
    """Signatures of the decorated tools whose name is unambiguous."""
    with _lock:
        plans = [known[0] for known in _plans.values() if len(known) == 1]
    return {plan.name: _as_called(plan.signature, plan) for plan in plans if plan.kind == "tool" and plan.signature is not None}


def _as_called(signature: ToolSignature, plan: CallPlan) -> ToolSignature:
    """What a model and a policy's cases say: what the program fills in by itself may be left out."""
    opaque = plan.options.opaque
    if not opaque:
        return signature
    parameters = tuple(replace(item, required=False, nullable=True) if item.name in opaque else item for item in signature.parameters)
    return replace(signature, parameters=parameters)
