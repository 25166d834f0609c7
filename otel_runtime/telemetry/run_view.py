"""The run view of TraceEvents (events.md): which run and step an event belongs to, and what it does to them. Pure."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final, Literal, NamedTuple

from otel_runtime.values.trace import TraceEvent, TraceRef

__all__ = ["Effect", "Named", "Outcome", "Seen", "StepKind", "named", "nanoseconds", "otel_ids", "see"]

Effect = Literal["running", "completed", "failed", "cancelled"]
Outcome = Literal["completed", "failed", "cancelled", "closed"]
StepKind = Literal["tool", "model", "approval", "agent", "step"]

_RUN_IDS: Final = ("agent.run.id", "run.id", "runId")
_STEP_IDS: Final[tuple[tuple[str, StepKind], ...]] = (
    ("step.id", "step"),
    ("tool.id", "tool"),
    ("approval.id", "approval"),
    ("model.call.id", "model"),
)
_RUNNING: Final = ("output", "progress", "request", "start", "started", "summary", "updated")
_FAILED: Final = ("error", "failed")
_OPENING: Final = (".start", ".started", ".accepted")
# Too many for a span event each: they are counted on their unit.
_COUNTED: Final = ("delta", "heartbeat")
# Names that end a run by themselves. After `invocation.error` the last of them wins; every other failure stays.
_TERMINAL: Final = frozenset({"finish", "invocation.finish", "invocation.error", "run.finish", "run.completed", "run.error", "run.failed"})
_OUTCOMES: Final[Mapping[str, Outcome]] = {"completed": "completed", "failed": "failed", "cancelled": "cancelled", "closed": "closed"}
_KIND_BY_NAME: Final[Mapping[str, StepKind]] = {
    "tool": "tool",
    "model": "model",
    "approval": "approval",
    "agent": "agent",
    "subagent": "agent",
}
# Only what speaks for the run fails it: a failed queue or store of the host is not the agent's failure.
_SPEAKS_FOR_THE_RUN: Final = frozenset({"agent", "invocation", "run", "stream", "turn", "error"})
_new: Final = tuple.__new__
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
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
        often: True for events that come in thousands, such as text deltas: they are counted only.
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
    often: bool = False


class Named(NamedTuple):
    """What an event's name alone says.

    Args:
        effect: What the event does to its step.
        often: True for names of which thousands come; they are counted only.
        kind: What sort of step it is; None when the kind of its id says.
        opens: True for a name with which a run starts.
        terminal: The outcome with which a run of this name ends; None for any other name.
        fails_run: True for a failure of the run; not `invocation.error`, after which the last terminal event wins.
    """

    effect: Effect
    often: bool
    kind: StepKind | None
    opens: bool
    terminal: Outcome | None
    fails_run: bool


@lru_cache(maxsize=1024)
def named(name: str) -> Named:
    """The name, read; ViteHub says `agent.tool.start` where its page says `tool.start`."""
    stem = name.removeprefix("agent.") if name.count(".") > 1 else name
    first, ending = stem.partition(".")[0], stem.rpartition(".")[2]
    effect: Effect = "running" if ending in _RUNNING or ending in _COUNTED else "completed"
    if ending in _FAILED:
        effect = "failed"
    elif ending == "cancelled":
        effect = "cancelled"
    terminal: Outcome | None = None if stem not in _TERMINAL else "failed" if effect == "failed" else "completed"
    fails_run = effect == "failed" and first in _SPEAKS_FOR_THE_RUN and stem != "invocation.error"
    return Named(effect, ending in _COUNTED, _KIND_BY_NAME.get(first), stem.endswith(_OPENING), terminal, fails_run)


def see(event: TraceEvent) -> Seen:
    """How the run view reads one event."""
    facts, trace = event.attributes, event.trace
    effect, counted, kind, opens, terminal, fails_run = named(event.name)
    run = facts.get("run.id")
    if type(run) is not str or not run or "agent.run.id" in facts:
        run = _first_text(facts, _RUN_IDS) or (trace.id if trace else None)
    often = facts.get("event.often") is True
    by_name, final, failure = effect, True, False
    if event.type == "error" and effect in ("running", "completed") and facts.get("error.recoverable") is not True:
        # As in the run view it comes from: the type says it too.
        effect = "failed"
    outcome: Outcome | None = None
    step: str | None = None
    for known, its_kind in _STEP_IDS:
        if known in facts and isinstance(its_id := facts[known], str) and its_id:
            step, kind, opens = its_id, kind or its_kind, False
            break
    else:
        told, tentative = facts.get("run.outcome"), facts.get("run.tentative") is True
        final = by_name != "failed" or told is not None
        outcome = _OUTCOMES.get(told) if type(told) is str else None
        if outcome is None and not tentative:
            outcome = terminal
        failure = fails_run and not tentative and facts.get("error.recoverable") is not True
        opens = opens and not often
    session = facts.get("session.id")
    session = session if isinstance(session, str) and session else None
    parent = facts.get("parent.id")
    parent = parent if isinstance(parent, str) and parent else (trace.parent_id if trace else None)
    announced = facts.get("run.announced") is True
    # Past the constructor's keyword handling: this is made for every event.
    return _new(Seen, (run, step, kind or "step", effect, outcome, final, failure, session, parent, opens, announced, often or counted))


def nanoseconds(moment: object) -> int | None:
    """Nanoseconds since 1970 of a datetime, a naive one taken as UTC; None for anything else, or a time before 1970."""
    if not isinstance(moment, datetime):
        return None
    since = (moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment) - _EPOCH
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


def _first_text(attributes: Mapping[str, object], keys: tuple[str, ...]) -> str | None:
    return next((found for key in keys if (found := _text(attributes, key)) is not None), None)


def _text(attributes: Mapping[str, object], name: str) -> str | None:
    value = attributes.get(name)
    return (value or None) if isinstance(value, str) else None
