"""Every row of the adversarial cases that speaks of policy: what must be blocked is blocked, and the controls pass.

The intents are written as policy files in `cases/`. `block` accepts a denial, a question to a person or a refused file. A row that is not
run here stands in `NOT_HERE`, with the reason; a test holds that no row is left out in silence.
"""

from __future__ import annotations

import datetime as dt
import decimal
import json
import os
import pathlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from otel_runtime.errors import ConfigError
from otel_runtime.policy.facts_memory import MemoryFacts
from otel_runtime.policy.loading import LoadedPolicy, load_policy, load_policy_text
from otel_runtime.settings.documents import read_document
from otel_runtime.values.action import Action, Parameter, ToolSignature
from otel_runtime.values.snapshot import snapshot_arguments

CASES = Path(__file__).parents[3] / "shared" / "cases" / "adversarial.jsonl"
FILES = Path(__file__).parent / "cases"
NOW = dt.datetime(2026, 11, 20, tzinfo=dt.UTC)
POLICIES: Final = {"SH-ALLOW", "SH-DENY", "SH-RO", "PATH", "PROTECT", "PAY", "TOOL", "URL", "MAIL", "SQL", "BLANKET", "ENGINE", "FILE"}
# Nothing is left out; a row that cannot be run would stand here with its reason.
NOT_HERE: Final[dict[str, str]] = {}
# Run by `test_adversarial_live`, under a real runtime: the row describes a program.
LIVE: Final = {"PA39", "TY40", "TY42", "TY43", "FC08", "FC27", "FC31", "FC32", "PF41"} | {
    f"TE{at:02}" for at in (1, 5, 8, 9, 12, 14, 16, 17, 18, 20, 22, 25, 26, 27, 30, 32)
}
# Run one by one below, because the row describes a situation and not a call.
BY_HAND: Final = {"TY44", "TY45", "FC01", "FC04", "FC13", "FC15", "FC20", "FC21", "FC23", "FC25", "FC35", "FC38", "FC40", "PF40"}
_KINDS = {"allow": {"allow"}, "deny": {"deny"}, "block": {"deny", "require-approval"}, "approve": {"require-approval"}}


_NAMES = {"datetime": dt, "decimal": decimal, "float": float, "complex": complex, "pathlib": pathlib}


def written() -> list[dict[str, Any]]:
    if not CASES.exists():
        return []
    rows = (json.loads(line) for line in CASES.read_text(encoding="utf-8").splitlines())
    return [row for row in rows if row["policy"] in POLICIES]


def rows(*, files: bool) -> Iterator[Any]:
    if not CASES.exists():
        yield pytest.param({}, marks=pytest.mark.skip(reason=f"the shared cases are not here: {CASES}"))
    for row in written():
        if (row["policy"] == "FILE") is files and row["id"] not in {*NOT_HERE, *BY_HAND, *LIVE}:
            yield pytest.param(row, id=row["id"])


