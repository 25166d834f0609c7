"""The HTTP receiver on a real port."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Protocol

import pytest

from otel_runtime.errors import ConfigError
from otel_runtime.web.receiver import BODY_LIMIT, EventReceiver, receiver_app

JSON = "application/json"
LINES = "application/x-ndjson"


class Taker(Protocol):
    taken: list[object]

    def push(self, raw: object) -> None: ...


def post(receiver: EventReceiver, body: bytes, kind: str = JSON, token: str | None = None) -> tuple[int, dict[str, object]]:
    connection = http.client.HTTPConnection("127.0.0.1", receiver.port, timeout=60)
    connection.request("POST", "/events", body, {"content-type": kind, "authorization": f"Bearer {token or receiver.token}"})
    answer = connection.getresponse()
    found: dict[str, object] = json.loads(answer.read())
    connection.close()
    return answer.status, found


class TestReceiver:
    @pytest.mark.parametrize(
        ("body", "kind", "expected"),
        [
            (b'{"type": "start"}', JSON, [{"type": "start"}]),
            (b'[{"n": 1}, {"n": 2}]', JSON, [{"n": 1}, {"n": 2}]),
            (b'{"n": 1}\n\n{"n": 2}\n', LINES, [{"n": 1}, {"n": 2}]),
        ],
    )
    def test_one_many_or_lines(self, event_receiver: EventReceiver, taker: Taker, body: bytes, kind: str, expected: list[object]) -> None:
        """An object, a list, or one event per line."""
        assert (202, {"accepted": len(expected)}) == post(event_receiver, body, kind)
        assert expected == taker.taken

    @pytest.mark.parametrize(
        ("body", "kind", "status"),
        [
            (b"{", JSON, 400),
            (b"[" * 100_000, JSON, 400),
            (b"{}", "text/plain", 415),
            (b" " * (BODY_LIMIT + 1), JSON, 413),
            (b"1\n" * 10_001, LINES, 413),
        ],
    )
    def test_what_is_refused(self, event_receiver: EventReceiver, taker: Taker, body: bytes, kind: str, status: int) -> None:
        """Nothing of a refused body is taken."""
        assert status == post(event_receiver, body, kind)[0]
        assert [] == taker.taken

    def test_without_the_token_nothing_is_taken(self, event_receiver: EventReceiver, taker: Taker) -> None:
        """Other users of the machine, and pages in its browser, cannot forge events."""
        assert 401 == post(event_receiver, b"{}", token="guess")[0]
        assert [] == taker.taken

    def test_other_addresses_are_refused(self, taker: Taker) -> None:
        """It listens on this machine only."""
        with pytest.raises(ConfigError):
            EventReceiver(taker, "0.0.0.0")


class TestSocket:
    def test_who_does_not_wait_for_the_answer(self, taker: Taker) -> None:
        """What was sent is taken; that nobody is there to be told is no fault of the server's."""
        told = iter([{"type": "websocket.connect"}, {"type": "websocket.receive", "text": "[{}, {}]"}])

        async def receive() -> Any:
            return next(told)

        async def send(message: Any) -> None:
            if message["type"] == "websocket.send":
                raise OSError("the client is gone")  # as the ASGI specification has it

        headers = [(b"authorization", b"Bearer t")]
        scope = {"type": "websocket", "path": "/events", "headers": headers, "query_string": b"", "subprotocols": [], "extensions": {}}
        asyncio.run(receiver_app(taker, "t")(scope, receive, send))
        assert [{}, {}] == taker.taken


class TestCommand:
    def test_events_posted_to_the_command_become_spans(self, tmp_path: Path) -> None:
        """`otel-runtime ingest --listen 0` prints address and token, and writes the spans before it ends."""
        (tmp_path / "otel-runtime.yaml").write_text("trace_file: t.json\notlp: 'off'\n", encoding="utf-8")
        words = [sys.executable, "-m", "otel_runtime", "ingest", "--listen", "0", "--source", "vitehub"]
        environ = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
        with subprocess.Popen(words, cwd=tmp_path, env=environ, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            port = int(process.stdout.readline().rpartition(":")[2].partition("/")[0])
            token = process.stdout.readline().split()[-1]
            events = [
                {"type": "tool-call", "toolCallId": "c", "toolName": "look"},
                {"type": "tool-result", "toolCallId": "c"},
                {"type": "finish"},
            ]
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
            connection.request("POST", "/events", json.dumps(events), {"content-type": JSON, "authorization": f"Bearer {token}"})
            assert 202 == connection.getresponse().status
            connection.close()
            process.send_signal(signal.SIGINT)
            assert "3 events taken" in process.stdout.read()
        assert "execute_tool look" in (tmp_path / "t.json").read_text(encoding="utf-8")
