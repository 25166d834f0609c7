"""Into threads: the span, session, run and runtime of the code that hands work to a thread, where Python itself carries nothing over.

`propagate` carries them for one function. `install_thread_propagation` does it for every `ThreadPoolExecutor.submit` and `Thread.start`;
it is off by default, because it changes classes of the standard library. Context variables of the application are left alone.
"""

from __future__ import annotations

import functools
import inspect
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any, ParamSpec, TypeVar

from otel_runtime.wrap.active import named_active, use_active
from otel_runtime.wrap.scope import current_scope, enter_scope, leave_scope

__all__ = ["install_thread_propagation", "propagate", "uninstall_thread_propagation"]

P = ParamSpec("P")
T = TypeVar("T")
# Workers that serve everybody live longer than the span under which they were started.
_OWN = ("otel_runtime", "opentelemetry", "concurrent")
_lock = threading.Lock()
_originals: dict[type, tuple[str, Any, Any]] = {}


class _Surroundings:
    """What is current here and now; made current again by `with`, on any thread and by several at once."""

    __slots__ = ("_active", "_context", "_scope")

    def __init__(self) -> None:
        self._scope = current_scope()
        self._active = named_active()
        # Whoever has not loaded OpenTelemetry has no current span to carry.
        api = sys.modules.get("opentelemetry.context")
        self._context: Any = api.get_current() if api is not None else None

    def run(self, fn: Callable[..., T], args: tuple[Any, ...], kwargs: dict[str, Any]) -> T:
        """Call a function within them."""
        with ExitStack() as stack:
            self.enter(stack)
            return fn(*args, **kwargs)

    def enter(self, stack: ExitStack) -> None:
        """Make them current until the stack is left."""
        stack.enter_context(use_active(self._active))
        stack.callback(leave_scope, enter_scope(self._scope))
        if self._context is not None:
            api: Any = sys.modules["opentelemetry.context"]
            stack.callback(api.detach, api.attach(self._context))


def propagate(fn: Callable[P, T]) -> Callable[P, T]:
    """The same function, which runs under the span, session and runtime of the place that calls `propagate`: for threads and executors.

    `executor.submit(rt.propagate(work), item)`, `threading.Thread(target=rt.propagate(work))`. May be called any number of times, by several
    threads at once.

    Args:
        fn: A plain or `async def` function.

    Raises:
        TypeError: It is a generator function, whose code runs when its consumer asks for items; propagate the consumer.
    """
    if inspect.isgeneratorfunction(fn) or inspect.isasyncgenfunction(fn):
        raise TypeError(
            f"`{getattr(fn, '__name__', fn)}` is a generator: its code runs where its items are asked for; propagate that function"
        )
    here = _Surroundings()
    if inspect.iscoroutinefunction(fn):

        @functools.wraps(fn)
        async def carried_async(*args: Any, **kwargs: Any) -> Any:
            with ExitStack() as stack:
                here.enter(stack)
                return await fn(*args, **kwargs)

        return carried_async  # type: ignore[return-value]  # as asynchronous as the function is

    @functools.wraps(fn)
    def carried(*args: P.args, **kwargs: P.kwargs) -> T:
        return here.run(fn, args, kwargs)

    return carried


def install_thread_propagation() -> None:
    """Carry the surroundings into every `ThreadPoolExecutor.submit` and `threading.Thread.start` from now on; twice does nothing more."""
    with _lock:
        if not _originals:
            _replace(ThreadPoolExecutor, "submit", _submit)
            _replace(threading.Thread, "start", _start)


def uninstall_thread_propagation() -> None:
    """Put the classes back as they were; a patch that somebody else put on top of ours stays, and ours does nothing any more."""
    with _lock:
        for owner, (name, original, ours) in _originals.items():
            if owner.__dict__.get(name) is ours:
                setattr(owner, name, original)
        _originals.clear()


def _replace(owner: type, name: str, made: Callable[[Any], Any]) -> None:
    original = owner.__dict__[name]
    ours = functools.wraps(original)(made(original))
    _originals[owner] = (name, original, ours)
    setattr(owner, name, ours)


def _submit(original: Any) -> Any:
    def submit(self: Any, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
        if ThreadPoolExecutor not in _originals:
            return original(self, fn, *args, **kwargs)
        here = _Surroundings()
        return original(self, lambda: here.run(fn, args, kwargs))

    return submit


def _start(original: Any) -> Any:
    def start(self: threading.Thread) -> None:
        if threading.Thread in _originals and not _serves_everybody(self):
            _carry(self)
        original(self)

    return start


def _carry(thread: threading.Thread) -> None:
    if thread.ident is not None:
        return  # it was started before, and says so itself
    here, run = _Surroundings(), thread.run

    def carried() -> None:
        # A thread forgets what it runs, so that nothing keeps the thread alive.
        del thread.__dict__["run"]
        here.run(run, (), {})

    thread.run = carried  # type: ignore[method-assign]  # on this one thread: a subclass may have a `run` of its own


def _serves_everybody(thread: threading.Thread) -> bool:
    target = getattr(thread, "_target", None)
    return any(str(getattr(of, "__module__", "")).startswith(_OWN) for of in (type(thread), target))
