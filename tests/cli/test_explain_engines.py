"""`policy explain` where the settings name policies in other languages."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from otel_runtime.cli.main import main

pytest.importorskip("cedarpy", reason="pip install 'otel-runtime[cedar]'")
RULES = """
@id("all") permit (principal, action, resource);
@id("large") @reason("Too much.") forbid (principal, action, resource == Tool::"pay") when { context.args.amount > 100 };
"""
OURS = "version: 1\ndefault: deny\nrules:\n  - {id: small, tool: pay, args: {amount: {lte: 1000}}, decision: allow}\n"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    (tmp_path / "a.cedar").write_text(RULES)
    (tmp_path / "ours.yaml").write_text(OURS)
    return tmp_path


def explained(capsys: pytest.CaptureFixture[str], amount: int, *more: str) -> Any:
    assert 0 == main(
        ["policy", "explain", "--tool", "pay", "--args", json.dumps({"amount": amount}), "--user", "ann", "--role", "r", "--json", *more]
    )
    return json.loads(capsys.readouterr().out)


class TestExplain:
    def test_cedar_alone(self, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """Cedar decides, and the policies that held are named with their places."""
        (here / "otel-runtime.yaml").write_text("cedar: a.cedar\n")
        found = explained(capsys, 500)
        assert ("deny", "large", "Too much.") == tuple(found["decision"][key] for key in ("value", "rule", "reason"))
        assert [("all", "true"), ("large", "true")] == [(rule["rule"], rule["outcome"]) for rule in found["rules"]]
        assert "a.cedar:3" == Path(found["rules"][1]["place"]).name

    def test_beside_our_own(self, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """Both are asked, the stricter counts, and our own rules are shown with their conditions."""
        (here / "otel-runtime.yaml").write_text("policy: ours.yaml\ncedar: a.cedar\n")
        assert ["allow", "deny", "deny"] == [explained(capsys, amount)["decision"]["value"] for amount in (5, 500, 5000)]
        rules = {rule["rule"]: rule for rule in explained(capsys, 500)["rules"]}
        assert ({"small", "all", "large"}, True) == (set(rules), bool(rules["small"]["conditions"]))

    def test_a_file_alone_when_it_is_named(self, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """`--policy` explains that policy and nothing else."""
        (here / "otel-runtime.yaml").write_text("cedar: a.cedar\n")
        assert "allow" == explained(capsys, 500, "--policy", "ours.yaml")["decision"]["value"]

    def test_a_tool_that_is_misspelt(self, here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        """With the program at hand, the name that may have been meant is said."""
        (here / "till_of_explain.py").write_text(
            "import otel_runtime as rt\n\n@rt.tool\ndef reimburse_in_full(amount: int) -> None:\n    pass\n"
        )
        monkeypatch.syspath_prepend(str(here))
        assert 0 == main(["policy", "explain", "--policy", "ours.yaml", "--tool", "reimburse_in_ful", "--app", "till_of_explain"])
        assert "the program decorates no tool `reimburse_in_ful`; did you mean `reimburse_in_full`?" in capsys.readouterr().out

    def test_opa_that_does_not_answer(self, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """Without an answer the call would be denied, and that is what is explained."""
        (here / "otel-runtime.yaml").write_text("opa: http://127.0.0.1:1/v1/data/a\n")
        assert 0 == main(["policy", "explain", "--tool", "pay"])
        said = capsys.readouterr().out
        assert said.startswith("deny")
        assert "OPA did not decide" in said
