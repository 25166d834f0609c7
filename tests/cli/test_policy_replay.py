"""`otel-runtime policy replay` on what our own runtime recorded, from files of every kind and from servers that speak Jaeger's and Tempo's shapes.

The real servers are asked in tests/backends.
"""

from __future__ import annotations

import base64
import gzip
import json
import os
import re
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

import otel_runtime as rt
from otel_runtime.cli.main import main
from otel_runtime.cli.policy_recorded import recorded
from otel_runtime.errors import ApprovalPending, PolicyDenied, RetryableFailure
from otel_runtime.policy.recorded import RecordedCall
from otel_runtime.telemetry.otlp_json import views

OLD = """version: 1
default: deny
tools: {fetch: {adds: [untrusted]}}
rules:
  - {id: look, tool: [fetch, "get_*"], decision: allow}
  - {id: small, tool: pay, args: {amount: {lte: 100}}, decision: allow}
  - {id: large, tool: pay, args: {amount: {gt: 100, lte: 1000}}, decision: require-approval, approval: {approvers: ["role:finance"]}}
  - {id: stock, tool: stock, decision: allow}
  - {id: rate, tool: stock, over: {calls: 1, by: session, per: 500ms}, decision: retryable-failure, retry: {after: 600ms, max_attempts: 3}}
"""
NEW = """version: 1
default: deny
tools: {fetch: {adds: [untrusted]}}
rules:
  - {id: look, tool: "get_*", decision: allow}
  - {id: fetch, tool: fetch, decision: require-approval, approval: {approvers: [acting-user]}}
  - {id: pay, tool: pay, args: {amount: {lte: 5000}}, decision: allow}
  - {id: risky, tool: pay, agent: helper, decision: deny}
  - {id: clerks, tool: stock, role: clerk, decision: allow}
"""


@rt.tool
def get_order(id: int) -> str:
    return "order"


@rt.tool
def fetch(url: str) -> str:
    return "page"


@rt.tool(tags=["money"])
def pay(amount: float, to: str = "bob") -> float:
    return amount


@rt.tool(retry=True)
def stock(sku: str) -> int:
    return 1


@rt.agent
def helper(amount: float) -> float:
    return pay(amount)


