"""What each operator costs on an ordinary value and on the worst one its caps let through: `make bench ARGS=--policy=operators`.

A whole decision is measured, with a rule that asks nothing else, and with a hundred such rules. The worst are the values that were found to cost
most among long, deep, many and nearly fitting ones; the aim is 50 ms of CPU time for any of them, so that no input makes a call wait.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any

from otel_runtime.policy.loading import load_policy_text
from otel_runtime.policy.protocol import FactsView, Needs
from otel_runtime.policy.provenance import Sightings
from otel_runtime.values.action import Action
from otel_runtime.values.snapshot import snapshot_arguments

__all__ = ["main"]

NOW = datetime(2026, 11, 20, tzinfo=UTC)
AIM_MS = 50.0
MANY = 100


@dataclass(frozen=True, slots=True)
class Trial:
    """One operator.

    Args:
        name: As the page has it.
        test: What a rule asks of `x`.
        usual: An ordinary value.
        worst: Values that cost much, by what makes them so.
        seen: What the session saw, by source, for `origin`.
    """

    name: str
    test: Mapping[str, Any]
    usual: Any
    worst: Mapping[str, Any]
    seen: Mapping[str, Any] = field(default_factory=dict)


def many(value: Any, count: int = 9_900) -> list[Any]:
    """As many elements as the snapshot takes, each a little different."""
    return [value.replace("#", str(at)) if isinstance(value, str) else value for at in range(count)]


def trials(root: Path) -> Iterator[Trial]:
    """Every operator with its worst values."""
    big = "x" * 1_000_000
    yield Trial("eq", {"eq": "x"}, "x", {"1 MB text": big, "9,900 elements": many("x#")})
    yield Trial("in", {"in": [f"v{at}" for at in range(1000)]}, "v5", {"no hit in 1,000": "nope", "each of 9,900": many("x#")})
    yield Trial("some in", {"some": {"in": [f"v{at}" for at in range(1000)]}}, ["v5"], {"9,900 elements of 1,000": many("x#")})
    yield Trial("in another list", {"some": {"in": {"ref": "args.x"}}}, ["v5"], {"9,900 elements of 9,900": [True, *many(5)]})
    yield Trial("gt", {"gt": 5}, 7, {"2,400 digits": 10**2400})
    yield Trial("glob", {"glob": ["a*b*c*d*e", "*x*"]}, "abc", {"64 KiB that nearly fits": "abcd" * 16_000})
    yield Trial("regex", {"regex": "(a|aa|aaa)*b"}, "ab", {"64 KiB that nearly fits": "a" * 65_000})
    yield Trial("search", {"search": "(x+x+)+y|[a-z]{1,50}[0-9]"}, "foo1", {"64 KiB that nearly fits": "x" * 65_000})
    steps = {"64 KiB of any letter": "a" * 65_000, "as long as it is tried": "a" * 2_490}
    yield Trial("search, many states", {"search": "(x|y|[a-z]){1,1000}1"}, "x1", steps)
    random = Random(1)  # noqa: S311  # a text, not a secret
    letters = "".join(random.choice("ab") for _ in range(65_000))
    yield Trial("search, automaton", {"search": "[ab]*a[ab]{140}c"}, "ac", {"64 KiB": letters})
    yield Trial("contains", {"contains": "needle"}, "a needle", {"1 MB that nearly fits": "needl" * 200_000, "9,900 elements": many("x#")})
    yield Trial("starts_with", {"starts_with": ["abc", "abd"]}, "abcd", {"1 MB": big})
    yield Trial("length", {"length": {"lte": 5}}, "abc", {"1 MB": big})
    yield Trial("some", {"some": {"regex": "(a|aa)*b"}}, ["ab"], {"9,900 of 100 characters": many("a" * 90 + "#")})
    yield Trial(
        "every email_domain",
        {"every": {"email_domain": "corp.example"}},
        ["a@corp.example"],
        {"9,900 addresses": many("a#@corp.example"), "9,000 of 60 characters": many("a#@" + "b." * 27 + "cc", 9_000)},
    )
    yield Trial(
        "email_domain",
        {"email_domain": "corp.example"},
        "a@corp.example",
        {"1 MB": "a@" + "b." * 500_000, "254 characters": "a@" + "b." * 126},
    )
    deep = "/".join(["d"] * 40)
    (root / deep).mkdir(parents=True)
    yield Trial(
        "under",
        {"every": {"under": ["workspace:data", "workspace:"]}},
        ["data/a.txt"],
        {"9,900 deep paths": many(f"{deep}/f#"), "9,900 with steps up": many(f"{deep}/../../x#"), "one of 4 KiB": ["a/" * 2040]},
    )
    yield Trial("file_name", {"every": {"file_name": ["*.pem", ".env"]}}, ["a.pem"], {"9,900 deep paths": many(f"{deep}/f#.pem")})
    yield Trial(
        "url",
        {"every": {"url": {"scheme": "https", "host": "*.example.com", "path": "/v1/*"}}},
        ["https://a.example.com/v1/x"],
        {"9,900": many("https://a#.example.com/v1/x"), "200 of 4 KiB": many("https://a#.example.com/v1/" + "x" * 4000, 200)},
    )
    yield Trial(
        "runs_only",
        {"runs_only": ["ls", "cat"]},
        "ls -la",
        {"16 KiB of words": "ls " + "a " * 8_000, "of commands": "ls;" * 5_400, "of quotes": "ls " + "''" * 8_000},
    )
    yield Trial(
        "reads_only",
        {"reads_only": ["sed", "find", "awk", "ls"]},
        "ls -la",
        {
            "scripts": "sed -e 's/a/b/' " * 900,
            "find": "find . " + "-name x " * 2_000,
            "awk": "awk '" + "{a>b}" * 3_000 + "' f",
            "sed, nearly": "sed 's/" + "[a" * 250 + "/'",
        },
    )
    yield Trial("may_run", {"may_run": ["rm"]}, "ls", {"of commands": "ls;" * 5_400, "many": "ls | " * 3_200 + "ls"})
    yield Trial(
        "sql",
        {"sql": {"dialect": "postgres", "schemas": "app", "functions": ["count"]}},
        "select a from app.t",
        {
            "joins": "select a from app.t" + " join app.u on a = b" * 55,
            "terms": f"select {', '.join(['a'] * 290)} from app.t",  # noqa: S608  # only measured
            "parentheses": f"select {'(' * 12}a{')' * 12} from app.t",  # noqa: S608  # only measured
            "sums": f"select {'+'.join(['a'] * 290)} from app.t",  # noqa: S608  # only measured
            "unions": " union ".join(["select a from app.t"] * 90),
            "nested": "select a from (" * 11 + "select a from app.t" + ") x" * 11,
            "4 KiB text": "select '" + "x" * 4_000 + "' from app.t",
        },
    )
    yield Trial(
        "sql in lists",
        {"every": {"sql": {"dialect": "postgres", "schemas": "app"}}},
        ["select a from app.t"],
        {"many": many("select a# from app.t where b = # and c = d", 2_000)},
    )
    words = " ".join(f"word{at}@corp.example" for at in range(12_000))
    yield Trial(
        "origin",
        {"every": {"origin": "user"}},
        ["word5@corp.example"],
        {
            "over 100 values": many("nothing-like-it-#", 9_900),
            "parts of others": many("corp.example", 100),
            "256 KiB of near hits": many("a" * 200 + "#", 100),
        },
        {"user": words, **{f"tool:t{at}": "a" * 2_000 + " " + words[: 200_000 // 400] for at in range(400)}},
    )


def decided(trial: Trial, value: Any, root: Path, rules: int = 1) -> tuple[float, str]:
    """Milliseconds of CPU time of one decision under so many rules, with the reading of the facts that it asks, and the verdict."""
    policy = {
        "version": 1,
        "default": "deny",
        "workspace": str(root),
        "rules": [{"id": f"r{at}", "tool": "t", "args": {"x": trial.test}, "decision": "allow"} for at in range(rules)],
    }
    engine = load_policy_text(json.dumps(policy)).engine
    args, _ = snapshot_arguments({"x": value})
    action = Action("tool", "t", args, session="s", user="u", roles=frozenset())
    sightings = Sightings()
    for source, text in trial.seen.items():
        sightings.add(source, text)
    times: list[float] = []
    verdict = ""
    for _ in range(5):
        began = time.thread_time()
        verdict = engine.decide(action, facts(engine.needs(action, NOW), sightings), NOW).decision.value
        times.append((time.thread_time() - began) * 1e3)
    # The first of five fills caches of the process, as a first call does; the median is what an attacker can repeat.
    return sorted(times)[len(times) // 2], verdict


def facts(needs: Needs | None, sightings: Sightings) -> FactsView | None:
    """What a store in memory would answer."""
    if needs is None:
        return None
    return FactsView(labels={}, history=frozenset(), origins={value: sightings.of(value) for value in needs.values})


def main(*, short: bool = False, out: Path | None = None) -> None:
    """Measure and print.

    Args:
        short: Taken as everywhere; one decision of each is measured anyway.
        out: File for the figures, or None.
    """
    found: dict[str, dict[str, float]] = {}
    print(f"\nOne decision by operator, milliseconds of CPU time; aim: at most {AIM_MS:g} ms whatever the value\n")
    print(f"{'':<20}{'usual':>9}{'worst':>9}{'of many':>9}   of")
    with tempfile.TemporaryDirectory() as name:
        root = Path(name).resolve()
        for trial in trials(root):
            usual, _ = decided(trial, trial.usual, root)
            worst = {what: decided(trial, value, root)[0] for what, value in trial.worst.items()}
            of_many = {what: decided(trial, value, root, MANY)[0] for what, value in trial.worst.items()}
            most, hardest = max(worst, key=worst.__getitem__), max(of_many.values())
            found[trial.name] = {"usual": usual, **worst, f"{MANY} rules": hardest}
            over = "   OVER THE AIM" if max(worst[most], hardest) > AIM_MS else ""
            print(f"{trial.name:<20}{usual:>9.3f}{worst[most]:>9.3f}{hardest:>9.3f}   {most}{over}", flush=True)
    if out is not None:
        out.write_text(json.dumps(found, indent=2) + "\n")
    if short:
        print("short: five decisions of each", file=sys.stderr)
