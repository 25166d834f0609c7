"""One request through its states, one process at a time."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from otel_runtime.approvals import store
from otel_runtime.approvals.answers import AnswerRefused, Redecided, decision_of
from otel_runtime.approvals.encoding import CannotEncode
from otel_runtime.approvals.ledger import RowChanged
from otel_runtime.approvals.protocol import Approvals, Ask, Claim, ClaimRefused
from otel_runtime.approvals.service import ApprovalService
from otel_runtime.errors import RuntimeStateError, StoreError
from otel_runtime.values.action import Unreadable
from otel_runtime.values.approval import ApprovalRequest
from otel_runtime.values.decision import ApprovalTerms, Decision, Requirement
from otel_runtime.values.trace import TraceRef

MakeAsk = Callable[..., Ask]


def claim(service: Approvals, request: ApprovalRequest) -> Claim | ClaimRefused:
    return service.claim(request.id, request.call_digest, request.requirement_digest)


def refused(service: Approvals, request: ApprovalRequest) -> str:
    outcome = claim(service, request)
    assert isinstance(outcome, ClaimRefused)
    return outcome.why


def opened(service: Approvals, ask: Ask) -> ApprovalRequest:
    return service.open(ask)[0]


def state(service: Approvals, request: ApprovalRequest) -> str:
    found = service.get(request.id)
    assert found is not None
    return found.state


def why(service: ApprovalService, request: ApprovalRequest, approver: str, *, approved: bool = True, **more: Any) -> str:
    with pytest.raises(AnswerRefused) as caught:
        service.answer(request.id, approver=approver, approved=approved, **more)
    return caught.value.why


class TestOpen:
    def test_keeps_everything(self, service: ApprovalService, make_ask: MakeAsk, clock: Any) -> None:
        """The stored request gives back exactly the values that were asked about."""
        args = {
            "n": 1, "f": 1.0, "b": True, "s": "1", "d": Decimal("1.10"), "y": b"\x00\xff", "t": (1, [2]), "none": None, "big": 2**70,
            "at": datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC), "$tuple": {"$x": 1, "y": "\ud800"}, "o": Unreadable("pkg.Type", "opaque"),
        }  # fmt: skip
        ask = replace(make_ask(args), trace=TraceRef("a" * 32, "b" * 16, True))
        request, new = service.open(ask)
        found = service.get(request.id)
        assert found is not None
        assert (True, request) == (new, found)
        assert args == found.input
        assert {name: type(value) for name, value in args.items()} == {name: type(value) for name, value in found.input.items()}
        assert (ask.decision.approval, ask.facts, ask.trace) == (found.terms, found.facts, found.trace)
        assert (clock.now, clock.now + timedelta(hours=1), 32) == (found.requested_at, found.expires_at, len(found.id))
        assert ("awaiting-approval", "dave", ("support",), "p.yaml:3", None) == (
            found.state,
            found.user,
            found.agents,
            found.place,
            found.decided_at,
        )

    def test_what_cannot_be_stored_is_refused_first(self, service: ApprovalService, make_ask: MakeAsk) -> None:
        """A value without an exact text form stores nothing, and the error names its place."""
        with pytest.raises(CannotEncode, match=r"`args\.items\[1\]`"):
            service.open(make_ask({"items": [1, object()]}))
        assert [] == service.list()

    def test_nobody_to_ask(self, service: ApprovalService, make_ask: MakeAsk) -> None:
        """A decision without terms cannot become a question."""
        with pytest.raises(RuntimeStateError, match="names nobody to ask"):
            service.open(replace(make_ask(), decision=Decision("allow", "fine")))

    def test_trace_of_the_question(self, service: ApprovalService, make_ask: MakeAsk) -> None:
        """The span of the question is remembered beside the span that asked."""
        request = opened(service, replace(make_ask(), trace=TraceRef("a" * 32, "b" * 16)))
        service.attach_trace(request.id, TraceRef("a" * 32, "c" * 16, True))
        found = service.get(request.id)
        assert found is not None
        assert (TraceRef("a" * 32, "b" * 16), TraceRef("a" * 32, "c" * 16, True)) == (found.trace, found.requested_span)


class TestDedupe:
    def test_restarted_agent(self, house: Any, make_ask: MakeAsk) -> None:
        """The same call of the same run finds its open request again, also from another process."""
        first, _ = house.service().open(make_ask(key="r1/c1"))
        second, new = house.service().open(make_ask(key="r1/c1"))
        assert (first.id, False) == (second.id, new)

    def test_without_a_key(self, service: ApprovalService, make_ask: MakeAsk) -> None:
        """Without a key every question is a new one."""
        assert opened(service, make_ask()).id != opened(service, make_ask()).id

    def test_used_is_never_found(self, service: ApprovalService, make_ask: MakeAsk) -> None:
        """An approval that was used does not serve the same call again."""
        first = opened(service, make_ask(key="k", explicit=True))
        service.answer(first.id, approver="os:alice", approved=True)
        assert isinstance(claim(service, first), Claim)
        second, new = service.open(make_ask(key="k", explicit=True))
        assert (True, "awaiting-approval") == (new, second.state)

    @pytest.mark.parametrize("explicit", [True, False])
    def test_denied(self, service: ApprovalService, make_ask: MakeAsk, explicit: bool) -> None:
        """A denial is found again only when the provider's call id says it is the same call."""
        first = opened(service, make_ask(key="k", explicit=explicit))
        service.answer(first.id, approver="os:alice", approved=False)
        second, new = service.open(make_ask(key="k", explicit=explicit))
        assert (explicit, not explicit) == (first.id == second.id, new)

    def test_other_arguments_under_the_same_key(self, service: ApprovalService, make_ask: MakeAsk) -> None:
        """A key that comes back with another call never inherits the answer: the old question is superseded."""
        first = opened(service, make_ask(key="k"))
        service.answer(first.id, approver="os:alice", approved=True)
        second, new = service.open(make_ask({"amount": 9999}, key="k"))
        assert (True, "awaiting-approval", first.id, "superseded") == (new, second.state, second.supersedes, state(service, first))

    def test_other_terms(self, service: ApprovalService, make_ask: MakeAsk) -> None:
        """An unanswered question under terms that changed is replaced; a changed reason changes nothing."""
        first = opened(service, make_ask(key="k"))
        reworded = ApprovalTerms((Requirement("refund.large", ("role:finance",), 1, "other words"),), 3600.0)
        assert first.id == opened(service, make_ask(key="k", terms=reworded)).id
        assert first.id == opened(service, make_ask(key="k", quorum=2)).supersedes


