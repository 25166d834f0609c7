"""The ASGI layer around the pages: host allow-list, security headers, body limit and time limit."""

from __future__ import annotations

import asyncio
from collections.abc import MutableMapping
from typing import Any, Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from otel_runtime.web.door import Door

__all__ = ["Guard"]

_BODY_LIMIT: Final = 16 * 1024
_BODY_SECONDS: Final = 10.0
HEADERS: Final = {
    "content-security-policy": "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    # Not no-referrer: browsers then send `Origin: null` with forms, and nothing tells ours from others'.
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}


class Guard:
    """Lets through what may be answered at all.

    Args:
        app: The pages.
        door: The host allow-list.
    """

    def __init__(self, app: ASGIApp, door: Door) -> None:
        self._app = app
        self._door = door

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        wrapped = _with_headers(send)
        if not self._door.host_allowed(Headers(scope=scope).get("host")):
            await _plain("this server answers on its own address only", 421)(scope, receive, wrapped)
            return
        body = await _body(receive) if scope["method"] == "POST" else b""
        if body is None:
            await _plain("the request is too large or too slow", 413)(scope, receive, wrapped)
            return
        await self._app(scope, _once(body) if scope["method"] == "POST" else receive, wrapped)


def _plain(text: str, status: int) -> PlainTextResponse:
    return PlainTextResponse(text + "\n", status)


def _with_headers(send: Send) -> Send:
    async def wrapped(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers[name] = value
        await send(message)

    return wrapped


async def _body(receive: Receive) -> bytes | None:
    """The whole body; None when it is over the limit or does not arrive in time."""
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(_BODY_SECONDS):
            while True:
                message = await receive()
                if message["type"] != "http.request":
                    return None
                parts.append(message.get("body", b""))
                size += len(parts[-1])
                if size > _BODY_LIMIT:
                    return None
                if not message.get("more_body", False):
                    return b"".join(parts)
    except TimeoutError:
        return None


def _once(body: bytes) -> Receive:
    # Any: the ASGI message type is an open mapping.
    async def receive() -> MutableMapping[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    return receive
