"""What happens becomes spans of the right name, kind, attributes and status."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from opentelemetry import context, trace
from opentelemetry.sdk.trace.sampling import (
    ALWAYS_OFF,
    ALWAYS_ON,
    DEFAULT_OFF,
    DEFAULT_ON,
    ParentBased,
    Sampler,
    SamplingResult,
    TraceIdRatioBased,
)
from opentelemetry.sdk.trace.sampling import Decision as Sampling
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from otel_runtime.errors import ApprovalPending, PolicyDenied
from otel_runtime.telemetry import lazy_attributes
from otel_runtime.telemetry.protocol import AttributeValue, OpenSpan, SpanStart, Tracing
from otel_runtime.values.action import Action
from otel_runtime.values.approval import ApprovalRequest, Vote
from otel_runtime.values.decision import Decision, Retry
from otel_runtime.values.trace import TraceRef
from otel_runtime.values.usage import Cost, ResponseFacts, TokenUsage, UsageRecord

ALLOW = Decision("allow", "ok", rule="reads", policy_digest="d" * 64)
DENY = Decision("deny", "no mail after the web", rule="no-mail", place="policy/shop.yaml:3", policy_digest="d" * 64, duration_s=0.5)


def run(
    tracing: Tracing, start: SpanStart, inside: Callable[[OpenSpan], object] = lambda span: None, outcome: Any = "ok", **end: Any
) -> None:
    span = tracing.open(start)
    token = span.enter()
    inside(span)
    span.leave(token)
    span.end(outcome, **end)


class TestTree:
    def test_agent_with_model_tool_and_denial(self, bench: Any) -> None:
        """Calls of one agent are siblings under it; a denied call has a decision span and no execute_tool span."""
        tracing = bench.tracing

        def inside(_: OpenSpan) -> None:
            run(tracing, SpanStart("model", "gpt-4o", agent="support", model="gpt-4o", provider="openai"))
            run(tracing, SpanStart("tool", "lookup", agent="support", decision=ALLOW))
            tracing.decided(Action("tool", "send_mail"), Decision("deny", "no", policy_digest="d"))

        run(tracing, SpanStart("workflow", "daily"), lambda _: run(tracing, SpanStart("agent", "support"), inside))
        expected = [
            "invoke_workflow daily",
            "  invoke_agent support",
            "    chat gpt-4o",
            "    execute_tool lookup",
            "    policy deny send_mail",
        ]
        assert expected == bench.tree()
        assert ["internal", "internal", "client", "internal", "internal"] == [
            span.kind for span in sorted(bench.spans(), key=lambda span: span.start_ns)
        ]

    def test_given_parent_wins(self, bench: Any) -> None:
        """A resumed run hangs under the stored place, not under the current span, and links to what led to it."""
        parent, led = TraceRef("1" * 32, "2" * 16, True), TraceRef("3" * 32, "4" * 16, True)
        run(bench.tracing, SpanStart("tool", "refund", parent=parent, links=(led, TraceRef("no otel id")), approval_id="q1"))
        span = bench.span("execute_tool refund")
        assert ("1" * 32, "2" * 16, True) == (span.trace_id, span.parent_id, span.remote_parent)
        assert (("3" * 32, "4" * 16),) == span.links
        assert "q1" == span.attributes["otel_runtime.approval.id"]

    def test_leave_in_another_context_is_quiet(self, bench: Any, caplog: pytest.LogCaptureFixture) -> None:
        """A span left in another context than it was entered in neither raises nor logs."""
        span = bench.tracing.open(SpanStart("tool", "x"))
        token = contextvars.copy_context().run(span.enter)
        span.leave(token)
        span.end("ok")
        assert [] == caplog.records
        assert not trace.get_current_span().get_span_context().is_valid

    def test_current_and_ref(self, bench: Any) -> None:
        """The place of the running code is the place of the span around it."""
        places: list[TraceRef | None] = [bench.tracing.current()]
        run(bench.tracing, SpanStart("tool", "x"), lambda span: places.extend([bench.tracing.current(), span.ref()]))
        span = bench.span("execute_tool x")
        here = TraceRef(span.trace_id, span.span_id, True)
        assert [None, here, here] == places


class TestAttributes:
    def test_tool(self, bench: Any) -> None:
        """A tool span tells the conventions' keys, the allow that let it run, and the application's own attributes."""
        own: dict[str, AttributeValue] = {"shop.order": 7, "otel_runtime.policy.decision": "forged", "gen_ai.tool.name": "forged"}
        start = SpanStart("tool", "lookup", agent="support", session="s1", run="r1", call_id="c1", decision=ALLOW, attributes=own)
        run(bench.tracing, start)
        expected = {
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": "lookup",
            "gen_ai.tool.type": "function",
            "gen_ai.agent.name": "support",
            "gen_ai.conversation.id": "s1",
            "gen_ai.tool.call.id": "c1",
            "otel_runtime.run.id": "r1",
            "otel_runtime.policy.decision": "allow",
            "otel_runtime.policy.rule": "reads",
            "otel_runtime.policy.digest": "d" * 64,
            "shop.order": 7,
        }
        assert expected == bench.span("execute_tool lookup").attributes

    def test_application_cannot_forge_a_decision(self, bench: Any) -> None:
        """An application's attribute never passes for a decision or an approval, on a span that has none."""
        forged: dict[str, AttributeValue] = {"otel_runtime.policy.decision": "allow", "otel_runtime.approval.id": "q1", "mine": 1}
        run(bench.tracing, SpanStart("tool", "x", attributes=forged))
        expected = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "x", "gen_ai.tool.type": "function", "mine": 1}
        assert expected == bench.span("execute_tool x").attributes

    def test_model_usage(self, bench: Any) -> None:
        """A model span carries tokens with their subsets, the exact cost, and what the response said of itself."""
        record = UsageRecord(
            TokenUsage(100, 20, 120, cache_read=40, cache_write=0, reasoning=8),
            "gpt-4o-2024",
            "openai",
            ResponseFacts("chatcmpl-1", ("stop",)),
            cost=Cost(Decimal("0.00000035"), estimated=True, source="genai-prices 1"),
        )

        def inside(span: OpenSpan) -> None:
            span.first_chunk()
            span.usage(record)

        run(bench.tracing, SpanStart("model", "gpt-4o", model="gpt-4o"), inside)
        found = dict(bench.span("chat gpt-4o").attributes)
        assert isinstance(found.pop("gen_ai.response.time_to_first_chunk"), float)
        expected = {
            "gen_ai.operation.name": "chat",
            "gen_ai.request.model": "gpt-4o",
            "gen_ai.provider.name": "openai",
            "gen_ai.response.model": "gpt-4o-2024",
            "gen_ai.response.id": "chatcmpl-1",
            "gen_ai.response.finish_reasons": ("stop",),
            "gen_ai.usage.input_tokens": 100,
            "gen_ai.usage.output_tokens": 20,
            "gen_ai.usage.cache_read.input_tokens": 40,
            "gen_ai.usage.cache_write.input_tokens": 0,
            "gen_ai.usage.cache_creation.input_tokens": 0,
            "gen_ai.usage.reasoning.output_tokens": 8,
            "otel_runtime.usage.total_tokens": 120,
            "otel_runtime.usage.cost": 3.5e-07,
            "otel_runtime.usage.cost.exact": "0.00000035",
            "otel_runtime.usage.cost.currency": "USD",
            "otel_runtime.usage.cost.estimated": True,
            "otel_runtime.usage.cost.source": "genai-prices 1",
        }
        assert expected == found

    def test_agent_totals(self, bench: Any) -> None:
        """An agent carries the sums of input and output only."""
        run(bench.tracing, SpanStart("agent", "support"), lambda span: span.totals(TokenUsage(7, 3, 10, cache_read=2), ("stop",)))
        found = bench.span("invoke_agent support").attributes
        assert (7, 3, ("stop",)) == tuple(
            found[key] for key in ("gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens", "gen_ai.response.finish_reasons")
        )
        assert "gen_ai.usage.cache_read.input_tokens" not in found

    def test_unguarded_is_said_at_the_root_only(self, bench: Any) -> None:
        """Without a policy the root says so, once."""
        start = SpanStart("agent", "a", unguarded=True)
        run(bench.tracing, start, lambda _: run(bench.tracing, SpanStart("tool", "t", unguarded=True)))
        assert False is bench.span("invoke_agent a").attributes["otel_runtime.guarded"]
        assert "otel_runtime.guarded" not in bench.span("execute_tool t").attributes

    def test_decision_survives_eviction(self, bench: Any) -> None:
        """Two hundred attributes of the application cannot push the decision out."""

        def flood(_: OpenSpan) -> None:
            for number in range(200):
                trace.get_current_span().set_attribute(f"app.{number}", number)

        run(bench.tracing, SpanStart("tool", "x", decision=ALLOW), flood)
        found = bench.span("execute_tool x").attributes
        assert ("allow", "execute_tool", "x") == (
            found["otel_runtime.policy.decision"],
            found["gen_ai.operation.name"],
            found["gen_ai.tool.name"],
        )


