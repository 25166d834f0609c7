"""A tracing over an in-memory exporter and reader, and what tests ask of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from otel_runtime.settings.model import Settings
from otel_runtime.telemetry.protocol import Tracing
from otel_runtime.telemetry.provider import build_tracing
from otel_runtime.telemetry.span_view import SpanView, view_of
from otel_runtime.values.approval import ApprovalRequest
from otel_runtime.values.decision import ApprovalTerms, Requirement
from otel_runtime.values.trace import TraceRef


@dataclass
class Bench:
    """One tracing and what came out of it."""

    tracing: Tracing
    provider: TracerProvider
    exporter: InMemorySpanExporter
    reader: InMemoryMetricReader

    def spans(self) -> list[SpanView]:
        """Finished spans in the order of their end."""
        return [view_of(span) for span in self.exporter.get_finished_spans()]

    def span(self, name: str) -> SpanView:
        """The one span of that name."""
        found = [span for span in self.spans() if span.name == name]
        assert 1 == len(found), [span.name for span in self.spans()]
        return found[0]

    def tree(self) -> list[str]:
        """Every span, indented below its parent, in the order of the start."""
        spans = sorted(self.spans(), key=lambda span: span.start_ns)
        names = {span.span_id: span for span in spans}

        def depth(span: SpanView) -> int:
            return 1 + depth(names[span.parent_id]) if span.parent_id in names and span.parent_id is not None else 0

        return ["  " * depth(span) + span.name for span in spans]

    def points(self) -> dict[str, list[Any]]:
        """Data points by metric name, after a collection."""
        data = self.reader.get_metrics_data()
        if data is None:
            return {}
        return {
            metric.name: list(metric.data.data_points)
            for resource in data.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }


MakeBench = Callable[..., Bench]


@pytest.fixture
def make_bench() -> Iterator[MakeBench]:
    made: list[Bench] = []

    def make(*, processors: tuple[Any, ...] = (), environ: Mapping[str, str] | None = None, sampler: Any = None, **settings: Any) -> Bench:
        resource = Resource({"service.name": "test"})
        provider = TracerProvider(sampler=sampler, resource=resource, shutdown_on_exit=False)
        for processor in processors:
            provider.add_span_processor(processor)
        exporter = InMemorySpanExporter()
        provider.add_span_processor(SimpleSpanProcessor(exporter))
        reader = InMemoryMetricReader()
        meters = MeterProvider([reader], resource=resource, shutdown_on_exit=False)
        tracing = build_tracing(Settings(**settings), tracer_provider=provider, meter_provider=meters, environ=environ or {})
        bench = Bench(tracing, provider, exporter, reader)
        made.append(bench)
        return bench

    yield make
    for bench in made:
        bench.tracing.shutdown(60)


@pytest.fixture
def bench(make_bench: MakeBench) -> Bench:
    return make_bench()


NOW = datetime(2026, 11, 20, 9, 0, tzinfo=UTC)


@pytest.fixture
def make_request() -> Callable[..., ApprovalRequest]:
    def make(state: Any = "awaiting-approval", trace: TraceRef | None = None, **more: Any) -> ApprovalRequest:
        terms = ApprovalTerms((Requirement("big-refunds", ("role:manager", "user:carla"), 1, "large"),), 600.0)
        return ApprovalRequest(
            id="a" * 32,
            capability="refund",
            input={"amount": 900},
            reason="refunds above 500 need a manager",
            state=state,
            call_digest="c" * 64,
            requirement_digest="r" * 64,
            policy_digest="p" * 64,
            terms=terms,
            requested_at=NOW,
            expires_at=NOW + timedelta(minutes=10),
            rule="big-refunds",
            place="policy/shop.yaml:12",
            session="s1",
            run="run1",
            call_id="call_1",
            trace=trace,
            **more,
        )

    return make
