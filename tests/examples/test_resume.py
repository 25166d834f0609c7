"""The process that waits for an approval dies; the answer and another process carry on, exactly once."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from shop import Shop

pytest.importorskip("openai", reason="the example talks through the openai client: pip install 'otel-runtime[openai]'")


Start = Callable[..., subprocess.Popen[str]]
Run = Callable[..., tuple[int, str]]


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    from shop import Shop

    return Shop(tmp_path / "run" / "shop.db")


@pytest.fixture
def request_id(example: Path, tmp_path: Path, environment: dict[str, str]) -> str:
    """A request whose process was killed with SIGKILL while it waited."""
    command = [sys.executable, str(example / "support.py"), "--workspace", str(tmp_path / "run"), "--ticket", "T-103"]
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        waiting = next((found for line in process.stdout if (found := re.search(r"approvals approve (\w+)", line))), None)
        process.kill()
    assert waiting is not None
    return waiting[1]


@pytest.fixture
def start(tmp_path: Path, environment: dict[str, str]) -> Start:
    """Starts a Python process in the workspace."""

    def begin(*words: str | Path) -> subprocess.Popen[str]:
        command = [sys.executable, *map(str, words)]
        out, err, no_input = subprocess.PIPE, subprocess.STDOUT, subprocess.DEVNULL
        return subprocess.Popen(command, cwd=tmp_path / "run", env=environment, stdin=no_input, stdout=out, stderr=err, text=True)

    return begin


@pytest.fixture
def run(start: Start) -> Run:
    """Runs one to its end; returns exit code and what it printed."""

    def finish(*words: str | Path) -> tuple[int, str]:
        with start(*words) as process:
            printed, _ = process.communicate(timeout=150)
        return process.returncode, printed

    return finish


class TestKilledWhileWaiting:
    def test_approved_then_resumed_once(self, example: Path, shop: Shop, request_id: str, run: Run) -> None:
        """Approved after the kill, the refund is paid by the process that resumes, and never a second time."""
        assert [] == shop.refunds()
        code, printed = run("-m", "otel_runtime", "approvals", "approve", request_id, "--yes")
        assert 0 == code, printed
        assert [] == shop.refunds()
        assert 0 == run(example / "resume.py", request_id)[0]
        code, printed = run(example / "resume.py", request_id)
        assert (1, True) == (code, "refused" in printed), printed
        assert [(1077, 480.0)] == [(order, amount) for order, amount, _ in shop.refunds()]

    def test_two_resume_at_once(self, example: Path, shop: Shop, request_id: str, run: Run, start: Start) -> None:
        """Of several processes that resume at the same time one pays."""
        run("-m", "otel_runtime", "approvals", "approve", request_id, "--yes")
        processes = [start(example / "resume.py", request_id) for _ in range(3)]
        printed = [process.communicate(timeout=150)[0] for process in processes]
        assert [0, 1, 1] == sorted(process.returncode for process in processes), printed
        assert [(1077, 480.0)] == [(order, amount) for order, amount, _ in shop.refunds()]

    def test_denied_is_not_resumed(self, example: Path, shop: Shop, request_id: str, run: Run) -> None:
        """Denied after the kill, resuming is refused and nothing is paid."""
        code, printed = run("-m", "otel_runtime", "approvals", "deny", request_id)
        assert 0 == code, printed
        assert 1 == run(example / "resume.py", request_id)[0]
        assert [] == shop.refunds()
