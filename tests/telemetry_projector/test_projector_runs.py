"""The run view of TraceEvents, as spans of the real SDK."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import NoOpTracer, Span, SpanKind, StatusCode

from otel_runtime.telemetry.projector import Projector
from otel_runtime.telemetry.projector_spans import TracerSpans
from otel_runtime.values.trace import TraceEvent, TraceEventType, TraceRef

BASE = datetime(2026, 11, 20, 8, tzinfo=UTC)


class Bench:
    def __init__(self, **bounds: float) -> None:
        self.exporter = InMemorySpanExporter()
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.now = int(BASE.timestamp()) * 1_000_000_000
        self.projector = Projector(TracerSpans(provider.get_tracer("test")), clock=lambda: self.now, sweep_every_s=0, **bounds)  # type: ignore[arg-type]  # the bounds are whole numbers where they must be

    def feed(
        self, name: str, ms: int = 0, run: str | None = "r1", kind: TraceEventType = "run", trace: TraceRef | None = None, **facts: object
    ) -> None:
        attributes = {key.replace("__", "."): value for key, value in facts.items()} | ({"run.id": run} if run else {})
        self.projector.observe(TraceEvent(name, kind, BASE + timedelta(milliseconds=ms), trace, attributes))

    def close(self) -> dict[str, ReadableSpan]:
        self.projector.close()
        return self.spans()

    def spans(self) -> dict[str, ReadableSpan]:
        return {span.name: span for span in self.exporter.get_finished_spans()}


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    made.projector.close()
    assert 0 == made.projector.open_runs


def milliseconds(span: ReadableSpan) -> float:
    assert span.end_time is not None
    assert span.start_time is not None
    return (span.end_time - span.start_time) / 1e6


def facts(span: ReadableSpan) -> dict[str, object]:
    return dict(span.attributes or {})


class TestRuns:
    def test_a_step_ends_while_its_run_stays_open(self, bench: Bench) -> None:
        """tool.start 0 ms, tool.finish 25 ms, no terminal: the step is complete, the run open."""
        bench.feed("tool.start", 0, tool__id="c1", tool__name="search")
        bench.feed("tool.finish", 25, tool__id="c1")
        assert [("execute_tool search", 25.0)] == [(span.name, milliseconds(span)) for span in bench.exporter.get_finished_spans()]
        assert 1 == bench.projector.open_runs

    def test_a_terminal_event_ends_the_run(self, bench: Bench) -> None:
        """invocation.finish completes it, and the step is its child."""
        bench.feed("tool.start", 0, tool__id="c1", tool__name="search", agent__name="a")
        bench.feed("tool.finish", 25, tool__id="c1")
        bench.feed("invocation.finish", 30)
        spans = bench.spans()
        root, tool = spans["invoke_agent a"], spans["execute_tool search"]
        assert (30.0, StatusCode.UNSET, root.context.span_id) == (
            milliseconds(root),
            root.status.status_code,
            tool.parent and tool.parent.span_id,
        )

    @pytest.mark.parametrize(
        ("names", "failed"),
        [
            (["stream.error", "finish"], True),
            (["stream.warning", "finish"], False),
            (["invocation.error", "invocation.finish"], False),
            (["invocation.error"], True),
            (["run.error", "run.finish"], True),
            (["queue.failed", "finish"], False),
        ],
    )
    def test_what_a_failure_does_to_the_run(self, names: list[str], failed: bool) -> None:
        """After invocation.error the last terminal event wins; every other failure of the run stays."""
        bench = Bench()
        for index, name in enumerate(names):
            bench.feed(name, index * 10)
        root = bench.close()["invoke_agent"]
        assert (failed, (len(names) - 1) * 10.0) == (root.status.status_code is StatusCode.ERROR, milliseconds(root))

    def test_recoverable_error(self, bench: Bench) -> None:
        """A recoverable error fails nothing."""
        bench.feed("stream.error", 0, error__recoverable=True)
        bench.feed("finish", 5)
        assert StatusCode.UNSET is bench.spans()["invoke_agent"].status.status_code

    def test_a_failed_invocation_ends_when_nothing_corrects_it(self, bench: Bench) -> None:
        """It lingers two seconds for a later terminal event, then ends at its own time."""
        bench.feed("invocation.error", 7, error__type="ValueError")
        bench.now += 2_500_000_000
        bench.feed("tool.start", 9, run="other", tool__id="c1")
        assert "ValueError" == facts(bench.spans()["invoke_agent"])["error.type"]

    def test_two_runs_of_one_trace(self, bench: Bench) -> None:
        """Two run ids make two spans in one trace, its id kept."""
        trace = TraceRef("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331")
        for run in ("r1", "r2"):
            bench.feed("finish", run=run, trace=trace, agent__name=run)
        spans = bench.spans()
        assert {0x0AF7651916CD43DD8448EB211C80319C} == {span.context.trace_id for span in spans.values()}
        assert {0xB7AD6B7169203331} == {span.parent.span_id for span in spans.values() if span.parent}
        assert {"invoke_agent r1", "invoke_agent r2"} == set(spans)

    def test_foreign_trace_ids_are_hashed(self, bench: Bench) -> None:
        """An id that is no OpenTelemetry id gives the same trace each time."""
        for run in ("r1", "r2"):
            bench.feed("finish", run=run, trace=TraceRef("vite-77"), agent__name=run)
        spans = bench.spans()
        assert 1 == len({span.context.trace_id for span in spans.values()})

    def test_a_root_in_a_given_trace_is_a_root(self, bench: Bench) -> None:
        """The trace id is kept and nothing is made up; the tracer's own roots keep their own ids."""
        bench.feed("finish", trace=TraceRef("0af7651916cd43dd8448eb211c80319c"), agent__name="given")
        bench.feed("finish", run="r2", agent__name="own")
        given, own = bench.spans()["invoke_agent given"], bench.spans()["invoke_agent own"]
        assert (0x0AF7651916CD43DD8448EB211C80319C, None) == (given.context.trace_id, given.parent)
        assert own.context.trace_id not in {0, given.context.trace_id}

    def test_without_an_sdk_tracer_the_parent_is_made_up(self) -> None:
        """Nobody else's tracer takes a trace id, so a remote parent stands in, flagged."""
        started: list[object] = []

        class Foreign(NoOpTracer):
            def start_span(
                self, name: str, context: object = None, kind: object = None, attributes: object = None, *rest: object, **more: object
            ) -> Span:
                started.append(attributes)
                return super().start_span(name)

        TracerSpans(Foreign()).start("x", {}, 1, TraceRef("vite-77"))
        assert [{"otel_runtime.parent.synthetic": True}] == started

    def test_events_say_what_is_new(self, bench: Bench) -> None:
        """A span event repeats nothing that its span says."""
        bench.feed("run.start", session__id="s1", model__name="m")
        bench.feed("note.added", session__id="s1", model__name="n")
        event = bench.close()["invoke_agent"].events[-1]
        assert {"gen_ai.request.model": "n"} == dict(event.attributes or {})

    def test_unsampled_records_nothing(self, bench: Bench) -> None:
        """sampled: false leaves no span."""
        bench.feed("finish", trace=TraceRef("t", sampled=False))
        assert ({}, 1) == (bench.close(), bench.projector.problems["unsampled"])

    def test_events_without_a_run(self, bench: Bench) -> None:
        """They stand alone, flagged; heartbeats are only counted."""
        bench.feed("session.created", run=None)
        bench.feed("transport.heartbeat", run=None)
        assert {"session.created": True} == {name: facts(span)["otel_runtime.orphan"] for name, span in bench.close().items()}


