"""The event every room can speak, and where in a trace it belongs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import Literal

__all__ = ["EventEnvelope", "TraceEvent", "TraceEventType", "TraceRef"]

TraceEventType = Literal["approval", "capability", "error", "lifecycle", "policy", "run"]
_EMPTY: Mapping[str, object] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class TraceRef:
    """A place in a trace.

    Args:
        id: Trace id; 32 hex digits when it is an OpenTelemetry id, else the foreign system's own.
        parent_id: Span id, 16 hex digits when it is an OpenTelemetry id; None at a root.
        sampled: False when the trace is not recorded; None when unknown.
    """

    id: str
    parent_id: str | None = None
    sampled: bool | None = None


@dataclass(frozen=True, slots=True, init=False)
class TraceEvent:
    """Something that happened, in the shape of the seed page "Runtime events".

    Args:
        name: Dotted name, such as `policy.decision` or `tool.finish`.
        type: One of the six kinds of activity.
        timestamp: When, in UTC; None when the source did not say.
        trace: Where it belongs; None outside of a trace.
        attributes: Plain data.
    """

    name: str
    type: TraceEventType
    timestamp: datetime | None = None
    trace: TraceRef | None = None
    attributes: Mapping[str, object] = field(default_factory=lambda: _EMPTY)

    def __init__(
        self,
        name: str,
        type: TraceEventType,
        timestamp: datetime | None = None,
        trace: TraceRef | None = None,
        attributes: Mapping[str, object] = _EMPTY,
    ) -> None:
        # Half the cost of the constructor that a frozen dataclass makes; there is one for every token of a foreign stream.
        _set_name(self, name)
        _set_type(self, type)
        _set_timestamp(self, timestamp)
        _set_trace(self, trace)
        _set_attributes(self, attributes)


_set_name, _set_type, _set_timestamp, _set_trace, _set_attributes = (
    vars(TraceEvent)[name].__set__ for name in ("name", "type", "timestamp", "trace", "attributes")
)


@dataclass(frozen=True, slots=True)
class EventEnvelope:
    """An event on the bus, in the shape of the Dreadnode runtime page.

    Args:
        kind: Dotted kind such as `turn.completed`.
        payload: The fields of that kind.
        session_id: The session; None for events of the runtime as a whole.
        turn_id: The turn, when there is one.
        event_id: Unique id of the event.
        seq: Position on the bus, starts at 1; gaps within one session are normal.
        timestamp: When it was published, in UTC.
        terminal: True for the one event that ends a turn.
        replay: True when a subscriber asked for events it had missed.
    """

    kind: str
    payload: Mapping[str, object]
    event_id: str
    seq: int
    timestamp: datetime
    session_id: str | None = None
    turn_id: str | None = None
    terminal: bool = False
    replay: bool = False
