"""The adversarial rows that describe a program and not a call: a real runtime under the rows' own policies, end to end.

The tables of `test_adversarial` run every other row; each row here is named by the test that runs it.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import json
import multiprocessing
import os
import pickle
import signal
import socket
import subprocess
import sys
import textwrap
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import otel_runtime as rt
from otel_runtime.cli.main import main
from otel_runtime.errors import ArgumentsChanged, Blocked, ConfigError, PolicyDenied, PolicyUnavailable
from otel_runtime.runtime.build import build_runtime
from otel_runtime.settings.model import Settings

FILES = Path(__file__).parent / "cases"
RAN: list[Any] = []
Start = Callable[..., rt.Runtime]


class FlipStr(str):
    """A text that is another one each time somebody asks."""

    __slots__ = ("other",)
    other: str

    def __str__(self) -> str:
        return self.other

    def __fspath__(self) -> str:
        return self.other


@rt.tool
def read_file(path: str) -> str:
    """Read."""
    RAN.append(path)
    return "read"


@rt.tool
def pay(amount: float, currency: str = "EUR") -> float:
    """Pay."""
    RAN.append(amount)
    return amount


@rt.tool
def get_weather(city: Any = "Oslo") -> str:
    """The weather."""
    RAN.append("weather")
    return "sunny"


@rt.tool(name="get_weather")
def fails(error: Any = None) -> str:
    """Fail."""
    raise error


@pytest.fixture(autouse=True)
def _nothing_ran() -> None:
    RAN.clear()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """A runtime in force under one of the rows' policies."""
    with ExitStack() as stack:

        def started(case: str | None = "engine", provider: TracerProvider | None = None, **more: Any) -> rt.Runtime:
            own = {} if case is None else {"policy": FILES / f"{case}.yaml"}
            values = {"state": tmp_path / "state" / "s.db", "otlp": "off", "wait_at_most": 0.05, **own, **more}
            runtime = build_runtime(Settings(**values), tracer_provider=provider)
            stack.callback(runtime.shutdown)
            stack.enter_context(runtime.use())
            return runtime

        yield started