class TestAnswer:
    def test_one_yes(self, service: ApprovalService, make_ask: MakeAsk, clock: Any) -> None:
        """An entitled yes approves, and says who, when and why."""
        request = opened(service, make_ask())
        clock.step(minutes=1)
        answer = service.answer(request.id, approver="os:alice", approved=True, reason="fine")
        decision = decision_of(answer.request)
        assert decision is not None
        expected = (True, "approved", clock.now, "fine", "os:alice")
        assert expected == (decision.approved, decision.state, decision.decided_at, decision.reason, decision.approver)

    def test_one_no_is_enough(self, service: ApprovalService, make_ask: MakeAsk) -> None:
        """With a quorum of three, one denial denies."""
        request = opened(service, make_ask(quorum=3))
        service.answer(request.id, approver="os:alice", approved=True)
        service.answer(request.id, approver="os:bob", approved=False)
        assert ("denied", "state") == (state(service, request), refused(service, request))

    def test_quorum_counts_people(self, service: ApprovalService, make_ask: MakeAsk) -> None:
        """One person on two surfaces is one person."""
        request = opened(service, make_ask(quorum=2))
        first = service.answer(request.id, approver="os:alice", approved=True)
        again = service.answer(request.id, approver="token:alice", approved=True)
        assert ({"refund.large": 1}, {"refund.large": 1}) == (first.missing, again.missing)
        assert (False, True) == (first.repeated, again.repeated)
        assert "approved" == service.answer(request.id, approver="os:bob", approved=True).request.state

    def test_every_requirement(self, service: ApprovalService, make_ask: MakeAsk) -> None:
        """Several rules: each needs its own votes; one person may count for more than one."""
        both = ApprovalTerms((Requirement("money", ("role:finance",), 2), Requirement("lead", ("role:lead",), 1)), 60.0)
        request = opened(service, make_ask(terms=both))
        assert {"money": 1, "lead": 1} == service.answer(request.id, approver="os:alice", approved=True).missing
        assert "approved" == service.answer(request.id, approver="os:bob", approved=True).request.state

    def test_two_requirements_of_one_name(self, service: ApprovalService, make_ask: MakeAsk) -> None:
        """What is said to be missing is the larger number, whichever engine asked first."""
        both = ApprovalTerms((Requirement("money", ("role:finance",), 3), Requirement("money", ("role:lead",), 1)), 60.0)
        request = opened(service, make_ask(terms=both))
        assert {"money": 2} == service.answer(request.id, approver="os:alice", approved=True).missing

    def test_not_entitled(self, service: ApprovalService, make_ask: MakeAsk) -> None:
        """Neither a stranger nor an empty name may answer, yes or no."""
        request = opened(service, make_ask())
        assert {"entitled"} == {why(service, request, who, approved=yes) for who in ("os:eve", "os:", "") for yes in (True, False)}
        assert "awaiting-approval" == state(service, request)

    @pytest.mark.parametrize("approver", ["os:alice", "alice", "os:ALICE", "os:\uff41lice"])
    def test_own_call(self, service: ApprovalService, make_ask: MakeAsk, approver: str) -> None:
        """The person a call acts for cannot approve it, in whatever spelling; not even by `anyone` or by name."""
        request = opened(service, make_ask(user="alice", approvers=("role:finance", "anyone", "user:alice")))
        assert "entitled" == why(service, request, approver)

    def test_acting_user(self, service: ApprovalService, make_ask: MakeAsk) -> None:
        """Where the rule says `acting-user`, exactly that person may confirm."""
        request = opened(service, make_ask(user="dave", approvers=("acting-user",)))
        assert ("entitled", "entitled") == (why(service, request, "os:bob"), why(service, request, "os:Dave"))
        assert "approved" == service.answer(request.id, approver="os:dave", approved=True).request.state

    def test_acting_user_unknown(self, service: ApprovalService, make_ask: MakeAsk) -> None:
        """With nobody known as the acting user, nobody is it."""
        assert "entitled" == why(service, opened(service, make_ask(user=None, approvers=("acting-user",))), "os:None")

    def test_losers_are_told(self, service: ApprovalService, make_ask: MakeAsk) -> None:
        """Whoever comes second learns who was first, and nothing changes."""
        request = opened(service, make_ask())
        service.answer(request.id, approver="os:alice", approved=True)
        with pytest.raises(AnswerRefused, match="`os:alice` answered first") as caught:
            service.answer(request.id, approver="os:bob", approved=False)
        assert ("state", "approved", "os:alice") == (caught.value.why, caught.value.state, caught.value.winner)

    def test_the_same_again(self, service: ApprovalService, make_ask: MakeAsk) -> None:
        """Saying the same again is taken as said, also after the decision and after the use."""
        request = opened(service, make_ask())
        service.answer(request.id, approver="os:alice", approved=True)
        assert service.answer(request.id, approver="os:alice", approved=True).repeated
        claim(service, request)
        assert service.answer(request.id, approver="os:alice", approved=True).repeated
        assert "state" == why(service, request, "os:alice", approved=False)
        assert 1 == len([event for event in service.audit.events(request.id) if event.kind == "approval.answered"])

    def test_missing(self, service: ApprovalService) -> None:
        """An id that is none, or no id at all, is refused."""
        for request_id in ("0" * 32, "' OR 1=1 --", "\ud800", ""):
            with pytest.raises(AnswerRefused) as caught:
                service.answer(request_id, approver="os:alice", approved=True)
            assert "missing" == caught.value.why

    def test_role_taken_away_before_the_quorum(self, house: Any, make_ask: MakeAsk) -> None:
        """A vote of somebody who lost the role meanwhile no longer counts."""
        request = opened(house.service(), make_ask(quorum=2))
        house.service().answer(request.id, approver="os:alice", approved=True)
        later = house.service({"alice": frozenset(), "bob": frozenset({"finance"}), "carla": frozenset({"finance"})})
        assert {"refund.large": 1} == later.answer(request.id, approver="os:bob", approved=True).missing
        assert "approved" == later.answer(request.id, approver="os:carla", approved=True).request.state

    def test_role_taken_away_before_the_use(self, house: Any, make_ask: MakeAsk) -> None:
        """An approval given by somebody who lost the role is not executable."""
        request = opened(house.service(), make_ask())
        house.service().answer(request.id, approver="os:alice", approved=True)
        assert "votes" == refused(house.service({"alice": frozenset()}), request)


