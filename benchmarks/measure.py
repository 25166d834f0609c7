"""Interleaved rounds of thread CPU time: what a case costs while its neighbours run under the same weather.

Wall time on a shared machine measures the neighbours. Thread CPU time leaves out the export worker too, which is what a caller feels.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

__all__ = ["Case", "Effort", "measure"]


def _nothing() -> None:
    """Done between rounds when a case names nothing."""


@dataclass(frozen=True, slots=True)
class Case:
    """One thing to measure.

    Args:
        name: Key of its result.
        run: Does it `n` times.
        operations: Operations in one of those times, such as the items of a stream.
        between: Called after each round, outside of the measured time: empties queues.
    """

    name: str
    run: Callable[[int], object]
    operations: int = 1
    between: Callable[[], object] = _nothing


@dataclass(frozen=True, slots=True)
class Effort:
    """How long to measure.

    Args:
        rounds: Times that every case gets its turn.
        turn_ms: Milliseconds of one turn, roughly.
        most: Most repetitions in one turn, so that no queue overflows.
    """

    rounds: int = 40
    turn_ms: float = 8.0
    most: int = 20_000


SHORT = Effort(rounds=5, turn_ms=2.0)


def _timed(case: Case, times: int) -> int:
    """Nanoseconds of CPU time of this thread."""
    start = time.thread_time_ns()
    case.run(times)
    spent = time.thread_time_ns() - start
    case.between()
    return spent


def _repetitions(case: Case, effort: Effort) -> int:
    """How often the case fits in one turn."""
    # The first calls import and fill caches: counted, they would make every later turn too short to be warm.
    case.run(10)
    case.between()
    times = 1
    while times < effort.most:
        spent = _timed(case, times)
        if spent >= effort.turn_ms * 1e6 / 4:
            return max(1, min(effort.most, int(times * effort.turn_ms * 1e6 / spent)))
        times *= 4
    return effort.most


def measure(cases: Sequence[Case], effort: Effort) -> dict[str, float]:
    """Median microseconds of one operation, by the name of the case."""
    times = {case.name: _repetitions(case, effort) for case in cases}
    rounds: dict[str, list[float]] = {case.name: [] for case in cases}
    for number in range(effort.rounds):
        # Every other round runs backwards, so that no case is always the one after the same neighbour.
        for case in cases if number % 2 == 0 else list(reversed(cases)):
            spent = _timed(case, times[case.name])
            rounds[case.name].append(spent / 1e3 / (times[case.name] * case.operations))
    return {name: statistics.median(found) for name, found in rounds.items()}
