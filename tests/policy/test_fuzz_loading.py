"""The loader on broken, odd and hostile files: it loads, or it says what is wrong and where; nothing else ever happens."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from otel_runtime.errors import ConfigError, Fault
from otel_runtime.policy.files import _MAX_BYTES
from otel_runtime.policy.loading import load_policy, load_policy_text
from otel_runtime.policy.model import Conditions, PolicyFile, Rule, Test
from otel_runtime.settings.documents import MAX_BYTES

REPOSITORY = Path(__file__).parents[2]
FILES = sorted([*(REPOSITORY / "policy").rglob("*.yaml"), *(Path(__file__).parent / "cases").glob("*.yaml")])
WORDS = sorted({name.rstrip("_") for model in (PolicyFile, Rule, Conditions, Test) for name in model.model_fields})
ODD = (
    "- ? : :: , {} [] {x [y \" ' | > & * &a *a !!str !x % @ ` # --- ... ~ null NULL yes on 0o17 1_000 .inf .nan 2026-11-20 << <<: \t \\x00 "
    "\u00a0 \u200b \u2028 \ufeff \U0001f600 é 99999999999999999999 -1 1e400 0x1F true"
).split(" ")


def outcome(text: str | bytes) -> list[Fault]:
    """No fault, or faults that each have a place in the text and a sentence."""
    faults = refused(text)
    lines = text.count("\n" if isinstance(text, str) else b"\n") + 1  # type: ignore[arg-type]  # each its own kind
    for fault in faults:
        assert fault.source == "p.yaml"
        assert fault.message[:1].strip()
        assert 0 <= fault.line <= lines + 1, (fault, lines)
        assert fault.column >= (fault.line > 0)
    return faults


def refused(text: str | bytes) -> list[Fault]:
    try:
        load_policy_text(text, "p.yaml")
    except ConfigError as error:
        return list(error.faults) or [Fault("", "", "")]
    return []


class TestMutations:
    @pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
    def test_of_real_files(self, path: Path) -> None:
        """Characters, words and lines of a real policy that are lost, doubled, swapped or replaced give a policy or faults with places."""
        rng = random.Random(path.name)
        text = path.read_text(encoding="utf-8")
        for _ in range(60):
            outcome(mutated(rng, text))

    def test_of_bytes(self) -> None:
        """Bytes that are no text are a fault."""
        rng = random.Random(3)
        text = FILES[0].read_bytes()
        for _ in range(60):
            at = rng.randrange(len(text))
            outcome(text[:at] + bytes(rng.randrange(256) for _ in range(rng.randint(1, 3))) + text[at + rng.randint(0, 2) :])


def mutated(rng: random.Random, text: str) -> str:
    for _ in range(rng.randint(1, 3)):
        at, size = rng.randrange(len(text)), rng.randint(0, 12)
        how = rng.randrange(6)
        if how == 0:
            text = text[:at] + text[at + size + 1 :]
        elif how == 1:
            text = text[:at] + rng.choice(ODD) + text[at:]
        elif how == 2:
            text = text[:at] + rng.choice(WORDS) + text[at + size :]
        else:
            lines = text.split("\n")
            one, other = rng.randrange(len(lines)), rng.randrange(len(lines))
            if how == 3:
                lines[one], lines[other] = lines[other], lines[one]
            elif how == 4:
                lines.insert(other, lines[one])
            else:
                lines[one] = " " * rng.randint(0, 6) + lines[one].lstrip()
            text = "\n".join(lines)
    return text


scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**20), 10**20),
    st.floats(allow_nan=True, allow_infinity=True),
    st.sampled_from([*WORDS, *ODD, "a", "pay", "*", "10s", "role:x", "anyone", "args.amount", "str", "operator:ne", "https"]),
    st.text(max_size=8),
)
keys = st.one_of(st.sampled_from(WORDS), st.sampled_from(["amount", "a|b", "ref", "", "to"]), st.text(max_size=5))
trees = st.recursive(scalars, lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(keys, inner, max_size=5)), max_leaves=25)
likely = st.fixed_dictionaries(
    {"id": st.sampled_from(["a", "b", "c"]), "decision": st.sampled_from(["allow", "deny", "require-approval", "retryable-failure", "x"])},
    optional={name: trees for name in WORDS if name not in {"id", "decision"}},
)


class TestStructures:
    @settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
    @given(trees)
    def test_anything(self, tree: Any) -> None:
        """A document of any shape is a policy or faults with places."""
        outcome(json.dumps(tree))

    @settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(likely, max_size=4), st.dictionaries(st.sampled_from(WORDS), trees, max_size=3))
    def test_nearly_policies(self, rules: list[Any], more: dict[str, Any]) -> None:
        """What looks like a policy and has anything in place of its parts is one or is refused with places."""
        outcome(json.dumps({"version": 1, "default": "deny", **more, "rules": rules}))

    @settings(max_examples=200, deadline=None)
    @given(st.one_of(st.text(), st.binary()))
    def test_noise(self, text: str | bytes) -> None:
        """Noise is refused."""
        assert outcome(text)


class TestCaps:
    """Aborted while reading: the place of the fault is where the cap was met, not behind what was read."""

    @pytest.mark.parametrize("opening", ["[", "{a: ", "- ", "? ", "[{a: "])
    def test_depth(self, opening: str) -> None:
        """A million levels end at the thirty-third."""
        (fault,) = outcome(opening * 1_000_000 if len(opening) < 4 else opening * 700_000)
        assert (fault.line, True) == (1, fault.column <= 40 * len(opening)), fault

    def test_size(self, tmp_path: Path) -> None:
        """A file without an end is read up to the cap."""
        assert _MAX_BYTES == MAX_BYTES
        if Path("/dev/zero").exists():
            with pytest.raises(ConfigError, match=r"/dev/zero"):
                load_policy([Path("/dev/zero")])
        big = tmp_path / "big.yaml"
        with big.open("wb") as file:
            file.truncate(1 << 40)
        with pytest.raises(ConfigError, match="MiB"):
            load_policy([big])
        assert outcome("# " + "x" * (4 << 20))

    def test_rules(self) -> None:
        """The ten thousand and first rule is one too many, and it is the one that is named."""
        head = "version: 1\ndefault: deny\nrules:\n"
        found = outcome(head + "".join(f"- {{id: r{at}, tool: t, decision: deny}}\n" for at in range(10_001)))
        assert [(10_004, 3, "P002")] == [(fault.line, fault.column, fault.code) for fault in found]

    def test_bombs(self) -> None:
        """Anchors are refused where they stand, so nothing is ever multiplied."""
        layers = "\n".join(f"a{at}: &a{at} [{', '.join([f'*a{at - 1}'] * 9)}]" for at in range(1, 40))
        (fault,) = outcome(f"a0: &a0 [x]\n{layers}\n")
        assert 1 == fault.line

    def test_many_faults_on_one_line(self) -> None:
        """A hundred thousand mistakes on one line are told in a message of a size one can print."""
        with pytest.raises(ConfigError) as caught:
            load_policy_text("{" + ",".join(f"k{at}: 1" for at in range(100_000)) + "}", "p.yaml")
        assert len(str(caught.value)) < 2_000_000
        assert 100_000 <= len(caught.value.faults)

    @pytest.mark.parametrize(
        "text",
        [
            "version: 1\nrules: [" + "{}," * 100_000 + "]",
            "{" + ",".join(f"k{at}: 1" for at in range(100_000)) + "}",
            "version: 1\ndefault: deny\nrules: [{id: a, tool: [" + ",".join(["x*" * 60] * 3000) + "], decision: deny}]",
            "version: 1\ndefault: deny\nrules: [{id: a, tool: t, args: {x: {regex: '" + "(a{1,100}){1,100}" * 50 + "'}}, decision: deny}]",
            "version: 1\ndefault: deny\nrules: [{id: a, tool: t, args: {x: {eq: " + "9" * 1_000_000 + "}}, decision: deny}]",
            "version: 1\ndefault: deny\nrules: [{id: a, tool: t, args: {x: {eq: 1" + "0" * 100 + "e99999999}}, decision: deny}]",
            "version: 1\ndefault: deny\ntools: {t: {args: {x: '" + "list[" * 60_000 + "'}}}\nrules: [{id: a, tool: t, decision: deny}]",
            "version: 1\ndefault: deny\ntools: {t: {args: {x: '"
            + "|".join(["str"] * 30)
            + "'}}}\nrules: [{id: a, tool: t, decision: deny}]",
            '"' + "\\u0041" * 500_000 + '"',
            "key: |\n" + " x\n" * 500_000,
        ],
        ids=range(10),
    )
    def test_long_parts(self, text: str) -> None:
        """Long lists, keys, expressions, numbers and types end in an outcome."""
        outcome(text)