class TestTime:
    def test_late_by_a_millisecond(self, service: ApprovalService, make_ask: MakeAsk, clock: Any) -> None:
        """At the moment of expiry it is too late, a microsecond before it is not."""
        early, late = opened(service, make_ask()), opened(service, make_ask())
        clock.step(hours=1, microseconds=-1)
        service.answer(early.id, approver="os:alice", approved=True)
        clock.step(milliseconds=1)
        assert ("expired", "expired") == (why(service, late, "os:alice"), state(service, late))

    def test_clock_stepped_back(self, house: Any, make_ask: MakeAsk) -> None:
        """What expired stays expired, also after a restart with an earlier clock."""
        request = opened(house.service(), make_ask())
        house.clock.step(hours=2)
        assert "expired" == state(house.service(), request)
        house.clock.step(hours=-2)
        later = house.service()
        assert ("expired", "expired", "expired") == (state(later, request), why(later, request, "os:alice"), refused(later, request))

    def test_expired_while_nobody_looked(self, house: Any, make_ask: MakeAsk) -> None:
        """A late answer to a request that no read had marked yet is refused, and the expiry is stored."""
        request = opened(house.service(), make_ask())
        house.clock.step(hours=1)
        assert "expired" == why(house.service(), request, "os:alice")
        house.clock.step(hours=-1)
        assert "expired" == state(house.service(), request)

    def test_use_within(self, service: ApprovalService, make_ask: MakeAsk, clock: Any) -> None:
        """Approved at the last moment it may still be used for `use_within`, and not after."""
        used, unused = (opened(service, make_ask(use_within_s=60)) for _ in range(2))
        clock.step(hours=1, microseconds=-1)
        for request in (used, unused):
            service.answer(request.id, approver="os:alice", approved=True)
        clock.step(seconds=59)
        assert isinstance(claim(service, used), Claim)
        clock.step(seconds=1)
        assert ("expired", "expired") == (refused(service, unused), state(service, unused))

    def test_without_use_within(self, service: ApprovalService, make_ask: MakeAsk, clock: Any) -> None:
        """Without `use_within` an approval ends with the request."""
        request = opened(service, make_ask())
        service.answer(request.id, approver="os:alice", approved=True)
        clock.step(hours=1)
        assert "expired" == refused(service, request)

    def test_claim_at_a_given_time(self, service: ApprovalService, make_ask: MakeAsk, clock: Any) -> None:
        """The caller's own time of decision binds the claim."""
        request = opened(service, make_ask())
        service.answer(request.id, approver="os:alice", approved=True)
        outcome = service.claim(request.id, request.call_digest, request.requirement_digest, clock.now + timedelta(hours=1))
        assert isinstance(outcome, ClaimRefused)
        assert "expired" == outcome.why

    def test_decision_of_an_expired_request(self, service: ApprovalService, make_ask: MakeAsk, clock: Any) -> None:
        """An expiry is a decision without an approver; an open question is none yet."""
        request = opened(service, make_ask())
        assert decision_of(request) is None
        clock.step(hours=1)
        found = service.get(request.id)
        assert found is not None
        decision = decision_of(found)
        assert decision is not None
        assert (False, "expired", None, "nobody answered in time") == (
            decision.approved,
            decision.state,
            decision.approver,
            decision.reason,
        )


