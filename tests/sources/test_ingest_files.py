"""What `ingest` takes besides objects: files, lines, asynchronous streams."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Iterable, Iterator
from pathlib import Path

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

import otel_runtime as rt
from otel_runtime.runtime.build import build_runtime
from otel_runtime.settings.model import Settings

RUN = Path(__file__).with_name("data") / "stalled.jsonl"
TREE = ["chat listed", "invoke_agent t"]


@pytest.fixture
def spans(tmp_path: Path) -> Iterator[InMemorySpanExporter]:
    """A runtime in force, and what it exports."""
    exporter, provider = InMemorySpanExporter(), TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    with build_runtime(Settings(otlp="off", state=tmp_path / "state.db"), tracer_provider=provider) as runtime, runtime.use():
        yield exporter


def names(exporter: InMemorySpanExporter) -> list[str]:
    return [span.name for span in exporter.get_finished_spans()]


async def stream(lines: Iterable[str]) -> AsyncIterator[object]:
    for line in lines:
        yield json.loads(line)


class TestFiles:
    @pytest.mark.parametrize("given", [RUN, str(RUN)], ids=["a path", "its text"])
    def test_a_file_is_read_by_its_name(self, spans: InMemorySpanExporter, given: Path | str) -> None:
        """JSON Lines, to the end."""
        assert (7, TREE) == (rt.ingest(given, source="dreadnode"), names(spans))

    @pytest.mark.parametrize("mode", ["r", "rb"])
    def test_an_open_file_is_an_iterable_of_lines(self, spans: InMemorySpanExporter, mode: str) -> None:
        """Each line is an event, blank ones are none."""
        with RUN.open(mode) as lines:
            assert (7, TREE) == (rt.ingest(lines, source="dreadnode"), names(spans))
        assert 0 == rt.ingest(["\n", b"", "  "], source="dreadnode")

    def test_what_is_no_event_in_it_is_told_and_nothing_is_raised(
        self, spans: InMemorySpanExporter, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        """The others become spans all the same."""
        (tmp_path / "e.jsonl").write_bytes(b"\xff\n" + RUN.read_bytes() + b'{"type":')
        with caplog.at_level(logging.WARNING, "otel_runtime.sources"):
            assert (7, TREE) == (rt.ingest(tmp_path / "e.jsonl", source="dreadnode"), names(spans))
        assert "2 lines of" in caplog.text

    def test_a_file_that_is_not_there(self, spans: InMemorySpanExporter) -> None:
        """One message that names it."""
        with pytest.raises(rt.ConfigError, match=r"nowhere\.jsonl: error\[S301\]: cannot read the events"):
            rt.ingest("nowhere.jsonl", source="dreadnode")

    def test_a_line_that_is_no_json_is_counted(self, spans: InMemorySpanExporter) -> None:
        """As any event that cannot be read."""
        with rt.feed(source="dreadnode") as into:
            for line in [*RUN.read_text(encoding="utf-8").splitlines(), "no json", "[" * 100_000]:
                into.push(line)
        assert (9, TREE) == (into.count, names(spans))


class TestAsynchronousStreams:
    def test_are_awaited(self, spans: InMemorySpanExporter) -> None:
        """`ingest` gives what `aingest` gives."""
        lines = RUN.read_text(encoding="utf-8").splitlines()

        async def main() -> tuple[int, int]:
            return await rt.ingest(stream(lines), source="dreadnode"), await rt.aingest(stream([]), source="dreadnode")

        assert ((7, 0), TREE) == (asyncio.run(main()), names(spans))


class TestSeveralStreams:
    def test_the_end_of_one_cuts_nothing_short_for_another(self, spans: InMemorySpanExporter) -> None:
        """What came out of order there still has its time to become one span."""

        def said(run: str, name: str, second: int, **facts: str) -> dict[str, object]:
            return {"name": name, "type": "run", "timestamp": f"2026-11-20T08:00:{second:02}Z", "attributes": {"run.id": run, **facts}}

        call = {"tool.id": "c", "tool.name": "s"}
        with rt.feed(source="vitehub") as into:
            into.push(said("a", "run.start", 0))
            into.push(said("a", "tool.finish", 20, **call))
            rt.ingest([said("b", "run.start", 0), said("b", "run.finish", 1)], source="vitehub")
            into.push(said("a", "tool.start", 5, **call))
            into.push(said("a", "run.finish", 30))
        (tool,) = [span for span in spans.get_finished_spans() if span.name == "execute_tool s"]
        assert 15_000_000_000 == (tool.end_time or 0) - (tool.start_time or 0)
        assert "otel_runtime.orphan" not in (tool.attributes or {})


def trace(name: str, ms: int, run: str = "r") -> dict[str, object]:
    return {"name": name, "type": "error" if "error" in name else "run", "timestamp": f"2026-11-20T08:00:{ms // 1000:02}.{ms % 1000:03}Z",
            "attributes": {"run.id": run}}  # fmt: skip


class TestLogs:
    """What is given whole may say more of a run after its end; what comes live ends when it says so."""

    @pytest.mark.parametrize(
        ("names", "failed"),
        [
            (["invocation.finish", "invocation.error"], True),
            (["invocation.error", "invocation.finish"], False),
            (["run.error", "run.finish"], True),
            (["run.finish", "run.finish"], False),
        ],
    )
    def test_the_last_end_counts(self, spans: InMemorySpanExporter, names: list[str], failed: bool) -> None:
        """With its own time."""
        rt.ingest([trace("run.start", 0), *(trace(name, 10 * number) for number, name in enumerate(names, start=1))], source="vitehub")
        (span,) = spans.get_finished_spans()
        assert (failed, 20_000_000) == (span.status.status_code is StatusCode.ERROR, (span.end_time or 0) - (span.start_time or 0))

    @pytest.mark.parametrize("name", ["finish", "invocation.finish", "run.error"])
    def test_two_thousand_events_with_the_end_at_one_thousand(self, spans: InMemorySpanExporter, name: str) -> None:
        """Cut and marked, status and end still right, the first and the last there, all in order."""
        rt.ingest([trace(name if at == 999 else "note.added", at) for at in range(2000)], source="vitehub")
        (span,) = spans.get_finished_spans()
        assert (name == "run.error", 999_000_000) == (
            span.status.status_code is StatusCode.ERROR,
            (span.end_time or 0) - (span.start_time or 0),
        )
        stamps = [event.timestamp - (span.start_time or 0) for event in span.events]
        assert (0, 1_999_000_000, sorted(stamps)) == (stamps[0], stamps[-1], stamps)
        assert name in [event.name for event in span.events]
        assert 2000 - len(span.events) == (span.attributes or {})["otel_runtime.events.truncated"]

    def test_a_run_that_begins_again_is_another(self, spans: InMemorySpanExporter) -> None:
        """The end before it is its end."""
        said = [trace("run.start", 0), trace("run.finish", 5), trace("run.start", 7), trace("run.finish", 9)]
        rt.ingest(said, source="vitehub")
        assert [5_000_000, 2_000_000] == [(span.end_time or 0) - (span.start_time or 0) for span in spans.get_finished_spans()]

    def test_a_live_run_ends_at_once(self, spans: InMemorySpanExporter) -> None:
        """Nobody waits for a span that is over."""
        with rt.feed(source="vitehub") as into:
            into.push(trace("run.start", 0))
            into.push(trace("run.finish", 5))
            assert 1 == len(spans.get_finished_spans())
