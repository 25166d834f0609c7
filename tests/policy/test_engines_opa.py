"""Policies in Rego behind a real OPA, and a server with every fault one can have: whatever is no plain answer is a denial."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import os
import random
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
import warnings
import weakref
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, cast

import pytest

import otel_runtime as rt
from otel_runtime.errors import ConfigError, PolicyDenied
from otel_runtime.policy.answering import answered
from otel_runtime.policy.catalogue import ToolEntry
from otel_runtime.policy.engine_opa import OpaEngine
from otel_runtime.policy.engine_opa_http import MAX_ANSWER, OpaClient
from otel_runtime.policy.protocol import FactsView
from otel_runtime.runtime.build import build_runtime
from otel_runtime.settings.model import Settings
from otel_runtime.values.action import Action, Parameter, ToolSignature, Unreadable
from otel_runtime.values.decision import Decision

NOW = datetime(2026, 11, 20, tzinfo=UTC)
FACTS = FactsView(labels={}, history=frozenset())
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "otel-runtime" / "backends"
OPA = Path(os.environ.get("OTELRT_BACKENDS") or CACHE) / "bin" / "opa"
REGO = """
package agent

default decision := {"decision": "deny", "reason": "Nothing allows it."}

decision := {"decision": "deny", "reason": "After reading something untrusted.", "rule": "tainted"} if {
    input.name == "mail"
    "untrusted" in input.labels
} else := {"decision": "deny", "reason": "Who asks is unknown.", "rule": "unknown"} if {
    input.name == "mail"
    count(input.unknown) > 0
} else := {"decision": "allow", "rule": "mail"} if {
    input.name == "mail"
    endswith(input.args.to, "@corp.example")
} else := {"decision": "require-approval", "rule": "large", "reason": "Much money.",
           "approval": {"approvers": ["role:finance"], "quorum": 2, "expires": "4h", "edit": ["note"]}} if {
    input.name == "refund"
    input.args.amount > 100
} else := {"decision": "allow", "rule": "small"} if {
    input.name == "refund"
    input.args.amount > 0
} else := {"decision": "retryable-failure", "rule": "rate", "retry": {"after": "10s", "max_attempts": 3, "class": "rate"}} if {
    input.name == "limited"
} else := {"decision": "allow"} if {
    input.name == "by_agent"
    input.agent == "boss"
} else := {"decision": "deny"} if {
    input.name == "divide"
    1 / input.args.x > 1
} else := {"decision": "allow"} if {
    input.name == "divide"
} else := {"decision": "allow", "rule": "exact"} if {
    input.name == "exact"
    input.args.x == 0.1
    input.args.y == 12345678901234567890123
}

default allow := false

