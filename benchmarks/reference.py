"""The yardstick: `with tracer.start_as_current_span(name, attributes={8})` on the SDK, a batch processor, an exporter that drops."""

from __future__ import annotations

from collections.abc import Sequence

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON

from benchmarks.measure import Case

__all__ = ["QUEUE", "meter_provider", "plain_case", "raw_case", "tracer_provider"]

# Large enough for one turn: a full queue logs on the caller, and that is not what is measured.
QUEUE = 65_536

ATTRIBUTES: dict[str, str | int] = {
    "gen_ai.operation.name": "execute_tool",
    "gen_ai.tool.name": "refund",
    "gen_ai.tool.type": "function",
    "gen_ai.tool.call.id": "call_1",
    "gen_ai.agent.name": "support",
    "gen_ai.conversation.id": "s1",
    "gen_ai.usage.input_tokens": 12,
    "gen_ai.usage.output_tokens": 34,
}


class DropExporter(SpanExporter):
    """Takes every span and keeps none."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Say that all went well."""
        return SpanExportResult.SUCCESS


def tracer_provider(*, sampled: bool = True) -> TracerProvider:
    """A provider as an application would make it, exporting to nowhere."""
    provider = TracerProvider(sampler=ALWAYS_ON if sampled else ALWAYS_OFF)
    provider.add_span_processor(BatchSpanProcessor(DropExporter(), max_queue_size=QUEUE))
    return provider


def meter_provider() -> MeterProvider:
    """A provider that aggregates and is never read."""
    return MeterProvider(metric_readers=[InMemoryMetricReader()])


def refund(order: str, amount: int) -> int:
    """The body of every call that is measured: next to nothing, so that what remains is overhead."""
    return amount


def raw_case(provider: TracerProvider) -> Case:
    """One raw span around one call."""
    tracer = provider.get_tracer("benchmark")

    def run(times: int) -> None:
        for _ in range(times):
            with tracer.start_as_current_span("execute_tool refund", attributes=ATTRIBUTES):
                refund("A-1", 5)

    return Case("raw span", run, between=provider.force_flush)


def plain_case() -> Case:
    """The call without anything around it; what it costs is taken off every other case."""

    def run(times: int) -> None:
        for _ in range(times):
            refund("A-1", 5)

    return Case("plain call", run)
