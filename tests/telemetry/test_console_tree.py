"""A finished run is shown as a person wants to read it."""

from __future__ import annotations

import io
from typing import Any

from opentelemetry.sdk.trace.export import SpanExportResult
from rich.console import Console

from otel_runtime.telemetry.console_tree import ConsoleTree, render
from otel_runtime.telemetry.losses import Losses
from otel_runtime.telemetry.protocol import SpanStart
from otel_runtime.telemetry.span_view import EventView, SpanView
from otel_runtime.telemetry.tree_text import duration_text
from otel_runtime.values.action import Action
from otel_runtime.values.decision import Decision
from otel_runtime.values.trace import TraceRef

TRACE = "0" * 31 + "1"
MS = 1_000_000


def view(number: int, parent: int | None, name: str, start_ms: float, end_ms: float, **attributes: Any) -> SpanView:
    return SpanView(
        trace_id=TRACE,
        span_id=f"{number:016x}",
        parent_id=None if parent is None else f"{parent:016x}",
        name=name,
        start_ns=int(start_ms * MS),
        end_ns=int(end_ms * MS),
        attributes={key.replace("__", "."): value for key, value in attributes.items()},
    )


def chat(number: int, start_ms: float, **attributes: Any) -> SpanView:
    used = {"gen_ai__usage__input_tokens": 1200, "gen_ai__usage__output_tokens": 80, "otel_runtime__usage__cost__exact": "0.0038"}
    known = {"gen_ai__operation__name": "chat", **used, "otel_runtime__usage__cost__estimated": True, **attributes}
    return view(number, 1, "chat gpt-4o", start_ms, start_ms + 800, **known)


def failed(span: SpanView, error_type: str, message: str) -> SpanView:
    return SpanView(
        span.trace_id,
        span.span_id,
        span.parent_id,
        span.name,
        start_ns=span.start_ns,
        end_ns=span.end_ns,
        attributes={**span.attributes, "error.type": error_type},
        status="error",
        message=message,
        events=(
            EventView(
                "otel_runtime.attempt",
                0,
                {"otel_runtime.attempt.number": 1, "otel_runtime.attempt.class": "dependency", "otel_runtime.attempt.retry_after": 0.5},
            ),
            EventView("exception", 0, {"exception.type": error_type}),
        ),
    )


RUN = [
    chat(2, 1, gen_ai__usage__cache_read__input_tokens=1000),
    view(
        3,
        1,
        "execute_tool lookup",
        802,
        814,
        gen_ai__operation__name="execute_tool",
        otel_runtime__policy__decision="allow",
        otel_runtime__policy__rule="reads",
    ),
    view(
        4,
        1,
        "policy deny send_mail",
        815,
        815,
        otel_runtime__policy__decision="deny",
        otel_runtime__policy__rule="no-mail",
        otel_runtime__policy__place="/srv/agent/policy/shop.yaml:3",
        otel_runtime__policy__reason="no mail after the web",
        otel_runtime__tool__name="send_mail",
    ),
    view(5, 1, "approval requested refund", 816, 816, otel_runtime__approval__id="q1", otel_runtime__tool__name="refund"),
    view(
        6,
        1,
        "approval approved refund",
        # Asked before the tool ran, answered after it: it stands where it was answered.
        801,
        93_816,
        otel_runtime__approval__id="q1",
        otel_runtime__approval__outcome="approved",
        otel_runtime__approval__approver="os:alice",
        otel_runtime__approval__rule="big-refunds",
        otel_runtime__approval__answer="known customer",
        otel_runtime__tool__name="refund",
    ),
    failed(view(7, 1, "execute_tool fetch", 93_900, 94_950), "TimeoutError", "TimeoutError: no answer\x1b[31m"),
    view(
        8,
        1,
        "policy retryable-failure fetch",
        94_960,
        94_960,
        otel_runtime__policy__decision="retryable-failure",
        otel_runtime__policy__reason="slow down",
        otel_runtime__retry__after_s=2.0,
        otel_runtime__retry__attempt=1,
        otel_runtime__retry__max_attempts=3,
        otel_runtime__tool__name="fetch",
    ),
    chat(9, 95_000),
    view(1, None, "invoke_agent support", 0, 96_000, gen_ai__operation__name="invoke_agent", gen_ai__usage__input_tokens=2400),
]

EXPECTED = f"""\
invoke_agent support  1 min 36 s  2 model calls, 2,400 in, 160 out  ~0.0076 USD
├── chat gpt-4o  800 ms  1,200 in (1,000 cached), 80 out  ~0.0038 USD
├── execute_tool lookup  12 ms  allow by reads
├── DENIED  send_mail  by no-mail (policy/shop.yaml:3)  no mail after the web
├── approved  refund  waited 1 min 33 s  by os:alice  asked by big-refunds  known customer
├── execute_tool fetch  1.05 s  TimeoutError: no answer [31m
│   └── attempt 1  dependency  again after 500 ms
├── not now  fetch  slow down  retry after 2.00 s, attempt 1 of 3
└── chat gpt-4o  800 ms  1,200 in, 80 out  ~0.0038 USD
trace {TRACE}
"""


def printed(spans: list[SpanView], width: int = 160) -> str:
    out = io.StringIO()
    Console(file=out, width=width, no_color=True, highlight=False).print(render(spans))
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n"


