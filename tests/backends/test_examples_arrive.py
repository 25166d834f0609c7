"""Every example through the real Collector of agent.yaml into the real Jaeger: what its trace files hold is what Jaeger holds."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from otel_runtime.telemetry.trace_files import read_spans

if TYPE_CHECKING:
    from tests.backends.conftest import Jaeger, Server

pytestmark = pytest.mark.backends
EXAMPLES = {
    "fastapi_stream": ("fastapi", ["app.py"]),
    "mcp_tools": ("mcp.server.mcpserver", ["agent.py"]),
    "multi_tenant": ("otel_runtime", ["tenants.py"]),
    "queue_worker": ("otel_runtime", ["jobs.py ask", "jobs.py work"]),
    "two_services": ("otel_runtime", ["front.py"]),
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_span_of_an_example_arrives(
    name: str, collector: Callable[..., Server], jaeger: Jaeger, sending: Callable[[str], Mapping[str, str]], config: Path, tmp_path: Path
) -> None:
    """Span for span: id, parent, name and service, whichever process of the example made it."""
    package, commands = EXAMPLES[name]
    pytest.importorskip(package, reason=f"examples/{name} needs it: make test installs it")
    agent = collector("agent.yaml", TRACES_ENDPOINT=jaeger.endpoint).start()
    for words in commands:
        script, *rest = words.split()
        command = [sys.executable, str(config.parent / "examples" / name / script), *rest]
        done = subprocess.run(
            command, cwd=tmp_path, env=dict(sending(agent.url("http"))), capture_output=True, text=True, check=False, timeout=150
        )
        assert 0 == done.returncode, done.stderr
    sent = {
        (span.trace_id, span.span_id, span.parent_id or "", span.name, span.service)
        for file in tmp_path.rglob("*.json")
        for span in read_spans(file)
    }
    found = {
        (span["traceId"], span["spanId"], span.get("parentSpanId", ""), span["name"], service(span))
        for trace_id in {row[0] for row in sent}
        for span in jaeger.trace(trace_id, sum(row[0] == trace_id for row in sent))
    }
    assert (sent, True) == (found, len(sent) > 2)


def service(span: Mapping[str, object]) -> str:
    """Value of service.name."""
    resource = span["resource"]
    assert isinstance(resource, dict)
    (name,) = (pair["value"]["stringValue"] for pair in resource["attributes"] if pair["key"] == "service.name")
    return str(name)
