"""Taking a label off a session: recorded, seen in the trace, refused without a reason, undone by the next start."""

from __future__ import annotations

import asyncio
import json
from datetime import datetime
from typing import Any

import pytest

import otel_runtime as rt
from otel_runtime.errors import PolicyDenied, RuntimeStateError, StoreError
from otel_runtime.policy.protocol import FactsView, Needs
from otel_runtime.values.trace import TraceEvent
from otel_runtime.wrap.active import Active, Guard, current_active


@rt.tool
def fetch(url: str) -> str:
    """Bring text in from outside."""
    return f"text of {url}"


@rt.tool
def mail(to: str, body: str) -> str:
    """Send something out."""
    return f"sent to {to}"


def guard_in_force() -> Guard:
    active = current_active()
    assert isinstance(active, Active)
    assert active.guard is not None
    return active.guard


class TestDeclassify:
    """`session.declassify(label, why)`."""

    def test_opens_what_the_label_closed(self, world: Any) -> None:
        """What the label forbade runs once it is off, and is forbidden again when a tool puts the label back on."""
        with rt.session("s", user="carla") as session:
            fetch("http://a.example")
            with pytest.raises(PolicyDenied):
                mail("bob@corp.example", "hi")
            session.declassify("untrusted", "Carla read the page.")
            assert "sent to bob@corp.example" == mail("bob@corp.example", "hi")
            fetch("http://b.example")
            with pytest.raises(PolicyDenied):
                mail("bob@corp.example", "hi")

    def test_is_in_the_audit_log(self, world: Any) -> None:
        """The record says who took which label off which session and why, what had put it there, and stays sound."""
        with rt.session("s", user="carla") as session, rt.agent("clerk"):
            fetch("http://a.example")
            session.declassify("untrusted", "  Carla read the page. ")
        (event,) = [event for event in world.approvals.audit.events() if event.kind == "session.declassified"]
        payload = json.loads(event.payload)
        said = {key: payload[key] for key in ("label", "why", "user", "agents", "sources")}
        assert {"label": "untrusted", "why": "Carla read the page.", "user": "carla", "agents": ["clerk"], "sources": ["fetch"]} == said
        assert ("s", True) == (event.subject, payload["trace_id"] is not None)
        assert world.approvals.audit.verify().sound

    def test_is_on_the_span_around(self, world: Any) -> None:
        """The running operation's span carries the event."""
        with rt.session("s") as session, rt.agent("clerk"):
            fetch("http://a.example")
            session.declassify("untrusted", "Carla read the page.")
        (event,) = [event for event in world.one("invoke_agent clerk").events if event.name == "otel_runtime.session.declassified"]
        assert {
            "otel_runtime.session.label": "untrusted",
            "otel_runtime.session.why": "Carla read the page.",
        } == dict(event.attributes)

    def test_observers_are_told(self, world: Any) -> None:
        """A trace observer sees it as an event of the policy, outside of every span too."""
        seen: list[TraceEvent] = []
        world.runtime.on("trace")(lambda event, _context: seen.append(event))
        with rt.session("s") as session:
            fetch("http://a.example")
            session.declassify("untrusted", "Carla read the page.")
        world.runtime.flush()
        (event,) = [event for event in seen if event.name == "session.declassified"]
        told = (event.type, event.attributes["session.id"], event.attributes["session.label"], event.attributes["session.why"])
        assert ("policy", "s", "untrusted", "Carla read the page.") == told

    @pytest.mark.parametrize(
        ("label", "why", "said"),
        [
            ("untrusted", "", "expected the reason"),
            ("untrusted", "   ", "expected the reason"),
            ("untrusted", None, "expected the reason"),
            ("untrusted", "x" * 1001, "at most 1000"),
            ("unthrusted", "checked", "does not carry the label `unthrusted`; it carries `untrusted`"),
            ("no label", "checked", "expected the name of a label"),
            ("", "checked", "expected the name of a label"),
        ],
    )
    def test_refused(self, world: Any, label: str, why: str, said: str) -> None:
        """Without a reason, or for a label the session does not carry, nothing is recorded and nothing comes off."""
        with rt.session("s") as session:
            fetch("http://a.example")
            with pytest.raises(ValueError, match=said):
                session.declassify(label, why)
            with pytest.raises(PolicyDenied):
                mail("bob@corp.example", "hi")
        assert [] == [event for event in world.approvals.audit.events() if event.kind == "session.declassified"]

    def test_other_sessions_keep_theirs(self, world: Any) -> None:
        """A label comes off the one session that is named."""
        with rt.session("other"):
            fetch("http://a.example")
        with rt.session("s") as session:
            fetch("http://a.example")
            session.declassify("untrusted", "Carla read the page.")
        with rt.session("other"), pytest.raises(PolicyDenied):
            mail("bob@corp.example", "hi")

    def test_an_inherited_label_comes_off_where_it_is(self, world: Any) -> None:
        """A sub-agent's session cannot shed what its caller's session carries."""
        with rt.session("outer") as outer, rt.agent("first"):
            fetch("http://a.example")
            with rt.session("inner") as inner:
                with pytest.raises(ValueError, match="from the sessions around it \\(`outer`\\); take it off there"):
                    inner.declassify("untrusted", "looks fine")
                outer.declassify("untrusted", "Carla read the page.")
                assert "sent to bob@corp.example" == mail("bob@corp.example", "hi")

    def test_in_asynchronous_code(self, world: Any) -> None:
        """`adeclassify` does the same without keeping the event loop waiting."""

        async def run() -> str:
            async with rt.session("s") as session:
                fetch("http://a.example")
                await session.adeclassify("untrusted", "Carla read the page.")
                with pytest.raises(ValueError, match="it carries none"):
                    await session.adeclassify("untrusted", "once more")
                return mail("bob@corp.example", "hi")

        assert "sent to bob@corp.example" == asyncio.run(run())

    def test_without_a_policy(self, traced: Any) -> None:
        """Where nothing decides there are no labels, and that is said."""
        with rt.session("s") as session, pytest.raises(RuntimeStateError, match="no policy is configured"):
            session.declassify("untrusted", "checked")

    def test_unknown_labels_stay(self, world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        """Where the labels of the session are not known, none comes off."""
        facts = guard_in_force().facts

        def peek(_needs: Needs, _now: datetime) -> FactsView:
            return FactsView(failure="the disk is away")

        with rt.session("s") as session:
            fetch("http://a.example")
            monkeypatch.setattr(facts, "peek", peek)
            with pytest.raises(StoreError, match="the disk is away"):
                session.declassify("untrusted", "checked")

    def test_what_cannot_be_recorded_stays(self, world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        """A record that fails keeps the label on."""
        with rt.session("s") as session:
            fetch("http://a.example")

            def full(*_args: object) -> int:
                raise StoreError("the disk is full")

            monkeypatch.setattr(guard_in_force().decisions, "declassified", full)
            with pytest.raises(StoreError, match="the disk is full"):
                session.declassify("untrusted", "checked")
            with pytest.raises(PolicyDenied):
                mail("bob@corp.example", "hi")
