"""How many questions wait for a person, as a metric of the process that asked."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.metrics import CallbackOptions
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import otel_runtime as rt
from otel_runtime.errors import StoreError
from otel_runtime.telemetry.open_questions import QUESTION, OpenQuestions

PENDING, WAIT = "otel_runtime.approval.pending", "otel_runtime.approval.wait"
POLICY = """
version: 1
name: t
default: deny
rules:
  - {id: ask, tool: wire, decision: require-approval, approval: {approvers: [anyone], expires: 1h}}
"""


@rt.tool
def wire(amount: int) -> str:
    """Send money."""
    return f"sent {amount}"


class Process:
    """A runtime that stands for a process: its settings and state are those of the others."""

    def __init__(self, folder: Path, name: str, clock: Callable[[], datetime]) -> None:
        from otel_runtime.runtime.build import build_runtime
        from otel_runtime.settings.model import Settings

        self.reader = InMemoryMetricReader()
        self.exported = InMemorySpanExporter()
        self.tracers, self.meters = TracerProvider(shutdown_on_exit=False), MeterProvider([self.reader], shutdown_on_exit=False)
        self.tracers.add_span_processor(SimpleSpanProcessor(self.exported))
        settings = Settings(name=name, policy=(folder / "policy.yaml",), state=folder / "state.db", wait_at_most=0.0, otlp="off")
        self.runtime = build_runtime(settings, tracer_provider=self.tracers, meter_provider=self.meters, clock=clock)

    def ask(self, amount: int) -> str:
        """Id of a question that is left open."""
        with self.runtime.use(), pytest.raises(rt.ApprovalPending) as waiting:
            wire(amount)
        return str(waiting.value.request_id)

    def answer(self, request_id: str) -> None:
        assert self.runtime.approvals is not None
        self.runtime.approvals.answer(request_id, approver="os:alice", approved=True)

    def measured(self, name: str) -> list[Any]:
        """Points of a metric: its value, or how many it has counted."""
        data = self.reader.get_metrics_data()
        metrics = [] if data is None else [one for res in data.resource_metrics for scope in res.scope_metrics for one in scope.metrics]
        points: list[Any] = [point for one in metrics if one.name == name for point in one.data.data_points]
        return [point.value if name == PENDING else point.count for point in points]

    def close(self) -> None:
        self.runtime.shutdown()
        self.tracers.shutdown()
        self.meters.shutdown()


@pytest.fixture
def now() -> list[datetime]:
    """The time of every process, to be set forward."""
    return [datetime.now(UTC)]


@pytest.fixture
def processes(tmp_path: Path, now: list[datetime]) -> Iterator[Callable[[str], Process]]:
    (tmp_path / "policy.yaml").write_text(POLICY)
    made: list[Process] = []

    def make(name: str) -> Process:
        made.append(Process(tmp_path, name, lambda: now[0]))
        return made[-1]

    yield make
    for process in made:
        process.close()


class TestOverProcesses:
    """Whoever asked counts, whoever answers, resumes or lets it expire."""

    def test_answered_and_resumed_elsewhere(self, processes: Callable[[str], Process]) -> None:
        """The asker's count goes back as soon as there is an answer; who resumes takes nothing from what others count."""
        asker, resumer = processes("asker"), processes("resumer")
        first, _second = asker.ask(1), asker.ask(2)
        assert [2] == asker.measured(PENDING)
        resumer.answer(first)
        assert [1] == asker.measured(PENDING)
        assert "sent 1" == resumer.runtime.resume(first)
        assert ([1], []) == (asker.measured(PENDING), resumer.measured(PENDING))

    def test_resumed_a_second_time(self, processes: Callable[[str], Process]) -> None:
        """What was used before is refused, and its answer is told once: one span, one wait."""
        asker, resumer = processes("asker"), processes("resumer")
        asked = asker.ask(1)
        resumer.answer(asked)
        resumer.runtime.resume(asked)
        for process in (resumer, asker):
            with pytest.raises(rt.ApprovalDenied, match="is already completed"):
                process.runtime.resume(asked)
        told = [span.name for process in (resumer, asker) for span in process.exported.get_finished_spans()]
        assert 1 == told.count("approval approved wire")
        assert ([1], []) == (resumer.measured(WAIT), asker.measured(WAIT))

    def test_nobody_answers(self, processes: Callable[[str], Process], now: list[datetime]) -> None:
        """What has expired waits no longer, though nobody came back for it."""
        asker = processes("asker")
        asker.ask(1)
        assert [1] == asker.measured(PENDING)
        now[0] += timedelta(hours=2)
        assert [0] == asker.measured(PENDING)


class TestOpenQuestions:
    """The counter itself."""

    @pytest.mark.parametrize("store", [StoreError("gone"), OSError("disk")])
    def test_a_store_that_does_not_answer(self, store: Exception) -> None:
        """The questions count as open, and the fault is told."""
        told: list[Exception] = []

        def waits(_: str) -> bool:
            raise store

        questions = OpenQuestions(lambda: None, told.append)
        questions.record(1, {QUESTION: "a"})
        questions.waits = waits
        (seen,) = questions.observe(CallbackOptions())
        assert (1, [store], {}) == (seen.value, told, dict(seen.attributes or {}))

    def test_a_forked_child(self) -> None:
        """It begins with none: they are the parent's."""
        questions = OpenQuestions(lambda: None, lambda _: None)
        questions.record(1, {QUESTION: "a"})
        questions.record(1, {})
        questions.clear()
        questions.record(-1, {QUESTION: "a"})
        assert [] == list(questions.observe(CallbackOptions()))
