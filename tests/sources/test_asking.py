"""Foreign questions at the real store: one answer wins."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import otel_runtime as rt
from otel_runtime.approvals.service import ApprovalService
from otel_runtime.integrations.a3s import awatch
from otel_runtime.runtime import ingesting
from otel_runtime.runtime.build import build_runtime, open_approvals
from otel_runtime.runtime.foreign_desk import ForeignDesk
from otel_runtime.runtime.ingesting import Feed
from otel_runtime.runtime.runtime import Runtime
from otel_runtime.settings.model import Settings
from otel_runtime.sources.asking import Asking, Judged, Question, Verdict
from otel_runtime.values.approval import ApprovalRequest
from otel_runtime.values.decision import ApprovalTerms, Decision, Requirement
from otel_runtime.values.trace import TraceEvent
from otel_runtime.wrap.active import Active, current_active

POLICY = "version: 1\ndefault: allow\nrules:\n  - id: none\n    tool: nothing\n    decision: deny\n    reason: unused\n"
ASKED = {"type": "confirmation_required", "tool_id": "c1", "tool_name": "rm", "args": {"path": "/tmp/x"}, "timeout_ms": 60_000}


def active_now() -> Active:
    active = current_active()
    assert isinstance(active, Active)
    return active


class Bench:
    def __init__(self, runtime: Runtime, active: Active, service: ApprovalService) -> None:
        self.runtime = runtime
        self.service = service
        self.answers: list[tuple[str, Verdict]] = []
        self.decisions: list[Decision] = []
        self.feed = Feed(active, "a3s", "s", self.respond)
        self.feed.push({"type": "start"})

    def respond(self, question: Question, verdict: Verdict) -> None:
        if question.decision is not None:
            self.decisions.append(question.decision)
        self.answers.append((question.id, verdict))

    def requests(self) -> list[ApprovalRequest]:
        return self.service.list()

    def until(self, done: Callable[[], bool]) -> None:
        limit = time.monotonic() + 60
        while not done() and time.monotonic() < limit:
            time.sleep(0.01)
        assert done()


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """A runtime with a store, and a feed of a3s events that takes answers."""
    (tmp_path / "policy.yaml").write_text(POLICY, encoding="utf-8")
    settings = Settings(policy=(tmp_path / "policy.yaml",), state=tmp_path / "state.db", otlp="off")
    with build_runtime(settings) as runtime, runtime.use():
        service = open_approvals(settings)
        made = Bench(runtime, active_now(), service)
        yield made
        made.feed.close()
        service.close()
        service.database.close()


class TestAnswers:
    @pytest.mark.parametrize(("approved", "verdict", "state"), [(True, "approved", "completed"), (False, "denied", "denied")])
    def test_an_answer_given_here_is_handed_back(self, bench: Bench, approved: bool, verdict: Verdict, state: str) -> None:
        """The responder gets it once, and an approval is then used up."""
        bench.feed.push(ASKED)
        (request,) = bench.requests()
        assert ("rm", {"path": "/tmp/x"}) == (request.capability, dict(request.input))
        bench.service.answer(request.id, approver="os:alice", approved=approved)
        bench.until(lambda: bool(bench.answers) and bench.requests()[0].state == state)
        bench.feed.push({"type": "confirmation_received", "tool_id": "c1", "approved": approved})
        assert [("c1", verdict)] == bench.answers

    @pytest.mark.parametrize(
        "theirs",
        [
            {"type": "confirmation_received", "tool_id": "c1", "approved": True},
            {"type": "confirmation_timeout", "tool_id": "c1", "action_taken": "rejected"},
            {"type": "end", "usage": {}},
        ],
    )
    def test_their_own_answer_closes_ours(self, bench: Bench, theirs: dict[str, object]) -> None:
        """An answer, a timeout or the end of the run there: nobody here can answer any more."""
        bench.feed.push(ASKED)
        bench.feed.push(theirs)
        bench.until(lambda: [request.state for request in bench.requests()] == ["cancelled"])
        with pytest.raises(rt.OtelRuntimeError):
            bench.service.answer(bench.requests()[0].id, approver="os:alice", approved=True)
        assert [] == bench.answers

    def test_asked_twice_is_one_question(self, bench: Bench) -> None:
        """A repeated event opens no second request."""
        bench.feed.push(ASKED)
        bench.feed.push(ASKED)
        assert 1 == len(bench.requests())

    def test_other_arguments_are_another_question(self, bench: Bench) -> None:
        """An approval of the first is no approval of the second."""
        bench.feed.push(ASKED)
        first = bench.requests()[0]
        bench.feed.push({**ASKED, "args": {"path": "/"}})
        states = {request.id: request.state for request in bench.requests()}
        assert "superseded" == states[first.id]
        assert [] == bench.answers

    @pytest.mark.parametrize(("deleted", "state"), [("sess-1", "cancelled"), ("sess-2", "awaiting-approval"), (None, "awaiting-approval")])
    def test_a_deleted_session_withdraws_what_it_asked(self, bench: Bench, deleted: str | None, state: str) -> None:
        """Its turn gets no terminal event, and its tool waits no longer; another session's question stays."""
        approval = {"tool_name": "rm", "arguments": {}, "tool_call_id": "c1"}
        raw = {"type": "userinputrequired", "data": {"request_id": "q1", "questions": [], "tool_approval": approval}}
        place = {"session_id": "sess-1", "turn_id": "t1"}
        with Feed(active_now(), "dreadnode", "s", bench.respond) as feed:
            feed.push({"kind": "turn.started", **place, "payload": {}})
            feed.push({"kind": "prompt.required", **place, "payload": {"event_type": "userinputrequired", "raw_event": raw}})
            feed.push({"kind": "session.deleted", "payload": {"session_id": deleted}})
            assert [state] == [request.state for request in bench.requests()]

    def test_the_question_of_a_person_who_said_no_there(self, bench: Bench) -> None:
        """What a person answered in that system is told by the call's start, and closes ours."""
        lines = (Path(__file__).with_name("data") / "person_said_no.jsonl").read_text(encoding="utf-8").splitlines()
        kinds = [json.loads(line)["payload"].get("event_type") for line in lines]
        with Feed(active_now(), "dreadnode", "s", bench.respond) as feed:
            for line in lines[: kinds.index("toolstart")]:
                feed.push(json.loads(line))
            assert ["awaiting-approval"] == [request.state for request in bench.requests()]
            for line in lines[kinds.index("toolstart") : kinds.index("reactstep")]:
                feed.push(json.loads(line))
            assert (["cancelled"], []) == ([request.state for request in bench.requests()], bench.answers)

    def test_the_end_of_the_stream_withdraws_what_is_open(self, bench: Bench) -> None:
        """Nobody would hear the answer."""
        bench.feed.push(ASKED)
        bench.feed.close()
        assert ["cancelled"] == [request.state for request in bench.requests()]