@rt.agent
def clerk(runtime: rt.Runtime) -> None:
    get_order(7)
    fetch("https://a.example/")
    pay(50)
    pending = ""
    try:
        pay(500)
    except ApprovalPending as error:
        pending = error.request_id
    assert runtime.approvals is not None
    runtime.approvals.answer(pending, approver="fay", approved=True)
    runtime.resume(pending)
    with suppress(PolicyDenied):
        pay(9000)
    for _ in range(2):
        with suppress(RetryableFailure):
            stock("a")
    helper(10)


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the two policies and the trace of one session under the old one."""
    folder = tmp_path_factory.mktemp("recording")
    (folder / "old.yaml").write_text(OLD)
    (folder / "new.yaml").write_text(NEW)
    runtime = rt.configure(
        policy=folder / "old.yaml",
        state=folder / "state.db",
        trace_file=folder / "trace.json",
        capture="SPAN_ONLY",
        decision_spans="all",
        otlp="off",
        wait_at_most=2,
        facts_timeout=60,
        flush_timeout=60,
        people={"fay": {"roles": ["finance"]}},
    )
    with rt.session("s1", user="ann", roles=["clerk"]):
        clerk(runtime)
    runtime.shutdown()
    return folder


@pytest.fixture(autouse=True)
def there(recording: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(recording)


def document(recording: Path) -> dict[str, Any]:
    found = json.loads((recording / "trace.json").read_text(encoding="utf-8"))
    assert isinstance(found, dict)
    return found


def told(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> dict[str, Any]:
    assert code == main(["policy", "replay", *words, "--json"])
    found = json.loads(capsys.readouterr().out)
    assert isinstance(found, dict)
    return found


def counts(report: Mapping[str, Any]) -> tuple[int, ...]:
    return tuple(report[key] for key in ("calls", "newly_denied", "newly_asked", "newly_allowed", "unchanged", "not_replayable"))


class TestRecorded:
    """Which spans are one call."""

    def calls(self, recording: Path) -> list[RecordedCall]:
        return recorded(list(views(document(recording))))[0]

    def test_one_call_each(self, recording: Path) -> None:
        """Decision, question, answer, body and attempts of one call are one call, in the order they were made."""
        tools = [(call.name, call.decided, call.ran, call.attempt) for call in self.calls(recording) if call.kind == "tool"]
        assert [
            ("get_order", "allow", True, 1),
            ("fetch", "allow", True, 1),
            ("pay", "allow", True, 1),
            ("pay", "require-approval", True, 1),
            ("pay", "deny", False, 1),
            ("stock", "allow", True, 1),
            ("stock", "allow", True, 2),
            ("pay", "allow", True, 1),
        ] == tools

    def test_what_is_known(self, recording: Path) -> None:
        """Arguments, session, agents and who asked are those of the call."""
        last = [call for call in self.calls(recording) if call.name == "pay"][-1]
        assert ({"amount": 10, "to": "bob"}, "s1", ("clerk", "helper")) == (last.args, last.session, last.agents)
        assert last.caller is not None
        assert ("ann", frozenset({"clerk"}), frozenset({"money"})) == (last.caller.user, last.caller.roles, last.caller.tags)

    def test_a_redacted_context(self, recording: Path) -> None:
        """Where a part of who asked was redacted, the rest is known and the loss is noted."""
        text = json.dumps(document(recording)).replace('\\"context\\":{}', '\\"context\\":{\\"token\\":\\"[redacted]\\"}')
        found = [call for call in recorded(list(views(json.loads(text))))[0] if call.name == "fetch"]
        assert [("ann", frozenset({"context cut or redacted"}))] == [
            (call.caller.user if call.caller else None, call.gaps) for call in found
        ]

    def test_approvers(self, recording: Path) -> None:
        """Who could answer is known of a call that people were asked about."""
        (asked,) = [call for call in self.calls(recording) if call.decided == "require-approval"]
        assert ("role:finance",) == asked.approvers

    def test_without_decision_spans(self, recording: Path) -> None:
        """Where allows have no span of their own, the body's span tells the arguments, and its parents the agents, but not who asked."""
        spans = [span for span in views(document(recording)) if not span.name.startswith("policy allow")]
        last = [call for call in recorded(spans)[0] if call.name == "pay"][-1]
        assert ({"amount": 10, "to": "bob"}, ("clerk", "helper"), None, "allow") == (last.args, last.agents, last.caller, last.decided)

    def test_a_part_of_a_trace(self, recording: Path) -> None:
        """Where a parent is missing, the chain of agents is not known."""
        spans = [
            span for span in views(document(recording)) if span.name != "invoke_agent clerk" and not span.name.startswith("policy allow")
        ]
        assert {None} == {call.agents for call in recorded(spans)[0] if call.kind == "tool" and call.caller is None}


