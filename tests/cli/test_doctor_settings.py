"""What `doctor` says of settings that can only be tried where they are used."""

from __future__ import annotations

from pathlib import Path

import pytest

from otel_runtime.cli.main import main

STALL = "def refund(): ...\n"


@pytest.mark.parametrize(
    ("settings", "code", "said"),
    [
        ("instrument: ['stall:refund', '__main__:go']", 0, "ok instrument 2 targets"),
        (
            "instrument: ['stall:refnd']",
            2,
            "FAULT instrument target `stall:refnd`: `stall` has no function `refnd`; did you mean `refund`?",
        ),
        ("instrument: ['stal:refund']", 0, "warn instrument target `stal:refund`: there is no module `stal`; did you mean `stall`?"),
        ("trace_file: new/traces-{pid}.json", 0, "ok trace file"),
        ("trace_file: stall.py/trace.json", 2, "FAULT trace file"),
        ("trace_file: folder", 2, "FAULT trace file"),
    ],
)
class TestSettings:
    """Each stands in the settings file of a project."""

    def test_that_cannot_be_used_are_faults(
        self, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], settings: str, code: int, said: str
    ) -> None:
        """A program would not start with them, so doctor does not say that all is well; nothing is made or imported for it."""
        monkeypatch.chdir(here)
        monkeypatch.setenv("COLUMNS", "300")
        (here / "folder").mkdir()
        (here / "stall.py").write_text(STALL)
        (here / "otel-runtime.yaml").write_text(f"otlp: 'off'\n{settings}\n")
        assert code == main(["doctor"])
        assert said in " ".join(capsys.readouterr().out.split())
        assert ["folder", "otel-runtime.yaml", "stall.py"] == sorted(path.name for path in here.iterdir() if path.name[0] != ".")