class TestEndings:
    def test_success_is_unset(self, bench: Any) -> None:
        """Success leaves the status unset, and a second end does nothing."""
        span = bench.tracing.open(SpanStart("tool", "x"))
        span.end("ok")
        span.end("error", ValueError("late"))
        assert ("unset", ()) == (bench.span("execute_tool x").status, bench.span("execute_tool x").events)

    @pytest.mark.parametrize(
        ("error", "expected"),
        [
            (ValueError("no"), "ValueError"),
            (TimeoutError("slow"), "timeout"),
            (PolicyDenied("no", tool="x", reason="r"), "policy_denied"),
            (KeyboardInterrupt(), "KeyboardInterrupt"),
            (None, "tool_error"),
        ],
    )
    def test_error_type(self, bench: Any, error: BaseException | None, expected: str) -> None:
        """Every failure is an ERROR with a low-cardinality error.type."""
        run(bench.tracing, SpanStart("tool", "x"), outcome="error", error=error)
        span = bench.span("execute_tool x")
        assert ("error", expected) == (span.status, span.attributes["error.type"])

    @pytest.mark.parametrize("outcome", ["cancelled", "closed"])
    def test_cancelled_and_closed_are_no_errors(self, bench: Any, outcome: str) -> None:
        """A cancelled call and an early-closed stream are told by an attribute, not by an error."""
        run(bench.tracing, SpanStart("tool", "x"), outcome=outcome)
        span = bench.span("execute_tool x")
        assert ("unset", outcome, ()) == (span.status, span.attributes["otel_runtime.outcome"], span.events)

    def test_pause_for_approval_is_no_error(self, bench: Any) -> None:
        """An agent that waits for a person has not failed."""
        error = ApprovalPending("wait", tool="x", reason="r", request_id="q", expires_at="2026-11-20T10:00:00Z")
        run(bench.tracing, SpanStart("agent", "a"), outcome="error", error=error)
        span = bench.span("invoke_agent a")
        assert ("unset", "suspended", ()) == (span.status, span.attributes["otel_runtime.outcome"], span.events)

    def test_exception_event_once_per_raise(self, bench: Any) -> None:
        """An exception that passes through two spans is recorded on the inner one; both are errors."""
        error = ValueError("boom")
        outer = bench.tracing.open(SpanStart("agent", "a"))
        token = outer.enter()
        run(bench.tracing, SpanStart("tool", "x"), outcome="error", error=error)
        outer.leave(token)
        outer.end("error", error)
        inner = bench.span("execute_tool x")
        assert ["exception"] == [event.name for event in inner.events]
        assert ("ValueError", "boom") == tuple(inner.events[0].attributes[key] for key in ("exception.type", "exception.message"))
        assert ("error", "ValueError", ()) == (
            bench.span("invoke_agent a").status,
            bench.span("invoke_agent a").attributes["error.type"],
            bench.span("invoke_agent a").events,
        )

    def test_attempts_are_events(self, bench: Any) -> None:
        """One span covers all attempts, with an event for each; events after the end are dropped without a log record."""
        span = bench.tracing.open(SpanStart("tool", "x"))
        span.event("otel_runtime.attempt", {"otel_runtime.attempt.number": 1})
        span.end("ok")
        span.event("otel_runtime.attempt", {"otel_runtime.attempt.number": 2})
        assert [1] == [event.attributes["otel_runtime.attempt.number"] for event in bench.span("execute_tool x").events]


