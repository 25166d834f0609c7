"""What foreign events can never do: raise, leak, spoof, or leave a span open."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from otel_runtime.telemetry.event_attributes import attributes_of
from otel_runtime.telemetry.projector import Projector
from otel_runtime.telemetry.projector_spans import SpanPort, TracerSpans
from otel_runtime.telemetry.redaction import Redactor
from otel_runtime.values.trace import TraceEvent, TraceRef

BASE = datetime(2026, 11, 20, 8, tzinfo=UTC)


def project(events: Sequence[TraceEvent]) -> tuple[ReadableSpan, ...]:
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    projector = Projector(TracerSpans(provider.get_tracer("test")))
    for event in events:
        projector.observe(event)
    projector.close()
    assert not [reason for reason in projector.problems if reason.startswith("error")]
    return exporter.get_finished_spans()


class TestAttributes:
    @pytest.mark.parametrize(
        "key",
        [
            "input",
            "output",
            "prompt",
            "args",
            "body",
            "headers",
            "tool.input",
            "http.request.body",
            "api_key",
            "Authorization",
            "access_token",
            "response_text",
            "openaiApiKey",
            "accessToken",
            "x-api-key",
            "client_secret",
            "tool.output.stderr",
            "request.headers.host",
            "env.HOME",
            "vitehub.session.title",
            "item.data",
            "command",
            "progress",
        ],
    )
    def test_content_and_secrets_stay(self, key: str) -> None:
        """Their values never leave, and what was removed is named."""
        found = attributes_of(TraceEvent("x", "run", attributes={key: "sk-SECRET"}))
        assert "SECRET" not in repr(found)
        assert (key,) == found["otel_runtime.content.omitted"]

    def test_what_any_event_of_a_step_left_behind_is_named(self) -> None:
        """Start, progress and end each leave content behind: their span names all of it."""
        said = [("tool.start", "input"), ("tool.progress", "prompt"), ("tool.finish", "output")]
        step, _ = project([TraceEvent(name, "run", attributes={"run.id": "r", "tool.id": "c", key: "sk-SECRET"}) for name, key in said])
        assert ("input", "output", "prompt") == (step.attributes or {})["otel_runtime.content.omitted"]

    def test_token_counts_are_no_secret(self) -> None:
        """Usage passes."""
        assert 7 == attributes_of(TraceEvent("x", "run", attributes={"usage.input_tokens": 7}))["gen_ai.usage.input_tokens"]

    @pytest.mark.parametrize(
        "key", ["request.id", "requestId", "input_tokens", "message_count", "author", "tokens", "lane", "result_count"]
    )
    def test_what_only_sounds_like_content(self, key: str) -> None:
        """Ids and counts pass."""
        assert "v" == attributes_of(TraceEvent("x", "run", attributes={key: "v"}))[f"otel_runtime.attr.{key}"]

    def test_how_far_something_is(self) -> None:
        """A share is no content, words under the same name are."""
        assert 0.5 == attributes_of(TraceEvent("x", "run", attributes={"progress": 0.5}))["otel_runtime.attr.progress"]

    def test_secrets_in_free_text_are_masked(self) -> None:
        """In any attribute that nobody knows, and in reasons; ids are what they are."""
        key = "sk-" + "a1" * 12
        raw = {"note": f"use {key}", "policy.reason": f"no {key}", "tool.name": "search"}
        found = attributes_of(TraceEvent("x", "run", attributes=raw), mask=Redactor().mask)
        assert key not in repr(found)
        assert ("search", "use [redacted]") == (found["otel_runtime.tool.name"], found["otel_runtime.attr.note"])

    def test_no_getter_is_called(self) -> None:
        """A payload that would compute something when it is looked at is left alone."""

        class Lazy:
            looked = 0

            def __getattr__(self, name: str) -> object:
                Lazy.looked += 1
                raise AttributeError(name)

            def __str__(self) -> str:
                Lazy.looked += 1
                return "sk-SECRET"

            __repr__ = __str__

        found = attributes_of(TraceEvent("x", "run", attributes={"note": Lazy(), "input": Lazy()}))
        assert (("input", "note"), 0) == (found["otel_runtime.content.omitted"], Lazy.looked)

    def test_our_names_cannot_be_spoofed(self) -> None:
        """A foreign attribute under one of our names goes elsewhere."""
        found = attributes_of(TraceEvent("x", "run", attributes={"gen_ai.operation.name": "execute_tool", "otel_runtime.guarded": True}))
        assert not {"gen_ai.operation.name", "otel_runtime.guarded"} & set(found)

    @pytest.mark.parametrize(
        "value",
        [float("nan"), b"x", {"a": 1}, [1], object(), None, 10**5000],
        ids=["nan", "bytes", "dict", "list", "object", "none", "huge"],
    )
    def test_values_that_are_no_scalars(self, value: object) -> None:
        """Nothing the SDK would refuse is passed on."""
        found = attributes_of(TraceEvent("x", "run", attributes={"key": value}))
        assert all(isinstance(each, str | bool | int | float | tuple) for each in found.values())

    def test_huge_and_broken_text(self) -> None:
        """Text is cut, and lone surrogates are replaced."""
        found = attributes_of(TraceEvent("x", "run", attributes={"key": "\ud800" + "x" * 100_000}))
        text = found["otel_runtime.attr.key"]
        assert isinstance(text, str)
        assert (256, "?") == (len(text), text[0])


class Broken:
    def start(
        self, name: str, attributes: Mapping[str, object], at_ns: int, parent: SpanPort | TraceRef | None, *, client: bool = False
    ) -> SpanPort:
        raise RuntimeError("exporter gone")

    def place(self, parent: SpanPort | TraceRef | None) -> Context:
        raise RuntimeError("exporter gone")


class TestFailure:
    def test_a_broken_tracer_is_counted(self) -> None:
        """Telemetry fails open: nothing reaches the caller."""
        projector = Projector(Broken())
        projector.observe(TraceEvent("tool.start", "run", attributes={"run.id": "r"}))
        assert {"error: RuntimeError": 1} == dict(projector.problems)


NAMES = [
    "tool.start",
    "tool.finish",
    "tool.failed",
    "approval.request",
    "approval.decision",
    "model.start",
    "model.finish",
    "text.delta",
    "note.added",
]
STEPS = st.sampled_from([{}, {"tool.id": "c1"}, {"tool.id": "c2"}, {"step.id": "s"}, {"model.call.id": "g"}, {"approval.id": "a"}])
EVENTS = st.builds(
    lambda name, run, step, ms, identity: TraceEvent(
        name,
        "run",
        BASE + timedelta(milliseconds=ms),
        None,
        {"run.id": run, "tool.name": "t", **step, **({"event.id": identity} if identity else {})},
    ),
    st.sampled_from([*NAMES, "invocation.start", "invocation.error", "invocation.finish", "turn.failed", "finish"]),
    st.sampled_from(["r1", "r2"]),
    STEPS,
    st.integers(0, 100),
    st.sampled_from(["", "e1", "e2"]),
)


class TestProperties:
    @given(events=st.lists(EVENTS, max_size=30))
    def test_any_order_leaves_every_span_ended(self, events: list[TraceEvent]) -> None:
        """Whatever the order, duplication or loss: no exception, every span ended, none before it began, parents known."""
        spans = project(events)
        known = {span.context.span_id for span in spans}
        for span in spans:
            assert span.start_time is not None
            assert span.end_time is not None
            assert span.end_time >= span.start_time
            assert span.parent is None or span.parent.span_id in known

    @given(order=st.permutations(range(6)), copies=st.integers(1, 3))
    def test_a_turn_has_one_span(self, order: list[int], copies: int) -> None:
        """Shuffled and repeated, a turn with event ids never becomes two failed runs."""
        names = ["turn.accepted", "tool.start", "tool.finish", "note.added", "text.delta", "turn.failed"]
        events = [
            TraceEvent(
                names[index],
                "run",
                BASE,
                None,
                {"run.id": "r", "event.id": names[index], **({"run.outcome": "failed"} if index == 5 else {})},
            )
            for index in order
        ]
        spans = project(events * copies)
        assert 1 == sum(span.status.status_code is StatusCode.ERROR for span in spans)
