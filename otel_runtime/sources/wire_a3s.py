"""The wire shape of a3s `AgentEvent`: the seed page's enum as a table, and pydantic models made of it.

Loaded for schemas and checks only: the translator reads events without models, because it must survive any shape.
"""

from __future__ import annotations

from typing import Any, ClassVar, Final, Literal

from pydantic import BaseModel, ConfigDict, create_model

__all__ = ["FIELDS", "Subscribed", "models"]

# Rust types that are plain data elsewhere: TokenUsage, Task, ExecutionPlan, AgentGoal, Value.
Data = dict[str, Any]  # Any: structures of theirs that are passed on unread

# Field names and types in the order of the seed page. `float | None` and the like are Rust's Option.
FIELDS: Final[dict[str, dict[str, Any]]] = {  # Any: types as values
    "start": {"prompt": str},
    "turn_start": {"turn": int},
    "text_delta": {"text": str},
    "tool_start": {"id": str, "name": str},
    "tool_input_delta": {"delta": str},
    "tool_end": {"id": str, "name": str, "output": str, "exit_code": int},
    "tool_output_delta": {"id": str, "name": str, "delta": str},
    "turn_end": {"turn": int, "usage": Data},
    "end": {"text": str, "usage": Data},
    "error": {"message": str},
    "confirmation_required": {"tool_id": str, "tool_name": str, "args": Any, "timeout_ms": int},
    "confirmation_received": {"tool_id": str, "approved": bool, "reason": str | None},
    "confirmation_timeout": {"tool_id": str, "action_taken": str},
    "external_task_pending": {
        "task_id": str,
        "session_id": str,
        "lane": str,
        "command_type": str,
        "payload": Any,
        "timeout_ms": int,
    },
    "external_task_completed": {"task_id": str, "session_id": str, "success": bool},
    "permission_denied": {"tool_id": str, "tool_name": str, "args": Any, "reason": str},
    "context_resolving": {"providers": list[str]},
    "context_resolved": {"total_items": int, "total_tokens": int},
    "command_dead_lettered": {"command_id": str, "command_type": str, "lane": str, "error": str, "attempts": int},
    "command_retry": {"command_id": str, "command_type": str, "lane": str, "attempt": int, "delay_ms": int},
    "queue_alert": {"level": str, "alert_type": str, "message": str},
    "task_updated": {"session_id": str, "tasks": list[Data]},
    "memory_stored": {"memory_id": str, "memory_type": str, "importance": float, "tags": list[str]},
    "memory_recalled": {"memory_id": str, "content": str, "relevance": float},
    "memories_searched": {"query": str | None, "tags": list[str], "result_count": int},
    "memory_cleared": {"tier": str, "count": int},
    "subagent_start": {"task_id": str, "session_id": str, "parent_session_id": str, "agent": str, "description": str},
    "subagent_progress": {"task_id": str, "session_id": str, "status": str, "metadata": Any},
    "subagent_end": {"task_id": str, "session_id": str, "agent": str, "output": str, "success": bool},
    "planning_start": {"prompt": str},
    "planning_end": {"plan": Data, "estimated_steps": int},
    "step_start": {"step_id": str, "description": str, "step_number": int, "total_steps": int},
    "step_end": {"step_id": str, "status": str, "step_number": int, "total_steps": int},
    "goal_extracted": {"goal": Data},
    "goal_progress": {"goal": str, "progress": float, "completed_steps": int, "total_steps": int},
    "goal_achieved": {"goal": str, "total_steps": int, "duration_ms": int},
    "context_compacted": {"session_id": str, "before_messages": int, "after_messages": int, "percent_before": float},
    "persistence_failed": {"session_id": str, "operation": str, "error": str},
}
_ALIASES: Final = {"start": ("start", "agent_start"), "end": ("end", "agent_end")}


class Subscribed(BaseModel):
    """What a subscription may put beside the fields of a variant, which carry no time, sequence or session."""

    # New variants and fields come in minor releases of theirs.
    model_config: ClassVar[ConfigDict] = ConfigDict(extra="allow")

    timestamp: str | int | None = None
    seq: int | None = None
    event_id: str | None = None


def models() -> tuple[type[BaseModel], ...]:
    """One model per variant, named as in Rust."""
    return tuple(_model(tag, fields) for tag, fields in FIELDS.items())


def _model(tag: str, fields: dict[str, Any]) -> type[BaseModel]:  # Any: types as values
    kinds: Any = Literal[_ALIASES.get(tag, (tag,))]  # Any: a type made at run time
    # What Rust calls Option may be missing on the wire.
    own: dict[str, Any] = {name: (kind, None if _optional(kind) else ...) for name, kind in fields.items()}
    if "session_id" not in own:
        own["session_id"] = (str | None, None)
    name = "".join(part.capitalize() for part in tag.split("_"))
    made: type[BaseModel] = create_model(name, __base__=Subscribed, type=(kinds, ...), **own)
    return made


def _optional(kind: object) -> bool:
    return type(None) in getattr(kind, "__args__", ())
