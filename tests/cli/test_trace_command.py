"""`otel-runtime trace`: runs in a file, in Jaeger and in Tempo, found and shown; the servers here speak their documented shapes.

The real servers are asked in tests/backends.
"""

from __future__ import annotations

import base64
import gzip
import json
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console, RenderableType

from otel_runtime.cli.main import main
from otel_runtime.cli.trace_listing import table
from otel_runtime.cli.trace_source import Window
from otel_runtime.cli.trace_summary import Summary, Wanted, summaries
from otel_runtime.cli.trace_waterfall import bar, waterfall
from otel_runtime.telemetry.span_view import SpanView

T1, T2, T3 = ("1" * 32, "2" * 32, "3" * 32)
SECOND = 1_000_000_000
Answer = tuple[int, object]


def raw(trace: str, span: str, name: str, start: float, end: float, parent: str = "", **attributes: object) -> dict[str, Any]:
    """One span in OTLP/JSON; `__` in a keyword stands for a dot."""
    base = 1_795_000_000 * SECOND
    return {
        "traceId": trace,
        "spanId": span * 16,
        "parentSpanId": parent * 16,
        "name": name,
        "kind": 1,
        "startTimeUnixNano": str(base + int(start * SECOND)),
        "endTimeUnixNano": str(base + int(end * SECOND)),
        "attributes": [{"key": key.replace("__", "."), "value": value(given)} for key, given in attributes.items()],
        "status": {"code": 2} if attributes.get("error__type") else {},
    }


def value(given: object) -> dict[str, object]:
    return {"intValue": str(given)} if isinstance(given, int) else {"stringValue": given}


def document(*spans: Mapping[str, object]) -> dict[str, Any]:
    resource = {"attributes": [{"key": "service.name", "value": {"stringValue": "shop"}}]}
    return {"resourceSpans": [{"resource": resource, "scopeSpans": [{"scope": {"name": "otel_runtime"}, "spans": list(spans)}]}]}


RUNS = document(
    raw(T1, "a", "invoke_agent clerk", 0, 2, gen_ai__operation__name="invoke_agent"),
    raw(
        T1,
        "b",
        "chat m",
        0.5,
        1,
        "a",
        gen_ai__operation__name="chat",
        gen_ai__usage__input_tokens=100,
        gen_ai__usage__output_tokens=20,
        otel_runtime__usage__cost__exact="0.75",
        otel_runtime__usage__cost__currency="USD",
    ),
    raw(T1, "c", "policy deny refund", 1, 1.1, "a", otel_runtime__policy__decision="deny"),
    raw(T2, "d", "invoke_agent slow", 100, 190, gen_ai__operation__name="invoke_agent", error__type="timeout"),
    raw(T2, "e", "approval requested refund", 101, 101, "d", otel_runtime__approval__id="ap-1"),
    raw(T3, "f", "invoke_agent asks", 200, 201, gen_ai__operation__name="invoke_agent"),
    raw(T3, "9", "approval requested mail", 200, 200, "f", otel_runtime__approval__id="ap-2"),
    # Its answer begins a trace of its own, as after an hour.
    raw("4" * 32, "8", "approval approved mail", 200.5, 300, otel_runtime__approval__id="ap-2", otel_runtime__approval__outcome="approved"),
)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "trace.json"
    path.write_text(json.dumps(RUNS))
    return path


@pytest.fixture
def listed(capsys: pytest.CaptureFixture[str]) -> Callable[..., list[str]]:
    def run(*words: object) -> list[str]:
        code = main(["trace", "list", "--json", *map(str, words)])
        found = [row["name"] for row in json.loads(capsys.readouterr().out)]
        assert code == (0 if found else 1)
        return found

    return run


