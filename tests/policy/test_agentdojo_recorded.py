"""A few recorded runs of AgentDojo under the shipped packs, without AgentDojo: nothing an attacker wants runs, and nobody is asked more often.

The runs are data of AgentDojo (its licence stands in the file); `make bench-agentdojo ARGS=--record` writes them anew.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import otel_runtime as rt
from otel_runtime.runtime.build import build_runtime
from otel_runtime.runtime.runtime import Runtime
from otel_runtime.settings.model import Settings
from otel_runtime.wrap import registry

ROOT = Path(__file__).parents[2]
RECORDED: dict[str, Any] = json.loads((Path(__file__).parent / "data" / "agentdojo.json").read_text(encoding="utf-8"))
RUNS: list[dict[str, Any]] = RECORDED["runs"]
NAMES = [f"{run['suite']}-{run['task']}" for run in RUNS]
Tool = Callable[[dict[str, Any], object], object]
READING = ("get_", "read_", "search_", "list_", "check_")


@pytest.fixture(params=RUNS, ids=NAMES)
def run(request: pytest.FixtureRequest) -> dict[str, Any]:
    recorded: dict[str, Any] = request.param
    return recorded


@pytest.fixture
def tools(monkeypatch: pytest.MonkeyPatch) -> dict[str, Tool]:
    """Decorated functions with the parameters of the suites' tools, which return what they are told; other tests do not see them."""
    monkeypatch.setattr(registry, "_plans", dict(registry._plans))
    return {name: decorated(name, parameters) for name, parameters in RECORDED["tools"].items()}


def decorated(name: str, parameters: list[str]) -> Tool:
    told: list[object] = [None]

    def returns_what_it_is_told(**_arguments: object) -> object:
        return told[0]

    kind = inspect.Parameter.KEYWORD_ONLY
    signature = inspect.Signature([inspect.Parameter(parameter, kind, default=None) for parameter in parameters])
    returns_what_it_is_told.__signature__ = signature  # type: ignore[attr-defined]  # what inspect reads
    guarded = rt.tool(name=name)(returns_what_it_is_told)

    def call(args: dict[str, Any], result: object) -> object:
        told[0] = result
        return guarded(**args)

    return call


@pytest.fixture
def runtime(run: dict[str, Any], tools: dict[str, Tool], tmp_path: Path) -> Iterator[Runtime]:
    """A runtime with the pack of the recorded run."""
    assert tools
    settings = {
        "policy": (ROOT / "policy" / run["policy"],),
        "state": tmp_path / "state" / "state.db",
        "otlp": "off",
        "wait_at_most": 0,
        "people": {"emma": {"roles": []}},
    }
    built = build_runtime(Settings.model_validate(settings))
    yield built
    built.shutdown()


def fate(runtime: Runtime, tools: dict[str, Tool], call: dict[str, Any], *, agrees: bool) -> str:
    """What becomes of one call: `ran`, `asked` (and done once the user agreed) or `denied`."""
    try:
        tools[call["tool"]](call["args"], call["result"])
    except rt.ApprovalPending as pending:
        if agrees:
            assert runtime.approvals is not None
            runtime.approvals.answer(pending.request_id, approver="os:emma", approved=True)
            assert "ran" == fate(runtime, tools, call, agrees=False)
        return "asked"
    except rt.PolicyDenied:
        return "denied"
    return "ran"


def play(
    runtime: Runtime, tools: dict[str, Tool], said: str, own: list[dict[str, Any]], hijacked: list[dict[str, Any]]
) -> tuple[list[str], list[str]]:
    with runtime.use(), rt.session("s", user="emma") as session:
        session.user_said(said)
        with rt.agent("assistant"):
            return _all(runtime, tools, own, agrees=True), _all(runtime, tools, hijacked, agrees=False)


def _all(runtime: Runtime, tools: dict[str, Tool], calls: list[dict[str, Any]], *, agrees: bool) -> list[str]:
    fates = []
    for at, call in enumerate(calls):
        with rt.call(id=f"{'own' if agrees else 'other'}-{at}"):
            fates.append(fate(runtime, tools, call, agrees=agrees))
    return fates


def recorded(call: dict[str, Any]) -> str:
    """`failed` is the suite's own tool, which ran."""
    return "asked" if call["questions"] else "ran" if call["fate"] == "failed" else str(call["fate"])


class TestRecorded:
    """User tasks, by themselves and with an attacker's calls behind them."""

    def test_tasks(self, run: dict[str, Any], runtime: Runtime, tools: dict[str, Tool]) -> None:
        """Every call of a user's task runs, and a person is asked about the recorded ones only; none is denied."""
        fates, _ = play(runtime, tools, run["said"], run["calls"], [])
        assert [(call["tool"], recorded(call)) for call in run["calls"]] == [
            (call["tool"], got) for call, got in zip(run["calls"], fates, strict=True)
        ]
        assert "denied" not in fates

    def test_attacks(self, run: dict[str, Any], runtime: Runtime, tools: dict[str, Tool]) -> None:
        """No call of an attacker that does more than reading runs, and of an attack that only reads not all of them."""
        assert run["attacks"]
        for attack in run["attacks"]:
            _, fates = play(runtime, tools, run["said"], attack["own"], attack["hijacked"])
            names = [call["tool"] for call in attack["hijacked"]]
            ran = [tool for tool, got in zip(names, fates, strict=True) if got == "ran"]
            assert [] == [tool for tool in ran if not tool.startswith(READING)], attack["injection"]
            assert len(ran) < len(names), attack["injection"]


def test_the_licence_is_there() -> None:
    """The data of others says whose it is."""
    assert "MIT licence" in RECORDED["licence"]
