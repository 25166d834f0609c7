"""Servers and workers that end in ways of their own: the real programs, stopped as an operator stops them."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
import types
import urllib.request
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any

import pytest

from otel_runtime.errors import OtelRuntimeError
from otel_runtime.integrations.asgi import FlushAtShutdown, flush_at_shutdown
from otel_runtime.integrations.uwsgi import flush_at_exit
from otel_runtime.testing.receiver import OtlpReceiver

ASGI = """
import otel_runtime as rt
from otel_runtime.integrations.asgi import FlushAtShutdown, flush_at_shutdown
rt.configure(otlp="on")

@rt.tool
async def serve(): return b"ok"

async def plain(scope, receive, send):
    assert scope["type"] == "http"
    body = await serve()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": body})

wrapped = FlushAtShutdown(plain)

def starlette(**options):
    from starlette.applications import Starlette
    from starlette.responses import Response
    from starlette.routing import Route
    async def home(request): return Response(await serve())
    return Starlette(routes=[Route("/", home)], **options)

framework = starlette(lifespan=flush_at_shutdown)
middle = starlette()
middle.add_middleware(FlushAtShutdown)
"""
WSGI = """
import otel_runtime as rt

@rt.tool
def serve(): return b"ok"

def app(environ, start_response):
    start_response("200 OK", [("Content-Length", "2")])
    return [serve()]
CONFIGURE
"""
CELERY = """
import sys
from celery import Celery
import otel_runtime as rt
from otel_runtime.integrations.celery import flush_workers

app = Celery("work", broker="filesystem://", backend=None)
app.conf.broker_transport_options = {name: "box" for name in ("data_folder_in", "data_folder_out")} | {"control_folder": "control"}
app.conf.broker_connection_retry_on_startup = True
app.conf.worker_hijack_root_logger = False

@app.task
@rt.tool
def serve(): return "ok"

if "send" in sys.argv:
    serve.delay()
else:
    rt.configure(otlp="on")
    flush_workers()
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def start(here: Path, receiver: OtlpReceiver, *words: str) -> subprocess.Popen[str]:
    env = {**os.environ, **receiver.environ, "OTEL_METRICS_EXPORTER": "none", "OTEL_BSP_SCHEDULE_DELAY": "60000"}
    # A worker's log is the only thing that explains a failure here.
    log = (here / "log.txt").open("w")
    with log:
        return subprocess.Popen([sys.executable, "-m", *words], cwd=here, env=env, stdout=log, stderr=log, text=True)


def fetch(port: int) -> bytes:
    for _ in range(200):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5) as answer:
                body: bytes = answer.read()
                return body
        except OSError:
            time.sleep(0.05)
    raise AssertionError("the server never answered")


class TestAsgi:
    """Real uvicorn, stopped by SIGTERM."""

    @pytest.mark.parametrize("app", ["wrapped", "framework", "middle"])
    def test_sends_before_the_server_stops(self, here: Path, receiver: OtlpReceiver, app: str) -> None:
        """An application without a lifespan, one with ours, and our middleware: the span arrives although uvicorn dies by the signal."""
        (here / "site_app.py").write_text(ASGI)
        port = free_port()
        process = start(here, receiver, "uvicorn", f"site_app:{app}", "--port", str(port), "--log-level", "warning")
        assert b"ok" == fetch(port)
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=30)
        assert ["execute_tool serve"] == receiver.names(), (here / "log.txt").read_text()

    def drive(self, app: Any, *messages: str) -> list[str]:
        """What an application says to a server's lifespan messages."""
        said: list[str] = []
        waiting = list(messages)

        async def receive() -> MutableMapping[str, Any]:
            return {"type": f"lifespan.{waiting.pop(0)}"}

        async def send(message: MutableMapping[str, Any]) -> None:
            said.append(str(message["type"]).removeprefix("lifespan."))

        try:
            asyncio.run(FlushAtShutdown(app)({"type": "lifespan"}, receive, send))
        except ValueError as error:
            said.append(str(error))
        return said

    def test_a_failing_start_stays_one(self) -> None:
        """What the application says about its start reaches the server, and so does its exception."""

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            await send({"type": "lifespan.startup.failed", "message": "no"})
            raise ValueError("no")

        assert ["startup.failed", "no"] == self.drive(app, "startup")

    @pytest.mark.parametrize("reads", [0, 1, 2])
    def test_an_application_that_says_nothing(self, reads: int) -> None:
        """Whether it fails or returns, having read any of the messages, the server hears a whole lifespan."""

        async def app(scope: Any, receive: Any, send: Any) -> None:
            for _ in range(reads):
                await receive()
            if reads:
                raise KeyError("unknown scope")

        assert ["startup.complete", "shutdown.complete"] == self.drive(app, "startup", "shutdown")

    def test_the_context_manager_flushes_after_an_error_too(self) -> None:
        """The error of the block is the one that is seen."""

        async def run() -> None:
            async with flush_at_shutdown():
                raise ValueError("inside")

        with pytest.raises(ValueError, match="inside"):
            asyncio.run(run())


