"""The real servers, as plain processes on free loopback ports. `collector-config/build-backends.sh` builds them; without them these tests
are skipped, and say so.
"""

from __future__ import annotations

import http.client
import json
import os
import random
import re
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
CONFIG = REPOSITORY / "collector-config"
EXAMPLE = REPOSITORY / "examples" / "support_agent"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "otel-runtime" / "backends"
BINARIES = Path(os.environ.get("OTELRT_BACKENDS") or CACHE) / "bin"
# How long something may take that takes a second on an idle machine; nothing is measured by it.
PATIENCE_S = 120.0
BUILD = "collector-config/build-backends.sh"
Seen = TypeVar("Seen")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", f"backends: needs the real servers, which {BUILD} builds (20 minutes, once)")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # Servers start and programs run in each of them: several minutes where a machine is busy, and no hang.
    for item in items:
        if Path(__file__).parent in item.path.parents and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(600))


def binary(name: str) -> Path:
    """The program, or a loud skip."""
    path = BINARIES / name
    if not os.access(path, os.X_OK):
        part = {"otelcol": "collector", "otelcol-scale-out": "scale-out", "promtool": "prometheus"}.get(name, name)
        pytest.skip(f"{name} is not in {BINARIES}: build it with {BUILD} {part}")
    return path


# Each port once, and none that the system gives to outgoing connections: one of those may take it before its server does.
PORTS = iter(random.sample(range(20_000, 32_000), 4_000))


def free_port() -> int:
    for port in PORTS:
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("no free port is left")


