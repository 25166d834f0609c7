"""The hard cases of events.md, each as what comes in and the spans that come out."""

from __future__ import annotations

import logging
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from otel_runtime.sources.registry import source
from otel_runtime.telemetry.projector import Projector
from otel_runtime.telemetry.projector_spans import TracerSpans
from otel_runtime.telemetry.run_view import see
from otel_runtime.values.trace import TraceEvent, TraceRef

BASE = datetime(2026, 11, 20, 8, tzinfo=UTC)
ERROR = StatusCode.ERROR
UNSET = StatusCode.UNSET


class Stage:
    """One stream of one vocabulary, as spans of the real SDK."""

    def __init__(self, vocabulary: str, **bounds: Any) -> None:
        self.exporter = InMemorySpanExporter()
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.now = int(BASE.timestamp()) * 1_000_000_000
        self.projector = Projector(TracerSpans(provider.get_tracer("test")), clock=lambda: self.now, sweep_every_s=0, **bounds)
        self.reader = source(vocabulary, "s")

    def feed(self, *raws: object) -> Stage:
        for raw in raws:
            for event in self.reader.translate(raw):
                self.projector.observe(event)
        return self

    def wait(self, seconds: float) -> Stage:
        self.now += int(seconds * 1e9)
        self.projector.tick()
        return self

    def spans(self) -> list[ReadableSpan]:
        return sorted(self.exporter.get_finished_spans(), key=lambda span: (span.start_time or 0, span.name))

    def close(self) -> list[ReadableSpan]:
        self.projector.close()
        assert {} == {reason: count for reason, count in self.projector.problems.items() if reason.startswith("error")}
        return self.spans()

    def tree(self) -> dict[str, str | None]:
        spans = self.close()
        names = {span.context.span_id: span.name for span in spans}
        return {span.name: names.get(span.parent.span_id) if span.parent else None for span in spans}

    def one(self, name: str) -> ReadableSpan:
        (found,) = [span for span in self.close() if span.name == name]
        return found


