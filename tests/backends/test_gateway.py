"""gateway.yaml in the real Collector: what it takes out, what it keeps, what it counts; and its metrics in the real Prometheus."""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import pytest

if TYPE_CHECKING:
    from tests.backends.conftest import Jaeger, Run, Server

pytestmark = pytest.mark.backends
CONTENT = re.compile(
    r"gen_ai\.(input|output)\.messages|gen_ai\.tool\.call\.(arguments|result)|gen_ai\.system_instructions|otel_runtime\.(arguments|result|caller)"
)
SECRETS = {
    "http.request.header.authorization": "Bearer abcdefghijklmnop",
    "db.password": "hunter2hunter2",
    "user.api_key": "k-123456789",
    "oauth.refresh_token": "r-123456789",
    "note": "the key is sk-abcdefghijklmnopqrstuvwx and AKIAABCDEFGHIJKLMNOP",
    "query": "login?password=swordfish&x=1",
}
# The mark is what must not be found.
MARK = "Zq7Zq7Zq7Zq7Zq7Zq7Zq7"
TEXTS = (
    f"Bearer {MARK}",
    f"Basic {MARK}==",
    f"eyJhbGciOiJI.{MARK}.{MARK}",
    f"sk-proj-{MARK}",
    f"ghp_{MARK}",
    f"github_pat_{MARK}",
    f"xoxb-{MARK}",
    f"-----BEGIN RSA PRIVATE KEY-----\n{MARK}\n-----END RSA PRIVATE KEY-----",
    f"DB_PASSWORD={MARK}",
    f'{{"api_key": "{MARK}"}}',
    f"access_token: {MARK}",
    f"https://bob:{MARK}@db.internal/x",
)
KEYS = (
    "Authorization",
    "clientSecret",
    "http.request.header.cookie",
    "openai_api_key",
    "secretKey",
    "sessionToken",
    "token",
    "x-security-token",
)
OTHERS = (
    *(
        "gen_ai.completion.0.content",
        "gen_ai.prompt",
        "gen_ai.retrieval.documents",
        "gen_ai.system_instructions",
        "gen_ai.tool.definitions",
    ),
    *("input.value", "llm.input_messages.0.message.content", "otel_runtime.caller", "traceloop.entity.output"),
)
COUNTS = {
    "gen_ai.usage.input_tokens": 120,
    "gen_ai.usage.output_tokens": 7,
    "gen_ai.usage.cache_read.input_tokens": 64,
    "gen_ai.usage.reasoning.output_tokens": 3,
    "otel_runtime.usage.total_tokens": 127,
    "gen_ai.request.max_tokens": 900,
}


def told(span: dict[str, Any]) -> dict[str, Any]:
    """Attributes as plain text, by key."""
    return {pair["key"]: next(iter(pair["value"].values())) for pair in span.get("attributes", [])}


def new_trace() -> str:
    return os.urandom(16).hex()


@pytest.fixture
def gateway(collector: Callable[..., Server], jaeger: Jaeger) -> Server:
    """A gateway that keeps every trace."""
    return collector("gateway.yaml", TRACES_ENDPOINT=jaeger.endpoint, SAMPLE_PERCENT="100").start()


