"""Any ASGI application: spans are sent before the server stops.

A server such as uvicorn ends by the signal it was stopped with, so nothing that Python runs at exit is run. What it does run is the
application's lifespan.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

from otel_runtime.runtime.endings import flush_all

__all__ = ["FlushAtShutdown", "flush_at_shutdown"]

# As in https://asgi.readthedocs.io/en/latest/specs/main.html: plain dicts and callables.
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
Application: TypeAlias = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

_LAST_WORDS = frozenset({"lifespan.shutdown.complete", "lifespan.shutdown.failed"})


class FlushAtShutdown:
    """Wraps an application: `app = FlushAtShutdown(app)`, or `app.add_middleware(FlushAtShutdown)`.

    An application that knows no lifespan gets one that does nothing else.

    Args:
        app: Any ASGI 3 application.
        timeout: Seconds a flush may take; the setting `flush_timeout` when None.
    """

    def __init__(self, app: Application, timeout: float | None = None) -> None:
        self._app = app
        self._timeout = timeout

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Handle one connection, or the lifespan."""
        if scope["type"] == "lifespan":
            await _Lifespan(receive, send, self._timeout).run(self._app, scope)
        else:
            await self._app(scope, receive, send)


@asynccontextmanager
async def flush_at_shutdown(app: object = None, *, timeout: float | None = None) -> AsyncIterator[None]:  # noqa: ARG001, ASYNC109  # as frameworks call it; seconds for one flush
    """The same as a context manager, for `Starlette(lifespan=flush_at_shutdown)` or inside a lifespan of your own.

    Args:
        app: The application, as frameworks hand it over; not used.
        timeout: Seconds a flush may take; the setting `flush_timeout` when None.
    """
    try:
        yield
    finally:
        await _flush(timeout)


class _Lifespan:
    """One run of the lifespan protocol: what the application said so far."""

    def __init__(self, receive: Receive, send: Send, timeout: float | None) -> None:
        self._receive = receive
        self._send = send
        self._timeout = timeout
        self._received = 0
        self._said = False

    async def run(self, app: Application, scope: MutableMapping[str, Any]) -> None:
        try:
            await app(scope, self._hear, self._say)
        except Exception:
            # It failed while starting or stopping, and has said so; one that said nothing does not know the protocol.
            if self._said:
                raise
        if not self._said:
            await self._stand_in()

    async def _hear(self) -> Message:
        message = await self._receive()
        self._received += 1
        return message

    async def _say(self, message: Message) -> None:
        self._said = True
        if message["type"] in _LAST_WORDS:
            await _flush(self._timeout)
        await self._send(message)

    async def _stand_in(self) -> None:
        if self._received == 0:
            await self._hear()
        await self._send({"type": "lifespan.startup.complete"})
        if self._received == 1:
            await self._hear()
        await self._say({"type": "lifespan.shutdown.complete"})


async def _flush(timeout_s: float | None) -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        # Another kind of loop (trio): it stands still for as long as a flush may take.
        flush_all(timeout_s)
    else:
        # Background work on this loop is part of what is waited for, so the loop must go on.
        await asyncio.to_thread(flush_all, timeout_s)
