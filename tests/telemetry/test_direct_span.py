"""Spans that are started directly are the spans that the SDK would have made."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanLimits, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace import Tracer as SdkTracer
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import (
    ALWAYS_OFF,
    ALWAYS_ON,
    DEFAULT_OFF,
    DEFAULT_ON,
    Decision,
    ParentBased,
    Sampler,
    SamplingResult,
    TraceIdRatioBased,
)
from opentelemetry.trace import Link, NonRecordingSpan, SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState

from otel_runtime.telemetry import direct_span
from otel_runtime.telemetry.direct_span import DirectSpan, fits
from otel_runtime.telemetry.lazy_attributes import LazyAttributes
from otel_runtime.telemetry.operations import Attributes
from otel_runtime.telemetry.starting import RECORD_ALL, DirectSpans, PublicSpans, Spans, spans_of

TRACE, SPAN = 0x4BF92F3577B34DA6A3CE929D0E0E4736, 0x00F067AA0BA902B7
OWN: Mapping[str, Any] = {"gen_ai.tool.name": "refund", "n": 3, "ok": True, "share": 0.5, "words": ("a", "b")}


class Counting(IdGenerator):
    """The same ids each time."""

    def __init__(self) -> None:
        self.last = 0

    def generate_span_id(self) -> int:
        self.last += 1
        return self.last

    def generate_trace_id(self) -> int:
        return self.generate_span_id()

    def is_trace_id_random(self) -> bool:
        return True


class Adds(Sampler):
    """Hands back more attributes than it was given, some of which are no attributes, and a state."""

    def should_sample(
        self, parent_context: Any, trace_id: int, name: str, kind: Any = None, attributes: Any = None, *more: Any
    ) -> SamplingResult:
        added = {**dict(attributes), "rate": 0.1, "wrong": object(), "": 1, **{f"many.{number}": number for number in range(200)}}
        return SamplingResult(Decision.RECORD_AND_SAMPLE, added, TraceState([("rate", "10")]))

    def get_description(self) -> str:
        return "adds"


class Watches(Sampler):
    """Records what it does not sample."""

    def should_sample(
        self, parent_context: Any, trace_id: int, name: str, kind: Any = None, attributes: Any = None, *more: Any
    ) -> SamplingResult:
        return SamplingResult(Decision.RECORD_ONLY, attributes)

    def get_description(self) -> str:
        return "watches"


class Keeps(SpanProcessor):
    """Keeps every ended span, the unsampled ones too."""

    def __init__(self) -> None:
        self.ended: list[ReadableSpan] = []

    def on_end(self, span: ReadableSpan) -> None:
        self.ended.append(span)


def provider(sampler: Sampler | None = None, **more: Any) -> TracerProvider:
    return TracerProvider(
        sampler=sampler, resource=Resource({"service.name": "t"}), shutdown_on_exit=False, id_generator=Counting(), **more
    )


def around(place: SpanContext | None) -> tuple[Context, trace.Span]:
    if place is None:
        return Context(), trace.INVALID_SPAN
    span = NonRecordingSpan(place)
    return trace.set_span_in_context(span, Context()), span


def place(*, sampled: bool, remote: bool, random: bool = False) -> SpanContext:
    flags = TraceFlags(int(sampled) | (int(getattr(TraceFlags, "RANDOM_TRACE_ID", 0)) if random else 0))
    return SpanContext(TRACE, SPAN, is_remote=remote, trace_flags=flags, trace_state=TraceState([("vendor", "1")]))


PLACES = {
    "none": None,
    "local": place(sampled=True, remote=False),
    "local, random": place(sampled=True, remote=False, random=True),
    "remote": place(sampled=True, remote=True),
    "remote, unsampled": place(sampled=False, remote=True, random=True),
    "local, unsampled": place(sampled=False, remote=False),
}
SAMPLERS: dict[str, Sampler] = {
    "always on": ALWAYS_ON,
    "always off": ALWAYS_OFF,
    "default": DEFAULT_ON,
    "default off": DEFAULT_OFF,
    "ours": RECORD_ALL,
    "all by ratio": TraceIdRatioBased(1.0),
    "none by ratio": ParentBased(TraceIdRatioBased(0.0)),
    "adds": Adds(),
    "watches": Watches(),
    "takes children": ParentBased(ALWAYS_OFF, local_parent_not_sampled=ALWAYS_ON),
}


def nothing(span: trace.Span) -> None:
    """Nobody else touches the span."""


def foreign_attributes(span: trace.Span) -> None:
    span.set_attribute("mine", "x" * 5000)
    span.set_attributes({"n": 4, "list": ["a", "b"], "nested": {"a": 1}})


def too_many_attributes(span: trace.Span) -> None:
    for number in range(200):
        span.set_attribute(f"many.{number}", number)


def events(span: trace.Span) -> None:
    span.add_event("first", {"a": 1}, timestamp=5)
    span.record_exception(ValueError("no"), timestamp=6)
    for number in range(200):
        span.add_event(f"event {number}", timestamp=number)


def links(span: trace.Span) -> None:
    span.add_link(SpanContext(TRACE, SPAN, is_remote=True), {"why": "because"})


def status_and_name(span: trace.Span) -> None:
    span.set_status(Status(StatusCode.ERROR, "bad"))
    span.set_status(StatusCode.OK)
    span.set_status(StatusCode.ERROR)
    span.update_name("other")


def looks(span: trace.Span) -> None:
    if isinstance(span, ReadableSpan):
        assert len(span.events) == len(span.links) == span.dropped_events == span.dropped_links == 0
        assert "refund" == (span.attributes or {})["gen_ai.tool.name"]


def ended_by_somebody(span: trace.Span) -> None:
    span.end(17)


def as_block(span: trace.Span) -> None:
    with pytest.raises(ValueError, match="inside"), span:
        raise ValueError("inside")


ACTIONS = (nothing, foreign_attributes, too_many_attributes, events, links, status_and_name, looks, ended_by_somebody, as_block)


def sets_the_random_flag() -> bool:
    """True for the SDK 1.42, which sets the flag of a trace anew at each child; W3C Trace Context has it carried on, as we do."""
    context, _ = around(PLACES["local"])
    flags = provider(ALWAYS_OFF).get_tracer("t").start_span("x", context).get_span_context().trace_flags
    return bool(flags & int(getattr(TraceFlags, "RANDOM_TRACE_ID", 0)))


def lived(
    spans: Callable[[SdkTracer], Spans], sampler: Sampler, parent: SpanContext | None, act: Callable[[trace.Span], None]
) -> tuple[Any, ...]:
    """One span, from its start to what processors are handed at its end."""
    made = provider(sampler)
    keeps = Keeps()
    made.add_span_processor(keeps)
    tracer = made.get_tracer("scope", "1", attributes={"v": "1"})
    assert isinstance(tracer, SdkTracer)
    context, inside = around(parent)
    span = spans(tracer).start("execute_tool refund", SpanKind.CLIENT, lambda: dict(OWN), context, inside, (), 3)
    stands_in = span is inside
    started = span.get_span_context()
    act(span)
    recording = span.is_recording()
    if recording:
        span.set_attributes({"late": 1, "n": 9})
        span.end(11)
    return stands_in, tuple(started), recording, span.is_recording(), [shown(one) for one in keeps.ended]


def shown(span: ReadableSpan) -> Any:
    known = json.loads(span.to_json())
    if (span.end_time or 0) > 1_000:
        known["end_time"] = "now"
    known["attributes"] = sorted(known["attributes"].items(), key=lambda one: str(one[0]))
    for event in known["events"]:
        if event["name"] == "exception":
            event["attributes"].pop("exception.stacktrace")
            event.pop("timestamp")
    scope = span.instrumentation_scope
    return known, span.dropped_attributes, span.dropped_events, span.dropped_links, scope and scope.to_json(), span.resource.attributes


class TestLikeTheSdk:
    @pytest.mark.parametrize("sampler", SAMPLERS)
    @pytest.mark.parametrize("parent", PLACES)
    def test_started(self, sampler: str, parent: str) -> None:
        """Under any sampler and any parent the place, the flags, the state and the record are those of the public API."""
        if sets_the_random_flag() and "random" not in parent and PLACES[parent] is not None:
            pytest.skip("this SDK calls ids random that the parent did not; pip install -U opentelemetry-sdk")
        chosen = SAMPLERS[sampler], PLACES[parent], nothing
        assert lived(PublicSpans, *chosen) == lived(DirectSpans, *chosen)

    @pytest.mark.parametrize("act", ACTIONS, ids=lambda act: act.__name__)
    def test_touched(self, act: Callable[[trace.Span], None], caplog: pytest.LogCaptureFixture) -> None:
        """What an application does to the current span has the effect it has on a span of the SDK."""
        caplog.set_level(logging.CRITICAL)
        assert lived(PublicSpans, ALWAYS_ON, None, act) == lived(DirectSpans, ALWAYS_ON, None, act)

    def test_exported(self) -> None:
        """An exporter of the SDK encodes it to the same message."""
        from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans

        found = []
        for spans in (PublicSpans, DirectSpans):
            made, keeps = provider(), Keeps()
            made.add_span_processor(keeps)
            tracer = made.get_tracer("scope")
            assert isinstance(tracer, SdkTracer)
            span = spans(tracer).start("x", SpanKind.INTERNAL, lambda: dict(OWN), *around(PLACES["remote"]), (), 3)
            span.add_event("e", {"a": 1}, 4)
            span.set_status(StatusCode.ERROR, "no")
            span.end(5)
            found.append(encode_spans(keeps.ended).SerializeToString())
        assert found[0] == found[1]

    def test_links_are_kept(self) -> None:
        """A span with links has them."""
        made, keeps = provider(), Keeps()
        made.add_span_processor(keeps)
        link = Link(SpanContext(TRACE, SPAN, is_remote=True))
        spans_of(made.get_tracer("t")).start("x", SpanKind.INTERNAL, dict, *around(None), (link,), 3).end(4)
        assert [TRACE] == [one.context.trace_id for one in keeps.ended[0].links]

    def test_a_tracer_that_is_switched_off(self) -> None:
        """A tracer that the application's configurator disables starts nothing."""
        tracer = provider().get_tracer("t")
        assert isinstance(tracer, SdkTracer)
        if not hasattr(tracer, "_tracer_config"):
            pytest.skip("this SDK has no tracer configurator; pip install -U opentelemetry-sdk")
        spans = spans_of(tracer)
        tracer._tracer_config = type(tracer._tracer_config)(is_enabled=False)
        assert not spans.start("x", SpanKind.INTERNAL, dict, *around(None), (), 3).is_recording()


