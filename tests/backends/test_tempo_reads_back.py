"""What an agent tells, through the real Collector of agent.yaml, as the real Tempo gives it back; every TraceQL that we name finds what it
should.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from otel_runtime.cli.main import main

if TYPE_CHECKING:
    from tests.backends.conftest import Run, Server, Tempo

pytestmark = pytest.mark.backends
SLOW = "51" * 16
SHADOW = "52" * 16
DOCUMENTS = ("README.md", "docs/*.md", "collector-config/README.md")
QUERY = re.compile(r"^ {4}(\{ .*)$", re.MULTILINE)


@pytest.fixture(scope="module")
def told(tempo: Tempo, run_through: Callable[[str, Path], Run], tmp_path_factory: pytest.TempPathFactory) -> Run:
    """One run of the support agent, whole in Tempo."""
    run = run_through(tempo.endpoint, tmp_path_factory.mktemp("told"))
    tempo.trace(run.trace_id, len(run.spans))
    return run


@pytest.fixture(scope="module")
def others(tempo: Tempo, span: Callable[..., dict[str, Any]], send: Callable[..., int], wait: Callable[..., Any]) -> None:
    """Two traces such as a demo cannot wait for: an approval of seven minutes, and a rule that only watched."""
    slow = span(SLOW, "approval approved refund", seconds=420.0, **{"gen_ai.operation.name": "execute_tool"})
    watched = span(SHADOW, "policy allow refund", **{"otel_runtime.policy.would_be": "deny"})
    wait(lambda: send(tempo.server.url("otlp-http"), slow, watched) == 200, "Tempo taking spans")
    for trace_id in (SLOW, SHADOW):
        tempo.trace(trace_id, 1)


def attributes(span: dict[str, Any]) -> dict[str, Any]:
    """Attributes by key, values as Python's."""
    return {pair["key"]: next(iter(pair["value"].values()), None) for pair in span.get("attributes", [])}


class TestTrace:
    """One trace, asked by its id."""

    def test_every_span_is_there_as_it_was(self, tempo: Tempo, told: Run, capsys: pytest.CaptureFixture[str]) -> None:
        """`trace show` prints the same tree, kinds, statuses, durations, links and figures from Tempo as from the file."""
        assert 0 == main(["trace", "show", str(told.root / "trace.json")])
        from_file = capsys.readouterr().out
        assert 0 == main(["trace", "show", told.trace_id, "--tempo", tempo.page])
        assert from_file == capsys.readouterr().out

    def test_each_attribute_keeps_its_type(self, tempo: Tempo, told: Run) -> None:
        """Span by span: name, times, and each attribute with its type."""

        def essence(span: dict[str, Any]) -> tuple[Any, ...]:
            pairs = sorted((pair["key"], next(iter(pair["value"])), _plain(pair["value"])) for pair in span.get("attributes", []))
            return span["name"], span["startTimeUnixNano"], span["endTimeUnixNano"], pairs

        found = tempo.trace(told.trace_id, len(told.spans))
        assert sorted(map(essence, told.spans)) == sorted(map(essence, found))

    def test_list_finds_it(self, tempo: Tempo, told: Run, wait: Callable[..., Any], capsys: pytest.CaptureFixture[str]) -> None:
        """`trace list` with a filter names the run, and with a filter that nothing passes it names none."""

        def listed() -> bool:
            # A trace is found by its id at once, by a search some seconds later.
            capsys.readouterr()
            main(["trace", "list", "--tempo", tempo.page, "--denied", "--json"])
            return told.trace_id in {row["trace_id"] for row in json.loads(capsys.readouterr().out)}

        wait(listed, "the search finding a run with a denial")
        assert 1 == main(["trace", "list", "--tempo", tempo.page, "--service", "nobody"])


def _plain(value: dict[str, Any]) -> str:
    (kind, inner), *_ = value.items()
    if kind == "arrayValue":
        return str([_plain(part) for part in inner.get("values", [])])
    return str(float(inner)) if kind == "doubleValue" else str(inner)


class TestTraceQL:
    """The queries that documents and dashboards name."""

    def test_each_finds_what_it_should(self, tempo: Tempo, told: Run, others: None, wait: Callable[..., Any], config: Path) -> None:
        """Each query of the documents and dashboards is known here, and finds exactly the traces that a look at the spans says."""
        tokens = sum(int(found.get("gen_ai.usage.input_tokens", 0)) for found in map(attributes, told.spans))
        ours = {told.trace_id}
        expected = {
            '{ span.otel_runtime.policy.decision = "deny" }': ours,
            '{ span.otel_runtime.policy.would_be != "" }': {SHADOW},
            '{ name =~ "approval .*" && duration > 5m }': {SLOW},
            '{ span.gen_ai.conversation.id = "T-102" }': ours,
            '{ span.gen_ai.operation.name = "chat" } | sum(span.gen_ai.usage.input_tokens) > 10000': ours if tokens > 10_000 else set(),
        }
        assert expected.keys() == set(_named(config.parent))
        for query, traces in expected.items():
            wait(lambda query=query, traces=traces: _ids(tempo, query) >= traces, query)
            assert traces == _ids(tempo, query), query

    def test_aggregate_counts_this_run(self, tempo: Tempo, told: Run) -> None:
        """Tokens by model: a bound one below the run's sum finds it, the sum itself does not."""
        chats = [found for found in map(attributes, told.spans) if found.get("gen_ai.operation.name") == "chat"]
        tokens = sum(int(found["gen_ai.usage.input_tokens"]) for found in chats)
        query = '{{ span.gen_ai.operation.name = "chat" }} | sum(span.gen_ai.usage.input_tokens) > {}'
        assert ({told.trace_id}, set()) == (_ids(tempo, query.format(tokens - 1)), _ids(tempo, query.format(tokens)))


def _ids(tempo: Tempo, query: str) -> set[str]:
    return {str(trace["traceID"]).zfill(32) for trace in tempo.found(query)}


def _named(root: Path) -> Iterator[str]:
    for pattern in DOCUMENTS:
        for document in root.glob(pattern):
            yield from QUERY.findall(document.read_text())
    for dashboard in (root / "collector-config" / "grafana" / "dashboards").glob("*.json"):
        yield from _queries(json.loads(dashboard.read_text()))


def _queries(part: object) -> Iterator[str]:
    if isinstance(part, dict):
        query = part.get("query")
        if isinstance(query, str) and query.startswith("{"):
            yield query
        for value in part.values():
            yield from _queries(value)
    elif isinstance(part, list):
        for value in part:
            yield from _queries(value)


class TestWaiting:
    """A question that nobody has answered yet."""

    def test_is_found_while_the_agent_waits(
        self, tempo: Tempo, collector: Callable[..., Server], waiting: Callable[[str], Any], wait: Callable[..., Any], capsys: Any
    ) -> None:
        """`trace list --waiting` names the trace of an agent that still runs; after the answer and the resumed run it does not."""
        agents = waiting(collector("agent.yaml", TRACES_ENDPOINT=tempo.endpoint).start().url("http"))

        def listed() -> list[str]:
            capsys.readouterr()
            main(["trace", "list", "--waiting", "--tempo", tempo.page, "--json"])
            return [row["trace_id"] for row in json.loads(capsys.readouterr().out) if agents.request_id in row["waiting"]]

        assert wait(listed, "the question in Tempo")
        assert agents.process.poll() is None, "the agent must still be waiting"
        agents.process.kill()
        agents.run("-m", "otel_runtime", "approvals", "approve", agents.request_id, "--yes")
        assert "done:" in agents.resume()
        wait(lambda: not listed(), "the answer in Tempo")
