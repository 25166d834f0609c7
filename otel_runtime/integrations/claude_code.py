"""Claude Code's hooks: decide what its tools may do, and trace its sessions.

https://code.claude.com/docs/en/hooks: the host starts a process per event, hands it one JSON object on standard input and reads JSON from
its standard output. Exit code 2 blocks the event and shows standard error; any other code but 0 is an error that blocks nothing.

Rules
- Before a tool, whatever goes wrong here blocks it. At any other event nothing of ours stops the host.
- Heavy modules are imported where a decision or a span is made, never before: the host waits for every event.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from otel_runtime.errors import OtelRuntimeError
from otel_runtime.integrations.claude_code_events import REPLACING, Write, agent_of, call_key, observe, tool_name
from otel_runtime.integrations.claude_code_session import Closed, Sessions, new_span_id

if TYPE_CHECKING:
    from otel_runtime.integrations.claude_code_rules import Rules
    from otel_runtime.settings.model import Settings
    from otel_runtime.values.action import Action
    from otel_runtime.values.decision import Decision

__all__ = ["Answer", "Hooks"]

_AGENT = "claude-code"
_BLOCKS = 2


@dataclass(frozen=True, slots=True)
class Answer:
    """What the process says to its host.

    Args:
        out: Standard output: JSON, or nothing for no opinion.
        err: Standard error.
        code: Exit code; 2 blocks.
        session: Session whose spans can be written now; empty when there are none.
        write: `soon` after the host has its answer, `now` before the process ends, or not at all.
    """

    out: str = ""
    err: str = ""
    code: int = 0
    session: str = ""
    write: Write = "no"


class Hooks:
    """Answers the events of one project.

    Args:
        sessions: Where sessions are kept.
        load: Reads the project's settings; called only when they are needed.
        rules: Gives the rules for a tool's name, as policies name it.
        defer_allow: True leaves a call that the policy allows to the host's own permissions, instead of letting it run without a question.
        clock: Nanoseconds since 1970.
    """

    def __init__(
        self,
        sessions: Sessions,
        load: Callable[[], Settings],
        rules: Callable[[str], Rules],
        *,
        defer_allow: bool = False,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        self._sessions = sessions
        self._load = load
        self._rules = rules
        self._defer_allow = defer_allow
        self._clock = clock

    def answer(self, raw: bytes) -> Answer:
        """Answer one event. Never raises."""
        try:
            event = _event(raw)
        except ValueError as error:
            # It cannot be said which event this was: it may have been a tool's.
            return Answer(err=f"otel-runtime: {error}; the call was blocked", code=_BLOCKS)
        name = event["hook_event_name"]
        if name == "PreToolUse":
            return self._guarded(event)
        try:
            return self._observed(name, event)
        except Exception as error:  # noqa: BLE001  # telemetry fails open: the host goes on
            return Answer(err=f"otel-runtime: the event `{name}` was not traced: {error}")

    def write(self, session: str) -> bool:
        """Send the spans of a session that are finished; False when they did not all leave."""
        with self._sessions.opened(session, self._clock()) as state:
            spans = state.take()
        if state.turn is None and not state.open and not state.agents and any(span.kind == "session" for span in spans):
            self._sessions.forget(session)
        if not spans:
            return True
        from otel_runtime.integrations.claude_code_spans import write_spans

        return write_spans(self._load(), session, state.trace, spans)

    def _guarded(self, event: Mapping[str, Any]) -> Answer:
        try:
            return self._before_tool(event)
        except OtelRuntimeError as error:
            return _fault(str(error))
        except Exception as error:  # noqa: BLE001  # policy fails closed: any failure is a block
            return _fault(f"the decision failed ({type(error).__name__}: {error})")

    def _before_tool(self, event: Mapping[str, Any]) -> Answer:
        session, tool, args = event["session_id"], event.get("tool_name"), event.get("tool_input")
        if not isinstance(tool, str) or not tool or not isinstance(args, dict):
            raise OtelRuntimeError("expected `tool_name` as text and `tool_input` as an object; is this an event of another version?")
        now = self._clock()
        action, decision = _decided(self._rules(tool_name(tool)), event, tool, args, now)
        facts = _facts(event, decision)
        due = self._note_tool(event, tool_name(tool), now, facts, decision)
        answer = _verdict(action, decision, defer_allow=self._defer_allow)
        return replace(answer, session=session, write="soon") if due else answer

    def _note_tool(self, event: Mapping[str, Any], name: str, now: int, facts: dict[str, object], decision: Decision | None) -> bool:
        """Keep what becomes of a call; True when there is something to send."""
        try:
            with self._sessions.opened(event["session_id"], now) as state:
                if decision is not None and decision.value != "allow":
                    state.close(Closed("policy", name, new_span_id(), state.around(agent_of(event)), now, self._clock(), facts))
                if decision is None or decision.value in ("allow", "require-approval"):
                    state.start_tool(call_key(event), name, now, facts, agent_of(event))
                return decision is not None and decision.value != "allow" and state.due(now)
        except Exception:  # noqa: BLE001  # telemetry fails open: only the trace is poorer for it, the decision stands
            return False

    def _observed(self, name: str, event: Mapping[str, Any]) -> Answer:
        if name in REPLACING:
            return Answer(err=f"otel-runtime: a hook for `{name}` must do the work itself; remove otel-runtime from it")
        session, now = event["session_id"], self._clock()
        if name == "SessionStart":
            self._sessions.prune(now / 1e9)
        with self._sessions.opened(session, now) as state:
            write = observe(state, name, event, now)
            if write == "soon" and not state.due(now):
                write = "no"
        return Answer(session=session, write=write) if write != "no" else Answer()


def _event(raw: bytes) -> dict[str, Any]:
    try:
        event = json.loads(raw)
    except ValueError:
        raise ValueError("expected a hook event as JSON on standard input") from None
    if not isinstance(event, dict):
        raise ValueError(f"expected a hook event as a JSON object, got `{type(event).__name__}`")  # noqa: TRY004  # wrong text, not a wrong call
    for name in ("hook_event_name", "session_id"):
        if not isinstance(event.get(name), str) or not event[name]:
            raise ValueError(f"expected a hook event with `{name}`")
    return event


def _decided(rules: Rules, event: Mapping[str, Any], tool: str, args: Mapping[str, Any], now: int) -> tuple[Action | None, Decision | None]:
    """The decision of the policy; None when there is no policy."""
    if rules.engine is None:
        return None, None
    from otel_runtime.integrations.claude_code_facts import decide_with_facts
    from otel_runtime.runtime.protected import hook_facts
    from otel_runtime.values.action import Action
    from otel_runtime.values.snapshot import snapshot_arguments

    call_id = event.get("tool_use_id")
    action = Action(
        kind="tool",
        name=tool_name(tool),
        args=snapshot_arguments(args)[0],
        agents=_agents(event),
        session=event["session_id"],
        user=_os_user(),
        context=_context(event),
        call_id=call_id if isinstance(call_id, str) else None,
    )
    decision = decide_with_facts(rules.engine, action, datetime.fromtimestamp(now / 1e9, UTC), hook_facts(rules.state)).decision
    if decision.value != "allow" or decision.would_be not in (None, "allow"):
        _record(rules.state, action, decision)
    return action, decision


def _agents(event: Mapping[str, Any]) -> tuple[str, ...]:
    """The chain of callers: the host, and the sub-agent or the agent it was started as."""
    inner = event.get("agent_type")
    return (_AGENT, inner) if isinstance(inner, str) and inner else (_AGENT,)


def _context(event: Mapping[str, Any]) -> dict[str, object]:
    """What a policy may declare under `context`."""
    effort, server = event.get("effort"), event.get("mcp_server")
    given = {name: event.get(name) for name in ("cwd", "permission_mode", "agent_id", "agent_type")}
    given |= {"effort": effort.get("level") if isinstance(effort, dict) else None}
    given |= {"mcp_source": server.get("source") if isinstance(server, dict) else None}
    return {name: value for name, value in given.items() if isinstance(value, str)}


def _record(path: Path, action: Action, decision: Decision) -> None:
    """Keep a refusal in the audit log, as any other runtime does."""
    from otel_runtime.approvals.schema import MIGRATIONS
    from otel_runtime.audit.decisions import DecisionLog
    from otel_runtime.audit.key import load_or_create_key
    from otel_runtime.audit.log import AuditLog
    from otel_runtime.storage.sqlite import Database

    key = load_or_create_key(path)
    database = Database(path, MIGRATIONS, busy_timeout_s=3.0)
    database.open()
    try:
        DecisionLog(database, AuditLog(database, key, lambda: datetime.now(UTC))).record(action, _with_digest(action, decision))
    finally:
        database.close()


def _with_digest(action: Action, decision: Decision) -> Decision:
    from otel_runtime.values.digest import Undigestible, call_digest

    try:
        return replace(decision, input_digest=call_digest(action))
    except Undigestible:
        return decision


def _facts(event: Mapping[str, Any], decision: Decision | None) -> dict[str, object]:
    call_id = event.get("tool_use_id")
    facts: dict[str, object] = {"call_id": call_id} if isinstance(call_id, str) else {}
    if len(_agents(event)) > 1:
        facts["agent"] = _agents(event)[-1]
    if decision is not None:
        facts |= {
            "decision": decision.value,
            "rule": decision.rule,
            "reason": decision.reason,
            "code": decision.code,
            "place": decision.place,
        }
    return facts


def _verdict(action: Action | None, decision: Decision | None, *, defer_allow: bool) -> Answer:
    if action is None or decision is None:
        return Answer()
    if decision.value == "allow":
        # Shadow mode changes nothing, so it lifts no question of the host's either.
        return Answer() if defer_allow or decision.shadow else Answer(out=_permission("allow", _reason(decision)))
    if decision.value == "require-approval":
        return Answer(out=_permission("ask", _reason(decision)))
    return Answer(out=_permission("deny", _refusal(action, decision)))


def _reason(decision: Decision) -> str:
    rule = f" (rule `{decision.rule}`)" if decision.rule else ""
    return f"{decision.reason or decision.code}{rule}"


def _refusal(action: Action, decision: Decision) -> str:
    retry = f"; try again in {decision.retry.after_s:g} s" if decision.retry is not None else ""
    return f"`{action.name}` was denied by policy: {_reason(decision)}{retry}"


def _permission(decision: str, reason: str) -> str:
    specific = {"hookEventName": "PreToolUse", "permissionDecision": decision, "permissionDecisionReason": reason}
    return json.dumps({"hookSpecificOutput": specific})


def _fault(reason: str) -> Answer:
    return Answer(err=f"otel-runtime blocked the call because it could not decide: {reason}", code=_BLOCKS)


def _os_user() -> str:
    # The user database, never $USER: a variable is typed by whoever starts the program.
    import os
    import pwd

    try:
        return f"os:{pwd.getpwuid(os.getuid()).pw_name}"
    except KeyError:
        return f"os:uid-{os.getuid()}"
