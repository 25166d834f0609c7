"""What one span tells of a call: content, who asked, times and figures."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Final

from otel_runtime.policy.recorded import CONTEXT_CUT, NOT_CAPTURED, Caller, read_captured
from otel_runtime.telemetry import conventions as c
from otel_runtime.telemetry.span_view import SpanView
from otel_runtime.values.action import Unreadable

__all__ = ["arguments", "attempt", "caller", "content", "decimal", "moment", "place", "session", "texts", "whole_number"]

# A call that was tried as often as it may: which time it was is not said.
_LAST_ATTEMPT: Final = 1_000


def content(span: SpanView, key: str) -> object:
    """Captured content, on the span or in its event."""
    if key in span.attributes:
        return span.attributes[key]
    return next((event.attributes[key] for event in span.events if event.name == c.EVENT_CONTENT and key in event.attributes), None)


def arguments(given: object) -> tuple[Mapping[str, object] | None, frozenset[str]]:
    """Arguments by name, and why they are not as they were; None where there are none to read."""
    value, gaps = read_captured(given)
    return (value, gaps) if isinstance(value, dict) else (None, gaps or frozenset({NOT_CAPTURED}))


def caller(given: object) -> tuple[Caller | None, tuple[str, ...] | None, frozenset[str]]:
    """Who asked, the chain of agents, and what is lost of the context; None where it was not captured."""
    value, gaps = read_captured(given)
    if not isinstance(value, dict) or not _is_whole(value):
        return None, None, frozenset()
    roles, context = value.get("roles"), value.get("context")
    found = Caller(
        user=_text(value.get("user")),
        roles=None if roles is None else frozenset(map(str, roles)),
        tenant=_text(value.get("tenant")),
        tags=frozenset(map(str, value.get("tags") or ())),
        context=context if isinstance(context, dict) else {},
        around=tuple(map(str, value.get("around") or ())),
    )
    # Keys that are lost as well could be the ones that are asked for.
    whole = isinstance(context, dict) and not gaps
    return found if isinstance(context, dict) else None, texts(value.get("agents")), frozenset() if whole else frozenset({CONTEXT_CUT})


def _is_whole(value: Mapping[str, object]) -> bool:
    """Whether nothing of who asked is cut, and lists are lists: others may have written the trace."""
    named = all(not isinstance(value.get(name), Unreadable) for name in ("user", "tenant"))
    return named and all(isinstance(value.get(name), list | None) for name in ("roles", "agents", "tags", "around"))


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def texts(value: object) -> tuple[str, ...]:
    """A list attribute."""
    return tuple(map(str, value)) if isinstance(value, list | tuple) else ()


def session(span: SpanView) -> str | None:
    """The session id."""
    found = span.attributes.get(c.CONVERSATION)
    return None if found is None else str(found)


def attempt(attributes: Mapping[str, object]) -> int:
    """Which attempt a decision was made on."""
    if attributes.get(c.DECISION_CODE) == "policy.exhausted" and c.RETRY_ATTEMPT not in attributes:
        return _LAST_ATTEMPT
    return whole_number(attributes.get(c.RETRY_ATTEMPT)) or 1


def whole_number(value: object) -> int | None:
    """An integer attribute."""
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def decimal(value: object) -> Decimal | None:
    """An exact decimal; None for what is no amount."""
    try:
        found = None if value is None else Decimal(str(value))
    except InvalidOperation:
        return None
    return found if found is not None and found.is_finite() else None


def moment(nanoseconds: int) -> datetime:
    """A span's time."""
    return datetime.fromtimestamp(nanoseconds / 1e9, UTC)


def place(span: SpanView) -> str:
    """Trace and span, for people."""
    return f"{span.trace_id}:{span.span_id}"
