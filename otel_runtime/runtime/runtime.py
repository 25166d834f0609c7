"""The running parts as one object: what `configure` returns."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import AsyncIterable, Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from decimal import Decimal
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from otel_runtime.approvals.service import ApprovalService
from otel_runtime.errors import RuntimeStateError, StoreError
from otel_runtime.hooks.bus import Handler, Subscriptions
from otel_runtime.hooks.lifecycle import HookName, Observers
from otel_runtime.policy.loading import LoadedPolicy
from otel_runtime.runtime.endings import stopping, unwatch, watch
from otel_runtime.runtime.ingesting import Recorded, aingest_into, close_feeds, ingest_into
from otel_runtime.runtime.later import Later
from otel_runtime.runtime.reloading import Reloader
from otel_runtime.settings.model import Settings
from otel_runtime.sources.asking import Responder
from otel_runtime.values.trace import TraceRef
from otel_runtime.values.usage import TokenUsage
from otel_runtime.wrap.active import Active, Sums, Unavailable, register_runtime, unregister_runtime, use_active
from otel_runtime.wrap.collecting import watch_collections
from otel_runtime.wrap.patching import Patches
from otel_runtime.wrap.resume import aresume, resume

if TYPE_CHECKING:
    from otel_runtime.policy.facts_memory import MemoryFacts
    from otel_runtime.policy.facts_sql import SqlFacts
    from otel_runtime.runtime.workers import WorkerSetup

__all__ = ["Runtime", "UsageTotals"]

_log = logging.getLogger("otel_runtime")
# Its thread sees the end within a tenth of a second, unless it is in the middle of reading a policy; then it ends by itself.
_RELOADER_S = 0.5
F = TypeVar("F", bound=Callable[..., object])


@dataclass(frozen=True, slots=True)
class UsageTotals:
    """What the model calls of a runtime used so far.

    Args:
        tokens: Token sums; None where nothing was reported.
        cost: Exact amounts by ISO 4217 currency code.
    """

    tokens: TokenUsage
    cost: Mapping[str, Decimal]

    @property
    def input_tokens(self) -> int | None:
        """Input tokens, cached ones included."""
        return self.tokens.input_tokens

    @property
    def output_tokens(self) -> int | None:
        """Output tokens, reasoning included."""
        return self.tokens.output_tokens


class Runtime:
    """A configured runtime. Made by `configure`; several may live in one process, each under its own name.

    Attributes:
        settings: What it was built from.
    """

    def __init__(
        self,
        settings: Settings,
        active: Active,
        reloader: Reloader | None,
        approvals: ApprovalService | None,
        facts: MemoryFacts | SqlFacts | None,
        later: Later,
        observers: Observers,
        subscriptions: Subscriptions,
        sums: Sums,
    ) -> None:
        self.settings = settings
        self._active = active
        self._reloader = reloader
        self._approvals = approvals
        self._facts = facts
        self._later = later
        self._observers = observers
        self._subscriptions = subscriptions
        self._sums = sums
        self._patches: Patches | None = None
        self._lock = threading.Lock()
        self._stopped = False
        self._ended = threading.Event()
        watch_collections()

    @property
    def name(self) -> str:
        """Name of the runtime."""
        return self.settings.name

    @property
    def guarded(self) -> bool:
        """True when a policy decides."""
        return self._active.guard is not None

    @property
    def stopped(self) -> bool:
        """True after `shutdown`."""
        return self._stopped

    @property
    def flush_timeout(self) -> float:
        """Seconds that a flush may take when nothing else is said."""
        return self.settings.flush_timeout

    @property
    def policy(self) -> LoadedPolicy | None:
        """The policy in force; None without one."""
        return self._reloader.policy if self._reloader is not None else None

    def reload_policy(self) -> LoadedPolicy | None:
        """Read the policy files again and put them in force; calls under way are decided by the one they began with.

        The setting `policy_reload` does this by itself whenever the files change.

        Returns:
            The policy in force now; None when only Cedar or OPA decide.

        Raises:
            ConfigError: Something is wrong with it; the last good policy stays in force.
            RuntimeStateError: The runtime has no policy, or was shut down.
        """
        if self._reloader is None or self._stopped:
            why = "was shut down" if self._stopped else "has no policy; set `policy` in configure() or otel-runtime.yaml"
            raise RuntimeStateError(f"runtime `{self.name}` {why}")
        return self._reloader.reload()

    @property
    def approvals(self) -> ApprovalService | None:
        """The approvals service; None without a policy."""
        return self._approvals

    def register(self) -> None:
        """Put the runtime in force for the whole process and have it shut down at exit."""
        register_runtime(self._active)
        watch(self)

    def instrument(self, patches: Patches) -> None:
        """Wrap functions without touching their code; they stay wrapped, and refused where a policy guards, after `shutdown`.

        Raises:
            ConfigError: A target cannot be wrapped.
        """
        patches.install()
        self._patches = patches

    def uninstrument(self) -> None:
        """Put back every function that `instrument` wrapped; for tests."""
        if self._patches is not None:
            self._patches.undo()
            self._patches = None

    def after_fork(self) -> None:
        """Forget what belongs to the parent; called in a forked child before any of its code runs."""
        # Another thread of the parent may have held it.
        self._lock = threading.Lock()
        # Its shutdown, if one was under way, was the parent's.
        self._ended = threading.Event()
        if self._stopped:
            self._ended.set()
        elif self._reloader is not None:
            self._reloader.after_fork()

    def worker_setup(self, *, sigterm: bool = True) -> WorkerSetup:
        """What the workers of a pool call first: `Pool(initializer=runtime.worker_setup())`; for fork, spawn and forkserver.

        Args:
            sigterm: True flushes a worker that is ended by SIGTERM too, as `Pool.terminate()` does.
        """
        from otel_runtime.runtime.workers import WorkerSetup  # it puts runtimes in force, and so knows this module

        return WorkerSetup(self.settings, sigterm)

    def use(self) -> AbstractContextManager[None]:
        """Put the runtime in force for the code inside a `with` block, whatever the process uses."""
        return use_active(Unavailable(f"runtime `{self.name}` was shut down") if self._stopped and self.guarded else self._active)

    def on(self, name: HookName) -> Callable[[F], F]:
        """Observe a lifecycle hook of this runtime only; see `otel_runtime.on`.

        Raises:
            ValueError: There is no such hook.
        """

        def register(observer: F) -> F:
            self._observers.add(name, observer)
            return observer

        return register

    def on_event(self, kind: str, *, queue: int | None = None) -> Callable[[F], F]:
        """Subscribe to events of a kind on this runtime's bus only; see `otel_runtime.on_event`.

        Raises:
            ValueError: The pattern is malformed.
        """

        def register(handler: F) -> F:
            self._subscriptions.add(kind, handler, queue=queue)
            return handler

        return register

    def replay(self, handler: Handler, *, after_seq: int = 0, kind: str = "*") -> int:
        """Hand past events of the bus to a handler, marked as replay; returns how many there were."""
        return self._active.bus.replay(handler, after_seq=after_seq, kind=kind)

    def resume(self, request_id: str) -> Any:
        """Run the body of an approved request, once, in any process that has the function.

        Args:
            request_id: As `ApprovalPending.request_id` gave it.

        Returns:
            What the function returns.

        Raises:
            Blocked: It may not run, or nobody has answered yet.
            OtelRuntimeError: The request or its function is not to be found here, or the function is asynchronous.
        """
        with self.use():
            return resume(self._active, request_id)

    async def aresume(self, request_id: str) -> Any:
        """`resume` for asynchronous functions.

        Raises:
            Blocked: It may not run, or nobody has answered yet.
            OtelRuntimeError: The request or its function is not to be found here.
        """
        with self.use():
            return await aresume(self._active, request_id)

    def ingest(self, events: Recorded, *, source: str, respond: Responder | None = None, decide: bool = False) -> int:
        """Turn a foreign stream of events into spans.

        Args:
            events: Raw events, in order, or lines with their JSON; a path or its text reads a file of such lines.
            source: `vitehub`, `a3s` or `dreadnode`.
            respond: Hands an answer given here back to the system that asked; None leaves its questions to itself.
            decide: True has our policy decide what they ask permission for, before people.

        Returns:
            How many events were read.

        Raises:
            ConfigError: The source is unknown, or the file cannot be read.
        """
        return ingest_into(self._active, events, source, respond=respond, decide=decide)

    async def aingest(self, events: AsyncIterable[object], *, source: str, respond: Responder | None = None, decide: bool = False) -> int:
        """`ingest` for asynchronous streams.

        Raises:
            ConfigError: The source is unknown.
        """
        return await aingest_into(self._active, events, source, respond=respond, decide=decide)

    def trace_page(self, trace_id: str, span_id: str = "") -> str:
        """Where a person looks at a trace: by the setting `trace_url`, else at a Jaeger or Grafana on this machine that has it; else empty.

        Args:
            trace_id: 32 hex digits.
            span_id: 16 hex digits; marks one span where the page can.
        """
        from otel_runtime.telemetry.links import page_of

        return page_of(self.settings.trace_url, TraceRef(trace_id, span_id or None))

    def totals(self) -> UsageTotals:
        """Tokens and cost of everything that ran so far."""
        return UsageTotals(self._sums.tokens, self._sums.cost)

    def flush(self, timeout: float | None = None) -> bool:
        """Wait for background work and send what is buffered.

        Args:
            timeout: Seconds; the setting `flush_timeout` when None.

        Returns:
            False when something was not finished or sent in time.

        Raises:
            BaseException: The first failure of work handed to `wait_until`, after everything was drained.
        """
        budget = self.settings.flush_timeout if timeout is None else timeout
        if self._stopped:
            # Its threads are gone; whoever is still ending it is waited for.
            return self._ended.wait(budget)
        deadline = time.monotonic() + budget
        try:
            done = self._active.background.flush(_left(deadline))
        finally:
            recorded = self._later.flush(_left(deadline))
            sent = self._active.tracing.flush(_left(deadline))
        return done and recorded and sent

    def shutdown(self, timeout: float | None = None) -> bool:
        """Flush and stop within one budget; a guarded runtime's calls are refused from now on.

        Args:
            timeout: Seconds; the setting `flush_timeout` when None.

        Returns:
            False when something was lost. A second call does nothing and returns True.
        """
        budget = self.settings.flush_timeout if timeout is None else timeout
        with self._lock:
            first, self._stopped = not self._stopped, True
        if not first:
            # Another thread may still be at it: whoever ends the process next must not cut it off.
            self._ended.wait(budget)
            return True
        with stopping():
            try:
                return self._stop(time.monotonic() + budget)
            finally:
                unwatch(self)
                self._ended.set()

    def _stop(self, deadline: float) -> bool:
        unregister_runtime(self._active)
        # Their questions are withdrawn while there is a store.
        close_feeds(self._active, lambda: _left(deadline))
        if self._reloader is not None:
            self._reloader.stop(min(_RELOADER_S, _left(deadline)))
        try:
            done = self._active.background.flush(_left(deadline))
        except Exception:  # noqa: BLE001  # stopping goes on whatever the application's work did
            _log.exception("work handed to wait_until failed")
            done = True
        recorded = self._later.flush(_left(deadline))
        self._later.stop()
        self._active.background.stop()
        sent = self._active.tracing.shutdown(_left(deadline))
        recorded = self._close_facts() and recorded
        if self._approvals is not None:
            self._approvals.close()
            self._approvals.database.close()
        return done and recorded and sent

    def _close_facts(self) -> bool:
        try:
            if self._facts is not None:
                self._facts.close()
        except StoreError as error:
            _log.error("what calls of runtime `%s` really used could not be written; what was held for them stands: %s", self.name, error)
            return False
        return True

    def report(self) -> Mapping[str, object]:
        """What `doctor` shows of this runtime: policy, telemetry, losses, failing observers."""
        policy = self.policy
        return {
            "name": self.name,
            "guarded": self.guarded,
            "rules": policy.rules if policy is not None else 0,
            "policy": dict(self._reloader.report()) if self._reloader is not None else {},
            "telemetry": self._active.tracing.report(),
            "hook_errors": dict(self._active.hooks.errors),
            "event_handler_errors": dict(self._active.bus.errors),
            "instrument_missing": {} if self._patches is None else self._patches.missing,
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.shutdown()

    def __repr__(self) -> str:
        return f"<Runtime {self.name!r} {'guarded' if self.guarded else 'traced only'}{' stopped' if self._stopped else ''}>"


def _left(deadline: float) -> float:
    return max(0.0, deadline - time.monotonic())
