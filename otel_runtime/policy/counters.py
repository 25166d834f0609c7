"""Sums over a window: sliding ones forget what is too old, calendar ones begin anew under another key."""

from __future__ import annotations

from collections import deque
from decimal import Decimal
from typing import Final, Protocol

__all__ = ["CalendarCounter", "Counter", "Entry", "SlidingCounter", "new_counter"]

_MAX_ENTRIES: Final = 1024
_DAY_S: Final = 86_400.0
# A calendar window is over for good well after its end in the last time zone.
_CALENDAR_KEEP_S: Final = {"day": 3 * _DAY_S, "month": 34 * _DAY_S}


class Entry:
    """One amount at one time; merged into a later one when there are too many."""

    __slots__ = ("at", "gone", "into", "own", "whole")

    def __init__(self, at: float, amount: Decimal) -> None:
        self.at: float = at
        # What this call added, and that together with what was merged into it.
        self.own: Decimal = amount
        self.whole: Decimal = amount
        self.into: Entry | None = None
        self.gone: bool = False


class Counter(Protocol):
    """A sum over a window."""

    def total(self, at: float) -> Decimal:
        """The sum at a time, in seconds of the epoch."""
        ...

    def add(self, at: float, amount: Decimal) -> Entry:
        """Add an amount."""
        ...

    def correct(self, entry: Entry, amount: Decimal) -> None:
        """Replace an entry's amount."""
        ...

    def over(self, at: float) -> bool:
        """True when nothing in it matters any more."""
        ...


class SlidingCounter:
    """The sum of the last seconds.

    Args:
        seconds: Length of the window.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._entries: deque[Entry] = deque()
        self._sum = Decimal(0)

    def total(self, at: float) -> Decimal:
        """The sum at a time; an entry counts until exactly one window later."""
        entries = self._entries
        while entries and entries[0].at + self._seconds <= at:
            left = entries.popleft()
            left.gone = True
            self._sum -= left.whole
        return self._sum

    def add(self, at: float, amount: Decimal) -> Entry:
        """Add an amount."""
        # A clock that was set back must not make entries leave out of order.
        entry = Entry(max(at, self._entries[-1].at) if self._entries else at, amount)
        self._entries.append(entry)
        self._sum += amount
        if len(self._entries) > _MAX_ENTRIES:
            self._merge_oldest()
        return entry

    def _merge_oldest(self) -> None:
        # Into the later of the two: it counts a little longer than it must, never shorter.
        oldest = self._entries.popleft()
        oldest.into = self._entries[0]
        self._entries[0].whole += oldest.whole

    def correct(self, entry: Entry, amount: Decimal) -> None:
        """Replace an entry's amount."""
        difference = amount - entry.own
        entry.own = amount
        target = entry
        while target.into is not None:
            target = target.into
        target.whole += difference
        # What has left the window is in no sum any more.
        if not target.gone:
            self._sum += difference

    def over(self, at: float) -> bool:
        """True when the window is empty."""
        self.total(at)
        return not self._entries


class CalendarCounter:
    """The sum of one day or month; the key of the next one is another.

    Args:
        unit: `day` or `month`.
    """

    def __init__(self, unit: str) -> None:
        self._keep = _CALENDAR_KEEP_S[unit]
        self._sum = Decimal(0)
        self._last = 0.0

    def total(self, at: float) -> Decimal:
        """The sum so far."""
        return self._sum

    def add(self, at: float, amount: Decimal) -> Entry:
        """Add an amount."""
        self._last = max(self._last, at)
        self._sum += amount
        return Entry(at, amount)

    def correct(self, entry: Entry, amount: Decimal) -> None:
        """Replace an entry's amount."""
        self._sum += amount - entry.own
        entry.own = amount

    def over(self, at: float) -> bool:
        """True when the day or month has ended everywhere."""
        return self._last + self._keep < at


def new_counter(window: str) -> Counter:
    """An empty counter for a window's name, such as `sliding:60` or `day:2026-11-20:UTC`."""
    kind, _, rest = window.partition(":")
    return SlidingCounter(float(rest)) if kind == "sliding" else CalendarCounter(kind)
