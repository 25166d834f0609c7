"""Metrics of forked children: their own, each once, and no lock of the parent's in the way."""

from __future__ import annotations

import io
import json
import os
import queue
import random
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.metrics.export import ConsoleMetricExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context

from otel_runtime.runtime.later import Later
from otel_runtime.telemetry.fork_gate import ForkGate
from otel_runtime.telemetry.losses import Losses
from otel_runtime.telemetry.own_meters import OwnMeters, interval_from
from otel_runtime.telemetry.worker import Worker

HEAD = """
import os, sys, threading, time

class Output:
    # Measurements are printed. Standard output has a lock of Python's, which a child may find taken: none is forked in the middle of a line.
    def __init__(self, real):
        self.real, self.lock = real, threading.RLock()
        os.register_at_fork(before=self.lock.acquire, after_in_parent=self.lock.release, after_in_child=self.lock.release)
    def write(self, text):
        with self.lock: return self.real.write(text)
    def flush(self):
        with self.lock: self.real.flush()

sys.stdout = Output(sys.stdout)
os.environ.update(OTEL_TRACES_EXPORTER="none", OTEL_METRICS_EXPORTER="console", OTEL_METRIC_EXPORT_INTERVAL="PERIOD", OTEL_RUNTIME_FLUSH_TIMEOUT="60s")
import otel_runtime as rt
runtime = rt.configure(otlp="on")

@rt.tool
def parent(): return 1

@rt.tool
def child(): return 2

"""
# Newer Pythons warn about exactly what is tried here.
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")


def run(program: str, here: Path, *, period: str = "60000") -> str:
    (here / ".git").mkdir()
    (here / "program.py").write_text(HEAD.replace("PERIOD", period) + program)
    done = subprocess.run([sys.executable, here / "program.py"], cwd=here, capture_output=True, text=True, timeout=150, check=False)
    assert (0, "") == (done.returncode, done.stderr.partition("runtime `otel-runtime` has no policy")[0]), done.stderr
    return done.stdout


class Slow(ConsoleMetricExporter):
    """Has the period's export come due in the middle of its own shutdown."""

    def __init__(self) -> None:
        super().__init__(out=io.StringIO())
        self.due: Callable[[], object] = int
        self.held_up = True

    def shutdown(self, timeout_millis: float = 30_000, **kwargs: object) -> None:
        """Wait for the export that came due."""
        thread = threading.Thread(target=self.due, daemon=True)
        thread.start()
        thread.join(60)
        self.held_up = thread.is_alive()


class TestExemplars:
    def test_the_applications_random_numbers_are_left_alone(self) -> None:
        """Which measurement becomes an exemplar is not drawn from the generator that an application may have seeded; all kinds have one."""
        sent = io.StringIO()
        meters = OwnMeters(lambda: [ConsoleMetricExporter(out=sent)], Resource({}), Losses(None), 60)
        meter = meters.get_meter("test")
        counter, histogram, gauge = meter.create_counter("c"), meter.create_histogram("h"), meter.create_gauge("g")
        traced = set_span_in_context(NonRecordingSpan(SpanContext(7, 9, is_remote=False, trace_flags=TraceFlags(1))))
        before = random.getstate()
        for value in range(50):
            counter.add(1, {}, traced)
            histogram.record(value, {}, traced)
            gauge.set(value, {}, traced)
        assert meters.force_flush()
        assert before == random.getstate()
        meters.shutdown()
        found = {
            metric["name"]: [exemplar["value"] for exemplar in point["exemplars"]]
            for metric in json.loads(sent.getvalue())["resource_metrics"][0]["scope_metrics"][0]["metrics"]
            for point in metric["data"]["data_points"]
        }
        # The buckets that the SDK has by default end at 0, 5, 10, 25 and 50.
        assert {"c": [1], "h": [0, 5, 10, 25, 49], "g": [49]} == found


class TestShutdown:
    def test_holds_up_no_export(self) -> None:
        """An export that comes due meanwhile does not wait for the shutdown, which under gevent would have to wait for it in turn."""
        exporter = Slow()
        meters = OwnMeters(lambda: [exporter], Resource({}), Losses(), 3600.0)
        exporter.due = meters._collect  # what the thread of the period runs
        meters.shutdown(30_000)
        assert not exporter.held_up


