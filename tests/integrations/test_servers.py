"""Servers and workers that end in ways of their own: the real programs, stopped as an operator stops them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, MutableMapping
from pathlib import Path
from typing import Any, TypeVar

import pytest

from otel_runtime.errors import OtelRuntimeError
from otel_runtime.integrations.asgi import FlushAtShutdown, flush_at_shutdown
from otel_runtime.integrations.gunicorn import worker_abort
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


# Spans leave at a flush only, so that what arrives was flushed; and no flush is given up because the machine is busy.
LATE = {"OTEL_METRICS_EXPORTER": "none", "OTEL_BSP_SCHEDULE_DELAY": "600000", "OTEL_RUNTIME_FLUSH_TIMEOUT": "30s"}
# For what a slow machine still does in time.
PATIENCE_S = 90

Found = TypeVar("Found")
started: list[subprocess.Popen[str]] = []


@pytest.fixture(autouse=True)
def no_server_left_running() -> Iterator[None]:
    """A server that a failed test left behind is ended, and its workers with it: they share a session."""
    yield
    while started:
        process = started.pop()
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def begin(here: Path, receiver: OtlpReceiver, *words: str) -> subprocess.Popen[str]:
    # A worker's log is the only thing that explains a failure here.
    with (here / "log.txt").open("w") as log:
        env = {**os.environ, **receiver.environ, **LATE}
        started.append(subprocess.Popen(words, cwd=here, env=env, stdout=log, stderr=log, text=True, start_new_session=True))
    return started[-1]


def start(here: Path, receiver: OtlpReceiver, *words: str) -> subprocess.Popen[str]:
    return begin(here, receiver, sys.executable, "-m", *words)


def until(here: Path, process: subprocess.Popen[str], look: Callable[[], Found | None]) -> Found:
    """What `look` finds, once that is anything; a server that ends before is a failure that its log explains."""
    give_up = time.monotonic() + PATIENCE_S
    while True:
        last = process.poll() is not None or time.monotonic() > give_up
        if found := look():
            return found
        assert not last, (here / "log.txt").read_text()
        time.sleep(0.05)


def port_of(here: Path, process: subprocess.Popen[str]) -> int:
    """Where a server listens that was told to take any port: one that is chosen before it starts may be another's by then."""
    says = re.compile(r"(?:running on|Listening at:|bound to TCP address) (?:http://)?127\.0\.0\.1:(\d+)")
    return int(until(here, process, lambda: says.search((here / "log.txt").read_text()))[1])


def fetch(port: int, path: str = "/") -> bytes:
    # Asked once: a request that is given up is served all the same.
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=PATIENCE_S) as answer:
        body: bytes = answer.read()
        return body


def stopped(process: subprocess.Popen[str], stop: signal.Signals = signal.SIGTERM) -> None:
    process.send_signal(stop)
    process.wait(timeout=PATIENCE_S)


class TestAsgi:
    """Real uvicorn, stopped by SIGTERM."""

    @pytest.mark.parametrize("app", ["wrapped", "framework", "middle"])
    def test_sends_before_the_server_stops(self, here: Path, receiver: OtlpReceiver, app: str) -> None:
        """An application without a lifespan, one with ours, and our middleware: the span arrives although uvicorn dies by the signal."""
        (here / "site_app.py").write_text(ASGI)
        process = start(here, receiver, "uvicorn", f"site_app:{app}", "--port", "0")
        assert b"ok" == fetch(port_of(here, process))
        stopped(process)
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


STUCK = """
import threading, time

@rt.tool
def stuck():
    open("begun", "w").close()
    time.sleep(600)

@rt.tool
def deaf():
    open("begun", "w").close()
    while True:
        try: time.sleep(600)
        except BaseException: pass

def app(environ, start_response):
    start_response("200 OK", [("Content-Length", "2")])
    work = {"/stuck": stuck, "/deaf": deaf, "/untraced": lambda: b"ok"}.get(environ["PATH_INFO"], serve)
    return [work()]
"""


