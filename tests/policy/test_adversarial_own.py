"""Rows of our own beside the given ones: what a hostile call would try next, and ordinary calls that must pass. `data/own_rows.jsonl`."""

from __future__ import annotations

import datetime as dt
import decimal
import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from otel_runtime.policy.loading import LoadedPolicy, load_policy, load_policy_text
from otel_runtime.values.action import Action, Parameter, ToolSignature
from otel_runtime.values.snapshot import snapshot_arguments

HERE = Path(__file__).parent
ROWS = [json.loads(line) for line in (HERE / "data" / "own_rows.jsonl").read_text(encoding="utf-8").splitlines()]
NOW = dt.datetime(2026, 11, 20, tzinfo=dt.UTC)
PASSES = {"allow": {"allow"}, "block": {"deny", "require-approval"}, "approve": {"require-approval"}}


@cache
def loaded(name: str, _folder: Path) -> LoadedPolicy:
    """The policy of a row; `workspace: .` is the folder it is loaded in."""
    return load_policy([HERE / "cases" / f"{name.lower()}.yaml"])


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("own") / "ROOT"
    (base / "data" / "sub").mkdir(parents=True)
    (base / "data" / "ok.txt").write_text("ok")
    (base / "secret.txt").write_text("secret")
    (base / "data.bak").write_text("other")
    (base / "elsewhere" / "deep").mkdir(parents=True)
    (base / "data" / "linkdir").symlink_to(base / "elsewhere" / "deep")
    (base / ".agent").mkdir()
    (base / ".agent" / "policy.yaml").write_text("x")
    (base / "lnk").symlink_to(base / ".agent" / "policy.yaml")
    return base


@pytest.mark.parametrize("row", [pytest.param(row, id=row["id"]) for row in ROWS])
def test_row(row: dict[str, Any], root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hostile call does not pass, and an ordinary one does."""
    monkeypatch.chdir(root)
    call = row["call"]
    given = (
        eval(call["py"], {"decimal": decimal}) if "py" in call else json.loads(json.dumps(call["args"]).replace("ROOT", str(root)))
    )  # our own table
    args, _ = snapshot_arguments(given)
    signature = ToolSignature((Parameter("city", required=False),), open=True) if row["policy"] == "TOOL" else None
    action = Action("tool", call["tool"], args, signature, session="s", user="u", roles=frozenset())
    decision = loaded(row["policy"], root).engine.decide(action, None, NOW).decision
    assert decision.value in PASSES[row["expected"]], (row["note"], decision.reason)


QUERIES = json.loads((HERE / "data" / "own_queries.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("dialect", QUERIES)
def test_dialect(dialect: str) -> None:
    """In each dialect nothing but a plain SELECT on the schema passes, and a plain one does: `data/own_queries.json`."""
    terms = {"dialect": dialect, "schemas": ["app"], "functions": ["count", "row_number"]}
    rule = {"id": "a", "tool": "sql", "args": {"q": {"sql": terms}}, "decision": "allow"}
    engine = load_policy_text(json.dumps({"version": 1, "default": "deny", "rules": [rule]})).engine

    def passes(query: str) -> bool:
        return engine.decide(Action("tool", "sql", {"q": query}), None, NOW).decision.value == "allow"

    assert [] == [query for query in QUERIES[dialect]["block"] if passes(query)]
    assert [] == [query for query in QUERIES[dialect]["allow"] if not passes(query)]


def test_table() -> None:
    """Every policy has attacks and controls, and no row stands there twice."""
    shown = [json.dumps([row["policy"], row["call"]]) for row in ROWS]
    assert len(shown) == len(set(shown))
    assert all({"block", "allow"} <= {row["expected"] for row in ROWS if row["policy"] == name} for name in {row["policy"] for row in ROWS})