class TestClaim:
    def test_once(self, service: ApprovalService, make_ask: MakeAsk) -> None:
        """The first claim runs, the second does not."""
        request = opened(service, make_ask())
        service.answer(request.id, approver="os:alice", approved=True)
        first = claim(service, request)
        assert isinstance(first, Claim)
        assert ("executing", "state") == (first.request.state, refused(service, request))

    def test_another_call(self, service: ApprovalService, make_ask: MakeAsk) -> None:
        """An approval of A never runs B, and stays usable for A."""
        request = opened(service, make_ask())
        service.answer(request.id, approver="os:alice", approved=True)
        other = service.claim(request.id, make_ask({"amount": 9}).call_digest, request.requirement_digest)
        assert isinstance(other, ClaimRefused)
        assert "digest" == other.why
        assert isinstance(claim(service, request), Claim)

    def test_other_terms(self, service: ApprovalService, make_ask: MakeAsk) -> None:
        """Votes given under other terms do not count."""
        request = opened(service, make_ask())
        service.answer(request.id, approver="os:alice", approved=True)
        outcome = service.claim(request.id, request.call_digest, "0" * 64)
        assert isinstance(outcome, ClaimRefused)
        assert "votes" == outcome.why

    def test_unanswered_and_missing(self, service: ApprovalService, make_ask: MakeAsk) -> None:
        """Nothing runs that nobody approved or nobody asked."""
        request = opened(service, make_ask())
        assert ("state", "missing") == (refused(service, request), refused(service, replace(request, id="0" * 32)))

    @pytest.mark.parametrize("outcome", ["completed", "failed"])
    def test_finish(self, service: ApprovalService, make_ask: MakeAsk, outcome: Any) -> None:
        """The end of the body is recorded once; later reports change nothing."""
        request = opened(service, make_ask())
        with pytest.raises(RuntimeStateError, match="never claimed"):
            service.finish(request.id, outcome)
        service.answer(request.id, approver="os:alice", approved=True)
        claim(service, request)
        service.finish(request.id, outcome)
        service.finish(request.id, "failed")
        assert outcome == state(service, request)
        assert service.audit.verify().sound