class TestGunicorn:
    """Real gunicorn, with the runtime configured before or after the fork."""

    def started(self, here: Path, receiver: OtlpReceiver, settings: str, workers: int = 1) -> tuple[subprocess.Popen[str], int]:
        pytest.importorskip("gunicorn", reason="gunicorn is missing, so its workers' ends were not tested; pip install gunicorn")
        (here / "site_app.py").write_text(WSGI.replace("CONFIGURE", "rt.configure(otlp='on')") + STUCK)
        (here / "gunicorn.conf.py").write_text(
            "from otel_runtime.integrations.gunicorn import worker_abort, worker_exit\n"
            "def post_worker_init(worker): open(f'booted-{worker.pid}', 'w').close()\n"
            f"accesslog = None\nworkers = {workers}\n{settings}\n"
        )
        process = start(here, receiver, "gunicorn", "--bind", "127.0.0.1:0", "site_app:app")
        # One that is stopped while it boots hears of it when the master kills it.
        until(here, process, lambda: len(list(here.glob("booted-*"))) == workers)
        return process, port_of(here, process)

    def ask(self, here: Path, process: subprocess.Popen[str], port: int, path: str) -> None:
        """Have a worker serve one request and be in the middle of another."""
        assert b"ok" == fetch(port)
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.sendall(f"GET {path} HTTP/1.0\r\n\r\n".encode())
        until(here, process, (here / "begun").exists)

    @pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGQUIT])
    @pytest.mark.parametrize("preload", [True, False])
    def test_sends_when_a_worker_leaves(self, here: Path, receiver: OtlpReceiver, preload: bool, stop: signal.Signals) -> None:
        """Stopped gracefully or at once, every worker's spans arrive, and each once."""
        process, port = self.started(here, receiver, f"preload_app = {preload}", workers=2)
        assert [b"ok"] * 4 == [fetch(port) for _ in range(4)]
        stopped(process, stop)
        assert ["execute_tool serve"] * 4 == receiver.names(), (here / "log.txt").read_text()

    def test_a_worker_that_cannot_come_to_its_end(self, here: Path, receiver: OtlpReceiver) -> None:
        """With a request stuck in a thread Python never reaches `atexit`; the hook sends all the same, and the stuck call as interrupted."""
        settings = "worker_class = 'gthread'\nthreads = 2\nmax_requests = 3\ngraceful_timeout = 1\ntimeout = 600"
        process, port = self.started(here, receiver, settings)
        self.ask(here, process, port, "/stuck")
        # The last that this worker takes.
        assert b"ok" == fetch(port, "/untraced")
        found = {span.name: span.attributes.get("otel_runtime.outcome") for span in receiver.wait_for(2, timeout=PATIENCE_S)}
        # The master kills what is left of its workers after `graceful_timeout`.
        stopped(process)
        assert {"execute_tool serve": None, "execute_tool stuck": "interrupted"} == found, (here / "log.txt").read_text()

    @pytest.mark.parametrize(("path", "sent"), [("/stuck", {"serve": None, "stuck": "SystemExit"}), ("/deaf", {"serve": None})])
    def test_a_request_that_takes_too_long(self, here: Path, receiver: OtlpReceiver, path: str, sent: dict[str, object]) -> None:
        """Aborted by gunicorn, the call ends as an error; one that swallows the abort is killed, and what was finished before is sent."""
        # Long enough that no worker is aborted because it waits for a processor.
        process, port = self.started(here, receiver, "timeout = 5\ngraceful_timeout = 1")
        self.ask(here, process, port, path)
        spans = receiver.wait_for(len(sent), timeout=PATIENCE_S)
        found = {span.name.removeprefix("execute_tool "): span.attributes.get("error.type") for span in spans}
        stopped(process, signal.SIGQUIT)
        assert sent == found, (here / "log.txt").read_text()

    def test_an_aborted_worker_is_given_time(self) -> None:
        """gunicorn kills an aborted worker at its next look, unless it is heard of meanwhile: it says that it lives, and then sends."""
        config = pytest.importorskip("gunicorn.config", reason="gunicorn is missing: pip install gunicorn")
        worker = pytest.importorskip("gunicorn.workers.base").Worker(1, os.getpid(), [], None, 30, config.Config(), None)
        os.utime(worker.tmp.fileno(), (1, 1))
        worker_abort(worker)
        assert worker.tmp.last_update() > 1
        # One that is leaving already has nothing left to say it with.
        worker.tmp.close()
        worker_abort(worker)


