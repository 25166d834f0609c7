"""`python -m benchmarks.events [--short]`: what foreign events cost, beside a raw SDK span measured in the same run.

A pair is what a user pays for it: the raw wire event pushed into a feed of a configured runtime, so translation, projection, the span and
its metrics, through a batch processor as an application makes one. Every pair has a call id, event ids and times of its own. The ratios are
to the raw span of every benchmark here (`with`, eight attributes); the second is started and ended by hand and told as much as a pair is,
at the same two moments. Both go through the same kind of processor, without metrics.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import json
import time
import tracemalloc
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta

import otel_runtime as rt
from benchmarks.measure import SHORT, Case, Effort, measure
from benchmarks.reference import raw_case, tracer_provider
from benchmarks.scenarios import configure
from otel_runtime.sources.registry import source
from otel_runtime.telemetry.projector import Projector
from otel_runtime.telemetry.projector_spans import TracerSpans

__all__ = ["figures", "main"]

DELTAS = 1_000
# Pairs made beforehand: more events than the projector remembers, so that each is a new one again by the time it comes round.
POOL = 8_192
_MOMENT = datetime(2026, 11, 20, 8, tzinfo=UTC)
# As many as the span of an a3s pair has from its start, and as its end adds.
AT_START: dict[str, str | int] = {f"otel_runtime.attr.known_{number}": "some value" for number in range(9)}
AT_END: dict[str, str | int | tuple[str, ...]] = {"otel_runtime.attr.exit_code": 0, "otel_runtime.content.omitted": ("output",)}


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


def raw_pair() -> Case:
    """A raw span that is told as much as that of a pair."""
    provider = tracer_provider()
    tracer = provider.get_tracer("benchmark")

    def run(times: int) -> None:
        for _ in range(times):
            span = tracer.start_span("execute_tool sh", attributes=AT_START)
            span.set_attributes(AT_END)
            span.end()

    return Case("raw span, start/end", run, between=provider.force_flush)


def pairs(vocabulary: str, first: object, ready: Sequence[object], flush: Callable[[], object]) -> Case:
    """Pairs from a pool, pushed into a feed of the runtime in force."""
    into = rt.feed(source=vocabulary, stream="s")
    into.push(first)
    at = itertools.cycle(range(0, len(ready), 2))

    def run(times: int) -> None:
        push = into.push
        for start in itertools.islice(at, times):
            push(ready[start])
            push(ready[start + 1])

    return Case(f"start/end pair, {vocabulary}", run, 1, flush)


def a3s_pairs() -> list[object]:
    """ToolStart and ToolEnd of many calls, as JSON gives them."""
    found = []
    for number in range(POOL):
        call = {"id": f"call-{number}", "name": "sh"}
        found += [{"type": "tool_start", **call}, {"type": "tool_end", **call, "output": "o", "exit_code": 0}]
    wire: list[object] = json.loads(json.dumps(found))
    return wire


def dreadnode_pairs() -> list[object]:
    """Two envelopes of each of many calls, as JSON gives them."""
    found = []
    for number in range(2 * POOL):
        kind = "toolend" if number % 2 else "toolstart"
        when = (_MOMENT + timedelta(milliseconds=number)).isoformat()
        call = {"id": f"call-{number // 2}", "name": "sh", "arguments": {"x": 1}}
        raw = {"type": kind, "timestamp": when, "agent_id": "a", "agent_name": "a", "data": {"tool_call": call}}
        common = {"session_id": "s", "turn_id": "t", "timestamp": when, "event_id": f"event-{number}"}
        found.append({**common, "kind": "turn.event", "payload": {"event_type": kind, "raw_event": raw}})
    wire: list[object] = json.loads(json.dumps(found))
    return wire


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
    provider = tracer_provider()
    configure(provider)
    start = {"type": "start", "prompt": "p"}
    turn = {"kind": "turn.started", "session_id": "s", "turn_id": "t", "timestamp": _MOMENT.isoformat(), "event_id": "first", "payload": {}}
    return [
        raw_case(tracer_provider()),
        raw_pair(),
        pairs("a3s", start, a3s_pairs(), provider.force_flush),
        pairs("dreadnode", turn, dreadnode_pairs(), provider.force_flush),
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
    ready = cases()
    gc.collect()
    # What was made beforehand is nobody's rubbish: no collection in a measured turn should look through it.
    gc.freeze()
    found = measure(ready, SHORT if short else Effort())
    gc.unfreeze()
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