class TestDecisions:
    def test_denial(self, bench: Any) -> None:
        """A denial's span lasts as long as the decision, tells rule, place and reason, and is no executed tool."""
        bench.tracing.decided(Action("tool", "send_mail", session="s1", call_id="c1"), DENY, 0.5)
        span = bench.span("policy deny send_mail")
        expected = {
            "otel_runtime.tool.name": "send_mail",
            "otel_runtime.action.kind": "tool",
            "otel_runtime.policy.decision": "deny",
            "otel_runtime.policy.rule": "no-mail",
            "otel_runtime.policy.reason": "no mail after the web",
            "otel_runtime.policy.code": "policy.rule",
            "otel_runtime.policy.place": "policy/shop.yaml:3",
            "otel_runtime.policy.digest": "d" * 64,
            "gen_ai.conversation.id": "s1",
            "gen_ai.tool.call.id": "c1",
        }
        assert expected == span.attributes
        assert ("unset", 500_000_000) == (span.status, span.end_ns - span.start_ns)

    def test_retry_is_described(self, bench: Any) -> None:
        """A retryable failure tells when to come back."""
        bench.tracing.decided(Action("tool", "fetch"), Decision("retryable-failure", "slow down", retry=Retry(2.5, 1, 3)))
        found = bench.span("policy retryable-failure fetch").attributes
        assert (2.5, 1, 3, "rate") == tuple(found[f"otel_runtime.retry.{key}"] for key in ("after_s", "attempt", "max_attempts", "class"))

    def test_allow_has_no_span_unless_asked(self, make_bench: Any) -> None:
        """An allow rides on the tool's span; a setting gives it one of its own."""
        quiet, chatty = make_bench(), make_bench(decision_spans="all")
        for bench in (quiet, chatty):
            bench.tracing.decided(Action("tool", "lookup"), ALLOW)
        assert ([], ["policy allow lookup"]) == (quiet.tree(), chatty.tree())

    def test_made_up_name_is_bounded(self, bench: Any) -> None:
        """A tool name the model invented never becomes a span name or a metric label, only an attribute."""
        bench.tracing.decided(Action("tool", "rm -rf \ud800", registered=False), DENY)
        assert "rm -rf ?" == bench.span("policy deny _OTHER").attributes["otel_runtime.tool.name"]
        points = bench.points()["otel_runtime.policy.decisions"]
        assert ["_OTHER"] == [point.attributes["otel_runtime.tool.name"] for point in points]


