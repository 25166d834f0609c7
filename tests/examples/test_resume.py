"""The process that waits for an approval dies; the answer and another process carry on, exactly once."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from test_demo import environment

if TYPE_CHECKING:
    from shop import Shop

pytest.importorskip("openai", reason="the example talks through the openai client: pip install 'otel-runtime[openai]'")


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    from shop import Shop

    return Shop(tmp_path / "run" / "shop.db")


@pytest.fixture
def request_id(example: Path, tmp_path: Path) -> Iterator[str]:
    """A request whose process was killed with SIGKILL while it waited."""
    command = [sys.executable, str(example / "support.py"), "--workspace", str(tmp_path / "run"), "--ticket", "T-103"]
    with subprocess.Popen(command, cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        waiting = next((found for line in process.stdout if (found := re.search(r"approvals approve (\w+)", line))), None)
        process.kill()
    assert waiting is not None
    yield waiting[1]


def start(tmp_path: Path, *words: str | Path) -> subprocess.Popen[str]:
    command = [sys.executable, *map(str, words)]
    return subprocess.Popen(
        command,
        cwd=tmp_path / "run",
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def run(tmp_path: Path, *words: str | Path) -> tuple[int, str]:
    with start(tmp_path, *words) as process:
        printed, _ = process.communicate(timeout=60)
    return process.returncode, printed


class TestKilledWhileWaiting:
    def test_approved_then_resumed_once(self, example: Path, tmp_path: Path, shop: Shop, request_id: str) -> None:
        """Approved after the kill, the refund is paid by the process that resumes, and never a second time."""
        assert [] == shop.refunds()
        code, printed = run(tmp_path, "-m", "otel_runtime", "approvals", "approve", request_id, "--yes")
        assert 0 == code, printed
        assert [] == shop.refunds()
        assert 0 == run(tmp_path, example / "resume.py", request_id)[0]
        code, printed = run(tmp_path, example / "resume.py", request_id)
        assert (1, True) == (code, "refused" in printed), printed
        assert [(1077, 480.0)] == [(order, amount) for order, amount, _ in shop.refunds()]

    def test_two_resume_at_once(self, example: Path, tmp_path: Path, shop: Shop, request_id: str) -> None:
        """Of several processes that resume at the same time one pays."""
        run(tmp_path, "-m", "otel_runtime", "approvals", "approve", request_id, "--yes")
        processes = [start(tmp_path, example / "resume.py", request_id) for _ in range(3)]
        printed = [process.communicate(timeout=60)[0] for process in processes]
        assert [0, 1, 1] == sorted(process.returncode for process in processes), printed
        assert [(1077, 480.0)] == [(order, amount) for order, amount, _ in shop.refunds()]

    def test_denied_is_not_resumed(self, example: Path, tmp_path: Path, shop: Shop, request_id: str) -> None:
        """Denied after the kill, resuming is refused and nothing is paid."""
        code, printed = run(tmp_path, "-m", "otel_runtime", "approvals", "deny", request_id, "--yes")
        assert 0 == code, printed
        assert 1 == run(tmp_path, example / "resume.py", request_id)[0]
        assert [] == shop.refunds()
