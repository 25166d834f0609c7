"""The second process: answers a waiting request through the command line of otel-runtime, as a colleague in finance would."""

from __future__ import annotations

import os
import select
import shlex
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from workspace import program

__all__ = ["Approver", "command"]

_ASK_S = 25.0
_LOOK_S = 0.2


def command(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `otel-runtime ...` in another process, in the workspace.

    Args:
        root: The workspace.
        arguments: What stands after `otel-runtime`.
    """
    return subprocess.run(
        [sys.executable, "-m", "otel_runtime", *arguments],
        cwd=root,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        stdin=subprocess.DEVNULL,
    )


class Approver:
    """Answers each request once, on a thread of its own, because the agent's thread waits meanwhile.

    Args:
        root: The workspace.
        tell: Called with one line at a time.
        ask_person: True on a terminal: the person is asked first.
    """

    def __init__(self, root: Path, tell: Callable[[str], None], *, ask_person: bool) -> None:
        self._root = root
        self._tell = tell
        self._ask_person = ask_person
        self._threads: dict[str, threading.Thread] = {}
        self._goes_on = threading.Event()

    @property
    def asked(self) -> tuple[str, ...]:
        """Ids of the requests that were seen, in order."""
        return tuple(self._threads)

    def on_request(self, request_id: str) -> None:
        """A request waits; returns at once."""
        if request_id not in self._threads:
            self._goes_on.clear()
            thread = threading.Thread(target=self._answer, args=(request_id,), name=f"approver-{request_id[:8]}", daemon=True)
            self._threads[request_id] = thread
            thread.start()

    def agent_goes_on(self) -> None:
        """The agent does not wait any more: someone answered, here or in another terminal, or its wait was over."""
        self._goes_on.set()

    def finish(self) -> None:
        """Stop asking, and wait for what was begun."""
        self._goes_on.set()
        for thread in self._threads.values():
            thread.join()

    def _answer(self, request_id: str) -> None:
        self._tell(f"  the call waits. Another process looks at it: otel-runtime approvals show {request_id}")
        self._show(command(self._root, "approvals", "show", request_id))
        verdict = self._person(request_id) if self._ask_person else "approve"
        if verdict:
            words = ("approvals", verdict, request_id, *(["--yes"] if verdict == "approve" else []))
            self._tell(f"  a second process answers: otel-runtime {' '.join(words)}")
            self._show(command(self._root, *words))

    def _show(self, done: subprocess.CompletedProcess[str]) -> None:
        for line in (done.stdout + done.stderr).splitlines():
            self._tell(f"    | {line}")
        if done.returncode:
            self._tell(f"    | exit code {done.returncode}")

    def _person(self, request_id: str) -> str:
        self._tell(
            f"  approve it? y or n, or in another terminal: cd {shlex.quote(str(self._root))} && {program()} approvals approve {request_id}"
        )
        self._tell(f"  (without an answer the demo says yes after {_ASK_S:.0f} s)")
        deadline = time.monotonic() + _ASK_S
        while time.monotonic() < deadline:
            if self._goes_on.is_set():
                return ""
            if answer := _typed(_LOOK_S):
                return "approve" if answer == "y" else "deny"
        return "approve"


def _typed(timeout_s: float) -> str:
    """`y` or `n` when a line that says so was typed; empty otherwise."""
    try:
        # Not input(): a thread left inside it keeps stdin locked when the process ends.
        ready, _, _ = select.select([0], [], [], timeout_s)
        data = os.read(0, 1024) if ready else b"\n"
    except OSError:
        # No select on this kind of stdin: nobody can be asked here.
        data = b""
    if not data:
        # End of input stays readable forever; do not spin on it.
        time.sleep(timeout_s)
    line = data.decode(errors="replace").strip().lower()
    return line[:1] if line[:1] in {"y", "n"} else ""