class TestRedaction:
    """Content and secrets stay out of the store, counts of tokens do not."""

    def test_demo_without_its_content(self, gateway: Server, jaeger: Jaeger, demo: Callable[[str], Run]) -> None:
        """The demo captures content, and none of it reaches the store; every other attribute does, token counts to the last one."""
        run = demo(gateway.url("http"))
        found = {span["spanId"]: told(span) for span in jaeger.trace(run.trace_id, len(run.spans))}
        sent = {span["spanId"]: told(span) for span in run.spans}
        captured = {key for span in sent.values() for key in span if CONTENT.fullmatch(key)}
        assert {"gen_ai.input.messages", "gen_ai.tool.call.arguments", "gen_ai.tool.call.result"} <= captured
        assert set() == {key for span in found.values() for key in span if CONTENT.fullmatch(key)}
        left = {span_id: {key for key in span if not CONTENT.fullmatch(key)} for span_id, span in sent.items()}
        assert left == {span_id: set(span) - {"@jaeger@warnings"} for span_id, span in found.items()}

        def counts(spans: dict[str, dict[str, Any]]) -> list[tuple[str, str, Any]]:
            return sorted((span_id, key, value) for span_id, span in spans.items() for key, value in span.items() if "tokens" in key)

        assert counts(sent) == counts(found) != []

    def test_secrets_are_masked(
        self, gateway: Server, jaeger: Jaeger, send: Callable[..., int], span: Callable[..., dict[str, Any]], fetch: Any
    ) -> None:
        """Values under secret names, and secrets in text, events and the status, are masked; counts of tokens are not."""
        trace = new_trace()
        one = span(trace, "chat m", error="401 for Bearer abcdefghijklmnop, password='swordfish1'", **SECRETS, **COUNTS)
        one["events"] = [
            {"name": "exception", "timeUnixNano": one["endTimeUnixNano"], "attributes": [
                {"key": "exception.message", "value": {"stringValue": "refused ghp_abcdefghijklmnopqrstuvwxyz"}}
            ]}
        ]  # fmt: skip
        assert 200 == send(gateway.url("http"), one)
        (found,) = jaeger.trace(trace, 1)
        text = json.dumps(found)
        leaked = ("abcdefghijklmnop", "hunter2", "k-123456789", "r-123456789", "AKIA", "swordfish", "ghp_")
        assert [] == [secret for secret in leaked if secret in text]
        assert {key: str(value) for key, value in COUNTS.items()} == {key: told(found)[key] for key in COUNTS}
        assert told(found).keys() >= SECRETS.keys(), "masked, not lost"

    def test_no_place_keeps_a_secret(
        self, gateway: Server, jaeger: Jaeger, send_document: Callable[[str, bytes], int], span: Callable[..., dict[str, Any]]
    ) -> None:
        """In text, lists and maps, on spans, events and resources, in names and status: nothing of a secret is left, everything else is."""
        trace = new_trace()
        spans = [span(trace, f"GET {text}", error=f"boom {text}") for text in TEXTS]
        values: list[dict[str, Any]] = []
        values += [{"stringValue": f"before {text} after"} for text in TEXTS]
        values += [{"arrayValue": {"values": [{"stringValue": "a"}, {"stringValue": text}]}} for text in TEXTS]
        values += [{"kvlistValue": {"values": [{"key": "a", "value": {"stringValue": text}}]}} for text in TEXTS]
        pairs: list[dict[str, Any]] = [{"key": f"note.{at}", "value": value} for at, value in enumerate(values)]
        for key in KEYS:
            pairs += [
                {"key": key, "value": {"stringValue": MARK}},
                {"key": f"a.{key}", "value": {"arrayValue": {"values": [{"stringValue": MARK}]}}},
            ]
        spans[0]["attributes"] += pairs
        spans[0]["events"] = [{"name": "e", "timeUnixNano": spans[0]["endTimeUnixNano"], "attributes": pairs}]
        spans[0]["attributes"].append(
            {"key": "gen_ai.response.finish_reasons", "value": {"arrayValue": {"values": [{"stringValue": "stop"}]}}}
        )
        resource = {"attributes": [{"key": "service.name", "value": {"stringValue": "sent"}}, *pairs]}
        document = {"resourceSpans": [{"resource": resource, "scopeSpans": [{"scope": {"name": "t"}, "spans": spans}]}]}
        assert 200 == send_document(gateway.url("http"), json.dumps(document).encode())
        found = jaeger.trace(trace, len(spans))
        assert [] == [one["name"] for one in found if MARK in json.dumps(one)]
        (first,) = [one for one in found if one.get("events")]
        assert {pair["key"] for pair in pairs} == set(told(first["events"][0])), "masked, not lost"
        assert {"values": [{"stringValue": "stop"}]} == told(first)["gen_ai.response.finish_reasons"]
        assert [] == [one["name"] for one in found if not one["name"].startswith("GET ") or any("lent" in key for key in told(one))]
        assert [] == [one["status"] for one in found if not one["status"]["message"].startswith("boom ")]

    def test_content_of_events_and_of_others(
        self, gateway: Server, jaeger: Jaeger, send: Callable[..., int], span: Callable[..., dict[str, Any]]
    ) -> None:
        """Content that was captured on events, and what other instrumentations call it, is deleted as well."""
        keys = ["gen_ai.input.messages", "gen_ai.output.messages", "gen_ai.tool.call.arguments", "otel_runtime.arguments", *OTHERS]
        one = span(new_trace(), "chat m", **dict.fromkeys(keys, MARK), **COUNTS)
        pairs = [pair for pair in one["attributes"] if pair["key"] in keys]
        one["events"] = [{"name": "otel_runtime.content", "timeUnixNano": one["endTimeUnixNano"], "attributes": pairs}]
        assert 200 == send(gateway.url("http"), one)
        (found,) = jaeger.trace(one["traceId"], 1)
        assert ["otel_runtime.content"] == [event["name"] for event in found["events"]]
        assert [] == re.findall(MARK, json.dumps(found))
        assert {key: str(value) for key, value in COUNTS.items()} == {key: told(found)[key] for key in COUNTS}