class TestReplace:
    def test_supersede(self, service: ApprovalService, make_ask: MakeAsk) -> None:
        """A request whose terms no longer hold is replaced by one that is linked; doing it twice gives the same."""
        old = opened(service, make_ask())
        service.answer(old.id, approver="os:alice", approved=True)
        new = service.supersede(old.id, make_ask(quorum=2))
        again = service.supersede(old.id, make_ask(quorum=2))
        assert (old.id, "superseded", new.id, "state") == (new.supersedes, state(service, old), again.id, refused(service, old))

    def test_supersede_what_ended(self, service: ApprovalService, make_ask: MakeAsk) -> None:
        """A denial stays a denial."""
        old = opened(service, make_ask())
        service.answer(old.id, approver="os:alice", approved=False)
        assert (old.id, "denied") == ((same := service.supersede(old.id, make_ask())).id, same.state)
        with pytest.raises(StoreError, match="no approval request"):
            service.supersede("0" * 32, make_ask())

    def test_cancel(self, service: ApprovalService, make_ask: MakeAsk) -> None:
        """A question can be withdrawn while it is open, and not after the answer."""
        waiting, answered = opened(service, make_ask()), opened(service, make_ask())
        service.answer(answered.id, approver="os:alice", approved=True)
        states = [request.state if (request := service.cancel(each.id, "not needed")) else None for each in (waiting, answered)]
        assert (["cancelled", "approved"], None) == (states, service.cancel("0" * 32, ""))
        assert "state" == why(service, waiting, "os:alice")


