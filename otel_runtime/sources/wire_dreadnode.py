"""The wire shape of Dreadnode runtime events: the envelope with a payload per kind, and the agent events inside `turn.event`.

Loaded for schemas and checks only: the translator reads events without models, because it must survive any shape.
"""

from __future__ import annotations

from typing import Any, ClassVar, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, create_model

from otel_runtime.sources.dreadnode_table import AGENT_EVENTS

__all__ = ["PAYLOADS", "AgentEvent", "Envelope", "models"]

Data = dict[str, Any]  # Any: structures of theirs that are passed on unread

# Payload fields per kind, as the seed page lists them; recorded runs leave some out, so all are optional.
PAYLOADS: Final[dict[str, dict[str, Any]]] = {  # Any: types as values
    "turn.accepted": {"agent": str, "model": str, "reset": bool, "message_length": int, "queue_depth": int},
    "turn.started": {"agent": str, "model": str},
    "turn.completed": {
        "turn_id": str,
        "response_text": str,
        "tool_calls": list[Data],
        "usage": Data,
        "duration_ms": float,
        "agent": str,
        "message_count": int,
    },
    "turn.failed": {"turn_id": str, "error": Data, "partial_response": str, "tool_calls_attempted": list[Any], "duration_ms": float},
    "turn.cancelled": {"turn_id": str, "reason": str, "partial_response": str, "duration_ms": float},
    "prompt.required": {"event_type": str, "raw_event": Data},
    "session.created": {"session_id": str},
    "session.deleted": {"session_id": str},
    "session.warning": {"code": str, "message": str, "sync_status": str},
    "capabilities.reloaded": {"capability_count": int},
    "component.state_changed": {"capability": str, "kind": str, "name": str, "status": str, "error": Any, "detail": Any},
    "turn.event": {"event_type": str, "raw_event": Data},
    "transport.heartbeat": {"event_type": str, "raw_event": Data},
}


class _Open(BaseModel):
    # Newer versions add fields.
    model_config: ClassVar[ConfigDict] = ConfigDict(extra="allow")


class Envelope(_Open):
    """What every event of the bus carries."""

    session_id: str | None = None
    turn_id: str | None = None
    event_id: str
    seq: int
    timestamp: str
    terminal: bool = False
    replay: bool = False


class AgentEvent(_Open):
    """An event of an agent, bare or inside `turn.event`; its type is one of those that the table knows, or a new one."""

    type: str = Field(examples=list(AGENT_EVENTS))
    timestamp: str | None = None
    agent_id: str | None = None
    agent_name: str | None = None
    status: str | None = None
    data: Data = {}


def models() -> tuple[type[BaseModel], ...]:
    """One model per kind of envelope."""
    return tuple(_model(kind, fields) for kind, fields in PAYLOADS.items())


def _model(kind: str, fields: dict[str, Any]) -> type[BaseModel]:  # Any: types as values
    name = "".join(part.capitalize() for part in kind.replace("_", ".").split("."))
    own: dict[str, Any] = {field: (type_ | None, None) for field, type_ in fields.items()}
    payload: Any = create_model(f"{name}Payload", __base__=_Open, **own)
    kinds: Any = Literal[(kind,)]
    made: type[BaseModel] = create_model(name, __base__=Envelope, kind=(kinds, ...), payload=(payload, ...))
    return made
