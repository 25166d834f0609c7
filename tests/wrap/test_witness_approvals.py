"""What a person who is asked sees of where values come from, and what the answer is decided with."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

import otel_runtime as rt
from otel_runtime.approvals.display import lines, seen_in
from otel_runtime.values.approval import ApprovalRequest
from otel_runtime.web.pages import request_page

POLICY = """
version: 1
name: t
default: require-approval
approval: {approvers: ["role:finance"]}
rules:
  - {id: read, tool: bill, decision: allow}
  - {id: known, tool: pay, args: {payee: {origin: user}}, decision: allow}
"""


@rt.tool
def bill() -> dict[str, str]:
    """Read a bill."""
    return {"account": "FR7630006000011234567890189", "note": "pay FR7630006000011234567890189 <b>now</b>"}


@rt.tool
def pay(payee: str, amount: float) -> str:
    """Pay."""
    return payee


def asked(world: Any, payee: str) -> ApprovalRequest:
    with rt.session("s", user="carla") as session:
        session.user_said("Pay the bill, 98.70.")
        bill()
        with pytest.raises(rt.ApprovalPending) as pending:
            pay(payee, 98.7)
    request = world.approvals.get(pending.value.request_id)
    assert isinstance(request, ApprovalRequest)
    return request


class TestShown:
    """The sources beside the arguments."""

    def test_by_argument(self, make_world: Any) -> None:
        """Each argument says where its values were seen, the field where it was one."""
        request = asked(make_world(POLICY), "FR7630006000011234567890189")
        assert [("payee", "tool:bill/account"), ("amount", "user")] == seen_in(request)
        shown = lines(request, datetime.now(UTC))
        assert "seen in     payee: tool:bill/account" in shown
        assert "seen in     amount: user" in shown

    def test_nowhere(self, make_world: Any) -> None:
        """A value that nobody said is shown as that."""
        assert ("payee", "nowhere") in seen_in(asked(make_world(POLICY), "GB29NWBK60161331926819"))

    def test_on_the_page(self, make_world: Any) -> None:
        """The page in the browser says it too."""
        page = request_page(asked(make_world(POLICY), "FR7630006000011234567890189"), datetime.now(UTC), "alice", "token", {})
        assert "Where its values were seen" in page
        assert "tool:bill/account" in page


class TestDecidedAgain:
    """The answer is used with what was known when it was asked for."""

    def test_approved(self, make_world: Any) -> None:
        """Once approved, the call runs."""
        world = make_world(POLICY)
        request = asked(world, "FR7630006000011234567890189")
        world.approvals.answer(request.id, approver="os:alice", approved=True)
        assert "FR7630006000011234567890189" == world.runtime.resume(request.id)
