"""Tell the facts store where values were seen, when a rule asks for their origin (policy.md, `origin`).

Only the person's words are `user`: the outermost agent's input and `session.user_said`. What a model wrote never is, whether it is a
sub-agent's input or that of an agent which a tool runs. A result that cannot be read makes its tool a source of which nothing can be told.
Failures are refusals later, not errors now: a value that was not noted counts as unseen.
"""

from __future__ import annotations

import logging

from otel_runtime.telemetry.protocol import NOTHING
from otel_runtime.values.action import Unreadable
from otel_runtime.values.snapshot import snapshot_arguments, type_name
from otel_runtime.wrap.active import Active, current_active
from otel_runtime.wrap.call import Call

__all__ = ["saw_config", "saw_input", "saw_result", "saw_words"]

_log = logging.getLogger("otel_runtime.wrap")
# Kinds whose calls a model asks for: what runs inside them was not said by a person.
_BY_A_MODEL = frozenset({"agent", "model", "tool"})
# What was handed out piece by piece, or not said at all: it may have held anything.
_PIECES = Unreadable("pieces", "type")


def saw_input(call: Call) -> None:
    """Note the outermost agent's arguments as the person's words."""
    if call.plan.kind != "agent" or call.scope.agents or not _watches(call.active) or _inside_a_model(call):
        return
    try:
        arguments = call.arguments()
    except TypeError:
        return  # the call itself will say what is wrong with it
    _saw(call.active, (call.scope.session,), "user", list(snapshot_arguments(arguments, call.plan.options.opaque)[0].values()))


def saw_result(call: Call, result: object, error: BaseException | None = None) -> None:
    """Note what a tool gave back, or what its error says: a model reads both.

    Args:
        call: The call that ended.
        result: Its result; `NOTHING` when it was handed out piece by piece, and then nobody knows what it said.
        error: What it raised instead.
    """
    if call.plan.kind != "tool" or not _watches(call.active):
        return
    if error is None and result is not NOTHING:
        said = snapshot_arguments({"result": result})[0]["result"]
    else:
        pieces = error is None or issubclass(type(error), GeneratorExit) or call.plan.function_kind not in ("sync", "async")
        said = [_words_of(error), _PIECES if pieces else None]
    _saw(call.active, (call.scope.session, *call.scope.around), f"tool:{call.name}", said)


def saw_words(session: str, text: str) -> None:
    """Note what the person said."""
    active = _watching_here()
    if active is not None:
        _saw(active, (session,), "user", text)


def saw_config(session: str, facts: dict[str, object]) -> None:
    """Note what the application supplied; it is not even looked at where no rule asks."""
    active = _watching_here()
    if active is not None:
        _saw(active, (session,), "config", snapshot_arguments(facts)[0])


def _inside_a_model(call: Call) -> bool:
    operation = call.scope.operation
    while operation is not None:
        if operation.plan.kind in _BY_A_MODEL:
            return True
        operation = operation.scope.operation
    return False


def _words_of(error: BaseException | None) -> object:
    if error is None:
        return None
    try:
        return str(error)
    except Exception:  # noqa: BLE001  # the error's own code failed: what it would have said is not known
        return Unreadable(type_name(error), "type")


def _watches(active: Active) -> bool:
    return active.guard is not None and active.guard.witness is not None


def _watching_here() -> Active | None:
    active = current_active()
    return active if isinstance(active, Active) and _watches(active) else None


def _saw(active: Active, sessions: tuple[str | None, ...], source: str, value: object) -> None:
    witness = active.guard.witness if active.guard is not None else None
    if witness is None:
        return
    for session in sessions:
        if session is None:
            continue
        try:
            witness.saw(session, source, value)
        except Exception:  # noqa: BLE001  # a value that was not noted counts as unseen, which no rule takes for trusted
            _log.exception("what `%s` showed to session `%s` could not be noted", source, session)
