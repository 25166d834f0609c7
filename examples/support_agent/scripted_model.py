"""A stand-in for a model: a real HTTP server on loopback that speaks the OpenAI chat-completions format.

It needs no key and no network, so the real `openai` client can be used with it. What it answers is decided in `scripted_replies`; this
module is only the wire: ids, usage with cached tokens, finish reasons, errors, streaming.
"""

from __future__ import annotations

import itertools
import json
import threading
import time
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from typing import Any

from local_server import LocalServer, QuietHandler
from scripted_replies import Reply, next_reply

__all__ = ["ScriptedModel"]

# A real model takes its time too; with none at all every span of the demo would be a dot.
_THINKING_S = 0.12
_CACHE_STEP = 64
_MOST_BYTES = 4 * 1024 * 1024


class _Handler(QuietHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def do_POST(self) -> None:  # noqa: N802  # the name that http.server looks for
        length = int(self.headers.get("Content-Length") or 0)
        if length > _MOST_BYTES:
            return self._send_error(413, "the request is too large")
        body = self.rfile.read(length)
        if self.path != "/v1/chat/completions":
            return self._send_error(404, f"unknown path {self.path}; this server knows /v1/chat/completions")
        try:
            request = json.loads(body)
            reply = next_reply(request["messages"])
        except (ValueError, KeyError, TypeError) as error:
            return self._send_error(400, f"this is not a chat-completions request: {error!r}")
        time.sleep(_THINKING_S)
        answer = self.server.completion(request, reply)
        return self._stream(answer, request) if request.get("stream") else self._send(200, answer)

    def _send(self, status: int, content: dict[str, Any]) -> None:
        self.answer(status, "application/json", json.dumps(content).encode())

    def _send_error(self, status: int, message: str) -> None:
        self.close_connection = True
        self._send(status, {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": None}})

    def _stream(self, answer: dict[str, Any], request: dict[str, Any]) -> None:
        self.close_connection = True
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        for chunk in _chunks(answer, bool((request.get("stream_options") or {}).get("include_usage"))):
            self.wfile.write(f"data: {json.dumps(chunk)}\n\n".encode())
        self.wfile.write(b"data: [DONE]\n\n")


class _Server(ThreadingHTTPServer):
    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self._numbers = itertools.count(1)
        self._prompts: list[str] = []
        self._lock = threading.Lock()

    def completion(self, request: dict[str, Any], reply: Reply) -> dict[str, Any]:
        """The answer as OpenAI would write it."""
        number = next(self._numbers)
        message: dict[str, Any] = {"role": "assistant", "content": reply.text or None, "refusal": None}
        if reply.calls:
            message["tool_calls"] = [
                {"id": f"call_{number:03}_{index}", "type": "function", "function": {"name": call.name, "arguments": json.dumps(call.args)}}
                for index, call in enumerate(reply.calls)
            ]
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "tool_calls" if reply.calls else "stop"}
        return {
            "id": f"chatcmpl-scripted-{number:04}",
            "object": "chat.completion",
            "created": int(time.time()),
            "model": str(request.get("model")),
            "choices": [choice],
            "usage": self._usage(request, message),
        }

    def _usage(self, request: dict[str, Any], message: dict[str, Any]) -> dict[str, Any]:
        prompt = json.dumps([request.get("tools"), request["messages"]])
        with self._lock:
            known = max((_shared(prompt, earlier) for earlier in self._prompts), default=0)
            self._prompts.append(prompt)
        cached = _tokens(known) // _CACHE_STEP * _CACHE_STEP
        asked, said = _tokens(len(prompt)), _tokens(len(json.dumps(message)))
        return {
            "prompt_tokens": asked,
            "completion_tokens": said,
            "total_tokens": asked + said,
            "prompt_tokens_details": {"cached_tokens": cached, "audio_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
        }


def _tokens(characters: int) -> int:
    # About four characters to a token, as with English text and a real tokenizer.
    return (characters + 3) // 4


def _shared(one: str, other: str) -> int:
    """Length of the common beginning."""
    return next((index for index, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def _chunks(answer: dict[str, Any], with_usage: bool) -> Iterator[dict[str, Any]]:
    head = {"id": answer["id"], "object": "chat.completion.chunk", "created": answer["created"], "model": answer["model"]}
    choice = answer["choices"][0]
    delta = {key: value for key, value in choice["message"].items() if value is not None}
    if "tool_calls" in delta:
        delta["tool_calls"] = [{"index": index, **call} for index, call in enumerate(delta["tool_calls"])]
    yield {**head, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]}
    yield {**head, "choices": [{"index": 0, "delta": {}, "finish_reason": choice["finish_reason"]}]}
    if with_usage:
        yield {**head, "choices": [], "usage": answer["usage"]}


class ScriptedModel(LocalServer):
    """Serves the scripted model on a free loopback port between `with` and its end."""

    def __init__(self) -> None:
        super().__init__(_Server(), "scripted-model")

    @property
    def base_url(self) -> str:
        """What to set OPENAI_BASE_URL to."""
        return self.address("/v1")