class TestUwsgi:
    """Real uWSGI with two workers."""

    LOADED = "rt.configure(otlp='on')\nEARLIER\nfrom otel_runtime.integrations.uwsgi import flush_at_exit\nflush_at_exit()\n"

    def started(self, here: Path, receiver: OtlpReceiver, *options: str, earlier: str = "") -> tuple[subprocess.Popen[str], int]:
        # Beside this interpreter first: an environment need not be on the path.
        command = shutil.which("uwsgi", path=os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", ""))))
        if command is None:
            pytest.skip("uWSGI is missing, so its workers' ends were not tested; pip install pyuwsgi")
        program = WSGI.replace("CONFIGURE", self.LOADED.replace("EARLIER", earlier))
        (here / "site_app.py").write_text(f"{program}\napplication = app\n")
        words = ["--http-socket", "127.0.0.1:0", "--stats", "stats", "--wsgi-file", "site_app.py", "--need-app", "--die-on-term", "-p", "2"]
        process = begin(here, receiver, command, *words, *options)
        return process, port_of(here, process)

    def workers(self, here: Path) -> list[dict[str, Any]]:
        """What the master says of its workers; nothing before it is ready for signals and watches files."""
        with socket.socket(socket.AF_UNIX) as asked:
            asked.settimeout(PATIENCE_S)
            try:
                # A relative name: that of a socket is short.
                with contextlib.chdir(here):
                    asked.connect("stats")
            except (FileNotFoundError, ConnectionRefusedError):
                return []
            with asked.makefile() as answer:
                found: list[dict[str, Any]] = json.load(answer)["workers"]
                return found

    def until_ready(self, here: Path, process: subprocess.Popen[str], loads: int) -> None:
        """So many loads so far, and every worker idle and ready for signals.

        One that is stopped while it loads has nothing to send; one that is busy is asked nothing, and it is for a moment after its client
        has the answer.
        """
        until(here, process, lambda: (here / "log.txt").read_text().count("WSGI app 0") >= loads)
        ready = {("idle", 1)}
        until(here, process, lambda: ready == {(worker["status"], worker["accepting"]) for worker in self.workers(here)})

    def stopped(self, here: Path, process: subprocess.Popen[str], stop: signal.Signals = signal.SIGTERM) -> None:
        """Every worker ready, then stopped by its master."""
        self.until_ready(here, process, 0)
        stopped(process, stop)

    @pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
    def test_sends_when_workers_leave(self, here: Path, receiver: OtlpReceiver, stop: signal.Signals) -> None:
        """Stopped, every worker's spans arrive, and each once."""
        process, port = self.started(here, receiver, "--master", "--lazy-apps", "--enable-threads")
        self.until_ready(here, process, 2)
        assert [b"ok"] * 6 == [fetch(port) for _ in range(6)]
        self.stopped(here, process, stop)
        assert ["execute_tool serve"] * 6 == receiver.names(), (here / "log.txt").read_text()

    def test_sends_at_a_graceful_reload(self, here: Path, receiver: OtlpReceiver) -> None:
        """The workers that a reload replaces send theirs then, and the new ones serve."""
        (here / "touched").write_text("")
        process, port = self.started(here, receiver, "--master", "--lazy-apps", "--enable-threads", "--touch-workers-reload", "touched")
        self.until_ready(here, process, 2)
        assert [b"ok"] * 4 == [fetch(port) for _ in range(4)]
        later = time.time() + 60
        os.utime(here / "touched", (later, later))
        assert ["execute_tool serve"] * 4 == [span.name for span in receiver.wait_for(4, timeout=PATIENCE_S)], (
            here / "log.txt"
        ).read_text()
        self.until_ready(here, process, 4)
        assert b"ok" == fetch(port)
        self.stopped(here, process, signal.SIGINT)
        assert ["execute_tool serve"] * 5 == receiver.names(), (here / "log.txt").read_text()

    def test_a_killed_worker_loses_its_own_only(self, here: Path, receiver: OtlpReceiver) -> None:
        """Nothing runs at kill -9; its successor starts clean and sends what it serves, and no span comes twice."""
        process, port = self.started(here, receiver, "--master", "--lazy-apps", "--enable-threads", "-p", "1")
        self.until_ready(here, process, 1)
        assert [b"ok"] * 2 == [fetch(port) for _ in range(2)]
        (worker,) = self.workers(here)
        os.kill(worker["pid"], signal.SIGKILL)
        self.until_ready(here, process, 2)
        assert [b"ok"] * 3 == [fetch(port) for _ in range(3)]
        self.stopped(here, process)
        assert ["execute_tool serve"] * 3 == receiver.names(), (here / "log.txt").read_text()

    SLOW = """
import os, time
@rt.tool
def slow(seconds):
    open("begun", "w").close()
    time.sleep(seconds)
    return b"ok"

def app(environ, start_response):
    body = slow(float(environ["PATH_INFO"].strip("/"))) if environ["PATH_INFO"] != "/" else serve()
    start_response("200 OK", [("Content-Length", "2")])
    return [body]
"""

    def in_flight(
        self, here: Path, receiver: OtlpReceiver, seconds: float, *options: str
    ) -> tuple[subprocess.Popen[str], threading.Thread, list[object]]:
        """A worker that has served one request and is in the middle of another."""
        process, port = self.started(here, receiver, "--master", "--lazy-apps", "--enable-threads", "-p", "1", *options, earlier=self.SLOW)
        self.until_ready(here, process, 1)
        assert b"ok" == fetch(port)
        answers: list[object] = []

        def ask() -> None:
            try:
                answers.append(fetch(port, f"/{seconds}"))
            except OSError as error:
                answers.append(error)

        asking = threading.Thread(target=ask)
        asking.start()
        until(here, process, (here / "begun").exists)
        return process, asking, answers

    def test_a_request_in_flight_at_a_graceful_stop(self, here: Path, receiver: OtlpReceiver) -> None:
        """It is served to its end, and its span arrives like every other."""
        process, asking, answers = self.in_flight(here, receiver, 2, "--hook-master-start", "unix_signal:1 gracefully_kill_them_all")
        stopped(process, signal.SIGHUP)
        asking.join(PATIENCE_S)
        assert [b"ok"] == answers, (here / "log.txt").read_text()
        assert ["execute_tool serve", "execute_tool slow"] == receiver.names(), (here / "log.txt").read_text()

    def test_a_request_in_flight_at_a_stop(self, here: Path, receiver: OtlpReceiver, monkeypatch: pytest.MonkeyPatch) -> None:
        """Stopped at once, uWSGI breaks the request off and asks nobody in the busy worker: what had left by its schedule is all there is."""
        monkeypatch.setitem(LATE, "OTEL_BSP_SCHEDULE_DELAY", "200")
        process, asking, answers = self.in_flight(here, receiver, 600)
        assert ["execute_tool serve"] == [span.name for span in receiver.wait_for(1, timeout=PATIENCE_S)]
        stopped(process)
        asking.join(PATIENCE_S)
        assert [b"ok"] != answers
        assert ["execute_tool serve"] == receiver.names(), (here / "log.txt").read_text()

    @pytest.mark.parametrize(("options", "missing"), [(["--enable-threads"], "lazy-apps"), (["--lazy-apps"], "enable-threads")])
    def test_what_cannot_work_is_refused(self, here: Path, receiver: OtlpReceiver, options: list[str], missing: str) -> None:
        """Forks that Python does not hear of, and no threads: the application does not load, and the log says what to set."""
        process, _ = self.started(here, receiver, "--master", *options)
        process.wait(timeout=PATIENCE_S)
        assert f"set `{missing} = true`" in (here / "log.txt").read_text()

    def test_an_exit_function_of_the_applications_own(self, here: Path, receiver: OtlpReceiver) -> None:
        """It runs first, and ours even when that one fails."""
        own = "import uwsgi\ndef own():\n    serve()\n    raise ValueError('own')\nuwsgi.atexit = own\n"
        process, port = self.started(here, receiver, "--lazy-apps", "--enable-threads", "--master", earlier=own)
        self.until_ready(here, process, 2)
        assert b"ok" == fetch(port)
        self.stopped(here, process)
        assert ["execute_tool serve"] * 3 == receiver.names(), (here / "log.txt").read_text()

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
        assert 0 == sent.wait(timeout=PATIENCE_S), (here / "log.txt").read_text()
        process = start(here, receiver, "celery", "-A", "work", "worker", "-P", pool, "-c", "1", "--without-gossip", "--without-mingle")
        # The broker's file is gone once a worker has taken the task.
        until(here, process, lambda: not list((here / "box").iterdir()))
        stopped(process)
        assert ["execute_tool serve"] == receiver.names(), (here / "log.txt").read_text()