class TestRender:
    def test_a_whole_run(self) -> None:
        """Durations, decisions, approvals, tokens, cost, errors and attempts stand in place; totals count leaves once."""
        assert printed(RUN) == EXPECTED

    def test_order_of_the_spans_does_not_matter(self) -> None:
        """Children may come after or before their parents."""
        assert EXPECTED == printed(RUN[::-1])

    def test_narrow_terminal(self) -> None:
        """On 40 columns lines wrap and none is longer."""
        lines = printed(RUN, 40).splitlines()
        assert 40 >= max(len(line) for line in lines)
        assert "DENIED" in printed(RUN, 40)

    def test_open_question(self) -> None:
        """A question nobody answered yet is shown with who may answer."""
        asked = view(
            5,
            None,
            "approval requested refund",
            0,
            0,
            otel_runtime__approval__id="q1",
            otel_runtime__tool__name="refund",
            otel_runtime__approval__approvers=("role:manager",),
            otel_runtime__approval__reason="large",
        )
        assert "waits for approval  refund  by role:manager  large  request q1" == printed([asked]).splitlines()[0]

    def test_parents_in_a_circle(self) -> None:
        """Spans that are each other's parents do not hang the picture."""
        assert "trace" in printed([view(1, 2, "a", 0, 1), view(2, 1, "b", 0, 1)])

    def test_one_id_twice(self) -> None:
        """A replayed span whose id stands below itself does not hang the sums."""
        spans = [
            view(1, None, "invoke_agent a", 0, 9, gen_ai__operation__name="invoke_agent"),
            view(2, 1, "x", 1, 2),
            view(3, 2, "y", 1, 2),
            view(2, 3, "x", 1, 2),
        ]
        assert printed(spans).startswith("invoke_agent a")

    def test_nothing(self) -> None:
        """No spans is said so."""
        assert "no spans\n" == printed([])

    def test_durations(self) -> None:
        """Durations read as people say them."""
        values = (0.0000005, 0.012, 1.5, 75, 7384)
        assert ["0 us", "12 ms", "1.50 s", "1 min 15 s", "2 h 03 min"] == [duration_text(value) for value in values]


class TestExporter:
    def test_prints_when_the_root_has_ended(self, bench: Any) -> None:
        """A run is printed once its root is there, without colour when it is no terminal; the rest at shutdown."""
        out = io.StringIO()
        tree = ConsoleTree(Losses(), out)
        root = bench.tracing.open(SpanStart("agent", "a"))
        token = root.enter()
        bench.tracing.open(SpanStart("tool", "t")).end("ok")
        root.leave(token)
        tree.export(bench.exporter.get_finished_spans())
        assert "" == out.getvalue()
        bench.exporter.clear()
        root.end("ok")
        tree.export(bench.exporter.get_finished_spans())
        lines = out.getvalue().splitlines()
        assert lines[0].startswith("invoke_agent a")
        assert lines[1].startswith("└── execute_tool t")
        assert "\x1b" not in out.getvalue()

    def test_decision_without_a_run(self, bench: Any) -> None:
        """A denied call outside of any run is printed by itself, at once."""
        out = io.StringIO()
        bench.tracing.decided(Action("tool", "mail"), Decision("deny", "never"))
        ConsoleTree(Losses(), out).export(bench.exporter.get_finished_spans())
        assert out.getvalue().startswith("DENIED  mail  never")

    def test_answer_waits_for_the_resumed_run(self, bench: Any, make_request: Any) -> None:
        """An answer that joins a trace of another process is printed with the call that resumes there."""
        out = io.StringIO()
        tree = ConsoleTree(Losses(), out)
        asked = TraceRef("5" * 32, "6" * 16, True)
        bench.tracing.approval_resolved(make_request("approved", asked, decided_at=make_request().requested_at), asked)
        tree.export(bench.exporter.get_finished_spans())
        assert "" == out.getvalue()
        bench.exporter.clear()
        bench.tracing.open(SpanStart("tool", "refund", parent=asked)).end("ok")
        tree.export(bench.exporter.get_finished_spans())
        assert ["approved  refund", "execute_tool ref"] == [line[:16] for line in out.getvalue().splitlines()[:2]]

    def test_leftovers_at_shutdown(self, bench: Any) -> None:
        """Spans whose root never ended are printed at the end."""
        out = io.StringIO()
        tree = ConsoleTree(Losses(), out)
        root = bench.tracing.open(SpanStart("agent", "a"))
        token = root.enter()
        bench.tracing.open(SpanStart("tool", "t")).end("ok")
        root.leave(token)
        tree.export(bench.exporter.get_finished_spans())
        tree.shutdown()
        assert out.getvalue().startswith("execute_tool t")

    def test_closed_stream(self, bench: Any) -> None:
        """A terminal that is gone is no error: nothing is lost with it, and there is no problem to tell."""
        out = io.StringIO()
        losses = Losses()
        tree = ConsoleTree(losses, out)
        bench.tracing.open(SpanStart("tool", "t")).end("ok")
        out.close()
        assert SpanExportResult.SUCCESS is tree.export(bench.exporter.get_finished_spans())
        assert ({}, {}) == (losses.counts, losses.problems)


class TestUnknownUsage:
    def test_absent_is_not_zero(self) -> None:
        """A run whose model calls told no usage shows how many there were, and no zeros; what one of them told is summed."""
        agent = view(1, None, "invoke_agent a", 0, 5_000, gen_ai__operation__name="invoke_agent")
        silent = view(2, 1, "chat m", 0, 10, gen_ai__operation__name="chat")
        half = view(3, 1, "chat m", 20, 30, gen_ai__operation__name="chat", gen_ai__usage__output_tokens=7)
        assert "invoke_agent a  5.00 s  1 model call" == printed([agent, silent]).splitlines()[0]
        assert "invoke_agent a  5.00 s  2 model calls, 7 out" == printed([agent, silent, half]).splitlines()[0]