allow if input.name == "ping"
"""


def action(name: str = "refund", /, **more: Any) -> Action:
    return Action("tool", name, **{"session": "s", "user": "u", "roles": frozenset(), "tenant": "t", **more})


def decide(engine: OpaEngine, call: Action, facts: FactsView = FACTS, attempt: int = 1) -> Decision:
    view = answered(engine.needs(call, NOW), facts)
    return engine.decide(call, view, NOW, attempt).decision


def engine_at(url: str, timeout_s: float = 60.0, token: str | None = None, **more: Any) -> OpaEngine:
    return OpaEngine(OpaClient(url, timeout_s, token), url, **more)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    if not os.access(OPA, os.X_OK):
        pytest.skip(f"OPA is not at {OPA}: build it with collector-config/build-backends.sh opa")
    folder = tmp_path_factory.mktemp("opa")
    (folder / "agent.rego").write_text(REGO)
    while True:
        # Not of the ports that the system gives to whoever asks for any. OPA does not tell which one it would have been given.
        port = random.SystemRandom().randrange(20_000, 32_000)
        url = f"http://127.0.0.1:{port}"
        command = [str(OPA), "run", "--server", "--addr", f"127.0.0.1:{port}", "--log-level", "error", "--disable-telemetry", str(folder)]
        with (folder / "log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
            try:
                if _listens(process, f"{url}/health"):
                    yield url
                    return
            finally:
                process.terminate()
        said = (folder / "log").read_text()
        assert "address already in use" in said, said


def _listens(process: subprocess.Popen[bytes], url: str) -> bool:
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError, urllib.error.URLError), urllib.request.urlopen(url, timeout=5):
            return process.poll() is None
        time.sleep(0.1)
    return False


class TestRealOpa:
    @pytest.fixture
    def engine(self, server: str) -> OpaEngine:
        return engine_at(f"{server}/v1/data/agent/decision")

    def test_verdicts(self, engine: OpaEngine) -> None:
        """Each verdict comes with its reason, rule and terms."""
        small, large = decide(engine, action(args={"amount": 5})), decide(engine, action(args={"amount": 500}))
        assert ("allow", "small") == (small.value, small.rule)
        assert ("require-approval", "Much money.") == (large.value, large.reason)
        assert large.approval is not None
        assert (2, 14400.0, frozenset({"note"})) == (large.approval.requirements[0].quorum, large.approval.expires_s, large.approval.edit)
        limited = decide(engine, action("limited"))
        assert limited.retry is not None
        assert ("retryable-failure", 10.0, 3) == (limited.value, limited.retry.after_s, limited.retry.max_attempts)
        assert "deny" == decide(engine, action("limited"), attempt=3).value
        assert ("deny", "Nothing allows it.") == (decide(engine, action("other")).value, decide(engine, action("other")).reason)

    def test_facts(self, engine: OpaEngine) -> None:
        """Labels of the session count, and what is unknown is said."""
        mail = action("mail", args={"to": "bob@corp.example"})
        assert ["allow", "deny", "deny"] == [
            decide(engine, mail, facts).value
            for facts in (FACTS, FactsView(labels={"untrusted": frozenset()}, history=frozenset()), FactsView(failure="gone"))
        ]
        assert "unknown" == decide(engine, action("mail", args={"to": "bob@corp.example"}, user=None)).rule

    def test_chain(self, engine: OpaEngine) -> None:
        """The strictest caller counts."""
        assert ["allow", "deny"] == [decide(engine, action("by_agent", agents=chain)).value for chain in (("boss",), ("boss", "intern"))]

    def test_numbers_are_exact(self, engine: OpaEngine) -> None:
        """Decimals and long integers arrive with every digit."""
        assert "allow" == decide(engine, action("exact", args={"x": Decimal("0.1"), "y": 12345678901234567890123})).value
        assert "deny" == decide(engine, action("exact", args={"x": Decimal("0.1"), "y": 12345678901234567890124})).value

    def test_boolean(self, server: str) -> None:
        """A document that is true or false is an allow or a deny."""
        engine = engine_at(f"{server}/v1/data/agent/allow")
        assert ["allow", "deny"] == [decide(engine, action(name)).value for name in ("ping", "pong")]

    def test_undefined(self, server: str) -> None:
        """No such document is a denial that says so."""
        denied = decide(engine_at(f"{server}/v1/data/agent/nothing"), action())
        assert ("deny", "policy.error") == (denied.value, denied.code)
        assert "default" in denied.reason

    def test_failing_builtin(self, engine: OpaEngine) -> None:
        """A built-in that fails is an error and no rule that does not apply."""
        assert ["allow", "deny"] == [decide(engine, action("divide", args={"x": x})).value for x in (2, 0.5)]
        denied = decide(engine, action("divide", args={"x": 0}))
        assert ("deny", "policy.error") == (denied.value, denied.code)

    def test_many_at_once(self, engine: OpaEngine) -> None:
        """Connections are shared by threads and answers are not mixed up."""
        wrong: list[object] = []

        def run(amount: int) -> None:
            for _ in range(10):
                decision = decide(engine, action(args={"amount": amount}))
                if decision.rule != ("large" if amount > 100 else "small"):
                    wrong.append(decision)

        threads = [threading.Thread(target=run, args=(amount,)) for amount in (5, 500) * 5]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [] == wrong


Answer = Callable[[BaseHTTPRequestHandler, bytes], None]


class Faulty(ThreadingHTTPServer):
    """Answers as it is told, and keeps what it was asked."""

    daemon_threads = True
    answer: Answer
    asked: list[tuple[dict[str, str], Any]]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is what these tests do."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Faulty

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.asked.append((dict(self.headers), json.loads(body)))
        self.server.answer(self, body)

    def log_message(self, *_: Any) -> None:
        """Silent."""


@pytest.fixture
def faulty() -> Iterator[Faulty]:
    with Faulty(("127.0.0.1", 0), _Handler) as server:
        server.asked = []
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def says(body: object, status: int = 200, headers: dict[str, str] | None = None) -> Answer:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()

    def answer(handler: BaseHTTPRequestHandler, _: bytes) -> None:
        handler.send_response(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": str(len(raw)), **(headers or {})}.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(raw)

    return answer


def at(server: Faulty, timeout_s: float = 60.0, **more: Any) -> OpaEngine:
    return engine_at(f"http://127.0.0.1:{server.server_address[1]}/v1/data/a", timeout_s, **more)


def drip(part: Callable[[BaseHTTPRequestHandler, int], bytes]) -> Answer:
    def answer(handler: BaseHTTPRequestHandler, _: bytes) -> None:
        with contextlib.suppress(OSError):
            for number in range(2000):
                handler.wfile.write(part(handler, number))
                handler.wfile.flush()
                time.sleep(0.02)
        handler.close_connection = True

    return answer


def dies(sent: bytes) -> Answer:
    def answer(handler: BaseHTTPRequestHandler, _: bytes) -> None:
        handler.wfile.write(sent)
        handler.wfile.flush()
        handler.close_connection = True

    return answer


def says_by_agent(results: dict[str, object]) -> Answer:
    def answer(handler: BaseHTTPRequestHandler, body: bytes) -> None:
        says({"result": results[json.loads(body)["input"]["agent"]]})(handler, body)

    return answer


OK = {"result": {"decision": "allow"}}
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


class TestCallers:
    """A chain of agents, each of which OPA answers for itself and under one name."""

    CHAIN = ("boss", "intern")

    def test_everybody_is_asked(self, faulty: Faulty) -> None:
        """What is asked for one agent does not replace what is asked for another."""
        asks = {
            "boss": {"decision": "require-approval", "approval": {"approvers": ["role:finance"], "expires": "4h"}},
            "intern": {"decision": "require-approval", "approval": {"approvers": ["role:legal"], "quorum": 2, "expires": "5min"}},
        }
        faulty.answer = says_by_agent({**asks})
        terms = decide(at(faulty), action(agents=self.CHAIN)).approval
        assert terms is not None
        assert [(("role:finance",), 1), (("role:legal",), 2)] == [(one.approvers, one.quorum) for one in terms.requirements]
        assert 300.0 == terms.expires_s
        faulty.answer = says_by_agent({"boss": asks["boss"], "intern": asks["boss"]})
        same = decide(at(faulty), action(agents=self.CHAIN)).approval
        assert same is not None
        assert [("role:finance",)] == [one.approvers for one in same.requirements]

    def test_every_answer_is_recorded(self, faulty: Faulty) -> None:
        """A denial for one agent stands in the record beside the allow for another."""
        faulty.answer = says_by_agent({"boss": "allow", "intern": "deny"})
        decision = decide(at(faulty), action(agents=self.CHAIN))
        assert "deny" == decision.value
        assert ["allow", "deny"] == [match.verdict for match in decision.matched]


class TestConnections:
    """What is kept open between two questions."""

    def kept(self, server: Faulty) -> OpaClient:
        server.answer = says({"result": True})
        client = OpaClient(f"http://127.0.0.1:{server.server_address[1]}/v1/data/a", 60.0)
        assert {"result": True} == client.ask(b"{}", time.monotonic() + 60)
        return client

    def raw(self, client: OpaClient) -> socket.socket:
        bounded: Any = client._idle[0].connection.sock
        return cast("socket.socket", bounded._raw)

    def test_closed_with_the_client(self, faulty: Faulty) -> None:
        """A client that is collected with a cycle closes them, also where the collector comes to them first, as to those that are older."""
        older = self.kept(faulty)
        client = OpaClient(f"http://127.0.0.1:{faulty.server_address[1]}/v1/data/a", 60.0)
        client._idle.extend(older._idle)
        older._idle.clear()
        client.itself = client  # type: ignore[attr-defined]  # the cycle
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            gone = weakref.ref(client)
            del client, older
            gc.collect()
        assert (None, []) == (gone(), [str(one.message) for one in said])

    def test_closed_in_a_child(self, faulty: Faulty, monkeypatch: pytest.MonkeyPatch) -> None:
        """A process that was forked closes its copies of its parent's and asks on one of its own."""
        client = self.kept(faulty)
        raw = self.raw(client)
        monkeypatch.setattr("os.getpid", lambda: -1)
        assert {"result": True} == client.ask(b"{}", time.monotonic() + 60)
        assert (-1, False) == (raw.fileno(), self.raw(client) is raw)


