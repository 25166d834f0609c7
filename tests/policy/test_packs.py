"""The packs we ship: they load without a warning, their cases cover every rule, and notice what is changed in them."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from otel_runtime.errors import ConfigError
from otel_runtime.policy.loading import load_policy, load_policy_text
from otel_runtime.settings.documents import read_document

ROOT = Path(__file__).parents[2]
PACKS = ["careful-default", "coding-agent", "data-agent", "mcp-client", "support-agent"]
_DECISIONS = ["allow", "deny", "require-approval", "retryable-failure"]
# What people read or set to their own taste, and what cases say themselves.
_TASTE = {"id", "reason", "match", "no_match", "approval", "retry", "mode", "tz", "reserve", "dialect"}
Path_ = tuple[str | int, ...]


@pytest.fixture(autouse=True)
def somewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder of its own is the workspace."""
    monkeypatch.chdir(tmp_path)


def plain(name: str) -> dict[str, Any]:
    document = read_document((ROOT / "policy" / f"{name}.yaml").read_bytes(), name).plain()
    assert isinstance(document, dict)
    return document


def changes(node: Any, path: Path_) -> Iterator[tuple[Path_, Any]]:
    """One thing changed at a time: an element or key removed, a number moved, a text altered. `None` removes."""
    if isinstance(node, dict | list):
        yield from inner_changes(node, path)
    elif path[-1] == "decision":
        yield from ((path, other) for other in _DECISIONS if other != node)
    elif isinstance(node, int | float):
        yield from ((path, node + step) for step in (1, -1))
    elif isinstance(node, str):
        yield path, f"{node}x"
        # One alternative of an expression less.
        yield from ((path, node[: found.start()] + node[found.end() :]) for found in re.finditer(r"[\w.\\-]+\||\|[\w.\\-]+(?=\)|$)", node))


def inner_changes(node: dict[str, Any] | list[Any], path: Path_) -> Iterator[tuple[Path_, Any]]:
    for key, value in node.items() if isinstance(node, dict) else enumerate(node):
        if key in _TASTE:
            continue
        if len(node) > 1 and key not in {"decision", "kind", "tool", "by", "per"}:
            yield (*path, key), None
        yield from changes(value, (*path, key))


def changed(document: dict[str, Any], path: Path_, value: Any) -> dict[str, Any]:
    mutant = copy.deepcopy(document)
    target: Any = mutant
    for step in path[:-1]:
        target = target[step]
    if value is None:
        del target[path[-1]]
    else:
        target[path[-1]] = value
    return mutant


def mutants(name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    document = plain(name)
    for at, rule in enumerate(document["rules"]):
        for path, value in changes(rule, ("rules", at)):
            mutant = changed(document, path, value)
            decision = mutant["rules"][at]["decision"]
            # The shape of the file must not be what gives the change away.
            if decision == "require-approval":
                mutant["rules"][at].setdefault("approval", {"approvers": ["acting-user"]})
            else:
                mutant["rules"][at].pop("approval", None)
            if decision != "retryable-failure":
                mutant["rules"][at].pop("retry", None)
            yield f"{rule['id']}: {'.'.join(map(str, path[2:]))} -> {value}", mutant


class TestPacks:
    @pytest.mark.parametrize("name", PACKS)
    def test_loads_without_a_warning(self, name: str) -> None:
        """A shipped pack has no fault and no doubt in it."""
        assert () == load_policy([ROOT / "policy" / f"{name}.yaml"]).warnings

    @pytest.mark.parametrize("name", PACKS)
    def test_covered(self, name: str) -> None:
        """Every rule is seen both to apply and not to."""
        assert [] == [cover for cover in load_policy([ROOT / "policy" / f"{name}.yaml"]).coverage if not cover.whole]

    @pytest.mark.parametrize("name", ["careful-default", "coding-agent", "data-agent", "mcp-client"])
    def test_changes_are_noticed(self, name: str) -> None:
        """Removing one thing from a rule, moving a number or turning a decision makes a case fail."""
        unnoticed = []
        for what, mutant in mutants(name):
            try:
                load_policy_text(json.dumps(mutant))
            except ConfigError:
                continue
            unnoticed.append(what)
        assert [] == unnoticed

    def test_all_are_here_and_documented(self) -> None:
        """Every pack stands in this test, and has its section in the document."""
        found = {path.stem for path in (ROOT / "policy").glob("*.yaml")}
        headings = set(re.findall(r"^## `([a-z-]+)\.yaml`", (ROOT / "docs" / "policy-packs.md").read_text(encoding="utf-8"), re.MULTILINE))
        assert (set(PACKS), set(PACKS)) == (found, headings)