class TestSpans:
    @pytest.mark.parametrize(("approved", "name"), [(True, "approval approved rm"), (False, "approval denied rm")])
    def test_our_answer_is_on_the_span_of_the_question(self, tmp_path: Path, approved: bool, name: str) -> None:
        """Also where their stream has no word of it before its end."""
        exporter, provider = InMemorySpanExporter(), TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(exporter))
        (tmp_path / "policy.yaml").write_text(POLICY, encoding="utf-8")
        settings = Settings(policy=(tmp_path / "policy.yaml",), state=tmp_path / "state.db", otlp="off")
        with build_runtime(settings, tracer_provider=provider) as runtime, runtime.use():
            service = open_approvals(settings)
            made = Bench(runtime, active_now(), service)
            made.feed.push(ASKED)
            service.answer(made.requests()[0].id, approver="os:alice", approved=approved)
            made.until(lambda: bool(made.answers))
            # What the answer changes is written by the thread that handed it back.
            made.feed.close()
            made.feed.push({"type": "end"})
            service.close()
            service.database.close()
        assert name in [span.name for span in exporter.get_finished_spans()]


class SlowDesk:
    """A desk whose answer is on its way while the other side answers."""

    def __init__(self) -> None:
        self.theirs = threading.Event()
        self.claims: list[str] = []
        self.withdrawn: list[str] = []

    def judge(self, question: Question) -> Judged | None:
        return None

    def open(self, question: Question) -> str:
        return question.id

    def wait(self, request_id: str, timeout_s: float) -> Verdict | None:
        self.theirs.wait(60)
        return "approved"

    def claim(self, request_id: str) -> bool:
        self.claims.append(request_id)
        return True

    def finish(self, request_id: str, *, delivered: bool) -> None:
        """Nothing to record."""

    def withdraw(self, request_id: str, why: str) -> None:
        """Too late where it was answered."""
        self.withdrawn.append(request_id)


