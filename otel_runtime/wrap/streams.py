"""What still runs after its function was entered: generators, async generators, coroutines, each stepped under its call's span.

Rules
- Span and scope are attached while the source's own code runs, never across a yield: attach and detach stand in one stretch.
- The source keeps its whole protocol: send, throw, close, return value; asend, athrow, aclose.
- No task, no thread, no list: a step is a step of the source in the consumer's own context, and items are not kept.
- A stream that nobody finishes ends with its `StreamLife`, which the garbage collector finds; that ending only enqueues.
- A source that somebody else holds too is theirs: only an explicit close of what stands for it closes it.
"""

from __future__ import annotations

import atexit
import os
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from functools import partial
from sys import getrefcount
from types import CoroutineType
from typing import Any, Protocol
from weakref import WeakKeyDictionary, ref

from otel_runtime.telemetry.protocol import NOTHING, OpenSpan
from otel_runtime.usage.stream import final_response
from otel_runtime.wrap.active import StreamMeter
from otel_runtime.wrap.attachment import Attachment, Tokens
from otel_runtime.wrap.call import Call
from otel_runtime.wrap.endings import end, end_async, end_from_anywhere, end_without_waiting

__all__ = ["OFF", "Life", "StreamLife", "async_stepped", "interrupted_streams", "stepped"]


class Life(Protocol):
    """What a stepping loop needs to know about its call."""

    @property
    def see(self) -> Callable[[object], None] | None:
        """Looks at one item; None when nobody does."""
        ...

    @property
    def dropped(self) -> bool:
        """True when what stands for the source was not closed but dropped."""
        ...

    def forget_source(self) -> None:
        """Hold the source no longer."""
        ...

    def enter(self) -> Tokens | None:
        """Attach."""
        ...

    def leave(self, tokens: Any) -> None:
        """Detach."""
        ...

    def finish(self, error: BaseException | None, result: Any = NOTHING) -> None:
        """End the call, once."""
        ...

    async def finish_async(self, error: BaseException | None, result: Any = NOTHING) -> None:
        """End the call of something asynchronous, once."""
        ...


class _Off:
    """A stream of a call that nobody looks at."""

    __slots__ = ()
    see: Callable[[object], None] | None = None
    dropped: bool = False

    def forget_source(self) -> None:
        """None is held."""

    def enter(self) -> None:
        """Nothing becomes current."""

    def leave(self, tokens: Any) -> None:
        """Nothing was current."""

    def finish(self, error: BaseException | None, result: Any = NOTHING) -> None:
        """Nothing ends."""

    async def finish_async(self, error: BaseException | None, result: Any = NOTHING) -> None:
        """Nothing ends."""


OFF: Life = _Off()


class StreamLife:
    """The rest of a call's life, until its stream is done; whatever steps the stream holds it.

    Args:
        call: The call, its span open and not attached.
        source: What is stepped; None until it is known.
    """

    __slots__ = ("__weakref__", "_call", "_meter", "_pid", "_stand_in", "enter", "leave", "see", "source", "stepping")

    def __init__(self, call: Call, source: object = None) -> None:
        self._call: Call | None = call
        self._pid = os.getpid()
        self._meter: StreamMeter | None = call.active.stream_meter() if call.plan.kind == "model" else None
        self.source: object = source
        self._stand_in: ref[Any] | None = None
        self.stepping: bool = False
        span = call.open()
        attachment = Attachment(span, call.inner_scope())
        self.enter: Callable[[], Tokens] = attachment.enter
        self.leave: Callable[[Any], None] = attachment.leave
        # No method of this object: it must die with the last reference to it, not with a cycle.
        self.see: Callable[[object], None] | None = None if self._meter is None else _watching(span, self._meter, ref(self))
        if not _open:
            # Again for each first one: what is registered last runs first, and must run before the runtime's own end.
            atexit.unregister(_end_open)
            atexit.register(_end_open)
        _open[self] = None

    @property
    def call(self) -> Call | None:
        """The call; None when it has ended."""
        return self._call

    @property
    def dropped(self) -> bool:
        """True when what stands for the source was dropped: its weak references are gone before it is closed for that."""
        return self._stand_in is not None and self._stand_in() is None

    def stands_for(self, made: Any) -> Any:
        """Remember, weakly, what the caller was given in place of the source."""
        self._stand_in = ref(made)
        return made

    def forget_source(self) -> None:
        """Hold the source no longer."""
        self.source = None

    def finish(self, error: BaseException | None, result: Any = NOTHING) -> None:
        """End the call, once; an early close may come from a finaliser and only enqueues."""
        call = self._take()
        if call is None:
            return
        if error is not None and issubclass(type(error), GeneratorExit):
            end_from_anywhere(call, error, self._metered())
        else:
            end(call, error, result, self._metered())

    async def finish_async(self, error: BaseException | None, result: Any = NOTHING) -> None:
        """End the call, once, without blocking an event loop."""
        call = self._take()
        if call is None:
            return
        # An event loop closes what was dropped in a task of its own; without one the garbage collector itself may be closing it.
        if error is not None and issubclass(type(error), GeneratorExit) and sys.get_asyncgen_hooks().finalizer is None:
            end_from_anywhere(call, error, self._metered())
        else:
            await end_async(call, error, result, self._metered())

    def finish_without_waiting(self, error: BaseException | None, result: Any = NOTHING) -> None:
        """End the call, once, from a callback or an explicit close."""
        call = self._take()
        if call is not None:
            end_without_waiting(call, error, result, self._metered())

    def interrupt(self) -> Call | None:
        """Record the usage seen so far and let go of the call, because the process ends; None when it has ended or is not this process's."""
        call = self._take()
        record = self._meter.record() if call is not None and self._meter is not None else None
        if call is not None and record is not None:
            call.record_usage(record)
        return call

    def __del__(self) -> None:
        call = self._take()
        if call is None:
            return
        # By its exact type: anything else may answer anything when it is asked, also by raising, and the call would never end.
        if not self.stepping and type(self.source) is CoroutineType:
            # The coroutine we stand for warned that it was never awaited; once is enough.
            self.source.close()
        end_from_anywhere(call, GeneratorExit(), self._metered())

    def _take(self) -> Call | None:
        call, self._call = self._call, None
        # The copy of a forked child is not the child's to end.
        return call if self._pid == os.getpid() else None

    def _metered(self) -> StreamMeter | None:
        meter = self._meter
        if meter is not None and meter.record() is None and (final := final_response(self.source)) is not None:
            meter.feed(final)
        return meter


