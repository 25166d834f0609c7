"""A collector in every kind of trouble: nothing is lost that can still arrive, and what is lost is counted by reason."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
from google.rpc.error_details_pb2 import RetryInfo
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from otel_runtime.settings.model import Settings
from otel_runtime.telemetry.otlp_watch import Answer, Watch, watched_session
from otel_runtime.telemetry.protocol import SpanStart, Tracing
from otel_runtime.telemetry.provider import build_tracing

NAMES = [f"execute_tool {number}" for number in range(5)]
# How long an exporter waits for an answer that never comes; one that comes is there long before, on a busy machine too.
NO_ANSWER_S = 3


@pytest.fixture
def tracing(request: pytest.FixtureRequest) -> Any:
    """Built when it is called, after the variables are set; stopped at the end."""
    made: list[Tracing] = []

    def make(**settings: Any) -> Tracing:
        made.append(build_tracing(Settings(**settings)))
        return made[-1]

    yield make
    for one in made:
        one.shutdown(0.2)


def five_calls(tracing: Tracing) -> None:
    for number in range(5):
        tracing.open(SpanStart("tool", str(number))).end("ok")


def lost(tracing: Tracing) -> Any:
    return tracing.report()["lost"]


class TestRefusals:
    @pytest.mark.parametrize(
        ("mode", "arrived", "reasons"),
        [
            ("302", [], {"export": 5}),
            ("400", [], {"export": 5}),
            ("401", [], {"export": 5}),
            ("413", [], {"too_large": 5}),
            ("page", [], {"export": 5}),
            ("partial:2", NAMES[2:], {"export": 2}),
            ("partial:99", [], {"export": 5}),
        ],
    )
    def test_is_a_loss(self, faulty: Any, otlp_to: Any, tracing: Any, mode: str, arrived: list[str], reasons: dict[str, int]) -> None:
        """What the collector refuses, also in part or by sending it elsewhere, is counted and named."""
        receiver = faulty(mode)
        otlp_to(receiver.url)
        telemetry = tracing()
        five_calls(telemetry)
        assert not telemetry.flush(60)
        assert (arrived, reasons) == (receiver.names, lost(telemetry))
        assert telemetry.report()["problems"]

    def test_too_large_for_the_collector(self, faulty: Any, otlp_to: Any, tracing: Any) -> None:
        """A batch that is too large for the collector arrives in parts."""
        receiver = faulty("most:2")
        otlp_to(receiver.url)
        telemetry = tracing()
        five_calls(telemetry)
        assert telemetry.flush(60)
        assert (NAMES, {}) == (receiver.names, lost(telemetry))

    @pytest.mark.parametrize("mode", ["half-answer", "half-hang"])
    def test_an_answer_that_breaks_off(self, faulty: Any, otlp_to: Any, tracing: Any, mode: str) -> None:
        """A 200 whose body never comes is an acknowledgement: nothing is sent twice."""
        receiver = faulty(mode)
        otlp_to(receiver.url, timeout_s=NO_ANSWER_S)
        telemetry = tracing()
        five_calls(telemetry)
        assert telemetry.flush(60)
        assert (NAMES, {}) == (receiver.names, lost(telemetry))

    @pytest.mark.parametrize(("mode", "timeout_s"), [("half-answer", 60), ("half-hang", NO_ANSWER_S)])
    def test_an_acknowledgement_is_never_retried(self, faulty: Any, mode: str, timeout_s: float) -> None:
        """An exporter that retries broken connections by itself, as older ones do, is told of the 200 and not of the break."""
        watch = Watch()
        watch.attempt()
        session = watched_session(watch)
        answer = session.post(faulty(mode).url, data=b"", timeout=timeout_s)
        assert (200, Answer(200)) == (answer.status_code, watch.answer)
        session.close()


class TestOutage:
    @pytest.mark.parametrize("mode", ["429", "502", "503", "504", "hang", "drip", "close"])
    def test_nothing_is_lost(self, faulty: Any, otlp_to: Any, tracing: Any, eventually: Any, mode: str) -> None:
        """Spans wait in the queue while the collector is in trouble, and arrive once when it is well again."""
        receiver = faulty(mode)
        otlp_to(receiver.url, timeout_s=NO_ANSWER_S)
        telemetry = tracing()
        five_calls(telemetry)
        assert not telemetry.flush(0.05)
        # The second request shows that the first was given up and that its spans are tried again.
        assert eventually(lambda: receiver.requests >= 2)
        receiver.mode = "ok"
        assert eventually(lambda: len(receiver.names) >= 5)
        assert telemetry.flush(60)
        assert (NAMES, {}) == (receiver.names, lost(telemetry))

    def test_collector_comes_back(self, faulty: Any, otlp_to: Any, tracing: Any, eventually: Any, port: int) -> None:
        """A collector that is restarted gets what ended meanwhile."""
        first = faulty(port=port)
        otlp_to(first.url)
        telemetry = tracing()
        telemetry.open(SpanStart("tool", "before")).end("ok")
        assert telemetry.flush(60)
        first.close()
        five_calls(telemetry)
        assert not telemetry.flush(0.3)
        second = faulty(port=port)
        assert eventually(lambda: telemetry.flush(5))
        assert (NAMES, {}) == (second.names, lost(telemetry))

    @pytest.mark.parametrize(("mode", "asked"), [("429", "3600"), ("503", "3600"), ("429", "Fri, 31 Dec 9999 23:59:59 GMT")])
    def test_retry_after_is_kept(self, faulty: Any, otlp_to: Any, tracing: Any, mode: str, asked: str) -> None:
        """A collector that asks to be left alone, for seconds or until a date, is left alone, whoever flushes."""
        receiver = faulty(mode)
        receiver.retry_after = asked
        otlp_to(receiver.url)
        telemetry = tracing()
        five_calls(telemetry)
        assert not telemetry.flush(60)
        receiver.mode = "ok"
        assert not telemetry.flush(60)
        assert (1, []) == (receiver.requests, receiver.names)
        assert not telemetry.shutdown(5)
        assert {"shutdown": 5} == lost(telemetry)

    @pytest.mark.parametrize("mode", ["503", "hang", "drip", "close"])
    def test_one_budget_for_everything(self, faulty: Any, otlp_to: Any, tracing: Any, mode: str) -> None:
        """Flush and shutdown end with their time, and count what stays behind."""
        receiver = faulty(mode)
        otlp_to(receiver.url, timeout_s=NO_ANSWER_S, OTEL_METRICS_EXPORTER="otlp")
        telemetry = tracing()
        five_calls(telemetry)
        began = time.monotonic()
        assert (False, False) == (telemetry.flush(0.2), telemetry.shutdown(0.3))
        # A machine may be slow, but nobody waits until the collector is well again.
        assert 60 > time.monotonic() - began
        assert {"shutdown": 5} == lost(telemetry)

    def test_a_full_queue_is_counted(self, faulty: Any, otlp_to: Any, tracing: Any, eventually: Any) -> None:
        """What finds no room during an outage is counted as such, and as a metric."""
        receiver = faulty("hang")
        otlp_to(receiver.url, OTEL_BSP_MAX_QUEUE_SIZE="3")
        telemetry = tracing()
        telemetry.open(SpanStart("tool", "in hand")).end("ok")
        assert eventually(lambda: receiver.requests == 1)
        five_calls(telemetry)
        assert {"queue_full": 2} == lost(telemetry)


class TestGrpc:
    @pytest.mark.parametrize(
        ("code", "rejected", "reasons", "timeout_s"),
        [
            (None, 2, {"export": 2}, 60),
            (grpc.StatusCode.INVALID_ARGUMENT, 0, {"export": 5}, 60),
            (grpc.StatusCode.RESOURCE_EXHAUSTED, 0, {"too_large": 5}, 0.5),
            (grpc.StatusCode.UNAVAILABLE, 0, {"shutdown": 5}, 0.5),
        ],
    )
    def test_answers_are_read(
        self, otlp_to: Any, tracing: Any, eventually: Any, code: Any, rejected: int, reasons: dict[str, int], timeout_s: float
    ) -> None:
        """Over gRPC too a partial success and a refusal are losses, and what may pass later is not, until the end."""

        class Service(trace_service_pb2_grpc.TraceServiceServicer):
            def Export(self, request: Any, context: Any) -> Any:  # noqa: N802 - gRPC's name
                if code is not None:
                    context.abort(code, "no")
                found = ExportTraceServiceResponse()
                found.partial_success.rejected_spans = rejected
                return found

        server = grpc.server(ThreadPoolExecutor(1))
        trace_service_pb2_grpc.add_TraceServiceServicer_to_server(Service(), server)  # type: ignore[no-untyped-call]  # generated
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        otlp_to(f"http://127.0.0.1:{port}", timeout_s=timeout_s, OTEL_EXPORTER_OTLP_PROTOCOL="grpc")
        telemetry = tracing()
        five_calls(telemetry)
        assert not telemetry.flush(60)
        # An export that was given up before its answer is made again.
        assert code is grpc.StatusCode.UNAVAILABLE or eventually(lambda: telemetry.flush(60))
        telemetry.shutdown(2)
        server.stop(None).wait()
        assert reasons == lost(telemetry)

    def test_busy_is_no_refusal(self, otlp_to: Any, tracing: Any) -> None:
        """A receiver that is out of resources and says when to come back has refused nothing: the spans wait."""

        class Service(trace_service_pb2_grpc.TraceServiceServicer):
            def Export(self, request: Any, context: Any) -> Any:  # noqa: N802 - gRPC's name
                info = RetryInfo()
                info.retry_delay.seconds = 100
                context.set_trailing_metadata((("google.rpc.retryinfo-bin", info.SerializeToString()),))
                context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "later")

        server = grpc.server(ThreadPoolExecutor(1))
        trace_service_pb2_grpc.add_TraceServiceServicer_to_server(Service(), server)  # type: ignore[no-untyped-call]  # generated
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        otlp_to(f"http://127.0.0.1:{port}", OTEL_EXPORTER_OTLP_PROTOCOL="grpc")
        telemetry = tracing()
        five_calls(telemetry)
        assert not telemetry.flush(60)
        assert not lost(telemetry)
        telemetry.shutdown(2)
        server.stop(None).wait()
        assert {"shutdown": 5} == lost(telemetry)


class TestCut:
    def test_cut_is_cut(self) -> None:
        """An export that was cut cannot connect again; the next export can."""
        watch = Watch()
        first, second = socket.socketpair()
        watch.cut()
        with pytest.raises(ConnectionAbortedError, match="longer than its timeout"):
            watch.attempt()
        watch.connected(first)
        assert -1 == first.fileno()
        watch.begin()
        watch.attempt()
        watch.connected(second)
        assert second.fileno() >= 0
        second.close()


class TestFork:
    def test_connections_are_not_shared(self, faulty: Any) -> None:
        """A forked child sends over connections of its own: what both send arrives once."""
        program = textwrap.dedent("""
            import os, warnings
            warnings.simplefilter("ignore")
            from otel_runtime.settings.model import Settings
            from otel_runtime.telemetry.protocol import SpanStart
            from otel_runtime.telemetry.provider import build_tracing
            tracing = build_tracing(Settings())
            def call(name):
                tracing.open(SpanStart("tool", name)).end("ok")
            call("before")
            assert tracing.flush(60)
            child = os.fork()
            # One after the other: over a shared connection everything would arrive too, as long as nobody mixes up the answers.
            if child:
                assert os.waitpid(child, 0)[1] == 0
            for number in range(3):
                call(f"{'parent' if child else 'child'} {number}")
                assert tracing.flush(60)
            assert {} == tracing.report()["lost"]
            if not child:
                os._exit(0)
        """)
        receiver = faulty()
        known = {key: value for key, value in os.environ.items() if not key.startswith("OTEL_")}
        more = {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url, "OTEL_METRICS_EXPORTER": "none"}
        subprocess.run([sys.executable, "-c", program], env={**known, **more}, timeout=120, check=True)
        expected = {f"execute_tool {who} {number}" for who in ("parent", "child") for number in range(3)}
        assert (expected | {"execute_tool before"}, 7) == (set(receiver.names), len(receiver.ids))
        assert 2 == len(receiver.peers)


class TestSoak:
    def test_nothing_grows(self, faulty: Any, otlp_to: Any, tracing: Any, eventually: Any) -> None:
        """Through many faults the number of threads and of open files stays where it was, and every span is accounted for."""
        receiver = faulty()
        otlp_to(receiver.url, OTEL_BSP_SCHEDULE_DELAY="10")
        telemetry = tracing()
        five_calls(telemetry)
        assert telemetry.flush(60)
        before = own_threads()
        for mode in ("503", "close", "400", "hang", "302", "429", "partial:1", "half-answer", "ok") * 2:
            receiver.turn(mode)
            seen = receiver.requests
            five_calls(telemetry)
            telemetry.flush(0.3)
            assert eventually(lambda seen=seen: receiver.requests > seen)
        receiver.turn("ok")
        assert eventually(lambda: telemetry.flush(60))
        assert eventually(lambda: before == own_threads())
        assert 95 == len(receiver.names) + sum(lost(telemetry).values())
        assert len(receiver.ids) == len(set(receiver.ids))


def own_threads() -> list[str]:
    return sorted(thread.name for thread in threading.enumerate() if thread.name.startswith("otel-runtime"))
