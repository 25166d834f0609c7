"""`otel-runtime hook claude-code`: one process per event, with recorded events of the documented format."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from otel_runtime.cli.main import main
from otel_runtime.integrations.claude_code_events import tool_name
from otel_runtime.integrations.claude_code_session import Sessions
from otel_runtime.storage.sqlite import Database
from otel_runtime.testing.receiver import OtlpReceiver, ReceivedSpan

ROOT = Path(__file__).parents[2]
EVENTS: list[dict[str, Any]] = [
    json.loads(line) for line in (ROOT / "tests/integrations/data/claude_code/session.jsonl").read_text().splitlines()
]
SESSION: str = EVENTS[0]["session_id"]
POLICY = """
version: 1
name: shop
default: deny
rules:
  - {id: look, tool: Bash, args: {command: {regex: "ls( .*)?"}}, decision: allow}
  - {id: no-rm, tool: Bash, args: {command: {search: "\\\\brm\\\\b"}}, decision: deny, reason: nothing is removed here}
  - {id: writes, tool: Write, decision: require-approval, reason: a person looks at files first, approval: {approvers: [anyone]}}
  - {id: issues, tool: "mcp:github:*", decision: allow}
"""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with a policy; what it traces goes nowhere unless a test says where."""
    (tmp_path / ".git").mkdir()
    (tmp_path / "policy.yaml").write_text(POLICY)
    (tmp_path / "otel-runtime.yaml").write_text('policy: policy.yaml\notlp: "off"\n')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OTEL_METRICS_EXPORTER", "none")
    monkeypatch.delenv("CLAUDE_PROJECT_DIR", raising=False)
    return tmp_path


def event(name: str, at: int = 0, **changes: object) -> dict[str, Any]:
    return {**[item for item in EVENTS if item["hook_event_name"] == name][at], **changes}


def hook(given: object, *words: str) -> tuple[int, dict[str, Any], str]:
    """Exit code, the answer, and standard error of one process."""
    text = given if isinstance(given, str) else json.dumps(given)
    command = [sys.executable, "-m", "otel_runtime", "hook", "claude-code", *words]
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False, timeout=60, env=dict(os.environ))
    answer = json.loads(done.stdout)["hookSpecificOutput"] if done.stdout else {}
    return done.returncode, answer, done.stderr