def get(url: str, headers: Mapping[str, str] | None = None) -> tuple[int, bytes]:
    """Status and body; 0 when nobody answers."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(urllib.request.Request(url, headers=dict(headers or {})), timeout=60) as answer:
            return int(answer.status), answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()
    except (OSError, http.client.HTTPException):
        return 0, b""


def eventually(look: Callable[[], Seen], what: str = "it") -> Seen:
    """The first true answer."""
    deadline = time.monotonic() + PATIENCE_S
    while not (found := look()):
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not happen in {PATIENCE_S:.0f} s; last seen: {found!r}")
        time.sleep(0.1)
    return found


@dataclass
class Server:
    """One process.

    Args:
        command: What to run.
        environment: Its variables, besides ours.
        health: Address that answers 200 when it is ready.
        ports: What it listens on, by purpose.
        log: File of what it says.
    """

    command: list[str]
    environment: dict[str, str]
    health: str
    ports: dict[str, int]
    log: Path
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> Server:
        """Run it and wait until it is ready."""
        with self.log.open("ab") as log:
            env = {key: value for key, value in os.environ.items() if not key.startswith("OTEL_")}
            self.process = subprocess.Popen(self.command, env={**env, **self.environment}, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        eventually(self._ready, f"{self.command[0]} answering at {self.health}")
        return self

    def stop(self) -> None:
        """End it as an operator does."""
        self._end(subprocess.Popen.terminate)

    def kill(self) -> None:
        """kill -9."""
        self._end(subprocess.Popen.kill)

    def url(self, purpose: str) -> str:
        return f"http://127.0.0.1:{self.ports[purpose]}"

    def _ready(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.log.read_text(errors="replace")[-4000:]
        return get(self.health)[0] == 200

    def _end(self, how: Callable[[subprocess.Popen[bytes]], None]) -> None:
        if self.process is not None:
            how(self.process)
            self.process.wait(PATIENCE_S)
            self.process = None


@dataclass
class Jaeger:
    """A Jaeger, asked by /api/v3.

    Args:
        server: The process.
    """

    server: Server

    @property
    def endpoint(self) -> str:
        """Where a Collector sends."""
        return f"127.0.0.1:{self.server.ports['grpc']}"

    @property
    def page(self) -> str:
        """What --jaeger takes."""
        return self.server.url("query")

    def spans(self, trace_id: str, *, adjusted: bool = False) -> list[dict[str, Any]]:
        """Every span as it was sent, or as the page shows it, with `resource` and `scope` beside its own fields."""
        status, body = get(f"{self.page}/api/v3/traces/{trace_id}{'' if adjusted else '?raw_traces=true'}")
        return list(_flat(json.loads(body)["result"])) if status == 200 else []

    def trace(self, trace_id: str, count: int) -> list[dict[str, Any]]:
        """The same, once that many are there."""
        return eventually(lambda: found if len(found := self.spans(trace_id)) >= count else [], f"{count} spans of {trace_id} in Jaeger")


def _flat(document: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for entry in document.get("resourceSpans", []):
        for scoped in entry.get("scopeSpans", []):
            for span in scoped.get("spans", []):
                yield {**span, "resource": entry.get("resource", {}), "scope": scoped.get("scope", {})}


@dataclass
class Tempo:
    """A Tempo, asked by its HTTP API.

    Args:
        server: The process.
    """

    server: Server

    @property
    def endpoint(self) -> str:
        """Where a Collector sends."""
        return f"127.0.0.1:{self.server.ports['grpc']}"

    @property
    def page(self) -> str:
        """What --tempo takes."""
        return self.server.url("http")

    def found(self, query: str) -> list[dict[str, Any]]:
        """The traces a TraceQL query finds, with the spans that matched."""
        now = int(time.time())
        words = urllib.parse.urlencode({"q": query, "start": now - 3600, "end": now + 60, "limit": 50, "spss": 100})
        status, body = get(f"{self.page}/api/search?{words}")
        assert status == 200, (query, body)
        return list(json.loads(body).get("traces", []))

    def trace(self, trace_id: str, count: int) -> list[dict[str, Any]]:
        """The spans of one trace, once that many are there."""

        def look() -> list[dict[str, Any]]:
            status, body = get(f"{self.page}/api/v2/traces/{trace_id}")
            spans = list(_flat(json.loads(body).get("trace", {}))) if status == 200 else []
            return spans if len(spans) >= count else []

        return eventually(look, f"{count} spans of {trace_id} in Tempo")


@pytest.fixture(scope="session")
def program() -> Callable[[str], Path]:
    return binary


@pytest.fixture(scope="session")
def wait() -> Callable[..., Any]:
    return eventually


@pytest.fixture(scope="session")
def fetch() -> Callable[..., tuple[int, bytes]]:
    return get


@pytest.fixture(scope="session")
def config() -> Path:
    return CONFIG


@pytest.fixture(scope="session")
def port() -> Callable[[], int]:
    return free_port


@pytest.fixture(scope="session")
def jaegers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Jaeger]]:
    """Starts the Jaeger of jaeger.yaml with the store `disk` or `memory`; one of each for all tests."""
    with ExitStack() as stack:
        running: dict[str, Jaeger] = {}

        def start(store: str) -> Jaeger:
            if store not in running:
                running[store] = Jaeger(_jaeger(store, tmp_path_factory.mktemp(f"jaeger-{store}")).start())
                stack.callback(running[store].server.kill)
            return running[store]

        yield start


@pytest.fixture(scope="session")
def tempo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tempo]:
    """The Tempo of tempo.yaml, one for all tests."""
    server = _tempo(tmp_path_factory.mktemp("tempo")).start()
    yield Tempo(server)
    server.kill()


@pytest.fixture
def empty_tempo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tempo]:
    """One that holds nothing of other tests."""
    server = _tempo(tmp_path_factory.mktemp("empty-tempo")).start()
    yield Tempo(server)
    server.kill()


@pytest.fixture
def empty_jaeger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Jaeger]:
    """One that holds nothing of other tests."""
    server = _jaeger("memory", tmp_path_factory.mktemp("empty-jaeger")).start()
    yield Jaeger(server)
    server.kill()


def _tempo(folder: Path) -> Server:
    ports = {name: free_port() for name in ("http", "own", "grpc", "otlp-http")}
    environment = {
        "TEMPO_DATA": str(folder / "data"),
        "HTTP_HOST": "127.0.0.1",
        "HTTP_PORT": str(ports["http"]),
        "GRPC_PORT": str(ports["own"]),
        "OTLP_GRPC_ENDPOINT": f"127.0.0.1:{ports['grpc']}",
        "OTLP_HTTP_ENDPOINT": f"127.0.0.1:{ports['otlp-http']}",
    }
    command = [str(binary("tempo")), f"-config.file={CONFIG / 'tempo.yaml'}", "-config.expand-env=true"]
    return Server(command, environment, f"http://127.0.0.1:{ports['http']}/ready", ports, folder / "log")


@pytest.fixture(scope="session")
def jaeger(jaegers: Callable[[str], Jaeger]) -> Jaeger:
    """The one that keeps spans as they came."""
    return jaegers("memory")


def _jaeger(store: str, folder: Path) -> Server:
    ports = {name: free_port() for name in ("health", "query", "query-grpc", "grpc", "http")}
    environment = {
        "JAEGER_STORE": store,
        "JAEGER_DATA": str(folder / "data"),
        "HEALTH_ENDPOINT": f"127.0.0.1:{ports['health']}",
        "QUERY_ENDPOINT": f"127.0.0.1:{ports['query']}",
        "QUERY_GRPC_ENDPOINT": f"127.0.0.1:{ports['query-grpc']}",
        "OTLP_GRPC_ENDPOINT": f"127.0.0.1:{ports['grpc']}",
        "OTLP_HTTP_ENDPOINT": f"127.0.0.1:{ports['http']}",
    }
    command = [str(binary("jaeger")), "--config", str(CONFIG / "jaeger.yaml")]
    return Server(command, environment, f"http://127.0.0.1:{ports['health']}/status", ports, folder / "log")


@pytest.fixture
def collector(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Makes a Collector of one of our files, not started: `collector("agent.yaml", TRACES_ENDPOINT=...)`."""
    made: list[Server] = []

    def make(file: str, **environment: str) -> Server:
        made.append(_collector(file, tmp_path / f"{len(made)}-{file}", environment))
        return made[-1]

    yield make
    for server in made:
        server.kill()


