"""What an application's own provider, its clock, its random numbers and its callers may do: spans suffer, calls and decisions never."""

from __future__ import annotations

import asyncio
import json
import logging
import random
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import baggage, context, trace
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.id_generator import IdGenerator, RandomIdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, Decision, Sampler, SamplingResult, TraceIdRatioBased
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

import otel_runtime as rt
from otel_runtime.runtime.build import build_runtime
from otel_runtime.settings.model import Settings
from otel_runtime.telemetry.protocol import SpanStart

POLICY = """
version: 1
name: hostile
default: deny
rules:
  - {id: mine, tool: [f, g, h], user: carla, decision: allow}
  - {id: open, tool: [add, boast], decision: allow}
"""


class World:
    """A guarded runtime on a provider of the application's."""

    def __init__(self, stack: ExitStack, folder: Path, *processors: SpanProcessor, **provider: Any) -> None:
        self.exporter = InMemorySpanExporter()
        made = TracerProvider(shutdown_on_exit=False, **provider)
        for processor in (*processors, SimpleSpanProcessor(self.exporter)):
            made.add_span_processor(processor)
        self.provider = made
        (folder / "policy.yaml").write_text(POLICY)
        settings = Settings(policy=(folder / "policy.yaml",), state=folder / "state.db", capture="SPAN_ONLY", flush_timeout=1.0)
        self.runtime = build_runtime(settings, tracer_provider=made)
        stack.callback(self.runtime.shutdown)
        stack.enter_context(self.runtime.use())

    def spans(self) -> list[ReadableSpan]:
        self.runtime.flush(60)
        return list(self.exporter.get_finished_spans())

    def span(self, name: str) -> ReadableSpan:
        (found,) = [span for span in self.spans() if span.name == name]
        return found

    def problems(self) -> Any:
        report: Any = self.runtime.report()["telemetry"]
        return report["problems"]


MakeWorld = Callable[..., World]


@pytest.fixture
def world(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> Iterator[MakeWorld]:
    # The SDK logs what its own parts do wrong.
    caplog.set_level(logging.CRITICAL + 1)
    with ExitStack() as stack:
        yield lambda *processors, **provider: World(stack, tmp_path, *processors, **provider)


@rt.tool
def add(a: int, b: int) -> int:
    return a + b


@rt.model("m")
async def words(count: int) -> AsyncIterator[str]:
    for number in range(count):
        yield str(number + add(number, 1))


@rt.agent
async def support() -> list[str]:
    return [word async for word in words(2)]


def as_ever() -> None:
    """A function, a coroutine and a stream, and a refusal, in one tree."""
    assert 3 == add(1, 2)
    assert ["1", "3"] == asyncio.run(support())
    with pytest.raises(rt.PolicyDenied):
        rt.tool(name="other")(lambda: 1)()


# --- ids -------------------------------------------------------------------------------------------------------------------------------


def _raises() -> Any:
    raise RuntimeError("no ids today")


class _Unasked:
    """No number, and nothing may be asked of it."""

    def _no(self, *_: object) -> Any:
        raise RuntimeError("asked")

    __repr__ = __str__ = __hash__ = __eq__ = __lt__ = __index__ = __format__ = __and__ = _no


class Given(IdGenerator):
    """Makes of both ids what it is told."""

    def __init__(self, trace_id: Callable[[], Any], span_id: Callable[[], Any]) -> None:
        self.generate_trace_id = trace_id  # type: ignore[method-assign]  # that is the test
        self.generate_span_id = span_id  # type: ignore[method-assign]  # as above

    def generate_trace_id(self) -> int:
        raise NotImplementedError

    def generate_span_id(self) -> int:
        raise NotImplementedError


RANDOM = RandomIdGenerator()
GENERATORS: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
    "both raise": (_raises, _raises),
    "span ids raise": (RANDOM.generate_trace_id, _raises),
    "trace ids raise": (_raises, RANDOM.generate_span_id),
    "zero": (lambda: 0, lambda: 0),
    "negative": (lambda: -5, lambda: -5),
    "too long": (lambda: 1 << 200, lambda: 1 << 90),
    "text": (lambda: "0af7", lambda: "b7ad"),
    "nothing": (lambda: None, lambda: None),
    "a fraction": (lambda: 1.5, lambda: 1.5),
    "always the same": (lambda: 7, lambda: 7),
    "no number": (_Unasked, _Unasked),
}
SAMPLERS: dict[str, Callable[[], Sampler | None]] = {
    "default": lambda: None,
    "off": lambda: ALWAYS_OFF,
    "ratio": lambda: TraceIdRatioBased(0.5),
}


