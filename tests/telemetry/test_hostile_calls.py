"""Telemetry fails open: whatever arguments, results, exceptions, processors, handlers and variables do, the call is that of the bare function."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import random
import subprocess
import sys
import textwrap
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import Sampler, SamplingResult

import otel_runtime as rt
from otel_runtime.runtime.build import build_runtime
from otel_runtime.settings.model import Settings
from otel_runtime.telemetry.capture import MAX_BYTES
from otel_runtime.telemetry.protocol import SpanStart


class Hostile:
    """Everything that can be asked of it raises."""

    def _no(self, *args: object) -> Any:
        raise RuntimeError("do not touch")

    __str__ = __repr__ = __len__ = __eq__ = __hash__ = __bool__ = __iter__ = __getattr__ = __format__ = __call__ = _no


class Faceless:
    """Not even its class can be asked for."""

    @property
    def __class__(self) -> Any:
        raise RuntimeError("not even that")

    @__class__.setter
    def __class__(self, given: Any) -> None:
        raise RuntimeError("nor set")


class HostileMeta(type):
    def __getattribute__(cls, name: str) -> Any:
        if name in ("__name__", "__qualname__", "__module__"):
            raise RuntimeError("no name")
        return super().__getattribute__(name)


class Nameless(metaclass=HostileMeta):
    """Its class has no name that could be read."""


class SlowProperty:
    """Reading its fields would take for ever."""

    @property
    def value(self) -> int:
        raise AssertionError("a property was read")


class HostileError(Exception):
    """An exception that cannot be shown."""

    def __str__(self) -> str:
        raise RuntimeError("no text")

    def __repr__(self) -> str:
        raise RuntimeError("no repr")

    @property
    def args(self) -> Any:  # type: ignore[override]  # that is the point
        raise RuntimeError("no args")


def cyclic() -> Any:
    found: dict[str, Any] = {}
    found["me"] = [found]
    return found


def deep() -> Any:
    found: list[Any] = []
    for _ in range(10_000):
        found = [found]
    return found


VALUES: dict[str, Callable[[], Any]] = {
    "hostile object": Hostile,
    "slow property": SlowProperty,
    "cycle": cyclic,
    "10,000 levels": deep,
    "5 MB of text": lambda: "x" * 5_000_000,
    "5 MB of items": lambda: list(range(700_000)),
    "5 MB of bytes": lambda: b"x" * 5_000_000,
    "module": lambda: json,
    "lone surrogate": lambda: {"a\ud800": "b\udfff"},
    "huge int": lambda: 10**5_000,
    "not a number": lambda: [float("nan"), float("inf"), -0.0],
    "keys of all kinds": lambda: {1: 1, None: 2, (1, 2): 3, b"x": 4, frozenset(): 5},
    "hostile inside": lambda: {"list": [Hostile(), Hostile()], "error": HostileError()},
    "lock": threading.Lock,
    "class": lambda: Hostile,
}


class Place:
    """A runtime in force that captures everything, and its spans."""

    def __init__(self, stack: ExitStack, state: Path, *processors: SpanProcessor, sampler: Sampler | None = None) -> None:
        self.exporter = InMemorySpanExporter()
        provider = TracerProvider(sampler=sampler, shutdown_on_exit=False)
        for processor in (*processors, SimpleSpanProcessor(self.exporter)):
            provider.add_span_processor(processor)
        self.runtime = build_runtime(Settings(capture="SPAN_AND_EVENT", state=state), tracer_provider=provider)
        stack.callback(self.runtime.shutdown)
        stack.enter_context(self.runtime.use())

    def problems(self) -> Any:
        report: Any = self.runtime.report()["telemetry"]
        return report["problems"]

    def only(self) -> ReadableSpan:
        (span,) = self.exporter.get_finished_spans()
        return span


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Callable[..., Place]]:
    with ExitStack() as stack:
        yield lambda *processors, **more: Place(stack, tmp_path / "state.db", *processors, **more)


def kinds() -> list[Any]:
    return [rt.tool, rt.agent, rt.model, rt.workflow]


class TestValues:
    @pytest.mark.parametrize("kind", kinds())
    @pytest.mark.parametrize("name", VALUES)
    def test_argument_and_result(self, place: Any, kind: Any, name: str) -> None:
        """The function gets the very object, the caller gets the very object, and one span with short valid JSON is left."""
        world, value = place(), VALUES[name]()

        @kind(name="probe")  # type: ignore[untyped-decorator]  # any of the four
        def probe(given: Any, /, *more: Any, **rest: Any) -> Any:
            seen.append(given)
            return given

        seen: list[Any] = []
        assert probe(value, value, other=value) is value
        assert seen[0] is value
        attributes = world.only().attributes
        texts = [text for key, text in (attributes or {}).items() if "arguments" in key or "result" in key or "messages" in key]
        assert 2 == len(texts)
        for text in texts:
            assert len(str(text).encode()) <= MAX_BYTES
            json.loads(str(text))

    @pytest.mark.parametrize("make", [lambda: Faceless(), lambda: Nameless()], ids=["class", "name"])  # noqa: PLW0108 - pytest would ask the classes for their names
    def test_no_class_and_no_name(self, make_bench: Any, make: Any) -> None:
        """What hides even its class is shown as something."""
        bench = make_bench(capture="SPAN_ONLY")
        for kind in ("tool", "model"):
            bench.tracing.open(SpanStart(kind, "x", arguments={"a": make(), "b": [make()]}, attributes={"c": make()})).end(
                "ok", result=make()
            )
        assert 2 == len(bench.spans())
        assert {} == bench.tracing.report()["problems"]

    @pytest.mark.parametrize("name", VALUES)
    def test_coroutine(self, place: Any, name: str) -> None:
        """The same for a coroutine."""
        world, value = place(), VALUES[name]()

        @rt.tool
        async def probe(given: Any) -> Any:
            return given

        assert asyncio.run(probe(value)) is value
        assert "execute_tool probe" == world.only().name

    def test_nothing_is_consumed(self, place: Any) -> None:
        """An iterator that is passed in and handed back is where it was."""
        place()

        @rt.tool
        def probe(given: Any) -> Any:
            return given

        stream = iter([1, 2, 3])
        assert [1, 2, 3] == list(probe(stream))

    def test_self_is_never_captured(self, place: Any) -> None:
        """The object of a method stays out of the content."""
        world = place()

        class Shop:
            @rt.tool(name="probe")
            def sell(self, thing: str) -> str:
                return thing

        Shop().sell("a book")
        assert {"thing": "a book"} == json.loads(world.only().attributes["gen_ai.tool.call.arguments"])


ERRORS: dict[str, Callable[[], BaseException]] = {
    "hostile": HostileError,
    "surrogates": lambda: ValueError("a\ud800b"),
    "5 MB": lambda: ValueError("x" * 5_000_000),
    "secret": lambda: ValueError("password=hunter2"),
    "hostile arguments": lambda: ValueError(Hostile()),
    "group": lambda: ExceptionGroup("many", [HostileError(), ValueError("x")]),
    "system exit": lambda: SystemExit(3),
    "keyboard interrupt": KeyboardInterrupt,
    "generator exit": GeneratorExit,
    "cancelled": asyncio.CancelledError,
    "stop iteration": lambda: StopIteration(5),
}


class TestErrors:
    @pytest.mark.parametrize("name", ERRORS)
    def test_the_same_exception(self, place: Any, name: str) -> None:
        """The caller gets the very exception, whose traceback ends in the function, and the span has ended."""
        world, error = place(), ERRORS[name]()

        def bare() -> None:
            raise error

        with pytest.raises(type(error)) as caught:
            rt.tool(bare)()
        assert caught.value is error
        frames = [frame.name for frame in traceback.extract_tb(error.__traceback__)]
        assert "bare" == frames[-1]
        assert (None, None) == (error.__cause__, error.__context__)
        span = world.only()
        assert "hunter2" not in span.to_json()
        span.to_json().encode()

    def test_a_wrong_call(self, place: Any) -> None:
        """A wrong call gets Python's own words, and an error span."""

        def bare(first: int) -> None: ...

        with pytest.raises(TypeError) as plain:
            bare()  # type: ignore[call-arg]  # that is the test
        world = place()
        with pytest.raises(TypeError) as wrapped:
            rt.tool(bare)()  # type: ignore[call-arg]  # that is the test
        assert str(plain.value) == str(wrapped.value)
        assert "error" == world.only().status.status_code.name.lower()


