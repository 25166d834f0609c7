"""What an agent tells, through the real Collector of agent.yaml, as the real Jaeger gives it back by /api/v3."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from otel_runtime.cli.main import main

if TYPE_CHECKING:
    from tests.backends.conftest import Jaeger, Run, Server, Waiting

pytestmark = pytest.mark.backends
WARNINGS = "@jaeger@warnings"
FIELDS = ("traceId", "spanId", "parentSpanId", "name", "kind", "startTimeUnixNano", "endTimeUnixNano")


def essence(span: dict[str, Any]) -> dict[str, Any]:
    """Everything of a span that must arrive, in one shape: lists sorted by key, protobuf's empty values as nothing."""
    return {
        **{field: span.get(field, "") for field in FIELDS},
        # Jaeger gives a span without duration one nanosecond, and says so.
        "endTimeUnixNano": str(max(int(span["endTimeUnixNano"]), int(span["startTimeUnixNano"]) + 1)),
        "attributes": pairs(span),
        "status": {key: value for key, value in span.get("status", {}).items() if value},
        "events": [(event["name"], event["timeUnixNano"], pairs(event)) for event in span.get("events", [])],
        "links": [(link["traceId"], link["spanId"], pairs(link)) for link in span.get("links", [])],
        "resource": pairs(span["resource"]),
        "scope": {key: value for key, value in span["scope"].items() if key in ("name", "version")},
    }


def pairs(of: dict[str, Any]) -> list[tuple[str, object]]:
    """Attributes with their types, by key; without what Jaeger adds."""
    return sorted((pair["key"], typed(pair["value"])) for pair in of.get("attributes", []) if pair["key"] != WARNINGS)


def typed(value: dict[str, Any]) -> str:
    """Type and value as text; an empty list is written in two ways."""
    (kind, inner), *_ = value.items()
    if kind == "arrayValue":
        return f"array of {[typed(part) for part in inner.get('values', [])]}"
    return f"{kind} {float(inner)}" if kind == "doubleValue" else f"{kind} {inner}"


def differences(sent: list[dict[str, Any]], found: list[dict[str, Any]]) -> dict[str, object]:
    """What is not the same: by span, the fields with both values."""
    arrived = {span["spanId"]: essence(span) for span in found}
    both = [(essence(span), arrived.get(span["spanId"], {})) for span in sent]
    return {
        f"{own['name']} {field}": apart(value, other.get(field))
        for own, other in both
        for field, value in own.items()
        if other.get(field) != value
    }


def apart(one: object, other: object) -> object:
    """Of two lists only what is not in both."""
    if isinstance(one, list) and isinstance(other, list):
        return [item for item in one if item not in other], [item for item in other if item not in one]
    return one, other


@pytest.fixture
def agent(collector: Callable[..., Server], jaeger: Jaeger) -> Server:
    """The Collector of agent.yaml, in front of Jaeger."""
    return collector("agent.yaml", TRACES_ENDPOINT=jaeger.endpoint).start()


