"""An exception -> error.type, the exception event and the status text; redacted, bounded, recorded once per raise."""

from __future__ import annotations

import threading
import traceback
from collections import deque
from dataclasses import dataclass

from otel_runtime.errors import ApprovalPending, Blocked
from otel_runtime.telemetry import conventions as c
from otel_runtime.telemetry.losses import describe
from otel_runtime.telemetry.redaction import Redactor
from otel_runtime.telemetry.sanitize import name as clean_name
from otel_runtime.telemetry.sanitize import text

__all__ = ["Failures", "error_type", "suspends"]

_STACK_LIMIT = 8000
_STATUS_LIMIT = 256
_FRAMES = 50
_REMEMBERED = 256


def suspends(error: BaseException | None) -> bool:
    """True for the pause for a person, which is no failure."""
    return issubclass(type(error), ApprovalPending)


def error_type(error: BaseException | None, kind: str) -> str:
    """Low-cardinality value of `error.type`; `conventions.ERROR_TYPES` lists them."""
    if error is None:
        return "tool_error" if kind == "tool" else c.OTHER
    # Of its type: `isinstance` asks the exception for its `__class__`, which may raise.
    if issubclass(type(error), Blocked):
        return clean_name(error.error_type)  # type: ignore[attr-defined]  # a Blocked, as was just found
    if issubclass(type(error), TimeoutError):
        return "timeout"
    return _class_name(error)


def _class_name(error: BaseException) -> str:
    own = type(error)
    module = own.__module__ if isinstance(own.__module__, str) else ""
    return clean_name(own.__qualname__ if module in ("builtins", "") else f"{module}.{own.__qualname__}")


@dataclass(frozen=True, slots=True)
class _Raise:
    """Names one raise without keeping the exception, whose traceback would keep the user's frames alive."""

    trace_id: int
    identity: int
    type_name: str
    message: str


class Failures:
    """Describes exceptions and remembers which raise was already recorded, so that an outer span does not repeat it.

    Args:
        redactor: What masks secrets in messages and stack traces.
    """

    def __init__(self, redactor: Redactor) -> None:
        self._redactor = redactor
        self._recorded: deque[_Raise] = deque(maxlen=_REMEMBERED)
        # Re-entrant, because a stream's clean-up may end a span in the garbage collector.
        self._lock = threading.RLock()

    def status_text(self, error: BaseException) -> str:
        """Short text for the span's status."""
        return text(f"{type(error).__name__}: {self._redactor.mask(describe(error))}", _STATUS_LIMIT)

    def event(self, error: BaseException, trace_id: int) -> dict[str, str] | None:
        """Attributes of the exception event; None when an inner span of this trace has recorded this very raise."""
        message = describe(error)
        this = _Raise(trace_id, id(error), _class_name(error), message)
        with self._lock:
            if this in self._recorded:
                return None
            self._recorded.append(this)
        return {
            c.EXCEPTION_TYPE: this.type_name,
            c.EXCEPTION_MESSAGE: self._redactor.mask(message),
            c.EXCEPTION_STACKTRACE: self._stack(error),
        }

    def _stack(self, error: BaseException) -> str:
        try:
            lines = "".join(traceback.format_exception(error, limit=-_FRAMES))
        except Exception:  # noqa: BLE001 - foreign exceptions can break the formatting; the event is kept without a stack
            return ""
        # The end names the failing line; what is cut is the outer part.
        return text(self._redactor.mask(lines[-2 * _STACK_LIMIT :])[-_STACK_LIMIT:], _STACK_LIMIT)