class TestCallsAsPythonMakesThem:
    def test_a_text_that_changes(self, start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """PA39: a text of a type of its own, which can be another one at every look, does not open a path."""
        (tmp_path / "data").mkdir()
        (tmp_path / "data" / "ok.txt").write_text("ok")
        monkeypatch.chdir(tmp_path)
        start("path")
        assert "read" == read_file("data/ok.txt")
        flips = FlipStr("data/ok.txt")
        flips.other = "/etc/passwd"
        with pytest.raises(Blocked):
            read_file(flips)
        assert ["data/ok.txt"] == RAN

    def test_ways_to_hand_over(self, start: Start) -> None:
        """TY40, TY42: positional, starred and doubly starred arguments are bound to their names before anything is decided."""
        start("pay")
        amounts: list[float] = [1_000_000]
        named: dict[str, Any] = {"currency": "USD", "amount": 1_000_000}
        with pytest.raises(PolicyDenied):
            pay(1_000_000)
        with pytest.raises(PolicyDenied):
            pay(*amounts, currency="USD")  # type: ignore[arg-type,misc]  # mypy takes the list for any number
        with pytest.raises(PolicyDenied):
            pay(**named)
        assert 50 == pay(50, "USD")
        assert 50 == pay(currency="USD", amount=50)
        assert [50, 50] == RAN

    def test_changed_between(self, start: Start, tmp_path: Path) -> None:
        """TY43: an argument that is changed between the decision and the body is refused."""
        amounts = [50]

        @rt.tool(name="pay_all")
        def pay_all(amounts: list[int]) -> None:
            RAN.append(list(amounts))

        (tmp_path / "adversarial_live_predicate.py").write_text(
            "HELD = []\ndef ask(action, facts):\n    HELD[0][0] = 1_000_000\n    return True\n"
        )
        sys.path.insert(0, str(tmp_path))
        try:
            import adversarial_live_predicate  # type: ignore[import-not-found]  # written above

            adversarial_live_predicate.HELD.append(amounts)
            (tmp_path / "p.yaml").write_text(
                "version: 1\ndefault: deny\nrules:\n- {id: a, tool: pay_all, args: {amounts: {every: {lte: 100}}}, when: 'adversarial_live_predicate:ask', decision: allow}\n"
            )
            start(None, policy=tmp_path / "p.yaml")
            # Found changed at the first look, or decided anew as it is now.
            with pytest.raises((ArgumentsChanged, PolicyDenied)):
                pay_all(amounts)
        finally:
            sys.path.remove(str(tmp_path))
            sys.modules.pop("adversarial_live_predicate", None)
        assert [] == RAN


class TestFaultsOfThePolicy:
    def test_unreachable_engine(self, start: Start) -> None:
        """FC08: a policy server that cannot be reached allows nothing, what our own rules allow included."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        start(opa=f"http://127.0.0.1:{port}/v1/data/a")
        with pytest.raises(PolicyDenied, match="OPA did not decide"):
            get_weather()
        assert [] == RAN

    def test_reload_to_an_invalid_file(self, start: Start, tmp_path: Path) -> None:
        """FC27: a reload to a broken file is refused, and the last good rules stay in force."""
        path = tmp_path / "live.yaml"
        path.write_bytes((FILES / "engine.yaml").read_bytes())
        runtime = start(None, policy=path)
        for broken in (
            "",
            "version: 1\ndefault: allow\nrules: []\n",
            "rules: [",
            "version: 1\ndefault: alow\nrules:\n- {id: a, tool: x, decision: allow}\n",
        ):
            path.write_text(broken)
            with pytest.raises(ConfigError):
                runtime.reload_policy()
            assert "sunny" == get_weather()
            with pytest.raises(PolicyDenied):
                pay(5, "USD")
        path.unlink()
        with pytest.raises(ConfigError):
            runtime.reload_policy()
        assert "sunny" == get_weather()

    def test_no_record_of_an_approval(self, start: Start) -> None:
        """FC31: where the question cannot be written down because the disk is full, the call does not run."""
        runtime = start("pay", wait_at_most=0.001)
        approvals = runtime.approvals
        assert approvals is not None
        with approvals.database.reading() as connection:
            (pages,) = connection.execute("PRAGMA page_count").fetchone()
            connection.execute(f"PRAGMA max_page_count = {pages + 2}")
        refusals: list[type[BaseException]] = []
        while PolicyUnavailable not in refusals:
            with pytest.raises(Blocked) as caught:
                pay(500 + len(refusals), "USD")
            refusals.append(caught.type)
            assert len(refusals) < 500
        assert [] == RAN

    def test_own_policy_is_writable(self, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        """PF41: `doctor` says when this very user may rewrite the policy that guards it."""
        monkeypatch.chdir(tmp_path)
        (tmp_path / "p.yaml").write_bytes((FILES / "engine.yaml").read_bytes())
        (tmp_path / "otel-runtime.yaml").write_text("policy: p.yaml\n")
        main(["doctor", "--json"])
        said = [one["detail"] for one in json.loads(capsys.readouterr().out) if one["what"] == "policy file"]
        assert any("may be rewritten by this user" in detail for detail in said), said


class Raising(SpanProcessor):
    """Fails at every end."""

    def on_end(self, span: ReadableSpan) -> None:
        raise RuntimeError("processor")


def traced() -> tuple[TracerProvider, InMemorySpanExporter]:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return provider, exporter


class Queried:
    """Its `repr` has side effects, as an object of a database does."""

    def __repr__(self) -> str:
        RAN.append("queried")
        return "row"


class TestTelemetryChangesNothing:
    """The policy allows `get_weather`; whatever happens to spans, it runs and returns what it returns."""

    def test_exporter_down(self, start: Start) -> None:
        """FC32: a collector that is not there changes no decision."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{port}")
            patch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")
            runtime = start(otlp="on", flush_timeout=0.2)
            assert "sunny" == get_weather()
            with pytest.raises(PolicyDenied):
                pay(5, "USD")
            runtime.shutdown()

    @pytest.mark.parametrize("capture", ["NO_CONTENT", "SPAN_ONLY"])
    def test_arguments(self, start: Start, capture: str) -> None:
        """TE01, TE12, TE14: cyclic, huge and side-effecting arguments are handed through, and nobody prints them."""
        provider, _ = traced()
        start(provider=provider, capture=capture)
        cycle: list[Any] = []
        cycle.append(cycle)
        for value in (cycle, "x" * 100_000_000, b"x" * 100_000_000, Queried()):
            assert "sunny" == get_weather(value)
        assert ["weather"] * 4 == RAN

    def test_processor(self, start: Start) -> None:
        """TE05: a span processor that raises does not replace the user's own exception."""
        provider = TracerProvider()
        provider.add_span_processor(Raising())
        start(provider=provider)
        error = KeyError("mine")
        with pytest.raises(KeyError) as caught:
            fails(error)
        assert error is caught.value

    def test_names(self, start: Start, tmp_path: Path) -> None:
        """TE08, TE09: a name with a lone surrogate, or that is no text, is no reason to lose other spans or to run anything."""
        provider, exporter = traced()
        start(provider=provider)
        with contextlib.suppress(Exception), rt.session("s"):
            rt.run_tool("w\ud800", {})  # what a model may say
        with pytest.raises(Exception, match=r"."):
            rt.tool(name=5)(lambda: None)  # type: ignore[call-overload]  # no text
        assert "sunny" == get_weather()
        assert any("get_weather" in span.name for span in exporter.get_finished_spans())

    def test_secret_in_an_exception(self, start: Start) -> None:
        """TE16: the exception reaches the caller as it was, and its secret no span."""
        provider, exporter = traced()
        start(provider=provider)
        with pytest.raises(ValueError, match="sk-abcdefghijklmnopqrstuvwx0123456789"):
            fails(ValueError("key sk-abcdefghijklmnopqrstuvwx0123456789 is wrong"))
        told = json.dumps([json.loads(span.to_json()) for span in exporter.get_finished_spans()])
        assert "fghijklmnopqrstuvwx" not in told

    def test_base_exceptions(self, start: Start) -> None:
        """TE17, TE18: cancellation, Ctrl-C, exit and the end of a generator travel through as themselves."""
        start()
        for error in (asyncio.CancelledError(), KeyboardInterrupt(), SystemExit(3), GeneratorExit()):
            with pytest.raises(type(error)) as caught:
                fails(error)
            assert error is caught.value

    def test_stream_that_is_left(self, start: Start) -> None:
        """TE20: breaking out of an asynchronous generator ends it once, without a complaint."""
        provider, exporter = traced()
        start(provider=provider)

        @rt.tool(name="get_weather")
        async def stream() -> AsyncGenerator[int, None]:
            try:
                for at in range(10):
                    yield at
            finally:
                RAN.append("closed")

        async def consume() -> None:
            async with contextlib.aclosing(stream()) as items:
                async for item in items:
                    if item == 2:
                        break

        asyncio.run(consume())
        assert ["closed"] == RAN
        (span,) = [one for one in exporter.get_finished_spans() if "get_weather" in one.name]
        assert span.status.status_code.name != "ERROR"

    def test_pool_of_threads(self, start: Start) -> None:
        """TE22: in a pool of threads the same runtime decides when it is in force for the process."""
        runtime = start()
        with concurrent.futures.ThreadPoolExecutor(2) as pool:

            def inside() -> str:
                with runtime.use():
                    return get_weather()

            assert ["sunny"] * 20 == [job.result() for job in [pool.submit(inside) for _ in range(20)]]

    def test_queue_overflow(self, start: Start) -> None:
        """TE25: more spans than the queue takes lose spans, not calls."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
            start(otlp="on", queue_spans=2, flush_timeout=0.2)
            assert {"sunny"} == {get_weather() for _ in range(200)}

    def test_a_function_is_pickled(self) -> None:
        """TE30: a decorated function is pickled by its name."""
        assert get_weather is pickle.loads(pickle.dumps(get_weather))


PROGRAM = """
import json, os, sys, signal, time
import otel_runtime as rt

