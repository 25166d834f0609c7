"""Lifecycle hooks: request, approval, trace, error, finish. Observers, ordered and isolated.

Synchronous observers run where the event happens; asynchronous ones are handed to `Background`, which a flush waits for. An observer
that raises is counted and logged once per hook and exception type; the run goes on.
"""

from __future__ import annotations

import inspect
import logging
import threading
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Literal, get_args

from otel_runtime.values.approval import ApprovalRequest
from otel_runtime.values.host import HostContext
from otel_runtime.values.trace import TraceEvent

if TYPE_CHECKING:
    from otel_runtime.hooks.background import Background

__all__ = ["HookName", "Hooks", "Observers"]

# Source: seed page "Runtime events", table "Runtime lifecycle hooks".
HookName = Literal["request", "approval", "trace", "error", "finish"]
_NAMES: tuple[str, ...] = get_args(HookName)
# Observers take what their hook gives; `Hooks` below types each call.
Observer = Callable[..., object]
_log = logging.getLogger("otel_runtime.hooks")


class Observers:
    """Functions by hook name; registering swaps a tuple, so that calling reads without a lock."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._by_name: dict[str, tuple[Observer, ...]] = dict.fromkeys(_NAMES, ())
        # Asked twice on the way of every call: an attribute costs a third of a method.
        self.watched: bool = False

    def add(self, name: str, observer: Observer) -> None:
        """Register one observer.

        Raises:
            ValueError: There is no such hook.
            TypeError: The observer cannot be called.
        """
        if name not in self._by_name:
            raise ValueError(f"unknown hook `{name}`; expected one of {', '.join(f'`{known}`' for known in _NAMES)}")
        if not callable(observer):
            raise TypeError(f"expected a function for hook `{name}`, got `{type(observer).__name__}`")
        with self._lock:
            self._by_name[name] = (*self._by_name[name], observer)
            self.watched = True

    def remove(self, name: str, observer: Observer) -> None:
        """Forget one observer; unknown ones are no error."""
        with self._lock:
            self._by_name[name] = tuple(known for known in self._by_name[name] if known is not observer)
            self.watched = any(self._by_name.values())

    def get(self, name: str) -> tuple[Observer, ...]:
        """The observers of a hook, in the order of registration."""
        return self._by_name[name]


class Hooks:
    """The hooks of one runtime: those registered for every runtime first, then its own.

    Args:
        everywhere: Observers registered with `rt.on`.
        own: Observers of this runtime.
        background: Where coroutines of asynchronous observers go.
    """

    def __init__(self, everywhere: Observers, own: Observers, background: Background) -> None:
        self._everywhere = everywhere
        self._own = own
        self._background = background
        self.errors: Counter[str] = Counter()

    @property
    def watched(self) -> bool:
        """True when anybody listens to anything: the one question on the way of every call."""
        return self._everywhere.watched or self._own.watched

    def wants(self, name: HookName) -> bool:
        """True when somebody listens: the caller need not build what nobody reads."""
        return bool(self._everywhere.get(name) or self._own.get(name))

    def request(self, context: HostContext) -> None:
        """Before work starts."""
        self._call("request", context)

    def approval(self, request: ApprovalRequest, context: HostContext) -> None:
        """A person is asked."""
        self._call("approval", request, context)

    def trace(self, event: TraceEvent, context: HostContext) -> None:
        """Something happened."""
        self._call("trace", event, context)

    def error(self, error: BaseException, context: HostContext) -> None:
        """The run failed."""
        self._call("error", error, context)

    def finish(self, context: HostContext) -> None:
        """After work has finished, however it ended."""
        self._call("finish", context)

    def _call(self, name: HookName, *arguments: Any) -> None:  # Any: typed by the methods above
        for observer in (*self._everywhere.get(name), *self._own.get(name)):
            try:
                result = observer(*arguments)
                if inspect.isawaitable(result):
                    self._background.add(self._guarded(name, result))
            except Exception as error:  # noqa: BLE001  # an observer may raise anything; the run must not notice
                self._count(name, error)

    async def _guarded(self, name: HookName, result: Awaitable[object]) -> None:
        try:
            await result
        except Exception as error:  # noqa: BLE001  # as above
            self._count(name, error)

    def _count(self, name: HookName, error: Exception) -> None:
        self.errors[name] += 1
        if self.errors[name] == 1:
            _log.warning("an observer of hook `%s` failed; the run goes on, later failures are only counted", name, exc_info=error)
