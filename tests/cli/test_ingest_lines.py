"""`otel-runtime ingest` on files that are not what they should be: what can be read is read, the rest is told, by line."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from otel_runtime.cli.main import main

SETTINGS = "trace_file: t.json\notlp: 'off'\nflush_timeout: 60s\n"


def event(name: str, at: int, **facts: str) -> bytes:
    raw = {"name": name, "type": "run", "timestamp": f"2026-01-01T00:00:{at:02}Z", "attributes": {"run.id": "r", **facts}}
    return json.dumps(raw).encode() + b"\n"


START, END = event("tool.start", 0, **{"tool.id": "c", "tool.name": "look"}), event("run.finish", 2)
BAD = {
    b"\xff\xfe\x00 no text\n": "is not UTF-8",
    b'{"type":\n': "is not JSON: expecting value",
    b"\x00\n": "is not JSON: expecting value",
    b"[" * 100_000 + b"\n": "is nested too deep",
    b'{"n":' + b"9" * 5000 + b"}\n": "is not JSON: Exceeds the limit",
}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "otel-runtime.yaml").write_text(SETTINGS)
    return tmp_path


class TestBadLines:
    @pytest.mark.parametrize(("line", "why"), BAD.items(), ids=[*BAD.values()])
    def test_are_passed_over_and_told(self, here: Path, capsys: pytest.CaptureFixture[str], line: bytes, why: str) -> None:
        """The events around them become spans all the same, and the exit code says that some did not."""
        (here / "e.jsonl").write_bytes(START + line + END)
        assert 2 == main(["ingest", "e.jsonl", "--source", "vitehub"])
        out, err = capsys.readouterr()
        assert ("2 events read from e.jsonl\n", True) == (out, f"error[S302]: line 2 {why}" in err)
        assert "e.jsonl:2:" in err
        assert "execute_tool look" in (here / "t.json").read_text()

    def test_the_last_one_of_a_program_that_was_killed(self, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """Half a line at the end loses nothing but itself."""
        (here / "e.jsonl").write_bytes(START + END + END[:20])
        assert 2 == main(["ingest", "e.jsonl", "--source", "vitehub"])
        assert capsys.readouterr().out.startswith("2 events")

    def test_many_of_them_are_told_in_a_few_lines(self, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """A file of another kind does not flood the terminal."""
        (here / "e.jsonl").write_bytes(b"\xff\n" * 5000)
        assert 2 == main(["ingest", "e.jsonl", "--source", "vitehub"])
        err = capsys.readouterr().err
        assert (21, True) == (len(err.splitlines()), "4980 more lines could not be read" in err)

    def test_one_without_an_end(self, here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        """A line that is too long is passed over without being held."""
        monkeypatch.setattr("otel_runtime.runtime.event_lines._LONGEST", 1000)
        (here / "e.jsonl").write_bytes(START + b" " * 5000 + b"\n" + END)
        assert 2 == main(["ingest", "e.jsonl", "--source", "vitehub"])
        out, err = capsys.readouterr()
        assert ("2 events read from e.jsonl\n", True) == (out, "line 2 is longer than 1000 bytes" in err)

    def test_a_byte_order_mark_is_no_fault(self, here: Path) -> None:
        """Some editors begin a file with one; lines may end as on Windows."""
        (here / "e.jsonl").write_bytes(b"\xef\xbb\xbf" + START.replace(b"\n", b"\r\n") + END)
        assert 0 == main(["ingest", "e.jsonl", "--source", "vitehub"])


class TestStandardInput:
    def test_that_is_closed(self, here: Path) -> None:
        """One message, no traceback."""
        command = f"{sys.executable} -m otel_runtime ingest - --source vitehub <&-"
        done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False, cwd=here)
        assert (2, True, False) == (done.returncode, "standard input is closed" in done.stderr, "Traceback" in done.stderr)

    @pytest.mark.skipif(os.name != "posix", reason="only POSIX kills like that")
    def test_of_a_reader_that_was_killed(self, here: Path) -> None:
        """A run that was killed half-way leaves nothing that the next one stumbles over."""
        words = [sys.executable, "-m", "otel_runtime", "ingest", "-", "--source", "vitehub"]
        with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=here) as killed:
            assert killed.stdin is not None
            # More than a pipe holds: when it is written, the reader has read some of it.
            killed.stdin.write(START + event("note.added", 1) * 2000)
            killed.stdin.flush()
            killed.send_signal(signal.SIGKILL)
            killed.stdin.close()
        done = subprocess.run(words, input=START + END, capture_output=True, check=False, cwd=here)
        assert (-signal.SIGKILL, 0, b"") == (killed.returncode, done.returncode, done.stderr)
        assert "execute_tool look" in (here / "t.json").read_text()
