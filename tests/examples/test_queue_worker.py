"""examples/queue_worker: what was asked in one process is done in others, in the same trace."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from otel_runtime.telemetry.trace_files import read_spans


def test_jobs_are_done_in_the_trace_that_asked(repository: Path, tmp_path: Path, environment: dict[str, str]) -> None:
    """Two workers at once do each job once; every clerk's run is a child of the tool call that queued its job."""
    script = repository / "examples" / "queue_worker" / "jobs.py"

    def start(role: str) -> subprocess.Popen[str]:
        command = [sys.executable, str(script), role]
        return subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    with start("ask") as asking:
        out, err = asking.communicate(timeout=150)
    assert (0, "queued: write report 1\nqueued: write report 2\n") == (asking.returncode, out), err
    with start("work") as one, start("work") as other:
        said = [process.communicate(timeout=150) for process in (one, other)]
    assert (0, 0) == (one.returncode, other.returncode), said
    assert ["write report 1: 14 characters", "write report 2: 14 characters"] == sorted(
        line for out, _ in said for line in out.splitlines()
    )
    spans = [span for file in tmp_path.glob("trace-*.json") for span in read_spans(file)]
    asked = {span.span_id for span in spans if span.name == "execute_tool later"}
    assert asked == {span.parent_id for span in spans if span.name == "invoke_agent clerk"}
    assert (2, 1, 2) == (len(asked), len({span.trace_id for span in spans}), sum(span.name == "execute_tool write" for span in spans))
