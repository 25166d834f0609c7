"""The real `dreadnode` package, offline, in an environment of its own: its dependencies and ours do not fit together."""

from __future__ import annotations

import json
import os
import subprocess
from collections import Counter
from pathlib import Path

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from otel_runtime.sources.registry import source
from otel_runtime.telemetry.projector import Projector
from otel_runtime.telemetry.projector_spans import TracerSpans

VARIABLE = "DREADNODE_PYTHON"
HOW = f"set {VARIABLE} to the Python of an environment with `pip install dreadnode==2.0.52 --use-deprecated=legacy-resolver`"


def live(on_error: str) -> list[ReadableSpan]:
    python = os.environ.get(VARIABLE)
    if not python:
        pytest.skip(HOW)
    script = Path(__file__).with_name("dreadnode_agent.py")
    done = subprocess.run([python, str(script), on_error], stdout=subprocess.PIPE, text=True, check=False, timeout=300)
    exporter, provider = InMemorySpanExporter(), TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    projector, reader = Projector(TracerSpans(provider.get_tracer("test")), sweep_every_s=0), source("dreadnode")
    for line in done.stdout.splitlines():
        if line.startswith("{"):
            for event in reader.translate(json.loads(line)):
                projector.observe(event)
    projector.close()
    assert {} == dict(reader.malformed)
    return list(exporter.get_finished_spans())


class TestJudge:
    @pytest.mark.parametrize(("on_error", "root"), [("deny", StatusCode.UNSET), ("fail", StatusCode.ERROR)])
    def test_a_judge_that_is_down_denies(self, on_error: str, root: StatusCode) -> None:
        """Each call that was stopped is a denial and a failed tool; the run failed only when the hook says so."""
        spans = live(on_error)
        counts = Counter(span.name for span in spans)
        assert counts["policy deny look"] == counts["execute_tool look"] >= 1
        assert {StatusCode.ERROR} == {span.status.status_code for span in spans if span.name == "execute_tool look"}
        assert [root] == [span.status.status_code for span in spans if span.parent is None]

    def test_a_judge_that_is_down_may_allow(self) -> None:
        """Then the calls run, and nothing is denied."""
        counts = Counter(span.name for span in live("allow"))
        assert {"invoke_agent t": 1, "chat listed": 2, "execute_tool look": 2} == dict(counts)
