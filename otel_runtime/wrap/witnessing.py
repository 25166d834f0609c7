"""Tell the facts store where values were seen, when a rule asks for their origin (policy.md, `origin`).

Only the person's words are `user`: the outermost agent's input and `session.user_said`. What a model wrote for a sub-agent never is.
Failures are refusals later, not errors now: a value that was not noted counts as unseen.
"""

from __future__ import annotations

import logging

from otel_runtime.values.snapshot import snapshot_arguments
from otel_runtime.wrap.active import Active, current_active
from otel_runtime.wrap.call import Call

__all__ = ["saw_config", "saw_input", "saw_result", "saw_words"]

_log = logging.getLogger("otel_runtime.wrap")


def saw_input(call: Call) -> None:
    """Note the outermost agent's arguments as the person's words."""
    if call.plan.kind != "agent" or call.scope.agents:
        return
    try:
        arguments = call.arguments()
    except TypeError:
        return  # the call itself will say what is wrong with it
    _saw(call.active, call.scope.session, "user", snapshot_arguments(arguments)[0])


def saw_result(call: Call, result: object) -> None:
    """Note what a tool gave back."""
    if call.plan.kind == "tool":
        _saw(call.active, call.scope.session, f"tool:{call.name}", snapshot_arguments({"result": result})[0])


def saw_words(session: str, text: str) -> None:
    """Note what the person said."""
    _saw_here(session, "user", text)


def saw_config(session: str, facts: dict[str, object]) -> None:
    """Note what the application supplied."""
    _saw_here(session, "config", snapshot_arguments(facts)[0])


def _saw_here(session: str, source: str, value: object) -> None:
    active = current_active()
    if isinstance(active, Active):
        _saw(active, session, source, value)


def _saw(active: Active, session: str | None, source: str, value: object) -> None:
    witness = active.guard.witness if active.guard is not None else None
    if witness is None or session is None:
        return
    try:
        witness.saw(session, source, value)
    except Exception:  # noqa: BLE001  # a value that was not noted counts as unseen, which no rule takes for trusted
        _log.exception("what `%s` showed to session `%s` could not be noted", source, session)
