"""The real `dreadnode` runtime and our worker on its event bus, offline, in an environment of its own: their dependencies do not fit ours."""

from __future__ import annotations

import functools
import json
import os
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from otel_runtime.errors import RuntimeStateError
from otel_runtime.integrations import dreadnode

HOW = "make foreign"
PROGRAM = Path(__file__).parent / "dreadnode_bridge.py"
POLICY = """version: 1
default: allow
rules:
  - id: no-root
    tool: remove
    args: {path: {eq: /}}
    decision: deny
    reason: the root stays
"""


def python() -> Path:
    """The Python of the environment that has both packages."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    told = os.environ.get("OTEL_RUNTIME_FOREIGN")
    folder = Path(told) if told else cache / "otel-runtime" / "foreign"
    if not (folder / ".complete-1").is_file():
        pytest.skip(f"the package `dreadnode` is not in {folder}: run `{HOW}`")
    return folder / "bin" / "python"


@functools.cache
def bridged(how: str, folder: Path, package: Path) -> dict[str, Any]:
    """What one of the two ways of reading the bus made of the same turns."""
    (folder / "policy.yaml").write_text(POLICY, encoding="utf-8")
    environ = {**os.environ, "PYTHONPATH": str(package), "HOME": str(folder), "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    words: list[str | Path] = [python(), PROGRAM, how, folder / "policy.yaml", folder / f"{how}.db"]
    done = subprocess.run(words, env=environ, cwd=folder, capture_output=True, text=True, check=False, timeout=170)
    found = [line.removeprefix("BRIDGED ") for line in done.stdout.splitlines() if line.startswith("BRIDGED ")]
    assert found, done.stderr[-3000:]
    result: dict[str, Any] = json.loads(found[0])
    return result


@pytest.fixture(params=["worker", "follow"])
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, package_alone: Path) -> dict[str, Any]:
    """A turn that asks twice, one whose tool failed uncaught, one whose session was closed, one that went well."""
    python()
    return bridged(request.param, tmp_path_factory.getbasetemp(), package_alone)


class TestLive:
    def test_our_policy_answers_their_prompts(self, run: dict[str, Any]) -> None:
        """The tool that asked got what our rules say, in that system's own words."""
        assert [["allowed", True], ["refused", False]] == run["results"]

    def test_the_answers_are_on_the_spans(self, run: dict[str, Any]) -> None:
        """Each question is named by our answer, and the refusal is a decision of our rule under the turn."""
        names = {span["name"]: span for span in run["spans"]}
        assert {"approval approved remove", "approval denied remove"} <= set(names)
        refusal = names["policy deny remove"]
        assert ("invoke_agent t", "no-root") == (refusal["parent"], refusal["attributes"]["otel_runtime.policy.rule"])

    def test_no_turn_and_no_tool_is_lost(self, run: dict[str, Any]) -> None:
        """Four turns, their generations and tools, each under its own."""
        counts = Counter(span["name"] for span in run["spans"])
        expected = {"execute_tool allowed", "execute_tool refused", "execute_tool slow", "execute_tool boom", "execute_tool hangs"}
        assert expected <= set(counts)
        assert (4, 2) == (counts["invoke_agent t"], counts["execute_tool fast"])
        assert {"chat listed"} == {span["parent"] for span in run["spans"] if span["name"].startswith("execute_tool")}

    def test_outcomes(self, run: dict[str, Any]) -> None:
        """The failed turn is an error, the closed one says so."""
        roots = {span["attributes"]["gen_ai.conversation.id"]: span for span in run["spans"] if span["parent"] is None}
        assert {"s-asked": "UNSET", "s-failed": "ERROR", "s-closed": "UNSET", "s-other": "UNSET"} == {
            session: span["status"] for session, span in roots.items()
        }
        assert "closed" == roots["s-closed"]["attributes"]["otel_runtime.outcome"]


class TestWithoutThePackage:
    def test_it_says_what_is_missing(self) -> None:
        """The error names the package."""
        with pytest.raises(RuntimeStateError, match="pip install dreadnode"):
            dreadnode.worker()

    def test_all_kinds_are_subscribed(self) -> None:
        """The thirteen of the page."""
        assert 13 == len(set(dreadnode.EVENT_KINDS))
