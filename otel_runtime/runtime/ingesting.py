"""Foreign event streams into hooks, spans, approvals and the record of decisions."""

from __future__ import annotations

import asyncio
import inspect
import logging
import time
from collections.abc import AsyncIterable, Awaitable, Coroutine, Iterable
from dataclasses import replace
from typing import Any, Final, Literal, Self, cast

from otel_runtime.approvals.protocol import Approvals, Ask, Claim
from otel_runtime.errors import RuntimeStateError
from otel_runtime.sources.asking import Asking, Question, Responder, Verdict
from otel_runtime.sources.protocol import Source
from otel_runtime.sources.registry import source as source_named
from otel_runtime.values.action import Action
from otel_runtime.values.decision import ApprovalTerms, Decision, Requirement
from otel_runtime.values.digest import call_digest
from otel_runtime.values.host import HostContext
from otel_runtime.values.snapshot import snapshot_arguments
from otel_runtime.values.trace import TraceEvent
from otel_runtime.wrap.active import Active, current_active

__all__ = ["Feed", "aingest", "aingest_into", "feed", "ingest", "ingest_into"]

# Says that nothing more comes of a stream, so that nothing waits for it any longer.
_ENDED: Final = TraceEvent("stream.ended", "lifecycle", attributes={"stream.ended": True})
_POLL_S: Final = 30.0
_log = logging.getLogger("otel_runtime.sources")


def ingest(events: Iterable[object], *, source: str, respond: Responder | None = None) -> int:
    """Turn a foreign stream of events into spans of the runtime in force.

    Args:
        events: Raw events, in order.
        source: `vitehub`, `a3s` or `dreadnode`.
        respond: Hands an answer given here back to the system that asked; None leaves its questions to itself.

    Returns:
        How many events were read.

    Raises:
        ConfigError: The source is unknown.
        RuntimeStateError: No runtime is configured.
    """
    return ingest_into(_active(), events, source, respond=respond)


async def aingest(events: AsyncIterable[object], *, source: str, respond: Responder | None = None) -> int:
    """`ingest` for asynchronous streams.

    Raises:
        ConfigError: The source is unknown.
        RuntimeStateError: No runtime is configured.
    """
    return await aingest_into(_active(), events, source, respond=respond)


def feed(*, source: str, stream: str | None = None, respond: Responder | None = None) -> Feed:
    """Somewhere to push events one by one, for handlers and callbacks.

    Args:
        source: `vitehub`, `a3s` or `dreadnode`.
        stream: Tells the runs of this stream from those of others where events name none; None makes a random one.
        respond: As for `ingest`.

    Raises:
        ConfigError: The source is unknown.
        RuntimeStateError: No runtime is configured.
    """
    return Feed(_active(), source, stream, respond)


def ingest_into(active: Active, events: Iterable[object], source: str, *, respond: Responder | None = None) -> int:
    """`ingest` for one runtime's parts."""
    with Feed(active, source, None, respond) as into:
        for raw in events:
            into.push(raw)
    return into.count


async def aingest_into(active: Active, events: AsyncIterable[object], source: str, *, respond: Responder | None = None) -> int:
    """`aingest` for one runtime's parts."""
    with Feed(active, source, None, respond) as into:
        async for raw in events:
            into.push(raw)
    return into.count


class Feed:
    """One open stream of foreign events.

    Args:
        active: The runtime's parts.
        source: Vocabulary.
        stream: Id of the stream; None makes a random one.
        respond: Hands answers back; may be asynchronous, and then runs on the event loop that made this feed, if there was one.
    """

    def __init__(self, active: Active, source: str, stream: str | None = None, respond: Responder | None = None) -> None:
        self._active = active
        self._source: Source = source_named(source, stream)
        self._asking: Asking | None = None
        if respond is not None and active.guard is not None:
            self._asking = Asking(_ApprovalsDesk(active.guard.approvals, source), _on_its_loop(respond))
        elif respond is not None:
            _log.warning("no policy is configured, so there is no store for the questions of `%s`; they are answered there only", source)
        self.count: int = 0

    def __enter__(self) -> Self:
        """The feed itself."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Close it."""
        self.close()

    def push(self, raw: object) -> None:
        """Take one raw event. Never raises: what cannot be read is counted and reported when the feed is closed."""
        self.count += 1
        active = self._active
        for event in self._source.translate(raw):
            if active.hooks.wants("trace"):
                session = event.attributes.get("session.id")
                known = session if isinstance(session, str) else None
                active.hooks.trace(event, HostContext(runtime=active.name, session=known, wait_until=active.wait_until, trace=event.trace))
            active.tracing.observe(event)
            if event.type == "policy" and active.guard is not None:
                _record_decision(active, event)
            if self._asking is not None:
                self._asking.observe(event)

    def close(self) -> None:
        """Nothing more comes: what waited for an earlier event is projected as it is, questions are withdrawn."""
        self._active.tracing.observe(_ENDED)
        if self._asking is not None:
            self._asking.close()
        if self._source.malformed:
            reasons = ", ".join(f"{reason}: {count}" for reason, count in sorted(self._source.malformed.items()))
            _log.warning("events of `%s` that could not be read: %s", self._source.name, reasons)