class TestIds:
    @pytest.mark.parametrize("sampler", SAMPLERS)
    @pytest.mark.parametrize("name", GENERATORS)
    def test_a_generator_of_the_applications_own(self, world: MakeWorld, name: str, sampler: str) -> None:
        """Whatever it raises or gives, calls and decisions are as ever; what failed is named for doctor."""
        made = world(id_generator=Given(*GENERATORS[name]), sampler=SAMPLERS[sampler]())
        as_ever()
        if "raise" in name:
            assert "no ids today" in str(made.problems())

    def test_it_is_used(self, world: MakeWorld) -> None:
        """One that makes sound ids makes ours."""
        numbers = iter(range(100, 200))
        made = world(id_generator=Given(lambda: 0xABC, lambda: next(numbers)))
        add(1, 2)
        (span,) = made.spans()
        assert span.context is not None
        assert (0xABC, 100) == (span.context.trace_id, span.context.span_id)

    def test_seeded_random(self, world: MakeWorld) -> None:
        """On the application's provider too, `random.seed` repeats no trace and our spans draw no number of the application's."""
        made = world()
        drawn = []
        for _ in range(3):
            random.seed(7)
            add(1, 2)
            drawn.append(random.random())
        random.seed(7)
        assert [random.random()] * 3 == drawn
        assert 3 == len({span.context.trace_id for span in made.spans() if span.context is not None})


# --- clocks ----------------------------------------------------------------------------------------------------------------------------


class TestClocks:
    @pytest.mark.parametrize("step", [-3_600.0, 86_400 * 365.0, -86_400 * 365 * 80.0], ids=["an hour back", "a year on", "before 1970"])
    def test_steps_inside_of_calls(self, world: MakeWorld, monkeypatch: pytest.MonkeyPatch, step: float) -> None:
        """A clock that is set while functions, coroutines and streams run makes no negative and no absurd duration."""
        made = world()
        real, offset = time.time_ns, [0]
        monkeypatch.setattr(time, "time_ns", lambda: real() + offset[0])

        def set_it() -> None:
            offset[0] = 0 if offset[0] else int(step * 1e9)

        @rt.tool
        def f() -> None:
            set_it()

        @rt.tool
        async def g() -> None:
            set_it()
            await asyncio.sleep(0)

        @rt.tool
        def h() -> Iterator[int]:
            set_it()
            yield 1
            set_it()
            yield 2

        with rt.session("s", user="carla"):
            for _ in range(2):
                f()
                asyncio.run(g())
                assert [1, 2] == list(h())
        spans = made.spans()
        assert ["execute_tool f", "execute_tool g", "execute_tool h"] * 2 == [span.name for span in spans]
        for span in spans:
            assert type(span.start_time) is type(span.end_time) is int
            assert 0 <= span.end_time - span.start_time < 60 * 10**9

    @pytest.mark.parametrize("clock", [lambda: "noon", lambda: -5, lambda: 1.5e18, lambda: 1 << 80, _raises])
    def test_garbage(self, world: MakeWorld, monkeypatch: pytest.MonkeyPatch, clock: Callable[[], Any]) -> None:
        """A patched clock that gives no time, as tests that freeze it may, changes no call."""
        world()
        with monkeypatch.context() as patched:
            patched.setattr(time, "time_ns", clock)
            as_ever()


# --- processors and exporters ------------------------------------------------------------------------------------------------------------


class Says(SpanExporter):
    """An exporter that does what it is told."""

    def __init__(self, do: Callable[[], Any]) -> None:
        self.do = do

    def export(self, spans: Any) -> Any:
        return self.do()

    def force_flush(self, timeout_millis: int = 30_000) -> Any:
        return self.do()

    def shutdown(self) -> Any:
        return self.do()


def _ends() -> Any:
    raise SystemExit(3)


