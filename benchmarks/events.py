"""`python -m benchmarks.events [--short]`: what foreign events cost, beside a raw SDK span measured in the same run."""

from __future__ import annotations

import argparse
import itertools
import json
import time
import tracemalloc
from collections.abc import Callable, Mapping, Sequence

from benchmarks.measure import SHORT, Case, Effort, measure
from benchmarks.reference import raw_case, tracer_provider
from otel_runtime.sources.registry import source
from otel_runtime.telemetry.projector import Projector
from otel_runtime.telemetry.projector_spans import TracerSpans

__all__ = ["figures", "main"]

DELTAS = 1_000
POOL = 8_192
_MOMENT = "2026-11-20T08:00:00.000000+00:00"


class Pipe:
    """One stream of one vocabulary into the real projector and an exporter that drops."""

    def __init__(self, vocabulary: str) -> None:
        provider = tracer_provider()
        self.provider = provider
        self.projector = Projector(TracerSpans(provider.get_tracer("benchmark")))
        self.reader = source(vocabulary, "s")

    def feed(self, raws: Sequence[object]) -> None:
        """Translate and project."""
        translate, observe = self.reader.translate, self.projector.observe
        for raw in raws:
            for event in translate(raw):
                observe(event)


def a3s_pair() -> Case:
    """ToolStart and ToolEnd of one call."""
    pipe = Pipe("a3s")
    pipe.feed([{"type": "start", "prompt": "p"}])
    pair = [{"type": "tool_start", "id": "c", "name": "sh"}, {"type": "tool_end", "id": "c", "name": "sh", "output": "o", "exit_code": 0}]
    return Case("start/end pair, a3s", lambda n: pipe.feed(pair * n), 1, pipe.provider.force_flush)


def dreadnode_pair() -> Case:
    """Two envelopes of one call, each with an id of its own."""
    pipe = Pipe("dreadnode")
    common = {"session_id": "s", "turn_id": "t", "timestamp": _MOMENT}
    pipe.feed([{**common, "kind": "turn.started", "event_id": "first", "payload": {}}])
    call = {"id": "c", "name": "sh", "arguments": {"x": 1}}
    number = iter(range(10**12))

    def envelope(kind: str) -> dict[str, object]:
        raw = {"type": kind, "timestamp": _MOMENT, "agent_id": "a", "agent_name": "a", "data": {"tool_call": call}}
        return {**common, "kind": "turn.event", "event_id": str(next(number)), "payload": {"event_type": kind, "raw_event": raw}}

    # More of them than the projector remembers: each is a new one again by the time it comes round.
    ready = [envelope(kind) for _ in range(POOL) for kind in ("toolstart", "toolend")]
    at = itertools.cycle(range(0, 2 * POOL, 2))

    def run(times: int) -> None:
        pipe.feed([ready[start + step] for start in itertools.islice(at, times) for step in (0, 1)])

    return Case("start/end pair, dreadnode", run, 1, pipe.provider.force_flush)


def deltas(vocabulary: str, name: str, raw: Mapping[str, object], first: Mapping[str, object]) -> Case:
    """Deltas of one turn."""
    pipe = Pipe(vocabulary)
    pipe.feed([first])
    many = [dict(raw) for _ in range(DELTAS)]

    def run(times: int) -> None:
        for _ in range(times):
            pipe.feed(many)

    return Case(name, run, DELTAS)


def cases() -> list[Case]:
    """Everything that has a cost per operation."""
    start = {"type": "start", "prompt": "p"}
    return [
        raw_case(tracer_provider()),
        a3s_pair(),
        dreadnode_pair(),
        deltas("a3s", "text delta, a3s", {"type": "text_delta", "text": "word"}, start),
        deltas("vitehub", "text delta, vitehub", {"type": "text-delta", "text": "word"}, {"type": "progress"}),
        deltas("a3s", "tool output delta, a3s", {"type": "tool_output_delta", "id": "c", "name": "sh", "delta": "line"}, start),
    ]


def per_delta(count: int) -> float:
    """Microseconds of one delta in a turn with so many."""
    pipe = Pipe("a3s")
    pipe.feed([{"type": "start", "prompt": "p"}, {"type": "turn_start", "turn": 1}])
    raws = [{"type": "text_delta", "text": "word"} for _ in range(min(count, 1_000))]
    begun = time.thread_time_ns()
    for _ in range(count // len(raws)):
        pipe.feed(raws)
    return (time.thread_time_ns() - begun) / 1e3 / count


def grown_by(act: Callable[[], object]) -> int:
    """Bytes that stay allocated."""
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    act()
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    return grown


def bytes_per_run(runs: int = 500) -> float:
    """Bytes that one open run with one open tool holds."""
    pipe = Pipe("vitehub")
    facts = {"tool.id": "c", "tool.name": "sh"}
    raws = [{"name": "tool.start", "type": "run", "attributes": {**facts, "run.id": f"r{number}"}} for number in range(runs)]
    return grown_by(lambda: pipe.feed(raws)) / runs


def figures(*, short: bool) -> dict[str, float]:
    """Everything, microseconds and bytes."""
    found = measure(cases(), SHORT if short else Effort())
    many = 100_000 if short else 1_000_000
    found["delta of 1,000"], found[f"delta of {many:,}"] = per_delta(1_000), per_delta(many)
    found["bytes per open run"] = bytes_per_run()
    return found


def main() -> None:
    """Run as a program."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.events")
    parser.add_argument("--short", action="store_true", help="few rounds: shows that it runs, the figures are rough")
    parser.add_argument("--json", action="store_true", help="print JSON")
    asked = parser.parse_args()
    found = figures(short=asked.short)
    if asked.json:
        print(json.dumps(found))
        return
    raw = next(iter(found.values()))
    for name, value in found.items():
        unit = "bytes" if name.startswith("bytes") else f"us {value / raw:8.2f}x raw span"
        print(f"{name:<28} {value:12.2f} {unit}")
    print(f"{'events per second':<28} {2e6 / found['start/end pair, dreadnode']:12.0f} in start/end pairs")


if __name__ == "__main__":
    main()
