"""Sums over a window: sliding ones forget what is too old, calendar ones begin anew under another key.

A clock may be set back. What comes after that is entered at the latest time seen, so that nothing leaves a window early; and what left
one while the clock was ahead is kept for a while, and counts again when the clock is set right.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Final, Protocol
from zoneinfo import ZoneInfo

from otel_runtime.policy.budgets import CALENDAR

__all__ = ["MAX_ENTRIES", "CalendarCounter", "Counter", "Entry", "SlidingCounter", "Span", "new_counter", "window_at"]

MAX_ENTRIES: Final = 1024
_DAY_S: Final = 86_400.0
# A calendar window is over for good well after its end in the last time zone.
_CALENDAR_KEEP_S: Final = {"day": 3 * _DAY_S, "month": 34 * _DAY_S}
# How long what left a window is kept at least, in case the clock was ahead.
_KEEP_S: Final = 3600.0


@dataclass(frozen=True, slots=True)
class Span:
    """How long amounts of a window count and are kept.

    Args:
        seconds: Length of a sliding window; None for a calendar window, whose amounts count as long as it has its name.
        keep_s: Seconds after which an amount is of no use any more.
    """

    seconds: float | None
    keep_s: float

    @classmethod
    def of(cls, window: str) -> Span:
        """The span of a window's name."""
        kind, _, rest = window.partition(":")
        if kind != "sliding":
            return cls(None, _CALENDAR_KEEP_S[kind])
        seconds = float(rest)
        return cls(seconds, seconds + max(seconds, _KEEP_S))


def window_at(window: str, moment: datetime) -> str:
    """The window of the same kind at another moment: by the clock of the store and not of the caller.

    Args:
        window: A window's name, such as `sliding:60` or `day:2026-11-20:UTC`.
        moment: An aware time.
    """
    kind, _, rest = window.partition(":")
    form = CALENDAR.get(kind)
    if form is None:
        return window
    tz = rest.partition(":")[2]
    return f"{kind}:{moment.astimezone(UTC if tz == 'UTC' else ZoneInfo(tz)).strftime(form)}:{tz}"


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
        self._keep_s = Span.of(f"sliding:{seconds!r}").keep_s
        self._entries: deque[Entry] = deque()
        self._past: deque[Entry] = deque()
        self._sum = Decimal(0)

    def total(self, at: float) -> Decimal:
        """The sum at a time; an entry counts until exactly one window later."""
        entries, past = self._entries, self._past
        while entries and entries[0].at + self._seconds <= at:
            left = entries.popleft()
            left.gone = True
            past.append(left)
            self._sum -= left.whole
        while past and past[-1].at + self._seconds > at:
            back = past.pop()
            back.gone = False
            entries.appendleft(back)
            self._sum += back.whole
        while past and (past[0].at + self._keep_s <= at or len(past) > MAX_ENTRIES):
            past.popleft()
        return self._sum

    def add(self, at: float, amount: Decimal) -> Entry:
        """Add an amount."""
        self.total(at)
        # A clock that was set back must not make entries leave out of order.
        entry = Entry(max(at, self._entries[-1].at) if self._entries else at, amount)
        self._entries.append(entry)
        self._sum += amount
        if len(self._entries) > MAX_ENTRIES:
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