def _collector(file: str, folder: Path, given: Mapping[str, str]) -> Server:
    folder.mkdir()
    ports = {name: free_port() for name in ("health", "grpc", "http", "metrics", "own")}
    environment = {
        "QUEUE_DIR": str(folder / "queue"),
        "HEALTH_ENDPOINT": f"127.0.0.1:{ports['health']}",
        "OTLP_GRPC_ENDPOINT": f"127.0.0.1:{ports['grpc']}",
        "OTLP_HTTP_ENDPOINT": f"127.0.0.1:{ports['http']}",
        "METRICS_ENDPOINT": f"127.0.0.1:{ports['metrics']}",
        "OWN_METRICS_PORT": str(ports["own"]),
        "DECISION_WAIT": "1s",
        "METRICS_FLUSH": "1s",
        **given,
    }
    name = "otelcol-scale-out" if file == "scale-out.yaml" else "otelcol"
    command = [str(binary(name)), "--config", str(CONFIG / file)]
    return Server(command, environment, f"http://127.0.0.1:{ports['health']}/", ports, folder / "log")


def post(url: str, body: bytes) -> int:
    """Status of an OTLP/HTTP receiver: 200 is an acknowledgement, 0 nobody there."""
    request = urllib.request.Request(f"{url}/v1/traces", body, {"Content-Type": "application/json"})
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=60) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code
    except (OSError, http.client.HTTPException):
        return 0


@pytest.fixture(scope="session")
def send_document() -> Callable[[str, bytes], int]:
    return post


@pytest.fixture(scope="session")
def send() -> Callable[..., int]:
    """Posts spans: `send(url, span, span)`, gives the status."""

    def send_spans(url: str, *spans: Mapping[str, Any]) -> int:
        resource = {"attributes": [{"key": "service.name", "value": {"stringValue": "sent"}}]}
        entry = {"resource": resource, "scopeSpans": [{"scope": {"name": "t"}, "spans": list(spans)}]}
        return post(url, json.dumps({"resourceSpans": [entry]}).encode())

    return send_spans


@pytest.fixture(scope="session")
def span() -> Callable[..., dict[str, Any]]:
    """One OTLP-JSON span that has just ended: `span(trace, name, error=True, **{"a.b": 1})`."""

    def make(trace: str, name: str, parent: str = "", *, error: str = "", seconds: float = 0.01, **attributes: object) -> dict[str, Any]:
        end = time.time_ns()
        return {
            "traceId": trace,
            "spanId": os.urandom(8).hex(),
            "parentSpanId": parent,
            "name": name,
            "kind": 1,
            "startTimeUnixNano": str(end - int(seconds * 1e9)),
            "endTimeUnixNano": str(end),
            "attributes": [{"key": key, "value": _value(value)} for key, value in attributes.items()],
            "status": {"code": 2, "message": error} if error else {},
        }

    return make


