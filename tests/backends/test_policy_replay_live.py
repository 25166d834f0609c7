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
    """Whole stores are asked, so each holds this one run."""

    def test_jaeger(
        self, empty_jaeger: Jaeger, delivered: Run, send_document: Callable[[str, bytes], int], capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Jaeger's /api/v3 gives back every decided call."""
        assert 200 == send_document(empty_jaeger.server.url("http"), (delivered.root / "trace.json").read_bytes())
        empty_jaeger.trace(delivered.trace_id, len(delivered.spans))
        from_file = replayed(capsys, str(delivered.root / "trace.json"))
        assert from_file["calls"] > 5
        assert from_file == replayed(capsys, empty_jaeger.page)

    def test_tempo(
        self,
        empty_tempo: Tempo,
        delivered: Run,
        send_document: Callable[[str, bytes], int],
        wait: Callable[..., Any],
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        """So does Tempo, asked in TraceQL."""
        wait(
            lambda: send_document(empty_tempo.server.url("otlp-http"), (delivered.root / "trace.json").read_bytes()) == 200,
            "Tempo taking spans",
        )
        empty_tempo.trace(delivered.trace_id, len(delivered.spans))
        from_file = replayed(capsys, str(delivered.root / "trace.json"))

        def found() -> bool:
            # A trace is there by its id before a search finds it, and spans of it before others.
            main(["policy", "replay", empty_tempo.page, *RULES])
            return bool(json.loads(capsys.readouterr().out)["calls"] == from_file["calls"])

        wait(found, "Tempo finding the trace by a search")
        assert from_file == replayed(capsys, empty_tempo.page)
