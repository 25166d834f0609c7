# mypy: ignore-errors
# ruff: noqa: T201
"""Sessions of the real `a3s-code` SDK with a model of ours on a local port, read by our helper; prints what came of it as JSON.

Run by test_a3s_bridge.py with the Python of an environment that has both packages: `a3s_bridge.py POLICY STATE`.
"""

import json
import sys
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import a3s_code
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import otel_runtime as rt
from otel_runtime.integrations.a3s import watch, wire

CONFIG = """
default_model = "openai/m"
providers "openai" {{
  apiKey = "k"
  baseUrl = "http://127.0.0.1:{port}/v1"
  models "m" {{ name = "m" }}
}}
"""


class Model(BaseHTTPRequestHandler):
    """Asks for one shell command, then says that it is done."""

    protocol_version = "HTTP/1.1"
    command = ""

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers.get("content-length", 0))) or b"{}")
        first = body.get("tools") and not any(message.get("role") == "tool" for message in body["messages"])
        call = {"id": "call_1", "type": "function", "function": {"name": "bash", "arguments": json.dumps({"command": Model.command})}}
        message = {"role": "assistant", "content": None, "tool_calls": [call]} if first else {"role": "assistant", "content": "done"}
        end = "tool_calls" if first else "stop"
        common = {"id": "1", "model": "m", "usage": {"prompt_tokens": 11, "completion_tokens": 3, "total_tokens": 14}}
        if body.get("stream"):
            if first:
                message["tool_calls"] = [{**call, "index": 0}]
            parts = [{"delta": message, "finish_reason": None}, {"delta": {}, "finish_reason": end}]
            chunks = [{**common, "object": "chat.completion.chunk", "choices": [{"index": 0, **part}]} for part in parts]
            text, kind = "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks) + "data: [DONE]\n\n", "text/event-stream"
        else:
            choice = {"index": 0, "message": message, "finish_reason": end}
            text, kind = json.dumps({**common, "object": "chat.completion", "choices": [choice]}), "application/json"
        answer = text.encode()
        self.send_response(200)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: Any) -> None:
        """Nothing."""


def run(agent: Any, command: str) -> tuple[list[str], list]:
    Model.command = command
    options = a3s_code.SessionOptions()
    options.permission_policy = a3s_code.PermissionPolicy(default_decision="ask")
    options.confirmation_policy = a3s_code.ConfirmationPolicy(enabled=True, default_timeout_ms=20_000)
    session = agent.session(tempfile.mkdtemp(), options)
    kinds = [event.event_type for event in watch(session.stream("hi"), session=session, decide=True)]
    return kinds, [wire(record) for record in session.run_events(session.runs()[0]["id"])]


def main(policy: str, state: str) -> None:
    spans = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(spans))
    server = ThreadingHTTPServer(("127.0.0.1", 0), Model)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    agent = a3s_code.Agent.create(CONFIG.format(port=server.server_port))
    with rt.configure(policy=policy, state=state, otlp="off", tracer_provider=provider):
        allowed, records = run(agent, "echo hi")
        refused, _ = run(agent, "rm -rf /")
        replayed = len(spans.get_finished_spans())
        rt.ingest(records, source="a3s")
    server.shutdown()
    by_id = {span.context.span_id: span.name for span in spans.get_finished_spans()}
    found = [
        {
            "name": span.name,
            "parent": by_id.get(span.parent.span_id) if span.parent else None,
            "status": span.status.status_code.name,
            "attributes": dict(span.attributes),
        }
        for span in spans.get_finished_spans()
    ]
    result = {"allowed": allowed, "refused": refused, "spans": found[:replayed], "replayed": found[replayed:]}
    print("BRIDGED " + json.dumps(result, default=str))


if __name__ == "__main__":
    main(*sys.argv[1:])
