"""A small receiver for foreign events: POST one event, a list, or one per line, or send them over a WebSocket, and they become spans.

It listens on the loopback interface only. Every request and every WebSocket handshake carries the token that was printed at the start, so
that neither another user of this machine nor a web page in its browser can forge events; pages are refused by their `Origin` besides, and
by the `Host` that a rebound name brings. Bodies, messages, their number at once and their rate are bounded; each message is answered by a
count of what was taken before the next one is read.
"""

from __future__ import annotations

import hmac
import json
import secrets
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from functools import partial
from typing import Final, Protocol

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, HTTPConnection, Request
from starlette.responses import JSONResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from otel_runtime.web.door import own_hosts
from otel_runtime.web.loopback import LoopbackServer, loopback

__all__ = ["BODY_LIMIT", "EventReceiver", "Push", "Streams", "receiver_app"]

BODY_LIMIT: Final = 4 * 1024 * 1024
# Events of one body: a line of two bytes is an event too, so bytes alone do not bound the work.
_EVENTS: Final = 10_000
# Twice what one core projects.
_PER_SECOND: Final = 100_000
_BURST: Final = 200_000
_NOT_JSON: Final = 400


class Push(Protocol):
    """Takes events."""

    def push(self, raw: object) -> None:
        """Take one raw event; never raises."""
        ...


Streams = Callable[[], AbstractContextManager[Push]]


class _Refused(Exception):
    """A body that is not taken.

    Args:
        status: HTTP status.
        why: One sentence.
    """

    def __init__(self, status: int, why: str) -> None:
        self.status = status
        self.why = why
        super().__init__(why)


def receiver_app(into: Push, token: str, hosts: frozenset[str] = frozenset(), streams: Streams | None = None) -> Starlette:
    """The ASGI application: `POST /events`, and a WebSocket at the same path.

    Args:
        into: Where events go.
        token: What `Authorization: Bearer` must carry.
        hosts: Values of `Host` that are this server's own; empty asks nobody.
        streams: Opens a stream for each WebSocket, because events that name no run belong to the stream they came in; None puts all of them
            into one.
    """
    # One body at a time: the events of two requests must not mix, and a stream's state is one thread's.
    turn = threading.Lock()
    rate = _Rate()

    def push_all(into: Push, events: list[object]) -> None:
        with turn:
            for event in events:
                into.push(event)

    async def take(request: Request) -> JSONResponse:
        try:
            _check(request, token, hosts)
            events = _parsed(await _body(request), request.headers.get("content-type", ""))
            rate.spend(len(events))
        except _Refused as refused:
            return JSONResponse({"error": refused.why}, refused.status)
        except ClientDisconnect:
            return JSONResponse({"error": "the client went away"}, 400)
        await run_in_threadpool(push_all, into, events)
        return JSONResponse({"accepted": len(events)}, 202)

    async def converse(socket: WebSocket) -> None:
        try:
            _check(socket, token, hosts)
        except _Refused as refused:
            await socket.send_denial_response(JSONResponse({"error": refused.why}, refused.status))
            return
        await socket.accept()
        with nullcontext(into) if streams is None else streams() as own, suppress(WebSocketDisconnect):
            # Who does not wait for an answer gets none; what was sent before is taken.
            await _answer_each(socket, partial(push_all, own), rate)

    return Starlette(routes=[Route("/events", take, methods=["POST"]), WebSocketRoute("/events", converse)])


class _Rate:
    """Events per second, with room for one full body at once."""

    def __init__(self) -> None:
        self._left = float(_BURST)
        self._at = time.monotonic()

    def spend(self, events: int) -> None:
        """Take so many.

        Raises:
            _Refused: There were too many of late.
        """
        now = time.monotonic()
        self._left = min(float(_BURST), self._left + (now - self._at) * _PER_SECOND)
        self._at = now
        if events > self._left:
            raise _Refused(429, f"expected at most {_PER_SECOND} events per second; send the same again in a second")
        self._left -= events


