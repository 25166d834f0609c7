"""Limits around approvals and refusals: attempts, tokens, and budgets that change while a call is about to start."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

import otel_runtime as rt
from otel_runtime.policy.protocol import Hold, Start
from otel_runtime.runtime.redeciding import redecide_with

POLICY = """
version: 1
default: allow
tools: {login: {args: {name: str}}}
rules:
  - {id: guesses, tool: login, over: {attempts: 3, by: session, per: 1h}, decision: deny, reason: "Too many guesses."}
  - {id: root, tool: login, args: {name: {eq: root}}, decision: deny}
  - {id: boss, tool: login, args: {name: {eq: boss}}, decision: require-approval, approval: {approvers: ["role:finance"]}}
  - {id: words, kind: model, over: {tokens: 1000, by: session, per: 1h, reserve: 100}, decision: deny, reason: "Enough words."}
"""
REFUNDS = """
version: 1
default: deny
rules:
  - {id: large, tool: refund, decision: require-approval, approval: {approvers: ["role:finance"], edit: [amount]}}
  - {id: day, tool: refund, over: {sum: args.amount, max: 1000, by: all, per: 1d}, decision: DECISION, reason: "Enough for today."MORE}
"""
ASKS = ', approval: {approvers: ["user:zoe"]}'
RAN: list[Any] = []


@pytest.fixture(autouse=True)
def _nothing_ran() -> None:
    RAN.clear()


@rt.tool
def login(name: str) -> str:
    """Log in."""
    RAN.append(name)
    return name


@rt.tool
def refund(amount: int) -> int:
    """Pay back."""
    RAN.append(amount)
    return amount


@rt.tool("refund")
async def refund_later(amount: list[int]) -> int:
    """Pay back."""
    RAN.append(amount[0])
    return amount[0]


def asked(world: Any, amount: int = 500) -> str:
    """A refund that somebody approved, and that has not run."""
    with pytest.raises(rt.ApprovalPending) as caught:
        refund(amount)
    world.approvals.answer(caught.value.request_id, approver="os:alice", approved=True)
    return caught.value.request_id


class Facts:
    """The real store, in which something happens the moment a call would begin.

    Args:
        world: The runtime.
        changes: What happens before one beginning after the other.
    """

    def __init__(self, world: Any, *changes: Any) -> None:
        self.real: Any = world.runtime._active.guard.facts
        self.changes = list(changes)
        # One part of a runtime that is in force already.
        object.__setattr__(world.runtime._active.guard, "facts", self)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)

    def begin(self, start: Start, now: Any) -> Hold | None:
        change = self.changes.pop(0) if self.changes else None
        if change == "full":
            # Another call holds all of it at this moment, and gives it back at once.
            return None
        if change is not None:
            change(start, now)
        hold: Hold | None = self.real.begin(start, now)
        return hold


class TestAttempts:
    def test_refused_and_asked_calls_count(self, make_world: Any) -> None:
        """Whatever became of three calls, the fourth is refused."""
        make_world(POLICY)
        with rt.session("s"):
            with pytest.raises(rt.PolicyDenied, match="not allowed"):
                login("root")
            with pytest.raises(rt.ApprovalPending):
                login("boss")
            assert "ann" == login("ann")
            with pytest.raises(rt.PolicyDenied, match="Too many guesses"):
                login("ann")
        assert RAN == ["ann"]

    def test_deciding_is_no_attempt(self, make_world: Any) -> None:
        """`rt.decide` may be asked as often as one likes."""
        make_world(POLICY)
        with rt.session("s"):
            assert ["deny"] * 9 == [rt.decide("login", {"name": "root"}).value for _ in range(9)]
            assert "ann" == login("ann")

    def test_an_approved_call_is_one_attempt(self, make_world: Any) -> None:
        """The third attempt is asked about, others fail meanwhile, and it runs once it is approved."""
        world = make_world(POLICY)
        with rt.session("s"):
            login("ann")
            login("ann")
            with pytest.raises(rt.ApprovalPending) as caught:
                login("boss")
            with pytest.raises(rt.PolicyDenied, match="Too many"):
                login("ann")
        world.approvals.answer(caught.value.request_id, approver="os:alice", approved=True)
        assert "boss" == world.runtime.resume(caught.value.request_id)

    def test_a_refusal_stands_when_it_cannot_be_counted(self, make_world: Any) -> None:
        """A store that fails makes no other error of a denial; a question is not asked."""
        world = make_world(POLICY)

        def broken(_start: Start, _now: Any) -> None:
            raise rt.StoreError("the disk is gone")

        Facts(world, broken, broken)
        with rt.session("s"):
            with pytest.raises(rt.PolicyDenied):
                login("root")
            with pytest.raises(rt.PolicyUnavailable, match="the disk is gone"):
                login("boss")
        assert [] == world.approvals.list()


class TestTokens:
    def test_real_tokens_replace_the_reserve(self, make_world: Any) -> None:
        """Calls run until the tokens they really used are all there is."""
        make_world(POLICY)

        @rt.model("m", provider="openai")
        def think(used: int) -> dict[str, Any]:
            RAN.append(used)
            return {"id": "r", "model": "m", "choices": [], "usage": {"prompt_tokens": used - 1, "completion_tokens": 1}}

        with rt.session("s"):
            for used in (10, 10, 10, 871):
                think(used)
            with pytest.raises(rt.PolicyDenied, match="Enough words"):
                think(1)
        assert RAN == [10, 10, 10, 871]


class TestBudgetsAtTheClaim:
    @pytest.mark.parametrize(("decision", "more"), [("deny", ""), ("require-approval", ASKS), ("retryable-failure", "")])
    def test_room_again(self, make_world: Any, decision: str, more: str) -> None:
        """Where the limit was reached between decision and claim and is free again, the approved call runs."""
        world = make_world(REFUNDS.replace("DECISION", decision).replace("MORE", more))
        request_id = asked(world)
        Facts(world, "full", "full")
        assert 500 == world.runtime.resume(request_id)
        assert "completed" == world.approvals.get(request_id).state

    @pytest.mark.parametrize(("decision", "error"), [("deny", rt.PolicyDenied), ("retryable-failure", rt.RetryableFailure)])
    def test_used_up(self, make_world: Any, decision: str, error: type[Exception]) -> None:
        """Where the limit is reached and stays so, the approval is left unclaimed and can be used when there is room."""
        world = make_world(REFUNDS.replace("DECISION", decision).replace("MORE", ""))
        request_id, other = asked(world, 600), asked(world, 601)
        assert 600 == world.runtime.resume(request_id)
        with pytest.raises(error, match="Enough for today"):
            world.runtime.resume(other)
        assert ("approved", [600]) == (world.approvals.get(other).state, RAN)

    def test_a_claim_that_fails_holds_nothing(self, make_world: Any) -> None:
        """Facts in memory share no transaction with the claim: when that fails, what was reserved for it is free again."""
        world = make_world(REFUNDS.replace("DECISION", "deny").replace("MORE", ""), facts="memory")
        request_id = asked(world, 600)
        database = world.approvals.database

        def away(_start: Start, _now: Any) -> None:
            with database.writing() as connection:
                connection.execute("ALTER TABLE approval_votes RENAME TO away")

        Facts(world, away)
        with pytest.raises(rt.PolicyUnavailable, match="approval_votes"):
            world.runtime.resume(request_id)
        with database.writing() as connection:
            connection.execute("ALTER TABLE away RENAME TO approval_votes")
        assert 600 == world.runtime.resume(request_id)
        assert RAN == [600]

    def test_asked_by_more(self, make_world: Any) -> None:
        """Where the limit asks another person, the approval is replaced by a question to both."""
        world = make_world(REFUNDS.replace("DECISION", "require-approval").replace("MORE", ASKS))
        request_id, other = asked(world, 600), asked(world, 601)

        def spend(_start: Start, _now: Any) -> None:
            # The other refund takes most of the day's sum in the moment before this one begins.
            assert 600 == world.runtime.resume(request_id)

        Facts(world, spend)
        with pytest.raises(rt.ApprovalPending) as caught:
            world.runtime.resume(other)
        replaced = world.approvals.get(other)
        assert ("superseded", [600]) == (replaced.state, RAN)
        wanted = world.approvals.get(caught.value.request_id).terms.requirements
        assert [("role:finance",), ("user:zoe",)] == [need.approvers for need in wanted]

    def test_never_free(self, make_world: Any) -> None:
        """A limit that others take each time ends in a refusal and leaves the approval as it is."""
        world = make_world(REFUNDS.replace("DECISION", "deny").replace("MORE", ""))
        request_id = asked(world)
        Facts(world, *["full"] * 100)
        with pytest.raises(rt.PolicyUnavailable, match="faster than it can be reserved"):
            world.runtime.resume(request_id)
        assert ("approved", []) == (world.approvals.get(request_id).state, RAN)

    def test_edited_under_a_limit(self, make_world: Any) -> None:
        """An approver can change what a limit counts; it is the changed call that counts."""
        world = make_world(REFUNDS.replace("DECISION", "deny").replace("MORE", ""))
        with pytest.raises(rt.ApprovalPending) as caught:
            refund(900)
        redecide = redecide_with(world.runtime.policy.engine, world.runtime._active.clock)
        with pytest.raises(rt.OtelRuntimeError, match="Enough for today"):
            world.approvals.answer(caught.value.request_id, approver="os:alice", approved=True, edits={"amount": 1001}, redecide=redecide)
        world.approvals.answer(caught.value.request_id, approver="os:alice", approved=True, edits={"amount": 300}, redecide=redecide)
        assert 300 == world.runtime.resume(caught.value.request_id)
        assert 700 == world.runtime.resume(asked(world, 700))


class TestChangedMeanwhile:
    def test_while_the_claim_is_written(self, make_world: Any) -> None:
        """Arguments that another task changes while the claim is written are not run."""
        world = make_world(
            "version: 1\ndefault: deny\nrules:\n  - {id: large, tool: refund, decision: require-approval, approval: {approvers: [anyone]}}\n",
            wait_at_most=100,
        )
        amount = [500]
        approvals = world.runtime._active.guard.approvals

        class Meddling:
            def __getattr__(self, name: str) -> Any:
                return getattr(approvals, name)

            def claim(self, *given: Any) -> Any:
                claimed = approvals.claim(*given)
                amount[0] = 5_000_000
                return claimed

        object.__setattr__(world.runtime._active.guard, "approvals", Meddling())

        def approve() -> None:
            while not (waiting := approvals.list(["awaiting-approval"])):
                time.sleep(0.01)
            approvals.answer(waiting[0].id, approver="os:alice", approved=True)

        async def program() -> None:
            call = asyncio.ensure_future(refund_later(amount))
            await asyncio.to_thread(approve)
            await call

        with pytest.raises(rt.ArgumentsChanged):
            asyncio.run(program())
        assert ([], ["failed"]) == (RAN, [request.state for request in approvals.list()])
