"""A few runs as data, so that the test suite can play them where AgentDojo is not installed."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from benchmarks.agentdojo.replay import Guarded, Played
from benchmarks.agentdojo.suites import Attack, attacks, benign, functions_module, load_suite, package_version

__all__ = ["record"]

_LICENCE = "From AgentDojo (https://github.com/ethz-spylab/agentdojo), MIT licence, copyright (c) 2024 Edoardo Debenedetti, Jie Zhang, Mislav Balunovic, Luca Beurer-Kellner, Marc Fischer, and Florian Tramèr."
# Small results, and each rule of the packs at least once.
_TASKS = {
    "banking": ("user_task_0", "user_task_2", "user_task_4", "user_task_15"),
    "slack": ("user_task_1", "user_task_2", "user_task_4", "user_task_11"),
    "travel": ("user_task_0", "user_task_3"),
    "workspace": ("user_task_8", "user_task_9", "user_task_32"),
}
_INJECTIONS = {
    "banking": ("injection_task_0", "injection_task_4", "injection_task_7"),
    "slack": ("injection_task_1", "injection_task_3", "injection_task_4", "injection_task_5"),
    "travel": ("injection_task_0", "injection_task_2", "injection_task_3"),
    "workspace": ("injection_task_1", "injection_task_2"),
}
_MAX_TEXT = 1_000


def record(version: str, packs: Mapping[str, Path]) -> str:
    """The chosen user tasks, each with the chosen injections, as JSON text.

    Args:
        version: Benchmark version.
        packs: Policy file by suite.
    """
    runs = [run for name, policy in packs.items() for run in _runs(version, name, policy)]
    tools = {tool.name: list(tool.parameters.model_fields) for name in packs for tool in load_suite(version, name).tools}
    used = {call["tool"] for run in runs for calls in _every(run) for call in calls}
    whole = {
        "tools": {name: names for name, names in tools.items() if name in used},
        "licence": _LICENCE,
        "agentdojo": package_version(),
        "benchmark": version,
    }
    # One run a line: a change is seen in the run it belongs to.
    lines = ",\n".join(json.dumps(run, ensure_ascii=False, separators=(",", ":")) for run in runs)
    head = json.dumps(whole, ensure_ascii=False)
    return f'{head[:-1]}, "runs": [\n{lines}\n]}}\n'


def _every(run: dict[str, Any]) -> Iterator[list[dict[str, Any]]]:
    yield run["calls"]
    for attack in run["attacks"]:
        yield from (attack["own"], attack["hijacked"])


def _runs(version: str, name: str, policy: Path) -> Iterator[dict[str, Any]]:
    suite = load_suite(version, name)
    with tempfile.TemporaryDirectory() as folder:
        guarded = Guarded(functions_module(), suite.tools, policy, Path(folder) / "state" / "state.db")
        try:
            hostile = list(attacks(suite, guarded))
            for run in benign(suite, guarded):
                if run.task in _TASKS[name]:
                    said = suite.user_tasks[run.task].PROMPT
                    behind = [
                        _attack(attack) for attack in hostile if (attack.task, attack.injection in _INJECTIONS[name]) == (run.task, True)
                    ]
                    yield {
                        "suite": name,
                        "policy": policy.name,
                        "task": run.task,
                        "said": said,
                        "calls": _calls(run.played),
                        "attacks": behind,
                    }
        finally:
            guarded.close()


def _attack(attack: Attack) -> dict[str, Any]:
    return {"injection": attack.injection, "own": _calls(attack.own), "hijacked": _calls(attack.hijacked)}


def _calls(played: Played) -> list[dict[str, Any]]:
    return [
        {
            "tool": step.call.function,
            "args": dict(step.call.args),
            "fate": step.fate,
            "questions": step.questions,
            "result": _plain(step.result),
        }
        for step in played.steps
    ]


def _plain(value: Any) -> Any:
    """A result as JSON, long texts cut: what is looked for stands at their beginning."""
    dumped = json.loads(json.dumps(value, default=lambda item: item.model_dump(mode="json") if hasattr(item, "model_dump") else str(item)))
    return _cut(dumped)


def _cut(value: Any) -> Any:
    if isinstance(value, str):
        return value[:_MAX_TEXT]
    if isinstance(value, list):
        return [_cut(item) for item in value]
    return {key: _cut(item) for key, item in value.items()} if isinstance(value, dict) else value
