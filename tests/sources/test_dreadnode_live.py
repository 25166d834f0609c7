"""Fresh runs of the real `dreadnode` package, offline: our spans beside the ones it makes of itself.

The environment is one of its own, because that package's dependencies and ours do not fit together.
"""

from __future__ import annotations

import functools
import json
import os
import subprocess
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from otel_runtime.sources.registry import source
from otel_runtime.telemetry.projector import Projector
from otel_runtime.telemetry.projector_spans import TracerSpans

HOW = "make foreign"
# What lies between an event and the end of the span that package makes, beside what a busy machine took for itself meanwhile.
TOLERANCE_NS = 250_000_000
AGENTS = ["plain", "uncaught", "uncaught_with_sibling", "caught", "model_error", "judge_allow", "max_steps", "unknown_tool"]
FAILED = {"uncaught", "uncaught_with_sibling", "model_error"}
RUNTIMES = ["failed_tool", "completed", "closed_mid_turn", "two_at_once", "queued", "cancelled", "model_fails"]


@functools.cache
def everything() -> dict[str, dict[str, Any]]:
    """Every run, by what it is and its name."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    told = os.environ.get("OTEL_RUNTIME_FOREIGN")
    folder = Path(told) if told else cache / "otel-runtime" / "foreign"
    if not (folder / ".complete-1").is_file():
        pytest.skip(f"the package `dreadnode` is not in {folder}: run `{HOW}`")
    words = [str(folder / "bin" / "python"), str(Path(__file__).with_name("dreadnode_runs.py"))]
    environ = {**os.environ, "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    done = subprocess.run(words, env=environ, capture_output=True, text=True, check=False, timeout=170)
    found = [line.removeprefix("RECORDED ") for line in done.stdout.splitlines() if line.startswith("RECORDED ")]
    assert found, done.stderr[-3000:]
    result: dict[str, dict[str, Any]] = json.loads(found[0])
    return result


def recorded(what: str, name: str) -> dict[str, Any]:
    """What a run said, and the spans that package made of it."""
    return everything()[f"{what} {name}"]


@functools.cache
def projected(what: str, name: str) -> tuple[ReadableSpan, ...]:
    exporter, provider = InMemorySpanExporter(), TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    projector, reader = Projector(TracerSpans(provider.get_tracer("test")), sweep_every_s=0), source("dreadnode")
    for raw in recorded(what, name)["events"]:
        for event in reader.translate(raw):
            projector.observe(event)
    projector.close()
    assert ({}, {}) == (dict(reader.malformed), dict(projector.problems))
    return exporter.get_finished_spans()


def facts(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def parent(span: ReadableSpan, spans: Sequence[ReadableSpan]) -> str | None:
    names = {each.context.span_id: each.name for each in spans}
    return None if span.parent is None else names[span.parent.span_id]


def start(span: ReadableSpan) -> int:
    return span.start_time or 0


CASES = [("agent", name) for name in AGENTS] + [("runtime", name) for name in RUNTIMES]


@pytest.mark.parametrize(("what", "name"), CASES)
class TestAgainstNativeSpans:
    def test_tools(self, what: str, name: str) -> None:
        """The same tools with the same call ids, each under the generation that asked for it, starting and lasting as long."""
        ours = [span for span in projected(what, name) if span.name.startswith("execute_tool")]
        theirs = [span for span in recorded(what, name)["spans"] if span["name"].startswith("tool:")]
        keys = Counter((span["attributes"]["dreadnode.tool.name"], span["attributes"]["dreadnode.tool.call_id"]) for span in theirs)
        assert keys == Counter((facts(span)["gen_ai.tool.name"], facts(span)["gen_ai.tool.call.id"]) for span in ours)
        assert {"chat listed"} >= {parent(span, projected(what, name)) for span in ours}
        tolerance_ns = TOLERANCE_NS + recorded(what, name)["late_ns"]
        for mine, native in zip(
            sorted(ours, key=lambda span: (facts(span)["gen_ai.tool.call.id"], start(span))),
            sorted(theirs, key=lambda span: (span["attributes"]["dreadnode.tool.call_id"], span["start_ns"])),
            strict=True,
        ):
            assert abs(start(mine) - native["start_ns"]) < tolerance_ns
            if facts(mine).get("otel_runtime.outcome") is None:
                # Where it was closed with its turn, theirs went on in the background.
                assert abs((mine.end_time or 0) - native["end_ns"]) < tolerance_ns

    def test_generations(self, what: str, name: str) -> None:
        """As many, with the same model and tokens, in the order of their start."""
        ours = sorted((span for span in projected(what, name) if span.name.startswith("chat")), key=start)
        theirs = sorted((span for span in recorded(what, name)["spans"] if span["name"] == "generation"), key=lambda span: span["start_ns"])
        keys = ("input_tokens", "output_tokens")
        expected = [[span["attributes"].get(f"dreadnode.generation.{key}") for key in keys] for span in theirs]
        assert expected == [[facts(span).get(f"gen_ai.usage.{key}") for key in keys] for span in ours]

    def test_agents(self, what: str, name: str) -> None:
        """One root for each of theirs that started, as failed as it was, and none more; a dropped turn is one besides."""
        roots = [span for span in projected(what, name) if span.parent is None]
        theirs = [span for span in recorded(what, name)["spans"] if span["name"].startswith("agent:")]
        dropped = [span for span in roots if "gen_ai.agent.name" not in facts(span) and span.name == "invoke_agent"]
        assert len(theirs) == len(roots) - len(dropped)
        if what == "agent":
            # Their own failed root is left UNSET.
            assert (name in FAILED) == (roots[0].status.status_code is StatusCode.ERROR)

    def test_terminal_envelopes(self, what: str, name: str) -> None:
        """Each turn is as failed, and has used as many tokens, as its terminal envelope tells; a closed one has none."""
        spans = projected(what, name)
        roots = {facts(span)["otel_runtime.run.id"]: span for span in spans if span.parent is None}
        terminal = {raw["turn_id"]: raw for raw in recorded(what, name)["events"] if raw.get("terminal")}
        for turn, raw in terminal.items():
            root = roots[turn]
            assert (raw["kind"] == "turn.failed") == (root.status.status_code is StatusCode.ERROR)
            assert (raw["kind"] == "turn.cancelled") == (facts(root).get("otel_runtime.outcome") == "cancelled")
            if usage := raw["payload"].get("usage"):
                own = [span for span in spans if span.name.startswith("chat") and facts(span)["otel_runtime.run.id"] == turn]
                for key in ("input_tokens", "output_tokens"):
                    assert usage[key] == sum(facts(span)[f"gen_ai.usage.{key}"] for span in own) == facts(root)[f"gen_ai.usage.{key}"]
        if what == "runtime":
            closed = {turn for turn in roots if turn not in terminal}
            assert {"closed"} >= {facts(roots[turn])["otel_runtime.outcome"] for turn in closed}


class TestJudge:
    @pytest.mark.parametrize(("on_error", "root"), [("judge_deny", StatusCode.UNSET), ("judge_fail", StatusCode.ERROR)])
    def test_a_judge_that_is_down_denies(self, on_error: str, root: StatusCode) -> None:
        """Each call that was stopped is a denial and a failed tool; the run failed only when the hook says so."""
        spans = projected("agent", on_error)
        counts = Counter(span.name for span in spans)
        theirs = Counter(span["name"] for span in recorded("agent", on_error)["spans"])
        for tool in ("fast", "slow"):
            assert theirs[f"tool:{tool}"] == counts[f"policy deny {tool}"] == counts[f"execute_tool {tool}"] == 1
        assert {StatusCode.ERROR} == {span.status.status_code for span in spans if span.name.startswith("execute_tool")}
        assert [root] == [span.status.status_code for span in spans if span.parent is None]

    @pytest.mark.parametrize(("name", "root"), [("judge_denies", StatusCode.UNSET), ("judge_fails", StatusCode.ERROR)])
    def test_in_a_turn(self, name: str, root: StatusCode) -> None:
        """The same inside a runtime."""
        spans = projected("runtime", name)
        assert {"policy deny fast", "policy deny slow"} <= {span.name for span in spans}
        assert [root] == [span.status.status_code for span in spans if span.parent is None]
