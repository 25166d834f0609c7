"""Labels of a session and of the sub-agents it starts: put on when a body starts, inherited, given back, never by a denied call."""

from __future__ import annotations

from typing import Any

import pytest

import otel_runtime as rt
from otel_runtime.errors import PolicyDenied
from otel_runtime.wrap.active import Active, current_active

POLICY = """
version: 1
name: t
default: deny
tools:
  fetch: {adds: [untrusted], args: {url: str}}
  mail: {args: {to: str}}
rules:
  - {id: fetch, tool: fetch, args: {url: {ne: "http://forbidden.example"}}, decision: allow}
  - {id: mail, tool: mail, decision: allow}
  - {id: mail.tainted, tool: mail, after: {label: untrusted}, decision: deny}
  - {id: known, tool: note, args: {text: {origin: ["tool:find", user]}}, decision: allow}
  - {id: find, tool: find, decision: allow}
  - {id: asked, tool: asked, decision: require-approval, approval: {approvers: [acting-user]}}
"""


@rt.tool
def fetch(url: str) -> str:
    """Bring text in; fails for one page."""
    if url.endswith("broken"):
        raise OSError("the connection broke")
    return f"text of {url}"


@rt.tool
def mail(to: str) -> str:
    """Send something out."""
    return f"sent to {to}"


@rt.tool
def find(who: str) -> str:
    """Look somebody up."""
    return f"{who}@corp.example"


@rt.tool
def note(text: str) -> str:
    """Write something down."""
    return text


@rt.tool
def asked() -> None:
    """Something people must agree to."""


@rt.agent(session="thread")
def worker(thread: str, url: str) -> str:
    """A sub-agent with a session of its own."""
    return fetch(url)


@pytest.fixture
def world(make_world: Any) -> Any:
    return make_world(POLICY)


class TestAdded:
    """When a label comes onto a session."""

    def test_by_a_body_that_fails(self, world: Any) -> None:
        """A fetch that fails midway may have brought text in all the same."""
        with rt.session("s"):
            with pytest.raises(OSError, match="broke"):
                fetch("http://a.example/broken")
            with pytest.raises(PolicyDenied):
                mail("bob@corp.example")

    def test_never_by_a_denied_call(self, world: Any) -> None:
        """A call that did not run brought nothing in."""
        with rt.session("s"):
            with pytest.raises(PolicyDenied):
                fetch("http://forbidden.example")
            assert "sent to bob@corp.example" == mail("bob@corp.example")

    def test_never_by_one_that_is_only_decided(self, world: Any) -> None:
        """`rt.decide` marks nothing."""
        with rt.session("s"):
            assert "allow" == rt.decide("fetch", {"url": "http://a.example"}).value
            assert "sent to bob@corp.example" == mail("bob@corp.example")


class TestSubAgents:
    """Sub-agents, in the session of their caller and in one of their own."""

    def test_in_the_same_session(self, world: Any) -> None:
        """What a sub-agent read marks its caller, and the other way round."""
        with rt.session("s"), rt.agent("outer"):
            with rt.agent("inner"):
                fetch("http://a.example")
            with pytest.raises(PolicyDenied):
                mail("bob@corp.example")
            with rt.agent("inner"), pytest.raises(PolicyDenied):
                mail("bob@corp.example")

    def test_inherited_by_a_session_of_its_own(self, world: Any) -> None:
        """A sub-agent that gets a fresh session does not begin clean."""
        with rt.session("outer"), rt.agent("first"):
            fetch("http://a.example")
            with rt.session("inner"), rt.agent("second"), pytest.raises(PolicyDenied):
                mail("bob@corp.example")

    def test_merged_back_from_a_session_of_its_own(self, world: Any) -> None:
        """What a sub-agent read in its own session marks its caller's, at once, however it ends."""
        with rt.session("outer"), rt.agent("first"):
            with pytest.raises(OSError, match="broke"):
                worker("inner", "http://a.example/broken")
            with pytest.raises(PolicyDenied):
                mail("bob@corp.example")

    def test_through_several_sessions(self, world: Any) -> None:
        """A chain of sessions is marked as a whole."""
        with rt.session("a"), rt.agent("one"):
            with rt.session("b"), rt.agent("two"), rt.session("c"), rt.agent("three"):
                fetch("http://a.example")
            with pytest.raises(PolicyDenied):
                mail("bob@corp.example")

    def test_sessions_beside_each_other(self, world: Any) -> None:
        """Sessions that no operation opened out of each other have nothing in common."""
        with rt.session("a"):
            with rt.session("b"):
                fetch("http://a.example")
            assert "sent to bob@corp.example" == mail("bob@corp.example")

    def test_what_a_sub_agent_found(self, world: Any) -> None:
        """Its caller may use what a tool said in the sub-agent's session; and what the person said holds in it."""
        with rt.session("outer") as outer, rt.agent("first"):
            outer.user_said("note this: 12 o'clock sharp")
            with rt.session("inner"), rt.agent("second"):
                assert "carla@corp.example" == find("carla")
                assert "12 o'clock sharp" == note("12 o'clock sharp")
            assert "carla@corp.example" == note("carla@corp.example")

    def test_after_the_wait_for_a_person(self, world: Any) -> None:
        """A request remembers the sessions around it, so that a call that is resumed elsewhere marks them too."""
        with rt.session("outer", user="carla"), rt.agent("first"), rt.session("inner"), pytest.raises(rt.ApprovalPending) as pending:
            asked()
        active = current_active()
        assert isinstance(active, Active)
        assert active.guard is not None
        request = active.guard.approvals.get(pending.value.request_id)
        assert request is not None
        assert ["outer"] == list(request.facts["around"])  # type: ignore[call-overload]  # authenticated JSON