class TestSteps:
    @pytest.mark.parametrize(
        ("ending", "error"), [("finish", None), ("failed", "_OTHER"), ("error", "_OTHER"), ("cancelled", "cancelled"), ("whatever", None)]
    )
    def test_how_a_name_ends_a_step(self, bench: Bench, ending: str, error: str | None) -> None:
        """.cancelled .error .failed fail a step, anything unknown completes it."""
        bench.feed("job.start", 0, step__id="s")
        bench.feed(f"job.{ending}", 3, step__id="s")
        assert (3.0, error) == (milliseconds(bench.spans()["job"]), facts(bench.spans()["job"]).get("error.type"))

    @pytest.mark.parametrize("ending", ["output", "progress", "request", "started", "summary", "updated"])
    def test_names_that_leave_a_step_running(self, bench: Bench, ending: str) -> None:
        """Those are span events of it."""
        bench.feed("job.start", 0, step__id="s")
        bench.feed(f"job.{ending}", 3, step__id="s")
        assert {} == bench.spans()
        assert [f"job.{ending}"] == [event.name for event in bench.close()["job"].events]

    def test_open_steps_take_the_runs_end(self, bench: Bench) -> None:
        """And its failure: the sibling of a failed tool is closed as failed, not lost."""
        bench.feed("tool.start", 0, tool__id="c1", tool__name="slow")
        bench.feed("turn.failed", 40, kind="error", run__outcome="failed", error__type="ValueError")
        tool = bench.spans()["execute_tool slow"]
        assert (40.0, StatusCode.ERROR, "ValueError") == (milliseconds(tool), tool.status.status_code, facts(tool)["error.type"])

    def test_cancelling_a_run_is_no_error(self, bench: Bench) -> None:
        """Neither on the run nor on its open steps."""
        bench.feed("tool.start", 0, tool__id="c1", tool__name="slow")
        bench.feed("turn.cancelled", 40, run__outcome="cancelled")
        assert {("cancelled", StatusCode.UNSET)} == {
            (facts(span)["otel_runtime.outcome"], span.status.status_code) for span in bench.spans().values()
        }

    def test_one_id_for_two_tools_at_once(self, bench: Bench) -> None:
        """The tool's name tells which of them ends."""
        for name in ("fast", "slow"):
            bench.feed("tool.start", 0, tool__id="c1", tool__name=name)
        bench.feed("tool.finish", 5, tool__id="c1", tool__name="slow")
        bench.feed("tool.finish", 9, tool__id="c1", tool__name="fast")
        assert {"execute_tool slow": 5.0, "execute_tool fast": 9.0} == {name: milliseconds(span) for name, span in bench.spans().items()}

    def test_an_id_used_again_later(self, bench: Bench) -> None:
        """After the end, the same id is another call."""
        for start in (0, 10):
            bench.feed("tool.start", start, tool__id="c1", tool__name="t")
            bench.feed("tool.finish", start + 2, tool__id="c1")
        assert [2.0, 2.0] == [milliseconds(span) for span in bench.exporter.get_finished_spans()]

    def test_an_end_without_a_start(self, bench: Bench) -> None:
        """Once its window has passed it becomes a span of no length, flagged."""
        bench.feed("tool.finish", 5, tool__id="c1", tool__name="t")
        assert {} == bench.spans()
        bench.now += 2_500_000_000
        bench.projector.tick()
        span = bench.spans()["execute_tool t"]
        assert (0.0, True) == (milliseconds(span), facts(span)["otel_runtime.orphan"])

    def test_end_before_start_in_time(self, bench: Bench) -> None:
        """Clock skew never makes a negative duration."""
        bench.feed("tool.start", 50, tool__id="c1", tool__name="t")
        bench.feed("tool.finish", 10, tool__id="c1")
        assert 0.0 == milliseconds(bench.spans()["execute_tool t"])

    def test_a_model_span_does_not_swallow_tool_time(self, bench: Bench) -> None:
        """step.ended_at is the end of the model's own work, usage comes with its end event."""
        bench.feed("model.start", 0, model__call__id="g1", model__name="m")
        bench.feed("model.progress", 20, model__call__id="g1", step__ended_at=BASE + timedelta(milliseconds=20))
        bench.feed("model.finish", 400, model__call__id="g1", usage__input_tokens=10)
        span = bench.spans()["chat m"]
        assert (20.0, SpanKind.CLIENT, 10) == (milliseconds(span), span.kind, facts(span)["gen_ai.usage.input_tokens"])

    def test_a_model_has_spoken_when_its_tool_starts(self, bench: Bench) -> None:
        """Also where the source tells no end of its own work, as long as it tells the parent."""
        bench.feed("model.start", 0, model__call__id="g1", model__name="m")
        bench.feed("tool.start", 30, tool__id="c1", tool__name="t", parent__id="g1")
        bench.feed("tool.finish", 90, tool__id="c1")
        bench.feed("model.finish", 100, model__call__id="g1")
        spans = bench.spans()
        assert (30.0, spans["chat m"].context.span_id) == (
            milliseconds(spans["chat m"]),
            getattr(spans["execute_tool t"].parent, "span_id", None),
        )

    def test_an_approval_is_one_span_named_by_its_outcome(self, bench: Bench) -> None:
        """From the question to the answer; it is no executed tool."""
        bench.feed("approval.request", 0, kind="approval", approval__id="a1", tool__name="refund")
        bench.feed("approval.decision", 90, kind="approval", approval__id="a1", approval__outcome="denied")
        span = bench.spans()["approval denied refund"]
        assert (90.0, StatusCode.UNSET) == (milliseconds(span), span.status.status_code)
        assert not {"gen_ai.operation.name", "gen_ai.tool.name"} & set(facts(span))

    def test_a_denial_is_a_decision_span(self, bench: Bench) -> None:
        """Named as ours are, without any tool attribute that viewers take for an execution."""
        bench.feed("policy.decision", kind="policy", tool__name="rm", policy__decision="deny", policy__reason="no")
        span = bench.spans()["policy deny rm"]
        assert ("deny", "rm") == (facts(span)["otel_runtime.policy.decision"], facts(span)["otel_runtime.tool.name"])
        assert not {"gen_ai.operation.name", "gen_ai.tool.name"} & set(facts(span))