class TestDemo:
    """One run of the support agent."""

    def test_every_span_arrives_as_it_was(self, jaeger: Jaeger, delivered: Run, capsys: Any) -> None:
        """Ids, parents, kinds, times, statuses, links, events, typed attributes, resource and scope: all as in the trace file."""
        run = delivered
        found = jaeger.trace(run.trace_id, len(run.spans))
        assert ({}, len(run.spans)) == (differences(run.spans, found), len(found))
        # The instrument: a run without these would prove little.
        assert {1, 3} == {span["kind"] for span in run.spans}
        kinds = {pair["value"] and next(iter(pair["value"])) for span in run.spans for pair in span["attributes"]}
        assert {"stringValue", "intValue", "doubleValue", "boolValue", "arrayValue"} == kinds
        assert any(span["links"] for span in run.spans)
        assert any(span["events"] for span in run.spans)
        self.commands(jaeger, run, capsys)

    def commands(self, jaeger: Jaeger, run: Run, capsys: Any) -> None:
        """`trace show` and `trace list` see the same in this Jaeger as in the file."""
        assert 0 == main(["trace", "show", str(run.root / "trace.json")])
        from_file = capsys.readouterr().out
        assert 0 == main(["trace", "show", run.trace_id, "--jaeger", jaeger.page])
        assert f"{from_file}{jaeger.page}/trace/{run.trace_id}\n" == capsys.readouterr().out
        for words in (["--denied"], ["--costly", "0.001"], ["--slow", "1s"]):
            assert 0 == main(["trace", "list", "--jaeger", jaeger.page, *words])
            assert run.trace_id in capsys.readouterr().out
        assert 1 == main(["trace", "list", "--jaeger", jaeger.page, "--service", "nobody"])

    def test_denied_call_is_told(self, jaeger: Jaeger, delivered: Run) -> None:
        """The denied mail is a span with its rule under the agent, no error and no operation, and there is no execute_tool for it."""
        run = delivered
        spans = jaeger.trace(run.trace_id, len(run.spans))
        (denied,) = (span for span in spans if span["name"] == "policy deny send_email")
        told = dict(pairs(denied))
        assert ("stringValue deny", "stringValue mail.after-untrusted") == (
            told["otel_runtime.policy.decision"],
            told["otel_runtime.policy.rule"],
        )
        assert (False, {}) == ("gen_ai.operation.name" in told, denied.get("status", {}))
        (parent,) = (span for span in spans if span["spanId"] == denied["parentSpanId"])
        assert "invoke_agent support" == parent["name"]
        call = told["gen_ai.tool.call.id"]
        assert [] == [
            span for span in spans if span["name"].startswith("execute_tool") and dict(pairs(span)).get("gen_ai.tool.call.id") == call
        ]

    def test_page_has_nothing_to_warn_of(self, jaeger: Jaeger, delivered: Run) -> None:
        """Jaeger finds no negative duration, no missing parent and no clock to doubt."""
        run = delivered
        jaeger.trace(run.trace_id, len(run.spans))
        warned = [
            (span["name"], pair["value"])
            for span in jaeger.spans(run.trace_id, adjusted=True)
            for pair in span["attributes"]
            if pair["key"] == WARNINGS
        ]
        assert [] == warned

    def test_page_reads_in_order(self, jaeger: Jaeger, delivered: Run) -> None:
        """Jaeger sorts siblings by microseconds of their start: the run with the approval is told as it happened."""
        spans = jaeger.trace(delivered.trace_id, len(delivered.spans))
        (asked,) = (span for span in spans if span["name"] == "approval requested refund")
        siblings = [span for span in spans if span.get("parentSpanId") == asked["parentSpanId"]]
        told = [span["name"] for span in sorted(siblings, key=lambda span: int(span["startTimeUnixNano"]) // 1000)]
        assert [
            "chat gpt-5-mini",
            "execute_tool get_order",
            "chat gpt-5-mini",
            "policy require-approval refund",
            "approval requested refund",
            "approval approved refund",
            "execute_tool refund",
            "chat gpt-5-mini",
            "execute_tool send_email",
            "chat gpt-5-mini",
        ] == told

    def test_page_has_what_its_genai_tab_reads(self, jaeger: Jaeger, delivered: Run) -> None:
        """Jaeger tells spans apart by gen_ai.operation.name and tool.name, and reads messages with parts, arguments, results and tokens;
        decisions and approvals are neither tools nor model calls to it, and nothing is an error.
        """
        spans = jaeger.trace(delivered.trace_id, len(delivered.spans))
        told = [(span, {pair["key"]: next(iter(pair["value"].values())) for pair in span["attributes"]}) for span in spans]
        operations = {(span["name"].split()[0], own.get("gen_ai.operation.name"), int(span["kind"])) for span, own in told}
        assert {
            ("invoke_workflow", "invoke_workflow", 1),
            ("invoke_agent", "invoke_agent", 1),
            ("chat", "chat", 3),
            ("execute_tool", "execute_tool", 1),
            ("policy", None, 1),
            ("approval", None, 1),
        } == operations
        apart = {key for span, own in told if span["name"].startswith(("policy ", "approval ")) for key in own if key.startswith("gen_ai.")}
        assert {"gen_ai.conversation.id", "gen_ai.tool.call.id"} == apart
        for _, own in told:
            if own.get("gen_ai.operation.name") == "chat":
                messages = [*json.loads(own["gen_ai.input.messages"]), *json.loads(own["gen_ai.output.messages"])]
                assert all(entry["role"] in ("system", "user", "assistant", "tool") and entry["parts"] for entry in messages)
                assert int(own["gen_ai.usage.input_tokens"]) > 0 < int(own["gen_ai.usage.output_tokens"])
                assert {"gen_ai.provider.name", "gen_ai.request.model", "gen_ai.response.model"} <= set(own)
            elif own.get("gen_ai.operation.name") == "execute_tool":
                json.loads(own["gen_ai.tool.call.result"])
                assert isinstance(json.loads(own["gen_ai.tool.call.arguments"]), dict)
                assert {"gen_ai.tool.name", "gen_ai.tool.call.id"} <= set(own)
        assert [] == [span["name"] for span in spans if span.get("status", {}).get("code")]


class TestOnDisk:
    """jaeger.yaml as it is shipped, with Badger."""

    def test_trace_file_sent_later_survives_a_restart(
        self, jaegers: Callable[[str], Jaeger], delivered: Run, send_document: Callable[[str, bytes], int]
    ) -> None:
        """The document of a run is accepted by an OTLP receiver as it is; after a restart every span is there, with parent, kind, status
        and its plain attributes; Badger writes lists as JSON text.
        """
        jaeger = jaegers("disk")
        assert 200 == send_document(jaeger.server.url("http"), (delivered.root / "trace.json").read_bytes())
        jaeger.trace(delivered.trace_id, len(delivered.spans))
        jaeger.server.stop()
        jaeger.server.start()
        found = {span["spanId"]: essence(span) for span in jaeger.trace(delivered.trace_id, len(delivered.spans))}
        for span in map(essence, delivered.spans):
            kept = found[span["spanId"]]
            assert ([span[field] for field in FIELDS], span["status"]) == ([kept[field] for field in FIELDS], kept["status"])
            plain = [pair for pair in span["attributes"] if not str(pair[1]).startswith("array")]
            assert [] == [pair for pair in plain if pair not in kept["attributes"]]
            assert [link[:2] for link in span["links"]] == [link[:2] for link in kept["links"]]


class TestApproval:
    """A question that waits, a process that dies, an answer, another process."""

    def test_is_visible_while_it_waits_and_whole_afterwards(
        self, agent: Server, jaeger: Jaeger, waiting: Callable[[str], Waiting], wait: Callable[..., Any], capsys: Any
    ) -> None:
        """The question is in Jaeger while the agent still waits; after kill -9, approval and resume the call is linked to its answer and
        the answer to its question.
        """
        agents = waiting(agent.url("http"))

        def listed() -> list[str]:
            capsys.readouterr()
            main(["trace", "list", "--waiting", "--jaeger", jaeger.page, "--json"])
            return [row["trace_id"] for row in json.loads(capsys.readouterr().out) if agents.request_id in row["waiting"]]

        (trace_id,) = wait(listed, "the question in Jaeger")
        assert agents.process.poll() is None, "the agent must still be waiting"
        agents.process.kill()
        agents.run("-m", "otel_runtime", "approvals", "approve", agents.request_id, "--yes")
        assert "done:" in agents.resume()

        def named(name: str) -> list[dict[str, Any]]:
            return [span for span in jaeger.spans(trace_id) if span["name"] == name]

        wait(lambda: named("execute_tool refund"), "the refund in Jaeger")
        (asked,), (answered,), (ran,) = map(named, ("approval requested refund", "approval approved refund", "execute_tool refund"))
        assert asked["spanId"] in {link["spanId"] for link in answered["links"]}
        assert answered["spanId"] in {link["spanId"] for link in ran["links"]}
        assert f"stringValue {agents.request_id}" == dict(pairs(ran))["otel_runtime.approval.id"]
        assert [] == listed()