class TestProcessors:
    def test_see_a_span_of_the_sdk(self) -> None:
        """A processor is shown a span of the SDK's class, may give it attributes, and is handed one that nobody can change any more."""
        seen: list[Any] = []

        class Stamps(SpanProcessor):
            def on_start(self, span: Span, parent_context: Context | None = None) -> None:
                seen.append((isinstance(span, Span), span.is_recording(), parent_context))
                span.set_attribute("stamp", "s")

            def on_end(self, span: ReadableSpan) -> None:
                seen.append(dict(span.attributes or {}))

        made = provider()
        made.add_span_processor(Stamps())
        context, inside = around(None)
        span = spans_of(made.get_tracer("t")).start("x", SpanKind.INTERNAL, lambda: {"a": 1}, context, inside, (), 3)
        assert isinstance(span, DirectSpan)
        span.add_own({"b": 2})
        span.end(4)
        assert [(True, True, context), {"a": 1, "stamp": "s", "b": 2}] == seen

    def test_nothing_after_the_end(self, caplog: pytest.LogCaptureFixture) -> None:
        """An ended span takes nothing more, and ends once."""
        exporter = InMemorySpanExporter()
        made = provider()
        made.add_span_processor(SimpleSpanProcessor(exporter))
        span = spans_of(made.get_tracer("t")).start("x", SpanKind.INTERNAL, lambda: {"a": 1}, *around(None), (), 3)
        assert isinstance(span, DirectSpan)
        span.end(4)
        with caplog.at_level(logging.CRITICAL):
            span.set_attribute("late", 1)
            span.add_own({"late": 1})
            span.end(9)
        found = exporter.get_finished_spans()
        assert [({"a": 1}, 4)] == [(dict(one.attributes or {}), one.end_time) for one in found]

    def test_two_threads_look_at_once(self) -> None:
        """Attributes set by several threads at the moment they come into being are all kept."""
        made, keeps = provider(), Keeps()
        made.add_span_processor(keeps)
        for _ in range(50):
            span = spans_of(made.get_tracer("t")).start("x", SpanKind.INTERNAL, lambda: {"a": 1}, *around(None), (), 3)
            barrier = threading.Barrier(4)

            def touch(name: str, span: trace.Span = span, barrier: threading.Barrier = barrier) -> None:
                barrier.wait()
                span.set_attribute(name, 1)
                span.add_event(name)

            threads = [threading.Thread(target=touch, args=(name,)) for name in "bcde"]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            span.end(4)
            assert (set("abcde"), set("bcde")) == (set(keeps.ended[-1].attributes or {}), {event.name for event in keeps.ended[-1].events})


