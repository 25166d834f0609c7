"""What a vocabulary must offer: raw event in, TraceEvents out. It knows no span; the projector knows no vocabulary.

A source never raises into the agent whose events it reads: what it cannot read is counted by reason in `malformed`.
One instance reads one stream: the little state it keeps (open calls, current turn) is bounded.

Attribute names that every source writes and the projector understands:

    run.id  session.id  step.id  tool.id  approval.id  model.call.id     which unit the event belongs to
    agent.name  tool.name  model.name                                     what the unit is called
    run.outcome                                                           completed | failed | cancelled: the run ends here
    step.ended_at                                                         datetime at which the unit's own work ended, before its end event
    usage.input_tokens  usage.output_tokens                               what a model call used
    usage.total.input_tokens  usage.total.output_tokens                   sums over a run, never added to anything again
    error.type  error.message  error.recoverable                          what went wrong
    policy.decision  policy.reason                                        allow | deny | require-approval | retryable-failure
    approval.outcome                                                      approved | denied | expired | cancelled | answered
    event.source  event.id  event.kind                                    where the event came from, its id, its own name there
    event.often                                                           True: it comes in numbers, so it is counted, not recorded
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from otel_runtime.values.trace import TraceEvent

__all__ = ["Source"]


class Source(Protocol):
    """Translates one stream of one vocabulary."""

    @property
    def name(self) -> str:
        """Name of the vocabulary, as given to `rt.ingest(events, source=...)`."""
        ...

    @property
    def malformed(self) -> Mapping[str, int]:
        """How many events could not be read, by reason."""
        ...

    def translate(self, raw: object) -> tuple[TraceEvent, ...]:
        """The TraceEvents of one raw event; none when it is malformed. Never raises."""
        ...
