"""ViteHub TraceEvents as OTLP/JSON: the behaviour of its own export, restated as input and spans."""

from __future__ import annotations

import json
from typing import Any

import pytest
from google.protobuf import json_format
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from otel_runtime.integrations.vitehub import approval_decision, otlp_logs, otlp_spans, policy_decision, responder
from otel_runtime.sources.asking import Question
from otel_runtime.values.decision import Decision

OK, ERROR = 0, 2


def event(name: str, ms: int, kind: str = "run", trace: dict[str, object] | None = None, **facts: object) -> dict[str, Any]:
    attributes = {key.replace("__", "."): value for key, value in facts.items()}
    at = f"2026-01-01T00:00:{ms // 1000:02d}.{ms % 1000:03d}Z"
    return {"name": name, "type": kind, "timestamp": at, "trace": trace or {"id": "run-1"}, "attributes": attributes}


def spans(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    (whole,) = otlp_spans(events)["resourceSpans"]
    found: list[dict[str, Any]] = [span for scope in whole["scopeSpans"] for span in scope["spans"]]
    return sorted(found, key=lambda span: (int(span["startTimeUnixNano"]), span["parentSpanId"] != "", span["name"]))


def milliseconds(span: dict[str, Any]) -> float:
    return (int(span["endTimeUnixNano"]) - int(span["startTimeUnixNano"])) / 1e6


def facts(span: dict[str, Any]) -> dict[str, Any]:
    return {pair["key"]: next(iter(pair["value"].values())) for pair in span["attributes"]}


RUN = [
    event("agent.invocation.start", 0),
    event("agent.tool.start", 5, step__id="search-1", tool__name="search", tool__input={"query": "sk-SECRET"}),
    event("agent.tool.finish", 30, step__id="search-1", tool__name="search", output="sk-SECRET"),
    event("agent.invocation.finish", 40),
]


class TestSpans:
    def test_a_run_and_its_step(self) -> None:
        """The step lasts 25 ms under the run's 40, both without error, nothing secret in either."""
        run, step = spans(RUN)
        assert (40.0, 25.0) == (milliseconds(run), milliseconds(step))
        assert (run["spanId"], run["traceId"], OK, OK) == (
            step["parentSpanId"],
            step["traceId"],
            run["status"]["code"],
            step["status"]["code"],
        )
        assert ("invoke_agent", "execute_tool search") == (run["name"], step["name"])
        assert "SECRET" not in json.dumps([run, step])

    def test_it_is_what_a_collector_takes(self) -> None:
        """The protobuf's own parser of OTLP/JSON reads both bodies."""
        for body, message in ((otlp_spans(RUN), ExportTraceServiceRequest()), (otlp_logs(RUN), ExportLogsServiceRequest())):
            # Fields that an older protobuf does not know are to be ignored, as the specification says.
            read = json_format.MessageToDict(json_format.ParseDict(body, message, ignore_unknown_fields=True))
            assert list(body) == list(read)
            assert json.dumps(body).count('"key"') == json.dumps(read).count('"key"') > 0

    def test_the_same_events_have_the_same_ids(self) -> None:
        """Twice sent is one span twice, and another run has others."""
        assert otlp_spans(RUN) == otlp_spans(RUN)
        other = [{**each, "trace": {"id": "run-2"}} for each in RUN]
        assert not {span["spanId"] for span in spans(RUN)} & {span["spanId"] for span in spans(other)}

    @pytest.mark.parametrize(
        ("names", "status", "end"),
        [
            (["agent.invocation.finish"], OK, 10.0),
            (["agent.stream.error", "agent.invocation.finish"], ERROR, 20.0),
            (["agent.invocation.error", "agent.invocation.finish"], OK, 20.0),
            (["agent.stream.error", "agent.invocation.error"], ERROR, 20.0),
            (["run.error", "run.finish"], ERROR, 20.0),
            (["stream.error", "finish"], ERROR, 20.0),
            (["invocation.error", "invocation.finish"], OK, 20.0),
            (["agent.invocation.error"], ERROR, 10.0),
        ],
    )
    def test_terminal_events(self, names: list[str], status: int, end: float) -> None:
        """Which of them decides, and when the run ends."""
        given = [event(name, (index + 1) * 10, "error" if "error" in name else "run") for index, name in enumerate(names)]
        (run,) = spans([event("agent.invocation.start", 0), *given])
        assert (status, end) == (run["status"]["code"], milliseconds(run))

    @pytest.mark.parametrize("name", ["agent.stream.error", "stream.error"])
    def test_recoverable_errors(self, name: str) -> None:
        """They fail nothing."""
        (run,) = spans([event(name, 0, "error", error__recoverable=True), event("agent.invocation.finish", 5)])
        assert OK == run["status"]["code"]

    def test_two_runs_in_one_trace(self) -> None:
        """Two roots of one trace, each with its own step of the same id, whose parent is told."""
        place: dict[str, object] = {"id": "request-trace", "parentId": "request-parent"}
        given = []
        for number, run in enumerate(("agent-run-1", "agent-run-2")):
            common: dict[str, Any] = {"trace": place, "agent__run__id": run}
            start = number * 100
            given += [event("agent.invocation.start", start, **common)]
            given += [
                event(f"agent.model.call.{end}", start + ms, model__call__id="m", **common) for end, ms in (("start", 5), ("finish", 9))
            ]
            given += [event("agent.invocation.finish", start + 10, **common)]
        found = spans(given)
        assert (1, 4) == (len({span["traceId"] for span in found}), len({span["spanId"] for span in found}))
        runs = {span["spanId"]: span for span in found if span["name"] == "invoke_agent"}
        assert {10.0} == {milliseconds(span) for span in runs.values()}
        assert set(runs) == {span["parentSpanId"] for span in found if span["name"] == "chat"}
        assert 1 == len({span["parentSpanId"] for span in runs.values()} - {""})

    def test_ids_of_opentelemetry_are_kept(self) -> None:
        """Valid hex of 32 and 16 digits is used as it is; anything else is hashed."""
        place: dict[str, object] = {"id": "0af7651916cd43dd8448eb211c80319c", "parentId": "b7ad6b7169203331"}
        (run,) = spans([event("agent.invocation.finish", 0, trace=place)])
        assert (place["id"], place["parentId"]) == (run["traceId"], run["parentSpanId"])

    def test_open_steps_of_a_failed_run(self) -> None:
        """They end with it, failed."""
        run, step = spans(
            [event("agent.tool.start", 0, step__id="t"), event("agent.tool.output", 5, step__id="t"), event("run.error", 20, "error")]
        )
        assert (20.0, ERROR, ERROR) == (milliseconds(step), step["status"]["code"], run["status"]["code"])

    @pytest.mark.parametrize(("at", "status"), [(1000, OK), (1999, OK)])
    def test_two_thousand_events(self, at: int, status: int) -> None:
        """Cut, marked, and the terminal event still ends the run."""
        given = [
            event("agent.invocation.finish" if index == at else "agent.message", index, agent__run__id="r", index=index)
            for index in range(2000)
        ]
        run = spans(given)[0]
        assert (status, float(at)) == (run["status"]["code"], milliseconds(run))
        assert int(facts(run)["otel_runtime.events.truncated"]) > 900

    def test_a_failure_in_the_middle(self) -> None:
        """2,000 events with a fatal stream error at #1,000 and the finish at #1,500: failed, end at the finish."""
        names = {1000: "agent.stream.error", 1500: "agent.invocation.finish"}
        given = [event(names.get(index, "agent.message"), index, "error" if index == 1000 else "run") for index in range(2000)]
        run = spans(given)[0]
        assert (ERROR, 1500.0) == (run["status"]["code"], milliseconds(run))

    def test_not_sampled(self) -> None:
        """Nothing is written."""
        assert {"resourceSpans": []} == otlp_spans([event("agent.invocation.finish", 0, trace={"id": "t", "sampled": False})])


class TestLogs:
    def test_records_have_the_ids_of_their_spans(self) -> None:
        """Each event is a record of its step, else of its run; failures are errors."""
        given = [*RUN[:2], event("agent.tool.failed", 30, "error", step__id="search-1", error__message="m"), RUN[3]]
        run, step = spans(given)
        (whole,) = otlp_logs(given)["resourceLogs"]
        records = whole["scopeLogs"][0]["logRecords"]
        assert [run["spanId"], step["spanId"], step["spanId"], run["spanId"]] == [record["spanId"] for record in records]
        assert ["INFO", "INFO", "ERROR", "INFO"] == [record["severityText"] for record in records]
        assert [each["name"] for each in given] == [record["eventName"] for record in records]
        assert "SECRET" not in json.dumps(records)

    def test_nothing(self) -> None:
        """No events, no resource."""
        assert {"resourceLogs": []} == otlp_logs([])


class TestAnswers:
    def test_in_its_own_words(self) -> None:
        """An ApprovalDecision, and a PolicyDecision that keeps what our rules said."""
        question = Question("vitehub", "a1", "refund")
        told: list[dict[str, object]] = []
        responder(told.append, lambda: "2026-01-01T00:00:00Z")(question, "denied")
        assert [{"requestId": "a1", "approved": False, "state": "denied", "decidedAt": "2026-01-01T00:00:00Z"}] == told
        assert ("deny", "allow") == (policy_decision(question, "denied"), policy_decision(question, "approved"))
        decided = Question("vitehub", "a1", "refund", decision=Decision("retryable-failure", "later"))
        assert ("retryable-failure", "later") == (policy_decision(decided, "denied"), approval_decision(decided, "denied", "t")["reason"])