class TestEdits:
    def redecide(self, make_ask: MakeAsk, decision: Decision | None = None) -> Any:
        def decide(request: ApprovalRequest, edits: Any) -> Redecided:
            ask = make_ask({**request.input, **edits}, edit=("amount",))
            return Redecided(ask.action.args, ask.call_digest, decision or ask.decision)

        return decide

    def test_new_digest_and_only_the_editors_vote(self, service: ApprovalService, make_ask: MakeAsk) -> None:
        """An edit makes another call: earlier votes are void, the editor's counts, the old call can no longer run."""
        request = opened(service, make_ask(quorum=2, edit=("amount",), key="k"))
        service.answer(request.id, approver="os:alice", approved=True)

        def decide(old: ApprovalRequest, edits: Any) -> Redecided:
            ask = make_ask({**old.input, **edits}, quorum=2, edit=("amount",))
            return Redecided(ask.action.args, ask.call_digest, ask.decision)

        answer = service.answer(request.id, approver="os:bob", approved=True, edits={"amount": 200}, redecide=decide)
        edited = answer.request
        assert (["os:bob"], {"refund.large": 1}, {"order": "A-1", "amount": 200}) == (
            [vote.approver for vote in edited.votes],
            answer.missing,
            edited.input,
        )
        assert request.call_digest == edited.edited_from != edited.call_digest
        assert request.id == opened(service, make_ask(quorum=2, edit=("amount",), key="k")).id
        service.answer(request.id, approver="os:carla", approved=True)
        assert "digest" == refused(service, request)
        assert isinstance(claim(service, edited), Claim)

    def test_traces_stay(self, service: ApprovalService, make_ask: MakeAsk) -> None:
        """An edit keeps where the question came from and where it was asked."""
        asker, question = TraceRef("a" * 32, "b" * 16), TraceRef("a" * 32, "c" * 16)
        request = opened(service, replace(make_ask(edit=("amount",)), trace=asker))
        service.attach_trace(request.id, question)
        edited = service.answer(request.id, approver="os:bob", approved=True, edits={"amount": 1}, redecide=self.redecide(make_ask)).request
        assert ("approved", asker, question, request.facts) == (edited.state, edited.trace, edited.requested_span, edited.facts)

    def test_edited_back(self, service: ApprovalService, make_ask: MakeAsk) -> None:
        """Votes voided by an edit stay void when the call is edited back."""
        request = opened(service, make_ask(quorum=2, edit=("amount",)))
        service.answer(request.id, approver="os:alice", approved=True)

        def decide(old: ApprovalRequest, edits: Any) -> Redecided:
            ask = make_ask({**old.input, **edits}, quorum=2, edit=("amount",))
            return Redecided(ask.action.args, ask.call_digest, ask.decision)

        service.answer(request.id, approver="os:bob", approved=True, edits={"amount": 1}, redecide=decide)
        answer = service.answer(request.id, approver="os:bob", approved=True, edits={"amount": 250}, redecide=decide)
        assert ["os:bob"] == [vote.approver for vote in answer.request.votes]
        assert (request.call_digest, "awaiting-approval") == (answer.request.call_digest, answer.request.state)

    def test_refusals(self, service: ApprovalService, make_ask: MakeAsk) -> None:
        """Only named fields, only with a yes, only what policy lets pass, and nothing else on the side."""
        request = opened(service, make_ask(edit=("amount",)))
        decide = self.redecide(make_ask)

        def on_the_side(old: ApprovalRequest, edits: Any) -> Redecided:
            ask = make_ask({**old.input, **edits, "order": "B-2"})
            return Redecided(ask.action.args, ask.call_digest, ask.decision)

        denied = self.redecide(make_ask, Decision("deny", "too much"))
        found = [
            why(service, request, "os:alice", edits={"order": "B"}, redecide=decide),
            why(service, request, "os:alice", approved=False, edits={"amount": 1}, redecide=decide),
            why(service, request, "os:alice", edits={"amount": 1}),
            why(service, request, "os:alice", edits={"amount": 1}, redecide=denied),
            why(service, request, "os:alice", edits={"amount": 1}, redecide=on_the_side),
            why(service, request, "os:eve", edits={"amount": 1}, redecide=decide),
        ]
        assert ["edit", "edit", "edit", "policy", "changed", "entitled"] == found
        assert request == service.get(request.id)

    def test_edited_meanwhile(self, service: ApprovalService, make_ask: MakeAsk) -> None:
        """An edit of a call that somebody else edited at the same time is refused."""
        request = opened(service, make_ask(quorum=2, edit=("amount",)))

        def decide(old: ApprovalRequest, edits: Any) -> Redecided:
            ask = make_ask({**old.input, **edits}, quorum=2, edit=("amount",))
            return Redecided(ask.action.args, ask.call_digest, ask.decision)

        def slow(old: ApprovalRequest, edits: Any) -> Redecided:
            service.answer(request.id, approver="os:bob", approved=True, edits={"amount": 1}, redecide=decide)
            return decide(old, edits)

        assert "changed" == why(service, request, "os:alice", edits={"amount": 2}, redecide=slow)


