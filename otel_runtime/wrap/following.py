"""Which returned values still run, and how each is followed until it is done.

For every kind of call: coroutines, generators, async generators, futures and other awaitables, and the context managers of `contextlib`.
For models, agents and workflows also iterators and stream objects of other libraries. Never a container, a text or a file: what holds its
content already is a result, and a result is handed back untouched. So is an argument that the function gives back.
"""

from __future__ import annotations

import contextlib
import inspect
import io
import sys
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from types import AsyncGeneratorType, CoroutineType, GeneratorType
from typing import Any
from weakref import WeakKeyDictionary

from otel_runtime.values.action import Kind
from otel_runtime.wrap.streams import Life, StreamLife, async_stepped, stepped

__all__ = ["follow_async_generator", "follow_awaitable", "follow_generator", "follow_on", "follower", "is_response", "is_stream"]

# Any: what the user's own function returns passes through.
Follow = Callable[[StreamLife, Any], Any]
_PLAIN = frozenset({type(None), bool, int, float, complex, str, bytes, bytearray, list, tuple, dict, set, frozenset})
_CONTEXTS = (contextlib._GeneratorContextManager, contextlib._AsyncGeneratorContextManager)  # noqa: SLF001  # what @contextmanager gives
_HTTP = ("httpx", "httpx2", "requests")
_CLOSING = ("close", "aclose", "__exit__", "__aexit__")
# By type; the answer for one type and kind never changes.
_known: WeakKeyDictionary[type, dict[Kind, Follow | None]] = WeakKeyDictionary()


def follower(kind: Kind, result: Any) -> Follow | None:
    """What follows a returned value; None when it is a plain result."""
    shape = type(result)
    try:
        if shape in _PLAIN:
            return None
        by_kind = _known.get(shape)
        if by_kind is None:
            by_kind = _known.setdefault(shape, {})
    except Exception:  # noqa: BLE001  # a metaclass of the application's failed while its class was looked up: then it is left alone
        return None
    if kind not in by_kind:
        by_kind[kind] = _choose(kind, shape)
    found = by_kind[kind]
    return None if found is None or _is_over(result) else found


def follow_on(life: StreamLife, result: Any) -> Any:
    """What an awaited value came to: followed in its turn when it still runs; else None is returned and the caller ends the call."""
    call = life.call
    follow = None if call is None else follower(call.plan.kind, result)
    if follow is None:
        return None
    life.source = result
    return follow(life, result)


def is_stream(shape: type) -> bool:
    """True for the types that give their items while somebody reads: iterators that are no files, and what is called a stream."""
    try:
        return _streams(shape)
    except Exception:  # noqa: BLE001  # a metaclass of the application's failed while its class was looked at: then it is left alone
        return False


def is_response(shape: type) -> bool:
    """True for the responses of the HTTP clients."""
    return shape.__name__.endswith("Response") and shape.__module__.partition(".")[0] in _HTTP


def _streams(shape: type) -> bool:
    if issubclass(shape, io.IOBase) or hasattr(shape, "readline") or shape.__module__.startswith("unittest.mock"):
        return False
    if hasattr(shape, "__next__") or hasattr(shape, "__anext__"):
        return True
    named = "stream" in shape.__name__.lower() or is_response(shape)
    return named and any(hasattr(shape, name) for name in _CLOSING)


def _choose(kind: Kind, shape: type) -> Follow | None:
    if issubclass(shape, CoroutineType):
        return _unless_given(follow_awaitable)
    if issubclass(shape, GeneratorType):
        return _unless_given(follow_generator)
    if issubclass(shape, AsyncGeneratorType):
        return _unless_given(follow_async_generator)
    # How asyncio itself knows a future: https://docs.python.org/3/library/asyncio-extending.html
    if issubclass(shape, Future) or hasattr(shape, "_asyncio_future_blocking"):
        return _future
    if issubclass(shape, _CONTEXTS) or hasattr(shape, "__await__") or (kind != "tool" and is_stream(shape)):
        return _foreign
    return None


def _unless_given(follow: Follow) -> Follow:
    """Follows what the call made; what its caller gave it and got back was started by somebody else, and stays theirs."""

    def follow_own(life: StreamLife, source: Any) -> Any:
        call = life.call
        if call is None or not any(given is source for given in (*call.args, *call.kwargs.values())):
            return follow(life, source)
        life.forget_source()
        life.finish_without_waiting(None)
        return source

    return follow_own


def _is_over(result: Any) -> bool:
    """True for a response whose content was read before it was returned, and for a generator that is a coroutine by decoration."""
    if isinstance(result, GeneratorType):
        return bool(result.gi_code.co_flags & inspect.CO_ITERABLE_COROUTINE)
    return _says(result, "is_closed") or _says(result, "_content_consumed")


def _says(result: Any, name: str) -> bool:
    try:
        return getattr(result, name, None) is True
    except Exception:  # noqa: BLE001  # a property of a foreign object may raise anything; it has not said that it is over
        return False


def follow_awaitable(life: StreamLife, source: Any) -> Any:
    """A real coroutine that ends the call when the awaitable is done."""
    return _named(_awaited(life, source), source)


def follow_generator(life: StreamLife, source: Any) -> Any:
    """A real generator that ends the call when the source is done."""
    return life.stands_for(_named(stepped(life, source), source))


def follow_async_generator(life: StreamLife, source: Any) -> Any:
    """A real async generator that ends the call when the source is done."""
    held = [source]

    # Its stepping loop alone holds the source, so as to see whether somebody else does.
    async def begin(_args: tuple[Any, ...], _kwargs: dict[str, Any]) -> tuple[Life, Any]:
        return life, held.pop()

    return life.stands_for(_named(async_stepped(begin)(), source))


def _future(life: StreamLife, source: Any) -> Any:
    def done(future: Any) -> None:
        if future.cancelled():
            life.finish_without_waiting(_cancellation())
            return
        # `exception()` of an asyncio future would count as having looked at it, and silence the log record of one that nobody looks at.
        error = future.exception() if isinstance(future, Future) else future._exception  # noqa: SLF001
        life.finish_without_waiting(error, *(() if error is not None else (future.result(),)))

    source.add_done_callback(done)
    return source


def _foreign(life: StreamLife, source: Any) -> Any:
    from otel_runtime.wrap.foreign import followed  # loaded for such objects only

    return followed(life, source)


async def _awaited(life: StreamLife, source: Awaitable[Any]) -> Any:
    life.stepping = True
    tokens = life.enter()
    try:
        result = await source
    except BaseException as error:
        life.leave(tokens)
        await life.finish_async(error)
        raise
    life.leave(tokens)
    followed = follow_on(life, result)
    if followed is not None:
        return followed
    await life.finish_async(None, result)
    return result


def _named(made: Any, like: Any) -> Any:
    for name in ("__name__", "__qualname__"):
        setattr(made, name, getattr(like, name, getattr(made, name)))
    return made


def _cancellation() -> BaseException:
    asyncio = sys.modules.get("asyncio")
    return asyncio.CancelledError() if asyncio is not None else GeneratorExit()
