"""The slot through which decorators reach the running parts. Runtime fills it; wrap never imports runtime.

States: nothing configured (calls pass through), one runtime, or unavailable (a policy should decide and none can). A context may name
its own runtime, which wins over the process's.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol

from otel_runtime.approvals.protocol import Approvals
from otel_runtime.errors import PolicyUnavailable
from otel_runtime.hooks.bus import EventBus
from otel_runtime.hooks.lifecycle import Hooks
from otel_runtime.policy.protocol import Engine, FactsStore, Witness
from otel_runtime.telemetry.protocol import Tracing
from otel_runtime.values.action import Action
from otel_runtime.values.decision import Decision
from otel_runtime.values.host import CapabilityHandle
from otel_runtime.values.trace import TraceRef
from otel_runtime.values.usage import TokenUsage, UsageRecord

if TYPE_CHECKING:
    from otel_runtime.hooks.background import Background

__all__ = [
    "OURS",
    "Active",
    "DecisionRecorder",
    "Guard",
    "StreamMeter",
    "Sums",
    "Unavailable",
    "begin_own_thread",
    "current_active",
    "forget_failure",
    "named_active",
    "refused_by",
    "register_failure",
    "register_runtime",
    "reset_slot",
    "unregister_runtime",
    "use_active",
]

_POLICY_VARIABLES = ("OTEL_RUNTIME_POLICY", "OTEL_RUNTIME_CEDAR", "OTEL_RUNTIME_OPA")


class DecisionRecorder(Protocol):
    """Keeps decisions where nobody can lose or edit them unseen."""

    def record(self, action: Action, decision: Decision, trace: TraceRef | None) -> object:
        """Store one decision; blocks until it is durable."""
        ...

    def declassified(self, session: str, label: str, why: str, facts: Mapping[str, object], trace: TraceRef | None) -> object:
        """Store that a label is taken off a session, before it is; blocks until it is durable.

        Args:
            session: Session id.
            label: The label.
            why: The reason that was given.
            facts: Who did it and what had added the label, as plain data.
            trace: Where it happened; None outside of a trace.
        """
        ...


class Sums(Protocol):
    """Running sums of usage."""

    def add(self, record: UsageRecord) -> bool:
        """Add one record; False when this message was counted already."""
        ...

    @property
    def tokens(self) -> TokenUsage:
        """Tokens so far."""
        ...

    @property
    def cost(self) -> Mapping[str, Decimal]:
        """Money so far, by currency."""
        ...


class StreamMeter(Protocol):
    """Finds the usage in the items of a stream, in constant memory."""

    def feed(self, chunk: object) -> None:
        """Look at one item."""
        ...

    def record(self) -> UsageRecord | None:
        """What the items said; None when they said nothing."""
        ...


@dataclass(frozen=True, slots=True)
class Guard:
    """Everything that decides.

    Args:
        engine: The rules.
        facts: Counters, labels, history.
        approvals: The durable questions.
        decisions: The record of decisions.
        witness: Told where values were seen; None when no rule asks.
    """

    engine: Engine
    facts: FactsStore
    approvals: Approvals
    decisions: DecisionRecorder
    witness: Witness | None = None


@dataclass(frozen=True, slots=True)
class Active:
    """The running parts of one runtime.

    Args:
        name: Name of the runtime.
        tracing: Spans and metrics.
        guard: What decides; None when no policy is configured.
        hooks: Lifecycle hooks.
        bus: Event bus.
        background: Work that must finish before shutdown.
        later: Runs something soon on a thread of the runtime's own; never blocks, safe in the garbage collector.
        clock: Current time in UTC.
        usage_of: Usage and price of a response; None when it has none.
        stream_meter: A new meter for the items of one stream.
        sums_within: New running sums that also add to the given ones.
        sums: Sums of the whole runtime.
        wait_at_most: Seconds a call waits for an approval.
        resume_trace: `auto`, `same` or `new`.
        capabilities: Registered handles by name.
    """

    name: str
    tracing: Tracing
    guard: Guard | None
    hooks: Hooks
    bus: EventBus
    background: Background
    later: Callable[[Callable[[], None]], None]
    clock: Callable[[], datetime]
    usage_of: Callable[[object], UsageRecord | None]
    stream_meter: Callable[[], StreamMeter]
    sums_within: Callable[[Sums], Sums]
    sums: Sums
    wait_at_most: float = 60.0
    resume_trace: str = "auto"
    capabilities: Mapping[str, CapabilityHandle] = field(default_factory=lambda: MappingProxyType({}))

    def wait_until(self, task: Awaitable[object] | Future[Any]) -> None:
        """Have a piece of work finished before shutdown."""
        self.background.add(task)


@dataclass(frozen=True, slots=True)
class Unavailable:
    """A policy should decide and none can.

    Args:
        reason: Why, and how to mend it.
    """

    reason: str

    def refuse(self, tool: str) -> PolicyUnavailable:
        """The error for one call."""
        return PolicyUnavailable(f"`{tool}` did not run: {self.reason}", tool=tool, reason=self.reason)


# In force in threads that are the runtime's own: what exporters call there, such as a `requests.Session.request` that `instrument` names, is
# part of no program. A call passes through; whatever else asks is refused.
OURS = Unavailable("this is a thread of the runtime's own")


def begin_own_thread() -> None:
    """To be called first in a thread that runs nothing but the runtime itself."""
    _override.set(OURS)


class _Undecided:
    """Nothing was configured and the environment was not looked at yet: that happens at the first call, never on import."""


_UNDECIDED = _Undecided()
_lock = threading.Lock()
_registered: tuple[Active, ...] = ()
_failed: Mapping[str, Unavailable] = MappingProxyType({})
_process: Active | Unavailable | _Undecided | None = _UNDECIDED
_override: ContextVar[Active | Unavailable | None] = ContextVar("otel_runtime_active", default=None)


def current_active() -> Active | Unavailable | None:
    """What is in force here; None lets the call pass through untouched."""
    chosen = _override.get()
    if chosen is not None:
        return chosen
    process = _process
    return _look_at_environment() if isinstance(process, _Undecided) else process


def refused_by(found: Unavailable | None, tool: str) -> PolicyUnavailable:
    """The error for a call that must not run here.

    Args:
        found: What `current_active` gave; None where nothing is configured and the tool requires a policy.
        tool: Its name.
    """
    required = Unavailable("it says guard=`required` and nothing is configured; call `otel_runtime.configure(policy=...)` at start")
    return (found or required).refuse(tool)


def register_runtime(active: Active) -> None:
    """Make a runtime the process's one; with several, a context must name which (`with runtime.use():`)."""
    with _lock:
        others = {name: failure for name, failure in _failed.items() if name != active.name}
        _install((*_registered, active), others, None)


