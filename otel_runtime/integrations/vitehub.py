"""ViteHub: its TraceEvents as OTLP/JSON, without a runtime or a collector; and our decisions in its words.

    from otel_runtime.integrations.vitehub import otlp_spans, otlp_logs

    body = otlp_spans(log.entries())        # {"resourceSpans": [...]}, what POST /v1/traces takes as application/json

The same events give the same ids each time, so what is sent twice is the same span twice. A run without an end is written as it stands,
with `otel_runtime.outcome: closed`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_ON

from otel_runtime.sources.asking import Question, Responder, Verdict
from otel_runtime.sources.vitehub import ViteHub
from otel_runtime.telemetry import conventions as names
from otel_runtime.telemetry.event_attributes import Attributes
from otel_runtime.telemetry.event_signals import Signals
from otel_runtime.telemetry.otlp_json import Json, resource_spans, typed_attributes
from otel_runtime.telemetry.projector import Projector
from otel_runtime.telemetry.projector_spans import TracerSpans
from otel_runtime.telemetry.run_view import see
from otel_runtime.values.trace import TraceEvent

__all__ = ["approval_decision", "otlp_logs", "otlp_spans", "policy_decision", "responder"]

_SEVERITY: Final = {"info": (9, "INFO"), "error": (17, "ERROR")}
# As many events as the run view keeps, and their mark.
_EVENTS: Final = 2048
_DECISIONS: Final[Mapping[str, str]] = {"approved": "allow", "denied": "deny"}


def otlp_spans(events: Iterable[object], *, service: str = "vitehub") -> Json:
    """The body of an OTLP/JSON trace request: a span per run, and a child per step.

    Args:
        events: TraceEvents or entries of a trace log, in order.
        service: Value of `service.name`.
    """
    spans, _ = _projected(events, service)
    return {"resourceSpans": resource_spans(spans)}


def otlp_logs(events: Iterable[object], *, service: str = "vitehub") -> Json:
    """The body of an OTLP/JSON log request: a record per event, with the ids of the span that `otlp_spans` makes of its step or run.

    Args:
        events: As above.
        service: As above.
    """
    spans, records = _projected(events, service)
    resource = spans[0].resource if spans else _resource(service)
    scope = {"scope": {"name": names.SCOPE}, "logRecords": records}
    whole = {"resource": {"attributes": typed_attributes(resource.attributes)}, "scopeLogs": [scope]}
    return {"resourceLogs": [whole] if records else []}


def approval_decision(question: Question, verdict: Verdict, decided_at: str) -> dict[str, object]:
    """An ApprovalDecision for a question of its stream.

    Args:
        question: The question.
        verdict: The answer.
        decided_at: ISO 8601 time.
    """
    found: dict[str, object] = {"requestId": question.id, "approved": verdict == "approved", "state": verdict, "decidedAt": decided_at}
    if question.decision is not None and question.decision.reason:
        found["reason"] = question.decision.reason
    return found


def policy_decision(question: Question, verdict: Verdict) -> str:
    """A PolicyDecision for it: what our rules say where they were asked, else what a person said."""
    return question.decision.value if question.decision is not None else _DECISIONS[verdict]


def responder(decide: Callable[[dict[str, object]], object], clock: Callable[[], str]) -> Responder:
    """Hands our answers back as ApprovalDecisions.

    Args:
        decide: Takes one; may be asynchronous.
        clock: The time, as ISO 8601 text.
    """
    return lambda question, verdict: decide(approval_decision(question, verdict, clock()))


class _Ids(IdGenerator):
    """The same ids for the same events: numbered, and hashed with what the stream is called."""

    def __init__(self, stream: str) -> None:
        self._stream = stream
        self._number = 0

    def generate_span_id(self) -> int:
        return self._next(8)

    def generate_trace_id(self) -> int:
        return self._next(16)

    def _next(self, size: int) -> int:
        self._number += 1
        found = hashlib.sha256(f"{self._stream}:{self._number}".encode("utf-8", "surrogatepass")).digest()[:size]
        return int.from_bytes(found, "big") or 1


class _Kept(SpanProcessor):
    def __init__(self) -> None:
        self.spans: list[ReadableSpan] = []

    def on_end(self, span: ReadableSpan) -> None:
        self.spans.append(span)


class _Records(Signals):
    """Every event as a log record of OTLP/JSON."""

    def __init__(self) -> None:
        self.found: list[Json] = []

    def log(self, level: str, name: str, facts: Attributes, at_ns: int, where: Context) -> None:
        place = trace.get_current_span(where).get_span_context()
        number, text = _SEVERITY[level]
        record: Json = {
            "timeUnixNano": str(at_ns),
            "severityNumber": number,
            "severityText": text,
            "eventName": name,
            "body": {"stringValue": name},
            "attributes": typed_attributes(facts),
        }
        if place.is_valid:
            record |= {"traceId": format(place.trace_id, "032x"), "spanId": format(place.span_id, "016x")}
        self.found.append(record)


def _projected(events: Iterable[object], service: str) -> tuple[Sequence[ReadableSpan], list[Json]]:
    reader, kept, records = ViteHub("default"), _Kept(), _Records()
    # Later events of a run may have no time: it is that of the last one that had.
    latest = [0]
    translated = [event for raw in events for event in reader.translate(raw)]
    ids = _Ids(next((seen.run for event in translated if (seen := see(event)).run), None) or "default")
    limits = SpanLimits(max_events=_EVENTS)
    provider = TracerProvider(sampler=ALWAYS_ON, resource=_resource(service), shutdown_on_exit=False, id_generator=ids, span_limits=limits)
    provider.add_span_processor(kept)
    tracer = provider.get_tracer(names.SCOPE)
    projector = Projector(TracerSpans(tracer), records, clock=lambda: latest[0], idle_s=1e9, window_s=1e9, sweep_every_s=0, log=True)
    for event in translated:
        if event.timestamp is not None:
            latest[0] = max(latest[0], int(event.timestamp.timestamp() * 1e9))
        projector.observe(_logged(event))
    projector.close()
    return kept.spans, records.found


def _logged(event: TraceEvent) -> TraceEvent:
    """The event as one that is also a record, and belongs to a run as its own system has it."""
    seen = see(event)
    level = "error" if event.type == "error" or seen.effect in ("failed", "cancelled") else "info"
    facts = {**event.attributes, "log.level": level}
    if seen.run is None:
        facts["run.id"] = "default"
    return replace(event, attributes=facts)


def _resource(service: str) -> Resource:
    return Resource({SERVICE_NAME: service})