async def _answer_each(socket: WebSocket, take: Callable[[list[object]], None], rate: _Rate) -> None:
    total = 0
    # Not `receive_bytes`: one connection may send text and binary messages.
    while (message := await socket.receive())["type"] == "websocket.receive":
        try:
            events = _events_of(message.get("bytes") or (message.get("text") or "").encode())
            rate.spend(len(events))
        except _Refused as refused:
            await socket.send_json({"error": refused.why, "accepted": 0, "total": total})
            continue
        await run_in_threadpool(take, events)
        total += len(events)
        await socket.send_json({"accepted": len(events), "total": total})


def _check(request: HTTPConnection, token: str, hosts: frozenset[str]) -> None:
    if hosts and request.headers.get("host", "").lower() not in hosts:
        raise _Refused(421, "this server answers on its own address only")
    if "origin" in request.headers:
        raise _Refused(403, "expected a program, got a web page: pages may not send events")
    given = request.headers.get("authorization", "")
    if not hmac.compare_digest(given.encode("utf-8", "replace"), f"Bearer {token}".encode()):
        raise _Refused(401, "expected `Authorization: Bearer` with the token that was printed at the start")
    told = request.headers.get("content-length", "0")
    if told.isdecimal() and int(told) > BODY_LIMIT:
        raise _Refused(413, f"expected at most {BODY_LIMIT} bytes, got {told}; send fewer events at once")


async def _body(request: Request) -> bytes:
    parts: list[bytes] = []
    size = 0
    async for part in request.stream():
        size += len(part)
        if size > BODY_LIMIT:
            raise _Refused(413, f"expected at most {BODY_LIMIT} bytes; send fewer events at once")
        parts.append(part)
    return b"".join(parts)


def _parsed(body: bytes, kind: str) -> list[object]:
    media = kind.partition(";")[0].strip().lower()
    if media not in ("application/json", "application/x-ndjson", "application/jsonl"):
        raise _Refused(415, f"expected `application/json` or `application/x-ndjson`, got `{media[:80]}`")
    return _bounded(_one_text(body) if media == "application/json" else _lines(body))


def _events_of(message: bytes) -> list[object]:
    """The events of one WebSocket message: JSON, or several lines of it."""
    if len(message) > BODY_LIMIT:
        raise _Refused(413, f"expected at most {BODY_LIMIT} bytes, got {len(message)}; send fewer events at once")
    try:
        return _bounded(_one_text(message))
    except _Refused as refused:
        if refused.status != _NOT_JSON or b"\n" not in message.strip():
            raise
    return _bounded(_lines(message))


def _one_text(body: bytes) -> list[object]:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError) as problem:
        raise _Refused(_NOT_JSON, f"the body is not JSON: {str(problem)[:200]}") from problem
    return value if isinstance(value, list) else [value]


def _lines(body: bytes) -> list[object]:
    try:
        return [json.loads(line) for line in body.splitlines() if line.strip()]
    except (ValueError, RecursionError) as problem:
        raise _Refused(_NOT_JSON, f"a line is not JSON: {str(problem)[:200]}") from problem


def _bounded(events: list[object]) -> list[object]:
    if len(events) > _EVENTS:
        raise _Refused(413, f"expected at most {_EVENTS} events, got {len(events)}; send fewer at once")
    return events


class EventReceiver(LoopbackServer):
    """One receiver on one port.

    Args:
        into: Where events go.
        host: A loopback address.
        port: Port; 0 takes a free one.
        streams: Opens a stream for each WebSocket; None puts all of them into one.

    Raises:
        ConfigError: The host is no loopback address.
        RuntimeStateError: The port is taken.
    """

    def __init__(self, into: Push, host: str = "127.0.0.1", port: int = 0, streams: Streams | None = None) -> None:
        self.token: str = secrets.token_urlsafe(32)
        super().__init__(loopback(host), port, lambda host, port: receiver_app(into, self.token, own_hosts(host, port), streams))

    @property
    def url(self) -> str:
        """Address to post events to."""
        return f"http://{self.host}:{self.port}/events"

    @property
    def socket_url(self) -> str:
        """Address of the WebSocket."""
        return f"ws://{self.host}:{self.port}/events"