def arguments(call: dict[str, Any], root: Path) -> dict[str, Any]:
    text = json.dumps({key: call[key] for key in ("args", "py", "json") if key in call}).replace("ROOT", str(root))
    given = json.loads(text)
    if "py" in given:
        return dict(eval(given["py"], _NAMES))  # our own case file
    if "json" in given:
        plain = read_document(given["json"], "json").plain()
        assert isinstance(plain, dict)
        return plain
    return dict(given["args"])


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The tree that the rows about paths speak of."""
    base = tmp_path / "ROOT"
    (base / "data").mkdir(parents=True)
    (base / "data" / "ok.txt").write_text("ok")
    (base / "secret.txt").write_text("secret")
    (base / "data.bak").write_text("other")
    (base / "elsewhere" / "deep").mkdir(parents=True)
    (base / "data" / "linkdir").symlink_to(base / "elsewhere" / "deep")
    (base / ".agent").mkdir()
    (base / ".agent" / "policy.yaml").write_text("x")
    (base / "lnk").symlink_to(base / ".agent" / "policy.yaml")
    monkeypatch.chdir(base)
    return base


@pytest.mark.parametrize("row", list(rows(files=False)))
def test_call(row: dict[str, Any], root: Path) -> None:
    """A hostile call does not pass, and an ordinary one does."""
    loaded: LoadedPolicy = load_policy([FILES / f"{row['policy'].lower()}.yaml"])
    try:
        args, _ = snapshot_arguments(arguments(row["call"], root))
    except ConfigError:
        assert row["expected"] == "block"
        return
    signature = ToolSignature((Parameter("city", required=False),), open=True) if row["policy"] == "TOOL" else None
    action = Action("tool", row["call"]["tool"], args, signature, session="s", user="u", roles=frozenset())
    decision = loaded.engine.decide(action, None, NOW).decision
    assert decision.value in _KINDS.get(row["expected"], {"allow", "deny", "require-approval"}), decision


# The rows are written in another dialect; what they are about is put into ours where a key would only be unknown.
OURS = {
    "PF02": "version: 1\ndefault: deny\nrules:\n- {id: a, tool: x, decision: deny}\n- {id: a, tool: x, decision: allow}\n",
    "PF18": "version: 1\ndefault: deny\nrules:\n- {id: a, tool: pay, decision: deny, args: {amount: {gt: '100'}}}\n",
    "PF24": "version: 1\ndefault: deny\nrules:\n- {id: a, tool: payy, decision: deny}\n",
    "PF26": "version: 1\ndefault: deny\nrules:\n- {id: a, tool: shell, decision: allow, args: {command: {search: 'git status'}}}\n",
    "PF30": "version: 1\ndefault: deny\nrules:\n- {id: a, tool: pay, decision: deny, context: {bar: {gt: 1}}}\n",
    "PF33": "version: 1\ndefault: deny\nrules:\n- {id: a, tool: pay, decision: require-approval, approval: {approvers: [anyone], expires: -1s}}\n",
    "PF36": "version: 1\ndefault: deny\nrules:\n- {id: a, tool: '*', decision: allow}\n",
}
_WARNED = {"PF24": "P108", "PF26": "P103", "PF36": "P101"}


@pytest.mark.parametrize("row", list(rows(files=True)))
def test_file(row: dict[str, Any]) -> None:
    """A policy file that means two things, or nothing, is refused; a doubtful one is a warning."""
    text = OURS.get(row["id"], row["call"].get("policy_text", ""))
    if row["expected"] == "load_error":
        with pytest.raises(ConfigError):
            load_policy_text(text)
        return
    loaded = load_policy_text(text, known_tools={"pay": ToolSignature(), "shell": ToolSignature(open=True)})
    assert _WARNED[row["id"]] in {fault.code for fault in loaded.warnings}


class TestList:
    def test_no_row_is_forgotten(self) -> None:
        """Every row is run, by itself or by hand, or its reason stands above."""
        ids = {row["id"] for row in written()}
        assert not ids or ids >= {*NOT_HERE, *BY_HAND, *LIVE}
        assert not {*NOT_HERE} & BY_HAND
        assert not LIVE & BY_HAND

    def test_by_hand(self) -> None:
        """Each row run by hand is named by the test that runs it."""
        here = Path(__file__).read_text(encoding="utf-8").partition("class TestList")[2]
        assert set() == {name for name in BY_HAND if name not in here}
        live = Path(__file__).with_name("test_adversarial_live.py").read_text(encoding="utf-8")
        assert set() == {name for name in LIVE if name not in live}


def test_world_writable(tmp_path: Path) -> None:
    """PF40: a policy that every user may rewrite is a warning."""
    path = tmp_path / "a.yaml"
    path.write_bytes((FILES / "engine.yaml").read_bytes())
    path.chmod(0o666)
    assert "P109" in {fault.code for fault in load_policy([path]).warnings}


def test_missing_risk_binds_the_deny() -> None:
    """FC01: a deny that reads a missing fact wins over an allow of everything."""
    assert load_policy([FILES / "blanket.yaml"]).engine.decide(Action("tool", "pay"), None, NOW).decision.value == "deny"


class TestBudget:
    def pay(self, loaded: LoadedPolicy, facts: MemoryFacts) -> bool:
        action = Action("tool", "pay", {"amount": 100, "currency": "USD"}, session="s", user="u")
        while True:
            needs = loaded.engine.needs(action, NOW)
            assert needs is not None
            ruling = loaded.engine.decide(action, facts.peek(needs, NOW), NOW)
            if ruling.decision.value != "allow":
                return False
            if ruling.start is None or facts.begin(ruling.start, NOW) is not None:
                return True

    def test_one_after_the_other(self) -> None:
        """TY44: five times 100 against a budget of 300 pays three times."""
        loaded, facts = load_policy([FILES / "pay-budget.yaml"]), MemoryFacts()
        assert [True, True, True, False, False] == [self.pay(loaded, facts) for _ in range(5)]

    def test_together(self) -> None:
        """TY45: fifty calls at once do not pass it together."""
        loaded, facts = load_policy([FILES / "pay-budget.yaml"]), MemoryFacts()
        start, paid = threading.Barrier(50), []

        def run() -> None:
            start.wait()
            paid.append(self.pay(loaded, facts))

        threads = [threading.Thread(target=run) for _ in range(50)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert (50, 3) == (len(paid), sum(paid))


class TestPredicate:
    def decide(self, body: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, action: Action) -> str:
        (tmp_path / "adversarial_predicate.py").write_text(f"def ask(action, facts):\n    {body}\n")
        monkeypatch.syspath_prepend(str(tmp_path))
        monkeypatch.delitem(__import__("sys").modules, "adversarial_predicate", raising=False)
        text = "version: 1\ndefault: deny\nrules:\n- {id: a, tool: get_weather, when: 'adversarial_predicate:ask', decision: allow}\n"
        return load_policy_text(text).engine.decide(action, None, NOW).decision.value

    @pytest.mark.parametrize("body", ["raise RuntimeError('boom')", "return None", "return 'ALLOW '", "return 1", "raise RecursionError"])
    def test_fault(self, body: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """FC04, FC13, FC15: a predicate that fails or answers anything but True or False opens nothing."""
        assert "deny" == self.decide(body, tmp_path, monkeypatch, Action("tool", "get_weather"))

    def test_mutation(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """FC20: what a predicate does to the arguments does not reach the call."""
        action = Action("tool", "get_weather", {"x": [1]}, ToolSignature((Parameter("x", "list"),)))
        self.decide("action.args['x'].append(2); action.args['y'] = 3; return True", tmp_path, monkeypatch, action)
        assert {"x": [1]} == action.args


class TestEngine:
    def test_identity_is_part_of_the_decision(self) -> None:
        """FC35: what user A may do is not remembered for user B."""
        text = "version: 1\ndefault: deny\nrules:\n- {id: a, tool: get_weather, user: alice, decision: allow}\n"
        engine = load_policy_text(text).engine
        verdicts = [engine.decide(Action("tool", "get_weather", user=user), None, NOW).decision.value for user in ("alice", "bob", "alice")]
        assert ["allow", "deny", "allow"] == verdicts

    def test_deep_and_cyclic_arguments(self) -> None:
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

    def test_long_text_for_an_expression(self) -> None:
        """FC21: 100 kB for `^(a+)+$` are over the cap, so an allow does not hold and nothing hangs."""
        text = "version: 1\ndefault: deny\nrules:\n- {id: a, tool: get_weather, args: {x: {regex: '(a+)+'}}, decision: allow}\n"
        signature = ToolSignature((Parameter("x", "str"),))
        verdicts = [
            load_policy_text(text).engine.decide(Action("tool", "get_weather", {"x": "a" * size}, signature), None, NOW).decision.value
            for size in (60_000, 100_000)
        ]
        assert ["allow", "deny"] == verdicts

    def test_duplicate_id(self) -> None:
        """FC38: of two rules with one id neither replaces the other: the file is refused."""
        with pytest.raises(ConfigError, match="P010"):
            load_policy_text(OURS["PF02"])

    def test_environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """FC40: no variable of the environment switches a policy off."""
        monkeypatch.setitem(os.environ, "POLICY_DISABLED", "1")
        monkeypatch.setitem(os.environ, "OTEL_SDK_DISABLED", "true")
        assert load_policy([FILES / "engine.yaml"]).engine.decide(Action("tool", "other"), None, NOW).decision.value == "deny"
