"""The trace file is one valid OTLP-JSON document at all times."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format
from opentelemetry.proto.trace.v1.trace_pb2 import TracesData

from otel_runtime.errors import ConfigError
from otel_runtime.settings.model import Settings
from otel_runtime.telemetry.losses import Losses
from otel_runtime.telemetry.otlp_json_file import OtlpJsonFile
from otel_runtime.telemetry.protocol import SpanStart
from otel_runtime.telemetry.provider import build_tracing
from otel_runtime.telemetry.trace_files import read_spans
from otel_runtime.values.trace import TraceRef


def write(path: Path, *names: str) -> None:
    tracing = build_tracing(Settings(trace_file=path, otlp="off"))
    for name in names:
        tracing.open(SpanStart("tool", name)).end("ok")
        assert tracing.flush(20)
        json.loads(next(path.parent.iterdir()).read_text("utf-8"))
    assert tracing.shutdown(20)


class TestDocument:
    def test_read_back(self, tmp_path: Path, make_bench: Any) -> None:
        """What the file gives back equals what an in-memory exporter saw."""
        path = tmp_path / "runs" / "trace.json"
        bench = make_bench(trace_file=path)
        links = (TraceRef("1" * 32, "2" * 16, True),)
        own: dict[str, Any] = {"s": "ü", "i": -5, "f": 0.25, "b": False}
        span = bench.tracing.open(SpanStart("agent", "a", links=links, attributes=own, parent=TraceRef("3" * 32, "4" * 16, True)))
        token = span.enter()
        bench.tracing.open(SpanStart("model", "m")).end("error", ValueError("x"))
        span.event("otel_runtime.attempt", {"n": 1})
        span.leave(token)
        span.end("ok")
        assert bench.tracing.flush(20)
        assert bench.spans() == read_spans(path)
        # 64-bit integers are strings in OTLP/JSON, because JSON's own numbers lose digits in JavaScript.
        assert '{"key":"i","value":{"intValue":"-5"}}' in path.read_text("utf-8")

    def test_protobuf_accepts_it(self, tmp_path: Path) -> None:
        """The document parses as OTLP's TracesData once its hex ids are put into protobuf's base64."""
        path = tmp_path / "trace.json"
        write(path, "x", "y")
        document = json.loads(path.read_text("utf-8"))
        found = json_format.ParseDict(document, TracesData(), ignore_unknown_fields=False)
        spans = [span for entry in found.resource_spans for scope in entry.scope_spans for span in scope.spans]
        assert ["execute_tool x", "execute_tool y"] == [span.name for span in spans]
        raw = document["resourceSpans"][0]["scopeSpans"][0]["spans"][0]
        assert (32, 16, 1, {"code": 0, "message": ""}) == (len(raw["traceId"]), len(raw["spanId"]), raw["kind"], raw["status"])
        assert raw["startTimeUnixNano"].isdigit()

    def test_valid_before_the_first_span(self, tmp_path: Path) -> None:
        """The file is a document as soon as it exists."""
        OtlpJsonFile(tmp_path / "t.json", Losses())
        assert {"resourceSpans": []} == json.loads((tmp_path / "t.json").read_text("utf-8"))

    def test_later_runs_append(self, tmp_path: Path) -> None:
        """A second run adds to the same file."""
        path = tmp_path / "trace.json"
        write(path, "x")
        write(path, "y", "z")
        assert ["execute_tool x", "execute_tool y", "execute_tool z"] == [span.name for span in read_spans(path)]

    def test_name_is_filled_in(self, tmp_path: Path) -> None:
        """`{pid}` and `{time}` become this process and its start."""
        write(tmp_path / "{pid}-{time}.json", "x")
        (name,) = (path.name for path in tmp_path.iterdir())
        assert name.startswith(f"{os.getpid()}-2")

    def test_two_processes(self, tmp_path: Path) -> None:
        """Two processes that write one file at the same time lose nothing."""
        path = tmp_path / "trace.json"
        program = textwrap.dedent(f"""
            import sys
            from pathlib import Path
            from opentelemetry.sdk.trace import TracerProvider
            from otel_runtime.telemetry.losses import Losses
            from otel_runtime.telemetry.otlp_json_file import OtlpJsonFile
            span = TracerProvider(shutdown_on_exit=False).get_tracer("x").start_span("x")
            span.end()
            file = OtlpJsonFile(Path({str(path)!r}), Losses())
            print("ready", flush=True)
            sys.stdin.readline()
            for number in range(500):
                file.export([span])
        """)
        processes = [
            subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(2)
        ]
        for process in processes:
            assert process.stdout is not None
            process.stdout.readline()
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        for process in processes:
            process.communicate(timeout=120)
        assert [0, 0] == [process.returncode for process in processes]
        assert 1000 == len(read_spans(path))


class TestTrouble:
    def test_killed_between_exports(self, tmp_path: Path) -> None:
        """A process that is killed leaves a complete document."""
        path = tmp_path / "trace.json"
        program = textwrap.dedent(f"""
            import os
            from pathlib import Path
            from otel_runtime.settings.model import Settings
            from otel_runtime.telemetry.protocol import SpanStart
            from otel_runtime.telemetry.provider import build_tracing
            tracing = build_tracing(Settings(trace_file=Path({str(path)!r}), otlp="off"))
            tracing.open(SpanStart("tool", "x")).end("ok")
            tracing.flush(20)
            tracing.open(SpanStart("tool", "never")).end("ok")
            os.kill(os.getpid(), 9)
        """)
        assert -9 == subprocess.run([sys.executable, "-c", program], timeout=120, check=False).returncode
        assert "execute_tool x" in [span.name for span in read_spans(path)]

    def test_torn_tail_is_mended(self, tmp_path: Path) -> None:
        """A file cut in the middle of a write keeps its complete entries and is written on."""
        path = tmp_path / "trace.json"
        write(path, "x", "y")
        whole = path.read_bytes()
        path.write_bytes(whole[: whole.rindex(b"execute_tool y")])
        write(path, "z")
        assert ["execute_tool x", "execute_tool z"] == [span.name for span in read_spans(path)]

    def test_mending_costs_nothing_whole(self, tmp_path: Path) -> None:
        """A disk that refuses what mends a torn file takes none of its complete entries."""
        path = tmp_path / "trace.json"
        write(path, "x", "y")
        whole = path.read_bytes()
        path.write_bytes(whole[: whole.rindex(b"execute_tool y")])
        program = textwrap.dedent(f"""
            import resource, signal
            from pathlib import Path
            from otel_runtime.errors import ConfigError
            from otel_runtime.telemetry.losses import Losses
            from otel_runtime.telemetry.otlp_json_file import OtlpJsonFile
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (10, 10))
            try:
                OtlpJsonFile(Path({str(path)!r}), Losses())
            except ConfigError as error:
                print(error)
        """)
        done = subprocess.run([sys.executable, "-c", program], timeout=120, check=True, capture_output=True, text=True)
        assert "cannot write the trace file" in done.stdout
        write(path, "z")
        assert ["execute_tool x", "execute_tool z"] == [span.name for span in read_spans(path)]

    def test_disk_full(self, tmp_path: Path) -> None:
        """A full disk costs spans, counted, and leaves the document valid."""
        path = tmp_path / "trace.json"
        program = textwrap.dedent(f"""
            import json, resource, signal
            from pathlib import Path
            from otel_runtime.settings.model import Settings
            from otel_runtime.telemetry.protocol import SpanStart
            from otel_runtime.telemetry.provider import build_tracing
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            tracing = build_tracing(Settings(trace_file=Path({str(path)!r}), otlp="off"))
            tracing.open(SpanStart("tool", "x")).end("ok")
            assert tracing.flush(20)
            size = Path({str(path)!r}).stat().st_size
            resource.setrlimit(resource.RLIMIT_FSIZE, (size + 100, size + 100))
            tracing.open(SpanStart("tool", "y")).end("ok")
            assert not tracing.flush(20)
            print(json.dumps(dict(tracing.report()["lost"])))
        """)
        done = subprocess.run([sys.executable, "-c", program], timeout=120, check=True, capture_output=True, text=True)
        assert {"export": 1} == json.loads(done.stdout)
        assert ["execute_tool x"] == [span.name for span in read_spans(path)]

    def test_unwritable_path_is_refused(self, tmp_path: Path) -> None:
        """A trace file that cannot be written was configured, so it is refused at start."""
        (tmp_path / "file").write_text("x")
        with pytest.raises(ConfigError, match="cannot write the trace file"):
            build_tracing(Settings(trace_file=tmp_path / "file" / "trace.json"))

    def test_foreign_file_is_not_touched(self, tmp_path: Path) -> None:
        """A file that is not ours is refused and stays as it was."""
        path = tmp_path / "notes.json"
        path.write_text("my notes")
        with pytest.raises(ConfigError, match="no trace file of ours"):
            build_tracing(Settings(trace_file=path))
        assert "my notes" == path.read_text()

    @pytest.mark.parametrize("content", [None, "not json"])
    def test_reader_says_what_is_wrong(self, tmp_path: Path, content: str | None) -> None:
        """A file that is missing or no JSON is a configuration error with its path."""
        path = tmp_path / "t.json"
        if content is not None:
            path.write_text(content)
        with pytest.raises(ConfigError, match=r"t\.json"):
            read_spans(path)

    @pytest.mark.parametrize("content", ["{}", "[]", '{"resourceSpans": [{"scopeSpans": [{"spans": [3, {}]}]}]}'])
    def test_reader_takes_odd_documents(self, tmp_path: Path, content: str) -> None:
        """JSON that is not quite OTLP gives the spans it has."""
        (tmp_path / "t.json").write_text(content)
        assert {""} >= {span.name for span in read_spans(tmp_path / "t.json")}
