"""Everything about a decorated function that is decided once, when it is decorated."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import BuiltinFunctionType, CodeType, FunctionType
from typing import Any, Literal

from otel_runtime.telemetry.protocol import AttributeValue
from otel_runtime.values.action import Kind, ToolSignature
from otel_runtime.wrap.binding import Binder, has_receiver
from otel_runtime.wrap.callables import FunctionKind, callable_name, function_kind, refuses_wrong_calls, signature_of
from otel_runtime.wrap.signatures import tool_signature

__all__ = ["PLAN_ATTRIBUTE", "CallPlan", "Options", "plan_of"]

PLAN_ATTRIBUTE = "__otel_runtime_plan__"


@dataclass(frozen=True, slots=True)
class Options:
    """What a decorator or context manager was told.

    Args:
        name: Name to register; the function's own when None.
        tags: Words rules can match.
        opaque: Parameters that enter decisions by type name only.
        guard: `required` refuses to run without a policy; `policy` follows the policy when there is one.
        retry: True waits and tries again when the policy or the tool says retryable-failure.
        on_refusal: Turns a refusal into a value of the function's return type; None raises it.
        session: Name of the argument that is the session id.
        user: Name of the argument that is the acting person.
        model: Requested model; for functions without an argument of the name in `model_from`.
        model_from: Name of the argument that is the requested model.
        provider: Model provider in the conventions' spelling.
        capture_input: False keeps arguments out of spans even when content is captured.
        capture_output: False keeps results out.
        attributes: Attributes for every span.
    """

    name: str | None = None
    tags: frozenset[str] = frozenset()
    opaque: frozenset[str] = frozenset()
    guard: Literal["policy", "required"] = "policy"
    retry: bool = False
    on_refusal: Callable[[Any], Any] | None = None
    session: str | None = None
    user: str | None = None
    model: str | None = None
    model_from: str = "model"
    provider: str | None = None
    capture_input: bool = True
    capture_output: bool = True
    attributes: Mapping[str, AttributeValue] = field(default_factory=dict)


class CallPlan:
    """The plan of one decorated function, or of one `with` block.

    Args:
        kind: Which operation.
        options: What the decorator was told.
        fn: The function; None for a `with` block.
    """

    __slots__ = ("_signature", "adopts", "binder", "code", "fn", "function_kind", "kind", "name", "options", "receiver", "simple", "target")

    def __init__(self, kind: Kind, options: Options, fn: Callable[..., Any] | None) -> None:
        self.kind: Kind = kind
        self.options: Options = options
        self.fn: Callable[..., Any] | None = fn
        self.name: str = options.name or callable_name(fn)
        self._signature: ToolSignature | None = None
        # True when session or user of a call are found in its arguments.
        self.adopts: bool = options.session is not None or options.user is not None
        self.function_kind: FunctionKind = "sync" if fn is None else function_kind(fn)
        self.binder: Binder | None = None
        self.receiver: bool = False
        self.target: str = f"{getattr(fn, '__module__', '')}:{getattr(fn, '__qualname__', '')}"
        # Only for plain functions does a call with wrong arguments fail before any of their code runs.
        self.simple: bool = refuses_wrong_calls(fn)
        # Code of the wrapper made by this plan: a decorator of somebody else's copies our attribute onto its own function.
        self.code: CodeType | None = None
        if fn is not None:
            signature = signature_of(fn)
            self.receiver = has_receiver(fn, signature)
            self.binder = Binder(signature, receiver=self.receiver)
            _check_names(self.name, options, signature)

    @property
    def signature(self) -> ToolSignature | None:
        """Declared parameters; hints are evaluated at the first use, when every name they mention exists."""
        if self._signature is None and self.fn is not None and self.binder is not None:
            self._signature = tool_signature(self.fn, self.binder.signature, skip_first=self.receiver)
        return self._signature

    @property
    def resumable(self) -> bool:
        """True when another process can call the function again by itself: neither a method, nor a closure, nor an object."""
        return isinstance(self.fn, FunctionType | BuiltinFunctionType) and not self.receiver and "<locals>" not in self.target


def plan_of(fn: object) -> CallPlan | None:
    """The plan of a decorated function; None when it is not decorated, or when another decorator stands above ours."""
    plan = getattr(fn, PLAN_ATTRIBUTE, None)
    if not isinstance(plan, CallPlan):
        return None
    return plan if plan.code is None or getattr(getattr(fn, "__func__", fn), "__code__", None) is plan.code else None


def _check_names(name: str, options: Options, signature: inspect.Signature) -> None:
    for what, parameter in (("session", options.session), ("user", options.user), *(("opaque", item) for item in sorted(options.opaque))):
        if parameter is not None and parameter not in signature.parameters:
            known = ", ".join(f"`{known}`" for known in signature.parameters) or "none"
            raise TypeError(f"`{name}`: {what}=`{parameter}` names no parameter; the function has {known}")
