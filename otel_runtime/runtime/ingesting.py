"""Foreign event streams into hooks, spans, approvals and the record of decisions."""

from __future__ import annotations

import asyncio
import inspect
import logging
import os
import weakref
from collections.abc import AsyncIterable, Awaitable, Callable, Coroutine, Iterable
from pathlib import Path
from typing import Any, Final, Self, overload

from otel_runtime.errors import RuntimeStateError
from otel_runtime.runtime.event_lines import EventLines, event_of, open_events
from otel_runtime.runtime.foreign_desk import ForeignDesk, record_decision
from otel_runtime.sources.asking import Asking, Question, Responder, Verdict
from otel_runtime.sources.protocol import Source
from otel_runtime.sources.registry import source as source_named
from otel_runtime.values.host import HostContext
from otel_runtime.values.trace import TraceEvent
from otel_runtime.wrap.active import Active, current_active

__all__ = ["Feed", "Recorded", "aingest", "aingest_into", "close_feeds", "feed", "ingest", "ingest_into"]

# Events, lines with their JSON, or the file they are in.
Recorded = Iterable[object] | os.PathLike[str]
# Says that nothing more comes of a stream, so that nothing waits for it any longer.
_ENDED: Final = TraceEvent("stream.ended", "lifecycle", attributes={"stream.ended": True})
# A log is read from here to there.
_LOG: Final = TraceEvent("stream.log", "lifecycle", attributes={"stream.log": True})
_LOG_READ: Final = TraceEvent("stream.log", "lifecycle", attributes={"stream.log": False})
# How long a responder may take on its event loop.
_RESPOND_S: Final = 30.0
# Feeds that were not closed; a forgotten one may still be collected. No set: another thread may open one while these are gone through.
_open: weakref.WeakKeyDictionary[Feed, None] = weakref.WeakKeyDictionary()
_log = logging.getLogger("otel_runtime.sources")


@overload
def ingest(
    events: AsyncIterable[object], *, source: str, respond: Responder | None = None, decide: bool = False
) -> Coroutine[Any, Any, int]: ...


@overload
def ingest(events: Recorded, *, source: str, respond: Responder | None = None, decide: bool = False) -> int: ...


def ingest(
    events: Recorded | AsyncIterable[object], *, source: str, respond: Responder | None = None, decide: bool = False
) -> int | Coroutine[Any, Any, int]:
    """Turn a foreign stream of events into spans of the runtime in force.

    Args:
        events: Raw events, in order, or lines with their JSON; a path or its text reads a file of such lines. An asynchronous stream is
            awaited: `await ingest(stream, ...)`.
        source: `vitehub`, `a3s` or `dreadnode`.
        respond: Hands an answer given here back to the system that asked; None leaves its questions to itself.
        decide: True has our policy decide what they ask permission for; only what it wants people for is put to people.

    Returns:
        How many events were read.

    Raises:
        ConfigError: The source is unknown, or the file cannot be read.
        RuntimeStateError: No runtime is configured.
    """
    if isinstance(events, AsyncIterable):
        return aingest_into(_active(), events, source, respond=respond, decide=decide)
    return ingest_into(_active(), events, source, respond=respond, decide=decide)


async def aingest(events: AsyncIterable[object], *, source: str, respond: Responder | None = None, decide: bool = False) -> int:
    """`ingest` for asynchronous streams.

    Raises:
        ConfigError: The source is unknown.
        RuntimeStateError: No runtime is configured.
    """
    return await aingest_into(_active(), events, source, respond=respond, decide=decide)


def feed(*, source: str, stream: str | None = None, respond: Responder | None = None, decide: bool = False) -> Feed:
    """Somewhere to push events one by one, for handlers and callbacks.

    Args:
        source: `vitehub`, `a3s` or `dreadnode`.
        stream: Tells the runs of this stream from those of others where events name none; None makes a random one.
        respond: As for `ingest`.
        decide: As for `ingest`.

    Raises:
        ConfigError: The source is unknown.
        RuntimeStateError: No runtime is configured.
    """
    return Feed(_active(), source, stream, respond, decide=decide)


def ingest_into(active: Active, events: Recorded, source: str, *, respond: Responder | None = None, decide: bool = False) -> int:
    """`ingest` for one runtime's parts."""
    if isinstance(events, str | os.PathLike):
        path = Path(events)
        with open_events(path) as stream:
            lines = EventLines(stream, str(path))
            count = ingest_into(active, lines, source, respond=respond, decide=decide)
        if lines.unread:
            _log.warning("%d lines of `%s` are no events and were passed over: %s", lines.unread, path, lines.faults[0])
        return count
    with Feed(active, source, None, respond, decide=decide) as into:
        # What is given whole may say more of a run after its end.
        active.tracing.observe(_LOG)
        try:
            for raw in events:
                into.push(raw)
        finally:
            active.tracing.observe(_LOG_READ)
    return into.count


async def aingest_into(
    active: Active, events: AsyncIterable[object], source: str, *, respond: Responder | None = None, decide: bool = False
) -> int:
    """`aingest` for one runtime's parts."""
    async with Feed(active, source, None, respond, decide=decide) as into:
        async for raw in events:
            into.push(raw)
    return into.count


