"""What the projector says besides spans: counts of events, log records, states of components, decisions outside of any run."""

from __future__ import annotations

from typing import Final

from otel_runtime.telemetry import conventions as names
from otel_runtime.telemetry import sanitize
from otel_runtime.telemetry.event_attributes import Attributes, Mask, attributes_of, rule_of
from otel_runtime.telemetry.event_signals import Component, Signals
from otel_runtime.telemetry.projector_spans import SpanPort, Spans
from otel_runtime.values.trace import TraceEvent, TraceRef

__all__ = ["Teller"]

_KINDS: Final = 256


class Teller:
    """Hands on what is no span.

    Args:
        spans: Knows the context of a span.
        signals: Where it goes.
        mask: Masks secrets in free text.
    """

    def __init__(self, spans: Spans, signals: Signals, mask: Mask | None = None) -> None:
        self._spans = spans
        self._signals = signals
        self._mask = mask
        self._tally: dict[tuple[str, str], int] = {}

    def count(self, event: TraceEvent, times: int = 1) -> None:
        """Count an event, by vocabulary and kind."""
        facts = event.attributes
        source, kind = facts.get("event.source"), facts.get("event.kind")
        if type(source) is not str:
            source = ""
        key = (source, kind if kind and type(kind) is str else event.name)
        tally = self._tally
        if key in tally:
            tally[key] += times
        elif len(tally) < _KINDS:
            tally[key] = times
        else:
            tally["", "other"] = tally.get(("", "other"), 0) + times

    def speak(self) -> None:
        """Hand on what was counted; often enough for any reader of metrics, and not with each of thousands of events."""
        if self._tally:
            counts, self._tally = self._tally, {}
            self._signals.events(counts)

    def forget(self) -> None:
        """In a forked child: the parent hands on what it has counted."""
        self._tally = {}

    def tell(self, event: TraceEvent, parent: SpanPort | TraceRef | None, at_ns: int) -> None:
        """Say what an event says besides its span.

        Args:
            event: The event.
            parent: The span it belongs to, or its place in a foreign trace.
            at_ns: Its time.
        """
        facts = event.attributes
        status = facts.get("component.status")
        if type(status) is str:
            parts = (facts.get(f"component.{field}") for field in Component._fields)
            self._signals.component(Component(*(part[:64] if type(part) is str else "" for part in parts)), status[:64])
        level = facts.get("log.level")
        if type(level) is str:
            where = self._spans.place(parent)
            self._signals.log(level, sanitize.name(event.name), attributes_of(event, mask=self._mask), at_ns, where)

    def decided(self, facts: Attributes, parent: SpanPort | TraceRef | None) -> None:
        """Count a decision of a foreign system."""
        self._signals.decided(str(facts[names.DECISION]), str(facts.get(names.OWN_TOOL, "")), rule_of(facts), self._spans.place(parent))
