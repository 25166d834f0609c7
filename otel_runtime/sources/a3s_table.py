"""The table of a3s variants: what each becomes, in the order of the seed page."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from otel_runtime.sources.reading import flag, integer
from otel_runtime.values.trace import TraceEventType

__all__ = ["ALIASES", "VARIANTS", "Variant"]

Fields = Mapping[str, object]


class Variant(NamedTuple):
    """What one variant becomes.

    Args:
        name: Name of the TraceEvent; its ending says whether a step starts, goes on or ends.
        type: Type of the TraceEvent.
        step: Attribute that holds the step's id: `tool.id`, `approval.id` or `step.id`. Empty: the event belongs to the run.
        prefix: Stands before the id, so that two kinds of steps never share one.
        field: The field whose value is the id; empty when there is one such step at a time.
        fails: Says whether this event says that its step failed; `.finish` is then spelled `.failed`. None: it never does.
    """

    name: str
    type: TraceEventType = "run"
    step: str = ""
    prefix: str = ""
    field: str = ""
    fails: Callable[[Fields], bool] | None = None


def _not_successful(raw: Fields) -> bool:
    return flag(raw, "success") is False


def _bad_exit(raw: Fields) -> bool:
    code = raw.get("exit_code")
    return code != 0 if type(code) is int else integer(raw, "exit_code") not in (0, None)


def _step_failed(raw: Fields) -> bool:
    return str(raw.get("status")).lower() in ("failed", "cancelled")


VARIANTS: Final[dict[str, Variant]] = {
    "start": Variant("invocation.start"),
    "turn_start": Variant("turn.start", "run", "step.id", "turn-", "turn"),
    "text_delta": Variant("text.delta"),
    "tool_start": Variant("tool.start", "run", "tool.id", "", "id"),
    "tool_input_delta": Variant("tool.input.delta"),
    "tool_end": Variant("tool.finish", "run", "tool.id", "", "id", _bad_exit),
    "tool_output_delta": Variant("tool.output.delta", "run", "tool.id", "", "id"),
    "turn_end": Variant("turn.finish", "run", "step.id", "turn-", "turn"),
    "end": Variant("invocation.finish"),
    "error": Variant("invocation.error", "error"),
    "confirmation_required": Variant("approval.request", "approval", "approval.id", "confirm-", "tool_id"),
    "confirmation_received": Variant("approval.decision", "approval", "approval.id", "confirm-", "tool_id"),
    "confirmation_timeout": Variant("approval.decision", "approval", "approval.id", "confirm-", "tool_id"),
    "external_task_pending": Variant("task.start", "run", "step.id", "task-", "task_id"),
    "external_task_completed": Variant("task.finish", "run", "step.id", "task-", "task_id", _not_successful),
    "permission_denied": Variant("policy.decision", "policy"),
    "context_resolving": Variant("context.start", "run", "step.id", "context", ""),
    "context_resolved": Variant("context.finish", "run", "step.id", "context", ""),
    "command_dead_lettered": Variant("command.dead_lettered", "error"),
    "command_retry": Variant("command.retry", "policy"),
    "queue_alert": Variant("queue.alert", "lifecycle"),
    "task_updated": Variant("tasks.updated", "lifecycle"),
    "memory_stored": Variant("memory.stored", "lifecycle"),
    "memory_recalled": Variant("memory.recalled", "lifecycle"),
    "memories_searched": Variant("memory.searched", "lifecycle"),
    "memory_cleared": Variant("memory.cleared", "lifecycle"),
    "subagent_start": Variant("subagent.start"),
    "subagent_progress": Variant("subagent.progress"),
    "subagent_end": Variant("subagent.finish", fails=_not_successful),
    "planning_start": Variant("planning.start", "run", "step.id", "planning", ""),
    "planning_end": Variant("planning.finish", "run", "step.id", "planning", ""),
    "step_start": Variant("step.start", "run", "step.id", "step-", "step_id"),
    "step_end": Variant("step.finish", "run", "step.id", "step-", "step_id", _step_failed),
    "goal_extracted": Variant("goal.extracted", "lifecycle"),
    "goal_progress": Variant("goal.progress", "lifecycle"),
    "goal_achieved": Variant("goal.achieved", "lifecycle"),
    "context_compacted": Variant("context.compacted", "lifecycle"),
    "persistence_failed": Variant("persistence.failed", "error"),
}
ALIASES: Final[dict[str, str]] = {"agent_start": "start", "agent_end": "end"}
