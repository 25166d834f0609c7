"""Measurements are queued by the caller, recorded by a worker, and lead to their trace."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

from opentelemetry.context import Context
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.sdk.metrics import MeterProvider

from otel_runtime.telemetry import conventions
from otel_runtime.telemetry.losses import Losses
from otel_runtime.telemetry.meters import Meters
from otel_runtime.telemetry.metrics import Labels, Recorder
from otel_runtime.telemetry.protocol import SpanStart
from otel_runtime.values.action import Action
from otel_runtime.values.decision import Decision
from otel_runtime.values.usage import Cost, RunRef, TokenUsage, UsageRecord

USED = UsageRecord(TokenUsage(100, 20, 120, cache_read=40), "gpt-4o-2024", "openai", cost=Cost(Decimal("0.25")), run=RunRef(message="m1"))


def call_model(bench: Any) -> None:
    span = bench.tracing.open(SpanStart("model", "gpt-4o", model="gpt-4o", provider="openai"))
    span.first_chunk()
    span.usage(USED)
    span.usage(USED)
    span.end("ok")


def sums(points: dict[str, list[Any]], name: str) -> dict[tuple[object, ...], float]:
    labels = conventions.METRICS[name].labels
    return {
        tuple(point.attributes.get(label) for label in labels): point.sum if hasattr(point, "sum") else point.value
        for point in points[name]
    }


class TestModelCalls:
    def test_both_generations(self, bench: Any) -> None:
        """By default old and new names are recorded; a usage that arrives twice counts once."""
        call_model(bench)
        points = bench.points()
        call = ("chat", "openai", "gpt-4o", "gpt-4o-2024")
        assert {(*call, "input"): 100, (*call, "output"): 20} == sums(points, "gen_ai.client.token.usage")
        assert {call: 100} == sums(points, "gen_ai.client.inference.usage.input_tokens")
        assert {call: 40} == sums(points, "gen_ai.client.inference.usage.cache_read.input_tokens")
        assert {("USD", "gpt-4o"): 0.25} == sums(points, "otel_runtime.usage.cost")
        assert (
            {(*call, None)}
            == set(sums(points, "gen_ai.client.operation.duration"))
            == set(sums(points, "gen_ai.client.inference.duration"))
        )
        assert {call} == set(sums(points, "gen_ai.client.inference.time_to_first_chunk"))

    def test_one_generation(self, make_bench: Any) -> None:
        """The setting picks one."""
        legacy, latest = make_bench(metric_names="legacy"), make_bench(metric_names="latest")
        for bench in (legacy, latest):
            call_model(bench)
        assert {"gen_ai.client.token.usage", "gen_ai.client.operation.duration", "otel_runtime.usage.cost"} == set(legacy.points())
        assert "gen_ai.client.token.usage" not in latest.points()

    def test_agent_totals_are_not_counted_again(self, bench: Any) -> None:
        """Sums on an agent's span are no measurements."""
        span = bench.tracing.open(SpanStart("agent", "support"))
        span.totals(TokenUsage(100, 20, 120))
        span.end("ok")
        assert {"gen_ai.invoke_agent.duration"} == set(bench.points())


