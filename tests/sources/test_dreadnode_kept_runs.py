"""Recorded runs of the real `dreadnode` package that the shared recordings have none of, each with the tree it must become.

Made by that package itself, offline, with a model that answers from a list. What an outline says of a span: its name, `error.type`, the
outcome, and tokens in and out.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from otel_runtime.sources.registry import source
from otel_runtime.telemetry.event_signals import Signals
from otel_runtime.telemetry.projector import Projector
from otel_runtime.telemetry.projector_spans import TracerSpans
from otel_runtime.values.trace import TraceEvent

DATA = Path(__file__).with_name("data")
COMPACTED = """
        invoke_agent t 36/21
          chat listed 11/6
            execute_tool fast
          chat listed 12/7
            execute_tool slow
          chat listed 13/8
    """
OUTLINES = {
    # Feedback of a hook that names the call: that system tells the model `[POLICY DENIED]`.
    "refused_by_a_hook": """
        invoke_agent t 36/21
          chat listed 11/6
            execute_tool fast PolicyDenied denied
            policy deny fast
            execute_tool slow closed
          chat listed 12/7
            execute_tool slow
          chat listed 13/8
    """,
    "finished_by_a_hook": """
        invoke_agent t
          chat listed
            execute_tool fast Finish
            execute_tool slow closed
    """,
    # A hook failed over a call that had ended well: that system says `toolerror` of it, and it is no second call.
    "hook_failed_after_a_call": """
        invoke_agent t OSError
          chat listed
            execute_tool fast
            execute_tool slow OSError closed
    """,
    "hook_failed_at_a_reaction": """
        invoke_agent t OSError
          chat listed
            execute_tool fast
    """,
    # The same agent again, after a run that was cancelled without a word.
    "cancelled_then_again": """
        invoke_agent t closed
          chat listed
            execute_tool hangs closed
            execute_tool fast
        invoke_agent t 25/15
          chat listed 12/7
            execute_tool slow
          chat listed 13/8
    """,
    # The runtime's own compaction event carries an id of its own where an agent's would stand.
    "compacted": COMPACTED,
    # An engine that hands its loop to another program announces no generation and never ends one.
    "delegating_engine": """
        invoke_agent t 32/12
          chat base!listed 12/9
            execute_tool Bash
            execute_tool Read _OTHER
          chat base!listed 20/3
    """,
    "calls_without_ids": """
        invoke_agent t 23/13
          chat listed 11/6
            execute_tool fast
            execute_tool slow
          chat listed 12/7
    """,
    # Asked before the call is announced; the call's start says what the person said.
    "person_said_no": """
        invoke_agent t 36/21
          chat listed 11/6
            policy deny fast
            execute_tool slow closed
            approval denied fast denied
          chat listed 12/7
            execute_tool fast
          chat listed 13/8
    """,
    "person_said_yes": """
        invoke_agent t 36/21
          chat listed 11/6
            execute_tool fast
            execute_tool slow
            approval approved fast approved
          chat listed 12/7
            execute_tool fast
          chat listed 13/8
    """,
    "person_cancelled": """
        invoke_agent t 23/13
          chat listed 11/6
            execute_tool ask_user UserCancelled
              approval cancelled ask_user cancelled
          chat listed 12/7
    """,
    # The stream of a turn, as a session hands it to its clients: what the session says besides names no agent, and no time.
    "turn_stream_cancelled": """
        invoke_agent t cancelled
          chat listed
            execute_tool hangs cancelled
            execute_tool fast
    """,
    "turn_stream_error": """
        invoke_agent t _OTHER
    """,
    "turn_stream_compacted": COMPACTED,
    "turn_stream_asked": """
        invoke_agent t 23/13
          chat listed 11/6
            execute_tool ask_user UserCancelled
              approval cancelled ask_user cancelled
          chat listed 12/7
    """,
    "stalled": """
        invoke_agent t 11/6
          chat listed 11/6
    """,
}


class Tokens(Signals):
    """Adds up what is measured of tokens."""

    def __init__(self) -> None:
        self.found = [0, 0]

    def tokens(self, model: str | None, read: int | None, written: int | None, where: Context) -> None:
        """What one model call used."""
        self.found = [self.found[0] + (read or 0), self.found[1] + (written or 0)]


def silent(tokens: Tokens) -> Projector:
    return Projector(TracerSpans(TracerProvider(shutdown_on_exit=False).get_tracer("test")), tokens, sweep_every_s=0)


def spans_of(name: str, times: int = 1) -> list[ReadableSpan]:
    exporter, provider = InMemorySpanExporter(), TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    projector, reader = Projector(TracerSpans(provider.get_tracer("test")), sweep_every_s=0), source("dreadnode")
    for line in (DATA / f"{name}.jsonl").read_text(encoding="utf-8").splitlines():
        for _ in range(times):
            for event in reader.translate(json.loads(line)):
                projector.observe(event)
    projector.close()
    assert {} == dict(reader.malformed)
    return list(exporter.get_finished_spans())


def told(span: ReadableSpan) -> str:
    facts = dict(span.attributes or {})
    tokens = [str(facts[name]) for name in ("gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens") if name in facts]
    outcome = facts.get("otel_runtime.outcome") or facts.get("otel_runtime.approval.outcome")
    return " ".join(str(part) for part in (span.name, facts.get("error.type"), outcome, "/".join(tokens)) if part)


def outline(spans: list[ReadableSpan]) -> list[str]:
    known = {span.context.span_id for span in spans}
    found: list[str] = []

    def below(parent: int | None, depth: int) -> None:
        above = [(span, span.parent.span_id if span.parent and span.parent.span_id in known else None) for span in spans]
        for span in sorted((span for span, its in above if its == parent), key=lambda span: (span.start_time or 0, span.end_time or 0)):
            found.append("  " * depth + told(span))
            below(span.context.span_id, depth + 1)

    below(None, 0)
    return found


def lines(text: str) -> list[str]:
    return [line[8:] for line in text.splitlines() if line.strip()]


class TestKeptRuns:
    @pytest.mark.parametrize("run", OUTLINES)
    def test_becomes_its_tree(self, run: str) -> None:
        """Nothing is lost, doubled or misplaced."""
        assert lines(OUTLINES[run]) == outline(spans_of(run))

    @pytest.mark.parametrize("run", ["compacted", "delegating_engine", "person_said_no", "person_said_yes", "person_cancelled"])
    def test_a_stream_that_says_all_twice_says_it_once(self, run: str) -> None:
        """Envelopes are known by their ids, what they are translated to as well."""
        assert lines(OUTLINES[run]) == outline(spans_of(run, times=2))

    @pytest.mark.parametrize("run", [run for run in OUTLINES if run.startswith("turn_stream_")])
    def test_what_names_no_time_is_of_the_time_of_the_run(self, run: str) -> None:
        """A recording that is read days later lasts no days."""
        spans = spans_of(run)
        assert max(span.end_time or 0 for span in spans) - min(span.start_time or 0 for span in spans) < 10_000_000_000

    @pytest.mark.parametrize("run", OUTLINES)
    def test_every_span_names_the_session(self, run: str) -> None:
        """An agent names it at its start only."""
        assert [] == [span.name for span in spans_of(run) if "gen_ai.conversation.id" not in (span.attributes or {})]

    def test_no_id_is_made_up_for_a_call(self) -> None:
        """A call without an id has no attribute for one."""
        assert not [span for span in spans_of("calls_without_ids") if "gen_ai.tool.call.id" in (span.attributes or {})]

    def test_a_generation_nobody_announced_has_its_time(self) -> None:
        """It began with what was heard before it, and not after its end."""
        first, second = (span for span in spans_of("delegating_engine") if span.name.startswith("chat "))
        assert (first.end_time or 0) > (first.start_time or 0)
        assert (second.start_time or 0) >= (first.end_time or 0)

    @pytest.mark.parametrize(("run", "name"), [("stalled", "agent.stalled"), ("compacted", "context.compacted")])
    def test_what_the_page_names_is_known_by_its_wire_name(self, run: str, name: str) -> None:
        """`agentstalled` and `compactionevent` are the page's `stalled` and `compaction`."""
        assert name in [event.name for span in spans_of(run) for event in span.events]


