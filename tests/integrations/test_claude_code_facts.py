"""The journal of the hook processes under kill -9 and a full disk: a tool that ran is counted, and one that was not let run blocks nobody."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from otel_runtime.integrations.claude_code_facts import decide_with_facts
from otel_runtime.policy.loading import load_policy_text
from otel_runtime.values.action import Action

POLICY = """
version: 1
default: allow
tools: {Bash: {args: {command: str}}}
rules:
  - {id: few, tool: Bash, over: {calls: 3, by: session, per: 1h}, decision: deny}
"""
NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
# One decision in a process of its own, in which one call into the system goes wrong: the n-th, before or after it is done.
PROGRAM = """
import os, resource, signal, sys
from datetime import datetime
from pathlib import Path
from otel_runtime.errors import StoreError
from otel_runtime.integrations import claude_code_facts as facts
from otel_runtime.policy.loading import load_policy_text
from otel_runtime.values.action import Action

journal, policy, now, compact, at, when, room = sys.argv[1:]
facts._COMPACT_BYTES = int(compact)
engine = load_policy_text(policy).engine
calls = 0


def counted(real):
    def call(*args, **named):
        global calls
        calls += 1
        if calls == int(at) and when == "before":
            os.kill(os.getpid(), 9)
        try:
            return real(*args, **named)
        finally:
            if calls == int(at) and when == "after":
                os.kill(os.getpid(), 9)
    return call


for name in ("open", "pwrite", "ftruncate", "fsync", "replace", "unlink", "close"):
    setattr(os, name, counted(getattr(os, name)))
if room:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limit = Path(journal).stat().st_size + int(room)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
try:
    ruling = facts.decide_with_facts(engine, Action("tool", "Bash", {"command": "ls"}, session="s"), datetime.fromisoformat(now), Path(journal))
    sys.stdout.write(f"{ruling.decision.value} after {calls} calls" if calls >= int(at) else "done")
except StoreError as error:
    sys.stdout.write(str(error))
"""


def here(journal: Path, now: datetime = NOW) -> str:
    action = Action("tool", "Bash", {"command": "ls"}, session="s")
    return decide_with_facts(load_policy_text(POLICY).engine, action, now, journal).decision.value


def elsewhere(journal: Path, *, compact: int = 1 << 20, at: int = 0, when: str = "", room: str = "") -> str:
    words = [str(journal), POLICY, NOW.isoformat(), str(compact), str(at), when, room]
    done = subprocess.run([sys.executable, "-c", PROGRAM, *words], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode in (0, -9), done.stderr
    return done.stdout if done.returncode == 0 else "killed"


class TestJournal:
    @pytest.mark.parametrize("when", ["before", "after"])
    def test_killed_at_each_step(self, tmp_path: Path, when: str) -> None:
        """Wherever a hook is killed, the next one decides, by every tool that ran; only the tool of the killed one is uncertain."""
        said, at, rest = "", 0, [""]
        while said != "done":
            at += 1
            journal = tmp_path / f"{at}.jsonl"
            # One line that is too old to matter, which a shorter file no longer has.
            assert ["allow"] * 3 == [here(journal, NOW - timedelta(days=40, microseconds=1)), here(journal), here(journal)]
            said = elsewhere(journal, compact=1, at=at, when=when)
            rest = [here(journal), here(journal)]
            assert rest in (["allow", "deny"], ["deny", "deny"]), f"step {at}"
        assert rest == ["deny", "deny"]
        assert at > 3

    def test_full_disk(self, tmp_path: Path) -> None:
        """A tool whose start is written only in part does not run, and the part counts for nothing."""
        journal = tmp_path / "facts.jsonl"
        assert ["allow", "allow"] == [here(journal), here(journal)]
        assert "cannot be used" in elsewhere(journal, room="20")
        assert ["allow", "deny"] == [here(journal), here(journal)]
