"""Spans on disk outlive their process, the collector's outages and their own damage, and arrive once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanKind, Status, StatusCode

from otel_runtime.errors import ConfigError
from otel_runtime.settings.model import Settings
from otel_runtime.telemetry.loss_file import LossFile, loss_directory, past_losses
from otel_runtime.telemetry.losses import Losses
from otel_runtime.telemetry.otlp import span_exporter
from otel_runtime.telemetry.otlp_sender import OtlpSender
from otel_runtime.telemetry.pipe import Limits, Pipe
from otel_runtime.telemetry.protocol import SpanStart
from otel_runtime.telemetry.provider import build_tracing
from otel_runtime.telemetry.spool import Spool
from otel_runtime.telemetry.spool_format import Damaged, packed, unpacked
from otel_runtime.telemetry.spooled import SpooledSender


def rich_spans() -> list[ReadableSpan]:
    """Spans with everything that a span can have."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(resource=Resource({"service.name": "shop", "n": 1}), shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracer = provider.get_tracer("scope", "1.2", attributes={"v": "1.0.0"})
    outer = tracer.start_span("outer", attributes={"s": "é", "i": 1 << 60, "f": 0.5, "b": True, "l": ["a", "b"]})
    links = [Link(outer.get_span_context(), {"why": "test"})]
    inner = tracer.start_span("inner", trace.set_span_in_context(outer), SpanKind.CLIENT, links=links)
    inner.add_event("event", {"k": "v"}, 12345)
    inner.set_status(Status(StatusCode.ERROR, "broken"))
    inner.end()
    outer.end()
    return list(exporter.get_finished_spans())


def plain(span: ReadableSpan) -> Any:
    found = json.loads(span.to_json())
    scope: InstrumentationScope | None = span.instrumentation_scope
    return found, scope and (scope.name, scope.version, dict(scope.attributes or {}))


class Bench:
    """A pipe with a spool, as assembly builds it, and a tracer before it."""

    def __init__(self, directory: Path, most_bytes: int = 1 << 20, delay_s: float = 0.05) -> None:
        self.losses = Losses()
        self.spool = Spool(directory, most_bytes)
        sender = SpooledSender(self.spool, self.sender(), self.sender(), self.losses)
        self.pipe = Pipe("otlp", sender, self.losses, Limits(delay_s=delay_s))
        self.provider = TracerProvider(shutdown_on_exit=False)
        self.provider.add_span_processor(self.pipe)

    def sender(self) -> OtlpSender:
        return OtlpSender(lambda watch: span_exporter("http/protobuf", watch), self.losses, timeout_s=60, patient=True)

    def end(self, *names: str) -> None:
        for name in names:
            self.provider.get_tracer("t").start_span(name).end()


@pytest.fixture
def bench(tmp_path: Path) -> Any:
    made: list[Bench] = []

    def make(**more: Any) -> Bench:
        made.append(Bench(tmp_path / "spool", **more))
        return made[-1]

    yield make
    for one in made:
        one.pipe.shutdown()


class TestFormat:
    def test_spans_come_back_as_they_were(self) -> None:
        """Everything that leaves a process is kept: ids, times, kinds, links, events, status, resource and scope."""
        spans = rich_spans()
        assert [plain(span) for span in spans] == [plain(span) for span in unpacked(packed(spans))]

    @pytest.mark.parametrize("place", [0, 25, 60, -10])
    def test_damage_is_seen(self, place: int) -> None:
        """One changed byte anywhere makes the segment damaged."""
        content = bytearray(packed(rich_spans()))
        content[place] ^= 1
        with pytest.raises(Damaged):
            unpacked(bytes(content))

    @pytest.mark.parametrize("content", [b"", b"\n", b"something else\n{}", packed(rich_spans())[:-20]])
    def test_what_was_cut_is_seen(self, content: bytes) -> None:
        """Half a segment, or anything else, is damaged."""
        with pytest.raises(Damaged):
            unpacked(content)


