"""The decorators that are compared, each set up as its documentation says, with an exporter that keeps spans in memory.

`python -m benchmarks.peer_decorators NAME` runs every check with one of them, in an environment where it is installed, and prints JSON.
"""

from __future__ import annotations

import importlib.metadata
import json
import logging
import os
import signal
import sys
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from opentelemetry import context, trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

# The last four add their checks to the table.
from benchmarks import peer_checks_kinds, peer_checks_returned, peer_checks_streams, peer_checks_troubles  # noqa: F401
from benchmarks.peer_checks import CHECKS, Check, Decorator, Tools

__all__ = ["PEERS", "main"]

# Where nobody listens: a client that wants a server finds out at once.
NOWHERE = "http://127.0.0.1:9"
SECONDS = 20
_SHORT = 160


@dataclass(frozen=True, slots=True)
class Peer:
    """One decorator.

    Args:
        package: What is installed, and whose version is told; empty for ours.
        decorator: How it is written.
        start: Sets it up with a provider; gives the decorator for tools, that for streams, and the provider that is really used.
        more: Packages that it does not ask for by itself, and words for pip.
    """

    package: str
    decorator: str
    start: Callable[[TracerProvider], tuple[Decorator, Decorator, Any]]
    more: tuple[str, ...] = ()


def _ours(provider: TracerProvider) -> tuple[Decorator, Decorator, Any]:
    import otel_runtime as rt

    # That nothing is guarded is meant here.
    logging.getLogger("otel_runtime").setLevel(logging.ERROR)
    rt.configure(tracer_provider=provider, otlp="off", capture="SPAN_ONLY")
    return rt.tool, rt.agent, provider


def _opentelemetry(provider: TracerProvider) -> tuple[Decorator, Decorator, Any]:
    tracer = provider.get_tracer("peer")

    def decorate(fn: Any) -> Any:
        return tracer.start_as_current_span("call")(fn)

    return decorate, decorate, provider


def _traceloop(provider: TracerProvider) -> tuple[Decorator, Decorator, Any]:
    sdk, made = import_module("traceloop.sdk"), import_module("traceloop.sdk.decorators")
    sdk.Traceloop.init(disable_batch=True, exporter=InMemorySpanExporter(), telemetry_enabled=False, instruments=set())
    return made.tool(name="call"), made.task(name="call"), trace.get_tracer_provider()


def _openinference(provider: TracerProvider) -> tuple[Decorator, Decorator, Any]:
    made = import_module("openinference.instrumentation")
    tracer = made.OITracer(provider.get_tracer("peer"), config=made.TraceConfig())
    return tracer.tool(name="call", description="x"), tracer.chain(name="call"), provider


def _logfire(provider: TracerProvider) -> tuple[Decorator, Decorator, Any]:
    logfire = import_module("logfire")
    logfire.configure(send_to_logfire=False, console=False, inspect_arguments=False)
    decorate = logfire.instrument("call", extract_args=True, record_return=True)
    return decorate, logfire.instrument("call", extract_args=True, allow_generator=True), trace.get_tracer_provider()


def _langfuse(provider: TracerProvider) -> tuple[Decorator, Decorator, Any]:
    langfuse = import_module("langfuse")
    langfuse.Langfuse(public_key="pk", secret_key="sk", host=NOWHERE, tracer_provider=provider)  # noqa: S106  # nobody's
    return langfuse.observe, langfuse.observe, provider


def _mlflow(provider: TracerProvider) -> tuple[Decorator, Decorator, Any]:
    mlflow = import_module("mlflow")
    places, kept = import_module("mlflow.entities.trace_location"), import_module("mlflow.tracing.provider").provider
    mlflow.set_tracking_uri(NOWHERE)
    mlflow.tracing.set_destination(places.MlflowExperimentLocation("1"))
    # Its provider is made by the first call.
    mlflow.trace(lambda: None)()
    return mlflow.trace, mlflow.trace, kept.get()


def _agentops(provider: TracerProvider) -> tuple[Decorator, Decorator, Any]:
    agentops, made = import_module("agentops"), import_module("agentops.sdk.decorators")
    agentops.init(
        api_key="00000000-0000-0000-0000-000000000000", endpoint=NOWHERE, exporter_endpoint=NOWHERE, auto_start_session=False,
        instrument_llm_calls=False, log_level="CRITICAL",
    )  # fmt: skip
    return made.tool, made.operation, trace.get_tracer_provider()


