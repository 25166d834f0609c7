"""a3s: event objects of the `a3s-code` Python SDK, and answers to its confirmations.

    from otel_runtime.integrations.a3s import watch

    for event in watch(session.stream("Refactor this module"), session=session):
        ...                              # the SDK's own events, untouched

Events are read as the SDK gives them: objects (`event_type`, fields, and the rest as JSON in `data`), mappings in either spelling, and the
records of `session.run_events(run_id)`. With `respond=` or `decide=True` its confirmations are answered here.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Mapping
from typing import Any, Final, Protocol, TypeVar

from otel_runtime.runtime.ingesting import Feed, feed
from otel_runtime.sources.asking import Question, Responder, Verdict

__all__ = ["Confirmations", "awatch", "responder", "watch", "wire"]

# Any: events are objects of the SDK, which has no types.
E = TypeVar("E")

# Attribute of the object -> field on the wire; those of a tool are spelled differently in events of the tool itself.
_FIELDS: Final[Mapping[str, str]] = {"prompt": "prompt", "text": "text", "error": "message", "turn": "turn", "exit_code": "exit_code"}
_OF_A_TOOL: Final[Mapping[str, str]] = {"tool_id": "id", "tool_name": "name", "tool_output": "output"}
_ABOUT_A_TOOL: Final[Mapping[str, str]] = {"tool_id": "tool_id", "tool_name": "tool_name"}
# What the object calls `text` is `delta` on the wire for these.
_DELTAS: Final = frozenset({"tool_input_delta", "tool_output_delta"})
_DATA_LIMIT: Final = 1 << 20


class Confirmations(Protocol):
    """What is used of a session to answer its confirmations."""

    def confirm_tool_use(self, tool_id: str, approved: bool, reason: str | None = None) -> object:
        """Resolve a pending confirmation."""
        ...


def watch(
    events: Iterable[E], *, session: object = None, into: Feed | None = None, respond: Responder | None = None, decide: bool = False
) -> Iterator[E]:
    """The same events, each handed to the runtime before it is handed on.

    Args:
        events: Such as `session.stream(prompt)`.
        session: The session, for its id; its confirmations are answered through it when `decide` is True and `respond` is left out.
        into: A feed to use and leave open; None opens one and closes it at the end.
        respond: As for `otel_runtime.feed`.
        decide: As for `otel_runtime.feed`.
    """
    target, name = _feed(session, respond, decide=decide) if into is None else into, _id_of(session)
    try:
        for event in events:
            target.push(wire(event, session=name))
            yield event
    finally:
        if into is None:
            target.close()


async def awatch(
    events: AsyncIterable[E], *, session: object = None, into: Feed | None = None, respond: Responder | None = None, decide: bool = False
) -> AsyncIterator[E]:
    """`watch` for asynchronous streams."""
    target, name = _feed(session, respond, decide=decide) if into is None else into, _id_of(session)
    try:
        async for event in events:
            target.push(wire(event, session=name))
            yield event
    finally:
        if into is None:
            await target.aclose()


def wire(event: object, *, session: str | None = None) -> Mapping[str, object]:
    """One event as it is on the wire, with what the subscription knows beside it. Never raises.

    Args:
        event: An event object, a mapping in either spelling, or a record of `run_events`.
        session: Id of the session.
    """
    try:
        found = _record(event) if isinstance(event, Mapping) else _object(event)
    except Exception:  # noqa: BLE001  # a hostile object is the stream's problem, not the agent's; the source counts it
        return {"type": ""}
    if session is not None and "session_id" not in found:
        found["session_id"] = session
    return found


def responder(session: Confirmations) -> Responder:
    """Hands our answers to a session's confirmations back.

    Args:
        session: The session whose tools wait.
    """

    def respond(question: Question, verdict: Verdict) -> None:
        reason = question.decision.reason if question.decision is not None else None
        session.confirm_tool_use(question.id, verdict == "approved", reason)

    return respond


def _feed(session: Any, respond: Responder | None, *, decide: bool) -> Feed:
    if respond is None and decide and hasattr(session, "confirm_tool_use"):
        respond = responder(session)
    return feed(source="a3s", respond=respond, decide=decide)


def _id_of(session: object) -> str | None:
    found = getattr(session, "session_id", None)
    found = found() if callable(found) else found
    return found if isinstance(found, str) and found else None


def _record(event: Mapping[Any, object]) -> dict[str, object]:
    inner = event.get("event")
    if not isinstance(inner, Mapping):
        return {key: value for key, value in event.items() if isinstance(key, str)}
    found: dict[str, object] = {key: value for key, value in inner.items() if isinstance(key, str)}
    if "timestamp_ms" in event:
        found["timestamp"] = event["timestamp_ms"]
    if "sequence" in event:
        found["seq"] = event["sequence"]
    return found


def _object(event: object) -> dict[str, object]:
    kind = getattr(event, "event_type", None) or getattr(event, "type", None)
    found: dict[str, object] = {"type": kind}
    if kind in _DELTAS:
        found["delta"] = getattr(event, "text", None)
    names = _OF_A_TOOL if isinstance(kind, str) and kind.startswith("tool_") else _ABOUT_A_TOOL
    for attribute, field in (*_FIELDS.items(), *names.items()):
        value = getattr(event, attribute, None)
        if value is not None and not (attribute == "text" and kind in _DELTAS):
            found[field] = value
    data = getattr(event, "data", None)
    if isinstance(data, str) and len(data) <= _DATA_LIMIT:
        found = {**_told(data), **found}
    total = getattr(event, "total_tokens", None)
    if total is not None and "usage" not in found:
        found["usage"] = {"total_tokens": total}
    return found


def _told(data: str) -> dict[str, object]:
    """What the event's own JSON says; nothing when it cannot be read, for the attributes say what happened without it."""
    try:
        more = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    return more if isinstance(more, dict) else {}
