"""The 38 variants of a3s."""

from __future__ import annotations

import pytest

from otel_runtime.sources.a3s import VARIANTS
from otel_runtime.sources.registry import source
from otel_runtime.telemetry.run_view import see

# Copied by hand from the seed page, in its order.
SEED_VARIANTS = """Start TurnStart TextDelta ToolStart ToolInputDelta ToolEnd ToolOutputDelta TurnEnd End Error ConfirmationRequired
ConfirmationReceived ConfirmationTimeout ExternalTaskPending ExternalTaskCompleted PermissionDenied ContextResolving ContextResolved
CommandDeadLettered CommandRetry QueueAlert TaskUpdated MemoryStored MemoryRecalled MemoriesSearched MemoryCleared SubagentStart
SubagentProgress SubagentEnd PlanningStart PlanningEnd StepStart StepEnd GoalExtracted GoalProgress GoalAchieved ContextCompacted
PersistenceFailed""".split()
IDS = {"id": "c1", "name": "shell", "tool_id": "c1", "task_id": "k1", "step_id": "s1", "turn": 1}


def one(tag: str, **fields: object) -> tuple[str, dict[str, object]]:
    (event,) = source("a3s", "s").translate({"type": tag, **fields})
    return event.name, dict(event.attributes)


class TestVariants:
    def test_the_table_is_the_seed_page(self) -> None:
        """Thirty-eight variants, each once, in the order of the page."""
        assert SEED_VARIANTS == ["".join(part.capitalize() for part in tag.split("_")) for tag in VARIANTS]

    @pytest.mark.parametrize("variant", SEED_VARIANTS)
    def test_every_spelling_is_the_same_event(self, variant: str) -> None:
        """The wire tag, the Rust name and serde's outer tag give one TraceEvent that is not generic."""
        snake = next(tag for tag in VARIANTS if tag.replace("_", "") == variant.lower())
        readers = [source("a3s", "s") for _ in range(3)]
        raws = ({"type": snake, **IDS}, {"type": variant, **IDS}, {variant: IDS})
        found = [event.name for reader, raw in zip(readers, raws, strict=True) for event in reader.translate(raw)]
        assert [VARIANTS[snake].name] * 3 == found
        assert [{}] * 3 == [dict(reader.malformed) for reader in readers]

    @pytest.mark.parametrize(("alias", "name"), [("agent_start", "invocation.start"), ("agent_end", "invocation.finish")])
    def test_the_longer_spelling_of_start_and_end(self, alias: str, name: str) -> None:
        """`agent_start` is `start`."""
        assert name == one(alias)[0]

    def test_unknown_variants_pass(self) -> None:
        """The enum grows in minor releases."""
        assert "a3s.quantum_leap" == one("QuantumLeap")[0]

    @pytest.mark.parametrize("tag", ["reasoning_delta", "ReasoningDelta"])
    def test_unknown_deltas_are_counted(self, tag: str) -> None:
        """The SDK has more kinds of delta than the page, and a run has as many of them as it has tokens."""
        reader = source("a3s", "s")
        (_, (event,)) = (reader.translate({"type": "turn_start", "turn": 1}), reader.translate({"type": tag, "text": "hm"}))
        assert ("a3s.reasoning.delta", "turn-1", True) == (event.name, event.attributes["step.id"], see(event).often)


class TestOutcomes:
    @pytest.mark.parametrize(
        ("tag", "fields", "name"),
        [
            ("tool_end", {"id": "c", "exit_code": 0}, "tool.finish"),
            ("tool_end", {"id": "c", "exit_code": 2}, "tool.failed"),
            ("subagent_end", {"task_id": "k", "success": False}, "subagent.failed"),
            ("external_task_completed", {"task_id": "k", "success": False}, "task.failed"),
            ("step_end", {"step_id": "s", "status": "Failed"}, "step.failed"),
        ],
    )
    def test_failure_shows_in_the_name(self, tag: str, fields: dict[str, object], name: str) -> None:
        """The name's ending says how the step ended."""
        assert name == one(tag, **fields)[0]

    def test_a_denial_is_a_decision(self) -> None:
        """PermissionDenied is a refused tool, not an executed one: it has no step."""
        name, facts = one("permission_denied", tool_id="c1", tool_name="rm", reason="no")
        assert ("policy.decision", "deny", "rm") == (name, facts["policy.decision"], facts["tool.name"])
        assert "tool.id" not in facts

    def test_a_timed_out_confirmation_is_a_no(self) -> None:
        """The default on a timeout is to reject."""
        assert "expired" == one("confirmation_timeout", tool_id="c1", action_taken="rejected")[1]["approval.outcome"]

    def test_usage_of_turns_and_of_the_end(self) -> None:
        """End.usage is the sum of the turns, so it has another name."""
        usage = {"prompt_tokens": 3, "completion_tokens": 2}
        assert 3 == one("turn_end", turn=1, usage=usage)[1]["usage.input_tokens"]
        assert 2 == one("end", usage=usage)[1]["usage.total.output_tokens"]
