"""Every event that Claude Code documents: each is accepted, none is stopped, and the trace says what happened where."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from otel_runtime.integrations.claude_code import Answer, Hooks
from otel_runtime.integrations.claude_code_rules import Rules, rules_for
from otel_runtime.integrations.claude_code_session import Closed, Session, Sessions
from otel_runtime.settings.loading import load_settings
from otel_runtime.settings.model import Settings
from otel_runtime.testing.receiver import OtlpReceiver

ROOT = Path(__file__).parents[2]
EVENTS: list[dict[str, Any]] = [
    json.loads(line) for line in (ROOT / "tests/integrations/data/claude_code/every_event.jsonl").read_text().splitlines()
]
# https://code.claude.com/docs/en/hooks
DOCUMENTED = """
    SessionStart Setup InstructionsLoaded UserPromptSubmit UserPromptExpansion MessageDisplay PreToolUse PermissionRequest PermissionDenied
    PostToolUse PostToolUseFailure PostToolBatch Notification SubagentStart SubagentStop TaskCreated TaskCompleted TeammateIdle Stop
    StopFailure ConfigChange CwdChanged DirectoryAdded FileChanged WorktreeCreate WorktreeRemove PreCompact PostCompact PreModelSwitch
    PostModelSwitch Elicitation ElicitationResult SessionEnd
""".split()
POLICY = """
version: 1
default: deny
context: {agent_type: "str?", effort: "str?", mcp_source: "str?"}
rules:
  - {id: look, tool: [Bash, Agent, WebFetch], decision: allow}
  - {id: explorers-read, tool: Bash, agent: Explore, args: {command: {search: "rm "}}, decision: deny}
  - {id: own-servers, tool: "mcp:*:*", context: {mcp_source: {eq: project}}, decision: allow}
  - {id: writes, tool: Write, decision: require-approval, approval: {approvers: [anyone]}}
"""


class Host:
    """One project whose events are answered in this process, one clock tick (a second) apart."""

    def __init__(self, here: Path) -> None:
        self.sessions = Sessions(here / "sessions")
        self.now = 1_800_000_000_000_000_000
        self.hooks = Hooks(self.sessions, self.settings, self.rules, clock=lambda: self.now)

    def settings(self) -> Settings:
        return load_settings()

    def rules(self, tool: str) -> Rules:
        return rules_for(tool, self.settings, keep=False)

    def tell(self, event: dict[str, Any]) -> Answer:
        self.now += 1_000_000_000
        return self.hooks.answer(json.dumps(event).encode())

    def session(self, id: str) -> Session:
        with self.sessions.opened(id, self.now) as state:
            return state

    def closed(self, id: str) -> list[Closed]:
        return [Closed(**span) for span in self.session(id).closed]


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    (tmp_path / ".git").mkdir()
    (tmp_path / "policy.yaml").write_text(POLICY)
    (tmp_path / "otel-runtime.yaml").write_text('policy: policy.yaml\notlp: "off"\n')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OTEL_METRICS_EXPORTER", "none")
    return Host(tmp_path)


def event(name: str, at: int = 0, **changes: object) -> dict[str, Any]:
    return {**[item for item in EVENTS if item["hook_event_name"] == name][at], **changes}


def decision(answer: Answer) -> str:
    return str(json.loads(answer.out)["hookSpecificOutput"]["permissionDecision"])


class TestEveryEvent:
    """All that the host may ask or say."""

    def test_all_are_tried_here(self) -> None:
        """One recorded event of each documented name."""
        assert (33, set(DOCUMENTED)) == (len(DOCUMENTED), {item["hook_event_name"] for item in EVENTS})

    @pytest.mark.parametrize("name", sorted({*DOCUMENTED, "SomethingNew"} - {"PreToolUse"}))
    def test_is_let_pass(self, host: Host, name: str) -> None:
        """Exit code 0 and no output, so no text gets into the conversation and nothing is decided."""
        given = event("Stop", hook_event_name=name) if name == "SomethingNew" else event(name)
        answer = host.tell(given)
        assert ("", 0) == (answer.out, answer.code)
        assert name.startswith("Worktree") == bool(answer.err)

    @pytest.mark.parametrize("name", sorted({*DOCUMENTED, "SomethingNew"}))
    def test_without_its_own_fields_does_no_harm(self, host: Host, name: str) -> None:
        """Fields of another type or none at all: only a tool is blocked for that."""
        bare = {"session_id": "s", "hook_event_name": name}
        strange = {**event(name if name in DOCUMENTED else "Stop"), "hook_event_name": name}
        strange = {key: value if key in ("session_id", "hook_event_name") else [{"x": 1}] for key, value in strange.items()}
        for given in (bare, strange):
            assert (2 if name == "PreToolUse" else 0) == host.tell(given).code

    def test_one_whose_hook_must_do_the_work(self, host: Host) -> None:
        """A worktree that nobody made is the host's error; ours says where it comes from."""
        assert "remove otel-runtime from it" in host.tell(event("WorktreeCreate")).err

    def test_a_new_one_is_on_the_trace(self, host: Host) -> None:
        """As a moment of the turn, or of the session outside of one."""
        host.tell(event("Stop", hook_event_name="SomethingNew"))
        host.tell(event("UserPromptSubmit"))
        host.tell(event("Stop", hook_event_name="SomethingNewer"))
        state = host.session(EVENTS[0]["session_id"])
        assert ["SomethingNew"] == [note[0] for note in state.notes]
        assert state.turn is not None
        assert ["SomethingNewer"] == [note[0] for note in state.turn["notes"]]