class _ApprovalsDesk:
    """The durable store as a desk for foreign questions."""

    def __init__(self, approvals: Approvals, source: str) -> None:
        self._approvals = approvals
        self._rule = f"events:{source}"
        self._digests: dict[str, tuple[str, str]] = {}

    def open(self, question: Question) -> str:
        arguments, _ = snapshot_arguments(dict(question.arguments))
        action = Action(
            "tool", question.tool or question.kind, arguments, session=question.session, run=question.run, call_id=question.call_id
        )
        terms = ApprovalTerms((Requirement(self._rule, ("anyone",)),), question.timeout_s)
        decision = Decision("require-approval", f"{question.source} asks for {question.kind}", "events.asked", self._rule, approval=terms)
        key = f"{self._rule}:{question.session or question.run}:{question.id}"
        digest = call_digest(action)
        request, _ = self._approvals.open(Ask(action, decision, digest, key, explicit_call=True, trace=question.trace))
        self._digests[request.id] = digest, request.requirement_digest
        return request.id

    def wait(self, request_id: str, timeout_s: float) -> Verdict | None:
        deadline = time.monotonic() + timeout_s
        while (left := deadline - time.monotonic()) > 0:
            state = self._approvals.wait(request_id, min(left, _POLL_S)).state
            if state != "awaiting-approval":
                return state if state in ("approved", "denied") else None
        return None

    def claim(self, request_id: str) -> bool:
        digest, terms = self._digests[request_id]
        return isinstance(self._approvals.claim(request_id, digest, terms), Claim)

    def finish(self, request_id: str, *, delivered: bool) -> None:
        outcome: Literal["completed", "failed"] = "completed" if delivered else "failed"
        self._approvals.finish(request_id, outcome)

    def withdraw(self, request_id: str, why: str) -> None:
        self._digests.pop(request_id, None)
        self._approvals.cancel(request_id, why)


def _record_decision(active: Active, event: TraceEvent) -> None:
    """A refusal of a foreign system goes into the audit, as its own and not as ours; the disk is another thread's."""
    facts = event.attributes
    value = facts.get("policy.decision")
    if value not in ("deny", "require-approval", "retryable-failure") or active.guard is None:
        return
    texts = {key: found for key, found in facts.items() if isinstance(found, str)}
    action = Action("tool", texts.get("tool.name", ""), registered=False, session=texts.get("session.id"), run=texts.get("run.id"))
    action = replace(action, call_id=texts.get("tool.call_id"))
    source = texts.get("event.source", "")
    decision = Decision(cast("Any", value), texts.get("policy.reason", ""), f"events.{source}")  # Any: checked above
    recorder = active.guard.decisions

    def record() -> None:
        try:
            recorder.record(action, decision, event.trace)
        except Exception as error:  # noqa: BLE001  # it was decided elsewhere and stands, whether or not it can be kept here
            _log.warning("a decision of `%s` could not be recorded: %s", source, error)

    active.later(record)


def _on_its_loop(respond: Responder) -> Responder:
    """A responder that may be asynchronous, as one that blocks its own thread."""
    try:
        loop: asyncio.AbstractEventLoop | None = asyncio.get_running_loop()
    except RuntimeError:
        loop = None

    def deliver(question: Question, verdict: Verdict) -> object:
        result = respond(question, verdict)
        if not inspect.isawaitable(result):
            return result
        waiting = _wait(result)
        if loop is not None and loop.is_running():
            return asyncio.run_coroutine_threadsafe(waiting, loop).result(_POLL_S)
        return asyncio.run(waiting)

    return deliver


def _wait(result: Awaitable[object]) -> Coroutine[Any, Any, object]:
    async def wait() -> object:
        return await result

    return wait()


def _active() -> Active:
    active = current_active()
    if not isinstance(active, Active):
        raise RuntimeStateError("no runtime is configured to take events; call `otel_runtime.configure()` at start")
    return active