@rt.tool
def get_weather() -> str:
    return "sunny"

@rt.tool
def pay() -> str:
    return "paid"

def both():
    try:
        refused = pay()
    except rt.PolicyDenied:
        refused = "refused"
    return [get_weather(), refused]

if __name__ == "__main__":
    runtime = rt.configure(policy=sys.argv[1], state=sys.argv[2] + "/s.db", trace_file=sys.argv[2] + "/t.jsonl", otlp="off")
"""


class TestProcesses:
    def run(self, tmp_path: Path, body: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        (tmp_path / "program.py").write_text(PROGRAM + textwrap.indent(textwrap.dedent(body), "    "))
        command = [
            sys.executable,
            "-W",
            "ignore::DeprecationWarning",
            str(tmp_path / "program.py"),
            str(FILES / "engine.yaml"),
            str(tmp_path),
        ]
        return subprocess.run(
            command, capture_output=True, text=True, timeout=120, env={**os.environ, **(env or {})}, cwd=tmp_path, check=False
        )

    def test_sigterm(self, tmp_path: Path) -> None:
        """TE26: SIGTERM ends the program as it would without us, and decisions before it were made."""
        done = self.run(tmp_path, "print(both(), flush=True)\nos.kill(os.getpid(), signal.SIGTERM)\ntime.sleep(30)\n")
        assert "['sunny', 'refused']" in done.stdout
        assert -signal.SIGTERM == done.returncode, done.stderr

    @pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="this system cannot fork")
    def test_fork(self, tmp_path: Path) -> None:
        """TE27: a forked child decides as its parent does."""
        done = self.run(
            tmp_path,
            "import multiprocessing\nwith multiprocessing.get_context('fork').Pool(1) as pool:\n    print(pool.apply(both), both())\n",
        )
        assert "['sunny', 'refused'] ['sunny', 'refused']" in done.stdout, done.stderr

    @pytest.mark.parametrize(
        "variables", [{"OTEL_SDK_DISABLED": "true"}, {"OTEL_TRACES_SAMPLER": "always_off"}, {"OTEL_PROPAGATORS": "nonsense"}]
    )
    def test_disabled(self, tmp_path: Path, variables: dict[str, str]) -> None:
        """TE32: with the SDK disabled, unsampled or misconfigured the same calls run and the same are refused."""
        done = self.run(tmp_path, "print(both())\n", variables)
        assert "['sunny', 'refused']" in done.stdout, done.stderr


def test_rows_are_named() -> None:
    """Each row that `test_adversarial` leaves to this file is named by a test here."""
    text = Path(__file__).read_text(encoding="utf-8")
    rows = ["PA39", "TY40", "TY42", "TY43", "FC08", "FC27", "FC31", "FC32", "PF41"]
    rows += [f"TE{at:02}" for at in (1, 5, 8, 9, 12, 14, 16, 17, 18, 20, 22, 25, 26, 27, 30, 32)]
    assert [] == [row for row in rows if not any(row in line for line in text.splitlines() if '"""' in line)]
