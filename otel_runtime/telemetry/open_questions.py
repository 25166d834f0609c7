"""How many questions of this process wait for a person: an up-down counter that asks the store before it is read.

A question is often answered, resumed or left to expire while the process that asked is busy with something else, so counting down where the
answer is seen would leave some open for good, and would take from others below zero what they never counted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from opentelemetry.context import Context
from opentelemetry.metrics import CallbackOptions, Observation

__all__ = ["QUESTION", "OpenQuestions"]

# Beside the value: id of the question in the store. Never a label.
QUESTION = "question"


class OpenQuestions:
    """The open questions of this process.

    Args:
        before: Called first by each reading, to record what is queued.
        failed: Told what the store raised; the questions then count as open.
    """

    __slots__ = ("_asked", "_before", "_failed", "_open", "_unstored", "waits")

    def __init__(self, before: Callable[[], None], failed: Callable[[Exception], None]) -> None:
        self._before = before
        self._failed = failed
        self._open: set[str] = set()
        self._unstored = 0.0
        self._asked = False
        #: True while the question of that id waits in the store; None where there is none.
        self.waits: Callable[[str], bool] | None = None

    def record(self, value: float, attributes: Mapping[str, object], _context: Context | None = None) -> None:
        """A question was asked (1) or has ended (-1); one that names no id is counted only."""
        question = attributes.get(QUESTION)
        self._asked = self._asked or value > 0
        if question is None:
            self._unstored += value
        elif value > 0:
            self._open.add(str(question))
        else:
            self._open.discard(str(question))

    def observe(self, _options: CallbackOptions) -> Iterable[Observation]:
        """Those that wait now; nothing before the first."""
        self._before()
        if self.waits is not None:
            try:
                self._open -= {each for each in tuple(self._open) if not self.waits(each)}
            except Exception as error:  # noqa: BLE001 - telemetry fails open
                self._failed(error)
        return [Observation(len(self._open) + self._unstored)] if self._asked else []

    def clear(self) -> None:
        """Forget all, in a forked child: they are the parent's."""
        self._open, self._unstored, self._asked = set(), 0.0, False
