"""a3s `AgentEvent`: the 38 variants of the seed page, one row each, in its order.

Wire tags are the snake_case of the variant (`type: tool_start`); `Start` and `End` are also spelled `agent_start` and `agent_end`;
the Rust spelling (`ToolStart`, and `{"ToolStart": {...}}`) is read too. Events carry no time, sequence or session: the subscription
may put `timestamp`, `session_id` and `seq` beside them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Final, NamedTuple

from otel_runtime.sources.reading import Reader, flag, instant, integer, mapping, optional_text, present, text
from otel_runtime.values.trace import TraceEvent, TraceEventType

__all__ = ["A3S", "VARIANTS", "Variant"]

Fields = Mapping[str, object]


class Variant(NamedTuple):
    """What one variant becomes.

    Args:
        name: Name of the TraceEvent; its ending says whether a step starts, goes on or ends.
        type: Type of the TraceEvent.
        step: `attribute:prefix:field`; the field's value, behind the prefix, is the step's id. Empty: the event belongs to the run.
        fails: True when this event says that its step failed; `.finish` is then spelled `.failed`.
    """

    name: str
    type: TraceEventType = "run"
    step: str = ""
    fails: Callable[[Fields], bool] = lambda _: False


def _not_successful(raw: Fields) -> bool:
    return flag(raw, "success") is False


def _bad_exit(raw: Fields) -> bool:
    return integer(raw, "exit_code") not in (0, None)


def _step_failed(raw: Fields) -> bool:
    return str(raw.get("status")).lower() in ("failed", "cancelled")


VARIANTS: Final[dict[str, Variant]] = {
    "start": Variant("invocation.start"),
    "turn_start": Variant("turn.start", "run", "step.id:turn-:turn"),
    "text_delta": Variant("text.delta"),
    "tool_start": Variant("tool.start", "run", "tool.id::id"),
    "tool_input_delta": Variant("tool.input.delta"),
    "tool_end": Variant("tool.finish", "run", "tool.id::id", _bad_exit),
    "tool_output_delta": Variant("tool.output.delta", "run", "tool.id::id"),
    "turn_end": Variant("turn.finish", "run", "step.id:turn-:turn"),
    "end": Variant("invocation.finish"),
    "error": Variant("invocation.error", "error"),
    "confirmation_required": Variant("approval.request", "approval", "approval.id:confirm-:tool_id"),
    "confirmation_received": Variant("approval.decision", "approval", "approval.id:confirm-:tool_id"),
    "confirmation_timeout": Variant("approval.decision", "approval", "approval.id:confirm-:tool_id"),
    "external_task_pending": Variant("task.start", "run", "step.id:task-:task_id"),
    "external_task_completed": Variant("task.finish", "run", "step.id:task-:task_id", _not_successful),
    "permission_denied": Variant("policy.decision", "policy"),
    "context_resolving": Variant("context.start", "run", "step.id:context:"),
    "context_resolved": Variant("context.finish", "run", "step.id:context:"),
    "command_dead_lettered": Variant("command.dead_lettered", "error"),
    "command_retry": Variant("command.retry", "policy"),
    "queue_alert": Variant("queue.alert", "lifecycle"),
    "task_updated": Variant("tasks.updated", "lifecycle"),
    "memory_stored": Variant("memory.stored", "lifecycle"),
    "memory_recalled": Variant("memory.recalled", "lifecycle"),
    "memories_searched": Variant("memory.searched", "lifecycle"),
    "memory_cleared": Variant("memory.cleared", "lifecycle"),
    "subagent_start": Variant("subagent.start", "run", "step.id:subagent-:task_id"),
    "subagent_progress": Variant("subagent.progress", "run", "step.id:subagent-:task_id"),
    "subagent_end": Variant("subagent.finish", "run", "step.id:subagent-:task_id", _not_successful),
    "planning_start": Variant("planning.start", "run", "step.id:planning:"),
    "planning_end": Variant("planning.finish", "run", "step.id:planning:"),
    "step_start": Variant("step.start", "run", "step.id:step-:step_id"),
    "step_end": Variant("step.finish", "run", "step.id:step-:step_id", _step_failed),
    "goal_extracted": Variant("goal.extracted", "lifecycle"),
    "goal_progress": Variant("goal.progress", "lifecycle"),
    "goal_achieved": Variant("goal.achieved", "lifecycle"),
    "context_compacted": Variant("context.compacted", "lifecycle"),
    "persistence_failed": Variant("persistence.failed", "error"),
}
ALIASES: Final[dict[str, str]] = {"agent_start": "start", "agent_end": "end"}
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
# What the wire spells otherwise than a TraceEvent does. `id` and `name` belong to tools only.
_RENAMED: Final[dict[str, str]] = {"tool_name": "tool.name", "agent": "agent.name", "message": "error.message", "error": "error.message"}
_OWN: Final = frozenset({"type", "timestamp", "session_id", "seq", "id", "name", "usage", "event_id"})


class A3S(Reader):
    """Reads AgentEvents; every `Start` in a session begins a new run."""

    name = "a3s"

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self._run = 1

    def read(self, raw: Fields) -> Iterable[TraceEvent]:
        """One TraceEvent for one AgentEvent."""
        tag, fields = _unwrap(raw)
        variant = VARIANTS.get(tag, Variant(f"a3s.{tag}", "lifecycle"))
        name = variant.name.replace(".finish", ".failed") if variant.fails(fields) else variant.name
        yield TraceEvent(name, variant.type, instant(raw.get("timestamp")), None, self._attributes(tag, variant, fields))
        if tag == "end":
            self._run += 1

    def _attributes(self, tag: str, variant: Variant, fields: Fields) -> dict[str, object]:
        session = optional_text(fields, "parent_session_id", "session_id") or self._stream
        common = present(event__source=self.name, event__kind=tag, event__id=optional_text(fields, "event_id"), session__id=session)
        return {**_plain(fields), **common, "run.id": f"{self._stream}-{self._run}", **_step(variant, fields), **_facts(tag, fields)}


def _unwrap(raw: Fields) -> tuple[str, Fields]:
    if "type" not in raw and len(raw) == 1:
        ((tag, fields),) = raw.items()
        return _canonical(tag), mapping(fields, tag if tag.isidentifier() else "variant")
    return _canonical(text(raw, "type")), raw


def _canonical(tag: str) -> str:
    snake = _HUMP.sub("_", tag).lower()
    return ALIASES.get(snake, snake)


def _plain(fields: Fields) -> dict[str, object]:
    return {_RENAMED.get(key, key): value for key, value in fields.items() if key not in _OWN}


def _step(variant: Variant, fields: Fields) -> dict[str, object]:
    if not variant.step:
        return {}
    attribute, prefix, field = variant.step.split(":")
    if not field:
        return {attribute: prefix}
    number = integer(fields, field)
    return {attribute: f"{prefix}{text(fields, field) if number is None else number}"}


def _facts(tag: str, fields: Fields) -> dict[str, object]:
    match tag:
        case "tool_start" | "tool_end" | "tool_output_delta":
            return present(tool__name=optional_text(fields, "name"))
        case "turn_end" | "end":
            return _usage(fields, total=tag == "end")
        case "confirmation_received":
            return {"approval.outcome": "approved" if flag(fields, "approved") else "denied"}
        case "confirmation_timeout":
            # The upstream default on a timeout is to reject; anything but a clear yes is taken as no.
            return {"approval.outcome": "approved" if fields.get("action_taken") in ("approve", "approved", "auto_approve") else "expired"}
        case "permission_denied":
            return {
                "policy.decision": "deny",
                **present(policy__reason=optional_text(fields, "reason"), tool__call_id=optional_text(fields, "tool_id")),
            }
        case "command_retry":
            return {"policy.decision": "retryable-failure"}
        case "subagent_start" | "subagent_end" | "subagent_progress":
            return present(child__session__id=optional_text(fields, "session_id"))
        case _:
            return {}


def _usage(fields: Fields, *, total: bool) -> dict[str, object]:
    usage = mapping(fields.get("usage") or {}, "usage")
    scope = "usage.total" if total else "usage"
    found = {
        "input_tokens": integer(usage, "prompt_tokens", "input_tokens"),
        "output_tokens": integer(usage, "completion_tokens", "output_tokens"),
    }
    return {f"{scope}.{name}": count for name, count in found.items() if count is not None}