def close_feeds(active: Active, left: Callable[[], float]) -> None:
    """Close every feed of a runtime that is still open; called when it shuts down, before its store is closed.

    Args:
        active: The runtime's parts.
        left: Seconds that the shutdown may still take.
    """
    for each in _feeds_of(active):
        each.close(left())


def _feeds_of(active: Active) -> list[Feed]:
    return [found for reference in _open.keyrefs() if (found := reference()) is not None and found.of(active)]


class Feed:
    """One open stream of foreign events.

    Args:
        active: The runtime's parts.
        source: Vocabulary.
        stream: Id of the stream; None makes a random one.
        respond: Hands answers back; may be asynchronous, and then runs on the event loop that made this feed, if there was one.
        decide: True asks our policy before people.
    """

    def __init__(
        self, active: Active, source: str, stream: str | None = None, respond: Responder | None = None, *, decide: bool = False
    ) -> None:
        self._active = active
        self._source: Source = source_named(source, stream)
        self._asking: Asking | None = None
        if respond is not None and active.guard is not None:
            desk = ForeignDesk(active, active.guard, source, judges=decide)
            self._asking = Asking(desk, _on_its_loop(respond), judges=decide, told=self._answered)
        elif respond is not None and decide:
            raise RuntimeStateError("`decide` needs a policy: without one nothing here decides; set `policy` and configure again")
        elif respond is not None:
            _log.warning("no policy is configured, so there is no store for the questions of `%s`; they are answered there only", source)
        elif decide:
            raise RuntimeStateError("`decide` needs `respond`: without a responder nobody hears what our policy decided")
        self.count: int = 0
        self._closed = False
        _open[self] = None

    def of(self, active: Active) -> bool:
        """True when it feeds this runtime."""
        return self._active is active

    def __enter__(self) -> Self:
        """The feed itself."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Close it."""
        self.close()

    async def __aenter__(self) -> Self:
        """The feed itself."""
        return self

    async def __aexit__(self, *exception: object) -> None:
        """Close it; the event loop goes on meanwhile."""
        await self.aclose()

    def push(self, raw: object) -> None:
        """Take one raw event, or a line with its JSON. Never raises: what cannot be read is counted and reported when the feed is closed."""
        if type(raw) is not dict and isinstance(raw, (str, bytes, bytearray)):
            if not raw.strip():
                return
            raw = event_of(raw)
        self.count += 1
        active = self._active
        hooks, observe = active.hooks, active.tracing.observe
        watched = hooks.watched and hooks.wants("trace")
        for event in self._source.translate(raw):
            if watched:
                session = event.attributes.get("session.id")
                known = session if isinstance(session, str) else None
                hooks.trace(event, HostContext(runtime=active.name, session=known, wait_until=active.wait_until, trace=event.trace))
            observe(event)
            if event.type == "policy" and active.guard is not None:
                record_decision(active, event)
            if self._asking is not None:
                self._asking.observe(event)

    def _answered(self, question: Question, verdict: Verdict) -> None:
        """Show our answer on the question's span, also where that system has no event of its own for it."""
        facts = {"event.source": question.source, "event.kind": "", "run.id": question.run, "session.id": question.session}
        told = {"approval.id": question.step or question.id, "approval.answer": verdict}
        present = {key: value for key, value in {**facts, **told}.items() if value is not None}
        self._active.tracing.observe(TraceEvent("approval.updated", "approval", None, question.trace, present))

    def close(self, timeout: float = 5.0) -> None:
        """Nothing more comes: what waited for an earlier event is projected as it is, questions are withdrawn. A second call does nothing.

        Args:
            timeout: Seconds that it waits at most for whoever is still handing an answer back.
        """
        if self._closed:
            return
        self._closed = True
        _open.pop(self, None)
        if not _feeds_of(self._active):
            # Another stream may still be in the middle of what is out of order; its windows end by themselves.
            self._active.tracing.observe(_ENDED)
        if self._asking is not None:
            self._asking.close(timeout)
        if self._source.malformed:
            reasons = ", ".join(f"{reason}: {count}" for reason, count in sorted(self._source.malformed.items()))
            _log.warning("events of `%s` that could not be read: %s", self._source.name, reasons)

    async def aclose(self) -> None:
        """`close` for asynchronous code: whoever is still handing an answer back needs the event loop, and is waited for."""
        if self._asking is None or _loop_here() is None:
            self.close()
        else:
            await asyncio.to_thread(self.close)


def _loop_here() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _on_its_loop(respond: Responder) -> Responder:
    """A responder that may be asynchronous, as one that blocks its own thread."""
    loop = _loop_here()

    def deliver(question: Question, verdict: Verdict) -> object:
        result = respond(question, verdict)
        if not inspect.isawaitable(result):
            return result
        waiting = _wait(result)
        if loop is not None and loop.is_running():
            handed = asyncio.run_coroutine_threadsafe(waiting, loop)
            try:
                return handed.result(_RESPOND_S)
            finally:
                # What counts as not delivered from here on is not delivered later.
                handed.cancel()
        return asyncio.run(waiting)

    return deliver


def _wait(result: Awaitable[object]) -> Coroutine[Any, Any, object]:
    async def wait() -> object:
        return await result

    return wait()


def _active() -> Active:
    active = current_active()
    if not isinstance(active, Active):
        raise RuntimeStateError("no runtime is configured to take events; call `otel_runtime.configure()` at start")
    return active