class TestFaults:
    def denied(self, server: Faulty, answer: Answer, timeout_s: float = 60.0) -> str:
        server.answer = answer
        decision = decide(at(server, timeout_s), action())
        assert ("deny", "policy.error") == (decision.value, decision.code), decision
        return decision.reason

    def test_a_good_answer(self, faulty: Faulty) -> None:
        """The server itself can answer well, also in pieces and with a charset."""
        faulty.answer = says(OK, headers={"Content-Type": "application/json; charset=utf-8"})
        assert "allow" == decide(at(faulty), action()).value
        faulty.answer = dies(HEAD + b'Transfer-Encoding: chunked\r\n\r\n8\r\n{"result\r\n9\r\n": true}\n\r\n0\r\n\r\n')
        assert "allow" == decide(at(faulty), action()).value

    @pytest.mark.parametrize("status", [100 + 101, 204, 301, 302, 307, 308, 400, 401, 404, 500, 503])
    def test_status(self, faulty: Faulty, status: int) -> None:
        """Nothing but 200 is an answer; a redirect is not followed."""
        reason = self.denied(faulty, says(b"" if status == 204 else OK, status, {"Location": "/v1/data/elsewhere"}))
        assert str(status) in reason
        assert 1 == len(faulty.asked)

    @pytest.mark.parametrize(
        ("headers", "said"),
        [
            ({"Content-Type": "text/html"}, "text/html"),
            ({"Content-Type": ""}, "content type"),
            ({"Content-Encoding": "gzip"}, "encoding"),
            ({"Content-Length": "99999999999"}, "bytes"),
        ],
    )
    def test_headers(self, faulty: Faulty, headers: dict[str, str], said: str) -> None:
        """Another type, an encoding and a size that is too large are refused before anything is read."""
        assert said in self.denied(faulty, says(OK, headers=headers))

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"allow",
            b'{"result": ',
            b'{"result": true} x',
            b'{"result": true, "result": true}',
            b'{"result": NaN}',
            b"\xff\xfe",
            b"[" * 100_000,
            b'{"result": ' + b"1" * 5000 + b"}",
            b"[]",
            b"{}",
            b'{"decision": "allow"}',
            b'{"result": null}',
            b'{"result": 1}',
            b'{"result": ["allow"]}',
            b'{"result": {}}',
            b'{"result": "Allow"}',
            b'{"result": "allow "}',
            b'{"result": {"decision": true}}',
            b'{"result": {"decision": "permit"}}',
            b'{"result": {"decision": "allow", "obligations": []}}',
            b'{"result": {"decision": "allow", "approval": {}}}',
            b'{"result": {"decision": "allow", "reason": 1}}',
            b'{"result": {"decision": "allow", "rule": "a b"}}',
            b'{"result": {"decision": "require-approval"}}',
            b'{"result": {"decision": "require-approval", "approval": {"approvers": []}}}',
            b'{"result": {"decision": "require-approval", "approval": {"approvers": ["finance"]}}}',
            b'{"result": {"decision": "require-approval", "approval": {"approvers": ["anyone"], "quorom": 2}}}',
            b'{"result": {"decision": "require-approval", "approval": {"approvers": ["anyone"], "quorum": true}}}',
            b'{"result": {"decision": "require-approval", "approval": {"approvers": ["anyone"], "expires": 60}}}',
            b'{"result": {"decision": "require-approval", "approval": {"approvers": ["anyone"], "expires": "999999999d"}}}',
            b'{"result": {"decision": "retryable-failure", "retry": {"after": "soon"}}}',
        ],
    )
    def test_malformed(self, faulty: Faulty, body: bytes) -> None:
        """What is no plain JSON object with a known verdict and known terms is a denial."""
        self.denied(faulty, says(body))

    def test_too_large(self, faulty: Faulty) -> None:
        """An answer without a stated size is read up to the cap."""
        assert "more than" in self.denied(faulty, dies(HEAD + b"\r\n" + b'{"result": "' + b"x" * (MAX_ANSWER + 10)))

    def test_broken_off(self, faulty: Faulty) -> None:
        """A connection that ends inside of the answer, its head or before it is a denial."""
        for sent in (HEAD + b'Content-Length: 50\r\n\r\n{"result": true}', HEAD[:20], b"", b"nonsense\r\n\r\n"):
            self.denied(faulty, dies(sent))

    def test_contradicting_lengths(self, faulty: Faulty) -> None:
        """An answer that says twice how long it is, or in no number, is a denial although its JSON says yes."""
        body, chunked = b'{"result": true}', b"10\r\n" + b'{"result": true}' + b"\r\n0\r\n\r\n"
        for lengths, sent in (
            (b"Content-Length: 16\r\nContent-Length: 5\r\n", body),
            (b"Content-Length: -1\r\n", body),
            (b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n", chunked),
        ):
            assert "contradicts itself" in self.denied(faulty, dies(HEAD + lengths + b"\r\n" + sent))

    def test_silence(self, faulty: Faulty) -> None:
        """A server that never answers is given the time of the setting and no more."""
        release = threading.Event()

        def wait(handler: BaseHTTPRequestHandler, _: bytes) -> None:
            release.wait()

        reason = self.denied(faulty, wait, 0.2)
        release.set()
        assert "within 0.2 s" in reason

    def test_drip(self, faulty: Faulty) -> None:
        """A byte now and then, in the head or in the body, does not extend the time."""
        head = drip(lambda _, number: HEAD[number : number + 1] or b"X")
        body = drip(lambda _, number: HEAD + b"Content-Length: 9999\r\n\r\n" if number == 0 else b" ")
        for answer in (head, body):
            assert "within 0.3 s" in self.denied(faulty, answer, 0.3)

    def test_nobody_there(self) -> None:
        """A refused connection, and a name that does not exist, are denials."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
            # Taken and not listening: nobody else can come to listen there meanwhile.
            for url in (f"http://127.0.0.1:{port}/v1/data/a", "http://no-such-host.invalid/v1/data/a", f"https://127.0.0.1:{port}/"):
                decision = decide(engine_at(url, 5.0), action())
                assert ("deny", "policy.error") == (decision.value, decision.code)

    def test_tls_to_a_plain_server(self, faulty: Faulty) -> None:
        """A server that speaks no TLS is no answer."""
        decision = decide(engine_at(f"https://127.0.0.1:{faulty.server_address[1]}/"), action())
        assert "deny" == decision.value

    def test_closed_while_idle(self, faulty: Faulty) -> None:
        """A connection that was closed while nobody used it is replaced, not a denial."""
        faulty.answer = dies(HEAD + b"Content-Length: 16\r\n\r\n" + b'{"result": true}')
        engine = at(faulty)
        assert ["allow", "allow"] == [decide(engine, action()).value for _ in range(2)]
        faulty.answer = says(OK)
        assert ["allow"] * 3 == [decide(engine, action()).value for _ in range(3)]

    def test_no_proxy(self, faulty: Faulty, monkeypatch: pytest.MonkeyPatch) -> None:
        """Variables of the environment do not send the question elsewhere."""
        monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
        monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
        faulty.answer = says(OK)
        assert "allow" == decide(at(faulty), action()).value

    def test_token(self, faulty: Faulty) -> None:
        """The token goes along, and into no reason."""
        faulty.answer = says({}, 401)
        decision = decide(at(faulty, token="s3cret-token"), action())
        assert "Bearer s3cret-token" == faulty.asked[0][0]["Authorization"]
        assert "s3cret" not in repr(decision)


class TestAsking:
    def test_question(self, faulty: Faulty) -> None:
        """OPA is told what is called, with what, by whom, and what is unknown."""
        faulty.answer = says(OK)
        facts = FactsView(labels={"read": frozenset()}, history=frozenset({"fetch"}))
        call = action(
            "pay",
            args={"amount": Decimal("12.50"), "to": ["a"], "x": None, "db": Unreadable("m.Db", "opaque")},
            user=None,
            tags=frozenset({"t"}),
            context={"risk": "low"},
        )
        decide(at(faulty, tools={"pay": ToolEntry("pay", tags=frozenset({"pays"}))}), call, facts)
        assert {
            "kind": "tool",
            "name": "pay",
            "args": {"amount": 12.5, "to": ["a"], "x": None, "db": {"$opaque": "m.Db"}},
            "tags": ["pays", "t"],
            "agent": None,
            "agents": [],
            "context": {"risk": "low"},
            "now": NOW.isoformat(),
            "user": None,
            "roles": [],
            "tenant": "t",
            "session": "s",
            "labels": ["read"],
            "history": ["fetch"],
            "unknown": ["user"],
            "opaque": ["db"],
        } == faulty.asked[0][1]["input"]

    def test_catalogue_first(self, faulty: Faulty) -> None:
        """OPA is not asked about an unregistered tool or arguments that do not fit."""
        faulty.answer = says(OK)
        signature = ToolSignature((Parameter("amount", "int"),))
        codes = [decide(at(faulty), call).code for call in (action(registered=False), action(args={"amount": "5"}, signature=signature))]
        assert ["policy.unregistered", "policy.catalogue"] == codes
        assert "allow" == decide(at(faulty, tools={"refund": ToolEntry("refund")}), action(registered=False)).value
        assert 1 == len(faulty.asked)

    def test_unreadable(self, faulty: Faulty) -> None:
        """An argument that could not be read is never left out: the call is denied unasked."""
        faulty.answer = says(OK)
        for value in (Unreadable("T", "cap"), [Unreadable("T", "nan")], Decimal("1e999999"), 10**500):
            assert "deny" == decide(at(faulty), action(args={"x": value})).value
        assert [] == faulty.asked

    def test_kinds(self, faulty: Faulty) -> None:
        """Only tools and capabilities are asked about unless the settings say more; nobody is asked to approve a model."""
        faulty.answer = says({"result": {"decision": "require-approval", "approval": {"approvers": ["anyone"]}}})
        model = Action("model", "m", session="s")
        assert "allow" == decide(at(faulty), model).value
        assert not at(faulty).governs("model", "m")
        assert [] == faulty.asked
        assert "deny" == decide(at(faulty, kinds=frozenset({"model"})), model).value

    @pytest.mark.parametrize(
        "result", [False, {"decision": "maybe"}, {"decision": "require-approval", "approval": {"approvers": ["anyone"]}}]
    )
    def test_shadow(self, faulty: Faulty, result: object) -> None:
        """In shadow mode whatever OPA says, or fails to say, is recorded and stops nothing."""
        faulty.answer = says({"result": result})
        decision = decide(at(faulty, shadow=True), action())
        would_be = "require-approval" if isinstance(result, dict) and "approval" in result else "deny"
        assert ("allow", True, would_be, None) == (decision.value, decision.shadow, decision.would_be, decision.approval)
        assert 1 == len(faulty.asked)

    def test_nobody_asked(self, faulty: Faulty) -> None:
        """Without an answer the decision is a denial, whoever forgot to ask."""
        engine = at(faulty)
        for view in (None, FACTS, FactsView(answer={"result": True})):
            assert "deny" == engine.decide(action(), view, NOW).decision.value

    def test_bundles_are_named(self, faulty: Faulty) -> None:
        """The digest of a decision changes with the bundles OPA has loaded."""
        digests = []
        for revision in ("1", "2", "1"):
            faulty.answer = says({**OK, "provenance": {"bundles": {"b": {"revision": revision}}}})
            digests.append(decide(at(faulty), action()).policy_digest)
        assert digests[0] == digests[2] != digests[1]

    @pytest.mark.parametrize("url", ["", "127.0.0.1:8181", "ftp://h/x", "http://u:p@h/x", "http://h/x#f", "http://h/\r\nX: y", "http:///x"])
    def test_bad_urls(self, url: str) -> None:
        """A URL that is none is refused when it is configured."""
        with pytest.raises(ValueError, match="URL"):
            OpaClient(url, 1.0)

    def test_a_password_in_the_url(self) -> None:
        """A password that was put into the URL is refused with what to do instead, and not repeated."""
        with pytest.raises(ValueError, match="opa_token_file") as caught:
            OpaClient("http://user:s3cret@host/v1/data/x", 1.0)
        assert "s3cret" not in str(caught.value)


@rt.tool
def opa_sync(x: int) -> int:
    """A synchronous tool."""
    return x


@rt.tool
async def opa_async(x: int) -> int:
    """An asynchronous tool."""
    return x


class TestInAProgram:
    @pytest.fixture
    def runtime(self, faulty: Faulty, tmp_path: Path) -> Iterator[rt.Runtime]:
        faulty.answer = says({"result": {"decision": "allow"}})
        url = f"http://127.0.0.1:{faulty.server_address[1]}/v1/data/a"
        runtime = build_runtime(Settings(state=tmp_path / "s.db", opa=url, opa_timeout=60.0, wait_at_most=0.05, otlp="off"))
        with runtime.use():
            yield runtime
        runtime.shutdown()

    def test_tools(self, runtime: rt.Runtime, faulty: Faulty) -> None:
        """Tools of both kinds run when OPA allows them and not when it denies them."""
        assert runtime.guarded
        assert 1 == opa_sync(1)
        assert 2 == asyncio.run(opa_async(2))
        faulty.answer = says({"result": {"decision": "deny", "reason": "Not today."}})
        with pytest.raises(PolicyDenied, match="Not today"):
            opa_sync(1)
        with pytest.raises(PolicyDenied, match="Not today"):
            asyncio.run(opa_async(2))
        assert "deny" == rt.decide("opa_sync", {"x": 1}).value

    def test_the_loop_goes_on(self, runtime: rt.Runtime, faulty: Faulty) -> None:
        """While OPA is asked, the event loop turns; a synchronous call that would stop it is denied with the way out."""
        release = threading.Event()

        asked = threading.Event()

        def slow(handler: BaseHTTPRequestHandler, body: bytes) -> None:
            asked.set()
            release.wait(60)
            says({"result": True})(handler, body)

        faulty.answer = slow

        async def main() -> int:
            task = asyncio.ensure_future(opa_async(3))
            await asyncio.to_thread(asked.wait, 60)
            # OPA has been asked and has not answered, and here we are.
            release.set()
            return await task

        assert 3 == asyncio.run(main())
        before = len(faulty.asked)

        async def on_the_loop() -> int:
            return opa_sync(4)

        with pytest.raises(PolicyDenied, match="to_thread"):
            asyncio.run(on_the_loop())
        assert before == len(faulty.asked)

        async def beside() -> int:
            return await asyncio.to_thread(opa_sync, 5)

        assert 5 == asyncio.run(beside())

    def test_approval(self, runtime: rt.Runtime, faulty: Faulty) -> None:
        """A call that OPA wants approved runs once approved, and not when OPA changed its mind meanwhile."""
        terms = {"decision": "require-approval", "approval": {"approvers": ["anyone"], "expires": "1h"}}
        faulty.answer = says({"result": terms})
        approvals = runtime.approvals
        assert approvals is not None
        for later, outcome in ((terms, 6), ({"decision": "deny"}, None)):
            faulty.answer = says({"result": terms})
            with pytest.raises(rt.ApprovalPending) as pending:
                opa_sync(6)
            approvals.answer(pending.value.request_id, approver="os:bob", approved=True)
            faulty.answer = says({"result": later})
            if outcome is not None:
                assert outcome == runtime.resume(pending.value.request_id)
            else:
                with pytest.raises(PolicyDenied):
                    runtime.resume(pending.value.request_id)


class TestSettings:
    def test_bad(self, tmp_path: Path) -> None:
        """A URL that is none and a token file that is missing or odd are refused at start."""
        (tmp_path / "token").write_text("a b")
        for bad in (
            {"opa": "nowhere"},
            {"opa": "http://h/x", "opa_token_file": tmp_path / "none"},
            {"opa": "http://h/x", "opa_token_file": tmp_path / "token"},
        ):
            with pytest.raises(ConfigError):
                build_runtime(Settings(state=tmp_path / "s.db", otlp="off", **bad))
