"""Every single-token change of a shipped pack is caught by the pack's own cases, but for those that change nothing a case can see.

A sample of the mutants runs with the suite; all of them with `MUTANTS=all pytest tests/policy/test_mutations.py`.
"""

from __future__ import annotations

import copy
import json
import os
import random
import re
from collections.abc import Iterator
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

import pytest

from otel_runtime.errors import ConfigError
from otel_runtime.policy.loading import load_policy_text
from otel_runtime.settings.documents import read_document

ROOT = Path(__file__).parents[2]
SAMPLE = 60
PACKS = sorted(path.stem for path in (ROOT / "policy").glob("*.yaml"))
UNWRITTEN = "it is what is meant where nothing is written"
# Pack -> pattern of mutants that decide as the pack does, and why. `*` holds for all.
EQUIVALENT: dict[str, list[tuple[str, str]]] = {
    "*": [(r"\S+\.retry\.max_attempts -> gone", UNWRITTEN)],
    "coding-agent": [
        (r"(\S+\.)?approval\.expires -> gone", UNWRITTEN),
        (r"files\.(outside|git)\.unless\.args\.path\.contains -> gone", "only a link tells the paths apart that it is about"),
        (r"files\.\w+\.unless\.\S+regex -> \S+\)\*\S+", "a path of one part has no room for the `$` that is asked for as well"),
        (r"files\.(secrets|git)\.unless\.\S+regex -> .*", "files.outside refuses every other path with a `$`"),
        (r"tools\.web_fetch\.adds -> .*", "the label is for rules that a project adds; none of the pack asks for it"),
        (
            r"tools\.\w+\.args\.(path|url|command) -> (any|str\?)",
            "a path, address or command that is no text, or missing, is refused by files.outside, net.plain and shell.never too",
        ),
    ],
    "data-agent": [
        (r"tools\.web_fetch\.adds -> .*", "the label is for rules that a project adds; none of the pack asks for it"),
        (r"tools\.list_tables -> gone", "it says only that there is such a tool, and cases take every tool they call for one"),
        (r"tools\.(export_table|web_fetch)\.args\.\w+ -> (any|str\?)", "no rule allows what is no text or missing, and the default denies"),
    ],
    "mcp-client": [
        (r"\S+\.approval\.expires -> gone", UNWRITTEN),
        (r"\S+\.unless\.tool\.\d -> \*:tracker:\w+_\*", "the exception of a rule about `mcp:` names only"),
        (r"files\.outside\.unless\.tool\.\d -> (\*:files|mcp:\*):\w+", "the exception of a rule about `mcp:files:` names only"),
    ],
    "support-agent": [
        (r"stock\.rate\.retry\.after -> gone", UNWRITTEN),
        (r"tools\.send_email\.tags -> .*", "the tag is for rules that a project adds; none of the pack asks for it"),
        (r"tools\.refund\.args\.amount -> number\?", "no rule allows a refund without an amount, and the default denies"),
        (r"tools\.send_email\.args\.to -> list\[str\]\?", "no rule allows mail to nobody, and the default denies"),
        (r"tools\.web_fetch\.args\.url -> (any|str\?)", "no rule allows a fetch of what is no text, and the default denies"),
        (r"mail\.[a-z-]+\.only_args -> gone", "the catalogue of the same file refuses other arguments already"),
    ],
}