class TestExporters:
    @pytest.mark.parametrize(
        "do", [lambda: None, lambda: "fine", lambda: 7, _Unasked, _raises], ids=["nothing", "text", "number", "no answer", "raises"]
    )
    @pytest.mark.parametrize("processor", [SimpleSpanProcessor, BatchSpanProcessor])
    def test_garbage(self, world: MakeWorld, processor: Any, do: Callable[[], Any]) -> None:
        """What it answers or raises reaches no call, no flush and no shutdown."""
        made = world(processor(Says(do)))
        as_ever()
        assert made.runtime.flush(60) in (True, False)
        assert made.runtime.shutdown() in (True, False)

    def test_hangs(self, world: MakeWorld) -> None:
        """One that never comes back holds neither a call nor a flush nor a shutdown beyond its bound."""
        free = threading.Event()
        hanging = BatchSpanProcessor(Says(lambda: free.wait(60)), schedule_delay_millis=10)
        made = world(hanging)
        try:
            began = time.monotonic()
            as_ever()
            assert made.runtime.flush(0.3) is False
            made.runtime.shutdown()
            # The bounds are 0.3 s and 1 s; the rest is for a busy machine.
            assert time.monotonic() - began < 50
            assert not free.is_set()
        finally:
            free.set()
            hanging.shutdown()  # type: ignore[no-untyped-call]  # the SDK's own

    def test_an_exit_inside(self, world: MakeWorld) -> None:
        """A `sys.exit` in an exporter on the caller's thread is the application's to see; the call had run."""
        world(SimpleSpanProcessor(Says(_ends)))
        ran: list[int] = []
        with pytest.raises(SystemExit):
            rt.tool(name="add")(lambda: ran.append(1))()
        assert [1] == ran


class Breaks(SpanProcessor):
    """Raises at the start or the end of spans of foreign events, once there are some."""

    def __init__(self, when: str) -> None:
        self.when = when
        self.broken = False
        self.ended: list[str] = []

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        self._fail("start")

    def on_end(self, span: ReadableSpan) -> None:
        self.ended.append(span.name)
        self._fail("end")

    def _fail(self, where: str) -> None:
        if self.broken and self.when == where:
            raise RuntimeError("processor")


class TestForeignEvents:
    @pytest.mark.parametrize("when", ["start", "end"])
    def test_a_processor_that_raises_stops_no_flush_and_no_shutdown(self, world: MakeWorld, when: str) -> None:
        """What waited for an earlier event is written then, by whoever asked for the flush."""
        processor = Breaks(when)
        bench = world(processor)
        into = rt.feed(source="a3s")
        for event in ({"type": "start"}, {"type": "tool_start", "id": "t1", "name": "x"}, {"type": "end"}):
            into.push(event)
        into.push({"type": "turn_start", "turn": 1, "session_id": "not begun"})
        processor.broken = True
        assert bench.runtime.flush(60)
        assert "RuntimeError: processor" in bench.problems().values()
        into.push({"type": "start"})
        assert bench.runtime.shutdown(60)

    def test_spans_end_after_one_that_could_not_be_handed_on(self, world: MakeWorld) -> None:
        """A run whose first step fails at its end is ended all the same."""
        processor = Breaks("end")
        bench = world(processor)
        into = rt.feed(source="a3s")
        into.push({"type": "start"})
        into.push({"type": "tool_start", "id": "t1", "name": "x"})
        processor.broken = True
        bench.runtime.shutdown(60)
        assert ["execute_tool x", "invoke_agent"] == processor.ended


class Floods(SpanProcessor):
    """Puts more onto a span than the SDK keeps."""

    def __init__(self, when: str) -> None:
        self.when = when

    def flood(self, span: Any) -> None:
        for number in range(400):
            span.set_attribute(f"flood.{number}", "x" * 100)
            span.add_event(f"flood {number}")

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        if self.when == "start":
            self.flood(span)

    def on_end(self, span: ReadableSpan) -> None:
        """Nothing: an ended span takes no more."""


class TestEviction:
    @pytest.mark.parametrize("when", ["start", "inside", "both"])
    def test_decisions_stay(self, world: MakeWorld, when: str) -> None:
        """Neither a processor nor the body can push out what was decided, what kind of call it is, or how it ended."""
        made = world(Floods("start" if when != "inside" else "never"))

        @rt.tool
        def boast(fails: bool) -> str:
            if when != "start":
                Floods("").flood(trace.get_current_span())
            if fails:
                raise KeyError("in")
            return "done"

        assert "done" == boast(False)
        with pytest.raises(KeyError):
            boast(True)
        well, failed = made.spans()
        for span in (well, failed):
            found = span.attributes or {}
            assert ("allow", "open") == (found["otel_runtime.policy.decision"], found["otel_runtime.policy.rule"])
            assert ("execute_tool", "boast") == (found["gen_ai.operation.name"], found["gen_ai.tool.name"])
            assert len(found) <= 128
        assert ("ERROR", "KeyError") == (failed.status.status_code.name, (failed.attributes or {})["error.type"])
        assert "exception" == failed.events[-1].name
        assert len(failed.events) <= 128

    def test_kinds_stay(self, make_bench: Any) -> None:
        """Without a policy too, the span says what kind of call it is."""
        bench = make_bench(processors=(Floods("start"),))
        bench.tracing.open(SpanStart("tool", "x")).end("ok")
        found = bench.span("execute_tool x").attributes
        assert ("execute_tool", "x") == (found["gen_ai.operation.name"], found["gen_ai.tool.name"])

    def test_refusals_stay(self, world: MakeWorld) -> None:
        """The span of a refusal keeps why."""
        made = world(Floods("start"))
        with pytest.raises(rt.PolicyDenied):
            rt.tool(name="other")(lambda: 1)()
        found = made.span("policy deny other").attributes or {}
        assert ("deny", "other") == (found["otel_runtime.policy.decision"], found["otel_runtime.tool.name"])


