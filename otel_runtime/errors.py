"""The error tree: every error pickles and keeps its facts as attributes.

Lowest layer of the house. Two families:

- `ConfigError` and its neighbours say that something a person wrote cannot be used; they carry `Fault`s with positions.
- `Blocked` and its children say that a guarded call did not run, and why. `as_tool_result()` is what to hand the model.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal, Self

__all__ = [
    "ApprovalDenied",
    "ApprovalExpired",
    "ApprovalPending",
    "ArgumentsChanged",
    "Blocked",
    "CapabilityNotFound",
    "ConfigError",
    "Fault",
    "OtelRuntimeError",
    "PolicyDenied",
    "PolicyUnavailable",
    "ReservedKind",
    "RetryableFailure",
    "RuntimeStateError",
    "StoreError",
]

# Most of a line that is shown under a fault, in characters, and most faults that one message spells out.
_WIDTH: Final = 400
_SHOWN: Final = 1000


@dataclass(frozen=True, slots=True)
class Fault:
    """One mistake in a file, a variable or an argument, with its place and how to mend it.

    Args:
        code: Stable code such as `P014`; letters name the document kind (P policy, S settings, Y YAML syntax).
        message: Lower-case sentence; user input in backticks; expected, got, and how to mend it.
        source: File path, environment variable or argument name.
        line: Line in the source, starts at 1; 0 when the source has no lines.
        column: Column in the line, starts at 1; 0 when the source has no lines.
        text: The line itself, shown above a caret; empty when there is none.
        severity: `error` refuses the document, `warning` does not.
    """

    code: str
    message: str
    source: str
    line: int = 0
    column: int = 0
    text: str = ""
    severity: Literal["error", "warning"] = "error"

    @property
    def place(self) -> str:
        """`file:line:column`, or the bare source when it has no lines."""
        return f"{self.source}:{self.line}:{self.column}" if self.line else self.source

    def __str__(self) -> str:
        # What a message quotes was written by others, and may hold what clears or reorders the reader's terminal.
        head = _printable(f"{self.place}: {self.severity}[{self.code}]: {self.message}")
        if not self.text:
            return head
        text, at = self.text, max(self.column - 1, 0)
        if len(text) > _WIDTH:
            # A line of a megabyte, shown for each of its faults, would fill the memory.
            start = max(0, min(at - _WIDTH // 2, len(text) - _WIDTH))
            text, at = text[start : start + _WIDTH], at - start
        # Tabs stay tabs in front of the caret, so that it points at the right place in a terminal.
        lead = "".join("\t" if char == "\t" else " " for char in text[:at])
        return f"{head}\n    {text}\n    {lead}^"


def _printable(text: str) -> str:
    return text if text.isprintable() else "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


class OtelRuntimeError(Exception):
    """Base of every error this library raises on purpose."""

    def __reduce__(self) -> tuple[object, ...]:
        return (_restore, (type(self), self.args, dict(self.__dict__)))


def _restore(kind: type[OtelRuntimeError], args: tuple[object, ...], facts: dict[str, object]) -> OtelRuntimeError:
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(facts)
    return error


class ConfigError(OtelRuntimeError):
    """Something that was configured cannot be used: a policy, a settings file, a variable, an argument.

    Attributes:
        faults: Every mistake found, in the order of the document.
    """

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.faults: tuple[Fault, ...] = tuple(faults)
        shown = [str(fault) for fault in self.faults[:_SHOWN]]
        more = [f"... and {len(self.faults) - _SHOWN} more"] if len(self.faults) > _SHOWN else []
        super().__init__("\n".join([*shown, *more]))

    @classmethod
    def of(cls, code: str, message: str, source: str) -> Self:
        """One fault that has no line."""
        return cls([Fault(code=code, message=message, source=source)])


class StoreError(OtelRuntimeError):
    """The state database could not be opened, read or written; nothing guarded runs because of it.

    Attributes:
        path: The database's file or address, without credentials.
    """

    def __init__(self, message: str, *, path: str = "") -> None:
        self.path = path
        super().__init__(message)


class RuntimeStateError(OtelRuntimeError):
    """The runtime is not in a state in which this can be done: configured twice, already shut down, not configured."""


class CapabilityNotFound(OtelRuntimeError):
    """No capability of that name was registered with the runtime.

    Attributes:
        code: Always `CAPABILITY_NOT_FOUND`.
        name: The name that was asked for.
    """

    code = "CAPABILITY_NOT_FOUND"

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(f"CAPABILITY_NOT_FOUND: no capability `{name}` is registered; pass it in configure(capabilities={{...}})")


class ReservedKind(OtelRuntimeError):
    """An event kind in a namespace that belongs to the runtime was published by the application.

    Attributes:
        kind: The kind as it was given.
        prefix: The reserved prefix it falls under.
    """

    def __init__(self, kind: str, prefix: str) -> None:
        self.kind = kind
        self.prefix = prefix
        super().__init__(f"event kind `{kind}` is reserved for the runtime (`{prefix}`); use a prefix of your own, such as `myapp.`")


class Blocked(OtelRuntimeError):
    """A guarded call did not run. Catch this to handle every refusal in one place.

    An agent loop's `except Exception` swallows it like any other error: catch `Blocked` before it.

    Attributes:
        tool: Name of the tool, capability, model, agent or workflow.
        reason: The sentence of the rule, or what was in doubt.
        rule: Id of the deciding rule; None when no rule decided (default, catalogue, failure).
        place: `file:line` of that rule, or empty.
        decision: `deny`, `require-approval` or `retryable-failure`.
        error_type: Low-cardinality value used for `error.type`.
    """

    error_type = "policy_denied"
    retryable = False
    decision = "deny"

    def __init__(self, message: str, *, tool: str, reason: str, rule: str | None = None, place: str = "") -> None:
        self.tool = tool
        self.reason = reason
        self.rule = rule
        self.place = place
        super().__init__(message)

    def as_tool_result(self) -> str:
        """JSON text to hand the model as the result of the call.

        Returns:
            An object with `error`, `tool`, `reason`, `retryable` and, where they apply, `retry_after_s` and `request_id`. Rule ids and
            file positions stay out of it: a model that reads them learns what to work around.
        """
        return json.dumps(
            {"error": self.error_type, "tool": self.tool, "reason": self.reason, "retryable": self.retryable, **self._hints()}
        )

    def _hints(self) -> dict[str, object]:
        return {}


class PolicyDenied(Blocked):
    """A rule, the default or the catalogue says no."""


class ApprovalDenied(PolicyDenied):
    """A person said no.

    Attributes:
        request_id: The approval request.
        approver: Who answered; None when the request was cancelled.
    """

    error_type = "approval_denied"

    def __init__(
        self,
        message: str,
        *,
        tool: str,
        reason: str,
        request_id: str,
        approver: str | None = None,
        rule: str | None = None,
        place: str = "",
    ) -> None:
        super().__init__(message, tool=tool, reason=reason, rule=rule, place=place)
        self.request_id = request_id
        self.approver = approver

    def _hints(self) -> dict[str, object]:
        return {"request_id": self.request_id}


class ApprovalExpired(PolicyDenied):
    """Nobody answered in time, or the approval was not used in time.

    Attributes:
        request_id: The approval request.
    """

    error_type = "approval_expired"

    def __init__(self, message: str, *, tool: str, reason: str, request_id: str, rule: str | None = None, place: str = "") -> None:
        super().__init__(message, tool=tool, reason=reason, rule=rule, place=place)
        self.request_id = request_id

    def _hints(self) -> dict[str, object]:
        return {"request_id": self.request_id}


class ApprovalPending(Blocked):
    """The call waits for a person and this process no longer waits for it: `runtime.resume(request_id)` goes on.

    Attributes:
        request_id: The approval request to resume.
        expires_at: ISO 8601 time in UTC after which nobody can answer.
    """

    error_type = "approval_pending"
    decision = "require-approval"

    def __init__(
        self, message: str, *, tool: str, reason: str, request_id: str, expires_at: str, rule: str | None = None, place: str = ""
    ) -> None:
        super().__init__(message, tool=tool, reason=reason, rule=rule, place=place)
        self.request_id = request_id
        self.expires_at = expires_at

    def _hints(self) -> dict[str, object]:
        return {"request_id": self.request_id, "expires_at": self.expires_at}


class RetryableFailure(Blocked):
    """Not now: the call may be tried again. Tools may raise it themselves to say the same of a dependency.

    Attributes:
        retry_after_s: Seconds to wait before the next attempt.
        attempt: The attempt that failed, starts at 1.
        max_attempts: Attempts in all, the first included.
        retry_class: `rate`, `budget-window` or `dependency`.
    """

    error_type = "retryable_failure"
    retryable = True
    decision = "retryable-failure"

    def __init__(
        self,
        message: str = "try again later",
        *,
        tool: str = "",
        reason: str = "",
        retry_after_s: float = 1.0,
        attempt: int = 1,
        max_attempts: int = 1,
        retry_class: Literal["rate", "budget-window", "dependency"] = "dependency",
        rule: str | None = None,
        place: str = "",
    ) -> None:
        super().__init__(message, tool=tool, reason=reason or message, rule=rule, place=place)
        self.retry_after_s = retry_after_s
        self.attempt = attempt
        self.max_attempts = max_attempts
        self.retry_class = retry_class

    def _hints(self) -> dict[str, object]:
        return {"retry_after_s": self.retry_after_s, "attempt": self.attempt, "max_attempts": self.max_attempts}


class PolicyUnavailable(Blocked):
    """A policy should decide and none can: not loaded, shut down, ambiguous, or its store failed. Nothing runs unguarded."""

    error_type = "policy_error"


class ArgumentsChanged(Blocked):
    """The arguments differ from those that were decided upon or approved."""

    error_type = "policy_error"