class TestInstruments:
    def test_explicit_buckets(self, bench: Any) -> None:
        """Histograms have the boundaries of the conventions."""
        call_model(bench)
        point = bench.points()["gen_ai.client.token.usage"][0]
        assert conventions.METRICS["gen_ai.client.token.usage"].buckets == tuple(point.explicit_bounds)

    def test_exemplar_leads_to_the_trace(self, bench: Any) -> None:
        """The worker records with the call's context, so the exemplar names the call's span."""
        bench.tracing.open(SpanStart("tool", "x")).end("ok")
        span = bench.span("execute_tool x")
        exemplars = bench.points()["gen_ai.execute_tool.duration"][0].exemplars
        assert [(span.trace_id, span.span_id)] == [(format(one.trace_id, "032x"), format(one.span_id, "016x")) for one in exemplars]

    def test_decisions_and_approvals(self, bench: Any, make_request: Any) -> None:
        """Decisions, questions, waits and open questions are counted."""
        bench.tracing.decided(Action("tool", "mail"), Decision("deny", "no", rule="r1", duration_s=0.001))
        bench.tracing.decided(Action("tool", "read"), Decision("allow", "ok", code="policy.default"))
        bench.tracing.approval_requested(make_request())
        bench.tracing.approval_requested(replace(make_request(), id="b" * 32))
        bench.tracing.approval_resolved(make_request("denied", decided_at=make_request().expires_at), None)
        points = bench.points()
        assert {("deny", "r1", "mail"): 1, ("allow", "policy.default", "read"): 1} == sums(points, "otel_runtime.policy.decisions")
        assert {("refund",): 2} == sums(points, "otel_runtime.approval.requests")
        assert {(): 1} == sums(points, "otel_runtime.approval.pending")
        assert {("denied",): 600.0} == sums(points, "otel_runtime.approval.wait")

    def test_labels_stay_within_the_table(self, bench: Any, make_request: Any) -> None:
        """No measurement carries a label that the table does not list."""
        call_model(bench)
        for kind in ("tool", "agent", "workflow", "model"):
            bench.tracing.open(SpanStart(kind, "x", agent="a", session="s")).end("error", ValueError("x"))
        bench.tracing.decided(Action("tool", "mail"), Decision("deny", "no"))
        bench.tracing.approval_requested(make_request())
        for name, points in bench.points().items():
            for point in points:
                assert set(point.attributes) <= set(conventions.METRICS[name].labels), name


class TestBoundedLabels:
    def test_names_beyond_the_bound(self) -> None:
        """After so many distinct values later ones are `_OTHER`; earlier ones keep their name."""
        labels = Labels(2)
        assert ["a", "b", "_OTHER", "a"] == [labels.of(name) for name in "abca"]

    def test_no_meter_records_nothing(self) -> None:
        """Without a meter there is no instrument and no queue."""
        recorder = Recorder(None, "both", Losses())
        assert (False, None) == (recorder.on, recorder.record("gen_ai.execute_tool.duration"))

    def test_full_queue_is_counted(self) -> None:
        """Measurements that find the queue full are counted, not waited for."""
        losses = Losses()
        recorder = Recorder(NoOpMeterProvider().get_meter("x"), "both", losses)
        record = recorder.record("gen_ai.execute_tool.duration")
        assert record is not None
        for _ in range(16_384 + 3):
            recorder.put(record, 1.0, {}, {})  # type: ignore[arg-type]  # an empty context
        assert {"metrics_full": 3} == losses.counts

    def test_lost_spans_are_a_metric(self, bench: Any) -> None:
        """What was lost is visible as a metric by reason."""
        bench.tracing._parts.losses.add("queue_full", 4)
        assert {("queue_full",): 4} == sums(bench.points(), "otel_runtime.spans.lost")


class TestOneEvent:
    def test_a_failing_instrument_is_alone(self) -> None:
        """Of the measurements of one usage, those of a broken instrument are lost, and the others are not."""
        losses = Losses()
        recorder = Recorder(MeterProvider().get_meter("t"), "both", losses)
        taken: list[tuple[str, float]] = []

        def noting(name: str) -> Any:
            return lambda value, labels, where: taken.append((name, value))

        def breaks(value: float, labels: object, where: object) -> None:
            raise RuntimeError("broken")

        recorder._records.update({name: noting(name) for name in recorder._records})
        recorder._records["gen_ai.client.token.usage"] = breaks
        usage = UsageRecord(TokenUsage(3, 4), "m", "openai", cost=Cost(Decimal("0.5")))
        Meters(recorder).usage(usage, {"gen_ai.operation.name": "chat"}, Context())
        assert recorder.flush(60)
        inference = "gen_ai.client.inference.usage."
        assert [(f"{inference}input_tokens", 3), (f"{inference}output_tokens", 4), ("otel_runtime.usage.cost", 0.5)] == taken
        assert "broken" in losses.problems["metrics"]