class TestGunicorn:
    """Real gunicorn, with the runtime configured before or after the fork."""

    @pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGQUIT])
    @pytest.mark.parametrize("preload", [True, False])
    def test_sends_when_a_worker_leaves(self, here: Path, receiver: OtlpReceiver, preload: bool, stop: signal.Signals) -> None:
        """Stopped gracefully or at once, every worker's spans arrive, and each once."""
        pytest.importorskip("gunicorn", reason="pip install gunicorn")
        (here / "site_app.py").write_text(WSGI.replace("CONFIGURE", "rt.configure(otlp='on')"))
        (here / "gunicorn.conf.py").write_text(
            "from otel_runtime.integrations.gunicorn import worker_abort, worker_exit\n"
            f"workers = 2\npreload_app = {preload}\naccesslog = None\nloglevel = 'warning'\n"
        )
        port = free_port()
        process = start(here, receiver, "gunicorn", "--bind", f"127.0.0.1:{port}", "site_app:app")
        assert [b"ok"] * 4 == [fetch(port) for _ in range(4)]
        process.send_signal(stop)
        process.wait(timeout=30)
        assert ["execute_tool serve"] * 4 == receiver.names(), (here / "log.txt").read_text()


class TestUwsgi:
    """uWSGI is a C program that is not installed here: its module is imitated, the function it calls is real."""

    def test_the_function_it_calls(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The application's own exit function runs first, and what ours does comes even when that one fails."""
        stopped: list[str] = []
        fake = types.ModuleType("uwsgi")
        monkeypatch.setitem(sys.modules, "uwsgi", fake)
        monkeypatch.setattr("otel_runtime.integrations.uwsgi.shutdown_all", lambda: stopped.append("flushed"))

        def own() -> None:
            stopped.append("own")
            raise ValueError("own")

        fake.atexit = own  # type: ignore[attr-defined]  # as an application sets it
        flush_at_exit()
        with pytest.raises(ValueError, match="own"):
            fake.atexit()
        assert ["own", "flushed"] == stopped

    def test_outside_of_it(self) -> None:
        """Called elsewhere it says what is wrong."""
        with pytest.raises(OtelRuntimeError, match="outside of uWSGI"):
            flush_at_exit()


class TestCelery:
    """A real worker on a broker of files."""

    @pytest.mark.parametrize("pool", ["prefork", "solo"])
    def test_sends_when_a_process_leaves(self, here: Path, receiver: OtlpReceiver, pool: str) -> None:
        """A warm stop sends what the pool's processes still had."""
        pytest.importorskip("celery", reason="pip install celery")
        (here / "work.py").write_text(CELERY)
        (here / "box").mkdir()
        (here / "control").mkdir()
        sent = start(here, receiver, "work", "send")
        assert 0 == sent.wait(timeout=60), (here / "log.txt").read_text()
        process = start(here, receiver, "celery", "-A", "work", "worker", "-P", pool, "-c", "1", "--without-gossip", "--without-mingle")
        for _ in range(400):
            # The broker's file is gone once a worker has taken the task.
            if not list((here / "box").iterdir()):
                break
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=60)
        assert ["execute_tool serve"] == receiver.names(), (here / "log.txt").read_text()
