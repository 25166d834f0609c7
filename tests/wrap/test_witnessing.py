"""Where values were seen: the person's words, the application's facts, tools' results; never a model's own words."""

from __future__ import annotations

from typing import Any

import pytest

import otel_runtime as rt

POLICY = """
version: 1
name: t
default: deny
rules:
  - {id: read, tool: lookup, decision: allow}
  - {id: known, tool: send, args: {to: {origin: [user, config, "tool:lookup"]}}, decision: allow}
"""


@rt.tool
def lookup(name: str) -> dict[str, str]:
    """Find an address."""
    return {"name": name, "mail": "found@corp.example"}


@rt.tool
def send(to: str) -> str:
    """Send a mail."""
    return to


@rt.agent
def helper(request: str, to: str) -> str:
    """Do what the person asks."""
    return send(to)


@rt.agent
def outer(request: str, to: str) -> str:
    """Let another agent do it, in words of a model."""
    return helper(f"please write to {to}", to)


@pytest.mark.otel_runtime(policy_text=POLICY)
class TestOrigin:
    """What a rule with `origin` lets through."""

    def test_the_persons_words_are_known(self, otel_runtime_memory: Any) -> None:
        """An address in the outermost agent's input was named by the person."""
        with rt.session("s1"):
            assert helper("write to bob@corp.example", "bob@corp.example") == "bob@corp.example"

    def test_a_models_words_are_not(self, otel_runtime_memory: Any) -> None:
        """An address that only a tool call of the model names is refused, in a session that saw other words."""
        with rt.session("s1") as session:
            session.user_said("write to bob@corp.example")
            with pytest.raises(rt.PolicyDenied):
                send("eve@evil.example")

    def test_a_sub_agents_input_is_a_models(self, otel_runtime_memory: Any) -> None:
        """What one agent says to another is never the person's."""
        with rt.session("s1"), rt.agent("first"), pytest.raises(rt.PolicyDenied):
            outer("write to my friend", "eve@evil.example")

    def test_user_said_and_facts_and_results_are_known(self, otel_runtime_memory: Any) -> None:
        """Words noted by hand, the application's facts and a named tool's result count as what they are."""
        with rt.session("s1", desk="desk@corp.example") as session:
            session.user_said("and copy ann@corp.example please")
            lookup("Someone")
            assert [send(to) for to in ("ann@corp.example", "desk@corp.example", "found@corp.example")] == [
                "ann@corp.example",
                "desk@corp.example",
                "found@corp.example",
            ]

    def test_words_are_text(self, otel_runtime_memory: Any) -> None:
        """Something else than text is a mistake of the program."""
        with rt.session("s1") as session, pytest.raises(TypeError, match="person's words"):
            session.user_said(5)  # type: ignore[arg-type]  # the mistake under test