class TestOutage:
    @pytest.mark.parametrize("mode", ["503", "page"])
    def test_kept_and_sent_later(self, bench: Any, faulty: Any, otlp_to: Any, eventually: Any, mode: str) -> None:
        """While the collector is down spans are on disk, not lost; they arrive once when it is back, and the disk is empty."""
        receiver = faulty(mode)
        # The exporter's own second try comes within it, a third does not.
        otlp_to(receiver.url, timeout_s=3)
        # What leaves together is one segment: at a flush, and not when the time has come for one of the two.
        one = bench(delay_s=3600)
        one.end("a", "b")
        assert not one.pipe.force_flush()
        assert (1, {}) == (len(one.spool.waiting()), one.losses.counts)
        receiver.mode = "ok"
        assert eventually(one.pipe.force_flush)
        assert (["a", "b"], [], {}) == (receiver.names, one.spool.waiting(), one.losses.counts)

    def test_shutdown_leaves_it_to_the_next(self, bench: Any, faulty: Any, otlp_to: Any, eventually: Any) -> None:
        """What a shutdown could not send is no loss: the next process sends it, also without a span of its own."""
        receiver = faulty("401")
        otlp_to(receiver.url)
        first = bench()
        first.end("a")
        assert not first.pipe.force_flush()
        first.pipe.shutdown()
        assert {} == first.losses.counts
        receiver.mode = "ok"
        second = bench()
        assert eventually(second.pipe.force_flush)
        assert ["a"] == receiver.names

    def test_refused_segment_is_counted(self, bench: Any, faulty: Any, otlp_to: Any, eventually: Any) -> None:
        """What the collector will never take does not stay on disk for ever."""
        receiver = faulty("400")
        otlp_to(receiver.url)
        one = bench()
        one.end("a", "b")
        assert eventually(lambda: {"export": 2} == one.losses.counts)
        assert eventually(lambda: [] == one.spool.waiting())

    def test_two_processes_send_a_segment_once(self, bench: Any, faulty: Any, otlp_to: Any, eventually: Any) -> None:
        """Of two senders on one directory one claims a segment."""
        receiver = faulty("401")
        otlp_to(receiver.url)
        one, two = bench(), bench()
        for number in range(20):
            one.end(str(number))
            one.pipe.force_flush(50)
        receiver.mode = "ok"
        threads = [threading.Thread(target=pipe.force_flush, args=(20_000,)) for pipe in (one.pipe, two.pipe)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert eventually(lambda: [] == one.spool.waiting())
        assert sorted(map(str, range(20))) == sorted(receiver.names)


class TestBounds:
    def test_full_directory(self, bench: Any, faulty: Any, otlp_to: Any, eventually: Any) -> None:
        """A full spool keeps the oldest; what it does not take goes straight to the collector, and waits in memory while that is down."""
        receiver = faulty("401")
        otlp_to(receiver.url)
        one = bench(most_bytes=1_000)
        one.end("kept")
        assert not one.pipe.force_flush()
        one.end("in memory")
        assert not one.pipe.force_flush()
        assert 1 == len(one.spool.waiting())
        receiver.mode = "ok"
        assert eventually(one.pipe.force_flush)
        assert (["in memory", "kept"], {}) == (sorted(receiver.names), one.losses.counts)

    def test_disk_that_refuses(self, bench: Any, faulty: Any, otlp_to: Any, tmp_path: Path) -> None:
        """A spool that went away, or a full disk, is a problem for doctor; spans go straight to the collector."""
        receiver = faulty()
        otlp_to(receiver.url)
        one = bench()
        (tmp_path / "spool").rmdir()
        (tmp_path / "spool").write_text("a file")
        one.end("a")
        one.pipe.force_flush()
        assert ["a"] == receiver.names
        assert "spool" in one.losses.problems

    def test_no_room_on_the_device(self, tmp_path: Path) -> None:
        """ENOSPC leaves nothing behind that could be taken for a segment."""
        program = textwrap.dedent(f"""
            import resource, signal, sys
            sys.path.insert(0, {str(Path(__file__).parent)!r})
            from pathlib import Path
            from opentelemetry.sdk.trace import TracerProvider
            from otel_runtime.telemetry.spool import Spool
            spool = Spool(Path({str(tmp_path)!r}))
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
            span = TracerProvider(shutdown_on_exit=False).get_tracer("t").start_span("a", attributes={{"text": "x" * 1000}})
            span.end()
            try:
                spool.keep([span])
            except OSError:
                print(len(list(Path({str(tmp_path)!r}).iterdir())))
        """)
        done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True, timeout=60)
        assert "0" == done.stdout.strip()

    def test_directory_that_cannot_be_made(self, tmp_path: Path) -> None:
        """A spool that cannot work is refused at configure."""
        (tmp_path / "file").write_text("")
        with pytest.raises(ConfigError, match="cannot write the spool"):
            Spool(tmp_path / "file" / "spool")