class TestApprovals:
    def test_requested_is_ended_at_once(self, bench: Any, make_request: Callable[..., ApprovalRequest]) -> None:
        """The question is visible while the agent waits, with who may answer until when."""
        place = bench.tracing.approval_requested(make_request())
        span = bench.span("approval requested refund")
        assert TraceRef(span.trace_id, span.span_id, True) == place
        expected = {
            "otel_runtime.approval.id": "a" * 32,
            "otel_runtime.approval.rule": "big-refunds",
            "otel_runtime.approval.reason": "refunds above 500 need a manager",
            "otel_runtime.approval.expires": "2026-11-20T09:10:00+00:00",
            "otel_runtime.approval.approvers": ("role:manager", "user:carla"),
            "otel_runtime.policy.place": "policy/shop.yaml:12",
            "otel_runtime.tool.name": "refund",
            "otel_runtime.action.kind": "tool",
            "otel_runtime.run.id": "run1",
            "gen_ai.conversation.id": "s1",
            "gen_ai.tool.call.id": "call_1",
        }
        assert expected == span.attributes

    @pytest.mark.parametrize(
        ("state", "outcome"),
        [("approved", "approved"), ("executing", "approved"), ("denied", "denied"), ("expired", "expired"), ("superseded", "cancelled")],
    )
    def test_resolved(self, bench: Any, make_request: Callable[..., ApprovalRequest], state: str, outcome: str) -> None:
        """The answer's span runs from question to answer, names the approver and links to the question."""
        request = make_request()
        at = request.requested_at + timedelta(seconds=90)
        vote = Vote("os:alice", outcome == "approved", at, ("big-refunds",), "known customer")
        requested = TraceRef("5" * 32, "6" * 16, True)
        bench.tracing.approval_resolved(make_request(state, requested, votes=(vote,), decided_at=at), requested)
        span = bench.span(f"approval {outcome} refund")
        found = span.attributes
        assert (outcome, "os:alice", 90.0, "known customer") == tuple(
            found[f"otel_runtime.approval.{key}"] for key in ("outcome", "approver", "wait_s", "answer")
        )
        assert (90_000_000_000, (("5" * 32, "6" * 16),)) == (span.end_ns - span.start_ns, span.links)
        assert ("5" * 32, "unset") == (span.trace_id, span.status)

    @pytest.mark.parametrize(("mode", "hours", "same"), [("auto", 0.5, True), ("auto", 2, False), ("same", 2, True), ("new", 0.1, False)])
    def test_long_waits_start_a_new_trace(self, make_bench: Any, make_request: Any, mode: str, hours: float, same: bool) -> None:
        """Outside of any run, an answer within the hour joins the trace that asked; later ones only link to it."""
        bench = make_bench(resume_trace=mode)
        asked = TraceRef("5" * 32, "6" * 16, True)
        request = make_request("approved", asked)
        later = make_request("approved", asked, decided_at=request.requested_at + timedelta(hours=hours))
        bench.tracing.approval_resolved(later, asked)
        span = bench.span("approval approved refund")
        assert (same, (("5" * 32, "6" * 16),)) == (span.trace_id == "5" * 32, span.links)