class TestTokensCountOnce:
    @pytest.mark.parametrize(("run", "used"), [("cancelled_then_again", [25, 15]), ("refused_by_a_hook", [36, 21]), ("stalled", [11, 6])])
    def test_of_a_stream_without_ids_that_comes_again(self, run: str, used: list[int]) -> None:
        """Agent events have no id; a generation that is told twice is known by its number and its run's start."""
        tokens = Tokens()
        projector, reader = silent(tokens), source("dreadnode")
        lines = (DATA / f"{run}.jsonl").read_text(encoding="utf-8").splitlines()
        for line in [*lines, *lines]:
            for event in reader.translate(json.loads(line)):
                projector.observe(event)
        projector.close()
        assert used == tokens.found

    def test_of_a_model_call_that_comes_after_its_run_ended(self) -> None:
        """It is a span with its usage, so its usage is measured."""
        tokens = Tokens()
        projector = silent(tokens)
        used = {"usage.input_tokens": 7, "usage.output_tokens": 2}
        for name, facts in (
            ("run.start", {}),
            ("run.finish", {}),
            ("model.start", {"model.call.id": "m"}),
            ("model.finish", {"model.call.id": "m", **used}),
        ):
            projector.observe(TraceEvent(name, "run", attributes={"run.id": "r", **facts}))
        projector.close()
        assert [7, 2] == tokens.found
