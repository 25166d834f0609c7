"""examples/mcp_tools: a policy before an MCP server, one trace on both sides."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from otel_runtime.telemetry.trace_files import read_spans

# As version 2 has it.
pytest.importorskip("mcp.server.mcpserver", reason="the example speaks MCP: pip install 'mcp>=2'")


def test_what_is_denied_never_reaches_the_server(repository: Path, tmp_path: Path, environment: dict[str, str]) -> None:
    """Three calls run at the server as children of the agent's calls; the fourth is denied, told as such, and no span of the server has it."""
    command = [sys.executable, str(repository / "examples" / "mcp_tools" / "agent.py")]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=150)
    expected = """\
tools: stock, reorder
stock {'sku': 'FAN-40'}: 0
reorder {'sku': 'FAN-40', 'pieces': 10}: 10 of FAN-40 are on their way
reorder {'sku': 'FAN-40', 'pieces': 5000}: refused: no rule allows `mcp:shop:reorder` like this
stock {'sku': 'FAN-40'}: 10
"""
    assert (0, expected) == (done.returncode, done.stdout), done.stderr
    agent, server = read_spans(tmp_path / "agent.json"), read_spans(tmp_path / "server.json")
    asked = [span for span in agent if span.name.startswith("execute_tool mcp:shop:")]
    assert 1 == len({span.trace_id for span in (*agent, *server)})
    assert {span.span_id for span in asked} == {span.parent_id for span in server}
    assert (3, 3, 1) == (len(asked), len(server), sum(span.name == "policy deny mcp:shop:reorder" for span in agent))
