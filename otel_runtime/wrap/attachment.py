"""Makes a call's span and scope current for one step after another, at the price of four context-variable operations a step."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import Token
from typing import Any

from otel_runtime.telemetry.protocol import OpenSpan
from otel_runtime.wrap.collecting import collection
from otel_runtime.wrap.scope import Scope, enter_scope, leave_scope

__all__ = ["Attachment", "Tokens"]

Tokens = tuple[Token[Scope], object]


class Attachment:
    """Attaches and detaches one span and scope, always in one stretch around the function's own code.

    Args:
        span: The span.
        scope: The scope of the function's body.
    """

    __slots__ = ("_context", "_reset", "_reset_scope", "_scope", "_set", "_set_scope", "_span")

    def __init__(self, span: OpenSpan, scope: Scope) -> None:
        self._span = span
        self._scope = scope
        # Learned from the first step: later steps set the same values without asking span and scope how.
        self._set: Callable[[Any], Token[Any]] | None = None
        self._reset: Callable[[Any], None]
        self._context: Any
        self._set_scope: Callable[[Scope], Token[Scope]]
        self._reset_scope: Callable[[Token[Scope]], None]

    def enter(self) -> Tokens:
        """Make both current; the tokens are for `leave`."""
        if collection.thread:
            collection.hold()
        attach = self._set
        return self._first() if attach is None else (self._set_scope(self._scope), attach(self._context))

    def leave(self, tokens: Tokens) -> None:
        """Make current what was current before, unless another context finishes the step: what is current there is none of ours."""
        scope, token = tokens
        if self._set is None:
            self._span.leave(token)
            leave_scope(scope)
            return
        try:
            self._reset(token)
            self._reset_scope(scope)
        except (ValueError, RuntimeError):
            leave_scope(scope)

    def _first(self) -> Tokens:
        scope, token = enter_scope(self._scope), self._span.enter()
        if isinstance(token, Token):
            variable = token.var
            self._context = variable.get()
            self._reset, self._set_scope, self._reset_scope = variable.reset, scope.var.set, scope.var.reset
            self._set = variable.set
        return scope, token
