"""The run view of TraceEvents (events.md): which run and step an event belongs to, and what it does to them. Pure."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final, Literal, NamedTuple

from otel_runtime.values.trace import TraceEvent, TraceRef

__all__ = ["Effect", "Outcome", "Seen", "StepKind", "effect_of", "is_counted_only", "nanoseconds", "otel_ids", "see"]

Effect = Literal["running", "completed", "failed", "cancelled"]
Outcome = Literal["completed", "failed", "cancelled", "closed"]
StepKind = Literal["tool", "model", "approval", "agent", "step"]

RUN_IDS: Final = ("agent.run.id", "run.id", "runId")
STEP_IDS: Final = ("step.id", "tool.id", "approval.id", "model.call.id")
_RUNNING: Final = ("output", "progress", "request", "start", "started", "summary", "updated")
_FAILED: Final = ("error", "failed")
_OPENING: Final = (".start", ".started", ".accepted")
# Too many for a span event each: they are counted on their unit.
_COUNTED: Final = ("delta", "heartbeat")
# Names that end a run by themselves. After `invocation.error` the last of them wins; every other failure stays.
_TERMINAL: Final = frozenset(
    {"finish", "agent.run.finish", "invocation.finish", "invocation.error", "run.finish", "run.completed", "run.error", "run.failed"}
)
_OUTCOMES: Final[Mapping[str, Outcome]] = {"completed": "completed", "failed": "failed", "cancelled": "cancelled", "closed": "closed"}
_KIND_BY_ID: Final[Mapping[str, StepKind]] = {"tool.id": "tool", "approval.id": "approval", "model.call.id": "model", "step.id": "step"}
_KIND_BY_NAME: Final[Mapping[str, StepKind]] = {
    "tool": "tool",
    "model": "model",
    "approval": "approval",
    "agent": "agent",
    "subagent": "agent",
}
_TRACE_ID: Final = re.compile(r"(?!0{32})[0-9a-f]{32}")
_SPAN_ID: Final = re.compile(r"(?!0{16})[0-9a-f]{16}")


class Seen(NamedTuple):
    """One event, as the projector acts on it.

    Args:
        run: Run id; None when the event names none.
        step: Step id; None when the event belongs to the run itself.
        kind: What sort of step it is.
        effect: What the event does to its step.
        outcome: Set when the run ends here.
        final: False for a name such as `invocation.error`, after which another terminal event may come.
        failure: True when the run has failed for good, though it may go on.
        session: Session id; None when the event names none.
        parent: Id of the step or run that the event names as its parent; None when it names none.
        opens: True for an event that starts its run.
        announced: True when the source opens each run by a start, exactly once: what comes before it came too early.
    """

    run: str | None
    step: str | None
    kind: StepKind
    effect: Effect
    outcome: Outcome | None = None
    final: bool = True
    failure: bool = False
    session: str | None = None
    parent: str | None = None
    opens: bool = False
    announced: bool = False


def see(event: TraceEvent) -> Seen:
    """How the run view reads one event."""
    facts, name, trace = event.attributes, event.name, event.trace
    run = _first_text(facts, RUN_IDS) or (trace.id if trace else None)
    key, step = None, None
    for known in STEP_IDS:
        if (step := _text(facts, known)) is not None:
            key = known
            break
    effect = effect_of(name)
    return Seen(
        run,
        step,
        _kind(name, key),
        effect,
        None if key else _outcome(event, effect),
        effect != "failed" or "run.outcome" in facts,
        effect == "failed" and _fails_the_run(event, key, effect),
        _text(facts, "session.id"),
        _text(facts, "parent.id") or (trace.parent_id if trace else None),
        key is None and name.endswith(_OPENING) and facts.get("event.often") is not True,
        facts.get("run.announced") is True,
    )


def is_counted_only(event: TraceEvent) -> bool:
    """True for events that come in thousands, such as text deltas."""
    return event.name.rpartition(".")[2] in _COUNTED or event.attributes.get("event.often") is True


def nanoseconds(moment: object) -> int | None:
    """Nanoseconds since 1970 of a datetime, a naive one taken as UTC; None for anything else, or a time before 1970."""
    if not isinstance(moment, datetime):
        return None
    aware = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
    since = aware - datetime(1970, 1, 1, tzinfo=UTC)
    # In whole numbers: a float second has no room for microseconds of this century.
    whole = (since.days * 86_400 + since.seconds) * 1_000_000_000 + since.microseconds * 1_000
    return whole if whole > 0 else None


def otel_ids(trace: TraceRef) -> tuple[int, int]:
    """Trace id and parent span id; valid hex is kept, anything else is hashed with SHA-256, a missing parent too."""
    trace_id = trace.id.lower() if _TRACE_ID.fullmatch(trace.id.lower()) else _hashed(f"trace:{trace.id}", 32)
    parent = trace.parent_id or ""
    span_id = parent.lower() if _SPAN_ID.fullmatch(parent.lower()) else _hashed(f"span:{trace.id}:{parent}", 16)
    return int(trace_id, 16), int(span_id, 16)


def _hashed(text: str, digits: int) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:digits]


@lru_cache(maxsize=1024)
def effect_of(name: str) -> Effect:
    """What an event of that name does to its step."""
    ending = name.rpartition(".")[2]
    if ending in _FAILED:
        return "failed"
    if ending == "cancelled":
        return "cancelled"
    return "running" if ending in _RUNNING or ending in _COUNTED else "completed"


def _outcome(event: TraceEvent, effect: Effect) -> Outcome | None:
    told = event.attributes.get("run.outcome")
    if isinstance(told, str) and told in _OUTCOMES:
        return _OUTCOMES[told]
    if event.name not in _TERMINAL or event.attributes.get("run.tentative") is True:
        return None
    return "failed" if effect == "failed" else "completed"


def _fails_the_run(event: TraceEvent, key: str | None, effect: Effect) -> bool:
    facts = event.attributes
    if key or event.name == "invocation.error" or facts.get("run.tentative") is True or facts.get("error.recoverable") is True:
        return False
    # Only what speaks for the run: a failed queue or store of the host is not the agent's failure.
    return effect == "failed" and event.name.partition(".")[0] in ("agent", "invocation", "run", "stream", "turn", "error")


@lru_cache(maxsize=1024)
def _kind(name: str, key: str | None) -> StepKind:
    return _KIND_BY_NAME.get(name.partition(".")[0], _KIND_BY_ID.get(key or "step.id", "step"))


def _first_text(attributes: Mapping[str, object], names: tuple[str, ...]) -> str | None:
    for name in names:
        if (found := _text(attributes, name)) is not None:
            return found
    return None


def _text(attributes: Mapping[str, object], name: str) -> str | None:
    value = attributes.get(name)
    return (value or None) if isinstance(value, str) else None
