"""`python -m benchmarks.origin`: what `origin` costs at its caps: reading a 1 MiB result, and looking for the values of a call.

For each shape of text that could be hard on an expression or a search, the milliseconds of CPU for one decision. The aim is 50 ms.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

from otel_runtime.policy.facts_memory import MemoryFacts
from otel_runtime.policy.gleaning import MAX_CHARS
from otel_runtime.policy.loading import load_policy_text
from otel_runtime.policy.provenance import MAX_ASKED
from otel_runtime.values.action import Action
from otel_runtime.values.snapshot import MAX_BYTES, snapshot_arguments

__all__ = ["main"]

POLICY = """version: 1
default: deny
tools: {web: {adds: [untrusted]}}
rules:
  - {id: known, tool: send, args: {to: {every: {origin: [user, trusted]}}}, decision: allow}
  - {id: stranger, tool: send, args: {to: {some: {origin: {none_of: [user, "label:untrusted"]}}}}, decision: deny}
"""
RESULTS: Mapping[str, Callable[[int], object]] = {
    "one word": lambda size: "a" * size,
    "words": lambda size: "word " * (size // 5),
    "addresses": lambda size: "a@b.co " * (size // 7),
    "addresses without end": lambda size: "a@" * (size // 2),
    "pages": lambda size: "www.a.co/b " * (size // 11),
    "hosts": lambda size: ("a" * 63 + ".") * (size // 64),
    "dotted numbers": lambda size: "1.2.3.4/ " * (size // 9),
    "numbers": lambda size: "12 " * (size // 3),
    "account numbers": lambda size: "DE12 3456 " * (size // 10),
    "paths": lambda size: "a/" * (size // 2),
    "JSON": lambda size: "[" + '{"id":1,"mail":"a@b.co"},' * (size // 26) + "1]",
    "JSON that goes deep": lambda size: "[1," * (size // 3),
    "a table": lambda _size: [{"recipient": f"DE89 3704 0044 {at:04}"} for at in range(3_000)],
}
# Texts and values that make a search look twice.
SEARCHES: Mapping[str, tuple[str, Callable[[int], str]]] = {
    "words": ("word ", lambda at: f"word{at}"),
    "near hits": ("xword ", lambda at: "word" + " xword" * at),
    "one letter, at the end": ("a", lambda at: "a" * (2_000 + at) + "b"),
    "one letter, at the beginning": ("a", lambda at: "b" + "a" * (2_000 + at)),
    "two letters": ("ab", lambda at: "ab" * (1_000 + at) + "c"),
}


def spent(work: Callable[[], object], rounds: int = 5) -> float:
    """Milliseconds of CPU, the best of a few rounds."""
    best = float("inf")
    for _ in range(rounds):
        began = time.process_time()
        work()
        best = min(best, time.process_time() - began)
    return best * 1_000


def witnessed(make: Callable[[int], object]) -> float:
    """Reading a result, the copy and what is gleaned from it: the dearest of one that has no room, one that just has, and one that is JSON."""
    return max(_read(make(size)) for size in (MAX_BYTES - 64, MAX_CHARS - 64, (64 << 10) - 64))


def _read(value: object) -> float:
    facts = MemoryFacts()
    return spent(lambda: facts.saw("s", "tool:web", snapshot_arguments({"result": value})[0]["result"]))


def decided(unit: str, value: Callable[[int], str]) -> float:
    """One decision on a call with as many values as are asked for, in a session that is full of texts."""
    loaded, facts = load_policy_text(POLICY), MemoryFacts()
    text = unit * ((MAX_CHARS - 64) // len(unit))
    for source in ("user", "tool:web"):
        facts.saw("s", source, text)
    now = datetime.now(UTC)
    action = Action("tool", "send", {"to": [value(at) for at in range(MAX_ASKED)]}, session="s")

    def decide() -> None:
        needs = loaded.engine.needs(action, now)
        loaded.engine.decide(action, facts.peek(needs, now) if needs is not None else None, now)

    return spent(decide)


def main() -> None:
    """Print both tables."""
    print(f"Reading a result of {MAX_BYTES >> 20} MiB, ms of CPU")
    for name, make in RESULTS.items():
        print(f"  {name:<32}{witnessed(make):>8.1f}")
    print(f"Deciding on {MAX_ASKED} values in {2 * MAX_CHARS >> 10} KiB of texts, ms of CPU")
    for name, (unit, value) in SEARCHES.items():
        print(f"  {name:<32}{decided(unit, value):>8.1f}")


if __name__ == "__main__":
    main()
