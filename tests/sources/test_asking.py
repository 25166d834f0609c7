"""Foreign questions at the real store: one answer wins."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import otel_runtime as rt
from otel_runtime.approvals.service import ApprovalService
from otel_runtime.runtime.build import build_runtime, open_approvals
from otel_runtime.runtime.ingesting import Feed
from otel_runtime.runtime.runtime import Runtime
from otel_runtime.settings.model import Settings
from otel_runtime.sources.asking import Asking, Question, Verdict
from otel_runtime.values.approval import ApprovalRequest
from otel_runtime.values.trace import TraceEvent
from otel_runtime.wrap.active import Active, current_active

POLICY = "version: 1\ndefault: allow\nrules:\n  - id: none\n    tool: nothing\n    decision: deny\n    reason: unused\n"
ASKED = {"type": "confirmation_required", "tool_id": "c1", "tool_name": "rm", "args": {"path": "/tmp/x"}, "timeout_ms": 60_000}


class Bench:
    def __init__(self, runtime: Runtime, active: Active, service: ApprovalService) -> None:
        self.runtime = runtime
        self.service = service
        self.answers: list[tuple[str, Verdict]] = []
        self.feed = Feed(active, "a3s", "s", self.respond)
        self.feed.push({"type": "start"})

    def respond(self, question: Question, verdict: Verdict) -> None:
        self.answers.append((question.id, verdict))

    def requests(self) -> list[ApprovalRequest]:
        return self.service.list()

    def until(self, done: Callable[[], bool]) -> None:
        limit = time.monotonic() + 10
        while not done() and time.monotonic() < limit:
            time.sleep(0.01)
        assert done()


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """A runtime with a store, and a feed of a3s events that takes answers."""
    (tmp_path / "policy.yaml").write_text(POLICY, encoding="utf-8")
    settings = Settings(policy=(tmp_path / "policy.yaml",), state=tmp_path / "state.db", otlp="off")
    with build_runtime(settings) as runtime, runtime.use():
        active = current_active()
        assert isinstance(active, Active)
        service = open_approvals(settings)
        made = Bench(runtime, active, service)
        yield made
        made.feed.close()
        service.close()


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
        assert [("confirm-c1", verdict)] == bench.answers

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

    def test_the_end_of_the_stream_withdraws_what_is_open(self, bench: Bench) -> None:
        """Nobody would hear the answer."""
        bench.feed.push(ASKED)
        bench.feed.close()
        assert ["cancelled"] == [request.state for request in bench.requests()]


class SlowDesk:
    """A desk whose answer is on its way while the other side answers."""

    def __init__(self) -> None:
        self.theirs = threading.Event()
        self.claims: list[str] = []

    def open(self, question: Question) -> str:
        return question.id

    def wait(self, request_id: str, timeout_s: float) -> Verdict | None:
        self.theirs.wait(10)
        return "approved"

    def claim(self, request_id: str) -> bool:
        self.claims.append(request_id)
        return True

    def finish(self, request_id: str, *, delivered: bool) -> None:
        """Nothing to record."""

    def withdraw(self, request_id: str, why: str) -> None:
        """Too late: it was answered."""


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