class Raises(SpanProcessor):
    """Raises wherever it is told to."""

    def __init__(self, where: str) -> None:
        self.where = where

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        if self.where == "start":
            raise HostileError

    def on_end(self, span: ReadableSpan) -> None:
        if self.where == "end":
            raise HostileError

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        raise HostileError

    def shutdown(self) -> None:
        raise HostileError


class RaisingSampler(Sampler):
    """Raises when it is asked."""

    def should_sample(self, *args: Any, **kwargs: Any) -> SamplingResult:
        raise HostileError

    def get_description(self) -> str:
        return "raises"


class RaisingExporter(SpanExporter):
    """Raises when it exports."""

    def export(self, spans: Any) -> SpanExportResult:
        raise HostileError


class TestProcessors:
    @pytest.mark.parametrize("where", ["start", "end", "flush", "exporter", "sampler"])
    def test_the_call_does_not_notice(self, place: Any, where: str, caplog: pytest.LogCaptureFixture) -> None:
        """Result and exception stay what they are; what went wrong is named for doctor."""
        caplog.set_level(logging.CRITICAL + 1)
        processor = SimpleSpanProcessor(RaisingExporter()) if where == "exporter" else Raises(where)
        world = place(processor, sampler=RaisingSampler()) if where == "sampler" else place(processor)
        error = ValueError("mine")

        @rt.tool
        def probe(fails: bool) -> str:
            if fails:
                raise error
            return "fine"

        assert "fine" == probe(False)
        with pytest.raises(ValueError, match="mine") as caught:
            probe(True)
        assert caught.value is error
        world.runtime.flush(0.5)
        if where in ("start", "end", "sampler"):
            assert {"processor"} == set(world.problems())

    def test_interrupts_pass(self, place: Any) -> None:
        """A KeyboardInterrupt that arrives inside of a processor is the user's, and reaches the user."""

        class Interrupted(SpanProcessor):
            def on_end(self, span: ReadableSpan) -> None:
                raise KeyboardInterrupt

        place(Interrupted())
        with pytest.raises(KeyboardInterrupt):
            rt.tool(name="probe")(lambda: None)()


