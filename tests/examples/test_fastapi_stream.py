"""examples/fastapi_stream: two streams at once are two traces, each alive until its last piece."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from otel_runtime.telemetry.trace_files import read_spans

pytest.importorskip("fastapi", reason="the example is a FastAPI application: pip install fastapi")


def test_interleaved_streams_are_whole_traces(repository: Path, tmp_path: Path, environment: dict[str, str]) -> None:
    """Each request's agent holds its search and its model call, which lasts as long as the stream; the sessions are the visitors."""
    command = [sys.executable, str(repository / "examples" / "fastapi_stream" / "app.py")]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=150)
    assert (0, "lamps come in two sizes \nfans come in two sizes \n") == (done.returncode, done.stdout), done.stderr
    spans = read_spans(tmp_path / "trace.json")
    agents = {span.span_id: span for span in spans if span.name == "invoke_agent assistant"}
    assert {"ann", "ben"} == {agent.attributes["gen_ai.conversation.id"] for agent in agents.values()}
    assert (2, 2) == (len(agents), len({agent.trace_id for agent in agents.values()}))
    for name in ("execute_tool search", "chat scripted-1"):
        parents = [span.parent_id for span in spans if span.name == name]
        assert sorted(agents) == sorted(filter(None, parents))
    for span in spans:
        if span.name == "chat scripted-1":
            agent = agents[span.parent_id or ""]
            assert agent.start_ns <= span.start_ns <= span.end_ns <= agent.end_ns
            first = span.attributes["gen_ai.response.time_to_first_chunk"]
            assert isinstance(first, float)
            assert 0 < first < span.duration_s