class TestSampledOut:
    def test_nothing_is_recorded_and_everything_works(self, make_bench: Any) -> None:
        """With the sampler off calls, decisions and approvals go on, and the place says that it is not sampled."""
        bench = make_bench(sampler=ALWAYS_OFF)
        refs: list[TraceRef | None] = []
        run(bench.tracing, SpanStart("tool", "x", decision=ALLOW), lambda span: refs.append(span.ref()), "error", error=ValueError("x"))
        assert [False] == [ref.sampled for ref in refs if ref]
        assert [] == bench.spans()
        assert ["ValueError"] == [point.attributes["error.type"] for point in bench.points()["gen_ai.execute_tool.duration"]]

    @pytest.mark.parametrize("sampler", [ALWAYS_OFF, ParentBased(ALWAYS_OFF), TraceIdRatioBased(0.0)])
    def test_nothing_is_built(self, make_bench: Any, monkeypatch: pytest.MonkeyPatch, sampler: Any) -> None:
        """A span that is sampled out without a look at its attributes builds none, and takes none later; metrics are recorded."""
        built: list[SpanStart] = []

        def build(start: SpanStart, plan: object) -> dict[str, object]:
            built.append(start)
            return {}

        monkeypatch.setattr(lazy_attributes, "start_attributes", build)
        bench = make_bench(sampler=sampler, capture="SPAN_ONLY")
        span = bench.tracing.open(SpanStart("model", "m", session="s", unguarded=True, arguments=lambda: pytest.fail("bound")))
        span.attribute("a", Untouchable())
        span.event("e", {"a": Untouchable()})
        span.usage(UsageRecord(usage=TokenUsage(input_tokens=3)))
        span.totals(TokenUsage(input_tokens=3))
        span.end("ok", result=Untouchable())
        assert ([], []) == (built, bench.spans())
        points = bench.points()
        assert 3 == points["gen_ai.client.token.usage"][0].sum
        assert 1 == points["gen_ai.client.operation.duration"][0].count

    @pytest.mark.parametrize("sampler", [ALWAYS_OFF, DEFAULT_OFF, ParentBased(ALWAYS_OFF), ParentBased(TraceIdRatioBased(0.0))])
    def test_children_stay_in_the_trace(self, make_bench: Any, sampler: Any) -> None:
        """What is sampled out still has a trace of its own, which its children and the services behind them are told."""
        bench = make_bench(sampler=sampler)
        outer = bench.tracing.open(SpanStart("agent", "a"))
        token = outer.enter()
        inner = bench.tracing.open(SpanStart("tool", "x"))
        outer.leave(token)
        other = bench.tracing.open(SpanStart("agent", "b"))
        assert outer.ref().id == inner.ref().id != other.ref().id
        assert {False} == {span.ref().sampled for span in (outer, inner, other)}
        for span in (inner, outer, other):
            span.end("ok")
        assert [] == bench.spans()

    @pytest.mark.parametrize("sampler", [ALWAYS_OFF, DEFAULT_OFF])
    def test_surely_dropped(self, make_bench: Any, sampler: Any) -> None:
        """What is sure to be dropped is a place to propagate and a measurement; its children are the same place."""
        bench = make_bench(sampler=sampler)
        outer = bench.tracing.unrecorded("agent", "a")
        token = outer.enter()
        headers: dict[str, str] = {}
        TraceContextTextMapPropagator().inject(headers)
        inner = bench.tracing.unrecorded("tool", "x")
        here = inner.enter()
        inside = bench.tracing.current()
        inner.leave(here)
        inner.end("error", ValueError("x"))
        outer.leave(token)
        outer.end("ok")
        assert None is bench.tracing.current()
        assert outer.ref() == inner.ref() == inside
        assert [outer.ref().id, outer.ref().parent_id] == headers["traceparent"].split("-")[1:3]
        assert headers["traceparent"].endswith(("-00", "-02"))
        assert ([], 1) == (bench.spans(), bench.points()["gen_ai.invoke_agent.duration"][0].count)
        assert ["ValueError"] == [point.attributes["error.type"] for point in bench.points()["gen_ai.execute_tool.duration"]]

    def test_not_surely_dropped(self, make_bench: Any) -> None:
        """Only starting a span can tell what a sampler of the application's says, and what a model's labels are."""
        for sampler in (ALWAYS_ON, TraceIdRatioBased(0.0), ParentBased(ALWAYS_OFF, local_parent_not_sampled=ALWAYS_ON)):
            assert None is make_bench(sampler=sampler).tracing.unrecorded("tool", "x")
        off = make_bench(sampler=ALWAYS_OFF).tracing
        assert (None, None) == (off.unrecorded("model", "m"), off.unrecorded("capability", "c"))

    def test_child_of_a_dropped_span(self, make_bench: Any) -> None:
        """Under a dropped span of this process the usual samplers drop; under a caller's they have the last word."""
        for sampler, local, remote in (
            (DEFAULT_ON, True, False),
            (DEFAULT_OFF, True, False),
            (ALWAYS_OFF, True, False),
            (ALWAYS_ON, False, False),
        ):
            tracing = make_bench(sampler=sampler).tracing
            for is_remote, expected in ((False, local), (True, remote)):
                place = trace.SpanContext(1, 2, is_remote=is_remote)
                token = context.attach(trace.set_span_in_context(trace.NonRecordingSpan(place)))
                assert expected == (tracing.unrecorded("tool", "x") is not None), (sampler.get_description(), is_remote)
                context.detach(token)

    def test_two_threads_ask_for_one_place(self, make_bench: Any) -> None:
        """The place of a dropped root is one, whoever asks for it first."""
        tracing = make_bench(sampler=ALWAYS_OFF).tracing
        for _ in range(20):
            span = tracing.unrecorded("agent", "a")
            gate = threading.Barrier(4)
            found: list[TraceRef | None] = []

            def ask(span: OpenSpan = span, gate: threading.Barrier = gate, found: list[TraceRef | None] = found) -> None:
                gate.wait()
                found.append(span.ref())

            threads = [threading.Thread(target=ask) for _ in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert (4, 1) == (len(found), len(set(found)))

    def test_a_sampler_may_take_the_child_of_a_dropped_span(self, make_bench: Any) -> None:
        """The sampler has the last word also under a span that was dropped."""
        bench = make_bench(sampler=ParentBased(ALWAYS_OFF, local_parent_not_sampled=ALWAYS_ON))
        outer = bench.tracing.open(SpanStart("agent", "a"))
        token = outer.enter()
        bench.tracing.open(SpanStart("tool", "x")).end("ok")
        outer.leave(token)
        outer.end("ok")
        assert ["execute_tool x"] == bench.tree()

    def test_a_sampler_that_counts_is_asked_once(self, make_bench: Any) -> None:
        """A sampler that limits a rate is not asked twice about a span."""
        asked: list[str] = []

        class Counts(Sampler):
            def should_sample(self, parent_context: Any, trace_id: int, name: str, *more: Any) -> Any:
                asked.append(name)
                return SamplingResult(Sampling.RECORD_AND_SAMPLE if len(asked) == 1 else Sampling.DROP)

            def get_description(self) -> str:
                return "counts"

        bench = make_bench(sampler=Counts())
        outer = bench.tracing.open(SpanStart("agent", "a"))
        token = outer.enter()
        bench.tracing.open(SpanStart("tool", "x")).end("ok")
        outer.leave(token)
        outer.end("ok")
        bench.tracing.open(SpanStart("agent", "b")).end("ok")
        assert ["invoke_agent a", "execute_tool x", "invoke_agent b"] == asked

    def test_a_sampler_that_looks_sees_everything(self, make_bench: Any) -> None:
        """A sampler that decides by attributes gets the very ones that the span will have."""
        seen: dict[str, object] = {}

        class Looks(Sampler):
            def should_sample(
                self, parent_context: Any, trace_id: int, name: str, kind: Any = None, attributes: Any = None, *more: Any
            ) -> Any:
                seen.update(attributes)
                wanted = attributes.get("gen_ai.tool.name") == "wanted"
                return SamplingResult(Sampling.RECORD_AND_SAMPLE if wanted else Sampling.DROP, attributes)

            def get_description(self) -> str:
                return "looks"

        bench = make_bench(sampler=Looks())
        bench.tracing.open(SpanStart("tool", "unwanted")).end("ok")
        bench.tracing.open(SpanStart("tool", "wanted", session="s1", unguarded=True)).end("ok")
        assert seen == bench.span("execute_tool wanted").attributes
        assert ("s1", False) == (seen["gen_ai.conversation.id"], seen["otel_runtime.guarded"])


class Untouchable:
    """Fails the test when it is shown."""

    def __str__(self) -> str:
        raise AssertionError("was shown")

    __repr__ = __str__
