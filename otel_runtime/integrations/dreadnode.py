"""Dreadnode: a worker that hands a runtime's events over, and an answerer of its prompts.

    from otel_runtime.integrations.dreadnode import worker

    worker = worker()          # in a module of a capability's workers/, or `worker().run()` as a program of its own

The worker subscribes to all thirteen kinds. With `answers=True` questions are put to people here, with `decide=True` our policy is asked
first; what comes of it is sent with `send_permission_response` or `send_human_input_response`. `follow` reads an event bus in the same
process without a worker.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final, Protocol

from otel_runtime.errors import RuntimeStateError
from otel_runtime.runtime.ingesting import Feed, feed
from otel_runtime.sources.asking import Question, Responder, Verdict
from otel_runtime.sources.dreadnode import KINDS

__all__ = ["EVENT_KINDS", "Client", "follow", "responder", "worker"]

EVENT_KINDS: Final[tuple[str, ...]] = (*KINDS, "turn.event")
_FIELDS: Final = ("kind", "session_id", "turn_id", "event_id", "seq", "timestamp", "terminal", "replay", "payload")
# What a bus keeps for us while we are busy; it drops a subscriber whose queue is full.
_QUEUE: Final = 65_536
# As the permission bridge of that runtime words its question.
_ALLOW, _DENY = "Allow", "Deny"
_log = logging.getLogger("otel_runtime.integrations")


class Client(Protocol):
    """What is used of a RuntimeClient."""

    async def send_permission_response(self, session_id: str, request_id: str, decision: str) -> None:
        """Answer a permission request."""
        ...

    # Any, here and below: the package's own classes, which ship without complete types.
    async def send_human_input_response(self, session_id: str, response: Any) -> None:
        """Answer a prompt."""
        ...


def worker(name: str | None = "otel-runtime", *, answers: bool = False, decide: bool = False) -> Any:
    """A Worker whose subscriptions feed the runtime that is configured when it starts.

    Args:
        name: Its name, as the capability's manifest has it; None leaves it to the manifest.
        answers: True puts permission requests to people here and sends their answers back.
        decide: True asks our policy first; it implies `answers`.

    Raises:
        RuntimeStateError: The package is not installed.
    """
    try:
        from dreadnode.capabilities.worker import Worker
    except ImportError as missing:
        raise RuntimeStateError("the package `dreadnode` is not installed here; `pip install dreadnode`") from missing
    made: Any = Worker(name=name)
    into: list[Feed] = []

    async def start(client: Client) -> None:
        asked = answers or decide
        into.append(feed(source="dreadnode", respond=responder(client) if asked else None, decide=decide))

    async def stop(_: Client) -> None:
        while into:
            await into.pop().aclose()

    async def take(event: Any, _: Client) -> None:
        # No await: handlers run as tasks, and those of one session must not overtake one another.
        if into:
            into[0].push(_plain(event))

    made.on_startup(start)
    made.on_shutdown(stop)
    for kind in EVENT_KINDS:
        made.on_event(kind)(take)
    return made


@asynccontextmanager
async def follow(bus: Any, *, respond: Responder | None = None, decide: bool = False) -> AsyncIterator[Feed]:
    """Read everything an EventBus of this process publishes, for as long as the block lasts.

    Args:
        bus: The `EventBus`.
        respond: As for `otel_runtime.feed`.
        decide: As for `otel_runtime.feed`.
    """
    subscription = await bus.subscribe(include_runtime=True, queue_maxsize=_QUEUE)
    into = feed(source="dreadnode", respond=respond, decide=decide)

    async def read() -> None:
        while True:
            into.push(_plain(await subscription.queue.get()))

    reading = asyncio.create_task(read(), name="otel-runtime-dreadnode")
    try:
        yield into
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        await bus.unsubscribe(subscription)
        while not subscription.queue.empty():
            into.push(_plain(subscription.queue.get_nowait()))
        await into.aclose()


def responder(client: Client) -> Responder:
    """Hands our answers to that system's permission requests and tool approvals back through a client.

    Args:
        client: The RuntimeClient that a worker is given, or one of your own.
    """

    async def respond(question: Question, verdict: Verdict) -> None:
        approved, session = verdict == "approved", question.session or ""
        if question.asked_as != "userinputrequired":
            await client.send_permission_response(session, question.id, "allow" if approved else "deny")
            return
        # A tool approval is a prompt there, answered by the label that was picked; other prompts want words, which we have none of.
        if question.kind == "permission":
            await client.send_human_input_response(session, _picked(question.id, _ALLOW if approved else _DENY))
        elif not approved:
            await client.send_human_input_response(session, _cancelled(question.id))
        else:
            _log.warning("`%s` wants words, and an approval has none; answer it in the runtime itself", question.id)

    return respond


def _plain(event: Any) -> Mapping[str, object]:
    """An envelope as the source reads it; its payload is not copied."""
    if isinstance(event, Mapping):
        return event
    return {name: getattr(event, name, None) for name in _FIELDS}


def _picked(request_id: str, label: str) -> Any:
    from dreadnode.app.api.models import HumanInputResponse, QuestionAnswer

    return HumanInputResponse(request_id=request_id, action="submit", answers=[QuestionAnswer(selected_labels=[label])])


def _cancelled(request_id: str) -> Any:
    from dreadnode.app.api.models import HumanInputResponse

    return HumanInputResponse(request_id=request_id, action="cancel")