def _value(given: object) -> dict[str, object]:
    if isinstance(given, int):
        return {"intValue": str(given)}
    return {"doubleValue": given} if isinstance(given, float) else {"stringValue": str(given)}


@dataclass(frozen=True)
class Run:
    """A demo that has ended.

    Args:
        root: Its workspace.
        spans: Every span of its trace file, as in the document.
    """

    root: Path
    spans: list[dict[str, Any]]

    @property
    def trace_id(self) -> str:
        """Its one trace."""
        (found,) = {str(span["traceId"]) for span in self.spans}
        return found


@pytest.fixture
def demo(tmp_path: Path) -> Callable[[str], Run]:
    """Runs the support agent to its end, sending to this address."""
    return lambda endpoint: _demo(endpoint, tmp_path / "demo")


@pytest.fixture(scope="session")
def delivered(jaeger: Jaeger, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """One run of the support agent that went through the Collector of agent.yaml into Jaeger, for all tests that only look."""
    run = _through(jaeger.endpoint, tmp_path_factory.mktemp("delivered"))
    jaeger.trace(run.trace_id, len(run.spans))
    return run


@pytest.fixture(scope="session")
def run_through() -> Callable[[str, Path], Run]:
    """Runs the support agent through the Collector of agent.yaml into the store at this address."""
    return _through


def _through(store: str, folder: Path) -> Run:
    agent = _collector("agent.yaml", folder / "agent", {"TRACES_ENDPOINT": store})
    try:
        run = _demo(agent.start().url("http"), folder / "demo")
        # Ended as an operator does: what it has accepted is sent on.
        agent.stop()
    finally:
        agent.kill()
    return run


def _demo(endpoint: str, root: Path) -> Run:
    pytest.importorskip("openai", reason="the example talks through the openai client: pip install 'otel-runtime[openai]'")
    done = subprocess.run(
        [sys.executable, str(EXAMPLE / "demo.py"), "--unattended", "--workspace", str(root)],
        env=environment(endpoint),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=150,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return Run(root, list(_flat(json.loads((root / "trace.json").read_text()))))


def environment(endpoint: str) -> dict[str, str]:
    """For a process that sends there."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("OTEL_", "OPENAI_"))}
    return {**kept, "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "OTEL_METRIC_EXPORT_INTERVAL": "1000"}


@pytest.fixture(scope="session")
def sending() -> Callable[[str], dict[str, str]]:
    """Variables of a process that sends to this address."""
    return environment


@dataclass
class Waiting:
    """An agent that waits for a person.

    Args:
        root: Its workspace.
        request_id: What it asked.
        process: The agent.
        endpoint: Where it sends.
    """

    root: Path
    request_id: str
    process: subprocess.Popen[str]
    endpoint: str

    def run(self, *words: str) -> str:
        """Run another Python process in the workspace; what it printed."""
        done = subprocess.run(
            [sys.executable, *words],
            cwd=self.root,
            env=environment(self.endpoint),
            capture_output=True,
            text=True,
            check=False,
            timeout=150,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def resume(self) -> str:
        """Go on in a new process."""
        return self.run(str(EXAMPLE / "resume.py"), self.request_id)


@pytest.fixture
def waiting(tmp_path: Path) -> Iterator[Callable[[str], Waiting]]:
    """Starts the support agent on the ticket whose refund needs approval, and gives it when it has asked."""
    pytest.importorskip("openai", reason="the example talks through the openai client: pip install 'otel-runtime[openai]'")
    processes: list[subprocess.Popen[str]] = []

    def start(endpoint: str) -> Waiting:
        root = tmp_path / "waiting"
        command = [sys.executable, str(EXAMPLE / "support.py"), "--workspace", str(root), "--ticket", "T-103", "--wait", "600"]
        process = subprocess.Popen(command, env=environment(endpoint), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        processes.append(process)
        assert process.stdout is not None
        asked = next((found for line in process.stdout if (found := re.search(r"approvals approve (\w+)", line))), None)
        assert asked is not None
        return Waiting(root, asked[1], process, endpoint)

    yield start
    for process in processes:
        process.kill()
        process.communicate()