class TestLogHandler:
    def test_handler_that_touches_the_span(self, place: Any) -> None:
        """A log handler that writes to the current span, as many do, meets no lock: not one of our values makes the SDK log."""
        place()
        records: list[str] = []

        class Touches(logging.Handler):
            def emit(self, record: logging.LogRecord) -> None:
                records.append(record.getMessage())
                trace.get_current_span().set_attribute("log", record.getMessage())

        handler = Touches()
        logging.getLogger().addHandler(handler)
        try:

            def work() -> None:
                for make in VALUES.values():
                    rt.tool(name="probe")(lambda given: given)(make())
                logging.getLogger("app").warning("mine")

            thread = threading.Thread(target=work, daemon=True)
            thread.start()
            thread.join(60)
            assert not thread.is_alive()
        finally:
            logging.getLogger().removeHandler(handler)
        assert ["mine"] == records


class TestIdsAndClocks:
    def test_seeded_random(self, tmp_path: Path) -> None:
        """random.seed in the application neither repeats trace ids nor is disturbed by us."""
        runtime = build_runtime(Settings(otlp="off", state=tmp_path / "state.db", trace_file=tmp_path / "t.json"))
        with runtime.use():
            drawn = []
            for _ in range(3):
                random.seed(7)
                rt.tool(name="probe")(lambda: None)()
                drawn.append(random.random())
        runtime.shutdown()
        document = json.loads((tmp_path / "t.json").read_text())
        spans = [span for entry in document["resourceSpans"] for scope in entry["scopeSpans"] for span in scope["spans"]]
        assert (3, 1) == (len({span["traceId"] for span in spans}), len(set(drawn)))

    def test_clock_steps(self, place: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        """A clock that is set back during a call makes no negative duration."""
        world = place()

        def probe() -> None:
            now = time.time_ns()
            monkeypatch.setattr(time, "time_ns", lambda: now - 3_600 * 10**9)

        rt.tool(probe)()
        span = world.only()
        assert span.end_time >= span.start_time

    @pytest.mark.parametrize(("sampler", "recorded"), [(None, 1), ("parentbased_always_on", 0), ("always_off", 0)])
    def test_unsampled_caller(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sampler: str | None, recorded: int) -> None:
        """`traceparent ...-00` from outside switches nothing off, unless the application asked for that sampler."""
        if sampler is not None:
            monkeypatch.setenv("OTEL_TRACES_SAMPLER", sampler)
        runtime = build_runtime(Settings(otlp="off", state=tmp_path / "state.db", trace_file=tmp_path / "t.json"))
        outside = trace.SpanContext(1, 2, is_remote=True, trace_flags=trace.TraceFlags(0))
        with runtime.use(), trace.use_span(trace.NonRecordingSpan(outside)):
            rt.tool(name="probe")(lambda: None)()
        runtime.shutdown()
        assert recorded == (tmp_path / "t.json").read_text().count('"traceId":"' + "0" * 31 + '1"')


# A bad value for every variable that the SDK and its exporters read; one process for each group.
BAD_VARIABLES = {
    "propagators": {"OTEL_PROPAGATORS": "nonsense"},
    "context": {"OTEL_PYTHON_CONTEXT": "nonsense"},
    "providers": {
        "OTEL_PYTHON_TRACER_PROVIDER": "nonsense",
        "OTEL_PYTHON_METER_PROVIDER": "nonsense",
        "OTEL_PYTHON_ID_GENERATOR": "nonsense",
    },
    "limits": {
        f"OTEL_{name}": "many"
        for name in (
            "ATTRIBUTE_COUNT_LIMIT ATTRIBUTE_VALUE_LENGTH_LIMIT SPAN_ATTRIBUTE_COUNT_LIMIT SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT "
            "SPAN_EVENT_COUNT_LIMIT SPAN_LINK_COUNT_LIMIT EVENT_ATTRIBUTE_COUNT_LIMIT LINK_ATTRIBUTE_COUNT_LIMIT"
        ).split()
    },
    "negative limits": {"OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT": "-1"},
    "sampler": {"OTEL_TRACES_SAMPLER": "nonsense", "OTEL_TRACES_SAMPLER_ARG": "nonsense"},
    "ratio": {"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "7"},
    "batches": {
        "OTEL_BSP_SCHEDULE_DELAY": "soon",
        "OTEL_BSP_EXPORT_TIMEOUT": "-1",
        "OTEL_BSP_MAX_QUEUE_SIZE": "0",
        "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "99999999999999999999",
    },
    "exporters": {"OTEL_TRACES_EXPORTER": "nonsense", "OTEL_METRICS_EXPORTER": "nonsense", "OTEL_LOGS_EXPORTER": "nonsense"},
    "protocol": {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "OTEL_EXPORTER_OTLP_PROTOCOL": "carrier-pigeon"},
    "endpoint": {"OTEL_EXPORTER_OTLP_ENDPOINT": "::not a url::"},
    "endpoint over grpc": {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://[::1", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
    "otlp": {
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9",
        "OTEL_EXPORTER_OTLP_TIMEOUT": "soon",
        "OTEL_EXPORTER_OTLP_HEADERS": "=;=,\u20ac",
        "OTEL_EXPORTER_OTLP_COMPRESSION": "nonsense",
        "OTEL_EXPORTER_OTLP_CERTIFICATE": "/nowhere",
        "OTEL_EXPORTER_OTLP_CLIENT_KEY": "/nowhere",
        "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE": "/nowhere",
        "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE": "nonsense",
        "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION": "nonsense",
    },
    "otlp over grpc": {
        "OTEL_EXPORTER_OTLP_ENDPOINT": "https://127.0.0.1:9",
        "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
        "OTEL_EXPORTER_OTLP_TIMEOUT": "soon",
        "OTEL_EXPORTER_OTLP_COMPRESSION": "nonsense",
        "OTEL_EXPORTER_OTLP_CERTIFICATE": "/nowhere",
    },
    "resource": {"OTEL_RESOURCE_ATTRIBUTES": "a,=b,%zz=\udcff,c=d=e", "OTEL_EXPERIMENTAL_RESOURCE_DETECTORS": "nonsense"},
    "metrics": {
        "OTEL_METRIC_EXPORT_INTERVAL": "soon",
        "OTEL_METRIC_EXPORT_TIMEOUT": "soon",
        "OTEL_METRICS_EXEMPLAR_FILTER": "nonsense",
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9",
    },
    "switches": {"OTEL_SDK_DISABLED": "perhaps"},
    "capture": {"OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT": "perhaps"},
}

# Not wrong by themselves, or known to nobody here.
SOUND = ("http://127.0.0.1:9", "https://127.0.0.1:9", "grpc", "traceidratio", "::not a url::", "http://[::1")

PROGRAM = textwrap.dedent("""
    import os, sys
    import otel_runtime as rt
    error = ValueError("mine")

    @rt.tool
    def fine(x): return x

    @rt.tool
    def fails(): raise error

    runtime = rt.configure(policy="policy.yaml", state="state.db", flush_timeout=0.3)
    value = object()
    assert fine(value) is value
    try: fails()
    except ValueError as caught: assert caught is error
    try: rt.tool(name="forbidden")(lambda: 1)()
    except rt.PolicyDenied: pass
    else: raise SystemExit("the policy did not decide")
    problems = runtime.report()["telemetry"]["problems"]
    runtime.shutdown()
    print("as ever")
    print(*(f"{name}: {why}" for name, why in problems.items()))
""")
POLICY = "version: 1\nname: p\ndefault: deny\nrules:\n  - {id: a, tool: [fine, fails], decision: allow}\n"


class TestVariables:
    @pytest.mark.parametrize("group", BAD_VARIABLES)
    def test_bad_values(self, tmp_path: Path, group: str) -> None:
        """With bad values of the SDK's variables calls are as ever, the policy still decides, and what doctor shows names each of them."""
        (tmp_path / "policy.yaml").write_text(POLICY)
        known = {key: value for key, value in os.environ.items() if not key.startswith("OTEL_")}
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM],
            cwd=tmp_path,
            env={**known, "PYTHONPATH": str(Path(rt.__file__).parents[1]), **BAD_VARIABLES[group]},
            timeout=120,
            capture_output=True,
            text=True,
            check=False,
        )
        said, _, problems = done.stdout.partition("\n")
        assert (0, "as ever") == (done.returncode, said), done.stderr
        assert [] == [name for name, value in BAD_VARIABLES[group].items() if value not in SOUND and name not in problems], problems
