"""Where a person looks at a trace."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

import otel_runtime as rt
from otel_runtime.cli.main import main
from otel_runtime.settings.loading import load_settings
from otel_runtime.telemetry import links
from otel_runtime.telemetry.trace_files import read_spans
from otel_runtime.values.approval import ApprovalRequest
from otel_runtime.values.decision import ApprovalTerms, Requirement
from otel_runtime.values.trace import TraceRef
from otel_runtime.web.pages import request_page

TRACE, SPAN = "ab" * 16, "cd" * 8


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch, listening: Callable[[type[BaseHTTPRequestHandler]], str]) -> Callable[..., None]:
    """Puts an HTTP server where one of this machine's is looked for; it has what is named and nothing else."""
    for name in ("_JAEGER", "_TEMPO", "_GRAFANA"):
        # Nothing answers at port 9 of a loopback address; a Jaeger of whoever runs the tests stays out of it.
        monkeypatch.setattr(links, name, "http://127.0.0.1:9")

    def start(place: str, *paths: str) -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200 if self.path in paths else 404)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                pass

        monkeypatch.setattr(links, place, listening(Handler))

    return start


class TestTemplate:
    def test_ids_are_filled_in(self) -> None:
        """Trace and span id stand where the template has their names; without a template there is no page."""
        template = "https://jaeger.example/trace/{trace_id}?uiFind={span_id}"
        assert f"https://jaeger.example/trace/{TRACE}?uiFind={SPAN}" == links.trace_page(template, TRACE, SPAN)
        assert "" == links.trace_page(None, TRACE, SPAN)

    def test_foreign_ids_cannot_leave_their_place(self) -> None:
        """An id of another system is quoted: it adds no path, query or host."""
        assert "https://j.example/%2F..%2F%3Fx%3D1" == links.trace_page("https://j.example/{trace_id}", "/../?x=1")

    @pytest.mark.parametrize("bad", ["jaeger.example/{trace_id}", "https://jaeger.example/", "javascript:alert('{trace_id}')"])
    def test_bad_setting_is_refused(self, bad: str, tmp_path: Path) -> None:
        """What is no web address with a trace id in it is refused when settings are read, with an example."""
        file = tmp_path / "otel-runtime.yaml"
        file.write_text(f"trace_url: {json.dumps(bad)}\n")
        with pytest.raises(rt.ConfigError, match=r"such as https://jaeger\.example/trace/") as caught:
            load_settings(file)
        assert bad in str(caught.value)


class TestThisMachine:
    def test_jaeger_that_has_the_trace(self, serve: Callable[..., None]) -> None:
        """The page of a Jaeger here that has the trace, with the span marked; none for a trace that it does not have."""
        serve("_JAEGER", f"/api/v3/traces/{TRACE}")
        page = links.page_of(None, TraceRef(TRACE, SPAN))
        assert (f"/trace/{TRACE}", f"uiFind={SPAN}") == (urlsplit(page).path, urlsplit(page).query)
        assert "" == links.page_of(None, TraceRef("ef" * 16))

    def test_grafana_for_a_tempo_that_has_it(self, serve: Callable[..., None]) -> None:
        """A Tempo that has the trace is looked at through Grafana; without a Grafana there is no page."""
        serve("_TEMPO", f"/api/v2/traces/{TRACE}")
        assert "" == links.page_of(None, TraceRef(TRACE))
        serve("_GRAFANA", "/api/health")
        (pane,) = json.loads(parse_qs(urlsplit(links.page_of(None, TraceRef(TRACE))).query)["panes"][0]).values()
        assert ("tempo", TRACE) == (pane["datasource"], pane["queries"][0]["query"])

    def test_setting_comes_first(self, serve: Callable[..., None]) -> None:
        """With `trace_url` nobody is asked; without a place in a trace there is no page."""
        serve("_JAEGER", f"/api/v3/traces/{TRACE}")
        assert f"https://j.example/{TRACE}" == links.page_of("https://j.example/{trace_id}", TraceRef(TRACE))
        assert "" == links.page_of("https://j.example/{trace_id}", None)

    def test_nobody_there(self, serve: Callable[..., None]) -> None:
        """Without servers there is no page, and no error."""
        assert "" == links.page_of(None, TraceRef(TRACE))


class TestWhereItIsShown:
    def test_runtime_tells_it(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """`runtime.trace_page` fills in the setting."""
        monkeypatch.chdir(tmp_path)
        with rt.configure(name="links", otlp="off", trace_url="https://j.example/t/{trace_id}#{span_id}") as runtime:
            assert f"https://j.example/t/{TRACE}#{SPAN}" == runtime.trace_page(TRACE, SPAN)

    def test_question_leads_to_its_trace(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
    ) -> None:
        """`approvals show` gives the page of the span that asked, as text and as JSON, and the log line of the question names it."""
        monkeypatch.chdir(tmp_path)
        Path("policy.yaml").write_text(
            "version: 1\nname: t\ndefault: deny\nrules:\n"
            "  - {id: ask, tool: pay, decision: require-approval, approval: {approvers: [anyone], expires: 1h}}\n"
        )
        Path("otel-runtime.yaml").write_text("otlp: 'off'\ntrace_url: 'https://j.example/{trace_id}/{span_id}'\npolicy: policy.yaml\n")

        @rt.tool
        def pay(amount: int) -> int:
            return amount

        with (
            caplog.at_level("INFO", "otel_runtime"),
            rt.configure(wait_at_most=0, trace_file="trace.json"),
            pytest.raises(rt.ApprovalPending) as asked,
        ):
            pay(5)
        (span,) = (span for span in read_spans(Path("trace.json")) if span.name == "approval requested pay")
        page = f"https://j.example/{span.trace_id}/{span.span_id}"
        assert 0 == main(["approvals", "show", asked.value.request_id])
        assert f"look at it  {page}\n" in capsys.readouterr().out
        assert 0 == main(["approvals", "show", asked.value.request_id, "--json"])
        assert page == json.loads(capsys.readouterr().out)["trace_page"]
        (told,) = (record.getMessage() for record in caplog.records if "waits for a person" in record.getMessage())
        assert told.endswith(f"otel-runtime approvals show {asked.value.request_id}; {page}")

    def test_page_of_the_inbox_links_it(self) -> None:
        """The inbox has the link, and an address that closes the attribute closes nothing."""
        now = datetime.now(UTC)
        terms = ApprovalTerms((Requirement("ask", ("anyone",)),), expires_s=60.0)
        request = ApprovalRequest("a" * 32, "pay", {"amount": 5}, "why", "approved", "b" * 64, "c" * 64, "d" * 64, terms, now, now)
        assert 'href="https://j.example/1"' in request_page(request, now, "os:alice", "csrf", {}, "https://j.example/1")
        hostile = request_page(request, now, "os:alice", "csrf", {}, 'https://j.example/"><script>1')
        assert "<script>" not in hostile
        assert "Look at the trace" not in request_page(request, now, "os:alice", "csrf", {})
