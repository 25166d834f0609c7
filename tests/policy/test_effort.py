"""What all rules of one decision may cost together is counted, never timed: what is left over is unknown."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from otel_runtime.policy.loading import load_policy_text
from otel_runtime.policy.protocol import FactsView
from otel_runtime.values.action import Action
from otel_runtime.values.snapshot import snapshot_arguments

NOW = datetime(2026, 11, 20, tzinfo=UTC)
ADDRESSES = [f"a{at}@{'b.' * 27}cc" for at in range(2_000)]
VALUES = [f"value-{at}" for at in range(100)]
# Seen by hundreds of tools, none of which a rule names.
SEEN = dict.fromkeys(VALUES, frozenset(f"tool:t{at}" for at in range(400)))


def decided(test: dict[str, Any], value: object, rules: int) -> tuple[str, str]:
    """The verdict under so many denials whose condition is false, and its code."""
    written = [{"id": f"r{at}", "tool": "t", "args": {"x": test}, "decision": "deny"} for at in range(rules)]
    engine = load_policy_text(json.dumps({"version": 1, "default": "allow", "tools": {"t": {}}, "rules": written})).engine
    args, _ = snapshot_arguments({"x": value})
    action = Action("tool", "t", args, session="s", user="u", roles=frozenset())
    decision = engine.decide(action, FactsView(labels={}, history=frozenset(), origins=SEEN), NOW).decision
    return decision.value, decision.code


@pytest.mark.parametrize(
    ("test", "value", "rules"),
    [
        pytest.param({"some": {"eq": "no"}}, ["x"] * 5_000, 9, id="elements"),
        pytest.param({"some": {"email_domain": "evil.example"}}, ADDRESSES, 20, id="addresses"),
        pytest.param({"contains": "needle"}, "n" * 900_000, 60, id="a long text"),
        pytest.param({"contains": "needle"}, ["n"] * 9_000, 80, id="a long list"),
        pytest.param({"glob": "*x*y"}, "a" * 65_000, 180, id="globs"),
        pytest.param({"search": "a[ab]{100}c"}, "ab" * 30_000, 3, id="expressions"),
        pytest.param({"may_run": "rm"}, "ls;" * 5_400, 50, id="commands"),
        pytest.param(
            {"sql": {"dialect": "postgres", "schemas": "app"}}, f"select {'+'.join(['a'] * 290)} from other.t", 60, id="one query"
        ),
        pytest.param(
            {"some": {"sql": {"dialect": "postgres", "schemas": "app"}}}, [f"select a{at} from b.t" for at in range(150)], 9, id="queries"
        ),
        pytest.param({"some": {"origin": "config"}}, VALUES, 5, id="origins"),
    ],
)
def test_many_rules(test: dict[str, Any], value: object, rules: int) -> None:
    """One rule is answered; under many that cost much together, those that are left are unknown, so that a denial is one."""
    assert "allow" == decided(test, value, 1)[0]
    assert ("deny", "policy.unknown") == decided(test, value, rules)
