"""The receiver's WebSocket, and what guards both ways in."""

from __future__ import annotations

import http.client
import inspect
import json
import threading
from pathlib import Path
from typing import Any, Protocol

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from websockets.exceptions import ConnectionClosedError, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from otel_runtime.runtime.build import build_runtime
from otel_runtime.runtime.ingesting import Feed
from otel_runtime.settings.model import Settings
from otel_runtime.web import receiver as receiver_module
from otel_runtime.web.receiver import BODY_LIMIT, EventReceiver
from otel_runtime.wrap.active import Active, current_active

# Before 15, websockets knew no proxies.
DIRECT: dict[str, Any] = {"open_timeout": 60} | ({"proxy": None} if "proxy" in inspect.signature(connect).parameters else {})


class Taker(Protocol):
    taken: list[object]


def opened(receiver: EventReceiver, **headers: str) -> ClientConnection:
    named = {"authorization": f"Bearer {receiver.token}", **headers}
    found: ClientConnection = connect(receiver.socket_url, additional_headers=named, max_size=None, **DIRECT)
    return found


def post(receiver: EventReceiver, **headers: str) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", receiver.port, timeout=60)
    named = {"content-type": "application/json", "authorization": f"Bearer {receiver.token}", **headers}
    connection.request("POST", "/events", b"{}", named)
    status = connection.getresponse().status
    connection.close()
    return status


def answer(socket: ClientConnection, message: str | bytes) -> dict[str, Any]:
    socket.send(message)
    found: dict[str, Any] = json.loads(socket.recv(60))
    return found


class TestMessages:
    def test_each_is_answered_by_a_count(self, event_receiver: EventReceiver, taker: Taker) -> None:
        """One event, a list, lines, text or bytes: what was taken of the message and in all."""
        with opened(event_receiver) as socket:
            assert {"accepted": 1, "total": 1} == answer(socket, '{"n": 1}')
            assert {"accepted": 2, "total": 3} == answer(socket, b'[{"n": 2}, {"n": 3}]')
            assert {"accepted": 2, "total": 5} == answer(socket, '{"n": 4}\n{"n": 5}\n')
        assert [{"n": number} for number in range(1, 6)] == taker.taken

    @pytest.mark.parametrize("message", ["{", "[" * 100_000, '{"n": 1}\n{', "", "1\n" * 10_001])
    def test_a_bad_one_is_refused_and_the_next_is_taken(self, event_receiver: EventReceiver, taker: Taker, message: str) -> None:
        """Nothing of it is taken, and the connection stays."""
        with opened(event_receiver) as socket:
            refused = answer(socket, message)
            assert (0, 0, True) == (refused["accepted"], refused["total"], bool(refused["error"]))
            assert {"accepted": 1, "total": 1} == answer(socket, '{"n": 1}')
        assert [{"n": 1}] == taker.taken

    def test_a_message_over_the_limit_ends_the_connection(self, event_receiver: EventReceiver) -> None:
        """Its bytes are not even kept."""
        with opened(event_receiver) as socket, pytest.raises(ConnectionClosedError) as closed:
            answer(socket, b" " * (BODY_LIMIT + 1))
        assert 1009 == (closed.value.rcvd or closed.value.sent).code  # type: ignore[union-attr]  # one of them is there

    def test_too_many_in_a_second_are_refused(self, event_receiver: EventReceiver, monkeypatch: pytest.MonkeyPatch) -> None:
        """The sender is told to wait; what it may still send is taken."""
        monkeypatch.setattr(receiver_module, "_PER_SECOND", 0)
        with opened(event_receiver) as socket:
            rows = json.dumps([0] * 10_000)
            accepted = [answer(socket, rows)["accepted"] for _ in range(21)]
            assert ([10_000] * 20 + [0], {"accepted": 0}) == (accepted, {"accepted": answer(socket, "{}")["accepted"]})


class TestGuards:
    @pytest.mark.parametrize(
        ("headers", "status"),
        [
            ({"authorization": "Bearer guess"}, 401),
            ({"origin": "http://evil.example"}, 403),
            ({"origin": "null"}, 403),
        ],
    )
    def test_who_may_not_come_in(self, event_receiver: EventReceiver, taker: Taker, headers: dict[str, str], status: int) -> None:
        """Another user of this machine, or a page in its browser, neither posts nor opens a socket."""
        assert status == post(event_receiver, **headers)
        with pytest.raises(InvalidStatus) as refused:
            opened(event_receiver, **headers)
        assert status == refused.value.response.status_code
        assert [] == taker.taken

    def test_a_rebound_name(self, event_receiver: EventReceiver) -> None:
        """A name of somebody else's that leads here is not this server's."""
        assert 421 == post(event_receiver, host=f"evil.example:{event_receiver.port}")
        assert 202 == post(event_receiver, host=f"localhost:{event_receiver.port}")


class TestStreams:
    def test_each_socket_is_a_stream_of_its_own(self, tmp_path: Path) -> None:
        """Stream events name no run: those of two agents at once must not become one run."""
        exporter, provider = InMemorySpanExporter(), TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(exporter))
        with build_runtime(Settings(otlp="off", state=tmp_path / "state.db"), tracer_provider=provider) as runtime, runtime.use():
            active = current_active()
            assert isinstance(active, Active)
            receiver = EventReceiver(Feed(active, "vitehub"), streams=lambda: Feed(active, "vitehub"))
            thread = threading.Thread(target=receiver.run)
            thread.start()
            named = {"authorization": f"Bearer {receiver.token}"}
            with (
                connect(receiver.socket_url, additional_headers=named, **DIRECT) as one,
                connect(receiver.socket_url, additional_headers=named, **DIRECT) as other,
            ):
                answer(one, '{"type": "tool-call", "toolCallId": "c", "toolName": "look"}')
                answer(other, '{"type": "tool-call", "toolCallId": "c", "toolName": "wait"}')
                answer(other, '[{"type": "tool-result", "toolCallId": "c"}, {"type": "finish"}]')
                answer(one, '[{"type": "tool-result", "toolCallId": "c"}, {"type": "finish"}]')
            receiver.stop()
            thread.join(60)
        spans = {span.name: span for span in exporter.get_finished_spans()}
        roots = {span.context.span_id for span in exporter.get_finished_spans() if span.parent is None}
        tools = [spans["execute_tool look"].parent, spans["execute_tool wait"].parent]
        assert (2, roots) == (len(roots), {parent.span_id for parent in tools if parent is not None})
