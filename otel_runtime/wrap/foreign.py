"""Stream objects of other libraries, followed until they are done: a proxy that is the object in everything but when its call ends.

The proxy has exactly those protocol methods that the object has (`__next__`, `__aenter__`, `close`, ...), so that asking what it can do is
answered as before; everything else is the object's own. Loaded only when such an object is returned.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Coroutine
from types import AsyncGeneratorType, GeneratorType
from typing import Any
from weakref import WeakKeyDictionary

from otel_runtime.wrap.following import follow_async_generator, follow_awaitable, follow_generator, is_response, is_stream
from otel_runtime.wrap.streams import Life, StreamLife, async_stepped, stepped

__all__ = ["followed"]

_classes: WeakKeyDictionary[type, type] = WeakKeyDictionary()
_READERS = ("iter_", "aiter_")
# What a class has for itself, not for its instances, and what the proxy does by itself.
_KEPT = frozenset(
    "__new__ __init__ __del__ __init_subclass__ __subclasshook__ __class_getitem__ __class__ __getattribute__ __getattr__ __setattr__ "
    "__delattr__ __dict__ __weakref__ __slots__ __module__ __qualname__ __doc__ __wrapped__ __orig_bases__ __abstractmethods__".split()
)
# What reads all of a response at once.
_WHOLE = ("read", "aread")


def followed(life: StreamLife, source: Any) -> Any:
    """The proxy of a stream object.

    Args:
        life: Of the call that returned it; ended when the stream is exhausted, closed, left or collected.
        source: The object.
    """
    shape = type(source)
    made = _classes.get(shape)
    if made is None:
        made = _classes[shape] = _class_like(shape)
    return made(life, source)


def _class_like(shape: type) -> type:
    # Asked of the classes, not of the class: every class can be called, its instances need not be.
    defined = {name: value for cls in reversed(shape.__mro__) for name, value in vars(cls).items()}
    special = {name: value for name, value in defined.items() if name.startswith("__") and name.endswith("__") and name not in _KEPT}
    passed: dict[str, Any] = {
        name: None if value is None else _passing(name) for name, value in special.items() if value is None or callable(value)
    }
    own = {name: method for name, method in _METHODS.items() if name in defined}
    closers: dict[str, Any] = {name: _closer(shape, name) for name in ("close", "aclose") if name in defined}
    said: dict[str, Any] = {"__module__": shape.__module__, "__qualname__": shape.__qualname__, "__doc__": shape.__doc__, "__slots__": ()}
    return type(shape.__name__, (_Followed,), {**passed, **own, **closers, **said})


def _passing(name: str) -> Callable[..., Any]:
    def passing(self: Any, *args: Any, **kwargs: Any) -> Any:
        return getattr(self.__wrapped__, name)(*args, **kwargs)

    passing.__name__ = name
    return passing


class _Followed:
    # Nothing is inherited that could be asked for: a proxy class that has every special method, as wrapt's, looks like a sized container that
    # can be entered and copied, and `itertools.tee` copies what it can.
    __slots__ = ("__weakref__", "__wrapped__", "_self_life", "_self_readers", "_self_step")

    def __init__(self, life: StreamLife, source: Any) -> None:
        put = object.__setattr__
        put(self, "__wrapped__", source)
        put(self, "_self_life", life)
        if "__next__" in vars(type(self)):
            put(self, "_self_step", _stepping(life, source.__next__))
        # Readers the object keeps as attributes, such as `text_stream`: the same one each time it is asked for.
        put(self, "_self_readers", {})

    @property  # type: ignore[misc]  # `object` lets it be assigned
    def __class__(self) -> Any:
        return self.__wrapped__.__class__

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self.__wrapped__, name, value)

    def __delattr__(self, name: str) -> None:
        delattr(self.__wrapped__, name)

    def __getattr__(self, name: str) -> Any:
        value = getattr(self.__wrapped__, name)
        if name.startswith(_READERS) and callable(value):
            return _reading(self._self_life, value)
        if name in _WHOLE and is_response(type(self.__wrapped__)):
            return _ending(self._self_life, value, None)
        if isinstance(value, GeneratorType | AsyncGeneratorType):
            known = self._self_readers.get(name)
            if known is None or known[0] is not value:
                known = self._self_readers[name] = (value, _inner(self._self_life, value))
            return known[1]
        return value


def _inner(life: StreamLife, found: Any) -> Any:
    """What an object hands out to be read in its place: its iterator, or what `with` gives."""
    if isinstance(found, GeneratorType):
        return follow_generator(life, found)
    if isinstance(found, AsyncGeneratorType):
        return follow_async_generator(life, found)
    return followed(life, found) if is_stream(type(found)) else found


def _reading(life: StreamLife, method: Callable[..., Any]) -> Callable[..., Any]:
    """A method that reads, of the same kind: whoever asks whether it is an async generator function is told as before."""

    def read(*args: Any, **kwargs: Any) -> Any:
        return _inner(life, method(*args, **kwargs))

    def generate(*args: Any, **kwargs: Any) -> Any:
        return (yield from stepped(life, method(*args, **kwargs)))

    async def begin(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Life, Any]:
        return life, method(*args, **kwargs)

    if inspect.isasyncgenfunction(method):
        return functools.wraps(method)(async_stepped(begin))
    return functools.wraps(method)(generate if inspect.isgeneratorfunction(method) else read)


def _next(self: Any) -> Any:
    return self._self_step()


def _stepping(life: StreamLife, forward: Callable[[], Any]) -> Callable[[], Any]:
    """One step of an iterator; a closure, because each look-up on the proxy costs as much as a call."""
    enter, leave = life.enter, life.leave

    def step() -> Any:
        life.stepping = True
        tokens = enter()
        try:
            item = forward()
        except BaseException as error:
            leave(tokens)
            life.finish(None if issubclass(type(error), StopIteration) else error)
            raise
        leave(tokens)
        if (see := life.see) is not None:
            see(item)
        return item

    return step


async def _anext(self: Any) -> Any:
    life: StreamLife = self._self_life
    life.stepping = True
    tokens = life.enter()
    try:
        item = await self.__wrapped__.__anext__()
    except BaseException as error:
        life.leave(tokens)
        await life.finish_async(None if issubclass(type(error), StopAsyncIteration) else error)
        raise
    life.leave(tokens)
    if (see := life.see) is not None:
        see(item)
    return item


def _iter(self: Any) -> Any:
    found = iter(self.__wrapped__)
    self._self_life.stepping = True
    return self if found is self.__wrapped__ else _inner(self._self_life, found)


def _aiter(self: Any) -> Any:
    found = aiter(self.__wrapped__)
    self._self_life.stepping = True
    return self if found is self.__wrapped__ else _inner(self._self_life, found)


def _enter(self: Any) -> Any:
    return _entered(self, _attached(self._self_life, self.__wrapped__.__enter__))


def _exit(self: Any, kind: Any, error: Any, trace: Any) -> Any:
    swallowed = _attached(self._self_life, lambda: self.__wrapped__.__exit__(kind, error, trace))
    self._self_life.finish_without_waiting(_left(self._self_life, None if swallowed else error))
    return swallowed


async def _aenter(self: Any) -> Any:
    return _entered(self, await _attached_async(self._self_life, self.__wrapped__.__aenter__))


async def _aexit(self: Any, kind: Any, error: Any, trace: Any) -> Any:
    swallowed = await _attached_async(self._self_life, lambda: self.__wrapped__.__aexit__(kind, error, trace))
    self._self_life.finish_without_waiting(_left(self._self_life, None if swallowed else error))
    return swallowed


def _await(self: Any) -> Any:
    return follow_awaitable(self._self_life, self.__wrapped__).__await__()


def _call(self: Any, *args: Any, **kwargs: Any) -> Any:
    return self.__wrapped__(*args, **kwargs)


def _closer(shape: type, name: str) -> Callable[..., Any]:
    def close(self: Any, *args: Any, **kwargs: Any) -> Any:
        return _ending(self._self_life, getattr(self.__wrapped__, name), GeneratorExit())(*args, **kwargs)

    async def close_slowly(self: Any, *args: Any, **kwargs: Any) -> Any:
        return await close(self, *args, **kwargs)

    method = getattr(shape, name)
    return functools.wraps(method)(close_slowly if inspect.iscoroutinefunction(method) else close)


def _ending(life: StreamLife, method: Callable[..., Any], error: BaseException | None) -> Callable[..., Any]:
    """A method, sync or async, after which the stream is done: with this error, or well."""

    def ending(*args: Any, **kwargs: Any) -> Any:
        result = _attached(life, lambda: method(*args, **kwargs))
        if inspect.iscoroutine(result):
            return _ended(life, result, error)
        life.finish_without_waiting(error)
        return result

    async def ending_slowly(*args: Any, **kwargs: Any) -> Any:
        return await ending(*args, **kwargs)

    return functools.wraps(method)(ending_slowly if inspect.iscoroutinefunction(method) else ending)


async def _ended(life: StreamLife, source: Coroutine[Any, Any, Any], error: BaseException | None) -> Any:
    async def awaited() -> Any:
        return await source

    result = await _attached_async(life, awaited)
    life.finish_without_waiting(error)
    return result


def _entered(self: Any, entered: Any) -> Any:
    if entered is self.__wrapped__:
        return self
    found = _inner(self._self_life, entered)
    if found is not entered:
        self._self_life.source = entered
    return found


def _left(life: StreamLife, error: BaseException | None) -> BaseException | None:
    """A block that was left before its stream was at its end closed it; one that was not read is simply over."""
    return GeneratorExit() if error is None and life.stepping else error


def _attached(life: StreamLife, run: Callable[[], Any]) -> Any:
    tokens = life.enter()
    try:
        result = run()
    except BaseException as error:
        life.leave(tokens)
        life.finish_without_waiting(error)
        raise
    life.leave(tokens)
    return result


async def _attached_async(life: StreamLife, run: Callable[[], Any]) -> Any:
    tokens = life.enter()
    try:
        result = await run()
    except BaseException as error:
        life.leave(tokens)
        life.finish_without_waiting(error)
        raise
    life.leave(tokens)
    return result


_METHODS: dict[str, Callable[..., Any]] = {
    "__next__": _next,
    "__anext__": _anext,
    "__iter__": _iter,
    "__aiter__": _aiter,
    "__enter__": _enter,
    "__exit__": _exit,
    "__aenter__": _aenter,
    "__aexit__": _aexit,
    "__await__": _await,
    "__call__": _call,
}
