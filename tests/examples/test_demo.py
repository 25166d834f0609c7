"""The demo from end to end, as a user runs it: in its own process, in place, moved away, and at a terminal."""

from __future__ import annotations

import json
import os
import pty
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("openai", reason="the example talks through the openai client: pip install 'otel-runtime[openai]'")


Demo = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def demo(tmp_path: Path, environment: dict[str, str]) -> Demo:
    """Runs a demo without a terminal."""

    def run(folder: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, folder / "demo.py", *arguments]
        no_input = subprocess.DEVNULL
        return subprocess.run(
            command, cwd=tmp_path, env=environment, stdin=no_input, capture_output=True, text=True, timeout=150, check=False
        )

    return run


def spans(trace_file: Path) -> list[dict[str, Any]]:
    document = json.loads(trace_file.read_text())
    return [span for resource in document["resourceSpans"] for scope in resource["scopeSpans"] for span in scope["spans"]]


def tree(of: list[dict[str, Any]], parent: str) -> list[Any]:
    """Names of the spans below one, by the time they ended; a leaf is its name, others are (name, children)."""
    below = sorted((span for span in of if span.get("parentSpanId", "") == parent), key=lambda span: int(span["endTimeUnixNano"]))
    nodes = [(span["name"], tree(of, span["spanId"])) for span in below]
    # A refused attempt is repeated as often as the clock says.
    return [node for node, _ in groupby((name, children) if children else name for name, children in nodes)]


CHAT = "chat gpt-5-mini"
EXPECTED = [
    (
        "invoke_workflow support_inbox",
        [
            ("invoke_agent support", [CHAT, "execute_tool get_order", CHAT, "execute_tool refund", CHAT, "execute_tool send_email", CHAT]),
            (
                "invoke_agent support",
                [
                    CHAT,
                    "execute_tool web_fetch",
                    CHAT,
                    "execute_tool find_customers",
                    CHAT,
                    "policy deny send_email",
                    CHAT,
                    "execute_tool send_email",
                    CHAT,
                ],
            ),
            (
                "invoke_agent support",
                [
                    CHAT,
                    "execute_tool get_order",
                    CHAT,
                    "policy require-approval refund",
                    "approval requested refund",
                    "approval approved refund",
                    "execute_tool refund",
                    CHAT,
                    "execute_tool send_email",
                    CHAT,
                ],
            ),
            (
                "invoke_agent support",
                [CHAT, "execute_tool check_stock", "policy retryable-failure check_stock", "execute_tool check_stock", CHAT],
            ),
        ],
    )
]


