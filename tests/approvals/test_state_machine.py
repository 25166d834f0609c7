"""A model of the state machine, written as plainly as possible, against the SQLite store, over random histories."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule

from otel_runtime.approvals.answers import AnswerRefused
from otel_runtime.approvals.protocol import Ask, Claim
from otel_runtime.approvals.schema import MIGRATIONS
from otel_runtime.approvals.service import ApprovalService
from otel_runtime.approvals.terms import requirement_digest
from otel_runtime.errors import RuntimeStateError
from otel_runtime.storage.sqlite import Database
from otel_runtime.values.action import Action
from otel_runtime.values.decision import ApprovalTerms, Decision, Requirement

PEOPLE = {"alice": frozenset({"r"}), "bob": frozenset({"r"}), "carla": frozenset({"r"})}
USE_WITHIN_S = 30
EXPIRES_S = 60


@dataclass
class Model:
    """What a request must be, as a reader of the design page would keep it on paper."""

    digest: str
    quorum: int
    key: str | None
    due: datetime
    state: str = "awaiting-approval"
    yes: set[str] = field(default_factory=set)
    claims: int = 0

    def look(self, now: datetime) -> None:
        if self.state in ("awaiting-approval", "approved") and now >= self.due:
            self.state = "expired"


class Store(RuleBasedStateMachine):
    requests = Bundle("requests")

    @initialize()
    def start(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.now = datetime(2026, 11, 20, tzinfo=UTC)
        self.models: dict[str, Model] = {}
        self.service = self.fresh()

    def fresh(self) -> ApprovalService:
        return ApprovalService(Database(Path(self.folder.name) / "state.db", MIGRATIONS), b"k" * 32, PEOPLE, lambda: self.now)

    def teardown(self) -> None:
        if hasattr(self, "service"):
            sound = self.service.audit.verify().sound
            self.stop()
            self.folder.cleanup()
            assert sound

    def stop(self) -> None:
        self.service.close()
        self.service.database.close()

    @rule(target=requests, quorum=st.integers(1, 2), key=st.sampled_from([None, "a", "b"]), digest=st.sampled_from(["11", "22"]))
    def ask(self, quorum: int, key: str | None, digest: str) -> str:
        terms = ApprovalTerms((Requirement("x", ("role:r",), quorum),), EXPIRES_S, USE_WITHIN_S)
        ask = Ask(
            Action("tool", "t", {"d": digest}, user="dave"), Decision("require-approval", "why", approval=terms), digest, dedupe_key=key
        )
        for model in self.models.values():
            if key is not None and model.key == key:
                model.look(self.now)
        request, new = self.service.open(ask)
        open_twins = {
            i: m for i, m in self.models.items() if key is not None and m.key == key and m.state in ("awaiting-approval", "approved")
        }
        same = [i for i, m in open_twins.items() if m.digest == digest and (m.state == "approved" or m.quorum == quorum)]
        assert (same, not same) == ([request.id] if same else [], new)
        if new:
            for model in open_twins.values():
                model.state = "superseded"
            self.models[request.id] = Model(digest, quorum, key, self.now + timedelta(seconds=EXPIRES_S))
        return request.id

    @rule(request_id=requests, who=st.sampled_from(["alice", "bob", "carla", "dave", "eve"]), yes=st.booleans())
    def answer(self, request_id: str, who: str, yes: bool) -> None:
        model = self.models[request_id]
        model.look(self.now)
        taken = model.state == "awaiting-approval" and who in PEOPLE
        if taken and yes:
            model.yes.add(who)
            if len(model.yes) >= model.quorum:
                model.state, model.due = "approved", self.now + timedelta(seconds=USE_WITHIN_S)
        elif taken:
            model.state = "denied"
            model.yes = {f"no:{who}"}
        repeated = yes and who in model.yes and model.state in ("approved", "executing", "completed", "failed")
        repeated |= not yes and f"no:{who}" in model.yes and model.state == "denied"
        try:
            self.service.answer(request_id, approver=f"os:{who}", approved=yes)
            assert taken or repeated
        except AnswerRefused:
            assert not taken
            assert not repeated

    @rule(request_id=requests, digest=st.sampled_from(["11", "22"]), quorum=st.integers(1, 2))
    def claim(self, request_id: str, digest: str, quorum: int) -> None:
        model = self.models[request_id]
        model.look(self.now)
        terms = ApprovalTerms((Requirement("x", ("role:r",), quorum),), EXPIRES_S, USE_WITHIN_S)
        won = isinstance(self.service.claim(request_id, digest, requirement_digest(terms)), Claim)
        assert (model.state == "approved" and model.digest == digest and model.quorum == quorum) == won
        if won:
            model.state = "executing"
            model.claims += 1

    @rule(request_id=requests, outcome=st.sampled_from(["completed", "failed"]))
    def finish(self, request_id: str, outcome: str) -> None:
        model = self.models[request_id]
        never = model.state in ("awaiting-approval", "approved")
        if never:
            with pytest.raises(RuntimeStateError):
                self.service.finish(request_id, "completed" if outcome == "completed" else "failed")
            return
        self.service.finish(request_id, "completed" if outcome == "completed" else "failed")
        if model.state == "executing":
            model.state = outcome

    @rule(request_id=requests)
    def cancel(self, request_id: str) -> None:
        model = self.models[request_id]
        model.look(self.now)
        if model.state == "awaiting-approval":
            model.state = "cancelled"
        self.service.cancel(request_id, "why")

    @rule(seconds=st.sampled_from([-40, 1, 20, 29, 31, 60]))
    def time_passes(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)

    @rule()
    def restart(self) -> None:
        self.stop()
        self.service = self.fresh()

    @rule()
    def sweep(self) -> None:
        assert [] == self.service.sweep()

    @invariant()
    def agree(self) -> None:
        if not hasattr(self, "service"):
            return
        for request_id, model in self.models.items():
            model.look(self.now)
            found = self.service.get(request_id)
            assert found is not None
            assert model.state == found.state
            assert model.claims <= 1


class TestStateMachine:
    def test_model_and_store_agree(self) -> None:
        """Whatever the order of events, the store is in the state that the page says."""
        from hypothesis.stateful import run_state_machine_as_test

        checks = (HealthCheck.too_slow, HealthCheck.filter_too_much)
        run_state_machine_as_test(
            Store, settings=settings(max_examples=60, stateful_step_count=25, deadline=None, suppress_health_check=checks)
        )