class TestTailSampling:
    """Which traces are kept."""

    def test_what_matters_is_kept_and_the_rest_is_not(
        self, collector: Callable[..., Server], jaeger: Jaeger, send: Callable[..., int], span: Callable[..., dict[str, Any]]
    ) -> None:
        """With nothing of the rest sampled, errors, refusals, approvals, shadow decisions, slow and costly traces are there, whole."""
        gateway = collector("gateway.yaml", TRACES_ENDPOINT=jaeger.endpoint, SAMPLE_PERCENT="0").start()
        marks: dict[str, dict[str, Any]] = {
            "error": {"error": "boom"},
            "deny": {"otel_runtime.policy.decision": "deny"},
            "require-approval": {"otel_runtime.policy.decision": "require-approval"},
            "retryable-failure": {"otel_runtime.policy.decision": "retryable-failure"},
            "approval": {"otel_runtime.approval.id": "ap-1"},
            "shadow": {"otel_runtime.policy.would_be": "deny"},
            "slow": {"seconds": 31},
            "costly": {"otel_runtime.usage.cost": 0.51},
        }
        dull: dict[str, dict[str, Any]] = {
            "allow": {"otel_runtime.policy.decision": "allow"},
            "cheap": {"otel_runtime.usage.cost": 0.49},
            "quick": {"seconds": 29},
        }
        traces = {name: new_trace() for name in (*dull, *marks)}
        for name, marked in {**dull, **marks}.items():
            root = span(traces[name], "invoke_agent a", seconds=marked.get("seconds", 0.01))
            child = span(traces[name], name, root["spanId"], **{key: value for key, value in marked.items() if key != "seconds"})
            assert 200 == send(gateway.url("http"), root, child)
        for name in marks:
            assert [2, name] == [len(jaeger.trace(traces[name], 2)), name]
        # They were sent first, so they were decided first.
        assert [] == [name for name in dull if jaeger.spans(traces[name])]

    def test_late_span_follows_the_decision(
        self, collector: Callable[..., Server], jaeger: Jaeger, send: Callable[..., int], span: Callable[..., dict[str, Any]]
    ) -> None:
        """An answer that comes long after the decision is kept because its question was; of a dropped trace nothing comes late."""
        gateway = collector("gateway.yaml", TRACES_ENDPOINT=jaeger.endpoint, SAMPLE_PERCENT="0").start()
        asked, dropped, marker = new_trace(), new_trace(), new_trace()
        assert 200 == send(
            gateway.url("http"), span(asked, "approval requested x", **{"otel_runtime.approval.id": "ap"}), span(dropped, "dull")
        )
        jaeger.trace(asked, 1)
        assert 200 == send(gateway.url("http"), span(asked, "execute_tool x"), span(dropped, "late"), span(marker, "m", error="boom"))
        jaeger.trace(marker, 1)
        assert {"approval requested x", "execute_tool x"} == {found["name"] for found in jaeger.trace(asked, 2)}
        assert [] == jaeger.spans(dropped)

    @pytest.mark.parametrize(
        "mark",
        [{"otel_runtime.policy.decision": "deny"}, {"error": "boom"}, {"otel_runtime.approval.id": "ap"}],
        ids=["denial", "error", "question"],
    )
    def test_what_happens_after_the_wait_is_kept(
        self,
        collector: Callable[..., Server],
        jaeger: Jaeger,
        send: Callable[..., int],
        span: Callable[..., dict[str, Any]],
        wait: Any,
        fetch: Any,
        mark: dict[str, Any],
    ) -> None:
        """A run may be longer than any wait: a denial, an error, a question is kept with what follows, though its trace was given up."""
        gateway = collector("gateway.yaml", TRACES_ENDPOINT=jaeger.endpoint, SAMPLE_PERCENT="0").start()
        trace = new_trace()
        assert 200 == send(gateway.url("http"), span(trace, "early", "ab" * 8))
        given_up = re.compile(
            r'^otelcol_processor_tail_sampling_global_count_traces_sampled(?:_total)?\{[^}]*"not_sampled"[^}]*\} 1', re.MULTILINE
        )
        wait(lambda: given_up.search(fetch(gateway.url("own") + "/metrics")[1].decode()), "the trace being given up")
        assert 200 == send(gateway.url("http"), span(trace, "late", "ab" * 8, **mark))
        assert {"late"} == {found["name"] for found in jaeger.trace(trace, 1)}
        assert 200 == send(gateway.url("http"), span(trace, "later", "ab" * 8))
        assert {"late", "later"} == {found["name"] for found in jaeger.trace(trace, 2)}

    def test_a_question_is_seen_while_it_waits(
        self, collector: Callable[..., Server], jaeger: Jaeger, send: Callable[..., int], span: Callable[..., dict[str, Any]]
    ) -> None:
        """However long spans are held, one that is always kept goes out when it comes, and what was held of its trace with it."""
        gateway = collector("gateway.yaml", TRACES_ENDPOINT=jaeger.endpoint, SAMPLE_PERCENT="0", DECISION_WAIT="24h").start()
        trace = new_trace()
        assert 200 == send(gateway.url("http"), span(trace, "chat m", "ab" * 8))
        assert 200 == send(gateway.url("http"), span(trace, "approval requested x", "ab" * 8, **{"otel_runtime.approval.id": "ap"}))
        assert {"chat m", "approval requested x"} == {found["name"] for found in jaeger.trace(trace, 2)}

    def test_the_rest_by_ratio(
        self, collector: Callable[..., Server], jaeger: Jaeger, send: Callable[..., int], span: Callable[..., dict[str, Any]], wait: Any
    ) -> None:
        """Of 400 ordinary traces about as many are kept as configured: at 25 %, 100 give or take five standard deviations."""
        gateway = collector("gateway.yaml", TRACES_ENDPOINT=jaeger.endpoint, SAMPLE_PERCENT="25").start()
        traces, marker = [new_trace() for _ in range(400)], new_trace()
        assert 200 == send(gateway.url("http"), *[span(trace, "invoke_agent a") for trace in traces])
        assert 200 == send(gateway.url("http"), span(marker, "m", error="boom"))
        jaeger.trace(marker, 1)

        def kept() -> int:
            return sum(bool(jaeger.spans(trace)) for trace in traces)

        # What was decided before may arrive after.
        wait(lambda: kept() >= 57, "enough of them")
        assert kept() <= 143