class TestBounds:
    def test_many_events(self) -> None:
        """2,000 events with a failure in the middle: cut and marked, its status and end still right."""
        bench = Bench(max_events=50)
        for index in range(1000):
            bench.feed("note.added", index)
        bench.feed("run.error", 1000)
        for index in range(999):
            bench.feed("note.added", 1001 + index)
        bench.feed("run.finish", 2000)
        root = bench.spans()["invoke_agent"]
        assert (2000.0, StatusCode.ERROR, 1950) == (
            milliseconds(root),
            root.status.status_code,
            facts(root)["otel_runtime.events.truncated"],
        )
        expected = ["note.added"] * 25 + ["run.error"] + ["note.added"] * 24 + ["run.finish"]
        assert expected == [event.name for event in root.events]
        stamps = [event.timestamp for event in root.events]
        assert sorted(stamps) == stamps

    def test_deltas_are_counted(self, bench: Bench) -> None:
        """Ten thousand deltas make one number."""
        for index in range(10_000):
            bench.feed("text.delta", index)
        root = bench.close()["invoke_agent"]
        assert (10_000, 0) == (facts(root)["otel_runtime.events.text.delta"], len(root.events))

    def test_what_comes_often_is_counted(self, bench: Bench) -> None:
        """A source may say that an event is one of many; it is then no span event."""
        bench.feed("model.summary", event__often=True)
        root = bench.close()["invoke_agent"]
        assert (1, 0) == (facts(root)["otel_runtime.events.model.summary"], len(root.events))

    def test_the_oldest_run_gives_way(self) -> None:
        """More runs than fit: the oldest is closed, flagged."""
        bench = Bench(max_runs=2)
        for run in ("r1", "r2", "r3"):
            bench.feed("note.added", run=run, agent__name=run)
        assert ["invoke_agent r1"] == list(bench.spans())
        assert "evicted" == facts(bench.spans()["invoke_agent r1"])["otel_runtime.outcome"]

    def test_the_oldest_step_gives_way(self) -> None:
        """More open steps than fit: the oldest is ended."""
        bench = Bench(max_steps=2)
        for call in ("c1", "c2", "c3"):
            bench.feed("tool.start", tool__id=call, tool__name=call)
        assert ["execute_tool c1"] == list(bench.spans())

    def test_duplicates(self, bench: Bench) -> None:
        """An event id seen before is not projected again."""
        for _ in range(2):
            bench.feed("note.added", event__id="e1")
        assert 1 == len(bench.close()["invoke_agent"].events)

    def test_how_far_back_duplicates_are_known(self) -> None:
        """As many ids as are asked for are remembered, and never twice as many."""
        bench = Bench(max_seen=4)
        for number in range(3, 15):
            bench.feed("note.added", event__id=f"e{number}")
            bench.feed("note.added", event__id=f"e{max(3, number - 3)}")
        assert 12 == bench.projector.problems["duplicate"]
        bench.feed("note.added", event__id="e7")
        assert 12 == bench.projector.problems["duplicate"]

    def test_late_events(self, bench: Bench) -> None:
        """After its end a run is opened again by a start only."""
        bench.feed("finish")
        bench.feed("note.added")
        assert (0, 1) == (bench.projector.open_runs, bench.projector.problems["late"])
        bench.feed("run.start")
        assert 1 == bench.projector.open_runs


