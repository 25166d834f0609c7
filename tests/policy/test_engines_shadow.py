"""Cedar and OPA in shadow mode: what they say is recorded, beside what is enforced, and nothing they say or fail to say stops a call."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from otel_runtime.cli.main import main
from otel_runtime.errors import ConfigError
from otel_runtime.policy.engine_cedar import CedarEngine, load_cedar
from otel_runtime.policy.loading import load_policy_text
from otel_runtime.policy.protocol import FactsView
from otel_runtime.runtime.engines import configured_engine
from otel_runtime.settings.model import Settings
from otel_runtime.values.action import Action, Unreadable
from otel_runtime.values.decision import Decision

pytest.importorskip("cedarpy", reason="pip install 'otel-runtime[cedar]'")
NOW = datetime(2026, 11, 20, tzinfo=UTC)
KNOWN = FactsView(labels={}, history=frozenset())
RULES = """
@id("all") permit (principal, action, resource);
@id("large") @mode("shadow") forbid (principal, action, resource == Tool::"pay") when { context.args.amount > 100 };
@id("tried") @mode("shadow") permit (principal, action, resource == Tool::"pay");
"""
Load = Callable[..., CedarEngine]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    def loaded(text: str, **more: Any) -> CedarEngine:
        (tmp_path / "a.cedar").write_text(text)
        return load_cedar([tmp_path], **more)

    return loaded


def decide(engine: Any, **args: Any) -> Decision:
    call = Action("tool", "pay", args, session="s", user="u", roles=frozenset(), tenant="t")
    decision: Decision = engine.decide(call, KNOWN, NOW).decision
    return decision


class TestOnePolicy:
    def test_recorded_and_not_enforced(self, load: Load) -> None:
        """A forbid in shadow is named with what it would have done, and the call runs."""
        engine = load(RULES)
        small, large = decide(engine, amount=5), decide(engine, amount=500)
        assert ("allow", None) == (small.value, small.would_be)
        assert ("allow", "deny", "all") == (large.value, large.would_be, large.rule)
        assert {("all", False), ("large", True), ("tried", True)} == {(match.rule, match.shadow) for match in large.matched}

    def test_opens_nothing(self, load: Load) -> None:
        """A permit in shadow allows nothing by itself."""
        decision = decide(load('@mode("shadow") permit (principal, action, resource);'), amount=1)
        assert ("deny", "allow") == (decision.value, decision.would_be)

    def test_an_error_stops_nothing(self, load: Load) -> None:
        """A policy in shadow that cannot be evaluated is recorded as unknown; the same one enforced denies."""
        decision = decide(load(RULES))
        assert ("allow", "deny") == (decision.value, decision.would_be)
        assert [("large", "unknown")] == [(match.rule, match.outcome) for match in decision.matched if match.outcome != "true"]
        assert "deny" == decide(load(RULES.replace('@mode("shadow")', ""))).value

    @pytest.mark.parametrize("mode", ["shaddow", "off", ""])
    def test_other_words(self, load: Load, mode: str) -> None:
        """A mode nobody knows is refused with its place."""
        with pytest.raises(ConfigError, match=r"a\.cedar:1:1: error\[C003\]: `@mode.* expected `enforce` or `shadow`"):
            load(f'@mode("{mode}") permit (principal, action, resource);')


class TestWholeEngine:
    @pytest.mark.parametrize("args", [{"amount": 500}, {}, {"amount": Unreadable("T", "cap")}, {"amount": 2**80}])
    def test_stops_nothing(self, load: Load, args: dict[str, Any]) -> None:
        """Denials, errors and what Cedar cannot be told let the call run, and say what would have been."""
        decision = decide(load(RULES.replace('@mode("shadow") forbid', "forbid"), shadow=True), **args)
        assert ("allow", True, "deny") == (decision.value, decision.shadow, decision.would_be)

    def test_another_digest(self, load: Load) -> None:
        """Rules that only record are not the rules that decide."""
        assert load(RULES).digest != load(RULES, shadow=True).digest

    def test_beside_rules_that_decide(self, tmp_path: Path) -> None:
        """Our own rules are enforced as if Cedar were not there, and the decision tells of both."""
        (tmp_path / "a.cedar").write_text("forbid (principal, action, resource);")
        ours = load_policy_text(
            "version: 1\ndefault: deny\nrules:\n  - {id: small, tool: pay, args: {amount: {lte: 100}}, decision: allow}\n"
        )
        engine = configured_engine(Settings(cedar=(tmp_path / "a.cedar",), cedar_mode="shadow", state=tmp_path / "s.db"), ours)
        small, large = decide(engine, amount=5), decide(engine, amount=500)
        assert ("allow", "small", "deny") == (small.value, small.rule, small.would_be)
        assert "deny" == large.value

    def test_doctor_says_so(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        """Whoever looks is told that nothing is enforced."""
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("COLUMNS", "300")
        (tmp_path / "a.cedar").write_text(RULES)
        (tmp_path / "otel-runtime.yaml").write_text(
            "cedar: a.cedar\ncedar_mode: shadow\nopa: http://127.0.0.1:1/v1/data/a\nopa_mode: shadow\n"
        )
        assert 0 == main(["doctor"])
        assert 2 == capsys.readouterr().out.count("mode shadow: recorded, never enforced")
