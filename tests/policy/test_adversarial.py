"""Rows of the adversarial cases that this room can express: what must be blocked is blocked, and the controls pass."""

from __future__ import annotations

import datetime as dt
import decimal
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from otel_runtime.errors import ConfigError
from otel_runtime.policy.loading import LoadedPolicy, load_policy_text
from otel_runtime.settings.documents import read_document
from otel_runtime.values.action import Action, Parameter, ToolSignature
from otel_runtime.values.snapshot import snapshot_arguments

CASES = Path(__file__).parents[3] / "shared" / "cases" / "adversarial.jsonl"
NOW = dt.datetime(2026, 11, 20, tzinfo=dt.UTC)
POLICIES = {
    "PAY": """version: 1
default: deny
tools: {pay: {args: {amount: number, currency: str}}}
rules:
  - {id: small, tool: pay, args: {amount: {gt: 0, lte: 100}, currency: {eq: USD}}, decision: allow}
  - {id: large, tool: pay, args: {amount: {gt: 100, lte: 10000}}, decision: require-approval, approval: {approvers: ["role:finance"]}}
""",
    "TOOL": """version: 1
default: deny
rules:
  - {id: read, tool: [fs.read_file, "get_*"], decision: allow}
  - {id: delete, tool: delete_file, decision: deny}
""",
    "MAIL": """version: 1
default: deny
tools: {send_email: {args: {to: "list[str]|str?", cc: "list[str]?", bcc: "list[str]?"}}}
rules:
  - {id: inside, tool: send_email, args: {"to|cc|bcc": {every: {email_domain: corp.example}}}, decision: allow}
""",
}
_KINDS = {"allow": {"allow"}, "deny": {"deny"}, "block": {"deny", "require-approval"}, "approve": {"require-approval"}}
# These are answered by how arguments are bound, by other rooms, or by several calls; their own tests hold them.
_ELSEWHERE = ("py_call", "calls", "parallel", "situation")
_NAMES = {"datetime": dt, "decimal": decimal, "float": float, "complex": complex}


def rows(*policies: str) -> Iterator[Any]:
    if not CASES.exists():
        yield pytest.param({}, marks=pytest.mark.skip(reason=f"the shared cases are not here: {CASES}"))
        return
    for line in CASES.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        if row["policy"] in policies and not any(key in row["call"] for key in _ELSEWHERE) and row["expected"] != "either":
            yield pytest.param(row, id=row["id"])


def arguments(call: dict[str, Any]) -> dict[str, Any]:
    if "py" in call:
        return dict(eval(call["py"], _NAMES))  # our own case file
    if "json" in call:
        plain = read_document(call["json"], "json").plain()
        assert isinstance(plain, dict)
        return plain
    return dict(call["args"])


@pytest.mark.parametrize("row", list(rows("PAY", "TOOL", "MAIL")))
def test_call(row: dict[str, Any]) -> None:
    """A hostile call does not pass, and an ordinary one does."""
    loaded: LoadedPolicy = load_policy_text(POLICIES[row["policy"]])
    try:
        args, _ = snapshot_arguments(arguments(row["call"]))
    except ConfigError:
        assert row["expected"] == "block"
        return
    signature = ToolSignature((Parameter("city", required=False),), open=True) if row["policy"] == "TOOL" else None
    action = Action("tool", row["call"]["tool"], args, signature, session="s", user="u", roles=frozenset())
    assert loaded.engine.decide(action, None, NOW).decision.value in _KINDS[row["expected"]]


# The rows are written in another dialect; what they are about is put into ours where a key would only be unknown.
OURS = {
    "PF02": "version: 1\ndefault: deny\nrules:\n- {id: a, tool: x, decision: deny}\n- {id: a, tool: x, decision: allow}\n",
    "PF18": "version: 1\ndefault: deny\nrules:\n- {id: a, tool: pay, decision: deny, args: {amount: {gt: '100'}}}\n",
    "PF24": "version: 1\ndefault: deny\nrules:\n- {id: a, tool: payy, decision: deny}\n",
    "PF26": "version: 1\ndefault: deny\nrules:\n- {id: a, tool: shell, decision: allow, args: {command: {search: 'git status'}}}\n",
    "PF33": "version: 1\ndefault: deny\nrules:\n- {id: a, tool: pay, decision: require-approval, approval: {approvers: [anyone], expires: -1s}}\n",
    "PF36": "version: 1\ndefault: deny\nrules:\n- {id: a, tool: '*', decision: allow}\n",
}
_WARNED = {"PF24": "P108", "PF26": "P103", "PF36": "P101"}


@pytest.mark.parametrize("row", [row for row in rows("FILE") if not row.values[0] or "policy_text" in row.values[0]["call"]])
def test_file(row: dict[str, Any]) -> None:
    """A policy file that means two things, or nothing, is refused; a doubtful one is a warning."""
    text = OURS.get(row["id"], row["call"]["policy_text"])
    if row["expected"] == "load_error":
        with pytest.raises(ConfigError):
            load_policy_text(text)
        return
    loaded = load_policy_text(text, known_tools={"pay": ToolSignature(), "shell": ToolSignature(open=True)})
    assert _WARNED[row["id"]] in {fault.code for fault in loaded.warnings}


def test_missing_risk_binds_the_deny() -> None:
    """FC01: a deny that reads a missing fact wins over an allow of everything."""
    text = "version: 1\ndefault: allow\ncontext: {risk: str}\nrules:\n- {id: d, tool: pay, context: {risk: {eq: high}}, decision: deny}\n- {id: a, tool: '*', decision: allow}\n"
    assert load_policy_text(text).engine.decide(Action("tool", "pay"), None, NOW).decision.value == "deny"


@pytest.mark.parametrize("body", ["raise RuntimeError('boom')", "return None", "return 'ALLOW '", "return 1", "raise RecursionError"])
def test_predicate(body: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """FC04, FC13, FC15: a predicate that fails or answers anything but True or False opens nothing."""
    (tmp_path / "adversarial_predicate.py").write_text(f"def ask(action, facts):\n    {body}\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(__import__("sys").modules, "adversarial_predicate", raising=False)
    text = "version: 1\ndefault: deny\nrules:\n- {id: a, tool: get_weather, when: 'adversarial_predicate:ask', decision: allow}\n"
    assert load_policy_text(text).engine.decide(Action("tool", "get_weather"), None, NOW).decision.value == "deny"


def test_identity_is_part_of_the_decision() -> None:
    """FC35: what user A may do is not remembered for user B."""
    text = "version: 1\ndefault: deny\nrules:\n- {id: a, tool: get_weather, user: alice, decision: allow}\n"
    engine = load_policy_text(text).engine
    verdicts = [engine.decide(Action("tool", "get_weather", user=user), None, NOW).decision.value for user in ("alice", "bob", "alice")]
    assert ["allow", "deny", "allow"] == verdicts


def test_deep_and_cyclic_arguments() -> None:
    """FC23, FC25: arguments nested 10,000 deep or holding themselves are unknown, not an error."""
    deep: list[Any] = []
    for _ in range(10_000):
        deep = [deep]
    cycle: list[Any] = []
    cycle.append(cycle)
    text = "version: 1\ndefault: deny\nrules:\n- {id: a, tool: get_weather, args: {x: {none: {eq: 1}}}, decision: allow}\n"
    engine = load_policy_text(text).engine
    signature = ToolSignature((Parameter("x", "list"),))
    for value in (deep, cycle):
        args, _ = snapshot_arguments({"x": value})
        assert engine.decide(Action("tool", "get_weather", args, signature), None, NOW).decision.value == "deny"