class TestClosing:
    def test_close_ends_everything_and_flags_it(self, bench: Bench) -> None:
        """What is open is closed at the last thing heard of its run; what comes later is dropped."""
        bench.feed("tool.start", 0, tool__id="c1", tool__name="t")
        bench.feed("note.added", 30)
        spans = bench.close()
        assert {"closed"} == {facts(span)["otel_runtime.outcome"] for span in spans.values()}
        assert {30.0} == {milliseconds(span) for span in spans.values()}
        bench.feed("note.added", 31)
        assert 1 == bench.projector.problems["closed"]


class TestViteHubNames:
    """The names that the real system gives: `agent.` before what its page says."""

    @pytest.mark.parametrize(
        ("names", "failed"),
        [
            (["agent.invocation.start", "agent.invocation.finish"], False),
            (["agent.invocation.start", "agent.invocation.error"], True),
            (["agent.invocation.start", "agent.invocation.error", "agent.invocation.finish"], False),
            (["agent.invocation.start", "agent.stream.error", "agent.invocation.finish"], True),
            (["agent.invocation.start", "agent.stream.error", "agent.invocation.error"], True),
            (["agent.invocation.start", "agent.stream.error"], True),
            (["run.error", "run.finish"], True),
        ],
    )
    def test_the_end_of_a_run(self, names: list[str], failed: bool) -> None:
        """The last terminal event wins after invocation.error only, and the run ends with it."""
        bench = Bench()
        for index, name in enumerate(names):
            bench.feed(name, index * 10, kind="error" if name.endswith("error") else "run", error__message="m")
        root = bench.close()["invoke_agent"]
        assert (failed, (len(names) - 1) * 10.0) == (root.status.status_code is StatusCode.ERROR, milliseconds(root))

    def test_recoverable(self, bench: Bench) -> None:
        """A recoverable stream error leaves the run as it is."""
        bench.feed("agent.stream.error", 0, kind="error", error__recoverable=True)
        bench.feed("agent.invocation.finish", 5)
        assert StatusCode.UNSET is bench.spans()["invoke_agent"].status.status_code

    @pytest.mark.parametrize(
        ("name", "ids", "span"),
        [
            ("agent.tool.start", {"step.id": "s", "tool.name": "search"}, "execute_tool search"),
            ("agent.model.call.start", {"model.call.id": "m", "model.name": "gpt"}, "chat gpt"),
            ("agent.approval.request", {"approval.id": "a", "tool.name": "rm"}, "approval requested rm"),
            ("agent.task.started", {"step.id": "t"}, "agent.task"),
        ],
    )
    def test_steps(self, bench: Bench, name: str, ids: dict[str, str], span: str) -> None:
        """Each kind of step is known by the word after `agent.`."""
        bench.projector.observe(TraceEvent(name, "run", BASE, None, {"run.id": "r1", **ids}))
        bench.feed("agent.invocation.finish", 5)
        assert {span, "invoke_agent"} == set(bench.close())

    def test_a_task_stays_open_through_progress(self, bench: Bench) -> None:
        """It fails with `.failed`, 20 ms after its start."""
        for index, name in enumerate(("agent.task.started", "agent.task.progress", "agent.task.failed")):
            bench.feed(name, index * 10, step__id="task-1")
        bench.feed("agent.invocation.error", 30, kind="error")
        task = bench.close()["agent.task"]
        assert (StatusCode.ERROR, 20.0) == (task.status.status_code, milliseconds(task))

    def test_streamed_output_keeps_a_tool_open(self, bench: Bench) -> None:
        """So an aborted run fails it."""
        bench.feed("agent.tool.start", 0, step__id="tool-1")
        bench.feed("agent.tool.output", 10, step__id="tool-1", tool__output="still running")
        bench.feed("agent.invocation.error", 20, kind="error", error__message="cancelled")
        tool = bench.close()["execute_tool"]
        assert (StatusCode.ERROR, 20.0) == (tool.status.status_code, milliseconds(tool))

    def test_a_step_whose_event_is_an_error(self, bench: Bench) -> None:
        """The type says it where the name does not."""
        bench.feed("agent.tool.start", 0, step__id="s", tool__name="x")
        bench.feed("agent.tool.finish", 5, kind="error", step__id="s", error__type="Timeout")
        tool = bench.spans()["execute_tool x"]
        assert (StatusCode.ERROR, "Timeout") == (tool.status.status_code, facts(tool)["error.type"])

    def test_the_terminal_event_says_why(self, bench: Bench) -> None:
        """A failure without a type before it does not hide the type of the end."""
        bench.feed("agent.stream.error", 0, kind="error")
        bench.feed("run.failed", 5, kind="error", run__outcome="failed", error__type="ValueError")
        assert "ValueError" == facts(bench.spans()["invoke_agent"])["error.type"]
