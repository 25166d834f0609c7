"""examples/multi_tenant: two runtimes in one process that know nothing of each other."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from otel_runtime.telemetry.trace_files import read_spans


def test_tenants_are_apart(repository: Path, tmp_path: Path, environment: dict[str, str]) -> None:
    """Each tenant's calls are decided by its own policy and told in its own file, under its own name, with threads shared."""
    command = [sys.executable, str(repository / "examples" / "multi_tenant" / "tenants.py")]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=150)
    expected = [line for n in range(4) for line in (f"acme: page-{n} is online", "globex: refused by globex.publish")]
    assert (0, expected) == (done.returncode, done.stdout.splitlines()), done.stderr
    acme, globex = (read_spans(tmp_path / tenant / "trace.json") for tenant in ("acme", "globex"))
    assert ({"acme"}, {"globex"}) == ({span.service for span in acme}, {span.service for span in globex})
    assert ["execute_tool publish"] * 4 + ["invoke_agent editor"] * 4 == sorted(span.name for span in acme)
    assert ["invoke_agent editor"] * 4 + ["policy deny publish"] * 4 == sorted(span.name for span in globex)
    assert set() == {span.trace_id for span in acme} & {span.trace_id for span in globex}