@pytest.fixture(autouse=True)
def somewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder of its own is the workspace."""
    monkeypatch.chdir(tmp_path)


def document(name: str) -> dict[str, Any]:
    plain = read_document((ROOT / "policy" / f"{name}.yaml").read_bytes(), name).plain()
    assert isinstance(plain, dict)
    return plain


def chosen(name: str) -> list[tuple[str, dict[str, Any]]]:
    found = list(mutants(document(name)))
    if os.environ.get("MUTANTS") == "all" or len(found) <= SAMPLE:
        return found
    # The same sample each time: a failure must come again.
    return random.Random(name).sample(found, SAMPLE)


def survives(mutant: dict[str, Any]) -> bool:
    try:
        load_policy_text(json.dumps(mutant, default=str))
    except ConfigError:
        return False
    return True


def excused(name: str, what: str) -> bool:
    return any(re.fullmatch(pattern, what) for pattern, _ in (*EQUIVALENT["*"], *EQUIVALENT.get(name, [])))


# --- the mutator ----------------------------------------------------------------------------------------------------------------

Place = tuple[str | int, ...]
# `None` as a new value removes.
Edit = tuple[Place, Any]

_DECISIONS = ("allow", "deny", "require-approval", "retryable-failure")
_DEFAULTS = ("allow", "deny", "require-approval")
_OWNERS = ("session", "user", "agent", "tenant", "all")
_SWAPS = {
    "gt": "gte",
    "gte": "gt",
    "lt": "lte",
    "lte": "lt",
    "eq": "ne",
    "ne": "eq",
    "in": "not_in",
    "not_in": "in",
    "starts_with": "ends_with",
    "ends_with": "starts_with",
    "some": "every",
    "every": "some",
    "none": "some",
    "any_of": "all_of",
    "all_of": "any_of",
    "regex": "search",
    "search": "regex",
    "reads_only": "runs_only",
    "none_of": "any_of",
    "only": "any_of",
}
# What cases are, and what only people read.
_NO_RULE = {"id", "reason", "match", "no_match"}
_NAMES = {"tool", "name", "agent"}
_LASTING = re.compile(r"([0-9]+)([a-z]+)")
_ALTERNATIVE = re.compile(r"[\w.\\ +-]+\||\|[\w.\\ +-]+(?=\)|$)")
_LOOSENINGS = ((re.compile(r"\+(?!\))"), "*"), (re.compile(r"\\b"), ""), (re.compile(r"\(\?i\)"), ""), (re.compile(r"(?<!\\)\^"), ""))


def mutants(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each mutant with what was changed; its shape stays sound where a change of terms would give it away."""
    for path, value in _edits(document):
        mutant = _changed(document, path, value)
        _fitted(mutant)
        yield f"{_where(document, path)} -> {'gone' if value is None else value}", mutant


def _edits(document: dict[str, Any]) -> Iterator[Edit]:
    yield from ((("default",), other) for other in _DEFAULTS if other != document["default"])
    yield from _block_edits(document.get("approval", {}), ("approval",))
    for name, tool in document.get("tools", {}).items():
        yield from _tool_edits(tool, ("tools", name))
    for at, rule in enumerate(document["rules"]):
        yield ("rules", at), None
        yield from _block_edits(rule, ("rules", at))


def _tool_edits(tool: dict[str, Any], path: Place) -> Iterator[Edit]:
    for key in ("adds", "tags"):
        values = tool.get(key, [])
        values = values if isinstance(values, list) else [values]
        yield from (((*path, key), [*values[:at], f"{value}x", *values[at + 1 :]]) for at, value in enumerate(values))
        # An empty list would be refused for its shape.
        yield from (((*path, key), [*values[:at], *values[at + 1 :]] or None) for at in range(len(values)))
    # A tool of which the file says nothing any more.
    yield path, None
    for name, kind in tool.get("args", {}).items():
        yield (*path, "args", name), None
        yield (*path, "args", name), "any?" if kind.endswith("?") else "any"
        yield (*path, "args", name), kind.removesuffix("?") if kind.endswith("?") else f"{kind}?"


def _block_edits(node: dict[str, Any] | list[Any], path: Place) -> Iterator[Edit]:
    for key, value in list(node.items()) if isinstance(node, dict) else list(enumerate(node)):
        if key in _NO_RULE:
            continue
        here = (*path, key)
        if len(node) > 1 and key not in {"decision", "kind", "tool", "by", "per", "dialect", "schemas", "max"}:
            yield here, None
        if key in _SWAPS:
            yield here, {"becomes": _SWAPS[str(key)]}
        if key in {"not", "unless"}:
            yield here, {"unwraps": None}
        yield from _value_edits(value, here)


def _value_edits(value: Any, path: Place) -> Iterator[Edit]:
    key = path[-1]
    if isinstance(value, dict | list):
        yield from _block_edits(value, path)
    elif key == "decision":
        yield from ((path, other) for other in _DECISIONS if other != value)
    elif key in {"per", "expires", "use_within", "after"} and (lasting := _LASTING.fullmatch(str(value))):
        yield from ((path, f"{int(lasting[1]) + step}{lasting[2]}") for step in (1, -1))
    elif key == "by":
        yield from ((path, other) for other in _OWNERS if other != value)
    elif isinstance(value, bool):
        yield path, not value
    elif isinstance(value, int | float | Decimal):
        yield from ((path, value + step) for step in (1, -1))
    elif isinstance(value, str):
        yield from ((path, text) for text in dict.fromkeys(_texts(value, path)) if text != value)