class TestRace:
    def test_an_answer_that_comes_second_is_neither_claimed_nor_handed_back(self) -> None:
        """Their timeout and our approval at once: the first takes the question from the table."""
        desk, answers = SlowDesk(), list[str]()
        asking = Asking(desk, lambda question, verdict: answers.append(verdict))
        facts = {"event.source": "a3s", "run.id": "r", "approval.id": "q", "tool.name": "rm"}
        asking.observe(TraceEvent("approval.request", "approval", attributes=facts))
        assert 1 == asking.open_questions
        asking.observe(TraceEvent("approval.decision", "approval", attributes={**facts, "approval.outcome": "expired"}))
        desk.theirs.set()
        asking.close()
        assert ([], [], 0) == (answers, desk.claims, asking.open_questions)


class TestLimits:
    def test_a_question_that_cannot_be_kept_is_told_of(self, caplog: pytest.LogCaptureFixture) -> None:
        """One without an id, and one too many: somebody waits there, and nobody here would know."""
        desk = SlowDesk()
        asking = Asking(desk, lambda *_: None)
        facts = {"event.source": "a3s", "run.id": "r", "tool.name": "rm"}
        for number in (*range(257), ""):
            asking.observe(TraceEvent("approval.request", "approval", attributes={**facts, "approval.id": str(number)}))
        assert (256, ["256"]) == (asking.open_questions, desk.withdrawn)
        assert "came while 256 others were open" in caplog.text
        assert "has no id" in caplog.text
        desk.theirs.set()
        asking.close()


class SlowRules:
    """A desk whose rules take as long as the test wants, per path; they allow only `/home` and want people for `/tmp/x`."""

    def __init__(self) -> None:
        self.said = {path: threading.Event() for path in ("/home", "/tmp/x", "/")}
        self.judged: list[str] = []
        self.withdrawn: list[str] = []

    def judge(self, question: Question) -> Judged:
        path = str(question.arguments["path"])
        self.said[path].wait(60)
        terms = ApprovalTerms((Requirement("r", ("anyone",)),), 60.0)
        decisions = {"/home": Decision("allow", "", "r"), "/tmp/x": Decision("require-approval", "", "r", approval=terms)}
        return Judged(decisions.get(path, Decision("deny", "", "r")), lambda _: self.judged.append(path))

    def open(self, question: Question) -> str:
        return str(question.arguments["path"])

    def wait(self, request_id: str, timeout_s: float) -> Verdict | None:
        return "approved"

    def claim(self, request_id: str) -> bool:
        return True

    def finish(self, request_id: str, *, delivered: bool) -> None:
        """Nothing to record."""

    def withdraw(self, request_id: str, why: str) -> None:
        self.withdrawn.append(request_id)
        self.judged.append(request_id)


class TestSlowRules:
    @pytest.mark.parametrize("first", ["/home", "/tmp/x"])
    def test_a_decision_on_other_arguments_answers_nothing(self, first: str) -> None:
        """Asked again while the rules still looked at the first arguments: only what they say of the second is handed back."""
        desk, answers = SlowRules(), list[tuple[object, Verdict]]()
        asking = Asking(desk, lambda question, verdict: answers.append((question.arguments["path"], verdict)), judges=True)
        facts = {"event.source": "a3s", "run.id": "r", "approval.id": "q", "tool.name": "rm"}
        for path in (first, "/"):
            asking.observe(TraceEvent("approval.request", "approval", attributes={**facts, "approval.arguments": {"path": path}}))
        desk.said[first].set()
        limit = time.monotonic() + 60
        while first not in desk.judged and not answers and time.monotonic() < limit:
            time.sleep(0.01)
        assert ([], 1, [first] if first == "/tmp/x" else []) == (answers, asking.open_questions, desk.withdrawn)
        desk.said["/"].set()
        while not answers and time.monotonic() < limit:
            time.sleep(0.01)
        asking.close()
        assert [("/", "denied")] == answers

    def test_another_tool_is_another_question(self) -> None:
        """The arguments alone do not say what was asked."""
        desk, answers = SlowRules(), list[tuple[str, Verdict]]()
        asking = Asking(desk, lambda question, verdict: answers.append((question.tool, verdict)), judges=True)
        facts = {"event.source": "a3s", "run.id": "r", "approval.id": "q", "approval.arguments": {"path": "/home"}}
        for tool in ("ls", "rm"):
            asking.observe(TraceEvent("approval.request", "approval", attributes={**facts, "tool.name": tool}))
        desk.said["/home"].set()
        limit = time.monotonic() + 60
        while not answers and time.monotonic() < limit:
            time.sleep(0.01)
        asking.close()
        assert [("rm", "approved")] == answers


