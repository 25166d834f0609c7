"""`policy replay` asks the real Jaeger and the real Tempo, and finds in both what the trace file tells."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from otel_runtime.cli.main import main

if TYPE_CHECKING:
    from tests.backends.conftest import Jaeger, Run, Tempo

pytestmark = pytest.mark.backends
RULES = ["--policy", str(Path(__file__).parents[2] / "policy" / "careful-default.yaml"), "--json"]


def replayed(capsys: pytest.CaptureFixture[str], where: str) -> dict[str, Any]:
    assert 0 == main(["policy", "replay", where, *RULES])
    found = json.loads(capsys.readouterr().out)
    assert isinstance(found, dict)
    # A back end may add spans of its own servers; what was decided is the same.
    del found["spans"]
    return found


class TestReplay:
    def test_jaeger(self, jaeger: Jaeger, delivered: Run, capsys: pytest.CaptureFixture[str]) -> None:
        """Jaeger's /api/v3 gives back every decided call."""
        jaeger.trace(delivered.trace_id, len(delivered.spans))
        from_file = replayed(capsys, str(delivered.root / "trace.json"))
        assert from_file["calls"] > 5
        assert from_file == replayed(capsys, jaeger.page)

    def test_tempo(
        self,
        tempo: Tempo,
        run_through: Callable[[str, Path], Run],
        wait: Callable[..., Any],
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        """So does Tempo, asked in TraceQL."""
        run = run_through(tempo.endpoint, tmp_path)
        tempo.trace(run.trace_id, len(run.spans))
        from_file = replayed(capsys, str(run.root / "trace.json"))

        def found() -> bool:
            # A trace is there by its id before a search finds it, and spans of it before others.
            main(["policy", "replay", tempo.page, *RULES])
            return bool(json.loads(capsys.readouterr().out)["calls"] == from_file["calls"])

        wait(found, "Tempo finding the trace by a search")
        assert from_file == replayed(capsys, tempo.page)
