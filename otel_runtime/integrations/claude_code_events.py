"""What each of Claude Code's events but the one before a tool means for the trace of its session.

https://code.claude.com/docs/en/hooks lists them. One that is not known here is a moment on the session's trace, so a new one does no harm.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any, Final, Literal, TypeAlias

from otel_runtime.integrations.claude_code_session import Session

__all__ = ["REPLACING", "Write", "agent_of", "call_key", "observe", "tool_name"]

Write: TypeAlias = Literal["no", "soon", "now"]
_Event: TypeAlias = Mapping[str, Any]

# A command at one of these does the work in the host's place: it must print the folder it made, or the host has none.
REPLACING: Final = frozenset({"WorktreeCreate", "WorktreeRemove"})
# Once for every piece of text on the screen: they would crowd out everything else.
_SILENT: Final = frozenset({"MessageDisplay"})
# Which field of an event is a word of the host's own; no other field is ever looked at, because it could hold content.
_KINDS: Final[Mapping[str, str]] = {
    "Notification": "notification_type",
    "PreCompact": "trigger",
    "PostCompact": "trigger",
    "ConfigChange": "source",
    "SessionStart": "source",
    "SessionEnd": "reason",
    "Setup": "trigger",
    "InstructionsLoaded": "load_reason",
    "FileChanged": "event",
    "DirectoryAdded": "source",
    "PreModelSwitch": "source",
    "PostModelSwitch": "source",
    "Elicitation": "mode",
    "ElicitationResult": "action",
}
_WORD: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_MODEL: Final = re.compile(r"[A-Za-z0-9_.:/@\[\]-]{1,128}")


def observe(state: Session, name: str, event: _Event, now: int) -> Write:
    """Note an event in its session.

    Args:
        state: The session.
        name: The event's name.
        event: What the host says of it.
        now: Nanoseconds since 1970.

    Returns:
        Whether there are spans to send: `soon`, after the host has its answer, `now`, before the process ends, or not at all.
    """
    if name in _SILENT:
        return "no"
    known = _OBSERVED.get(name)
    if known is not None:
        return known(state, event, now)
    _noted(state, name, event, now)
    return "no"


def tool_name(name: str) -> str:
    """The name that policies use: `mcp__server__tool` is `mcp:server:tool`, any other stays as it is."""
    parts = name.split("__", 2)
    return ":".join(parts) if len(parts) == 3 and parts[0] == "mcp" else name


def call_key(event: _Event) -> str:
    """What names one call in all its events; hosts before `tool_use_id` named it by nothing but what was called."""
    given = event.get("tool_use_id")
    return (
        given if isinstance(given, str) and given else json.dumps([event.get("tool_name"), event.get("tool_input")], sort_keys=True)[:4096]
    )


def agent_of(event: _Event) -> str:
    """Id of the sub-agent an event happened in; empty in the main one."""
    given = event.get("agent_id")
    return given if isinstance(given, str) else ""


def _word(value: object, shape: re.Pattern[str] = _WORD) -> str:
    return value if isinstance(value, str) and shape.fullmatch(value) else ""


def _noted(state: Session, name: str, event: _Event, now: int) -> None:
    tool = event.get("tool_name")
    facts = {"kind": _word(event.get(_KINDS.get(name, ""))), "tool": tool_name(tool) if isinstance(tool, str) else ""}
    state.note(name[:128], now, **{key: value for key, value in facts.items() if value})


def _session_start(state: Session, event: _Event, now: int) -> Write:
    state.model = _word(event.get("model"), _MODEL) or state.model
    _noted(state, "SessionStart", event, now)
    return "no"


def _model_switch(state: Session, event: _Event, now: int) -> Write:
    state.model = _word(event.get("to_model"), _MODEL) or state.model
    _noted(state, "PostModelSwitch", event, now)
    return "no"


def _session_end(state: Session, event: _Event, now: int) -> Write:
    _noted(state, "SessionEnd", event, now)
    state.end(now)
    return "now"


def _prompt(state: Session, _: _Event, now: int) -> Write:
    state.start_turn(now)
    return "no"


def _stop(state: Session, _: _Event, now: int) -> Write:
    state.end_turn(now)
    return "now"


def _stop_failure(state: Session, event: _Event, now: int) -> Write:
    state.end_turn(now, error=_word(event.get("error")) or "stop_failure")
    return "now"


def _after_tool(state: Session, event: _Event, now: int) -> Write:
    state.end_tool(call_key(event), _tool(event), now, took=_took(event), agent=agent_of(event))
    return "soon"


def _after_failure(state: Session, event: _Event, now: int) -> Write:
    how: dict[str, object] = {"outcome": "cancelled"} if event.get("is_interrupt") is True else {"error": "tool_error"}
    state.end_tool(call_key(event), _tool(event), now, took=_took(event), agent=agent_of(event), **how)
    return "soon"


def _denied_by_host(state: Session, event: _Event, now: int) -> Write:
    unsaid = {"rule": None, "place": None, "reason": None}
    state.refuse_tool(call_key(event), _tool(event), now, agent_of(event), decision="deny", code="host.permission", **unsaid)
    return "soon"


def _subagent_start(state: Session, event: _Event, now: int) -> Write:
    if agent_of(event):
        state.start_agent(agent_of(event), _agent_name(event), now)
    return "no"


def _subagent_stop(state: Session, event: _Event, now: int) -> Write:
    if not agent_of(event):
        # Hosts of before 2.0.42 did not say which one.
        _noted(state, "SubagentStop", event, now)
        return "no"
    state.end_agent(agent_of(event), _agent_name(event), now)
    return "soon"


def _tool(event: _Event) -> str:
    return tool_name(str(event.get("tool_name")))


def _agent_name(event: _Event) -> str:
    given = event.get("agent_type")
    return given[:128] if isinstance(given, str) and given else "subagent"


def _took(event: _Event) -> int | None:
    """Nanoseconds that the tool itself ran; None where the host does not say."""
    given = event.get("duration_ms")
    return int(given * 1_000_000) if isinstance(given, int | float) and not isinstance(given, bool) and 0 <= given < 1e10 else None


_OBSERVED: Final[Mapping[str, Callable[[Session, _Event, int], Write]]] = {
    "SessionStart": _session_start,
    "SessionEnd": _session_end,
    "UserPromptSubmit": _prompt,
    "Stop": _stop,
    "StopFailure": _stop_failure,
    "PostToolUse": _after_tool,
    "PostToolUseFailure": _after_failure,
    "PermissionDenied": _denied_by_host,
    "SubagentStart": _subagent_start,
    "SubagentStop": _subagent_stop,
    "PostModelSwitch": _model_switch,
}