def unregister_runtime(active: Active) -> None:
    """Take a runtime out of force; when it guarded and was the last, calls are refused from now on."""
    gone = Unavailable(f"runtime `{active.name}` was shut down") if active.guard is not None else None
    with _lock:
        if not any(item is active for item in _registered):
            return  # it was only ever used by name: the process has nothing to do with its end
        _install(tuple(item for item in _registered if item is not active), _failed, gone)


def forget_failure(name: str) -> None:
    """A `configure` that had failed under this name was mended."""
    with _lock:
        _install(_registered, {known: failure for known, failure in _failed.items() if known != name}, None)


def register_failure(name: str, why: str) -> None:
    """A runtime could not be configured: calls are refused until a `configure` of that name succeeds."""
    with _lock:
        _install(_registered, {**_failed, name: Unavailable(why)}, None)


def reset_slot() -> None:
    """Forget every runtime and failure, as if nothing had ever been configured; for tests."""
    global _process  # noqa: PLW0603  # the one slot of the process
    with _lock:
        _install((), {}, None)
        _process = _UNDECIDED


@contextmanager
def use_active(active: Active | Unavailable | None) -> Iterator[None]:
    """Name the runtime for the calls inside; None leaves it to the process."""
    token = _override.set(active)
    try:
        yield
    finally:
        _override.reset(token)


def named_active() -> Active | Unavailable | None:
    """What this context names; None when it leaves it to the process."""
    return _override.get()


def _install(registered: tuple[Active, ...], failed: Mapping[str, Unavailable], gone: Unavailable | None) -> None:
    global _registered, _failed, _process  # noqa: PLW0603  # the one slot of the process
    _registered, _failed = registered, MappingProxyType(dict(failed))
    _process = next(iter(failed.values()), None) or _chosen(registered) or (gone if not registered else None)


def _chosen(registered: tuple[Active, ...]) -> Active | Unavailable | None:
    if len(registered) == 1:
        return registered[0]
    if not any(item.guard for item in registered):
        # None, or several that only trace: nothing may be blocked, and nobody can say which of them should record.
        return None
    names = ", ".join(f"`{item.name}`" for item in registered)
    return Unavailable(f"several runtimes are configured ({names}) and none is named here; use `with runtime.use():`")


def _look_at_environment() -> Unavailable | None:
    global _process  # noqa: PLW0603  # the one slot of the process
    with _lock:
        if isinstance(_process, _Undecided):
            configured = next((name for name in _POLICY_VARIABLES if os.environ.get(name)), None)
            reason = f"{configured} is set but `otel_runtime.configure()` was not called; call it at start"
            _process = Unavailable(reason) if configured else None
        return _process if isinstance(_process, Unavailable) else None