def queries(config: Path) -> dict[str, str]:
    """Every PromQL of the dashboard, its variables filled in, of the links to metrics, and of the alerts without their thresholds."""
    found: dict[str, str] = {}
    sources = (config / "grafana" / "provisioning" / "datasources" / "datasources.yaml").read_text()
    for name, expression in re.findall(r"- name: (\w+)\n(?: +#.*\n)* +query: (.+)\n", sources):
        found[f"link {name}"] = expression.replace("$$__tags", 'job=~".+"')
    for panel in json.loads((config / "grafana" / "dashboards" / "agents.json").read_text())["panels"]:
        for target in panel.get("targets", []):
            if "expr" in target:
                filled = target["expr"].replace("$job", ".+").replace("$__rate_interval", "1m").replace("$__range", "1h")
                found[f"{panel['title']} {target['refId']}"] = filled
    for alert, expression in re.findall(r"alert: (\w+)\n +expr: (.+) > [0-9.]+\n", (config / "alerts.yaml").read_text()):
        found[f"alert {alert}"] = expression
    return found


# Nothing is wrong in a run that goes well.
MAY_BE_EMPTY = {"Failed runs A", "Spans lost in the agents A", "alert SpansLost", "alert HookFails", "alert GatewayRefusesSpans"}
# There, and nothing: all questions were answered, and the queue is empty.
MAY_BE_ZERO = {"Questions without an answer A", "The gateway's queue A", "alert ApprovalsWaitTooLong", "alert GatewayQueueFills"}