class TestDecisions:
    def test_a_foreign_denial_is_recorded_as_theirs(self, bench: Bench) -> None:
        """The audit names the system that decided; no rule of ours is blamed."""
        bench.feed.push({"type": "permission_denied", "tool_id": "c1", "tool_name": "rm", "args": {}, "reason": "no"})
        entries: list[str] = []

        def recorded() -> bool:
            with bench.service.database.reading() as connection:
                entries[:] = [str(row[0]) for row in connection.execute("SELECT payload FROM audit_events WHERE kind = 'decision'")]
            return bool(entries)

        bench.until(recorded)
        assert '"code":"events.a3s"' in entries[0].replace(" ", "")


RULES = """version: 1
default: allow
rules:
  - id: no-root
    tool: rm
    args: {path: {eq: /}}
    decision: deny
    reason: the root stays
  - id: ask-first
    tool: rm
    args: {path: {eq: /tmp/x}}
    decision: require-approval
    approval: {approvers: [anyone]}
    reason: somebody looks
"""


@pytest.fixture
def ruled(tmp_path: Path) -> Iterator[Bench]:
    """A runtime whose policy decides what a3s asks permission for."""
    (tmp_path / "policy.yaml").write_text(RULES, encoding="utf-8")
    settings = Settings(policy=(tmp_path / "policy.yaml",), state=tmp_path / "state.db", otlp="off")
    with build_runtime(settings) as runtime, runtime.use():
        active = current_active()
        assert isinstance(active, Active)
        service = open_approvals(settings)
        made = Bench(runtime, active, service)
        made.feed.close()
        made.feed = Feed(active, "a3s", "s", made.respond, decide=True)
        made.feed.push({"type": "start"})
        yield made
        made.feed.close()
        service.close()
        service.database.close()


