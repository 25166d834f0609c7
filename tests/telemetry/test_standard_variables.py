"""Every bad value of a standard variable is a sentence that says what is expected."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from otel_runtime.settings.model import Settings
from otel_runtime.telemetry.protocol import SpanStart
from otel_runtime.telemetry.provider import build_tracing
from otel_runtime.telemetry.variables import wrong_values

# Name, a sound value, a bad one, and a word of what is said about that.
TABLE = [
    ("OTEL_SDK_DISABLED", "False", "perhaps", "`true` or `false`, got `perhaps`"),
    ("OTEL_RESOURCE_ATTRIBUTES", "a=b,c=d=e,", "a,=b", "pairs such as"),
    ("OTEL_PROPAGATORS", "tracecontext, baggage", "pigeon", "`tracecontext`"),
    ("OTEL_TRACES_SAMPLER", "ParentBased_TraceIdRatio", "mostly", "`parentbased_traceidratio`"),
    ("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "0", "-1", "not negative"),
    ("OTEL_SPAN_EVENT_COUNT_LIMIT", "128", "1.5", "not negative"),
    ("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", "2000", "²", "not negative"),
    ("OTEL_BSP_SCHEDULE_DELAY", "500", "soon", "a positive number, got `soon`"),
    ("OTEL_BSP_EXPORT_TIMEOUT", "500", "-1", "a positive number"),
    ("OTEL_BLRP_MAX_QUEUE_SIZE", "500", "0", "a positive number"),
    ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc", "carrier-pigeon", "`http/protobuf`"),
    ("OTEL_EXPORTER_OTLP_TIMEOUT", "2.5", "nan", "a positive number"),
    ("OTEL_EXPORTER_OTLP_TRACES_COMPRESSION", "gzip", "zip", "`deflate`"),
    ("OTEL_EXPORTER_OTLP_CERTIFICATE", __file__, "/nowhere/at\x00all", "a file that exists"),
    ("OTEL_EXPORTER_OTLP_INSECURE", "true", "1", "`true` or `false`"),
    ("OTEL_TRACES_EXPORTER", "otlp,console", "otlp,jaeger", "`console`"),
    ("OTEL_LOGS_EXPORTER", "none", "file", "`none`"),
    ("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "DELTA", "alpha", "`lowmemory`"),
    ("OTEL_METRICS_EXEMPLAR_FILTER", "trace_based", "some", "`always_on`"),
    ("OTEL_METRIC_EXPORT_INTERVAL", "60000", "often", "a positive number"),
    ("OTEL_PYTHON_ID_GENERATOR", "random", "dice", "`random`"),
    ("OTEL_EXPERIMENTAL_RESOURCE_DETECTORS", "process,otel", "crystal", "`process`"),
]


class TestValues:
    @pytest.mark.parametrize(("name", "sound", "bad", "said"), TABLE)
    def test_each(self, name: str, sound: str, bad: str, said: str) -> None:
        """A sound value and an empty one are nothing to say; a bad one is named with what is expected."""
        assert {} == wrong_values({name: sound}) == wrong_values({name: " "})
        assert said in wrong_values({name: bad})[name]

    @pytest.mark.parametrize(
        "bad", ["localhost:4318", "collector", "http://", "http://[::1", "http://host:99999", "http://a b", "ftp://host"]
    )
    @pytest.mark.parametrize("signal", ["", "TRACES_", "METRICS_"])
    def test_addresses(self, signal: str, bad: str) -> None:
        """An address without `http://`, without a host or with an impossible port is named; gRPC takes more of them."""
        name = f"OTEL_EXPORTER_OTLP_{signal}ENDPOINT"
        assert {name: f"expected an address such as `http://127.0.0.1:4318`, got `{bad}`"} == wrong_values({name: bad})
        assert {name: "expected an address such as `http://127.0.0.1:4318`"} == wrong_values({name: f"x://user:hunter2@{bad}"})
        for sound, protocol in (("https://[::1]:4318/x", ""), ("localhost:4317", "grpc"), ("unix:///run/c.sock", "GRPC")):
            assert {} == wrong_values({name: sound, "OTEL_EXPORTER_OTLP_PROTOCOL": protocol})

    def test_headers_are_not_repeated(self) -> None:
        """Headers hold credentials."""
        assert {"OTEL_EXPORTER_OTLP_HEADERS": "expected pairs such as `name=value,other=value`"} == wrong_values(
            {"OTEL_EXPORTER_OTLP_HEADERS": "hunter2"}
        )

    def test_an_argument_only_for_who_reads_it(self) -> None:
        """The sampler's argument matters to samplers by ratio."""
        given = {"OTEL_TRACES_SAMPLER_ARG": "endpoint=http://x"}
        assert {} == wrong_values({**given, "OTEL_TRACES_SAMPLER": "always_on"})
        assert ["OTEL_TRACES_SAMPLER_ARG"] == list(wrong_values({**given, "OTEL_TRACES_SAMPLER": "traceidratio"}))

    def test_others_are_left_alone(self) -> None:
        """What is no standard variable is not looked at."""
        assert {} == wrong_values({"HOME": "nonsense", "OTEL_RUNTIME_POLICY": "nonsense", "OTEL_UNHEARD_OF": "nonsense"})


class TestDoctor:
    def test_says_so(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """The command names the variable, what was expected and what came, and is no failure: programs run as ever."""
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("OTEL_BLRP_SCHEDULE_DELAY", "whenever")
        monkeypatch.setenv("OTEL_METRICS_EXEMPLAR_FILTER", "some")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://[::1")
        done = subprocess.run([sys.executable, "-m", "otel_runtime", "doctor", "--json"], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        for words in (
            "OTEL_BLRP_SCHEDULE_DELAY: expected a positive number, got `whenever`",
            "OTEL_METRICS_EXEMPLAR_FILTER: expected `always_on`",
            "OTEL_EXPORTER_OTLP_ENDPOINT: expected an address such as `http://127.0.0.1:4318`, got `http://[::1`",
        ):
            assert words in done.stdout

    def test_an_impossible_address_stops_only_its_exporter(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """The trace file is written all the same."""
        monkeypatch.setenv("OTEL_METRICS_EXPORTER", "none")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://[::1")
        tracing = build_tracing(Settings(trace_file=tmp_path / "trace.json"))
        try:
            tracing.open(SpanStart("tool", "kept")).end("ok")
            assert not tracing.flush(20)
            assert '"execute_tool kept"' in (tmp_path / "trace.json").read_text()
        finally:
            tracing.shutdown(2)