class TestDemo:
    def test_tells_and_proves_its_story(self, example: Path, repository: Path, tmp_path: Path, demo: Demo) -> None:
        """Copied out of the repository with its policy beside it, it ends with 0, every check ticked, and exactly the tree of the story."""
        moved = tmp_path / "elsewhere"
        shutil.copytree(example, moved, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(repository / "policy" / "support-agent.yaml", moved)
        done = demo(moved)
        assert 0 == done.returncode, done.stdout + done.stderr
        assert "✗" not in done.stdout
        printed = done.stderr.splitlines()
        assert ("invoke_workflow support_inbox", "trace") == (printed[0].partition("  ")[0], printed[-1].split()[0]), done.stderr
        (workspace,) = (tmp_path / ".demo").iterdir()
        assert EXPECTED == tree(spans(workspace / "trace.json"), "")

    def test_notices_what_did_not_happen(self, example: Path, repository: Path, tmp_path: Path, demo: Demo) -> None:
        """Under a policy that lets the stranger's mail through and approves every refund, the demo says what is missing and ends with 1."""
        text = (repository / "policy" / "support-agent.yaml").read_text().partition("\ncases:\n")[0]
        text = text.replace('decision: deny\n    reason: "Nothing goes out', 'decision: allow\n    reason: "Nothing goes out')
        text = text.replace("args: {amount: {gt: 0, lte: 100}}", "args: {amount: {gt: 0}}").replace(
            "{amount: {gt: 100}}", "{amount: {gt: 9999}}"
        )
        loose = tmp_path / "loose.yaml"
        loose.write_text(re.sub(r"\n    (no_)?match:(\n      .*)*( \[.*\])?", "", text))
        done = demo(example, "--policy", loose, "--workspace", tmp_path / "run")
        missing = [line.strip().partition("  [")[0] for line in done.stdout.splitlines() if "✗" in line]
        assert (1, 6) == (done.returncode, len(missing)), done.stdout + done.stderr
        assert "✗ the mail to the stranger was denied and its tool never ran" in missing
        assert "✗ the outbox holds three mails and none to records@fanworks-audit.example" in missing

    def test_missing_policy_is_a_sentence(self, example: Path, tmp_path: Path, demo: Demo) -> None:
        """A policy that is not there ends the demo with one line that says what to do, before anything runs."""
        done = demo(example, "--policy", tmp_path / "none.yaml")
        assert 1 == done.returncode
        assert f"no policy at {tmp_path / 'none.yaml'}; copy" in done.stderr
        assert "Traceback" not in done.stderr

    def test_bad_policy_stops_it(self, example: Path, tmp_path: Path, demo: Demo) -> None:
        """A policy that does not load ends the demo with its position, and no refund is paid unguarded."""
        bad = tmp_path / "bad.yaml"
        bad.write_text("version: 1\nname: bad\ndefault: perhaps\nrules: []\n")
        done = demo(example, "--policy", bad, "--workspace", tmp_path / "run")
        assert 2 == done.returncode
        assert "bad.yaml:3:10" in done.stderr
        assert "Traceback" not in done.stderr
        assert [] == list((tmp_path / "run" / "outbox").glob("*"))

    def test_used_workspace_is_refused(self, example: Path, tmp_path: Path, demo: Demo) -> None:
        """A folder with something in it is left alone."""
        (tmp_path / "note.txt").write_text("mine")
        done = demo(example, "--workspace", tmp_path)
        assert (1, True) == (done.returncode, "is not empty" in done.stderr)
        assert ["note.txt"] == [file.name for file in tmp_path.iterdir()]


def at_a_terminal(example: Path, root: Path, answer: str, environment: dict[str, str]) -> tuple[int, str]:
    """Run the demo on a pseudo-terminal and type one line when it asks."""
    primary, secondary = pty.openpty()
    command = [sys.executable, str(example / "demo.py"), "--workspace", str(root)]
    process = subprocess.Popen(
        command, cwd=root.parent, env=environment, stdin=secondary, stdout=secondary, stderr=secondary, close_fds=True
    )
    os.close(secondary)
    shown, typed = b"", False
    while True:
        try:
            data = os.read(primary, 4096)
        except OSError:
            # Linux says so when the last writer of a terminal is gone.
            break
        if not data:
            break
        shown += data
        if b"approve it? y or n" in shown and not typed:
            os.write(primary, f"{answer}\n".encode())
            typed = True
    os.close(primary)
    return process.wait(60), shown.decode()


class TestAtATerminal:
    def test_yes(self, example: Path, tmp_path: Path, environment: dict[str, str]) -> None:
        """The person says yes, and the demo holds."""
        code, shown = at_a_terminal(example, tmp_path / "run", "y", environment)
        assert 0 == code, shown

    def test_no(self, example: Path, tmp_path: Path, environment: dict[str, str]) -> None:
        """The person says no: the refund is not paid, and the exit code says that not everything was seen."""
        from shop import Shop

        code, shown = at_a_terminal(example, tmp_path / "run", "n", environment)
        assert 1 == code, shown
        assert "the large refund asked for approval and got it  [" in shown
        assert [1042] == [order for order, _, _ in Shop(tmp_path / "run" / "shop.db").refunds()]