class TestByHand:
    """Whoever can write the file but has no key."""

    def change(self, service: ApprovalService, sql: str) -> None:
        connection = sqlite3.connect(service.database.path)
        connection.executescript(sql)
        connection.commit()
        connection.close()

    @pytest.mark.parametrize(
        "sql",
        [
            "UPDATE approval_requests SET state = 'approved', decided_us = 1",
            "UPDATE approval_requests SET due_us = due_us + 1",
            "UPDATE approval_requests SET call_digest = '00'",
            "UPDATE approval_requests SET question = replace(question, '250', '999')",
            "UPDATE approval_requests SET question = 'x', question_mac = x'00', state_mac = x'00'",
            "UPDATE approval_requests SET revision = 0",
            "UPDATE approval_requests SET state_mac = NULL WHERE 0; UPDATE approval_requests SET state_mac = 'text'",
        ],
    )
    def test_an_edited_row_is_not_executable(self, service: ApprovalService, make_ask: MakeAsk, sql: str) -> None:
        """No change by hand makes a row run, be answered or be shown as if it were ours."""
        request = opened(service, make_ask())
        self.change(service, sql)
        assert ("authentication", "authentication", []) == (refused(service, request), why(service, request, "os:alice"), service.list())
        assert [request.id] == service.damaged()
        with pytest.raises(RowChanged):
            service.get(request.id)

    def test_forged_vote(self, service: ApprovalService, make_ask: MakeAsk) -> None:
        """A vote copied from another request, or written by hand, spoils the request instead of counting."""
        request, other = opened(service, make_ask(quorum=2)), opened(service, make_ask(quorum=2))
        service.answer(request.id, approver="os:alice", approved=True)
        service.answer(other.id, approver="os:bob", approved=True)
        self.change(service, f"UPDATE approval_votes SET request = '{request.id}' WHERE request = '{other.id}'")
        assert "authentication" == why(service, request, "os:carla")
        assert "authentication" == refused(service, request)

    def test_void_votes_brought_back(self, service: ApprovalService, make_ask: MakeAsk) -> None:
        """A vote voided by an edit does not count again when its row is moved to the edited call by hand."""
        request = opened(service, make_ask(quorum=2, edit=("amount",)))
        service.answer(request.id, approver="os:alice", approved=True)

        def decide(old: ApprovalRequest, edits: Any) -> Redecided:
            ask = make_ask({**old.input, **edits}, quorum=2, edit=("amount",))
            return Redecided(ask.action.args, ask.call_digest, ask.decision)

        # The values stay the same, so only the revision tells the calls apart.
        service.answer(request.id, approver="os:bob", approved=True, edits={"amount": 250}, redecide=decide)
        self.change(service, "UPDATE approval_votes SET revision = 2")
        assert "authentication" == why(service, request, "os:carla")

    def test_votes_taken_away(self, service: ApprovalService, make_ask: MakeAsk) -> None:
        """An approved row whose votes are gone is not executable."""
        request = opened(service, make_ask())
        service.answer(request.id, approver="os:alice", approved=True)
        self.change(service, "DELETE FROM approval_votes")
        assert "votes" == refused(service, request)

    def test_an_older_copy_of_the_row(self, service: ApprovalService, make_ask: MakeAsk) -> None:
        """A used row set back to a whole earlier copy, seals and all, is still used."""
        request = opened(service, make_ask())
        service.answer(request.id, approver="os:alice", approved=True)
        self.change(service, "CREATE TABLE copy AS SELECT * FROM approval_requests")
        assert isinstance(claim(service, request), Claim)
        self.change(service, "DELETE FROM approval_requests; INSERT INTO approval_requests SELECT * FROM copy")
        assert ("approved", "authentication") == (state(service, request), refused(service, request))