class TestList:
    """`trace list FILE`."""

    def test_is_newest_first(self, listed: Callable[..., list[str]], file: Path) -> None:
        """Without a filter every run is there."""
        assert ["approval approved mail", "invoke_agent asks", "invoke_agent slow", "invoke_agent clerk"] == listed(file)

    @pytest.mark.parametrize(
        ("words", "names"),
        [
            (["--denied"], ["invoke_agent clerk"]),
            (["--waiting"], ["invoke_agent slow"]),
            (["--failed"], ["invoke_agent slow"]),
            (["--costly", "0.75"], ["invoke_agent clerk"]),
            (["--costly", "0.76"], []),
            (["--slow", "90s"], ["approval approved mail", "invoke_agent slow"]),
            (["--slow", "91s"], ["approval approved mail"]),
            (["--denied", "--slow", "1m"], []),
            (["--service", "shop", "--denied"], ["invoke_agent clerk"]),
            (["--service", "other"], []),
        ],
    )
    def test_filters(self, listed: Callable[..., list[str]], file: Path, words: list[str], names: list[str]) -> None:
        """Each filter keeps what it says, several must all hold, and nothing found is exit code 1."""
        assert names == listed(file, *words)

    def test_row_tells_the_run(self, file: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """A row holds trace id, name, duration, spans, tokens, cost and what was denied."""
        assert 0 == main(["trace", "list", str(file), "--denied"])
        row = capsys.readouterr().out.splitlines()[-1]
        assert [T1, "invoke_agent clerk", "2.00 s", "3", "120", "0.7500 USD", "1 denied"] == [
            part for part in (part.strip() for part in row.split("  ")) if part
        ][1:]

    def test_says_when_nothing_matches(self, file: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """Nothing found is a sentence with the number looked at."""
        assert 1 == main(["trace", "list", str(file), "--costly", "9"])
        assert "no run matches, of 4 looked at\n" == capsys.readouterr().out


class TestListFits:
    """`trace list` on terminals of every width."""

    @pytest.mark.parametrize("width", [80, 100, 120, 160, 250])
    def test_nothing_that_counts_is_cut(self, width: int) -> None:
        """Trace ids, numbers and marks are whole, whatever the width; a long name is cut with a mark."""
        loud = Summary(
            T1, "invoke_workflow " + "x" * 90, "shop", 0, 600.0, 4910, 12, ("a", "b"), 13, 1_000_000, 234_567, {"USD": Decimal("12.5")}
        )
        calm = Summary(T2, "invoke_agent clerk", "shop", 0, 0.25, 3, 0, (), 0, 0, 0, {})
        lines = printed(table([loud, calm], width), width)
        text = " ".join(" ".join(lines).split())
        whole = (
            T1,
            T2,
            "1970-01-01 00:00:00Z",
            "10 min 00 s",
            "250 ms",
            "4910",
            "1,234,567",
            "12.5000 USD",
            "12 denied",
            "2 waiting",
            "13 failed",
        )
        assert [] == [word for word in whole if word not in text]
        assert [True] * len(lines) == [len(line) <= width for line in lines]
        assert "x…" in text
        assert (width < 140) == (len(lines) > 3)


def printed(shown: RenderableType, width: int) -> list[str]:
    file = StringIO()
    Console(file=file, width=width).print(shown)
    return file.getvalue().splitlines()


class TestShow:
    """`trace show`."""

    def test_waterfall(self, file: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """Every span has a line, under its parent, and its bar begins where the span does."""
        assert 0 == main(["trace", "show", str(file), "--waterfall"])
        lines = capsys.readouterr().out.splitlines()[:4]
        assert ["invoke_agent clerk", "  chat m", "  policy deny refund", f"trace {T1}"] == [
            line.partition("  █")[0][:20].rstrip() if not line.startswith("trace") else line.rstrip() for line in lines
        ]
        assert ["█" * 40, "█" * 10, "█" * 2] == ["".join(char for char in line if char == "█") for line in lines[:3]]

    def test_a_collectors_files(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """One document per line, packed or not; the folder holds a span once, however many files repeat it."""
        agent, clerk = (document(raw(T1, letter, f"execute_tool {letter}", 0, 1, parent)) for letter, parent in (("a", ""), ("b", "a")))
        lines = f"{json.dumps(agent)}\n{json.dumps(clerk)}\n"
        (tmp_path / "traces.jsonl").write_text(lines)
        (tmp_path / "traces-1.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
        for name in ("traces.jsonl", "traces-1.jsonl.gz", ""):
            assert 0 == main(["trace", "show", str(tmp_path / name)])
            assert ["execute_tool a", "execute_tool b"] == re.findall(r"execute_tool .", capsys.readouterr().out)

    def test_control_characters_stay_out(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """A span name with a terminal's escape sequence is shown without it."""
        path = tmp_path / "t.json"
        path.write_text(json.dumps(document(raw(T1, "a", "x\x1b]0;owned\x07y", 0, 1))))
        for words in (["show"], ["show", "--waterfall"], ["list"]):
            main(["trace", *words, str(path)])
        assert "\x1b" not in capsys.readouterr().out

    def test_several_services(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """Where a trace enters another service, its name stands; where it stays, it does not."""
        shop = document(raw(T1, "a", "invoke_agent clerk", 0, 2), raw(T1, "b", "execute_tool ask", 0, 2, "a"))
        store = document(raw(T1, "c", "execute_tool count", 1, 2, "b"), raw(T1, "d", "execute_tool add", 1, 2, "c"))
        store["resourceSpans"][0]["resource"]["attributes"][0]["value"]["stringValue"] = "store"
        (tmp_path / "t.json").write_text(json.dumps({"resourceSpans": shop["resourceSpans"] + store["resourceSpans"]}))
        for words in ([], ["--waterfall"]):
            assert 0 == main(["trace", "show", str(tmp_path / "t.json"), *words])
            lines = capsys.readouterr().out.splitlines()
            assert ["at shop", "", "at store", ""] == [
                next((place for place in ("at shop", "at store") if place in line), "") for line in lines[:4]
            ]

    def test_several_files(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """Files of several services are one picture: the span of one hangs below its parent in the other."""
        (tmp_path / "a.json").write_text(json.dumps(document(raw(T1, "a", "invoke_agent clerk", 0, 2))))
        (tmp_path / "b.json").write_text(json.dumps(document(raw(T1, "b", "execute_tool ask", 0, 2, "a"))))
        assert 0 == main(["trace", "show", str(tmp_path / "b.json"), str(tmp_path / "a.json")])
        assert ["invoke_agent clerk  2.00 s", "└── execute_tool ask  2.00 s"] == capsys.readouterr().out.splitlines()[:2]
        assert 2 == main(["trace", "show", "a", "b", "--tempo", "http://127.0.0.1:3200"])
        assert "expected one trace id" in capsys.readouterr().err

    @pytest.mark.parametrize("width", [40, 60, 80, 100, 120, 200])
    def test_waterfall_fits(self, width: int) -> None:
        """On every width no line is longer than the terminal, and no duration is cut; names are, and bars get shorter."""
        spans = [
            SpanView(T1, "a" * 16, None, "invoke_workflow " + "x" * 90, start_ns=0, end_ns=600 * SECOND),
            SpanView(T1, "b" * 16, "a" * 16, "chat m", start_ns=SECOND, end_ns=2 * SECOND),
        ]
        lines = printed(waterfall(spans, width), width)
        assert [width >= len(line) for line in lines] == [True] * 3
        assert ["10 min 00 s", "1.00 s"] == [line.rsplit("█", 1)[1].strip() for line in lines[:2]]

    def test_a_cycle_ends(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """Spans that are each other's parents, or their own, hang nothing."""
        path = tmp_path / "t.json"
        path.write_text(json.dumps(document(raw(T1, "a", "x", 0, 1, "b"), raw(T1, "b", "y", 0, 1, "a"), raw(T2, "c", "z", 0, 1, "c"))))
        assert 0 == main(["trace", "show", "--waterfall", str(path)])
        assert "z" in capsys.readouterr().out
        assert 0 == main(["trace", "list", str(path)])


class TestJaeger:
    """Asked by /api/v3 only."""

    def test_trace_by_id(self, serve: Any, capsys: pytest.CaptureFixture[str]) -> None:
        """A trace id is looked up, shown, and its page is named."""
        asked: list[str] = []

        def answer(path: str, query: Mapping[str, str], headers: Any) -> Answer:
            asked.append(path)
            return 200, {"result": RUNS}

        base = serve(answer)
        assert 0 == main(["trace", "show", T1.upper(), "--jaeger", base + "/"])
        shown = capsys.readouterr().out
        assert ([f"/api/v3/traces/{T1}"], True, True) == (asked, "invoke_agent clerk" in shown, f"{base}/trace/{T1}\n" in shown)

    def test_search_names_service_and_times(self, serve: Any, listed: Callable[..., list[str]]) -> None:
        """A search asks per service with both times and a limit; an empty one, which is a 404, is nothing found."""
        asked: list[dict[str, str]] = []

        def answer(path: str, query: Mapping[str, str], headers: Any) -> Answer:
            if path == "/api/v3/services":
                return 200, {"services": ["shop", "empty"]}
            asked.append(dict(query))
            return (200, {"result": RUNS}) if query["query.service_name"] == "shop" else (404, {"error": {"message": "No traces found"}})

        assert ["invoke_agent clerk"] == listed("--denied", "--jaeger", serve(answer), "--since", "2h", "--limit", "7")
        assert [("shop", "7"), ("empty", "7")] == [(query["query.service_name"], query["query.num_traces"]) for query in asked]
        start, end = (datetime.fromisoformat(asked[0][f"query.start_time_{edge}"]) for edge in ("min", "max"))
        assert timedelta(hours=2) == end - start

    def test_headers_are_sent(self, serve: Any) -> None:
        """--header goes along."""
        seen: list[str | None] = []

        def answer(path: str, query: Mapping[str, str], headers: Any) -> Answer:
            seen.append(headers.get("X-Scope-OrgID"))
            return 200, {"result": RUNS}

        assert 0 == main(["trace", "show", T1, "--jaeger", serve(answer), "--header", "X-Scope-OrgID: team-a"])
        assert ["team-a"] == seen

    def test_missing_trace(self, serve: Any, capsys: pytest.CaptureFixture[str]) -> None:
        """A trace that is not there is a sentence and exit code 1."""
        assert 1 == main(["trace", "show", T1, "--jaeger", serve(lambda *_: (404, {}))])
        assert f"no trace {T1}" in capsys.readouterr().out


class TestTempo:
    """Asked by its documented API: protobuf's own JSON, ids in base64, enums by name."""

    def test_ids_kinds_and_status(self, serve: Any, listed: Callable[..., list[str]]) -> None:
        """What Tempo writes differently reads the same."""

        def base64_ids(span: dict[str, Any]) -> dict[str, Any]:
            ids = {key: base64.b64encode(bytes.fromhex(span[key])).decode() for key in ("traceId", "spanId", "parentSpanId")}
            status = {"code": "STATUS_CODE_ERROR"} if span["status"] else {}
            return {**span, **ids, "kind": "SPAN_KIND_INTERNAL", "status": status}

        spans = [base64_ids(span) for span in RUNS["resourceSpans"][0]["scopeSpans"][0]["spans"] if span["traceId"] == T2]

        def answer(path: str, query: Mapping[str, str], headers: Any) -> Answer:
            if path == "/api/search":
                assert '{ resource.service.name = "sh\\"op" }' == query["q"]
                return 200, {"traces": [{"traceID": T2}]}
            assert f"/api/v2/traces/{T2}" == path
            return 200, {"trace": document(*spans)}

        assert ["invoke_agent slow"] == listed("--tempo", serve(answer), "--waiting", "--failed", "--service", 'sh"op')


class TestMistakes:
    """What was typed wrong, or does not answer, is one message and exit code 2."""

    @pytest.mark.parametrize("what", ["1234", T1[:31], "nowhere.json"])
    def test_neither_a_file_nor_an_id(self, what: str, capsys: pytest.CaptureFixture[str]) -> None:
        """Half an id is read as a file's name, so what is said speaks of both."""
        assert 2 == main(["trace", "show", what])
        assert f"expected an existing file, or a trace id of 32 hex digits, got `{what}`" in capsys.readouterr().err

    @pytest.mark.parametrize("words", [["list"], ["show", T1]])
    def test_nobody_named_a_server(self, words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        """Where Jaeger was asked unbidden and is not there, the other ways are named."""
        monkeypatch.setattr("otel_runtime.cli.trace._LOCAL_JAEGER", "http://127.0.0.1:1")
        assert 2 == main(["trace", *words])
        assert "Else name a trace file, or a server with --jaeger or --tempo" in capsys.readouterr().err

    @pytest.mark.parametrize(
        ("words", "said"),
        [
            (["show", "1234", "--jaeger", "http://127.0.0.1:1"], "expected a trace id of 32 hex digits, got `1234`"),
            (["show", T1, "--jaeger", "http://127.0.0.1:1"], "nothing answers here"),
            (["show", T1, "--jaeger", "file:///etc/passwd"], "expected an address such as `http://127.0.0.1:16686`"),
            (["list", "--tempo", "localhost:3200"], "got `localhost:3200`"),
            (["list", "x.json", "--jaeger", "http://127.0.0.1:1"], "expected files or a server, got both"),
            (["list", "--slow", "soon"], "expected a duration such as `10s`"),
            (["list", "--since", "never"], "--since"),
            (["list", "--costly", "much"], "expected an amount such as `0.50`, got `much`"),
            (["list", "--costly", "nan"], "got `nan`"),
            (["list", "--limit", "0"], "at least 1, got `0`"),
            (["list", "--header", "secret", "--jaeger", "http://127.0.0.1:1"], "expected NAME:VALUE"),
            (["list", "nowhere.json"], "nowhere.json"),
        ],
    )
    def test_are_said(self, words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
        """The message says what was expected and what came."""
        assert 2 == main(["trace", *words])
        assert said in capsys.readouterr().err

    @pytest.mark.parametrize(
        ("answer", "said"),
        [
            ((401, {"no": "way"}), "give credentials with --header"),
            ((500, b"<html>out of\n order</html>"), "refused with 500: <html>out of order</html>"),
            ((200, b"<html>"), "expected JSON, got something else"),
        ],
    )
    def test_strange_servers(self, serve: Any, answer: Answer, said: str, capsys: pytest.CaptureFixture[str]) -> None:
        """A server that refuses or is something else is named."""
        assert 2 == main(["trace", "show", T1, "--jaeger", serve(lambda *_: answer)])
        assert said in capsys.readouterr().err


class TestSummary:
    """The pure part."""

    def test_cost_is_exact_and_per_currency(self) -> None:
        """Currencies are never added up; a filter looks at each."""
        spans = [
            SpanView(
                T1,
                str(number),
                None,
                "chat m",
                attributes={
                    "gen_ai.operation.name": "chat",
                    "otel_runtime.usage.cost.exact": "0.1",
                    "otel_runtime.usage.cost.currency": currency,
                },
            )
            for number, currency in enumerate(["USD", "USD", "USD", "EUR"])
        ]
        (summary,) = summaries(spans)
        assert {"USD": Decimal("0.3"), "EUR": Decimal("0.1")} == summary.cost
        assert [True, False] == [Wanted(costly=Decimal(amount)).admits(summary) for amount in ("0.3", "0.31")]

    def test_nothing_gives_nothing(self) -> None:
        """No span, no run."""
        assert [] == summaries([])

    @pytest.mark.parametrize(
        ("start", "end", "drawn"),
        [(0, 100, "█" * 40), (50, 100, " " * 20 + "█" * 20), (99, 100, " " * 39 + "█"), (100, 100, " " * 39 + "▏")],
    )
    def test_bar(self, start: int, end: int, drawn: str) -> None:
        """A bar covers its part of the whole and is never empty or too long."""
        assert drawn == bar(start, end, 0, 100)

    def test_window_reaches_back(self) -> None:
        """The window begins `since` before its end."""
        end = datetime(2026, 1, 2, tzinfo=UTC)
        assert datetime(2026, 1, 1, tzinfo=UTC) == Window(end, timedelta(days=1)).start
