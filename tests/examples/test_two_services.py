"""examples/two_services: two processes, one trace."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from otel_runtime.telemetry.trace_files import read_spans


def test_both_services_are_in_one_trace(repository: Path, tmp_path: Path, environment: dict[str, str]) -> None:
    """The warehouse's spans are children of the tool calls that asked it, in the same trace and under their own service's name."""
    command = [sys.executable, str(repository / "examples" / "two_services" / "front.py")]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=150)
    assert (0, "{'LAMP-01': 12, 'FAN-40': 0}\n") == (done.returncode, done.stdout), done.stderr
    front, warehouse = read_spans(tmp_path / "front.json"), read_spans(tmp_path / "warehouse.json")
    asked = {span.span_id for span in front if span.name == "execute_tool stock"}
    assert ({"front"}, {"warehouse"}) == ({span.service for span in front}, {span.service for span in warehouse})
    assert (2, asked) == (len(warehouse), {span.parent_id for span in warehouse})
    assert 1 == len({span.trace_id for span in (*front, *warehouse)})
    assert {True} == {span.remote_parent for span in warehouse}