class TestConditionalWrite:
    """The write itself, without the checks around it."""

    def test_one_winner(self, service: ApprovalService, make_ask: MakeAsk) -> None:
        """A row that changed since it was read, or that is due, is not changed."""
        request = opened(service, make_ask())
        with service.database.writing() as connection:
            row = store.load(connection, request.id)
            assert row is not None
            denied, approved = replace(row, state="denied"), replace(row, state="approved")
            won = [
                store.move(connection, row, denied, row.due_us),
                store.move(connection, replace(row, call_digest="other"), denied, None),
                store.move(connection, replace(row, revision=7), denied, None),
                store.move(connection, row, denied, row.due_us - 1),
                store.move(connection, row, approved, None),
            ]
        assert [False, False, False, True, False] == won


class TestReading:
    def test_sql_in_filters(self, service: ApprovalService, make_ask: MakeAsk) -> None:
        """Filters are values, never statements."""
        request = opened(service, make_ask())
        hostile: Any = "x') OR ('1'='1"
        with pytest.raises(ValueError, match="expected states out of"):
            service.list((hostile,))
        assert ([], [], [request.id]) == (service.find("' OR 1=1"), service.find("%"), service.find(request.id[:8]))
        assert service.get("' OR '1'='1") is None

    def test_list(self, service: ApprovalService, make_ask: MakeAsk, clock: Any) -> None:
        """Newest first, by state, limited, with due ones marked expired first."""
        requests = []
        for _ in range(3):
            requests.append(opened(service, make_ask(expires_s=100)).id)
            clock.step(seconds=10)
        assert requests[::-1] == [request.id for request in service.list()]
        assert requests[:0:-1] == [request.id for request in service.list(limit=2)]
        clock.step(seconds=75)
        assert [requests[0]] == [request.id for request in service.list(("expired",))]
        assert requests[:0:-1] == [request.id for request in service.list(("awaiting-approval",))]

    def test_payload_is_never_unpickled(self, service: ApprovalService, make_ask: MakeAsk) -> None:
        """Text that looks like a pickle or a tag of ours is only text."""
        hostile = {"p": b"cos\nsystem\n(S'exit 1'\ntR.", "t": '{"$decimal":"1"}', "d": {"$datetime": "x"}, "py/object": "os.system"}
        found = service.get(opened(service, make_ask(hostile)).id)
        assert found is not None
        assert hostile == found.input