class TestReplay:
    def test_the_same_rules(self, capsys: pytest.CaptureFixture[str]) -> None:
        """The rules that were in force decide every call as they did."""
        assert (8, 0, 0, 0, 8, 0) == counts(told(capsys, "trace.json", "--policy", "old.yaml"))

    def test_other_rules(self, capsys: pytest.CaptureFixture[str]) -> None:
        """What becomes of each call is counted, with the rule and an example."""
        report = told(capsys, "trace.json", "--policy", "new.yaml")
        assert (8, 1, 1, 1, 5, 0) == counts(report)
        assert [("denied", "pay", "risky"), ("asked", "fetch", "fetch"), ("allowed", "pay", "pay")] == [
            (change["newly"], change["call"], change["rule"]) for change in report["changes"]
        ]
        assert {"amount": 10, "to": "bob"} == json.loads(report["changes"][0]["examples"][0]["args"])
        assert {"acting-user": 1} == report["asked"]["now"]["by_approver"]
        assert {"role:finance": 1} == report["asked"]["before"]["by_approver"]

    def test_against(self, capsys: pytest.CaptureFixture[str]) -> None:
        """Compared with other rules instead of what was decided, the answer is the same here, because they were in force."""
        assert counts(told(capsys, "trace.json", "--policy", "new.yaml")) == counts(
            told(capsys, "trace.json", "--policy", "new.yaml", "--against", "old.yaml")
        )

    def test_table(self, capsys: pytest.CaptureFixture[str]) -> None:
        """People read the sum first, then the changes, then how often they would be asked."""
        assert 0 == main(["policy", "replay", "trace.json", "--policy", "new.yaml"])
        out = capsys.readouterr().out
        order = [out.index(words) for words in ("8 decided calls in", "newly denied", "risky", "per 100 calls", "acting-user per day")]
        assert sorted(order) == order
        assert "\x1b" not in out

    def test_not_replayable_is_said(self, tmp_path: Path, recording: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """Without captured content, rules that ask for it leave calls open, and the reason is counted."""
        bare = document(recording)
        for entry in bare["resourceSpans"]:
            for scoped in entry["scopeSpans"]:
                for span in scoped["spans"]:
                    span["attributes"] = [
                        pair for pair in span["attributes"] if "arguments" not in pair["key"] and "caller" not in pair["key"]
                    ]
        (tmp_path / "bare.json").write_text(json.dumps(bare))
        report = told(capsys, str(tmp_path / "bare.json"), "--policy", "new.yaml")
        assert {"arguments not captured": 3, "roles not recorded": 2} == report["not_replayable_because"]
        assert 0 == main(["policy", "replay", str(tmp_path / "bare.json"), "--policy", "new.yaml"])
        assert "not replayable because" in capsys.readouterr().out

    def test_assume(self, tmp_path: Path, recording: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """Who is taken to have asked fills what the trace does not tell."""
        spans = document(recording)
        for entry in spans["resourceSpans"]:
            for scoped in entry["scopeSpans"]:
                scoped["spans"] = [span for span in scoped["spans"] if not span["name"].startswith("policy allow")]
        (tmp_path / "t.json").write_text(json.dumps(spans))
        words = (str(tmp_path / "t.json"), "--policy", "new.yaml")
        assert {"roles not recorded": 2} == told(capsys, *words)["not_replayable_because"]
        assert 0 == told(capsys, *words, "--assume", '{"user": "ann", "roles": ["clerk"]}')["not_replayable"]

    @pytest.mark.parametrize(
        ("what", "policy", "code"),
        [
            ("denied", "new.yaml", 1),
            ("asked", "new.yaml", 1),
            ("delayed", "new.yaml", 0),
            ("unreplayable", "new.yaml", 0),
            ("denied", "old.yaml", 0),
        ],
    )
    def test_fail_on(self, what: str, policy: str, code: int) -> None:
        """A script may fail on what it does not want."""
        assert code == main(["policy", "replay", "trace.json", "--policy", policy, "--fail-on", what])

    def test_a_pack(self, capsys: pytest.CaptureFixture[str]) -> None:
        """A pack is tried by its name."""
        assert 8 == told(capsys, "trace.json", "--policy", "pack:careful-default")["calls"]


class TestFiles:
    def test_kinds(self, recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """Ours, the Collector's (one document per line), either packed with gzip, and a folder of them tell the same."""
        whole = document(recording)
        lines = "".join(json.dumps({"resourceSpans": [entry]}) + "\n" for entry in whole["resourceSpans"]) + '{"resourceMetrics": []}\n'
        files = {
            "ours.json": json.dumps(whole).encode(),
            "collector.jsonl": lines.encode(),
            "ours.json.gz": gzip.compress(json.dumps(whole).encode()),
            "collector.jsonl.gz": gzip.compress(lines.encode()),
        }
        for name, content in files.items():
            (tmp_path / name).write_bytes(content)
        asked = [str(tmp_path / name) for name in files] + [str(tmp_path)]
        assert [8] * 5 == [told(capsys, words, "--policy", "old.yaml")["calls"] for words in asked]
        # A trace that is told several times is one trace.
        assert 8 == told(capsys, *asked, "--policy", "old.yaml")["calls"]

    def test_a_pipe(self, recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """What another program writes, packed or not, as a shell's `<(...)` hands it."""
        plain = json.dumps(document(recording)).encode()
        for number, content in enumerate((plain, gzip.compress(plain))):
            path = tmp_path / f"pipe-{number}"
            os.mkfifo(path)
            writer = threading.Thread(target=path.write_bytes, args=(content,), daemon=True)
            writer.start()
            assert 8 == told(capsys, str(path), "--policy", "old.yaml")["calls"]
            writer.join(60)

    def test_no_end(self, recording: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        """A device is read up to a bound, and a name that cannot be one is told."""
        monkeypatch.setattr("otel_runtime.telemetry.trace_files._MAX_PIPED", 1 << 20)
        for name, said in (("/dev/zero", "holds more than 1 MiB"), ("x" * 5000, "cannot read the trace file")):
            assert 2 == main(["policy", "replay", name, "--policy", "old.yaml"])
            assert said in capsys.readouterr().err

    def test_a_line_being_written(self, recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """The last line of a file that is still written may be cut."""
        line = json.dumps(document(recording))
        (tmp_path / "t.jsonl").write_text(f"{line}\n{line[:500]}")
        assert 8 == told(capsys, str(tmp_path / "t.jsonl"), "--policy", "old.yaml")["calls"]

    @pytest.mark.parametrize(
        ("content", "said"),
        [
            (None, "cannot read the trace file"),
            (b"not json", "line 1 is no JSON"),
            (b"[" * 100_000, "line 1 is no JSON"),
            (b'{"a": 1}\nnope\n{"b": 2}\n', "line 2 is no JSON"),
            (b"\x1f\x8b broken", "cannot read the trace file"),
            (b"\x28\xb5\x2f\xfd....", "unpack it first: zstd -d"),
        ],
    )
    def test_what_cannot_be_read(self, content: bytes | None, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """A file that cannot be read is one message and exit code 2."""
        if content is not None:
            (tmp_path / "t.json").write_bytes(content)
        assert 2 == main(["policy", "replay", str(tmp_path / "t.json"), "--policy", "old.yaml"])
        assert said in capsys.readouterr().err

    def test_an_empty_folder(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """A folder without trace files is a mistake and not an empty trace."""
        assert 2 == main(["policy", "replay", str(tmp_path), "--policy", "old.yaml"])
        assert "holds no trace file" in capsys.readouterr().err

    def test_nothing_decided(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """A trace without a decided call is exit code 1, said."""
        (tmp_path / "t.json").write_text('{"resourceSpans": []}')
        assert 1 == main(["policy", "replay", str(tmp_path / "t.json"), "--policy", "old.yaml"])
        assert "nothing to replay" in capsys.readouterr().out

    def test_thousands_of_spans(self, tmp_path: Path, recording: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """Ten thousand spans of five hundred sessions are replayed in one go."""
        text = json.dumps(document(recording)["resourceSpans"])
        (request,) = set(re.findall(r'"otel_runtime.approval.id", "value": {"stringValue": "([0-9a-f]{32})"', text))
        (trace,) = set(re.findall(r'"traceId": "([0-9a-f]{32})"', text))
        entries = []
        for at in range(500):
            one = text.replace(request, f"{at:032x}").replace(trace, f"{at + 1:032x}").replace('"s1"', f'"s{at}"')
            entries.extend(json.loads(one))
        (tmp_path / "many.json").write_text(json.dumps({"resourceSpans": entries}))
        report = told(capsys, str(tmp_path / "many.json"), "--policy", "new.yaml")
        assert (500 * 8, 500, 500, 500) == (report["calls"], report["newly_denied"], report["newly_asked"], report["newly_allowed"])

    @pytest.mark.parametrize(
        "given",
        [
            {"otel_runtime.caller": '{"user": "u", "around": ["a", "…(3 items)"], "context": {}}'},
            {"otel_runtime.caller": '{"user": "u", "roles": 5, "context": {}}'},
            {"otel_runtime.arguments": "[" * 100_000},
            {"otel_runtime.usage.cost.exact": "NaN", "gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "pay"},
        ],
    )
    def test_attributes_of_others(self, given: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """What is cut, or of another shape than we write it, is not told; it never ends the replay."""
        (tmp_path / "usd.yaml").write_text(
            "version: 1\ndefault: allow\nrules: [{id: r, tool: pay, over: {usd: 3, by: all, per: 1h}, decision: deny}]"
        )
        attributes = {"otel_runtime.policy.decision": "allow", "otel_runtime.tool.name": "pay", **given}
        written = [{"key": key, "value": {"stringValue": value}} for key, value in attributes.items()]
        spans = [
            {
                "traceId": f"{at:032x}",
                "spanId": "2" * 16,
                "name": "policy allow pay",
                "attributes": written,
                "startTimeUnixNano": str(10**18 + at),
            }
            for at in (1, 2)
        ]
        (tmp_path / "t.json").write_text(json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": spans}]}]}))
        report = told(capsys, str(tmp_path / "t.json"), "--policy", str(tmp_path / "usd.yaml"))
        assert (2, 2) == (report["calls"], report["unchanged"])

    def test_control_characters_stay_out(self, tmp_path: Path, recording: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """Arguments with a terminal's escape sequences are shown without them."""
        text = json.dumps(document(recording)).replace("https://a.example/", "https://a.example/\\\\u001b]0;owned\\\\u0007")
        (tmp_path / "t.json").write_text(text)
        assert 0 == main(["policy", "replay", str(tmp_path / "t.json"), "--policy", "new.yaml"])
        assert "\x1b" not in capsys.readouterr().out


class TestServers:
    def test_jaeger(self, recording: Path, serve: Any, capsys: pytest.CaptureFixture[str]) -> None:
        """Jaeger is asked by /api/v3 for the services and their traces, with the window and the limit."""
        asked: list[Mapping[str, str]] = []

        def answer(path: str, query: Mapping[str, str], _: object) -> tuple[int, object]:
            if path == "/api/v3/services":
                return 200, {"services": ["shop"]}
            asked.append(query)
            return 200, {"result": document(recording)}

        assert 8 == told(capsys, serve(answer), "--policy", "old.yaml", "--limit", "7", "--since", "1h")["calls"]
        assert [("shop", "7")] == [(query["query.service_name"], query["query.num_traces"]) for query in asked]

    def test_tempo(self, recording: Path, serve: Any, capsys: pytest.CaptureFixture[str]) -> None:
        """Tempo is asked in TraceQL, then for each trace, whose ids it writes in base64."""
        whole = document(recording)
        spans = [span for entry in whole["resourceSpans"] for scoped in entry["scopeSpans"] for span in scoped["spans"]]
        ids = sorted({span["traceId"] for span in spans})
        for span in spans:
            for key in ("traceId", "spanId", "parentSpanId"):
                span[key] = base64.b64encode(bytes.fromhex(span[key])).decode()

        def answer(path: str, query: Mapping[str, str], _: object) -> tuple[int, object]:
            if path == "/api/search":
                return (200, {"traces": [{"traceID": one} for one in ids]}) if query["q"].startswith("{") else (400, {})
            return (200, {"trace": whole}) if path.startswith("/api/v2/traces/") else (404, {})

        assert 8 == told(capsys, serve(answer), "--policy", "old.yaml")["calls"]

    @pytest.mark.parametrize(
        ("words", "said"),
        [
            (["http://127.0.0.1:1"], "nothing answers here"),
            (["trace.json", "--since", "soon"], "--since"),
            (["trace.json", "--limit", "0"], "at least 1"),
            (["trace.json", "--header", "secret"], "expected NAME:VALUE"),
            (["trace.json", "--header", "two words: x"], "expected NAME:VALUE"),
            (["trace.json", "--header", "X-Team: \u2713"], "expected NAME:VALUE"),
            (["trace.json", "--assume", "[]"], "expected a JSON object"),
            (["trace.json", "--assume", '{"name": "x"}'], "unknown key `name`"),
            (["trace.json", "--assume", '{"roles": "x"}'], "expected lists"),
            (["trace.json", "--against", "none.yaml"], "no such policy file"),
        ],
    )
    def test_mistakes(self, words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
        """What was typed wrong, or does not answer, is one message and exit code 2."""
        assert 2 == main(["policy", "replay", *words, "--policy", "old.yaml"])
        assert said in capsys.readouterr().err
