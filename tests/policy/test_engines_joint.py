"""Rules of our own beside another engine: both decide, and the stricter decision counts with everything both ask for."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

import otel_runtime as rt
from otel_runtime.cli.main import main
from otel_runtime.errors import PolicyDenied
from otel_runtime.integrations.claude_code_rules import rules_for
from otel_runtime.policy.engine_cedar import load_cedar
from otel_runtime.policy.engine_joint import JointEngine
from otel_runtime.policy.facts_memory import MemoryFacts
from otel_runtime.policy.loading import load_policy_text
from otel_runtime.policy.protocol import FactsView
from otel_runtime.runtime.build import build_runtime
from otel_runtime.runtime.engines import configured_engine
from otel_runtime.runtime.protected import protected_paths
from otel_runtime.settings.loading import load_settings
from otel_runtime.settings.model import Settings
from otel_runtime.values.action import Action
from otel_runtime.values.decision import Decision

pytest.importorskip("cedarpy", reason="pip install 'otel-runtime[cedar]'")
NOW = datetime(2026, 11, 20, tzinfo=UTC)
OURS = """
version: 1
default: allow
tools:
  fetch: {adds: [untrusted]}
  mail: {}
  refund: {}
rules:
  - {id: ask, tool: refund, args: {amount: {gt: 100}}, decision: require-approval, approval: {approvers: ["role:finance"], expires: 1h, edit: [note, amount]}}
  - {id: day, tool: mail, over: {calls: 2, by: session, per: 1h}, decision: deny}
  - {id: wait, tool: slow, decision: retryable-failure, retry: {after: 5s, max_attempts: 9}}
"""
THEIRS = """
permit (principal, action, resource);
@id("tainted") forbid (principal, action, resource == Tool::"mail") when { context.labels.contains("untrusted") };
@id("legal") @decision("require-approval") @approvers("role:legal") @quorum("2") @expires("4h") @edit("note")
permit (principal, action, resource == Tool::"refund");
@decision("retryable-failure") @after("10s") @max_attempts("3") forbid (principal, action, resource == Tool::"slow");
@id("no") forbid (principal, action, resource == Tool::"nuke");
"""


@pytest.fixture
def engine(tmp_path: Path) -> JointEngine:
    (tmp_path / "a.cedar").write_text(THEIRS)
    ours = load_policy_text(OURS)
    return JointEngine(ours.engine, load_cedar([tmp_path / "a.cedar"], ours.tools_catalogue))


def run(engine: JointEngine, facts: MemoryFacts, name: str, **args: Any) -> Decision:
    """Decide as an admission does, and start what is allowed."""
    action = Action("tool", name, args, session="s", user="u", roles=frozenset(), tenant="t")
    needs = engine.needs(action, NOW)
    ruling = engine.decide(action, None if needs is None else facts.peek(needs, NOW), NOW)
    if ruling.decision.value == "allow" and ruling.start is not None:
        assert facts.begin(ruling.start, NOW) is not None
    return ruling.decision


class TestBoth:
    def test_tags_of_ours_reach_theirs(self, tmp_path: Path) -> None:
        """A tag that our catalogue gives a tool is one for Cedar, as a resource and in the context, beside those of the decorator."""
        (tmp_path / "a.cedar").write_text("""
            permit (principal, action, resource);
            @id("pays") forbid (principal, action, resource in Tag::"pays");
            @id("both") forbid (principal, action, resource) when { context.tags == ["noted", "sends"] };
        """)
        ours = load_policy_text(
            "{version: 1, default: allow, tools: {refund: {tags: [pays]}, mail: {tags: [sends]}, note: {}}, rules: [{id: x, tool: note, decision: allow}]}"
        )
        engine = load_cedar([tmp_path / "a.cedar"], ours.tools_catalogue)

        def rule(name: str, *tags: str) -> str | None:
            action = Action("tool", name, {}, session="s", user="u", roles=frozenset(), tenant="t", tags=frozenset(tags))
            return engine.decide(action, FactsView(labels={}, history=frozenset()), NOW).decision.rule

        assert ("pays", "both") == (rule("refund"), rule("mail", "noted"))
        assert not {"pays", "both"} & {rule("note"), rule("mail")}

    def test_labels_of_ours_reach_theirs(self, engine: JointEngine) -> None:
        """A label that our catalogue adds is seen by a Cedar policy."""
        facts = MemoryFacts()
        assert "allow" == run(engine, facts, "mail").value
        assert "allow" == run(engine, facts, "fetch").value
        denied = run(engine, facts, "mail")
        assert ("deny", "tainted") == (denied.value, denied.rule)

    def test_budgets_of_ours_hold(self, engine: JointEngine) -> None:
        """What Cedar permits still counts on our limits."""
        facts = MemoryFacts()
        assert ["allow", "allow", "deny"] == [run(engine, facts, "mail").value for _ in range(3)]

    def test_the_stricter_counts(self, engine: JointEngine) -> None:
        """A forbid there beats an allow here, and a denial here a permit there."""
        denied = run(engine, MemoryFacts(), "nuke")
        assert ("deny", "no") == (denied.value, denied.rule)

    def test_both_questions_are_asked(self, engine: JointEngine) -> None:
        """Where both ask, one request carries the requirements of both."""
        asked = run(engine, MemoryFacts(), "refund", amount=500)
        assert asked.approval is not None
        assert [("role:finance",), ("role:legal",)] == [need.approvers for need in asked.approval.requirements]
        assert (3600.0, frozenset({"note"})) == (asked.approval.expires_s, asked.approval.edit)
        assert {"ask", "legal"} <= {match.rule for match in asked.matched}
        alone = run(engine, MemoryFacts(), "refund", amount=5)
        assert alone.approval is not None
        assert ["legal"] == [need.rule for need in alone.approval.requirements]

    def test_both_waits(self, engine: JointEngine) -> None:
        """Of two retries the longer wait and the fewer attempts hold."""
        retry = run(engine, MemoryFacts(), "slow").retry
        assert retry is not None
        assert (10.0, 3) == (retry.after_s, retry.max_attempts)

    def test_shadow_of_ours(self, tmp_path: Path) -> None:
        """Our rules in shadow mode are recorded and do not weaken Cedar's."""
        (tmp_path / "a.cedar").write_text('permit (principal, action, resource); forbid (principal, action, resource == Tool::"nuke");')
        ours = load_policy_text("version: 1\ndefault: deny\nmode: shadow\nrules:\n- {id: a, tool: x, decision: deny}\n")
        engine = JointEngine(ours.engine, load_cedar([tmp_path / "a.cedar"]))
        tried = run(engine, MemoryFacts(), "read")
        assert ("allow", True, "deny") == (tried.value, tried.shadow, tried.would_be)
        assert "deny" == run(engine, MemoryFacts(), "nuke").value

    def test_digest(self, engine: JointEngine, tmp_path: Path) -> None:
        """The digest names both."""
        assert engine.digest == run(engine, MemoryFacts(), "read").policy_digest
        assert engine.digest != load_cedar([tmp_path / "a.cedar"]).digest


