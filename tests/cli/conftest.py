"""A server that stands for a Jaeger or Tempo, where a test says what it answers."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

# Status and body: bytes, or what is sent as JSON.
Answer = tuple[int, object]
Answering = Callable[[str, Mapping[str, str], Any], Answer]


@pytest.fixture
def serve(listening: Callable[[type[BaseHTTPRequestHandler]], str]) -> Callable[[Answering], str]:
    """A server whose answers a function gives, by path, query and headers; gives its address."""

    def start(answer: Answering) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                parts = urlsplit(self.path)
                status, body = answer(parts.path, {key: values[0] for key, values in parse_qs(parts.query).items()}, self.headers)
                data = body if isinstance(body, bytes) else json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, format: str, *args: object) -> None:
                """Quiet."""

        return listening(Handler)

    return start