class TestDecision:
    """Before a tool."""

    @pytest.mark.parametrize(
        ("at", "decision", "said"),
        [
            (0, "allow", "look"),
            (1, "deny", "`Bash` was denied by policy: nothing is removed here (rule `no-rm`)"),
            (2, "ask", "a person looks at files first (rule `writes`)"),
            (3, "allow", "issues"),
        ],
    )
    def test_in_the_hosts_words(self, at: int, decision: str, said: str) -> None:
        """allow, deny and ask, each with its reason."""
        code, answer, err = hook(event("PreToolUse", at))
        assert (0, "PreToolUse", decision) == (code, answer["hookEventName"], answer["permissionDecision"]), err
        assert said in answer["permissionDecisionReason"]

    def test_the_default_decides_what_no_rule_names(self) -> None:
        """A tool nobody thought of is denied by `default: deny`."""
        assert "deny" == hook(event("PreToolUse", tool_name="WebFetch", tool_input={"url": "https://a.example"}))[1]["permissionDecision"]

    def test_an_allow_can_be_left_to_the_host(self) -> None:
        """With --defer-allow the host asks as it would have; a deny is still one."""
        assert (0, {}) == hook(event("PreToolUse"), "--defer-allow")[:2]
        assert "deny" == hook(event("PreToolUse", 1), "--defer-allow")[1]["permissionDecision"]

    def test_shadow_mode_has_no_opinion(self, here: Path) -> None:
        """It neither blocks nor lifts the host's own question."""
        (here / "policy.yaml").write_text(POLICY.replace("default: deny", "default: deny\nmode: shadow"))
        assert (0, {}) == hook(event("PreToolUse", 1))[:2]

    def test_without_a_policy_there_is_no_opinion(self, here: Path) -> None:
        """Traced only."""
        (here / "otel-runtime.yaml").write_text('otlp: "off"\n')
        assert (0, {}, "") == hook(event("PreToolUse", 1))

    def test_not_now_says_when(self, here: Path) -> None:
        """retryable-failure is a deny that says how long to wait."""
        rule = "  - {id: slow, tool: Read, decision: retryable-failure, retry: {after: 5s}, reason: too many}\n"
        (here / "policy.yaml").write_text(POLICY + rule)
        answer = hook(event("PreToolUse", tool_name="Read", tool_input={}))[1]
        assert ("deny", True) == (answer["permissionDecision"], "try again in 5 s" in answer["permissionDecisionReason"])

    def test_limits_hold_across_processes(self, here: Path) -> None:
        """The third call within a minute is one too many, whoever counted the first two; another session has its own."""
        rule = "  - {id: often, tool: Read, decision: allow}\n"
        rule += "  - {id: limit, tool: Read, over: {calls: 2, by: session, per: 1min}, decision: deny}\n"
        (here / "policy.yaml").write_text(POLICY + rule)
        read = event("PreToolUse", tool_name="Read", tool_input={})
        assert ["allow", "allow", "deny"] == [hook(read)[1]["permissionDecision"] for _ in range(3)]
        assert "allow" == hook({**read, "session_id": "another"})[1]["permissionDecision"]

    def test_what_happened_earlier_holds_across_processes(self, here: Path) -> None:
        """A rule that asks what the session did before sees it."""
        rule = "  - {id: reads, tool: WebFetch, decision: allow}\n  - {id: posts, tool: Post, decision: allow}\n"
        rule += "  - {id: tainted, tool: Post, after: {tool: WebFetch}, decision: deny}\n"
        (here / "policy.yaml").write_text(POLICY + rule)
        post, fetch = event("PreToolUse", tool_name="Post", tool_input={}), event("PreToolUse", tool_name="WebFetch", tool_input={})
        assert ["allow", "allow", "deny"] == [hook(given)[1]["permissionDecision"] for given in (post, fetch, post)]

    def test_the_project_decides_wherever_the_host_stands(self, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Settings in a folder the agent moved to are not asked."""
        inner = here / "inner"
        (inner / ".git").mkdir(parents=True)
        (inner / "otel-runtime.yaml").write_text('otlp: "off"\n')
        monkeypatch.chdir(inner)
        monkeypatch.setenv("CLAUDE_PROJECT_DIR", str(here))
        assert "deny" == hook(event("PreToolUse", 1))[1]["permissionDecision"]

    def test_a_refusal_is_in_the_audit_log(self, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """Whatever becomes of its span, and the record is sound."""
        hook(event("PreToolUse", 1))
        assert 0 == main(["audit", "export"])
        payload = json.loads(capsys.readouterr().out)["payload"]
        assert ("no-rm", 64) == (payload["rule"], len(payload["input_digest"]))

    def test_arguments_without_a_digest_are_refused_all_the_same(self, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """A lone surrogate has no canonical form: the record says so by an empty digest."""
        assert "deny" == hook(event("PreToolUse", tool_input={"command": "rm \ud800"}))[1]["permissionDecision"]
        assert 0 == main(["audit", "export"])
        assert "" == json.loads(capsys.readouterr().out)["payload"]["input_digest"]

    @pytest.mark.parametrize("at", range(4))
    def test_the_second_process_says_the_same(self, here: Path, at: int, capsys: pytest.CaptureFixture[str]) -> None:
        """Word for word, whether the rules were read or kept by the process before; so does the audit log."""
        answers = [hook(event("PreToolUse", at), *words) for words in (["--no-cache"], [], [])]
        assert (1, 0) == (len({json.dumps(answer) for answer in answers}), answers[0][0])
        assert (here / ".otel-runtime" / "state.db-policy").is_file()
        assert 0 == main(["audit", "export"])
        recorded = {json.dumps(json.loads(line)["payload"], sort_keys=True) for line in capsys.readouterr().out.splitlines()}
        assert (1 if at in (1, 2) else 0) == len(recorded)

    @pytest.mark.parametrize(
        ("name", "expected"),
        [
            ("Bash", "Bash"),
            ("mcp__github__create_issue", "mcp:github:create_issue"),
            ("mcp__a__b__c", "mcp:a:b__c"),
            ("mcp__alone", "mcp__alone"),
            ("my__own__tool", "my__own__tool"),
        ],
    )
    def test_names(self, name: str, expected: str) -> None:
        """Tools of MCP servers are named as policies name them."""
        assert expected == tool_name(name)


class TestFaults:
    """Before a tool, whatever goes wrong blocks."""

    @pytest.mark.parametrize(
        "given",
        [
            "",
            "no json",
            "[]",
            "{}",
            '{"hook_event_name": "PreToolUse"}',
            event("PreToolUse", tool_name=None),
            event("PreToolUse", tool_input="ls"),
            event("PreToolUse", session_id=7),
        ],
    )
    def test_an_event_that_cannot_be_read(self, given: object) -> None:
        """Exit code 2 and a reason."""
        code, answer, err = hook(given)
        assert (2, {}, True) == (code, answer, err.startswith("otel-runtime"))

    @pytest.mark.parametrize(
        ("file", "text"),
        [
            ("policy.yaml", "version: 1\nrules: ["),
            ("otel-runtime.yaml", "policy: nowhere.yaml\n"),
            ("otel-runtime.yaml", "polcy: policy.yaml\n"),
            (".otel-runtime/hooks/facts.jsonl", "damaged\n"),
        ],
    )
    def test_something_that_cannot_be_used(self, here: Path, file: str, text: str) -> None:
        """A policy, settings or facts that are broken let nothing run."""
        limit = "  - {id: limit, tool: Bash, over: {calls: 2, by: session, per: 1min}, decision: deny}\n"
        (here / "policy.yaml").write_text(POLICY + limit)
        (here / file).parent.mkdir(parents=True, exist_ok=True)
        (here / file).write_text(text)
        code, answer, err = hook(event("PreToolUse"))
        assert (2, {}, True) == (code, answer, "could not decide" in err)

    def test_a_decision_that_does_not_come(self, here: Path) -> None:
        """Before the host stops waiting, and would let the tool run, the call is blocked."""
        (here / "slow.py").write_text("import time\ntime.sleep(600)\n")
        with (here / "policy.yaml").open("a") as file:
            file.write('  - {id: slow, tool: Bash, when: "slow:answer", decision: deny}\n')
        program = (
            "import sys; from otel_runtime.cli import hook, main; hook._DEADLINE_S = 0.5; sys.exit(main.main(['hook', 'claude-code']))"
        )
        done = subprocess.run(
            [sys.executable, "-c", program], input=json.dumps(event("PreToolUse")), capture_output=True, text=True, check=False, timeout=60
        )
        assert (2, "", True) == (done.returncode, done.stdout, "no decision was made in time" in done.stderr)

    def test_a_state_that_cannot_be_used(self, here: Path) -> None:
        """A refusal that cannot be recorded is a block all the same."""
        (here / ".otel-runtime").mkdir()
        (here / ".otel-runtime" / "state.db").mkdir()
        assert 2 == hook(event("PreToolUse", 1))[0]

    @pytest.mark.parametrize("name", ["SessionStart", "UserPromptSubmit", "PostToolUse", "Stop", "SessionEnd", "Notification"])
    def test_at_any_other_event_nothing_blocks(self, here: Path, name: str) -> None:
        """Where no session can be kept and no settings read, the host goes on."""
        (here / "otel-runtime.yaml").write_text("polcy: x\n")
        (here / ".otel-runtime").write_text("in the way")
        assert (0, {}) == hook(event(name))[:2]

    def test_an_event_of_a_later_version(self) -> None:
        """What it does not know it lets pass."""
        assert (0, {}, "") == hook({**event("Stop"), "hook_event_name": "SomethingNew"})

    def test_a_trace_that_cannot_be_kept_changes_no_decision(self, here: Path) -> None:
        """Telemetry fails open, policy does not."""
        (here / ".otel-runtime").mkdir()
        (here / ".otel-runtime" / "hooks").write_text("in the way")
        assert ["allow", "deny"] == [hook(event("PreToolUse", at))[1]["permissionDecision"] for at in (0, 1)]

    def test_a_trace_of_another_shape_changes_no_decision(self, here: Path) -> None:
        """A session file of another version, or that somebody wrote, blocks nothing."""
        hook(event("UserPromptSubmit"))
        (file,) = (here / ".otel-runtime" / "hooks" / "claude-code").glob("*.json")
        file.write_text(json.dumps({**json.loads(file.read_text()), "open": 5, "turn": {"began": 1}}))
        code, answer, err = hook(event("PreToolUse", 0))
        assert (0, "allow") == (code, answer["permissionDecision"]), err
        assert 0 == hook(event("Stop"))[0]

    @pytest.mark.parametrize("closed", [">&-", "<&-"])
    def test_an_answer_that_cannot_be_given(self, closed: str) -> None:
        """Silence would be no opinion: with standard output or input closed, the call is blocked."""
        command = f"exec {sys.executable} -m otel_runtime hook claude-code {closed}"
        done = subprocess.run(
            ["sh", "-c", command], input=json.dumps(event("PreToolUse", 1)), capture_output=True, text=True, check=False, timeout=60
        )
        assert (2, "", True) == (done.returncode, done.stdout, "could not decide" in done.stderr)


class TestTrace:
    """One trace per session, across its processes."""

    def traced(self, here: Path, events: list[dict[str, Any]], count: int) -> dict[str, ReceivedSpan]:
        (here / "otel-runtime.yaml").write_text("policy: policy.yaml\n")
        with OtlpReceiver() as receiver:
            environ = {**receiver.environ, "OTEL_RUNTIME_FLUSH_TIMEOUT": "60s"}
            os.environ.update(environ)
            try:
                for given in events:
                    assert 0 == hook(given)[0]
                spans = receiver.wait_for(count, 60)
            finally:
                for name in environ:
                    del os.environ[name]
        assert count == len(spans), [span.name for span in spans]
        return {span.name: span for span in spans}

    def test_of_a_whole_session(self, here: Path) -> None:
        """Session, turn, tools and refusals are one tree, with the times at which the earlier processes ran."""
        began = time.time_ns()
        spans = self.traced(here, EVENTS, 8)
        root, turn = spans["invoke_workflow claude-code session"], spans["invoke_agent claude-code"]
        inner = ["execute_tool Bash", "execute_tool Write", "execute_tool mcp:github:create_issue", "policy deny Bash"]
        inner.append("invoke_agent Explore")
        assert {*inner, "policy require-approval Write", root.name, turn.name} == set(spans)
        assert ({root.trace_id}, "", root.span_id) == ({span.trace_id for span in spans.values()}, root.parent_id, turn.parent_id)
        assert {turn.span_id} == {spans[name].parent_id for name in inner}
        assert began <= root.start_ns <= turn.start_ns <= spans["execute_tool Bash"].start_ns < spans["execute_tool Bash"].end_ns
        assert spans["execute_tool Bash"].end_ns <= turn.end_ns <= root.end_ns <= time.time_ns()
        assert ("allow", "look", "toolu_01A1") == tuple(
            spans["execute_tool Bash"].attributes[key]
            for key in ("otel_runtime.policy.decision", "otel_runtime.policy.rule", "gen_ai.tool.call.id")
        )
        assert "tool_error" == spans["execute_tool mcp:github:create_issue"].attributes["error.type"]
        assert {SESSION} == {span.attributes["gen_ai.conversation.id"] for span in spans.values()}

    def test_nothing_is_left_behind(self, here: Path) -> None:
        """The file of a session is private, and gone at its end."""
        for given in EVENTS[:3]:
            hook(given)
        directory = here / ".otel-runtime" / "hooks" / "claude-code"
        (file,) = directory.iterdir()
        assert (0o700, 0o600) == (directory.stat().st_mode & 0o777, file.stat().st_mode & 0o777)
        hook(EVENTS[-1])
        assert [] == list(directory.iterdir())

    def test_an_end_whose_start_nobody_saw(self, here: Path) -> None:
        """Hooks that were installed in the middle of a session trace from there on."""
        spans = self.traced(here, [event("PostToolUse"), event("SessionEnd")], 2)
        assert spans["execute_tool Bash"].parent_id == spans["invoke_workflow claude-code session"].span_id
        assert spans["execute_tool Bash"].attributes["otel_runtime.orphan"] is True

    def test_no_content_leaves(self, here: Path) -> None:
        """Prompts, commands and results are on no span."""
        spans = self.traced(here, EVENTS, 8)
        said = json.dumps([span.attributes for span in spans.values()])
        assert [] == [word for word in ("ls -la", "clean up", "total 0", "hello") if word in said]


# A child that dies at its first call of anything written in C, another one at its second, and so on until one gets through.
KILLED = """
import os, sys
from itertools import count
from pathlib import Path
from otel_runtime.integrations.claude_code_session import Sessions

sessions = Sessions(Path(sys.argv[1]))
with sessions.opened("s", 1) as session:
    session.start_turn(1)
    root, turn = session.root, session.turn["span"]
for last in count(1):
    if (child := os.fork()) == 0:
        calls = count(1)
        sys.setprofile(lambda frame, event, of: os._exit(9) if event == "c_call" and next(calls) == last else None)
        with sessions.opened("s", 2) as session:
            session.note("x" * last, 2)
        sys.setprofile(None)
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    with sessions.opened("s", 3) as session:
        assert session.root == root and session.turn["span"] == turn, last
    if code == 0:
        break
assert last > 5
print("known all along")
"""


class TestSessions:
    """The file between the processes."""

    def test_is_bounded(self, tmp_path: Path) -> None:
        """Tools that never end and spans that are never written do not grow it without end."""
        sessions = Sessions(tmp_path / "s")
        with sessions.opened("x", 1) as session:
            for number in range(3000):
                session.start_tool(str(number), "t", number, {})
                session.end_tool(f"other {number}", "t", number)
        with sessions.opened("x", 1) as session:
            assert (256, 1024, True) == (len(session.open), len(session.closed), session.dropped > 4000)

    def test_a_damaged_file_begins_anew_in_the_same_trace(self, tmp_path: Path) -> None:
        """Cut off by a full disk, it costs what was open and nothing else."""
        sessions = Sessions(tmp_path / "s")
        with sessions.opened("x", 1) as session:
            trace = session.trace
        (file,) = (tmp_path / "s").iterdir()
        file.write_text('{"id": "x", "tr')
        with sessions.opened("x", 2) as session:
            assert (trace, 2) == (session.trace, session.started)

    def test_killed_at_any_step(self, tmp_path: Path) -> None:
        """What a session knew is there after a kill, before the change or with it, wherever the kill fell."""
        done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], capture_output=True, text=True, check=False, timeout=120)
        assert (0, "known all along\n") == (done.returncode, done.stdout), done.stderr

    def test_ids_are_no_paths(self, tmp_path: Path) -> None:
        """An id from outside chooses no file."""
        with Sessions(tmp_path / "s").opened("../../x", 1):
            pass
        assert 1 == len(list((tmp_path / "s").iterdir()))

    def test_what_never_ended_is_removed(self, tmp_path: Path) -> None:
        """After a week, at the start of another session."""
        sessions = Sessions(tmp_path / "s")
        with sessions.opened("x", 1):
            pass
        sessions.prune(time.time() + 6 * 86400)
        assert 1 == len(list((tmp_path / "s").iterdir()))
        sessions.prune(time.time() + 8 * 86400)
        assert [] == list((tmp_path / "s").iterdir())

    def test_what_another_process_has_just_taken_away_stops_nothing(self, tmp_path: Path) -> None:
        """A name without a file is what a look at the folder finds while another session is stored."""
        (tmp_path / "s").mkdir()
        for name in "abcdefgh":
            (tmp_path / "s" / f"{name}.new").symlink_to("gone")
        sessions = Sessions(tmp_path / "s")
        with sessions.opened("x", 1):
            pass
        sessions.prune(time.time() + 8 * 86400)
        assert all(path.is_symlink() for path in (tmp_path / "s").iterdir())


class TestSettings:
    """hooks/claude-code/settings.json, to paste."""

    FOLDER = ROOT / "hooks" / "claude-code"
    SHIPPED = json.loads((FOLDER / "settings.json").read_text())["hooks"]
    RECENT = json.loads((FOLDER / "settings-recent.json").read_text())["hooks"]
    # A host skips a whole settings file for one event that it does not know: these it has known from the first.
    CLASSIC = frozenset(
        {
            "SessionStart",
            "UserPromptSubmit",
            "PreToolUse",
            "PostToolUse",
            "Notification",
            "PreCompact",
            "SubagentStop",
            "Stop",
            "SessionEnd",
        }
    )

    def test_runs_our_command(self) -> None:
        """Every entry, in both files; the guard is the same in both."""
        for shipped in (self.SHIPPED, self.RECENT):
            commands = {name: entry[0]["hooks"][0]["command"] for name, entry in shipped.items()}
            assert {"otel-runtime hook claude-code"} == {command.partition(" || ")[0] for command in commands.values()}
        assert self.SHIPPED["PreToolUse"] == self.RECENT["PreToolUse"]

    def test_names_no_event_that_an_older_host_could_refuse(self) -> None:
        """The file to paste works with any version; the other one says more and needs a recent one."""
        assert set(self.SHIPPED) == self.CLASSIC
        assert self.CLASSIC < set(self.RECENT)
        assert {item["hook_event_name"] for item in EVENTS} <= set(self.RECENT)

    def test_names_no_event_whose_hook_does_the_work(self) -> None:
        """Without a folder from its hook the host has no worktree, and text on the screen comes too often."""
        assert set() == {"WorktreeCreate", "WorktreeRemove", "MessageDisplay"} & set(self.RECENT)

    def test_a_command_that_is_missing_blocks_tools(self) -> None:
        """The shell's exit code for a missing command would block nothing, so the entry for tools says 2."""
        command = self.SHIPPED["PreToolUse"][0]["hooks"][0]["command"]
        assert 2 == subprocess.run(["/bin/sh", "-c", command], env={"PATH": ""}, capture_output=True, check=False).returncode


def test_the_state_database_opens(here: Path) -> None:
    """What the hooks recorded is an ordinary state database, with the decision in it."""
    from otel_runtime.approvals.schema import MIGRATIONS

    hook(event("PreToolUse", 1))
    database = Database(here / ".otel-runtime" / "state.db", MIGRATIONS)
    database.open()
    with database.reading() as connection:
        kinds = connection.execute("SELECT kind FROM audit_events ORDER BY seq").fetchall()
    database.close()
    assert [("decision",)] == [tuple(row) for row in kinds]