@rt.tool
def joint_read(path: str) -> str:
    """Read."""
    return path


@rt.tool
def joint_nuke() -> None:
    """Never."""


class TestSettings:
    def test_cedar_alone(self, tmp_path: Path) -> None:
        """The setting `cedar` alone guards every tool."""
        (tmp_path / "cedar").mkdir()
        (tmp_path / "cedar" / "a.cedar").write_text('permit (principal, action, resource == Tool::"joint_read");')
        runtime = build_runtime(Settings(state=tmp_path / "s.db", cedar=(tmp_path / "cedar",), otlp="off"))
        with runtime.use():
            assert runtime.guarded
            assert "x" == joint_read("x")
            with pytest.raises(PolicyDenied):
                joint_nuke()
        runtime.shutdown()

    def test_from_a_file(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        """Paths are read from the settings file's folder, and `doctor` names what decides."""
        (tmp_path / "rules.cedar").write_text("permit (principal, action, resource);")
        (tmp_path / "otel-runtime.yaml").write_text(
            "cedar: rules.cedar\nopa: http://127.0.0.1:9/v1/data/a\nopa_timeout: 500ms\notlp: 'off'\n"
        )
        (tmp_path / "below").mkdir()
        monkeypatch.chdir(tmp_path / "below")
        main(["doctor", "--json", "--settings", str(tmp_path / "otel-runtime.yaml")])
        said = capsys.readouterr().out
        assert "rules.cedar" in said
        assert "OPA at http://127.0.0.1:9/v1/data/a" in said


class TestProtection:
    def test_files_of_engines(self, tmp_path: Path) -> None:
        """No rule opens the Cedar policies or the token of OPA."""
        for name in ("a.cedar", "token"):
            (tmp_path / name).write_text("permit (principal, action, resource);" if name == "a.cedar" else "t")
        settings = Settings(
            state=tmp_path / "state" / "s.db", cedar=(tmp_path / "a.cedar",), opa="http://127.0.0.1:1/", opa_token_file=tmp_path / "token"
        )
        text = f"version: 1\ndefault: deny\nrules:\n- {{id: a, tool: w, args: {{path: {{under: '{tmp_path}'}}}}, decision: allow}}\n"
        engine = load_policy_text(text, protected=protected_paths(settings)).engine
        verdicts = [
            engine.decide(Action("tool", "w", {"path": str(tmp_path / name)}), None, NOW).decision.value
            for name in ("notes", "a.cedar", "token")
        ]
        assert ["allow", "deny", "deny"] == verdicts


class TestHooks:
    def test_a_hook_decides_by_cedar(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A host's hook asks Cedar as a program does, beside our rules and alone, and each time anew."""
        (tmp_path / ".git").mkdir()
        (tmp_path / "a.cedar").write_text('permit (principal, action, resource == Tool::"Read");')
        (tmp_path / "p.yaml").write_text("version: 1\ndefault: allow\nrules:\n- {id: a, tool: Bash, decision: deny}\n")
        monkeypatch.chdir(tmp_path)
        for settings in ("cedar: a.cedar\n", "cedar: a.cedar\npolicy: p.yaml\n"):
            (tmp_path / "otel-runtime.yaml").write_text(settings)
            for _ in range(2):
                engine = rules_for("Read", load_settings).engine
                assert engine is not None
                verdicts = [
                    engine.decide(Action("tool", name, session="s"), None, NOW).decision.value for name in ("Read", "Bash", "Write")
                ]
                assert ["allow", "deny", "deny"] == verdicts

    def test_plain_http_to_another_machine(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        """Answers of a policy server over plain HTTP from elsewhere are possible and warned about."""
        for url, warned in (
            ("http://opa.corp.example/v1/data/a", True),
            ("https://opa.corp.example/", False),
            ("http://127.0.0.1:8181/", False),
        ):
            caplog.clear()
            configured_engine(Settings(state=tmp_path / "s.db", opa=url), None)
            assert warned is ("plain HTTP" in caplog.text)
