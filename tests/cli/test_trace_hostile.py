"""`otel-runtime trace` and files and servers that are damaged, hostile, or something else altogether."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from otel_runtime.cli.main import main
from otel_runtime.telemetry import links

# What a terminal obeys, what turns text around, and half of a character.
EVIL = "\x1b]0;title\x07\x1b[2J\x1b[31m\x9b5m\r\u202e\ud800"
TRACE = "a" * 32
OPERATIONS = ("execute_tool t", "policy deny t", "approval requested t", "approval approved t")
TOLD = (
    "error.type",
    "gen_ai.operation.name",
    "otel_runtime.approval.answer",
    "otel_runtime.approval.approver",
    "otel_runtime.approval.id",
    "otel_runtime.approval.reason",
    "otel_runtime.approval.rule",
    "otel_runtime.outcome",
    "otel_runtime.policy.decision",
    "otel_runtime.policy.place",
    "otel_runtime.policy.reason",
    "otel_runtime.policy.rule",
    "otel_runtime.policy.would_be",
    "otel_runtime.tool.name",
    "otel_runtime.usage.cost.currency",
)


def text(given: str) -> dict[str, Any]:
    return {"stringValue": given}


def span(name: str = "chat m", **fields: Any) -> dict[str, Any]:  # Any: whatever a document may hold
    attributes = [{"key": key, "value": given} for key, given in fields.pop("told", {}).items()]
    times = {"startTimeUnixNano": "1700000000000000000", "endTimeUnixNano": "1700000001000000000"}
    return {"traceId": TRACE, "spanId": "b" * 16, "name": name, "kind": 1, **times, "attributes": attributes, **fields}


def chat(key: str, given: object) -> dict[str, Any]:
    return span(told={"gen_ai.operation.name": text("chat"), key: given})


def document(*spans: object, service: str = "s") -> dict[str, Any]:
    resource = {"attributes": [{"key": "service.name", "value": text(service)}]}
    return {"resourceSpans": [{"resource": resource, "scopeSpans": [{"scope": {"name": "x"}, "spans": list(spans)}]}]}


def evil(name: str, code: int) -> dict[str, Any]:
    """A span that says it everywhere."""
    told: dict[str, Any] = {key: text(EVIL) for key in TOLD}
    told["otel_runtime.approval.approvers"] = {"arrayValue": {"values": [text(EVIL)]}}
    if name.startswith("approval approved"):
        told["otel_runtime.approval.outcome"] = text(EVIL)
    events = [{"name": mark + EVIL, "attributes": [{"key": EVIL, "value": text(EVIL)}]} for mark in ("otel_runtime.", "e")]
    attempt = {"key": "otel_runtime.policy.rule", "value": text(EVIL)}
    events.append({"name": "otel_runtime.attempt", "attributes": [attempt]})
    return span(name + EVIL, told=told, events=events, traceId=TRACE + EVIL, status={"code": code, "message": EVIL})


NUMBERS: tuple[object, ...] = ("--5", "²", "9" * 5000, "9" * 30, 10**30, -(10**30), 1.5, None, [1], {}, True)
DOUBLES: tuple[object, ...] = ("abc", "NaN", "Infinity", "1e400", None, [1], 10**400)
MONEY = ("NaN", "sNaN", "Infinity", "1E+99999999", "1E-99999999", "-5", "abc")
KIND = {"kvlistValue": {"values": [{"key": "a", "value": text("b")}]}}
DEEP = '{"arrayValue":{"values":[' * 300 + "1" + "]}}" * 300
PARSED: dict[str, object] = {
    **{f"{name} {code}": document(evil(name, code), service=EVIL) for name in OPERATIONS for code in (0, 2)},
    "two services": document(span(), span("x", spanId="c" * 16, parentSpanId="b" * 16), service="s" + EVIL),
    **{f"start {at}": document(span(startTimeUnixNano=given)) for at, given in enumerate(NUMBERS)},
    **{f"end {at}": document(span(endTimeUnixNano=given)) for at, given in enumerate(NUMBERS)},
    **{f"tokens {at}": document(chat("gen_ai.usage.input_tokens", {"intValue": given})) for at, given in enumerate(NUMBERS)},
    **{f"kind {at}": document(span(kind=given, flags=given, status={"code": given})) for at, given in enumerate(NUMBERS)},
    **{f"first {at}": document(chat("gen_ai.response.time_to_first_chunk", {"doubleValue": given})) for at, given in enumerate(DOUBLES)},
    **{
        f"after {at}": document(span("policy retryable-failure t", told={"otel_runtime.retry.after_s": {"doubleValue": given}}))
        for at, given in enumerate(DOUBLES)
    },
    **{f"cost {given}": document(chat("otel_runtime.usage.cost.exact", text(given))) for given in MONEY},
    **{f"bytes {given}": document(chat("x", {"bytesValue": given})) for given in ("%", 5, None)},
    "ids of another type": document(
        span("approval requested t", told={"otel_runtime.approval.id": KIND}),
        span("approval approved t", told={"otel_runtime.approval.id": KIND, "otel_runtime.approval.outcome": KIND}),
    ),
    "parents of each other": document(span(parentSpanId="c" * 16), span(spanId="c" * 16, parentSpanId="b" * 16)),
    "types": {"resourceSpans": [1, {"resource": 5, "scopeSpans": [7, {"scope": 3, "spans": [None, {"events": [3], "links": [1]}]}]}]},
    "no trace": [],
}
WRITTEN: dict[str, bytes] = {
    **{name: json.dumps(given).encode() for name, given in PARSED.items()},
    "deep value": json.dumps(document(chat("x", "DEEP"))).replace('"DEEP"', DEEP).encode(),
    "deep document": b"[" * 200_000,
    "half": json.dumps(document(span())).encode()[:-20],
    "bytes": bytes(range(256)),
    "nothing": b"",
}
WORDS = (("show",), ("show", "--waterfall"), ("list",), ("list", "--json"), ("list", "--costly", "0.5"))


def harmless(output: str) -> bool:
    return not any(ord(char) < 32 or 127 <= ord(char) < 160 or char in "\u202e\ud800" for char in output.replace("\n", ""))


@pytest.mark.parametrize("words", WORDS, ids=" ".join)
@pytest.mark.parametrize("content", WRITTEN.values(), ids=WRITTEN)
def test_a_file_of_anybodys(tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes, words: tuple[str, ...]) -> None:
    """It is shown, or refused with a reason: never a traceback, a control character, or a screen without an end."""
    path = tmp_path / "trace.json"
    path.write_bytes(content)
    code = main(["trace", words[0], str(path), *words[1:]])
    printed = capsys.readouterr()
    assert code in {0, 1, 2}
    assert harmless(printed.out + printed.err)
    assert len(printed.out + printed.err) < 20_000


@pytest.fixture
def answering() -> Iterator[Callable[[bytes], str]]:
    """Something at a port that says this to whoever comes, and hangs up; gives its address."""
    with closing(socket.socket()) as door:
        door.bind(("127.0.0.1", 0))
        door.listen()

        def start(answer: bytes) -> str:
            def serve() -> None:
                while True:
                    try:
                        visitor, _ = door.accept()
                    except OSError:
                        return
                    with visitor:
                        visitor.recv(4096)
                        visitor.sendall(answer)

            threading.Thread(target=serve, daemon=True).start()
            return f"http://127.0.0.1:{door.getsockname()[1]}"

        yield start
        door.shutdown(socket.SHUT_RDWR)


def reply(body: bytes, status: str = "200 OK", length: int | None = None) -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body) if length is None else length}\r\n\r\n".encode() + body


ANSWERS = {
    "ssh": b"SSH-2.0-OpenSSH_9.2\r\n",
    "gRPC": b"\x00\x00\x12\x04" + b"\x00" * 20,
    "nothing": b"",
    "half an answer": reply(b'{"a"', length=100),
    "half a refusal": reply(b"no", "500 Oops", length=100),
    "a refusal with an escape": reply(EVIL.encode("utf-8", "replace"), "500 Oops"),
    "a page": reply(b"<html>"),
    "depth": reply(b"[" * 100_000),
    "a file to go to": b"HTTP/1.1 302 Found\r\nLocation: file:///etc/passwd\r\nContent-Length: 0\r\n\r\n",
}


@pytest.mark.parametrize("option", ["--jaeger", "--tempo"])
@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
def test_a_server_that_is_none(answering: Callable[[bytes], str], capsys: pytest.CaptureFixture[str], answer: bytes, option: str) -> None:
    """Whatever listens at the address: one clear message and exit code 2."""
    assert main(["trace", "show", TRACE, option, answering(answer)]) == 2
    said = capsys.readouterr().err
    assert "error[T01" in said
    assert harmless(said)


@pytest.mark.parametrize("depth", [50, 5000])
def test_tempo_that_nests(answering: Callable[[bytes], str], depth: int) -> None:
    """An answer of any depth is read as far as a trace goes, or refused."""
    nested = b'{"a":[' * depth + b"]}" * depth
    assert main(["trace", "show", TRACE, "--tempo", answering(reply(b'{"trace":' + nested + b"}"))]) in {1, 2}


@pytest.mark.parametrize(
    "words",
    [
        ("--jaeger", "http://[::1"),
        ("--jaeger", "http://127.0.0.1:99999"),
        ("--jaeger", "http://127.0.0.1:port"),
        ("--jaeger", "http://a b"),
        ("--jaeger", "http://127.0.0.1:1/ü"),
        ("--header", "A: €"),
        ("--header", "a b: c"),
        ("--header", "Ä: c"),
    ],
)
def test_words_that_cannot_be_sent(capsys: pytest.CaptureFixture[str], words: tuple[str, ...]) -> None:
    """An address or a header that HTTP has no room for is refused like any other wrong word."""
    assert main(["trace", "show", TRACE, *(() if "--jaeger" in words else ("--jaeger", "http://127.0.0.1:1")), *words]) == 2
    assert "error[T01" in capsys.readouterr().err


def test_something_else_at_jaegers_port(answering: Callable[[bytes], str], monkeypatch: pytest.MonkeyPatch) -> None:
    """What listens where a Jaeger is looked for and is none has no page, and disturbs nobody."""
    for name in ("_JAEGER", "_TEMPO", "_GRAFANA"):
        monkeypatch.setattr(links, name, answering(ANSWERS["ssh"]))
    assert links.local_page(TRACE) == ""


@pytest.mark.parametrize("words", [("show", "{file}"), ("show", "{file}", "--waterfall"), ("list", "{file}")], ids=" ".join)
def test_a_terminal_that_knows_few_letters(tmp_path: Path, words: tuple[str, ...]) -> None:
    """Where the locale has no lines and bars, they become question marks; the words are there."""
    path = tmp_path / "trace.json"
    path.write_text(json.dumps(document(span("a" * 300), span("child", spanId="c" * 16, parentSpanId="b" * 16))))
    command = [sys.executable, "-m", "otel_runtime", "trace", *(word.format(file=path) for word in words)]
    done = subprocess.run(
        command, env={**os.environ, "PYTHONIOENCODING": "latin-1", "COLUMNS": "100"}, capture_output=True, check=False, timeout=60
    )
    assert (0, b"") == (done.returncode, done.stderr)
    assert TRACE.encode() in done.stdout
