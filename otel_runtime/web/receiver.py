"""A small HTTP receiver for foreign events: POST one event, a list, or one per line, and they become spans.

It listens on the loopback interface only. Every request carries the token that was printed at the start, so that neither another user of
this machine nor a web page in its browser can forge events; bodies and their number at once are bounded.
"""

from __future__ import annotations

import hmac
import json
import secrets
import threading
from typing import Final, Protocol

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from otel_runtime.web.loopback import LoopbackServer, loopback

__all__ = ["BODY_LIMIT", "EventReceiver", "Push", "receiver_app"]

BODY_LIMIT: Final = 4 * 1024 * 1024
# Events of one body: a line of two bytes is an event too, so bytes alone do not bound the work.
_EVENTS: Final = 10_000


class Push(Protocol):
    """Takes events."""

    def push(self, raw: object) -> None:
        """Take one raw event; never raises."""
        ...


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


def receiver_app(into: Push, token: str) -> Starlette:
    """The ASGI application: `POST /events`.

    Args:
        into: Where events go.
        token: What `Authorization: Bearer` must carry.
    """
    # One body at a time: the events of two requests must not mix, and a stream's state is one thread's.
    turn = threading.Lock()

    def push_all(events: list[object]) -> None:
        with turn:
            for event in events:
                into.push(event)

    async def take(request: Request) -> JSONResponse:
        try:
            _check(request, token)
            events = _parsed(await _body(request), request.headers.get("content-type", ""))
        except _Refused as refused:
            return JSONResponse({"error": refused.why}, refused.status)
        except ClientDisconnect:
            return JSONResponse({"error": "the client went away"}, 400)
        await run_in_threadpool(push_all, events)
        return JSONResponse({"accepted": len(events)}, 202)

    return Starlette(routes=[Route("/events", take, methods=["POST"])])


def _check(request: Request, token: str) -> None:
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
    try:
        if media == "application/json":
            value = json.loads(body)
            events: list[object] = value if isinstance(value, list) else [value]
        else:
            events = [json.loads(line) for line in body.splitlines() if line.strip()]
    except (ValueError, RecursionError) as problem:
        raise _Refused(400, f"the body is not JSON: {str(problem)[:200]}") from problem
    if len(events) > _EVENTS:
        raise _Refused(413, f"expected at most {_EVENTS} events, got {len(events)}; send fewer at once")
    return events


class EventReceiver(LoopbackServer):
    """One receiver on one port.

    Args:
        into: Where events go.
        host: A loopback address.
        port: Port; 0 takes a free one.

    Raises:
        ConfigError: The host is no loopback address.
        RuntimeStateError: The port is taken.
    """

    def __init__(self, into: Push, host: str = "127.0.0.1", port: int = 0) -> None:
        self.token: str = secrets.token_urlsafe(32)
        super().__init__(loopback(host), port, lambda _host, _port: receiver_app(into, self.token))

    @property
    def url(self) -> str:
        """Address to post events to."""
        return f"http://{self.host}:{self.port}/events"
