"""Makes a call's span and scope current for one step after another, at the price of four context-variable operations a step."""

from __future__ import annotations

from contextvars import ContextVar, Token
from typing import Any

from otel_runtime.telemetry.protocol import OpenSpan
from otel_runtime.wrap.scope import Scope, enter_scope, leave_scope

__all__ = ["Attachment", "Tokens", "leave_variable"]

Tokens = tuple[Token[Scope], object]


class Attachment:
    """Attaches and detaches one span and scope, always in one stretch around the function's own code.

    Args:
        span: The span.
        scope: The scope of the function's body.
    """

    __slots__ = ("_context", "_scope", "_span", "_variable")

    def __init__(self, span: OpenSpan, scope: Scope) -> None:
        self._span = span
        self._scope = scope
        # What the span made current, learned from the first step: later steps set the same value without asking the span.
        self._variable: ContextVar[Any] | None = None
        self._context: Any = None

    def enter(self) -> Tokens:
        """Make both current; the tokens are for `leave`."""
        scope = enter_scope(self._scope)
        if self._variable is not None:
            return scope, self._variable.set(self._context)
        token = self._span.enter()
        if isinstance(token, Token):
            self._variable, self._context = token.var, token.var.get()
        return scope, token

    def leave(self, tokens: Tokens) -> None:
        """Make current what was current before."""
        scope, token = tokens
        if self._variable is not None and isinstance(token, Token):
            leave_variable(self._variable, token)
        else:
            self._span.leave(token)
        leave_scope(scope)


def leave_variable(variable: ContextVar[Any], token: Token[Any]) -> None:
    """Reset a variable, unless another context finishes the step: its current value is none of ours."""
    try:
        variable.reset(token)
    except (ValueError, RuntimeError):
        return