# No set: a daemon thread may open a stream while these are gone through, and only a dictionary's references can be had in one step.
_open: WeakKeyDictionary[StreamLife, None] = WeakKeyDictionary()


def interrupted_streams() -> list[Call]:
    """The calls of every stream that is not done, their spans still to be ended; only for the end of the process."""
    return [call for life in _all_open() if (call := life.interrupt()) is not None]


def _all_open() -> list[StreamLife]:
    return [life for found in _open.keyrefs() if (life := found()) is not None]


def _end_open() -> None:
    """At exit, while spans can still be sent."""
    for life in _all_open():
        life.finish_without_waiting(GeneratorExit())


def _watching(span: OpenSpan, meter: StreamMeter, life: ref[StreamLife]) -> Callable[[object], None]:
    """Notes when the first item came; the items after it are the meter's alone."""
    feed = meter.feed

    def first(item: object) -> None:
        span.first_chunk()
        if (found := life()) is not None:
            found.see = feed
        feed(item)

    return first


def stepped(life: Life, source: Generator[Any, Any, Any]) -> Generator[Any, Any, Any]:
    """The items of a generator, each step under the span of its call."""
    enter, leave = life.enter, life.leave
    step: Callable[[], Any]
    step = forward = source.__next__
    try:
        while True:
            tokens = enter()
            try:
                item = step()
            finally:
                leave(tokens)
            if (see := life.see) is not None:
                see(item)
            try:
                sent = yield item
            except GeneratorExit as leaving:
                step = forward = _nothing
                life.forget_source()
                only_here = object()
                if not (life.dropped and getrefcount(source) > getrefcount(only_here)):
                    _under(life, source.close, leaving)
                raise
            except BaseException as error:  # noqa: BLE001  # thrown in by the consumer, handed to the source
                step = partial(source.throw, error)
            else:
                step = forward if sent is None else partial(source.send, sent)
    except StopIteration as stop:
        life.finish(None, NOTHING if stop.value is None else stop.value)
        return stop.value
    except BaseException as error:
        life.finish(error)
        raise
    finally:
        # It may hold an error, whose traceback holds this frame.
        step = forward


def async_stepped(
    begin: Callable[[tuple[Any, ...], dict[str, Any]], Awaitable[tuple[Life, Any]]],
) -> Callable[..., AsyncGenerator[Any, Any]]:
    """An async generator function that steps what `begin` gives it, in one loop for every case: there is no `yield from` to share.

    Args:
        begin: Takes the arguments at the first step; gives the life and the async iterator.
    """

    async def stream(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        life, source = await begin(args, kwargs)
        enter, leave, forward = life.enter, life.leave, source.__anext__
        step: Callable[[], Any] = forward
        try:
            while True:
                tokens = enter()
                try:
                    item = await step()
                finally:
                    leave(tokens)
                if (see := life.see) is not None:
                    see(item)
                try:
                    sent = yield item
                except GeneratorExit as leaving:
                    step = forward = _nothing
                    life.forget_source()
                    only_here = object()
                    if not (life.dropped and getrefcount(source) > getrefcount(only_here)):
                        await _closed_under(life, source, leaving)
                    raise
                except BaseException as error:  # noqa: BLE001  # thrown in by the consumer, handed to the source
                    step = partial(source.athrow, error)
                else:
                    step = forward if sent is None else partial(source.asend, sent)
        except StopAsyncIteration:
            await life.finish_async(None)
        except BaseException as error:
            await life.finish_async(error)
            raise
        finally:
            # As above.
            step = forward

    return stream


def _nothing() -> None:
    """In place of a step of a source that must not be held any longer."""


def _under(life: Life, run: Callable[[], object], leaving: GeneratorExit) -> None:
    tokens = life.enter()
    try:
        run()
    except BaseException as error:
        _forget(error, leaving)
        raise
    finally:
        life.leave(tokens)


async def _closed_under(life: Life, source: Any, leaving: GeneratorExit) -> None:
    close = getattr(source, "aclose", None)
    if close is None:
        return
    tokens = life.enter()
    try:
        await close()
    except BaseException as error:
        _forget(error, leaving)
        raise
    finally:
        life.leave(tokens)


def _forget(error: BaseException, leaving: GeneratorExit) -> None:
    """The source knows nothing of the exit that our own frame was left by."""
    seen: set[int] = set()
    while error.__context__ is not leaving:
        if error.__context__ is None or id(error) in seen:
            return
        seen.add(id(error))
        error = error.__context__
    error.__context__ = None