class Drops(Sampler):
    """Answers what no sampler may."""

    def __init__(self, answer: Callable[[], Any]) -> None:
        self.answer = answer

    def should_sample(self, *args: Any, **kwargs: Any) -> Any:
        return self.answer()

    def get_description(self) -> str:
        return "odd"


class TestSamplers:
    @pytest.mark.parametrize(
        "answer",
        [
            lambda: None,
            lambda: "yes",
            _Unasked,
            _raises,
            lambda: SamplingResult(Decision.RECORD_AND_SAMPLE, {"a": object(), 5: "b"}),  # type: ignore[dict-item]  # that is the test
            lambda: SamplingResult(Decision.RECORD_AND_SAMPLE, None, "no state"),  # type: ignore[arg-type]  # as above
        ],
        ids=["nothing", "text", "no answer", "raises", "odd attributes", "odd state"],
    )
    def test_garbage(self, world: MakeWorld, answer: Callable[[], Any]) -> None:
        """A sampler that raises or answers nonsense costs spans and nothing else."""
        world(sampler=Drops(answer))
        as_ever()


# --- callers from outside ----------------------------------------------------------------------------------------------------------------


TRACE = "0af7651916cd43dd8448eb211c80319c"
# What a caller may send: unsampled, malformed, of a version to come, far too long.
CARRIERS = {
    "unsampled": {"traceparent": f"00-{TRACE}-b7ad6b7169203331-00"},
    "sampled": {"traceparent": f"00-{TRACE}-b7ad6b7169203331-01"},
    "zeros": {"traceparent": f"00-{'0' * 32}-{'0' * 16}-01"},
    "malformed": {"traceparent": "00-x-y-z", "tracestate": "=,;\ud800"},
    "of a version to come": {"traceparent": f"cc-{TRACE}-b7ad6b7169203331-01-and-more"},
    "long state": {"traceparent": f"00-{TRACE}-b7ad6b7169203331-01", "tracestate": ",".join(f"k{n}={'v' * 200}" for n in range(32))},
    "baggage": {"baggage": "user.id=root,session=stolen,otel_runtime.user=root,gen_ai.conversation.id=stolen,run=x," + "a=" + "b" * 8_000},
}


class TestCallers:
    @pytest.mark.parametrize("name", CARRIERS)
    def test_decisions_do_not_depend_on_them(self, world: MakeWorld, name: str) -> None:
        """What a request brings along decides nothing and becomes no attribute: who acts is said by the application alone."""
        made = world()
        around = W3CBaggagePropagator().extract(CARRIERS[name], TraceContextTextMapPropagator().extract(CARRIERS[name]))
        around = baggage.set_baggage("user", "carla", baggage.set_baggage("otel_runtime.roles", ["admin"], around))
        token = context.attach(around)
        try:
            as_ever()
            with pytest.raises(rt.PolicyDenied):
                rt.tool(name="f")(lambda: 1)()
            with rt.session("s", user="carla"):
                assert 1 == rt.tool(name="f")(lambda: 1)()
        finally:
            context.detach(token)
        said = json.dumps([dict(span.attributes or {}) for span in made.spans()])
        assert not any(word in said for word in ("root", "stolen", "admin"))

    def test_unsampled_is_still_decided(self, world: MakeWorld) -> None:
        """`traceparent ...-00` switches spans off where the application's own sampler says so, and no decision."""
        made = world()
        token = context.attach(TraceContextTextMapPropagator().extract(CARRIERS["unsampled"]))
        try:
            as_ever()
        finally:
            context.detach(token)
        assert [] == made.spans()
