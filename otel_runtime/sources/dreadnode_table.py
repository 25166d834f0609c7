"""The tables of Dreadnode events: thirteen envelope kinds, the agent events inside `turn.event`, and the decision map."""

from __future__ import annotations

from typing import Final, NamedTuple

from otel_runtime.values.trace import TraceEventType

__all__ = ["AGENT_EVENTS", "DECISIONS", "KINDS", "LAGS", "AgentEvent", "Kind"]


class Kind(NamedTuple):
    """What an envelope of one kind becomes.

    Args:
        name: Name of the TraceEvent.
        type: Type of the TraceEvent.
        outcome: Set for the kinds that end a turn.
        log: Level of the log record that it also becomes; empty for none.
    """

    name: str
    type: TraceEventType
    outcome: str = ""
    log: str = ""


class AgentEvent(NamedTuple):
    """What an agent event becomes.

    Args:
        name: Name of the TraceEvent.
        type: Type of the TraceEvent.
        step: `tool` or `model` when it belongs to a tool call or a generation.
        often: True for what comes in numbers or repeats other events: it is counted, not recorded one by one.
    """

    name: str
    type: TraceEventType = "run"
    step: str = ""
    often: bool = False


# turn.event is missing here on purpose: it is opened, and what is inside decides.
KINDS: Final[dict[str, Kind]] = {
    "turn.accepted": Kind("turn.accepted", "run"),
    "turn.started": Kind("turn.started", "run"),
    "turn.completed": Kind("turn.completed", "run", "completed"),
    "turn.failed": Kind("turn.failed", "error", "failed"),
    "turn.cancelled": Kind("turn.cancelled", "run", "cancelled"),
    "prompt.required": Kind("approval.request", "approval"),
    "session.created": Kind("session.created", "lifecycle", log="info"),
    "session.deleted": Kind("session.deleted", "lifecycle", log="info"),
    "session.warning": Kind("session.warning", "lifecycle", log="warning"),
    "capabilities.reloaded": Kind("capabilities.reloaded", "capability", log="info"),
    "component.state_changed": Kind("component.state_changed", "lifecycle", log="info"),
    # Counted only; it keeps the session from being taken for idle.
    "transport.heartbeat": Kind("transport.heartbeat", "lifecycle"),
}
# What a bus tells a subscriber that was too slow: ours, and two of theirs.
LAGS: Final = frozenset({"transport.lagged", "transport.resync_required", "transport.forwarder_failed"})
AGENT_EVENTS: Final[dict[str, AgentEvent]] = {
    "agentstart": AgentEvent("agent.start", often=True),
    "agentend": AgentEvent("agent.finish", often=True),
    "generationstart": AgentEvent("model.start", "run", "model"),
    "generationcontent": AgentEvent("model.output", "run", "model", often=True),
    "generationend": AgentEvent("model.finish", "run", "model"),
    "generationerror": AgentEvent("model.failed", "error", "model"),
    "generationretry": AgentEvent("model.retry", "run"),
    # Comes after generationend and repeats it, usage too.
    "generationstep": AgentEvent("model.summary", often=True),
    "toolstart": AgentEvent("tool.start", "run", "tool"),
    "toolend": AgentEvent("tool.finish", "run", "tool"),
    "toolerror": AgentEvent("tool.failed", "error", "tool"),
    # Comes after toolend and repeats it.
    "toolstep": AgentEvent("tool.summary", often=True),
    "reactstep": AgentEvent("agent.reaction", "policy"),
    # The page's names, and those on the wire.
    "compaction": AgentEvent("context.compacted", "lifecycle"),
    "compactionevent": AgentEvent("context.compacted", "lifecycle"),
    "stalled": AgentEvent("agent.stalled", "lifecycle"),
    "agentstalled": AgentEvent("agent.stalled", "lifecycle"),
    "agenterror": AgentEvent("agent.error", "error"),
    # A session's own words on the stream of a turn.
    "error": AgentEvent("agent.error", "error"),
    "cancelled": AgentEvent("agent.cancelled"),
    "userinputrequired": AgentEvent("approval.request", "approval"),
}
# events.md, "Decision map".
DECISIONS: Final[dict[str, str]] = {
    "allow": "allow",
    "continue": "allow",
    "skip": "allow",
    "deny": "deny",
    "block": "deny",
    "ask": "require-approval",
    "escalate": "require-approval",
    "retry": "retryable-failure",
}
