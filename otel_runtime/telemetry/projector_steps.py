"""What one event does to its run: steps open and end, decisions become spans, the rest is a span event or a count.

Knows no other run and no clock: which run an event belongs to, and when it is too early or too late, is the projector's.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from otel_runtime.telemetry import conventions as names
from otel_runtime.telemetry import sanitize
from otel_runtime.telemetry.event_attributes import (
    OMITTED,
    ORPHAN,
    TRUNCATED,
    Attributes,
    Mask,
    Value,
    attributes_of,
    error_type,
    label_step,
    rule_of,
    run_name,
    tool_of,
    with_omitted,
    with_rule,
)
from otel_runtime.telemetry.event_signals import Operation, Signals
from otel_runtime.telemetry.projector_spans import SpanPort, Spans
from otel_runtime.telemetry.projector_units import Ending, Held, Run, Unit, UnitKind
from otel_runtime.telemetry.run_view import Seen, StepKind, nanoseconds, see
from otel_runtime.values.trace import TraceEvent, TraceRef

__all__ = ["RunWriter", "ending_of"]

_NOTHING: Final[Attributes] = MappingProxyType({})
_EARLY: Final = 64
# Span events of one name in one run where the source says that they come in numbers: they must not push out what else happened.
_ALIKE: Final = 64
# Endings that have a beginning. Any other name with a step of its own is a step without length.
_ENDS: Final = (".finish", ".finished", ".end", ".completed", ".failed", ".error", ".cancelled")
# What is measured of a unit; where its name stands.
_OPERATIONS: Final[Mapping[UnitKind, Operation]] = {"tool": "tool", "model": "model", "agent": "agent", "run": "agent"}
_SUBJECTS: Final[Mapping[str, str]] = {"model": names.REQUEST_MODEL, "agent": names.AGENT_NAME, "approval": names.OWN_TOOL}
_INPUT, _OUTPUT = "usage.input_tokens", "usage.output_tokens"
_USAGE: Final = ((_INPUT, names.INPUT_TOKENS), (_OUTPUT, names.OUTPUT_TOKENS))


class RunWriter:
    """Writes spans of runs.

    Args:
        spans: Where spans come from.
        signals: Where counts and log records go.
        max_steps: Steps open at once in one run.
        max_events: Span events in one run.
        mask: Masks secrets in free text.
    """

    def __init__(self, spans: Spans, signals: Signals, max_steps: int, max_events: int, mask: Mask | None = None) -> None:
        self._spans = spans
        self._signals = signals
        self._measures = signals.measures
        self._mask = mask
        self._max_steps, self._max_events = max_steps, max_events

    def open(self, run_id: str, event: TraceEvent, seen: Seen, now: int, parent: SpanPort | TraceRef | None, flags: Attributes) -> Run:
        """Start a run's span."""
        name = run_name(event, "")
        facts: dict[str, Value] = {**self._facts(event), names.OPERATION: name.split(" ")[0], **flags}
        unit = Unit(self._spans.start(name, facts, now, parent), now, name, "", facts, "run")
        return Run(run_id, unit, seen.session, seen.announced, last_ns=now, named=" " in name)

    def apply(self, run: Run, seen: Seen, event: TraceEvent, now: int) -> Unit | None:
        """Act on one event of an open run; returns the unit it was counted on, when it was only counted."""
        if seen.often:
            return self._count(run, seen, event, now)
        if not run.named and ("agent.name" in event.attributes or "workflow.name" in event.attributes):
            self._name(run, event)
        if seen.step is not None:
            self._step(run, seen, seen.step, event, now)
        else:
            self._on_run(run, seen, event, now)
        return None

    def start_late(self, run: Run, start: Held, seen: Seen, end: Held | None, flags: Attributes) -> None:
        """A whole step of a run that has ended."""
        facts = self._facts(start.event)
        name, label = label_step(start.event, seen.kind, facts, tool_of(start.event))
        facts.update(flags)
        parent = run.places.get(seen.parent or "", run.unit.span)
        span = self._spans.start(name, facts, start.at_ns, parent, client=seen.kind == "model")
        unit = Unit(span, start.at_ns, name, label, facts, seen.kind, _subject(facts, seen.kind, label))
        if end is None:
            self._close(unit, max(run.last_ns, start.at_ns), None, "closed")
        else:
            error, outcome = ending_of(see(end.event), end.event)
            told = with_omitted(self._facts(end.event, facts), facts)
            self._use(unit, run, told, end.event)
            self._close(unit, end.at_ns, error, outcome, told)

    def finish(self, run: Run, ending: Ending) -> None:
        """End a run's span, its open steps first."""
        for held in list(run.early.values()):
            self._orphan_end(run, held)
        run.early.clear()
        for unit in run.units():
            # Its own work was over, or it is closed with its run: a failed run's open steps failed with it.
            over = unit.ended_hint_ns is not None or (unit.kind == "approval" and unit.answer is not None)
            if unit.kind == "approval" and unit.answer is not None:
                unit.span.update(self._resolve(unit, None, {}))
            run.write_tail(unit)
            self._close(
                unit, unit.ended_hint_ns or ending.at_ns, None if over else ending.error, None if over else ending.outcome or "closed"
            )
        run.steps.clear()
        run.open_steps = 0
        run.write_tail(run.unit)
        facts: dict[str, str | bool | int | float | tuple[str, ...]] = {}
        if run.truncated:
            facts[TRUNCATED] = run.truncated
        if not run.totalled:
            facts |= {name: run.tokens[key] for key, name in _USAGE if key in run.tokens}
        run.unit.span.update(facts)
        self._close(run.unit, ending.at_ns, ending.error, ending.outcome)

    def decide(self, run: Run, seen: Seen, facts: Attributes, now: int) -> None:
        """A span of no length for a decision that is no plain allow."""
        # The facts hold no gen_ai.tool.name: viewers would paint a refused call as an executed tool.
        decision, tool = str(facts[names.DECISION]), str(facts.get(names.OWN_TOOL, ""))
        parent = run.places.get(seen.parent or "", run.unit.span)
        span = self._spans.start(sanitize.name(f"policy {decision} {tool}".rstrip()), with_rule(facts), now, parent)
        span.end(now, None)
        self._signals.decided(decision, tool, rule_of(facts), self._spans.place(span))

    def _count(self, run: Run, seen: Seen, event: TraceEvent, now: int) -> Unit:
        unit = run.unit if seen.step is None else run.find(seen.step, "") or run.unit
        unit.count(event.name, event.attributes.get("delta.bytes"))
        if event.attributes.get("delta.ambiguous") is True:
            unit.ambiguous += 1
        if hint := nanoseconds(event.attributes.get("step.ended_at")):
            # The last piece of content is the end of the model's own work.
            unit.ended_hint_ns = max(unit.ended_hint_ns or 0, hint)
        if unit is run.unit and not run.named:
            self._name(run, event)
        return unit

    def _name(self, run: Run, event: TraceEvent) -> None:
        """Call a run by the first agent or workflow that an event of it names."""
        if "agent.name" in event.attributes or "workflow.name" in event.attributes:
            name = run_name(event, run.unit.name)
            if name != run.unit.name:
                run.unit.name, run.named = name, True
                run.unit.span.update({}, name)

    def _on_run(self, run: Run, seen: Seen, event: TraceEvent, now: int) -> None:
        facts = self._facts(event)
        if facts.get(names.DECISION) not in (None, "allow"):
            self.decide(run, seen, facts, now)
            return
        run.totalled = run.totalled or "usage.total.input_tokens" in event.attributes
        # Before the span is told: what it says already is not said again on the event.
        news = self._facts(event, run.unit.said)
        own = {key: value for key, value in facts.items() if key.startswith("gen_ai.")}
        run.unit.span.update(own)
        run.unit.said.update(own)
        self._use(run.unit, run, facts, event)
        if event.attributes.get("run.tentative") is True:
            run.tentative = (now, error_type(event))
            unit = run.innermost()
            if unit is not run.unit:
                unit.error = error_type(event)
                news = self._facts(event, unit.said)
            self._event(run, unit, event, news, now, keep=True)
            return
        self._event(run, run.unit, event, news, now, keep=seen.failure or seen.outcome is not None)
        if seen.failure:
            run.failure = error_type(event)

    def _step(self, run: Run, seen: Seen, step: str, event: TraceEvent, now: int) -> None:
        tool = tool_of(event)
        label = tool if seen.kind == "tool" else ""
        unit = run.find(step, label)
        if unit is None:
            if "approval.answer" in event.attributes:
                # Their own word of our answer was faster.
                return
            if seen.effect != "running" and (seen.kind != "step" or event.name.endswith(_ENDS)):
                self._hold_end(run, step, event, now)
                return
            unit = self._open_step(run, seen, step, event, now, tool)
            if "step.ended_at" in event.attributes:
                unit.ended_hint_ns = nanoseconds(event.attributes["step.ended_at"]) or unit.ended_hint_ns
            if seen.effect != "running":
                self._end_step(run, step, unit, seen, event, now)
            elif run.early and (early := _early_end(run, step, label)) is not None:
                self._say_and_end(run, step, unit, see(early.event), early.event, early.at_ns)
            return
        if seen.effect != "running":
            self._say_and_end(run, step, unit, seen, event, now)
            return
        facts = self._facts(event, unit.said)
        more = with_omitted(facts, unit.said)
        unit.span.update(more)
        unit.said.update(more)
        if seen.kind == "approval" and type(answer := event.attributes.get("approval.answer")) is str:
            unit.answer = answer
            return
        if "step.ended_at" in event.attributes:
            unit.ended_hint_ns = nanoseconds(event.attributes["step.ended_at"]) or unit.ended_hint_ns
        else:
            self._event(run, unit, event, facts, now)
        self._use(unit, run, facts, event)

    def _say_and_end(self, run: Run, step: str, unit: Unit, seen: Seen, event: TraceEvent, now: int) -> None:
        """The end of an open step, with what its last event says."""
        told = event.attributes
        facts = attributes_of(event, unit.said, self._mask)
        if OMITTED in facts and OMITTED in unit.said:
            facts = with_omitted(facts, unit.said)
        if seen.kind == "approval":
            facts = self._resolve(unit, told.get("approval.outcome"), facts)
        if _INPUT in told or _OUTPUT in told:
            self._use(unit, run, facts, event)
        if "step.ended_at" in told:
            unit.ended_hint_ns = nanoseconds(told["step.ended_at"]) or unit.ended_hint_ns
        self._end_step(run, step, unit, seen, event, now, facts)

    def _open_step(self, run: Run, seen: Seen, step: str, event: TraceEvent, now: int, tool: str, flags: Attributes = _NOTHING) -> Unit:
        kind = seen.kind
        facts = attributes_of(event, _NOTHING, self._mask)
        name, label = label_step(event, kind, facts, tool)
        if flags:
            facts.update(flags)
        parent = run.unit.span
        if seen.parent:
            parent = run.places.get(seen.parent, parent)
            above = run.find(seen.parent, "") if kind == "tool" else None
            if above is not None and above.kind == "model" and above.ended_hint_ns is None:
                # A model that asked for a tool has said what it had to say: its span does not swallow the tool's time.
                above.ended_hint_ns = now
        span = self._spans.start(name, facts, now, parent, client=kind == "model")
        unit = Unit(span, now, name, label, facts, kind, label if kind == "tool" else _subject(facts, kind, label))
        run.add(step, unit)
        if kind == "approval":
            self._signals.asked(unit.subject, self._spans.place(run.unit.span))
        if _INPUT in event.attributes or _OUTPUT in event.attributes:
            self._use(unit, run, facts, event)
        if run.open_steps > self._max_steps:
            oldest = run.take_oldest()
            run.write_tail(oldest)
            self._close(oldest, now, None, "evicted")
        return unit

    def _end_step(self, run: Run, step: str, unit: Unit, seen: Seen, event: TraceEvent, now: int, facts: Attributes = _NOTHING) -> None:
        run.forget(step, unit)
        if unit.kept:
            run.write_tail(unit)
        error, outcome = (None, None) if seen.effect == "completed" else ending_of(seen, event)
        self._close(unit, unit.ended_hint_ns or now, error, outcome, facts)

    def _resolve(self, unit: Unit, outcome: object, facts: dict[str, Value]) -> dict[str, Value]:
        """Name a question by its answer: ours, where theirs only says that there was one."""
        told = unit.answer if unit.answer is not None and outcome in ("answered", None) else outcome
        if type(told) is not str:
            return facts
        unit.answer = told
        unit.span.update({}, unit.resolved(told))
        return {**facts, names.APPROVAL_OUTCOME: sanitize.text(told, 64)}

    def _close(self, unit: Unit, at_ns: int, error: str | None, outcome: str | None, facts: Attributes = _NOTHING) -> None:
        """End a span, and measure what it was."""
        unit.end(at_ns, error, outcome, facts)
        if not self._measures:
            return
        kind, subject = unit.kind, unit.subject
        operation = _OPERATIONS.get(kind)
        if operation is None:
            if kind == "approval":
                self._signals.answered(unit.answer or "cancelled", unit.lasted(at_ns), self._spans.place(unit.span))
            return
        if kind == "run":
            # It may have been named after its start.
            how, _, subject = unit.name.partition(" ")
            operation = "workflow" if how == "invoke_workflow" else "agent"
        self._signals.ended(operation, subject, unit.lasted(at_ns), error or unit.error, self._spans.place(unit.span))

    def _hold_end(self, run: Run, step: str, event: TraceEvent, now: int) -> None:
        run.early[step, tool_of(event), run.held] = Held(event, now, run.heard_ns)
        run.held += 1
        if len(run.early) > _EARLY:
            self._orphan_end(run, run.early.popitem(last=False)[1])

    def release_early(self, run: Run, until_ns: int) -> None:
        """Make spans of the ends whose start has not come in time."""
        for key, held in list(run.early.items()):
            if held.since_ns <= until_ns:
                del run.early[key]
                self._orphan_end(run, held)

    def _orphan_end(self, run: Run, held: Held) -> None:
        seen = see(held.event)
        step = seen.step or ""
        unit = self._open_step(run, seen, step, held.event, held.at_ns, tool_of(held.event), {ORPHAN: True})
        if seen.kind == "approval":
            self._resolve(unit, held.event.attributes.get("approval.outcome"), {})
        self._end_step(run, step, unit, seen, held.event, held.at_ns)

    def _event(self, run: Run, unit: Unit, event: TraceEvent, news: Attributes, now: int, *, keep: bool = False) -> None:
        """A span event; of a kind that comes again and again only the first, the others are counted."""
        if "event.capped" in event.attributes and run.enough(event.name, _ALIKE):
            unit.count(event.name)
            return
        run.record(unit, sanitize.name(event.name), news, now, self._max_events, keep=keep)

    def _facts(self, event: TraceEvent, said: Attributes = _NOTHING) -> dict[str, Value]:
        return attributes_of(event, said, self._mask)

    def _use(self, unit: Unit, run: Run, facts: Attributes, event: TraceEvent) -> None:
        """Count what one model call used; sums over a run have other names."""
        found = {key: value for key, name in _USAGE if key in event.attributes and type(value := facts.get(name)) is int}
        if not found:
            return
        run.tokens.update(found)
        told = event.attributes.get("model.name")
        model = told if isinstance(told, str) else unit.subject if unit.kind == "model" else None
        where = self._spans.place(unit.span)
        self._signals.tokens(model or None, found.get(_INPUT), found.get(_OUTPUT), where)


def _subject(facts: Attributes, kind: StepKind, tool: str) -> str:
    if kind == "tool":
        return tool
    name = _SUBJECTS.get(kind)
    return "" if name is None else str(facts.get(name, ""))


def _early_end(run: Run, step: str, tool: str) -> Held | None:
    """The held end of a step that starts only now."""
    for key in run.early:
        its_step, its_tool, _ = key
        if its_step == step and (not its_tool or not tool or its_tool == tool):
            return run.early.pop(key)
    return None


def ending_of(seen: Seen, event: TraceEvent) -> tuple[str | None, str | None]:
    """`error.type` and outcome of a step that ends with this event."""
    if seen.effect == "failed":
        # Ended by a decision: what had begun to be a call never ran.
        return error_type(event), "denied" if event.type == "policy" else None
    return ("cancelled", "cancelled") if seen.effect == "cancelled" else (None, None)
