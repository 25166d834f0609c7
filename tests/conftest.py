"""Every test starts as a fresh process would: no setting of whoever runs it, no runtime of the test before."""

from __future__ import annotations

import contextlib
import itertools
import os
import pwd
import random
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from hypothesis import settings

from otel_runtime.testing.receiver import OtlpReceiver
from otel_runtime.wrap import active

SETTINGS = ("OTEL_", "OPENAI_", "TRACEPARENT", "TRACESTATE")
# Says where recordings lie; it sets nothing in the library.
KEPT = "OTEL_RUNTIME_RECORDINGS"


# No test goes by the clock; the rest stays as hypothesis has it here or in CI.
settings.register_profile("untimed", settings(), deadline=None)
settings.load_profile("untimed")


@pytest.fixture(autouse=True, scope="session")
def interruptible() -> None:
    """A shell has its background programs ignore Ctrl-C, and so would every program that a test starts and interrupts."""
    for number in (signal.SIGINT, signal.SIGQUIT):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler if number is signal.SIGINT else signal.SIG_DFL)


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(SETTINGS) and name != KEPT]:
        monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def nothing_configured() -> Iterator[None]:
    yield
    # A runtime that is still registered belongs to a fixture of a wider scope. Without one, what was said at the last shutdown
    # ("a guarded runtime was shut down") would refuse the calls of the next test.
    if not active._registered:
        active.reset_slot()


@pytest.fixture(autouse=True)
def nothing_left_running() -> Iterator[None]:
    """No thread that this library started outlives the test that caused it: it would work on in the tests after it.

    Exporters wait between two tries for a time drawn from the application's generator; hypothesis takes such a draw for a test's own.
    """
    before = set(threading.enumerate())
    yield
    deadline = time.monotonic() + 30
    left = [thread for thread in set(threading.enumerate()) - before if thread.name.startswith("otel-runtime")]
    for thread in left:
        thread.join(max(0.0, deadline - time.monotonic()))
    assert not [thread for thread in left if thread.is_alive()]


@pytest.fixture
def listening() -> Iterator[Callable[[type[BaseHTTPRequestHandler]], str]]:
    """Starts HTTP servers on free loopback ports, each with a handler; gives the address. They stop with the test."""
    servers: list[ThreadingHTTPServer] = []

    def start(handler: type[BaseHTTPRequestHandler]) -> str:
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_address[1]}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@dataclass
class PostgresServer:
    """A real PostgreSQL on loopback, of this test run alone."""

    binaries: Path
    home: Path
    port: int = 0
    process: subprocess.Popen[bytes] | None = None
    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def url(self, database: str = "postgres", password: str = "") -> str:
        return f"postgresql://tester{password and ':' + password}@127.0.0.1:{self.port}/{database}"

    def fresh(self) -> str:
        """The URL of a new, empty database."""
        name = f"t{next(self.numbers)}"
        self.sql(f"CREATE DATABASE {name}")
        return self.url(name)

    def sql(self, statement: str, database: str = "postgres") -> str:
        return self.run("psql", "-qXtAv", "ON_ERROR_STOP=1", "-d", self.url(database), "-c", statement)

    def run(self, program: str, *words: str) -> str:
        # initdb and the server refuse to be root.
        user = {"user": _unprivileged(), "group": pwd.getpwnam(_unprivileged()).pw_gid, "extra_groups": []} if os.geteuid() == 0 else {}
        done = subprocess.run([self.binaries / program, *words], capture_output=True, text=True, check=False, cwd=self.home, **user)  # type: ignore[call-overload]  # keywords by a dict
        assert done.returncode == 0, f"{program}: {done.stderr}"
        return str(done.stdout).strip()

    def start(self) -> None:
        """Start it and wait until it answers, at the same port as before."""
        port, deadline = self.port, time.monotonic() + 60
        while time.monotonic() < deadline:
            if self.process is None or self.process.poll() is not None:
                # Not of those that the system gives to whoever asks for any. Another program may have it all the same: then the next one.
                self.port = port or random.SystemRandom().randrange(20_000, 32_000)
                self._launch()
            if self._ready():
                return
            time.sleep(0.05)
            said = (self.home / "log").read_text()
            assert self.process is None or self.process.poll() is None or "Address already in use" in said, said
        raise AssertionError((self.home / "log").read_text())

    def _launch(self) -> None:
        user = {"user": _unprivileged(), "group": pwd.getpwnam(_unprivileged()).pw_gid, "extra_groups": []} if os.geteuid() == 0 else {}
        words = ["-D", str(self.home / "data"), "-p", str(self.port), "-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="]
        with (self.home / "log").open("wb") as log:
            self.process = subprocess.Popen(
                [self.binaries / "postgres", *words], stdout=log, stderr=log, cwd=self.home, start_new_session=True, **user
            )  # type: ignore[call-overload]  # as above

    def _ready(self) -> bool:
        """What the server itself says: at the port another one may answer."""
        with contextlib.suppress(FileNotFoundError):
            said = (self.home / "data" / "postmaster.pid").read_text().split()
            return self.process is not None and said[:1] == [str(self.process.pid)] and said[-1] == "ready"
        return False

    def stop(self) -> None:
        """Stop it at once, as a crash would, but with its sessions told."""
        if self.process is not None:
            self.process.send_signal(signal.SIGINT)
            self.process.wait(120)
            self.process = None

    def freeze(self, *, frozen: bool) -> None:
        """Let every process of it stand still, or go on."""
        assert self.process is not None
        if not Path("/proc/self/task").exists():
            if frozen:
                pytest.skip("only Linux tells which processes are the server's: what happens when it stands still was not tested")
            return
        os.killpg(self.process.pid, signal.SIGSTOP if frozen else signal.SIGCONT)
        for child in Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split():
            # The server puts each of its processes into a group of its own.
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(child), signal.SIGSTOP if frozen else signal.SIGCONT)


def _unprivileged() -> str:
    names = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """Debian keeps the server's programs out of PATH."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parent.parent.name))
    initdb = found[-1] if found else Path(shutil.which("initdb") or "")
    if not initdb.name:
        pytest.skip("the PostgreSQL server is missing: nothing of what only it can do was tested; apt-get install postgresql")
    pytest.importorskip("psycopg", reason="psycopg is missing: pip install 'otel-runtime[postgres]'")
    home = Path(tempfile.mkdtemp(prefix="otel-runtime-postgres-"))
    if os.geteuid() == 0:
        shutil.chown(home, _unprivileged())
    server = PostgresServer(initdb.parent, home)
    try:
        server.run("initdb", "-D", str(home / "data"), "-U", "tester", "-A", "trust", "-E", "UTF8", "--no-locale", "-N")
        server.start()
        yield server
    finally:
        if server.process is not None:
            server.freeze(frozen=False)
        server.stop()
        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture
def postgres_url(postgres: PostgresServer) -> str:
    return postgres.fresh()


@pytest.fixture
def receiver(otel_runtime_receiver: OtlpReceiver) -> OtlpReceiver:
    """Where programs in processes of their own send their spans."""
    return otel_runtime_receiver


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """A project folder for such programs: no settings file above it is found."""
    (tmp_path / ".git").mkdir()
    return tmp_path
