"""A gauge that shows the most of what was measured since it was last read, so that a short peak between two exports is seen.

Readers are not told apart by the SDK: several exporters read one after the other, each of them all instruments. What was read a moment ago
is therefore shown again, and only then does a new interval begin.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping

from opentelemetry.context import Context
from opentelemetry.metrics import CallbackOptions, Observation

__all__ = ["Peaks"]

_TOGETHER_S = 1.0
_Key = tuple[tuple[str, str | bool | int | float], ...]


class Peaks:
    """The most of each set of labels; bounded by whoever bounds the labels.

    Args:
        before: Called first by each reading, to record what is queued.
        clock: Seconds that only go forward.
    """

    __slots__ = ("_before", "_clock", "_now", "_read", "_shown")

    def __init__(self, before: Callable[[], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._before = before
        self._clock = clock
        self._now: dict[_Key, float] = {}
        self._shown: dict[_Key, float] = {}
        self._read: float | None = None

    def record(self, value: float, attributes: Mapping[str, str | bool | int | float], _context: Context | None = None) -> None:
        """One measurement."""
        key = tuple(attributes.items())
        if value > self._now.get(key, float("-inf")):
            self._now[key] = value

    def observe(self, _options: CallbackOptions) -> Iterable[Observation]:
        """What this interval came to; nothing for labels that were not measured in it."""
        self._before()
        at = self._clock()
        taken, self._now = self._now, {}
        if self._read is not None and at - self._read < _TOGETHER_S:
            taken = {key: max(taken.get(key, value), value) for key, value in {**taken, **self._shown}.items()}
        else:
            self._read = at
        self._shown = taken
        return [Observation(value, dict(key)) for key, value in taken.items()]

    def clear(self) -> None:
        """Forget all, in a forked child."""
        self._now, self._shown, self._read = {}, {}, None