class TestDamage:
    def test_is_set_aside(self, bench: Any, faulty: Any, otlp_to: Any, eventually: Any) -> None:
        """A damaged segment is set aside and its spans are counted; the others arrive."""
        receiver = faulty("401")
        otlp_to(receiver.url)
        # Otherwise the two may become two segments.
        one = bench(delay_s=3600)
        one.end("a", "b")
        one.pipe.force_flush()
        one.end("c")
        one.pipe.force_flush()
        first = one.spool.waiting()[0]
        first.write_bytes(first.read_bytes()[:-30])
        receiver.mode = "ok"
        assert eventually(lambda: [] == one.spool.waiting())
        assert eventually(lambda: ["c"] == receiver.names)
        assert ({"encode": 2}, 1) == (one.losses.counts, one.spool.damaged())

    def test_one_that_cannot_be_read(self, bench: Any, faulty: Any, otlp_to: Any, eventually: Any) -> None:
        """It is named, stays where it is, and does not hold up the ones after it."""
        receiver = faulty()
        otlp_to(receiver.url)
        one = bench()
        odd = one.spool.directory / "00000000000000000001-1-0.spans"
        odd.mkdir()
        one.end("a", "b")
        assert eventually(lambda: ["a", "b"] == receiver.names)
        assert eventually(lambda: [odd] == one.spool.waiting())
        assert ({}, True) == (one.losses.counts, str(odd) in one.losses.problems["spool"])

    def test_unfinished_files_are_removed(self, tmp_path: Path) -> None:
        """What a process left that was killed while it wrote does not fill the disk."""
        left = tmp_path / ".1-2-3.new"
        left.write_text("half")
        os.utime(left, (0, 0))
        Spool(tmp_path)
        assert not left.exists()


WORK = """
import re, sys, time
from pathlib import Path
from otel_runtime.telemetry.protocol import SpanStart
from otel_runtime.telemetry.provider import build_tracing
from otel_runtime.settings.model import Settings
from types import SimpleNamespace
class Spooled(Settings):
    spool: Path | None = None
tracing = build_tracing(Spooled(spool=Path(sys.argv[1])))
for number in range(100_000):
    tracing.open(SpanStart("tool", str(number))).end("ok")
    if number % 5 == 0:
        tracing.flush(1)
        # A flush may be over before the disk has it.
        while int(re.search(r"(\\d+) sent", tracing.report()["exporters"][0])[1]) <= number:
            time.sleep(0.01)
        print(number, flush=True)
"""


class TestKill:
    @pytest.mark.parametrize("mode", ["503", "hang", "ok"])
    def test_nothing_flushed_is_lost(self, bench: Any, faulty: Any, otlp_to: Any, eventually: Any, tmp_path: Path, mode: str) -> None:
        """After kill -9 every span that was flushed, sent or on disk, arrives; a store that keys by id holds none twice."""
        receiver = faulty(mode)
        otlp_to(receiver.url)
        work = [sys.executable, "-c", WORK, str(tmp_path / "spool")]
        with subprocess.Popen(work, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            said = [int(process.stdout.readline()) for _ in range(3)]
            process.send_signal(signal.SIGKILL)
        receiver.mode = "ok"
        after = bench()
        assert eventually(lambda: after.pipe.force_flush() and not after.spool.waiting())
        flushed = {f"execute_tool {number}" for number in range(said[-1] + 1)}
        assert flushed <= set(receiver.names)
        # Only a kill between acknowledgement and deletion sends a segment again, with the same ids.
        assert len(set(receiver.names)) == len(set(receiver.ids))
        if mode == "503":
            assert len(receiver.ids) == len(set(receiver.ids))


class TestLossFile:
    def test_past_losses_are_summed(self, tmp_path: Path) -> None:
        """Doctor learns what processes that are gone have lost."""
        for count in (2, 3):
            losses = Losses(LossFile(lambda: tmp_path / "telemetry"))
            losses.add("queue_full", count)
            losses.add("no_endpoint", 7)
            losses.speak()
        assert {"queue_full": 5} == past_losses(tmp_path / "telemetry")

    def test_nothing_lost_leaves_nothing(self, tmp_path: Path) -> None:
        """A process that lost nothing leaves no file and no directory."""
        Losses(LossFile(lambda: tmp_path / "telemetry")).speak()
        assert ([], {}) == (list(tmp_path.iterdir()), past_losses(tmp_path / "telemetry"))

    def test_strange_files_are_skipped(self, tmp_path: Path) -> None:
        """A file that is none of ours breaks nothing."""
        (tmp_path / "losses-1-2.json").write_text("[1]")
        (tmp_path / "losses-1-3.json").write_text("{")
        assert {} == past_losses(tmp_path)

    def test_place(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """The file goes into the spool, or beside a state that is there; no folder is made for it alone."""
        monkeypatch.chdir(tmp_path)
        state = Path(".otel-runtime/state.db")
        assert (None, None, Path("spool")) == (
            loss_directory(state, None),
            loss_directory(Path("state.db"), None),
            loss_directory(state, Path("spool")),
        )
        state.parent.mkdir()
        assert Path(".otel-runtime/telemetry") == loss_directory(state, None)
        assert {} == past_losses(None)

    def test_a_runtime_leaves_its_losses(self, tmp_path: Path, otlp_to: Any, faulty: Any) -> None:
        """Losses of a runtime are there for doctor when it has stopped."""
        otlp_to(faulty("400").url)
        tracing = build_tracing(Settings(state=tmp_path / "state.db"))
        tracing.open(SpanStart("tool", "x")).end("ok")
        assert not tracing.shutdown(20)
        assert {"export": 1} == past_losses(loss_directory(tmp_path / "state.db", None))