PEERS: Mapping[str, Peer] = {
    "ours": Peer("", "`@rt.tool`, `@rt.agent`", _ours),
    "opentelemetry": Peer("opentelemetry-sdk", "`@tracer.start_as_current_span(...)`", _opentelemetry),
    "openinference": Peer("openinference-instrumentation", "`@tracer.tool`, `@tracer.chain`", _openinference, ("opentelemetry-sdk",)),
    "logfire": Peer("logfire", "`@logfire.instrument(...)`", _logfire),
    "langfuse": Peer("langfuse", "`@observe`", _langfuse),
    "mlflow": Peer("mlflow-tracing", "`@mlflow.trace`", _mlflow),
    "traceloop": Peer(
        # Its bounds contradict one another; pip's older resolver takes the versions as they come.
        "traceloop-sdk",
        "`@tool(...)`, `@task(...)`",
        _traceloop,
        ("--use-deprecated=legacy-resolver",),
    ),
    "agentops": Peer("agentops", "`@tool`, `@operation`", _agentops),
}


class Late(Exception):
    """A check that did not come to its end."""


class Bench:
    """One decorator, ready to be checked.

    Args:
        peer: The decorator.
    """

    def __init__(self, peer: Peer) -> None:
        self._exporter = InMemorySpanExporter()
        own = TracerProvider(shutdown_on_exit=False)
        self._wrap, self._stream, used = peer.start(own)
        used.add_span_processor(SimpleSpanProcessor(self._exporter))

    def run(self, check: Check) -> str:
        """Why the check fails; empty when it passes."""
        expected = check.program(Tools(_itself, _itself, lambda: True))
        self._exporter.clear()
        try:
            got = check.program(Tools(self._wrap, self._stream, self._lasts))
        except BaseException as error:  # noqa: BLE001  # whatever it is, the undecorated program did not raise it
            return f"raised {type(error).__name__}: {_words(error)}"[:_SHORT]
        finally:
            # What a check leaked must not fail the next one.
            context.attach(context.Context())
        if got != expected:
            return f"observed {_words(got)}, undecorated {_words(expected)}"[:_SHORT]
        return self._spans(check)

    def _spans(self, check: Check) -> str:
        settle = getattr(sys.modules.get("otel_runtime"), "flush", None)
        if settle is not None:
            settle()
        spans = list(self._exporter.get_finished_spans())
        got = sorted("error" if span.status.status_code is trace.StatusCode.ERROR else "ok" for span in spans)
        if got != sorted(check.spans):
            return f"spans: {', '.join(got) or 'none'}; expected {', '.join(check.spans) or 'none'}"
        if any(sum(event.name == "exception" for event in span.events) > 1 for span in spans):
            return "the exception is recorded twice"
        if check.distinct and len({span.context.trace_id for span in spans if span.context}) != len(spans):
            return "the spans are of one trace"
        return "the spans inside do not hang below the call's" if check.nested and not _nested(spans) else ""

    def _lasts(self) -> bool:
        return not self._exporter.get_finished_spans()


def _nested(spans: list[ReadableSpan]) -> bool:
    known = {span.context.span_id: span for span in spans if span.context}
    roots = [span for span in spans if span.parent is None or span.parent.span_id not in known]
    return len(roots) == 1 and all(span in roots or (span.parent and known[span.parent.span_id] in roots) for span in spans)


def _itself(fn: Any) -> Any:
    return fn


def _words(value: object) -> str:
    try:
        return " ".join(str(value).split())
    except Exception:  # noqa: BLE001  # hostile on purpose
        return "something that cannot be shown"


def _ring(*_: object) -> None:
    raise Late(f"no end within {SECONDS} s")


def main() -> None:
    """Run every check with one decorator."""
    peer = PEERS[sys.argv[1]]
    warnings.simplefilter("ignore")
    logging.getLogger().addHandler(logging.NullHandler())
    # Uploads that find no server are no fault of the decorator.
    logging.getLogger("urllib3").setLevel(logging.CRITICAL)
    logging.getLogger("opentelemetry.exporter").setLevel(logging.CRITICAL)
    version = importlib.metadata.version(peer.package) if peer.package else ""
    bench = Bench(peer)
    signal.signal(signal.SIGALRM, _ring)
    found: dict[str, str] = {}
    for check in CHECKS:
        signal.alarm(SECONDS)
        try:
            found[check.promise] = bench.run(check)
        except Late as late:
            found[check.promise] = str(late)
        finally:
            signal.alarm(0)
    # On a line of its own: decorators print too. Their exit handlers may wait for a server that is not there.
    print("\n" + json.dumps({"version": version, "found": found}), flush=True)
    os._exit(0)


if __name__ == "__main__":
    main()