def _texts(value: str, path: Place) -> Iterator[str]:
    keys = {key for key in path if isinstance(key, str)}
    try:
        number = Decimal(value)
    except InvalidOperation:
        pass
    else:
        # Money is written as text: one cent up and down.
        yield from (str(number + step) for step in (Decimal("0.01"), Decimal("-0.01")))
        return
    yield f"{value}x"
    if keys & {"regex", "search"}:
        yield from (value[: found.start()] + value[found.end() :] for found in _ALTERNATIVE.finditer(value))
        for shape, new in _LOOSENINGS:
            yield from (value[: found.start()] + new + value[found.end() :] for found in shape.finditer(value))
    elif keys & _NAMES or "file_name" in keys:
        yield from _loosened(value)
    elif "host" in keys:
        yield f"*.{value}" if not value.startswith("*") else value.partition(".")[2]
    elif "under" in keys and "/" in value.removeprefix("workspace:"):
        yield value.rpartition("/")[0]
    elif "under" in keys and value != "workspace:" and value.startswith("workspace:"):
        yield "workspace:"


def _loosened(value: str) -> Iterator[str]:
    """A name that fits more: any ending, any beginning, anything."""
    if "*" not in value:
        yield f"{value}*"
    for part in re.finditer(r"[^*.:]+", value):
        yield (value[: part.start()] + "*" + value[part.end() :]).replace("**", "*")


def _where(document: dict[str, Any], path: Place) -> str:
    if path[0] != "rules":
        return ".".join(map(str, path))
    rule = document["rules"][path[1]]["id"]
    return ".".join(map(str, (rule, *path[2:])))


def _changed(document: dict[str, Any], path: Place, value: Any) -> dict[str, Any]:
    mutant = copy.deepcopy(document)
    holder: Any = mutant
    for step in path[:-1]:
        holder = holder[step]
    last = path[-1]
    if value is None:
        del holder[last]
    elif isinstance(value, dict) and "becomes" in value:
        _exchanged(holder, last, value["becomes"])
    elif isinstance(value, dict) and "unwraps" in value:
        inner = holder.pop(last)
        _merged(holder, inner)
    else:
        holder[last] = value
    return mutant


def _exchanged(holder: dict[Any, Any], old: str | int, new: str) -> None:
    holder[new] = holder.pop(old)


def _merged(holder: dict[str, Any], inner: dict[str, Any]) -> None:
    for key, value in inner.items():
        if isinstance(value, dict) and isinstance(holder.get(key), dict):
            _merged(holder[key], value)
        else:
            holder[key] = value


def _fitted(mutant: dict[str, Any]) -> None:
    """Give terms to what asks now, and take them from what does not: the shape of the file must not give the change away."""
    for block, key in ((mutant, "default"), *((rule, "decision") for rule in mutant["rules"])):
        if block.get(key) == "require-approval":
            block.setdefault("approval", {"approvers": ["anyone"]})
        else:
            block.pop("approval", None)
    for rule in mutant["rules"]:
        if rule["decision"] != "retryable-failure":
            rule.pop("retry", None)


class TestMutations:
    @pytest.mark.parametrize("name", PACKS)
    def test_are_caught(self, name: str) -> None:
        """A mutant that decides otherwise than the pack makes one of the pack's cases fail."""
        assert [] == [what for what, mutant in chosen(name) if survives(mutant) and not excused(name, what)]

    @pytest.mark.parametrize("name", PACKS)
    def test_excuses_are_needed(self, name: str) -> None:
        """Nothing is excused that a case would catch: each pattern stands for mutants, and all but shape faults of them survive."""
        whats = [(what, mutant) for what, mutant in mutants(document(name))]
        for pattern, reason in EQUIVALENT.get(name, []):
            members = [(what, mutant) for what, mutant in whats if re.fullmatch(pattern, what)]
            assert members, (pattern, reason)
            assert any(survives(mutant) for _, mutant in members), (pattern, reason)

    def test_the_mutator_mutates(self) -> None:
        """Each kind of change is there: a rule dropped, a decision flipped, an operator exchanged, a number moved, a list shortened, a glob loosened."""
        whats = [what for name in PACKS for what, _ in mutants(document(name))]
        for kind in (
            r"\S+ -> gone",
            r"\S+\.decision -> deny",
            r"\S+gt -> .*becomes.*gte.*",
            r"\S+\.calls -> 301",
            r"\S+\.calls -> 299",
            r"\S+\.host\.0 -> gone",
            r"\S+\.tool\.\d+ -> \*",
            r"default -> allow",
            r"\S+unless -> .*unwraps.*",
            r"\S+search\.\d -> .*",
            r"tools\.\w+\.adds -> gone",
            r"tools\.\w+\.adds -> \['untrustedx'\]",
            r"tools\.\w+ -> gone",
        ):
            assert any(re.fullmatch(kind, what) for what in whats), kind
        assert len(whats) > 1_200