class TestWholeSession:
    """The recorded session, told to one receiver."""

    @pytest.fixture
    def spans(self, host: Host, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
        with OtlpReceiver() as receiver:
            for name, value in {**receiver.environ, "OTEL_RUNTIME_FLUSH_TIMEOUT": "60s"}.items():
                monkeypatch.setenv(name, value)
            Path("otel-runtime.yaml").write_text("policy: policy.yaml\n")
            for given in EVENTS:
                answer = host.tell(given)
                assert 0 == answer.code, answer.err
            assert host.hooks.write(EVENTS[0]["session_id"])
            found = receiver.wait_for(10, 60)
        assert 10 == len(found), [span.name for span in found]
        spans: dict[str, Any] = {}
        for span in found:
            spans[span.name if span.name not in spans else f"{span.name} again"] = span
        return spans

    def test_is_one_tree(self, spans: dict[str, Any]) -> None:
        """A sub-agent's tools hang under the sub-agent, it and the others under the turn, the turns under the session."""
        root, turn, agent = (
            spans[name] for name in ("invoke_workflow claude-code session", "invoke_agent claude-code", "invoke_agent Explore")
        )
        assert ("", root.span_id, turn.span_id) == (root.parent_id, turn.parent_id, agent.parent_id)
        assert {agent.span_id} == {spans["execute_tool Bash"].parent_id}
        inner = ["execute_tool Agent", "execute_tool mcp:github:create_issue", "policy deny WebFetch", "execute_tool Write"]
        assert {turn.span_id} == {spans[name].parent_id for name in inner}
        assert root.span_id == spans["invoke_agent claude-code again"].parent_id
        assert "Explore" == spans["execute_tool Bash"].attributes["gen_ai.agent.name"]

    def test_says_how_each_ended(self, spans: dict[str, Any]) -> None:
        """A failure, a refusal by the host, one by a person, a limit of the provider."""
        assert "tool_error" == spans["execute_tool mcp:github:create_issue"].attributes["error.type"]
        refused = spans["policy deny WebFetch"].attributes
        assert ("deny", "host.permission", None) == tuple(
            refused.get(f"otel_runtime.policy.{name}") for name in ("decision", "code", "rule")
        )
        assert "cancelled" == spans["execute_tool Write"].attributes["otel_runtime.outcome"]
        assert "rate_limit" == spans["invoke_agent claude-code again"].attributes["error.type"]

    def test_a_tool_is_as_long_as_it_ran(self, spans: dict[str, Any]) -> None:
        """The host says how long: people who were asked first are not part of it."""
        assert 1_000_000 == spans["execute_tool Bash"].end_ns - spans["execute_tool Bash"].start_ns
        assert 7_000_000_000 == spans["execute_tool Agent"].end_ns - spans["execute_tool Agent"].start_ns

    def test_names_the_model(self, spans: dict[str, Any]) -> None:
        """The one that was switched to."""
        assert "claude-opus-5[1m]" == spans["invoke_agent claude-code"].attributes["gen_ai.request.model"]

    def test_no_content_leaves(self, host: Host) -> None:
        """Not from any field of any event, neither on spans nor on their moments; the host's own words do."""
        Path("otel-runtime.yaml").write_text('policy: policy.yaml\notlp: "off"\ntrace_file: trace.jsonl\n')
        for given in EVENTS:
            host.tell(given)
        assert host.hooks.write(EVENTS[0]["session_id"])
        said = Path("trace.jsonl").read_text()
        assert [] == [word for word in ("ecret", "ls -la", "notes.txt", "/home/dev", "tidy") if word in said]
        for word in ("PermissionRequest", "permission_prompt", "auto", "project_settings", "prompt_input_exit", "startup", "Elicitation"):
            assert f'"{word}"' in said


class TestSubagents:
    """What a sub-agent does."""

    def test_counts_for_the_policy(self, host: Host) -> None:
        """Rules see it in the chain of callers, behind the host."""
        inner = event("PreToolUse", 1, tool_input={"command": "rm -r x"})
        outer = {key: value for key, value in inner.items() if key not in ("agent_id", "agent_type")}
        assert ["deny", "allow"] == [decision(host.tell(given)) for given in (inner, outer)]

    def test_that_ends_ends_its_tools(self, host: Host) -> None:
        """What it ran when it was stopped is not open for ever."""
        for given in (event("SubagentStart"), event("PreToolUse", 1), event("SubagentStop")):
            host.tell(given)
        tool, agent = host.closed(EVENTS[0]["session_id"])
        assert [("tool", "Bash", "cancelled"), ("agent", "Explore", None)] == [
            (span.kind, span.name, span.facts.get("outcome")) for span in (tool, agent)
        ]
        assert tool.parent == agent.span

    def test_that_begins_again_is_the_same(self, host: Host) -> None:
        """A sub-agent that is resumed while it runs has one span."""
        for given in (event("SubagentStart"), event("SubagentStart"), event("SubagentStop")):
            host.tell(given)
        assert ["agent"] == [span.kind for span in host.closed(EVENTS[0]["session_id"])]

    def test_outlives_the_turn(self, host: Host) -> None:
        """One in the background goes on after the answer, and ends with the session at the latest."""
        for name in ("UserPromptSubmit", "SubagentStart", "Stop"):
            host.tell(event(name))
        assert ["a7f3"] == list(host.session(EVENTS[0]["session_id"]).agents)
        host.tell(event("SessionEnd"))
        assert ("agent", "cancelled") == next(
            (span.kind, span.facts.get("outcome")) for span in host.closed(EVENTS[0]["session_id"]) if span.kind == "agent"
        )


class TestSending:
    """A process that sends spans is in the way of the hooks right after it."""

    def test_is_not_after_every_tool(self, host: Host) -> None:
        """At most every five seconds, and what is left at the end of the turn."""
        refused = event("PreToolUse", 4)
        writes = [host.tell(given).write for given in [refused] * 7]
        assert ["soon", "no", "no", "no", "no", "soon", "no"] == writes
        assert ["no", "now"] == [host.tell(event(name)).write for name in ("PostToolUse", "Stop")]
        assert 8 == len(host.closed(EVENTS[0]["session_id"]))

    def test_is_never_for_an_allow(self, host: Host) -> None:
        """It has no span yet."""
        assert "no" == host.tell(event("PreToolUse", 1)).write


class TestContext:
    """What a policy may ask of the host."""

    def test_of_a_server(self, host: Host) -> None:
        """Who configured it: a server of a plugin is not one of the project."""
        asked = event("PreToolUse", 2)
        foreign = {**asked, "mcp_server": {"name": "github", "source": "plugin"}}
        silent = {key: value for key, value in asked.items() if key != "mcp_server"}
        assert ["allow", "deny", "deny"] == [decision(host.tell(given)) for given in (asked, foreign, silent)]


class TestTools:
    """Tools whose end is not an ordinary one."""

    @pytest.mark.parametrize(("interrupt", "expected"), [(True, ("cancelled", None)), (False, (None, "tool_error"))])
    def test_interrupted_by_a_person_is_no_error(self, host: Host, interrupt: bool, expected: tuple[str | None, str | None]) -> None:
        """The host says which it was."""
        host.tell(event("PostToolUseFailure", is_interrupt=interrupt))
        (span,) = host.closed(EVENTS[0]["session_id"])
        assert expected == (span.facts.get("outcome"), span.facts.get("error"))

    @pytest.mark.parametrize("took", [None, "12", -1, True, 1e300, {"x": 1}])
    def test_a_strange_duration_is_none(self, host: Host, took: object) -> None:
        """Then it is the time between the two events."""
        host.tell(event("PreToolUse", 1))
        host.tell(event("PostToolUse", duration_ms=took))
        (span,) = host.closed(EVENTS[0]["session_id"])
        assert 1_000_000_000 == span.end - span.start

    def test_a_long_duration_does_not_begin_before_it_was_let(self, host: Host) -> None:
        """A tool cannot have begun before the event that let it run."""
        host.tell(event("PreToolUse", 1))
        host.tell(event("PostToolUse", duration_ms=86_400_000))
        (span,) = host.closed(EVENTS[0]["session_id"])
        assert 1_000_000_000 == span.end - span.start
