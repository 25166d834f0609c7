"""A FastAPI service that streams an agent's answer: one trace per request, alive until the last piece is sent.

    python app.py            serves two requests to itself and ends
    uvicorn app:app          serves you: curl -N 'http://127.0.0.1:8000/answer?question=lamps'

Needs `pip install fastapi uvicorn httpx`.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import uvicorn
from fastapi import FastAPI
from fastapi.responses import StreamingResponse

import otel_runtime as rt
from otel_runtime.integrations.asgi import flush_at_shutdown

__all__ = ["app"]

_POLICY = Path(__file__).with_name("policy.yaml")


@rt.tool
async def search(question: str) -> list[str]:
    """Look something up."""
    await asyncio.sleep(0)
    return [f"{question} come in", "two", "sizes"]


@rt.model(name="scripted-1", provider="example")
async def speak(words: list[str]) -> AsyncIterator[str]:
    """Stands in for a model that streams; the time to its first piece is on its span."""
    for word in words:
        await asyncio.sleep(0.01)
        yield f"{word} "


@rt.agent(session="visitor")
async def assistant(question: str, visitor: str) -> AsyncIterator[str]:
    """Look it up, then say it piece by piece."""
    async for piece in speak(await search(question)):
        yield piece


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Configure when the server starts, send what is left when it stops."""
    with rt.configure(name="answers", policy=_POLICY, trace_file="trace.json"):
        async with flush_at_shutdown(app):
            yield


app = FastAPI(lifespan=lifespan)


@app.get("/answer")
async def answer(question: str, visitor: str = "somebody") -> StreamingResponse:
    """The answer as it is made. A visitor who goes away ends the stream, and its span says so."""
    return StreamingResponse(assistant(question, visitor), media_type="text/plain")


async def main() -> None:
    """Serve on a free port of this machine, ask two questions at once, and stop."""
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
    # Open before the server is up, so that a request made at once waits for it.
    door = socket.create_server(("127.0.0.1", 0))
    serving = asyncio.create_task(server.serve(sockets=[door]))
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{door.getsockname()[1]}", trust_env=False, timeout=60) as client:
        asked = [client.get("/answer", params={"question": what, "visitor": who}) for what, who in (("lamps", "ann"), ("fans", "ben"))]
        for reply in await asyncio.gather(*asked):
            print(reply.text)
    server.should_exit = True
    await serving


if __name__ == "__main__":
    asyncio.run(main())
