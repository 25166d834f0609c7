"""The thirteen runtime events of Dreadnode, and the agent events inside them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from otel_runtime.sources.dreadnode import AGENT_EVENTS, KINDS
from otel_runtime.sources.protocol import Source
from otel_runtime.sources.registry import source
from otel_runtime.values.trace import TraceEvent

# Copied by hand from the seed page; turn.event is opened and has no row of its own.
SEED_KINDS = {
    *("turn.accepted", "turn.started", "turn.completed", "turn.failed", "turn.cancelled", "prompt.required", "session.created"),
    *("session.deleted", "session.warning", "capabilities.reloaded", "component.state_changed", "turn.event", "transport.heartbeat"),
}


def agent_event(kind: str, second: int = 0, **data: object) -> dict[str, object]:
    return {"type": kind, "timestamp": f"2026-11-20T08:00:{second:02}Z", "agent_id": "a1", "agent_name": "t", "data": data}


def envelope(kind: str, **payload: object) -> dict[str, object]:
    return {"kind": kind, "session_id": "s1", "turn_id": "t1", "event_id": f"e-{kind}", "seq": 1, "payload": payload}


def read(reader: Source, *raws: object) -> list[TraceEvent]:
    return [event for raw in raws for event in reader.translate(raw)]


class TestEnvelopes:
    def test_the_table_is_the_seed_page(self) -> None:
        """Thirteen kinds."""
        assert SEED_KINDS == {*KINDS, "turn.event"}
        assert 13 == len(SEED_KINDS)

    def test_a_turn_is_a_run_of_its_session(self) -> None:
        """Ids of turn, session and event go along."""
        (event,) = read(source("dreadnode"), envelope("turn.started", agent="t", model="m"))
        found = {key: event.attributes[key] for key in ("run.id", "session.id", "event.id", "agent.name", "model.name")}
        assert {"run.id": "t1", "session.id": "s1", "event.id": "e-turn.started", "agent.name": "t", "model.name": "m"} == found

    @pytest.mark.parametrize("outcome", ["completed", "failed", "cancelled"])
    def test_terminal_kinds_end_the_run(self, outcome: str) -> None:
        """Exactly these three say how the run ended."""
        (event,) = read(source("dreadnode"), envelope(f"turn.{outcome}", error={"type": "ValueError", "message": "m"}))
        assert outcome == event.attributes["run.outcome"]

    def test_session_id_in_the_payload(self) -> None:
        """session.created carries its session in the payload."""
        (event,) = read(source("dreadnode"), {"kind": "session.created", "payload": {"session_id": "s9"}})
        assert "s9" == event.attributes["session.id"]

    def test_unknown_kinds_pass(self) -> None:
        """A custom kind keeps its name."""
        assert ["myapp.report_ready"] == [event.name for event in read(source("dreadnode"), envelope("myapp.report_ready"))]


class TestAgentEvents:
    def test_a_model_call_ends_before_its_tools(self) -> None:
        """A generationend comes after the tools, so the first tool marks the end of the model's own work."""
        events = read(
            source("dreadnode"),
            agent_event("generationstart", 1, step=1),
            agent_event("toolstart", 2, tool_call={"id": "c1", "name": "x"}),
            agent_event("toolend", 3, tool_call={"id": "c1", "name": "x"}),
            agent_event("generationend", 4, step=1, usage={"input_tokens": 10, "output_tokens": 5}),
        )
        assert ["model.start", "model.progress", "tool.start", "tool.finish", "model.finish"] == [event.name for event in events]
        assert events[2].timestamp == events[1].attributes["step.ended_at"]
        assert 10 == events[4].attributes["usage.input_tokens"]

    def test_usage_is_taken_once(self) -> None:
        """A generationstep repeats generationend's usage."""
        usage = {"input_tokens": 10, "output_tokens": 5}
        events = read(
            source("dreadnode"), agent_event("generationend", step=1, usage=usage), agent_event("generationstep", step=1, usage=usage)
        )
        assert 1 == sum("usage.input_tokens" in event.attributes for event in events)

    def test_a_tool_that_returns_an_error_failed(self) -> None:
        """A toolend with an error is a failure, as toolerror is."""
        call = {"id": "c1", "name": "x"}
        events = read(source("dreadnode"), agent_event("toolend", tool_call=call, error="boom", error_type="ValueError"))
        assert [("tool.failed", "ValueError")] == [(event.name, event.attributes["error.type"]) for event in events]

    def test_a_refused_tool_is_a_decision(self) -> None:
        """A toolstart is emitted for refused tools too; those did not run."""
        refused = {"runtime_action": "deny", "reason": "no"}
        (event,) = read(source("dreadnode"), agent_event("toolstart", tool_call={"id": "c1", "name": "x"}, policy_decision=refused))
        assert ("policy.decision", "deny", False) == (event.name, event.attributes["policy.decision"], "tool.id" in event.attributes)

    def test_a_prompt_ends_with_the_tool_that_asked(self) -> None:
        """There is no event for the answer."""
        data = {"request_id": "r1", "source_tool_call_id": "c1", "source_tool_name": "ask"}
        events = read(
            source("dreadnode"),
            envelope("prompt.required", event_type="userinputrequired", raw_event={"data": data}),
            envelope("turn.event", event_type="toolend", raw_event=agent_event("toolend", tool_call={"id": "c1", "name": "ask"})),
        )
        assert ["approval.request", "approval.resolved", "tool.finish"] == [event.name for event in events]

    def test_unknown_agent_events_pass(self) -> None:
        """They become generic events of the run."""
        assert ["agent.novelty"] == [event.name for event in read(source("dreadnode"), agent_event("novelty"))]


class TestRecordings:
    def test_every_recorded_event_is_read(self, recordings: Path) -> None:
        """Nothing of the real system is malformed, and no agent event is unknown to the table."""
        known = {kind.name for kind in KINDS.values()} | {row.name for row in AGENT_EVENTS.values()}
        known |= {"model.progress", "policy.decision", "approval.resolved"}
        for path in sorted(recordings.glob("*.jsonl")):
            reader = source("dreadnode")
            raws = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
            names = {event.name for event in read(reader, *raws)}
            assert {} == dict(reader.malformed), path.name
            assert names <= known, path.name