class TestRulesFirst:
    @pytest.mark.parametrize(("path", "verdict", "value"), [("/home", "approved", "allow"), ("/", "denied", "deny")])
    def test_what_the_rules_say_is_answered_at_once(self, ruled: Bench, path: str, verdict: Verdict, value: str) -> None:
        """Nobody is asked, and a refusal is in the audit as ours."""
        ruled.feed.push({**ASKED, "args": {"path": path}})
        ruled.until(lambda: bool(ruled.answers))
        assert ([("c1", verdict)], []) == (ruled.answers, ruled.requests())
        (decision,) = ruled.decisions
        assert (value, "no-root" if value == "deny" else None) == (decision.value, decision.rule)
        with ruled.service.database.reading() as connection:
            rows = [str(row[0]) for row in connection.execute("SELECT payload FROM audit_events WHERE kind = 'decision'")]
        # A plain allow leaves its mark on the span and the metric only.
        assert (value == "deny", 1) == (bool(rows), len(rows) or 1)

    def test_what_they_want_people_for_is_put_to_people(self, ruled: Bench) -> None:
        """With the rule's own terms, and the answer goes back."""
        ruled.feed.push(ASKED)
        ruled.until(lambda: bool(ruled.requests()))
        (request,) = ruled.requests()
        assert ("ask-first", []) == (request.rule, ruled.answers)
        ruled.service.answer(request.id, approver="os:alice", approved=True)
        ruled.until(lambda: bool(ruled.answers))
        assert [("c1", "approved")] == ruled.answers

    def test_people_are_not_asked_longer_than_they_wait_there(self, ruled: Bench) -> None:
        """Whatever time the rule gives: an answer would reach nobody."""
        ruled.feed.push({**ASKED, "timeout_ms": 100})
        ruled.until(lambda: ["cancelled"] == [request.state for request in ruled.requests()])
        assert [] == ruled.answers

    def test_asked_again_for_other_arguments(self, ruled: Bench) -> None:
        """The second question is decided for itself."""
        ruled.feed.push(ASKED)
        ruled.until(lambda: bool(ruled.requests()))
        ruled.feed.push({**ASKED, "args": {"path": "/"}})
        ruled.until(lambda: bool(ruled.answers))
        assert [("c1", "denied")] == ruled.answers
        ruled.until(lambda: ["cancelled"] == [request.state for request in ruled.requests()])

    def test_a_responder_is_needed(self, ruled: Bench) -> None:
        """A decision that nobody hears would look like one that holds."""
        with ruled.runtime.use(), pytest.raises(rt.RuntimeStateError, match="needs `respond`"):
            rt.feed(source="a3s", decide=True)

    def test_a_policy_is_needed(self) -> None:
        """Where nothing decides, asking for a decision is an error, not a warning."""
        runtime = build_runtime(Settings(otlp="off"))
        with runtime.use(), pytest.raises(rt.RuntimeStateError, match="needs a policy"):
            rt.feed(source="a3s", respond=lambda *_: None, decide=True)
        runtime.shutdown()

    def test_a_decision_that_fails_is_a_denial(
        self, ruled: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Policy fails closed for foreign calls too."""
        monkeypatch.setattr(ForeignDesk, "_decide", lambda *_: 1 / 0)
        ruled.feed.push({**ASKED, "args": {"path": "/home"}})
        ruled.until(lambda: bool(ruled.answers))
        assert [("c1", "denied")] == ruled.answers
        assert "it is denied" in caplog.text


class TestOnALoop:
    @pytest.mark.parametrize("through", ["aingest", "awatch"])
    def test_the_end_of_a_stream_waits_for_an_answer_without_holding_the_loop(self, ruled: Bench, through: str) -> None:
        """An answer that is on its way needs the loop, and is there before the stream's end returns."""
        answers: list[Verdict] = []

        async def run() -> list[Verdict]:
            asked = asyncio.Event()

            async def respond(question: Question, verdict: Verdict) -> None:
                asked.set()
                # Long enough for the stream to end meanwhile.
                await asyncio.sleep(0.2)
                answers.append(verdict)

            async def events() -> AsyncIterator[object]:
                yield {"type": "start"}
                yield {**ASKED, "args": {"path": "/home"}}
                await asked.wait()

            if through == "aingest":
                await rt.aingest(events(), source="a3s", respond=respond, decide=True)
            else:
                async for _ in awatch(events(), respond=respond, decide=True):
                    pass
            return list(answers)

        with ruled.runtime.use():
            assert ["approved"] == asyncio.run(run())

    def test_an_answer_that_takes_too_long_is_not_given_later(self, ruled: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
        """It counts as not delivered, and what was reserved for the call is given back: then it must not arrive after all."""
        monkeypatch.setattr(ingesting, "_RESPOND_S", 0.05)

        async def run() -> list[str]:
            arrived = ["not delivered"]

            async def respond(question: Question, verdict: Verdict) -> None:
                await asyncio.sleep(60)
                arrived.append(verdict)

            async with rt.feed(source="a3s", respond=respond, decide=True) as feed:
                feed.push({"type": "start"})
                feed.push({**ASKED, "args": {"path": "/home"}})
                async with asyncio.timeout(60):
                    # On a busy machine it may be given up before it has begun.
                    while feed._asking is not None and not feed._asking.problems:  # noqa: ASYNC110  # a thread counts them
                        await asyncio.sleep(0.01)
                # What is left of it would arrive after its minute.
                await asyncio.gather(*asyncio.all_tasks() - {asyncio.current_task()}, return_exceptions=True)
            return arrived

        with ruled.runtime.use():
            assert ["not delivered"] == asyncio.run(run())


class TestShutdown:
    def test_open_feeds_are_closed(self, bench: Bench) -> None:
        """Their questions are withdrawn while the store is still there."""
        bench.feed.push(ASKED)
        bench.runtime.shutdown()
        assert ["cancelled"] == [request.state for request in bench.requests()]

    def test_within_its_budget(self, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
        """Whoever is still handing an answer back is waited for no longer than the shutdown may take."""
        waits: list[float] = []
        monkeypatch.setattr(Asking, "close", lambda _, wait_s: waits.append(wait_s))
        bench.runtime.shutdown(0.5)
        assert 1 == len(waits)
        assert waits[0] <= 0.5