def facts(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def milliseconds(span: ReadableSpan) -> float:
    return ((span.end_time or 0) - (span.start_time or 0)) / 1e6


def at(ms: float) -> str:
    return (BASE + timedelta(milliseconds=ms)).isoformat()


def envelope(kind: str, ms: float, turn: str | None = "t1", session: str = "s1", **payload: object) -> dict[str, object]:
    return {
        "kind": kind,
        "session_id": session,
        "turn_id": turn,
        "event_id": f"{kind}-{turn}-{ms}",
        "timestamp": at(ms),
        "payload": payload,
    }


def inner(kind: str, ms: float, turn: str = "t1", session: str = "s1", agent: str = "a1", **data: object) -> dict[str, object]:
    raw = {"type": kind, "timestamp": at(ms), "agent_id": agent, "agent_name": agent, "data": data}
    return envelope("turn.event", ms, turn, session, event_type=kind, raw_event=raw)


def call(id: str = "c1", name: str = "sh") -> dict[str, object]:
    return {"id": id, "name": name}


class TestDreadnode:
    def test_a_tool_whose_sibling_failed_is_closed_as_failed(self) -> None:
        """Its end never comes; it is neither lost nor left open."""
        stage = Stage("dreadnode").feed(
            envelope("turn.started", 0),
            inner("toolstart", 1, tool_call=call("c1", "slow")),
            inner("toolstart", 2, tool_call=call("c2", "boom")),
        )
        stage.feed(
            inner("toolerror", 5, tool_call=call("c2", "boom"), error="x", error_type="ValueError"),
            envelope("turn.failed", 9, error={"type": "ValueError", "message": "x"}),
        )
        ends = {span.name: (span.status.status_code, milliseconds(span)) for span in stage.spans()}
        assert {"execute_tool slow": (ERROR, 8.0), "execute_tool boom": (ERROR, 3.0), "invoke_agent a1": (ERROR, 9.0)} == ends

    def test_a_session_closed_in_the_middle_of_a_turn(self) -> None:
        """No terminal event comes; the deletion closes every span of that session and of no other."""
        stage = Stage("dreadnode").feed(envelope("turn.started", 0), inner("toolstart", 1, tool_call=call()))
        stage.feed(envelope("turn.started", 1, "t2", "s2"), envelope("session.deleted", 7, None, session_id="s1"))
        closed = {span.name: (facts(span).get("otel_runtime.outcome"), milliseconds(span)) for span in stage.spans()}
        # As long as they lasted there: until the deletion, not until the last event before it.
        assert {"execute_tool sh": ("closed", 6.0), "invoke_agent a1": ("closed", 7.0)} == closed
        assert 1 == stage.projector.open_runs

    @pytest.mark.parametrize("kind", ["session.created", "session.deleted"])
    def test_a_session_without_a_turn(self, kind: str, caplog: pytest.LogCaptureFixture) -> None:
        """Its creation and deletion are log records, and no spans."""
        with caplog.at_level(logging.INFO, "otel_runtime.events"):
            stage = Stage("dreadnode").feed(envelope(kind, 0, None, session_id="s1"))
        assert ([kind], []) == ([record.getMessage() for record in caplog.records], stage.close())

    def test_a_turn_queued_behind_a_running_one(self) -> None:
        """Its span starts when it starts; the time in the queue is an attribute."""
        stage = Stage("dreadnode").feed(envelope("turn.accepted", 0), envelope("turn.started", 1), envelope("turn.accepted", 2, "t2"))
        stage.feed(envelope("turn.completed", 50), envelope("turn.started", 52, "t2"), envelope("turn.completed", 60, "t2"))
        turns = {facts(span)["otel_runtime.run.id"]: span for span in stage.close()}
        assert (8.0, 0.05) == (milliseconds(turns["t2"]), facts(turns["t2"])["otel_runtime.queue.duration_s"])

    @pytest.mark.parametrize(("kind", "status"), [("turn.failed", ERROR), ("turn.cancelled", UNSET)])
    def test_ended_before_it_started(self, kind: str, status: StatusCode) -> None:
        """A turn that never left the queue is a span from its acceptance to its end."""
        stage = Stage("dreadnode").feed(envelope("turn.accepted", 0), envelope(kind, 5, reason="queue_dropped"))
        (span,) = stage.close()
        assert (5.0, status) == (milliseconds(span), span.status.status_code)

    def test_a_turn_of_which_only_the_end_is_known(self) -> None:
        """Its length is the one that the terminal event tells, and it is flagged."""
        (span,) = Stage("dreadnode").feed(envelope("turn.completed", 90, duration_ms=40)).close()
        assert (40.0, True) == (milliseconds(span), facts(span)["otel_runtime.orphan"])

    def test_two_turns_at_once(self) -> None:
        """Turns of two sessions use the same call id at the same time; each tool stands under its own turn."""
        stage = Stage("dreadnode")
        for turn in ("t1", "t2"):
            stage.feed(envelope("turn.started", 0, turn, turn), inner("toolstart", 1, turn, turn, agent=turn, tool_call=call(name=turn)))
        for turn in ("t2", "t1"):
            stage.feed(inner("toolend", 3, turn, turn, agent=turn, tool_call=call(name=turn)), envelope("turn.completed", 5, turn, turn))
        expected = {
            "execute_tool t1": "invoke_agent t1",
            "execute_tool t2": "invoke_agent t2",
            "invoke_agent t1": None,
            "invoke_agent t2": None,
        }
        assert expected == stage.tree()

    def test_a_judge_that_failed_denies_the_call(self) -> None:
        """The call did not run: a decision, and the tool span that its start had opened, which failed at once and says that it was denied."""
        reaction = {"type": "Finish", "reason": "process judge unreachable"}
        stage = Stage("dreadnode").feed(
            envelope("turn.started", 0), inner("generationstart", 1, step=1), inner("toolstart", 2, tool_call=call())
        )
        stage.feed(inner("reactstep", 3, hook_name="process_judge_hook_inner", reaction=reaction), envelope("turn.completed", 9))
        spans = {span.name: span for span in stage.close()}
        assert ("deny", ERROR, 1.0) == (
            facts(spans["policy deny sh"])["otel_runtime.policy.decision"],
            spans["execute_tool sh"].status.status_code,
            milliseconds(spans["execute_tool sh"]),
        )
        assert {"error.type": "PolicyDenied", "otel_runtime.outcome": "denied"}.items() <= facts(spans["execute_tool sh"]).items()

    def test_a_refused_call_says_nothing_more(self) -> None:
        """What still comes of a refused call is no execution; the same id may run later."""
        deny = {"runtime_action": "deny", "reason": "no"}
        stage = Stage("dreadnode").feed(envelope("turn.started", 0), inner("toolstart", 1, tool_call=call(), policy_decision=deny))
        stage.feed(inner("toolerror", 2, tool_call=call(), error="denied"))
        stage.feed(inner("toolstart", 3, tool_call=call()), inner("toolend", 5, tool_call=call()), envelope("turn.completed", 9))
        assert ["invoke_agent a1", "policy deny sh", "execute_tool sh"] == [span.name for span in stage.close()]

    def test_usage_twice(self) -> None:
        """End, step and a second end of one generation: counted once."""
        usage = {"input_tokens": 10, "output_tokens": 5}
        stage = Stage("dreadnode").feed(envelope("turn.started", 0), inner("generationstart", 1, step=1))
        stage.feed(inner("generationend", 2, step=1, usage=usage), inner("generationstep", 3, step=1, usage=usage))
        stage.feed(inner("generationend", 4, step=1, usage=usage), envelope("turn.failed", 5))
        root = next(span for span in stage.close() if span.name.startswith("invoke_agent"))
        assert 10 == facts(root)["gen_ai.usage.input_tokens"]

    def test_an_agent_inside_a_turn(self) -> None:
        """It is a run of its own under the call that started it, with steps that have the same ids."""
        stage = Stage("dreadnode").feed(envelope("turn.started", 0), inner("agentstart", 0), inner("generationstart", 1, step=1, model="m"))
        stage.feed(inner("toolstart", 2, tool_call=call("c1", "delegate")), inner("agentstart", 3, agent="a2"))
        stage.feed(inner("generationstart", 4, agent="a2", step=1, model="n"), inner("generationend", 5, agent="a2", step=1, model="n"))
        stage.feed(inner("agentend", 6, agent="a2"), inner("toolend", 7, tool_call=call("c1", "delegate")))
        stage.feed(inner("generationend", 8, step=1, model="m"), envelope("turn.completed", 9))
        expected = {
            "invoke_agent a1": None,
            "chat m": "invoke_agent a1",
            "execute_tool delegate": "chat m",
            "invoke_agent a2": "execute_tool delegate",
            "chat n": "invoke_agent a2",
        }
        assert expected == stage.tree()

    def test_an_end_that_comes_before_its_start(self) -> None:
        """Within the window they are one span, with its own times."""
        stage = Stage("dreadnode").feed(
            envelope("turn.started", 0), inner("toolend", 8, tool_call=call()), inner("toolstart", 3, tool_call=call())
        )
        assert (5.0, False) == (milliseconds(tool := stage.one("execute_tool sh")), "otel_runtime.orphan" in facts(tool))

    def test_a_step_that_comes_after_its_turn_ended(self) -> None:
        """It is still a span under the turn, flagged, with its own times; the turn is not opened again."""
        stage = Stage("dreadnode").feed(envelope("turn.started", 0), envelope("turn.completed", 20))
        stage.feed(inner("toolend", 8, tool_call=call()), inner("toolstart", 3, tool_call=call()), envelope("turn.started", 0.5))
        tool = stage.one("execute_tool sh")
        assert (5.0, True) == (milliseconds(tool), facts(tool)["otel_runtime.late"])
        assert 2 == len(stage.spans())

    def test_an_end_before_its_start_and_the_turns_end_between(self) -> None:
        """The turn lingers for the start, and takes its own end all the same."""
        stage = Stage("dreadnode").feed(envelope("turn.started", 0), inner("toolend", 8, tool_call=call()))
        stage.feed(envelope("turn.completed", 20))
        assert [] == stage.spans()
        stage.feed(inner("toolstart", 3, tool_call=call()))
        spans = {span.name: span for span in stage.wait(3).spans()}
        assert (5.0, 20.0) == (milliseconds(spans["execute_tool sh"]), milliseconds(spans["invoke_agent a1"]))
        assert not {"otel_runtime.orphan", "otel_runtime.late"} & set(facts(spans["execute_tool sh"]))

    def test_a_turn_has_one_start(self) -> None:
        """A second start of a turn that has ended, whatever its time, is late and opens nothing."""
        stage = Stage("dreadnode").feed(envelope("turn.started", 0), envelope("turn.completed", 20), envelope("turn.started", 30))
        assert 1 == len(stage.close())

    def test_a_heartbeat_keeps_a_session_alive(self) -> None:
        """Silence closes a turn; a heartbeat of its session does not let it."""
        stage = Stage("dreadnode", idle_s=60.0).feed(envelope("turn.started", 0), envelope("turn.started", 0, "t2", "s2"))
        stage.wait(40).feed(envelope("transport.heartbeat", 0, "t1", "s1", event_type="heartbeat")).wait(40)
        assert [("t2", "idle")] == [(facts(span)["otel_runtime.run.id"], facts(span)["otel_runtime.outcome"]) for span in stage.spans()]

    def test_warnings_are_log_records(self, caplog: pytest.LogCaptureFixture) -> None:
        """session.warning is a WARN record without its message, and no span."""
        with caplog.at_level(logging.INFO, "otel_runtime.events"):
            stage = Stage("dreadnode").feed(envelope("session.warning", 0, None, code="sync", message="secret"))
        assert ([("session.warning", logging.WARNING)], []) == ([(r.getMessage(), r.levelno) for r in caplog.records], stage.close())
        assert "secret" not in repr(caplog.records[0].__dict__)

    def test_lost_events_are_said(self, caplog: pytest.LogCaptureFixture) -> None:
        """A subscriber that was too slow is told; what was open then says how many events it may lack, and it is a warning."""
        stage = Stage("dreadnode").feed(envelope("turn.started", 0), envelope("turn.started", 0, "t2", "s2"))
        with caplog.at_level(logging.WARNING, "otel_runtime.events"):
            stage.feed(envelope("transport.lagged", 1, None, "s1", lost=7))
        stage.feed(envelope("turn.completed", 5), envelope("turn.started", 6, "t3"), envelope("turn.completed", 7, "t3"))
        lost = {facts(span)["otel_runtime.run.id"]: facts(span).get("otel_runtime.events.lost") for span in stage.close()}
        assert ({"t1": 7, "t2": None, "t3": None}, ["transport.lagged"]) == (lost, [record.getMessage() for record in caplog.records])

    @pytest.mark.parametrize(("level", "expected"), [("critical", "ERROR"), ("warning", "WARNING"), ("info", "INFO"), ("odd", "INFO")])
    def test_queue_alerts_have_their_level(self, level: str, expected: str, caplog: pytest.LogCaptureFixture) -> None:
        """A QueueAlert is a record of its own level."""
        with caplog.at_level(logging.INFO, "otel_runtime.events"):
            Stage("a3s").feed(a3s("start"), a3s("queue_alert", level=level, alert_type="depth", message="m"))
        assert [expected] == [record.levelname for record in caplog.records]

    def test_an_event_of_a_session_stands_on_its_open_turn(self) -> None:
        """An event that names a session only belongs to the turn that is open there."""
        stage = Stage("dreadnode").feed(envelope("turn.started", 0), envelope("myapp.note", 2, None))
        assert ["turn.started", "myapp.note"] == [event.name for event in stage.one("invoke_agent").events]

    def test_a_question_hangs_on_the_tool_that_asks(self) -> None:
        """The approval is a child of the tool, and ends with it."""
        asked = {"request_id": "r1", "source_tool_call_id": "c1", "source_tool_name": "ask"}
        stage = Stage("dreadnode").feed(envelope("turn.started", 0), inner("toolstart", 1, tool_call=call("c1", "ask")))
        stage.feed(envelope("prompt.required", 2, event_type="userinputrequired", raw_event={"data": asked}))
        stage.feed(inner("toolend", 9, tool_call=call("c1", "ask")), envelope("turn.completed", 10))
        assert "execute_tool ask" == stage.tree()["approval answered ask"]


def a3s(kind: str, **fields: object) -> dict[str, object]:
    return {"type": kind, **fields}


SUB = {"task_id": "k", "session_id": "child", "parent_session_id": "main", "agent": "sub"}


class TestA3S:
    def test_a_failed_exit_code(self) -> None:
        """ToolEnd with an exit code other than 0 is an ERROR."""
        stage = Stage("a3s").feed(
            a3s("start"), a3s("tool_start", id="c", name="sh"), a3s("tool_end", id="c", name="sh", exit_code=2), a3s("end")
        )
        assert {"execute_tool sh": ERROR, "invoke_agent": UNSET} == {span.name: span.status.status_code for span in stage.close()}

    def test_turns_carry_usage_and_the_end_adds_none(self) -> None:
        """End.usage is the sum of the turns."""
        usage = {"prompt_tokens": 3, "completion_tokens": 2}
        stage = Stage("a3s").feed(a3s("start"))
        for turn in (1, 2):
            stage.feed(a3s("turn_start", turn=turn), a3s("turn_end", turn=turn, usage=usage))
        stage.feed(a3s("end", usage={"prompt_tokens": 6, "completion_tokens": 4}))
        tokens = [facts(span)["gen_ai.usage.input_tokens"] for span in stage.close()]
        assert [3, 3, 6] == sorted(tokens)

    def test_input_deltas_go_to_the_only_open_tool(self) -> None:
        """They name none; with two open ones they are the turn's, and ambiguous."""
        stage = Stage("a3s").feed(
            a3s("start"), a3s("turn_start", turn=1), a3s("tool_start", id="c", name="a"), a3s("tool_input_delta", delta="äb")
        )
        stage.feed(a3s("tool_start", id="d", name="b"), a3s("tool_input_delta", delta="xyz"), a3s("turn_end", turn=1), a3s("end"))
        spans = {span.name: facts(span) for span in stage.close()}
        assert 3 == spans["execute_tool a"]["otel_runtime.bytes.tool.input.delta"]
        assert (3, 1) == (spans["turn"]["otel_runtime.bytes.tool.input.delta"], spans["turn"]["otel_runtime.events.ambiguous"])

    @pytest.mark.parametrize(
        ("answer", "outcome"),
        [
            (a3s("confirmation_received", tool_id="c", approved=True), "approved"),
            (a3s("confirmation_received", tool_id="c", approved=False), "denied"),
            (a3s("confirmation_timeout", tool_id="c", action_taken="rejected"), "expired"),
            (a3s("confirmation_timeout", tool_id="c", action_taken="auto_approved"), "approved"),
        ],
    )
    def test_a_confirmation_is_one_approval(self, answer: dict[str, object], outcome: str) -> None:
        """However often it is asked, and whatever answer comes first; a later one changes nothing."""
        asked = a3s("confirmation_required", tool_id="c", tool_name="rm", timeout_ms=100)
        stage = Stage("a3s").feed(a3s("start"), asked, asked, answer)
        assert [f"approval {outcome} rm"] == [span.name for span in stage.spans()]

    def test_a_timeout_racing_an_answer(self) -> None:
        """The first of the two is the answer; the other is flagged, not a second answer to the question."""
        stage = Stage("a3s").feed(a3s("start"), a3s("confirmation_required", tool_id="c", tool_name="rm"))
        stage.feed(
            a3s("confirmation_timeout", tool_id="c", action_taken="rejected"), a3s("confirmation_received", tool_id="c", approved=True)
        )
        stage.feed(a3s("end"))
        flagged = {span.name: facts(span).get("otel_runtime.orphan", False) for span in stage.close() if span.name.startswith("approval")}
        assert {"approval expired rm": False, "approval approved": True} == flagged

    def test_an_error_that_an_end_follows(self) -> None:
        """The innermost open unit is an ERROR, the run is not."""
        stage = Stage("a3s").feed(a3s("start"), a3s("turn_start", turn=1), a3s("error", message="m"), a3s("turn_end", turn=1)).wait(30)
        stage.feed(a3s("end"))
        assert {"turn": ERROR, "invoke_agent": UNSET} == {span.name: span.status.status_code for span in stage.close()}

    def test_an_error_that_no_end_follows(self) -> None:
        """The run failed, when another begins or the stream is closed."""
        for more, expected in (([], [ERROR]), ([a3s("start")], [ERROR, UNSET])):
            stage = Stage("a3s").feed(a3s("start"), a3s("error", message="m"), *more)
            runs = sorted(stage.close(), key=lambda span: str(facts(span)["otel_runtime.run.id"]))
            assert expected == [span.status.status_code for span in runs]

    def test_sub_agents_and_grandchildren(self) -> None:
        """Each is a run under the step that started it, with its own session."""
        stage = Stage("a3s").feed(a3s("start"), a3s("turn_start", turn=1), a3s("subagent_start", **SUB))
        stage.feed(a3s("tool_start", id="z", name="q", session_id="child"))
        stage.feed(a3s("subagent_start", task_id="g", session_id="grand", parent_session_id="child", agent="deep"))
        stage.feed(
            a3s("subagent_end", task_id="g", session_id="grand", success=False), a3s("tool_end", id="z", name="q", session_id="child")
        )
        stage.feed(a3s("subagent_end", task_id="k", session_id="child", success=True), a3s("turn_end", turn=1), a3s("end"))
        spans = {span.name: span for span in stage.close()}
        assert {
            "invoke_agent": None,
            "turn": "invoke_agent",
            "invoke_agent sub": "turn",
            "execute_tool q": "invoke_agent sub",
            "invoke_agent deep": "execute_tool q",
        } == stage.tree()
        assert (ERROR, UNSET) == (spans["invoke_agent deep"].status.status_code, spans["invoke_agent sub"].status.status_code)
        assert "grand" == facts(spans["invoke_agent deep"])["gen_ai.conversation.id"]

    def test_events_of_a_sub_agent_before_its_start(self) -> None:
        """They are held for the window and stand in its run."""
        stage = Stage("a3s").feed(a3s("start", session_id="main"), a3s("tool_start", id="z", name="q", session_id="child"))
        stage.feed(a3s("subagent_start", **SUB), a3s("tool_end", id="z", name="q", session_id="child"))
        stage.feed(a3s("subagent_end", **SUB, success=True), a3s("end", session_id="main"))
        assert {"invoke_agent": None, "invoke_agent sub": "invoke_agent", "execute_tool q": "invoke_agent sub"} == stage.tree()

    def test_the_start_of_a_sub_agent_before_it_is_announced(self) -> None:
        """Its own Start comes before SubagentStart: it is held for the window, and stands under the step that started it."""
        stage = Stage("a3s").feed(a3s("start", session_id="main"), a3s("turn_start", turn=1, session_id="main"))
        stage.feed(a3s("start", session_id="child"), a3s("tool_start", id="z", name="q", session_id="child"))
        stage.feed(a3s("subagent_start", **SUB), a3s("tool_end", id="z", name="q", session_id="child"), a3s("end", session_id="child"))
        stage.feed(a3s("subagent_end", **SUB, success=True), a3s("turn_end", turn=1, session_id="main"), a3s("end", session_id="main"))
        expected = {"invoke_agent": None, "turn": "invoke_agent", "invoke_agent sub": "turn", "execute_tool q": "invoke_agent sub"}
        assert expected == stage.tree()

    @pytest.mark.parametrize("success", [True, False])
    def test_a_whole_sub_agent_before_it_is_announced(self, success: bool) -> None:
        """Its Start, its work and its End come before SubagentStart: one run under the step that started it, as failed as SubagentEnd says."""
        stage = Stage("a3s").feed(a3s("start", session_id="main"), a3s("turn_start", turn=1, session_id="main"), *self.CHILD)
        stage.feed(a3s("subagent_start", **SUB, timestamp=at(20)), a3s("subagent_end", **SUB, success=success, timestamp=at(30)))
        stage.feed(a3s("turn_end", turn=1, session_id="main"), a3s("end", session_id="main"))
        expected = {"invoke_agent": None, "turn": "invoke_agent", "invoke_agent sub": "turn", "execute_tool q": "invoke_agent sub"}
        assert (expected, 4) == (stage.tree(), len(stage.spans()))
        run = stage.one("invoke_agent sub")
        assert (UNSET if success else ERROR, 25.0, "child") == (
            run.status.status_code,
            milliseconds(run),
            facts(run)["gen_ai.conversation.id"],
        )

    def test_a_sub_agent_announced_after_its_window(self) -> None:
        """What it did is a run of its own by then; that it was started is a run under the step that started it."""
        stage = (
            Stage("a3s").feed(a3s("start", session_id="main"), a3s("turn_start", turn=1, session_id="main"), *self.CHILD).wait(3).wait(3)
        )
        assert ["execute_tool q", "invoke_agent"] == sorted(span.name for span in stage.spans())
        stage.feed(a3s("subagent_start", **SUB), a3s("subagent_end", **SUB, success=False))
        stage.feed(a3s("turn_end", turn=1, session_id="main"), a3s("end", session_id="main"))
        assert "turn" == stage.tree()["invoke_agent sub"]
        assert ERROR is stage.one("invoke_agent sub").status.status_code

    def test_a_sub_agent_that_ended_before_its_parent(self) -> None:
        """Though SubagentEnd never comes, the sub-agent ends when its own End said, not when its parent ends."""
        stage = Stage("a3s").feed(a3s("start", session_id="main"), *self.CHILD, a3s("subagent_start", **SUB, timestamp=at(20)))
        stage.feed(a3s("end", session_id="main", timestamp=at(90)))
        assert (10.0, UNSET) == (
            milliseconds(stage.one("invoke_agent sub")),
            stage.one("invoke_agent sub").status.status_code,
        )

    # A whole sub-agent, as its own session tells it.
    CHILD = (
        a3s("start", session_id="child", timestamp=at(5)),
        a3s("tool_start", id="z", name="q", session_id="child", timestamp=at(6)),
        a3s("tool_end", id="z", name="q", session_id="child", timestamp=at(8)),
        a3s("end", session_id="child", timestamp=at(15)),
    )

    def test_two_sessions_of_one_stream(self) -> None:
        """A start that nobody announces is a run of its own once the window has passed, with its own time."""
        stage = Stage("a3s").feed(a3s("start", session_id="main"), a3s("start", session_id="other", timestamp=at(5)))
        stage.feed(a3s("tool_start", id="z", name="q", session_id="other", timestamp=at(6))).wait(3)
        assert 2 == stage.projector.open_runs
        roots = [span for span in stage.close() if span.parent is None]
        assert {"main", "other"} == {facts(span)["gen_ai.conversation.id"] for span in roots}
        assert not [span for span in roots if "otel_runtime.orphan" in facts(span)]

    def test_a_cycle_of_parents(self) -> None:
        """Two sub-agents that name each other, and one that names itself, end as spans without a cycle."""
        stage = Stage("a3s").feed(a3s("start", session_id="main"))
        for child, parent in (("x", "y"), ("y", "x"), ("z", "z")):
            stage.feed(a3s("subagent_start", task_id=child, session_id=child, parent_session_id=parent, agent=child))
        tree = stage.tree()
        for name in tree:
            above, steps = tree[name], 0
            while above is not None:
                above, steps = tree[above], steps + 1
                assert steps < 5

    @pytest.mark.parametrize("kind", ["persistence_failed", "command_dead_lettered"])
    def test_failures_of_the_host_fail_no_run(self, kind: str, caplog: pytest.LogCaptureFixture) -> None:
        """They are error records."""
        with caplog.at_level(logging.ERROR, "otel_runtime.events"):
            stage = Stage("a3s").feed(a3s("start"), a3s(kind, operation="save", error="disk"), a3s("end"))
        assert ([UNSET], [logging.ERROR]) == (
            [span.status.status_code for span in stage.close()],
            [record.levelno for record in caplog.records],
        )

    def test_a_retry_is_a_decision(self) -> None:
        """CommandRetry is a retryable failure."""
        stage = Stage("a3s").feed(a3s("start"), a3s("command_retry", command_id="c", command_type="t", attempt=2, delay_ms=5), a3s("end"))
        assert "policy retryable-failure" in stage.tree()

    @pytest.mark.parametrize(
        ("begin", "finish", "name"),
        [
            (a3s("planning_start"), a3s("planning_end", estimated_steps=2), "planning"),
            (a3s("context_resolving", providers=["x"]), a3s("context_resolved", total_items=2), "context"),
            (a3s("step_start", step_id="1"), a3s("step_end", step_id="1", status="Completed"), "step"),
            (a3s("external_task_pending", task_id="t", lane="Query", timeout_ms=9), a3s("external_task_completed", task_id="t"), "task"),
        ],
    )
    def test_pairs_are_spans(self, begin: dict[str, object], finish: dict[str, object], name: str) -> None:
        """Each pair is a child of its run."""
        assert {name: "invoke_agent", "invoke_agent": None} == Stage("a3s").feed(a3s("start"), begin, finish, a3s("end")).tree()

    def test_an_external_task_that_timed_out(self) -> None:
        """Upstream says nothing then; the span ends with its run and keeps lane and deadline."""
        stage = Stage("a3s").feed(a3s("start"), a3s("external_task_pending", task_id="t", lane="Query", timeout_ms=9), a3s("end"))
        task = facts(stage.one("task"))
        assert ("Query", 9, "closed") == (
            task["otel_runtime.attr.lane"],
            task["otel_runtime.attr.timeout_ms"],
            task["otel_runtime.outcome"],
        )


GROWTH = """
import gc, sys, tracemalloc
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from otel_runtime.sources.registry import source
from otel_runtime.telemetry.projector import Projector
from otel_runtime.telemetry.projector_spans import TracerSpans

exporter, provider = InMemorySpanExporter(), TracerProvider(shutdown_on_exit=False)
provider.add_span_processor(SimpleSpanProcessor(exporter))
projector, reader = Projector(TracerSpans(provider.get_tracer("test"))), source("a3s", "s")

def feed(**raw):
    for event in reader.translate(raw):
        projector.observe(event)

feed(type="start")
feed(type="turn_start", turn=1)
feed(type="text_delta", text="a")
gc.collect()
tracemalloc.start()
before = tracemalloc.get_traced_memory()[0]
for _ in range(int(sys.argv[1])):
    feed(type="text_delta", text="a")
grown = tracemalloc.get_traced_memory()[0] - before
projector.close()
(turn,) = [span for span in exporter.get_finished_spans() if span.name == "turn"]
print(grown, turn.attributes["otel_runtime.events.text.delta"])
"""


class TestEverySignal:
    @pytest.mark.parametrize(
        ("vocabulary", "raws"),
        [
            ("a3s", [a3s("start"), a3s("tool_start", id="c", name="sh"), a3s("tool_end", id="c", name="sh", exit_code=0), a3s("end")]),
            ("dreadnode", [envelope("turn.started", 0), inner("toolstart", 1, tool_call=call()), envelope("turn.failed", 5)]),
            (
                "vitehub",
                [{"type": "tool-call", "toolCallId": "c", "toolName": "x"}, {"type": "approval-request", "id": "a"}, {"type": "finish"}],
            ),
        ],
    )
    def test_carries_where_it_came_from(self, vocabulary: str, raws: list[object]) -> None:
        """Every span has the source and the type of the event that opened it."""
        for span in Stage(vocabulary).feed(*raws).close():
            assert (vocabulary, True) == (facts(span)["otel_runtime.source"], bool(facts(span)["otel_runtime.event.type"]))

    @pytest.mark.parametrize(
        ("ids", "run", "step"),
        [
            ({"agent.run.id": "a", "run.id": "b", "runId": "c"}, "a", None),
            ({"run.id": "b", "runId": "c"}, "b", None),
            ({"runId": "c"}, "c", None),
            ({}, "trace", None),
            ({"step.id": "1", "tool.id": "2", "approval.id": "3", "model.call.id": "4"}, "trace", "1"),
            ({"tool.id": "2", "approval.id": "3", "model.call.id": "4"}, "trace", "2"),
            ({"approval.id": "3", "model.call.id": "4"}, "trace", "3"),
            ({"model.call.id": "4"}, "trace", "4"),
            ({"agent.run.id": "", "run.id": 5, "runId": "c", "step.id": None, "tool.id": "2"}, "c", "2"),
        ],
    )
    def test_which_id_is_meant(self, ids: dict[str, object], run: str, step: str | None) -> None:
        """The first of them that is a text with anything in it."""
        seen = see(TraceEvent("tool.start", "run", None, TraceRef("trace"), ids))
        assert (run, step) == (seen.run, seen.step)


class TestBoundsOfAStream:
    @pytest.mark.parametrize(
        ("raw", "name"),
        [
            (a3s("subagent_progress", **SUB, status="s"), "subagent.progress"),
            (a3s("memory_stored", memory_id="m"), "memory.stored"),
            (a3s("goal_progress", goal="g", progress=0.5), "goal.progress"),
            (a3s("task_updated", session_id="main", tasks=[]), "tasks.updated"),
        ],
    )
    def test_what_comes_in_numbers_is_capped(self, raw: dict[str, object], name: str) -> None:
        """The first 64 are span events, the others a count, and what happens after them is still seen."""
        stage = Stage("a3s").feed(a3s("start"), a3s("subagent_start", **SUB), *([raw] * 200), a3s("context_compacted", session_id="main"))
        stage.feed(a3s("subagent_end", **SUB, success=True), a3s("end"))
        (span,) = [span for span in stage.close() if f"otel_runtime.events.{name}" in facts(span)]
        events = [event.name for event in span.events]
        assert (64, 136) == (events.count(name), facts(span)[f"otel_runtime.events.{name}"])

    @pytest.mark.parametrize("deltas", [1_000, 200_000])
    def test_deltas_take_no_memory(self, deltas: int) -> None:
        """However many, the run holds one number."""
        # In a process of its own: tracemalloc counts what every thread of a process takes, and threads of earlier tests take some.
        done = subprocess.run([sys.executable, "-c", GROWTH, str(deltas)], capture_output=True, text=True, timeout=150, check=False)
        assert (0, "") == (done.returncode, done.stderr)
        grown, counted = map(int, done.stdout.split())
        # One word kept per delta would be 8 kB for the first case.
        assert grown < 4_000
        assert deltas + 1 == counted

    def test_naive_times_and_skew(self) -> None:
        """A naive time is UTC, and no span ends before it starts."""
        stage = Stage("dreadnode").feed(
            {**envelope("turn.started", 0), "timestamp": "2026-11-20T08:00:00"}, envelope("turn.completed", -50)
        )
        (span,) = stage.close()
        assert (int(BASE.timestamp() * 1e9), 0.0) == (span.start_time, milliseconds(span))


class TestViteHub:
    def test_a_stream_is_a_run(self) -> None:
        """Tool calls, an approval, usage, finish."""
        stage = Stage("vitehub").feed(
            {"type": "text-delta", "text": "h"},
            {"type": "tool-call", "toolCallId": "c", "toolName": "search"},
            {"type": "approval-request", "id": "a", "toolName": "search"},
            {"type": "approval-decision", "id": "a", "approved": True},
            {"type": "tool-result", "toolCallId": "c", "output": "sk-SECRET"},
            {"type": "usage", "usage": {"inputTokens": 4, "outputTokens": 2}},
            {"type": "finish"},
        )
        expected = {"execute_tool search": "invoke_agent", "approval approved search": "invoke_agent", "invoke_agent": None}
        assert expected == stage.tree()
        assert "SECRET" not in repr([span.to_json() for span in stage.spans()])
