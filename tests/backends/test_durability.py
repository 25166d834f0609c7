"""agent.yaml through outages and kill -9: what was acknowledged arrives."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import pytest

from otel_runtime.telemetry.trace_files import read_spans

if TYPE_CHECKING:
    from tests.backends.conftest import Jaeger, Server

pytestmark = pytest.mark.backends
BATCHES = 40
OUTAGE_S = 60
QUEUED = re.compile(r"^otelcol_exporter_queue_size\{[^}]*\} [1-9]", re.MULTILINE)
Send: TypeAlias = Callable[..., int]
MakeSpan: TypeAlias = Callable[..., dict[str, Any]]


def new_trace() -> str:
    return os.urandom(16).hex()


def names(jaeger: Jaeger, trace: str) -> list[str]:
    return sorted(span["name"] for span in jaeger.spans(trace))


class TestAgent:
    """The Collector beside the agents."""

    def test_killed_during_an_outage_loses_nothing(
        self, collector: Callable[..., Server], jaeger: Jaeger, send: Send, span: MakeSpan, wait: Any, port: Callable[[], int], program: Any
    ) -> None:
        """Spans acknowledged while the next hop is away survive kill -9, and arrive once it is back and the Collector too."""
        hop_port = port()
        agent = collector("agent.yaml", TRACES_ENDPOINT=f"127.0.0.1:{hop_port}").start()
        trace = new_trace()
        assert [200] * BATCHES == [send(agent.url("http"), span(trace, f"s{number:02}")) for number in range(BATCHES)]
        agent.kill()
        # Only now the next hop appears: a Collector that hands on to Jaeger.
        hop = collector("agent.yaml", TRACES_ENDPOINT=jaeger.endpoint, OTLP_GRPC_ENDPOINT=f"127.0.0.1:{hop_port}").start()
        agent.start()
        found = wait(lambda: seen if len(set(seen := names(jaeger, trace))) == BATCHES else [], "every acknowledged span")
        assert [f"s{number:02}" for number in range(BATCHES)] == sorted(set(found))
        hop.stop()

    def test_killed_while_it_sends_loses_nothing(
        self, collector: Callable[..., Server], jaeger: Jaeger, send: Send, span: MakeSpan, wait: Any
    ) -> None:
        """Killed with -9 again and again in the middle of traffic, every span that was acknowledged arrives, and is shown once."""
        agent = collector("agent.yaml", TRACES_ENDPOINT=jaeger.endpoint).start()
        trace = new_trace()
        acknowledged = []
        for number in range(BATCHES):
            if number % 15 == 7:
                agent.kill()
                agent.start()
            if send(agent.url("http"), span(trace, f"s{number:02}")) == 200:
                acknowledged.append(f"s{number:02}")
        assert BATCHES == len(acknowledged), "each was sent to a Collector that was ready"
        wait(lambda: set(acknowledged) <= set(names(jaeger, trace)), "every acknowledged span")
        # What was under way at a kill may be sent twice.
        assert acknowledged == sorted(found["name"] for found in jaeger.spans(trace, adjusted=True))

    def test_agents_go_on_while_it_is_away(
        self, collector: Callable[..., Server], jaeger: Jaeger, tmp_path: Path, wait: Any, port: Callable[[], int]
    ) -> None:
        """An agent that runs while no Collector answers is not held up by it, and its spans arrive when the Collector starts."""
        http = port()
        program = tmp_path / "agent.py"
        program.write_text(
            "import sys, otel_runtime as rt\n"
            "@rt.tool\n"
            "def look(n: int) -> int:\n    return n\n"
            "with rt.configure() as runtime:\n"
            "    print([look(n) for n in range(5)], flush=True)\n"
            "    print(sys.stdin.readline(), runtime.flush(100), flush=True)\n"
        )
        env = {key: value for key, value in os.environ.items() if not key.startswith("OTEL_")}
        env |= {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{http}", "OTEL_RUNTIME_TRACE_FILE": str(tmp_path / "t.json")}
        process = subprocess.Popen(
            [sys.executable, str(program)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env, cwd=tmp_path
        )
        try:
            assert process.stdout is not None
            assert "[0, 1, 2, 3, 4]\n" == process.stdout.readline()
            with socket.socket() as probe:
                assert probe.connect_ex(("127.0.0.1", http)) != 0, "nobody listens yet"
            collector("agent.yaml", TRACES_ENDPOINT=jaeger.endpoint, OTLP_HTTP_ENDPOINT=f"127.0.0.1:{http}").start()
            printed, _ = process.communicate("go\n", timeout=150)
        finally:
            process.kill()
            process.wait()
        assert "True" in printed
        sent = read_spans(tmp_path / "t.json")
        assert 5 == len(sent)
        for one in sent:
            assert ["execute_tool look"] == [found["name"] for found in jaeger.trace(one.trace_id, 1)]

    # A minute of them is the outage.
    @pytest.mark.timeout(400)
    def test_both_are_away_for_a_minute(
        self, collector: Callable[..., Server], jaeger: Jaeger, send: Send, span: MakeSpan, wait: Any, tmp_path: Path
    ) -> None:
        """Two outages of one minute at once, in the middle of work: the Collector beside an agent is stopped, whose calls go on at their
        pace; and the next hop of another Collector, which goes on accepting. Both come back, and every span is in the store.
        """
        beside, hop = (collector("agent.yaml", TRACES_ENDPOINT=jaeger.endpoint).start() for _ in range(2))
        before = collector("agent.yaml", TRACES_ENDPOINT=f"127.0.0.1:{hop.ports['grpc']}").start()
        (tmp_path / "agent.py").write_text(
            "import time, otel_runtime as rt\n"
            "@rt.tool\n"
            "def look(n: int) -> int:\n    return n\n"
            "with rt.configure() as runtime:\n"
            f"    for n in range({OUTAGE_S} + 10):\n        look(n); print(n, flush=True); time.sleep(1)\n"
            "    print(runtime.flush(100), dict(runtime.report()['telemetry']['lost']), flush=True)\n"
        )
        env = {key: value for key, value in os.environ.items() if not key.startswith("OTEL_")}
        env |= {"OTEL_EXPORTER_OTLP_ENDPOINT": beside.url("http"), "OTEL_RUNTIME_TRACE_FILE": str(tmp_path / "t.json")}
        trace, sent = new_trace(), 0
        with subprocess.Popen([sys.executable, "agent.py"], stdout=subprocess.PIPE, text=True, env=env, cwd=tmp_path) as process:
            try:
                assert process.stdout is not None
                assert "0\n" == process.stdout.readline()
                beside.stop()
                hop.stop()
                # The length of the outage is what is tried here, not how long anything takes.
                until = time.monotonic() + OUTAGE_S
                while time.monotonic() < until:
                    assert 200 == send(before.url("http"), span(trace, f"s{sent:03}"))
                    sent += 1
                    time.sleep(1)
                beside.start()
                hop.start()
                printed, _ = process.communicate(timeout=180)
            finally:
                process.kill()
        assert "True {}" == printed.splitlines()[-1]
        ours = read_spans(tmp_path / "t.json")
        assert OUTAGE_S + 10 == len(ours)
        for one in ours:
            assert ["execute_tool look"] == [found["name"] for found in jaeger.trace(one.trace_id, 1)]
        wait(lambda: len(names(jaeger, trace)) >= sent, "every span that was accepted during the outage")
        assert [f"s{number:03}" for number in range(sent)] == names(jaeger, trace)


class TestGateway:
    """The Collector that samples."""

    def test_killed_with_what_it_decided_to_keep(
        self, collector: Callable[..., Server], jaeger: Jaeger, send: Send, span: MakeSpan, wait: Any, port: Callable[[], int], fetch: Any
    ) -> None:
        """A trace that was decided upon while the store is away survives kill -9 of the gateway."""
        hop_port = port()
        gateway = collector("gateway.yaml", TRACES_ENDPOINT=f"127.0.0.1:{hop_port}", SAMPLE_PERCENT="0").start()
        trace = new_trace()
        assert 200 == send(gateway.url("http"), span(trace, "first"), span(trace, "second", error="boom"))

        def decided() -> bool:
            text = fetch(gateway.url("own") + "/metrics")[1].decode()
            found = re.findall(
                r"^otelcol_processor_tail_sampling_global_count_traces_sampled\S*sampled=\"true\"\S* (\d+)", text, re.MULTILINE
            )
            return any(int(number) for number in found)

        wait(decided, "the decision")
        # From the decision to the disk is a call, not a queue; the counter rises a moment before it.
        wait(lambda: any(QUEUED.findall(fetch(gateway.url("own") + "/metrics")[1].decode())) or None, "the queue on disk")
        gateway.kill()
        hop = collector("agent.yaml", TRACES_ENDPOINT=jaeger.endpoint, OTLP_GRPC_ENDPOINT=f"127.0.0.1:{hop_port}").start()
        gateway.start()
        assert ["first", "second"] == sorted(found["name"] for found in jaeger.trace(trace, 2))
        hop.stop()