class TestThreads:
    """gevent replaces threads and queues, and in gunicorn's workers only after the fork: the two of ours must be of one kind."""

    def test_a_queue_is_made_with_its_thread(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """What waits in the thread is of the kind that is current when the thread starts."""

        class Cooperative(queue.SimpleQueue[Any]):
            pass

        kinds: queue.SimpleQueue[type] = queue.SimpleQueue()
        worker = Worker("w", 3600.0, lambda: None, lambda: None)
        later = Later("l")
        monkeypatch.setattr(queue, "SimpleQueue", Cooperative)
        monkeypatch.setattr(worker, "_run", lambda bell: kinds.put(type(bell)))
        monkeypatch.setattr(later, "_work", lambda jobs: kinds.put(type(jobs)))
        worker.ensure()
        later.start()
        assert [Cooperative, Cooperative] == [kinds.get(timeout=60), kinds.get(timeout=60)]


class TestFork:
    def test_a_child_sends_what_it_measured_itself(self, tmp_path: Path) -> None:
        """The parent's measurements are exported by the parent only."""
        program = (
            "for _ in range(3): parent()\n"
            "runtime.flush()\n"
            "print('===', flush=True)\n"
            "if os.fork() == 0:\n"
            "    child(); runtime.shutdown(); sys.stdout.flush(); os._exit(0)\n"
            "os.wait()\n"
        )
        by_child = run(program, tmp_path).partition("===")[2].split('"resource_metrics"')[1]
        assert (True, False) == ('"child"' in by_child, '"parent"' in by_child)

    def test_while_the_parent_exports(self, tmp_path: Path) -> None:
        """A child that is forked in the middle of its parent's exports stops in time, every time."""
        program = (
            "stop = threading.Event()\n"
            "def busy():\n"
            "    while not stop.is_set(): parent(); time.sleep(0.0005)\n"
            "threads = [threading.Thread(target=busy) for _ in range(2)]\n"
            "for thread in threads: thread.start()\n"
            "late = 0\n"
            "for _ in range(60):\n"
            "    if (pid := os.fork()) == 0:\n"
            "        child(); os._exit(0 if runtime.shutdown(60.0) else 1)\n"
            "    late += bool(os.waitpid(pid, 0)[1])\n"
            "    if late: break\n"
            "stop.set()\n"
            "for thread in threads: thread.join()\n"
            "sys.exit(late)\n"
        )
        assert '"parent"' in run(program, tmp_path, period="2")


class TestGate:
    def test_no_fork_falls_into_it(self) -> None:
        """The child finds the gate open although another thread of the parent goes through it all the time."""
        gate, stop, inside = ForkGate(), threading.Event(), [0]

        def work() -> None:
            while not stop.is_set():
                with gate:
                    inside[0] += 1
                    inside[0] -= 1

        thread = threading.Thread(target=work)
        thread.start()
        seen = []
        for _ in range(40):
            pid = os.fork()
            if pid == 0:
                with gate:
                    os._exit(inside[0])
            seen.append(os.waitpid(pid, 0)[1])
        stop.set()
        thread.join()
        assert [0] * 40 == seen

    def test_a_fork_from_inside_is_let_through(self) -> None:
        """The forking thread itself may hold it: it is held up for a moment, not for good, and parent and child go on."""
        gate = ForkGate()
        with gate:
            pid = os.fork()
            if pid == 0:
                with gate:
                    os._exit(0)
        assert 0 == os.waitpid(pid, 0)[1]
        with gate:
            pass


class TestInterval:
    @pytest.mark.parametrize(
        ("given", "seconds", "problem"),
        [("", 60.0, False), ("250", 0.25, False), ("0", 60.0, True), ("-1", 60.0, True), ("soon", 60.0, True), ("nan", 60.0, True)],
    )
    def test_from_the_variable(self, given: str, seconds: float, problem: bool) -> None:
        """Milliseconds above zero are taken, anything else is reported and replaced by the default."""
        losses = Losses()
        found = interval_from({"OTEL_METRIC_EXPORT_INTERVAL": given}, losses)
        assert (seconds, problem) == (found, "OTEL_METRIC_EXPORT_INTERVAL" in losses.problems)

    def test_infinity_exports_at_a_flush_only(self) -> None:
        """As with the SDK's own reader."""
        assert interval_from({"OTEL_METRIC_EXPORT_INTERVAL": "inf"}, Losses()) > 10**6
