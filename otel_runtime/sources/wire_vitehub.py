"""The wire shape of ViteHub: the TraceEvent of the seed page, and one model per family of agent stream events.

Loaded for schemas and checks only: the translator reads events without models, because it must survive any shape.
"""

from __future__ import annotations

from typing import Any, ClassVar, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, create_model

__all__ = ["FAMILY_FIELDS", "WireTrace", "WireTraceEvent", "models"]

# The page names the families, not their fields; these are the names that agent streams of that kind use.
FAMILY_FIELDS: Final[dict[str, dict[str, Any]]] = {  # Any: types as values
    "text-delta": {"text": str},
    "data": {"data": Any},
    "tool-input-start": {"toolCallId": str, "toolName": str},
    "tool-input-delta": {"toolCallId": str, "delta": str},
    "tool-call": {"toolCallId": str, "toolName": str, "input": Any},
    "tool-result": {"toolCallId": str, "output": Any, "isError": bool},
    "approval-request": {"id": str, "toolCallId": str, "toolName": str, "input": Any, "reason": str},
    "approval-decision": {"id": str, "approved": bool, "reason": str},
    "error": {"message": str, "recoverable": bool},
    "usage": {"usage": dict[str, Any]},
    "progress": {"message": str},
    "finish": {"finishReason": str},
}


class _Open(BaseModel):
    model_config: ClassVar[ConfigDict] = ConfigDict(extra="allow")


class WireTrace(_Open):
    """Where a TraceEvent belongs."""

    id: str
    parentId: str | None = None  # noqa: N815 - as it is on the wire
    sampled: bool | None = None


class WireTraceEvent(_Open):
    """The shared observability event."""

    name: str
    type: Literal["approval", "capability", "error", "lifecycle", "policy", "run"]
    timestamp: str | None = Field(default=None, description="ISO 8601; milliseconds since 1970 are read too")
    trace: WireTrace | None = None
    attributes: dict[str, Any] | None = None


def models() -> tuple[type[BaseModel], ...]:
    """The TraceEvent, and one model per family."""
    return (WireTraceEvent, *(_model(family, fields) for family, fields in FAMILY_FIELDS.items()))


def _model(family: str, fields: dict[str, Any]) -> type[BaseModel]:  # Any: types as values
    own: dict[str, Any] = {name: (kind | None if kind is not Any else Any, None) for name, kind in fields.items()}
    kinds: Any = Literal[(family,)]
    name = "".join(part.capitalize() for part in family.split("-"))
    made: type[BaseModel] = create_model(f"Stream{name}", __base__=_Open, type=(kinds, ...), runId=(str | None, None), **own)
    return made
