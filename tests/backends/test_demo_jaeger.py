"""`make demo-jaeger`, as a person has it: Jaeger starts, the demo runs into it, and its link is printed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.backends
PAGE = "http://127.0.0.1:16686"


def test_demo_is_in_jaeger_when_it_ends(program: Callable[[str], Path], fetch: Any, config: Path, tmp_path: Path) -> None:
    """The demo's link is that of the trace which the list shows, Jaeger is stopped afterwards, and the exit code is the demo's."""
    pytest.importorskip("openai", reason="the example talks through the openai client: pip install 'otel-runtime[openai]'")
    program("jaeger")
    for port in (4317, 4318, 16686):
        if fetch(f"http://127.0.0.1:{port}/")[0]:
            pytest.skip(f"something listens at port {port}, where `make demo-jaeger` starts Jaeger: stop it to run this test")
    # Containers are another way; here the binary is what is tested.
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("OTEL_", "OPENAI_"))}
    done = subprocess.run(
        [str(config / "demo-jaeger.sh"), sys.executable, "--unattended", "--workspace", str(tmp_path / "work")],
        env={**kept, "JAEGER_ONCE": "1", "DOCKER_HOST": "tcp://127.0.0.1:9"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=150,
    )
    assert 0 == done.returncode, done.stdout + done.stderr
    (trace_id,) = re.findall(rf"this run: +{PAGE}/trace/([0-9a-f]{{32}})\n", done.stdout)
    listed = done.stdout.partition("the runs of the last hour:")[2]
    assert (True, 0) == (trace_id in listed, fetch(f"{PAGE}/api/v3/services")[0])
    # A Jaeger that is a plain process was built from its module, which has no page.
    assert f"without its page; look from here: {sys.executable} -m otel_runtime trace show" in listed
    assert "degraded" not in done.stdout + done.stderr, "Jaeger takes no metrics, and that is no fault"