class TestLazyAttributes:
    def test_copy(self) -> None:
        """What the SDK copies before it keeps it is a dictionary of its own, through the proxy that a sampler puts around it too."""
        lazy = LazyAttributes(lambda: dict(OWN))
        for one in (lazy.copy(), MappingProxyType(lazy).copy()):
            one["more"] = 1
            assert OWN == lazy.all()


class TestFits:
    def test_the_sdk_as_it_comes(self) -> None:
        """The SDK that is installed here is known, so that its spans are started directly."""
        assert isinstance(spans_of(provider().get_tracer("t")), DirectSpans)

    @pytest.mark.parametrize("limits", [SpanLimits(max_span_attribute_length=10), SpanLimits(max_span_attributes=20)])
    def test_narrow_limits_are_the_sdks_to_keep(self, limits: SpanLimits) -> None:
        """An application that cuts or counts attributes gets them cut and counted."""
        made, keeps = provider(span_limits=limits), Keeps()
        made.add_span_processor(keeps)
        tracer = made.get_tracer("t")
        assert not fits(tracer)
        own: Attributes = {f"k{number}": "x" * 40 for number in range(30)}
        spans_of(tracer).start("x", SpanKind.INTERNAL, lambda: own, *around(None), (), 3).end(4)
        attributes = keeps.ended[0].attributes or {}
        assert (limits.max_span_attributes or 128) >= len(attributes)
        assert (limits.max_span_attribute_length or 40) == len(str(attributes["k29"]))

    def test_another_tracer(self) -> None:
        """A tracer of another class, or one that keeps what we do not know of, is asked by the public API."""

        class Other(SdkTracer):
            pass

        known = provider().get_tracer("t")
        assert isinstance(known, SdkTracer)
        other = Other.__new__(Other)
        vars(other).update(vars(known))
        assert [False, False] == [fits(other), fits(trace.NoOpTracer())]
        vars(known)["_new_thing"] = 1
        assert not fits(known)

    def test_another_sdk(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """With an SDK whose spans keep more than we know of, the public API starts them."""
        monkeypatch.setattr(direct_span, "_SPAN_KEEPS", direct_span._SPAN_KEEPS - {"_status"})
        direct_span._known_sdk.cache_clear()
        try:
            assert isinstance(spans_of(provider().get_tracer("t")), PublicSpans)
        finally:
            direct_span._known_sdk.cache_clear()

    def test_measurements_of_the_sdk(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Where the SDK counts its own spans, it starts them."""
        tracer = provider().get_tracer("t")
        if not hasattr(tracer, "_tracer_metrics"):
            pytest.skip("this SDK does not count its spans; pip install -U opentelemetry-sdk")
        monkeypatch.setenv("OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED", "true")
        assert [True, False] == [fits(tracer), fits(provider().get_tracer("t"))]

    def test_ids_that_are_none(self) -> None:
        """An id generator that gives zero makes a place that is not valid, as with the SDK."""

        class Zero(Counting):
            def generate_span_id(self) -> int:
                return 0

        made = TracerProvider(resource=Resource({}), shutdown_on_exit=False, id_generator=Zero())
        span = spans_of(made.get_tracer("t")).start("x", SpanKind.INTERNAL, dict, *around(None), (), 3)
        assert not span.get_span_context().is_valid