class TestMetrics:
    """What the gateway counted, asked in the real Prometheus."""

    @pytest.fixture
    def prometheus(
        self, program: Callable[[str], Path], config: Path, gateway: Server, port: Callable[[], int], tmp_path: Path, wait: Any, fetch: Any
    ) -> Iterator[Callable[[str, dict[str, str]], Any]]:
        """Prometheus on our prometheus.yaml, scraping each second; asks its API."""
        text = (config / "prometheus.yaml").read_text().replace("15s", "1s")
        text = text.replace("gateway:8889", f"127.0.0.1:{gateway.ports['metrics']}").replace(
            "gateway:8888", f"127.0.0.1:{gateway.ports['own']}"
        )
        (tmp_path / "prometheus.yaml").write_text(text)
        (tmp_path / "alerts.yaml").write_text((config / "alerts.yaml").read_text())
        address = f"127.0.0.1:{port()}"
        command = [
            str(program("prometheus")),
            f"--config.file={tmp_path / 'prometheus.yaml'}",
            f"--storage.tsdb.path={tmp_path / 'prometheus'}",
            f"--web.listen-address={address}",
            "--enable-feature=exemplar-storage",
        ]
        with (tmp_path / "prometheus.log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
            try:
                wait(lambda: fetch(f"http://{address}/-/ready")[0] == 200, "Prometheus")
                yield lambda path, query: json.loads(fetch(f"http://{address}/api/v1/{path}?{urlencode(query)}")[1])["data"]
            finally:
                process.kill()

    def test_every_query_answers(
        self, gateway: Server, jaeger: Jaeger, prometheus: Callable[..., Any], demo: Callable[[str], Run], config: Path, wait: Any
    ) -> None:
        """After one demo, whose process lives for seconds, every panel and alert has something to show, decisions are those that were
        made, and exemplars lead to the trace.
        """
        began = time.time()
        run = demo(gateway.url("http"))
        wait(lambda: prometheus("query", {"query": 'otel_runtime_policy_decisions_total{otel_runtime_policy_decision="deny"}'})["result"])
        every = queries(config)
        assert (len(every) > 25, "link Decisions" in every) == (True, True)
        silent = [name for name in every if name not in MAY_BE_EMPTY]

        def says(name: str) -> bool:
            times = {"start": f"{began:.0f}", "end": f"{time.time():.0f}", "step": "1"}
            found = prometheus("query_range", {"query": every[name], **times})["result"]
            values = [float(value) for series in found for _, value in series["values"]]
            return any(math.isfinite(value) and (value > 0 or name in MAY_BE_ZERO) for value in values)

        def all_answer() -> bool:
            silent[:] = [name for name in silent if not says(name)]
            return not silent

        with contextlib.suppress(AssertionError):
            wait(all_answer, "every query answering")
        assert [] == silent
        spans = [told(span)["otel_runtime.policy.decision"] for span in run.spans if span["name"].startswith("policy ")]

        def as_on_spans() -> bool:
            # As the link from a trace to its metrics asks.
            decided = prometheus("query", {"query": every["link Decisions"]})["result"]
            counted = {entry["metric"]["otel_runtime_policy_decision"]: float(entry["value"][1]) for entry in decided}
            return {kind: spans.count(kind) for kind in set(spans)} == {kind: number for kind, number in counted.items() if kind != "allow"}

        wait(as_on_spans, "as many decisions as there are spans of them")
        times = {"query": "agent_spans_duration_seconds_bucket", "start": "0", "end": "9999999999"}
        dashboard = json.loads((config / "grafana" / "dashboards" / "agents.json").read_text())
        (choice,) = [re.fullmatch(r"label_values\((.+), job\)", one["query"]["query"]) for one in dashboard["templating"]["list"]]
        assert choice is not None
        services = {found["metric"]["job"] for found in prometheus("query", {"query": f"count by (job) ({choice[1]})"})["result"]}
        assert {"otel-runtime"} == services, "those who send, with a policy or without, and no Collector"
        exemplars = wait(lambda: prometheus("query_exemplars", times), "exemplars")
        assert {run.trace_id} == {exemplar["labels"]["trace_id"] for entry in exemplars for exemplar in entry["exemplars"]}

    def test_a_budget_near_its_end(self, gateway: Server, prometheus: Callable[..., Any], tmp_path: Path, wait: Any) -> None:
        """Of a limit of ten calls nine are used: Prometheus knows the rule and the share, nobody's name, and fires the alert."""
        (tmp_path / "policy.yaml").write_text(
            "version: 1\ndefault: deny\nrules:\n"
            "  - {id: few, tool: look, over: {calls: 10, by: user, per: 1h}, decision: deny, reason: Enough.}\n"
            "  - {id: look, tool: look, decision: allow}\n"
        )
        (tmp_path / "program.py").write_text(
            "import otel_runtime as rt\n"
            "@rt.tool\n"
            "def look(): pass\n"
            "with rt.configure(policy='policy.yaml') as runtime:\n"
            "    for user, times in (('carla', 9), ('dana', 2)):\n"
            "        with rt.session('s-' + user, user=user):\n"
            "            for _ in range(times): look()\n"
            "    runtime.flush(30)\n"
        )
        env = {key: value for key, value in os.environ.items() if not key.startswith("OTEL_")}
        env |= {"OTEL_EXPORTER_OTLP_ENDPOINT": gateway.url("http"), "OTEL_SERVICE_NAME": "limited"}
        done = subprocess.run(
            [sys.executable, "program.py"], cwd=tmp_path, env=env, capture_output=True, text=True, check=False, timeout=150
        )
        assert 0 == done.returncode, done.stderr
        (found,) = wait(lambda: prometheus("query", {"query": "otel_runtime_policy_budget_utilization_ratio"})["result"], "the gauge")
        assert ("few", "sliding", 0.9) == (
            found["metric"]["otel_runtime_policy_rule"], found["metric"]["otel_runtime_policy_window"], float(found["value"][1])
        )  # fmt: skip
        assert [] == [name for name in ("carla", "dana") if name in json.dumps(found)]
        alerts = wait(
            lambda: prometheus("query", {"query": 'ALERTS{alertname="BudgetNearEnd", alertstate="firing"}'})["result"], "the alert"
        )
        assert [("limited", "few")] == [(one["metric"]["job"], one["metric"]["otel_runtime_policy_rule"]) for one in alerts]

    def test_metrics_do_not_depend_on_sampling(
        self, collector: Callable[..., Server], send: Callable[..., int], span: Callable[..., dict[str, Any]], wait: Any, fetch: Any
    ) -> None:
        """Spans of traces that are not kept are counted."""
        gateway = collector("gateway.yaml", TRACES_ENDPOINT="127.0.0.1:1", SAMPLE_PERCENT="0").start()
        assert 200 == send(gateway.url("http"), *[span(new_trace(), "invoke_agent a") for _ in range(7)])

        def counted() -> list[str]:
            text = fetch(gateway.url("metrics") + "/metrics")[1].decode()
            return re.findall(r'^agent_spans_calls_total\{.*span_name="invoke_agent a".*\} (\d+)', text, re.MULTILINE)

        # A new series is shown with 0 first, so that a rate sees its rise.
        wait(lambda: counted() not in ([], ["0"]), "the count")
        assert ["7"] == counted()
