"""Counters, labels and history in memory: for one process, exact under threads, bounded.

What does not fit any more is never silently forgotten: a full counter table refuses (fail closed), and a session whose marks were dropped
is unknown from then on, not clean.
"""

from __future__ import annotations

import itertools
import os
import threading
import weakref
from collections import OrderedDict
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Final

from otel_runtime.errors import StoreError
from otel_runtime.policy.budgets import passes
from otel_runtime.policy.counters import Counter, Entry, new_counter
from otel_runtime.policy.protocol import CounterKey, FactsView, Hold, Needs, Reservation, Spent, Start
from otel_runtime.policy.provenance import Sightings, glean

__all__ = ["MemoryFacts"]

_MAX_COUNTERS: Final = 100_000
_MAX_SESSIONS: Final = 100_000
_MAX_HOLDS: Final = 100_000
_FORGOTTEN_BITS: Final = 1 << 20


@dataclass(slots=True)
class _Session:
    labels: dict[str, set[str]] = field(default_factory=dict)
    history: set[str] = field(default_factory=set)
    sightings: Sightings = field(default_factory=Sightings)


class _Forgotten:
    """Sessions whose marks were dropped, as bits: it may name one too many, never one too few."""

    def __init__(self) -> None:
        self._bits = bytearray(_FORGOTTEN_BITS // 8)

    def add(self, session: str) -> None:
        at = hash(session) % _FORGOTTEN_BITS
        self._bits[at >> 3] |= 1 << (at & 7)

    def __contains__(self, session: str) -> bool:
        at = hash(session) % _FORGOTTEN_BITS
        return bool(self._bits[at >> 3] & (1 << (at & 7)))


def _sessions(needs: Needs) -> tuple[str, ...]:
    return () if needs.session is None else tuple(dict.fromkeys((needs.session, *needs.around)))


class MemoryFacts:
    """A facts store for one process.

    Args:
        max_counters: Counters kept; above it new ones are refused.
        max_sessions: Sessions whose labels and history are kept.
    """

    def __init__(self, max_counters: int = _MAX_COUNTERS, max_sessions: int = _MAX_SESSIONS) -> None:
        self._lock = threading.Lock()
        self._counters: dict[CounterKey, Counter] = {}
        self._sessions: OrderedDict[str, _Session] = OrderedDict()
        self._forgotten = _Forgotten()
        self._holds: OrderedDict[str, list[tuple[Counter, Entry, str]]] = OrderedDict()
        self._ids = itertools.count(1)
        self._max_counters = max_counters
        self._max_sessions = max_sessions
        _after_fork(weakref.ref(self))

    @property
    def blocking(self) -> bool:
        """False: there is no disk and no network behind it."""
        return False

    def close(self) -> None:
        """Nothing: what it knows is gone with the process."""

    def peek(self, needs: Needs, now: datetime) -> FactsView:
        """Read, reserve nothing."""
        at = now.timestamp()
        with self._lock:
            counters = {key: self._total(key, at) for key in needs.counters}
            labels, history = self._marks(_sessions(needs))
            origins = self._origins(needs)
        return FactsView(counters, labels, history, origins=origins)

    def _origins(self, needs: Needs) -> Mapping[str, frozenset[str]] | None:
        if needs.session is None or not needs.values:
            return None
        names = _sessions(needs)
        if any(name in self._forgotten and name not in self._sessions for name in names):
            return None
        found = [self._sessions[name].sightings for name in names if name in self._sessions]
        return {value: frozenset[str]().union(*(sightings.of(value) for sightings in found)) for value in needs.values}

    def saw(self, session: str, source: str, value: object) -> None:
        """Note what a session saw, so that `origin` can tell."""
        # Reading takes its time, so nobody waits for it.
        gleaned = glean(value)
        with self._lock:
            if (found := self._session(session)) is not None:
                found.sightings.keep(source, gleaned)
                self._forget()

    def _total(self, key: CounterKey, at: float) -> Decimal:
        counter = self._counters.get(key)
        return Decimal(0) if counter is None else counter.total(at)

    def _marks(self, sessions: tuple[str, ...]) -> tuple[Mapping[str, frozenset[str]] | None, frozenset[str] | None]:
        if not sessions or any(name in self._forgotten and name not in self._sessions for name in sessions):
            return None, None
        labels: dict[str, frozenset[str]] = {}
        history: frozenset[str] = frozenset()
        for found in (self._sessions[name] for name in sessions if name in self._sessions):
            history |= found.history
            for label, sources in found.labels.items():
                labels[label] = labels.get(label, frozenset()) | sources
        return labels, history

    def begin(self, start: Start, now: datetime) -> Hold | None:
        """Record the start of a body, all or nothing; None when a limit was reached meanwhile.

        Raises:
            StoreError: There is no room for another counter.
        """
        at = now.timestamp()
        with self._lock:
            if any(self._refused(reservation, at) for reservation in start.reservations):
                return None
            self._make_room(start, at)
            held = [self._take(reservation, at) for reservation in start.reservations]
            self._mark(start)
            hold = Hold(f"memory-{next(self._ids)}", start)
            # Nobody ever corrects an attempt.
            if open_held := [taken for taken in held if taken[2] != "attempts"]:
                self._keep(hold.id, open_held)
        return hold

    def _refused(self, reservation: Reservation, at: float) -> bool:
        return passes(self._total(reservation.key, at), reservation.amount, reservation.limit)

    def _make_room(self, start: Start, at: float) -> None:
        new = {reservation.key for reservation in start.reservations} - self._counters.keys()
        if len(self._counters) + len(new) <= self._max_counters:
            return
        self._counters = {key: counter for key, counter in self._counters.items() if not counter.over(at)}
        if len(self._counters) + len(new) > self._max_counters:
            raise StoreError(f"the facts store in memory is full ({self._max_counters} counters); count by fewer users or shorter windows")

    def _take(self, reservation: Reservation, at: float) -> tuple[Counter, Entry, str]:
        counter = self._counters.get(reservation.key)
        if counter is None:
            counter = self._counters[reservation.key] = new_counter(reservation.key.window)
        return counter, counter.add(at, reservation.amount), reservation.unit

    def _mark(self, start: Start) -> None:
        if start.session is None or (start.tool is None and not start.labels):
            return
        for name in (start.session, *start.around):
            if (session := self._session(name)) is None:
                continue
            if start.tool is not None:
                session.history.add(start.tool)
            for label in start.labels:
                session.labels.setdefault(label, set()).add(start.tool or "unknown")
        self._forget()

    def together(self) -> AbstractContextManager[None]:
        """Nothing: approvals lie in a database."""
        return nullcontext()

    def declassify(self, session: str, label: str, now: datetime) -> frozenset[str]:
        """Take one label off one session.

        Raises:
            StoreError: The labels of the session were dropped to make room.
        """
        with self._lock:
            found = self._sessions.get(session)
            if found is None and session in self._forgotten:
                raise StoreError(f"the labels of session `{session}` are not known any more, so none can be taken off; begin a new session")
            return frozenset(found.labels.pop(label, ()) if found is not None else ())

    def _session(self, name: str) -> _Session | None:
        session = self._sessions.pop(name, None)
        if session is None and name in self._forgotten:
            # Its earlier marks are lost: a fresh record would look clean.
            return None
        self._sessions[name] = session = session or _Session()
        return session

    def _forget(self) -> None:
        while len(self._sessions) > self._max_sessions:
            self._forgotten.add(self._sessions.popitem(last=False)[0])

    def _keep(self, hold: str, held: list[tuple[Counter, Entry, str]]) -> None:
        self._holds[hold] = held
        # A hold nobody settles leaves its reserved amount standing.
        while len(self._holds) > _MAX_HOLDS:
            self._holds.popitem(last=False)

    def settle(self, hold: Hold, spent: Spent, now: datetime) -> None:
        """Replace reserved amounts by the real ones; calls and sums stand as they are."""
        real = {"usd": spent.usd, "tokens": None if spent.tokens is None else Decimal(spent.tokens)}
        with self._lock:
            for counter, entry, unit in self._holds.pop(hold.id, ()):
                amount = real.get(unit)
                if amount is not None:
                    counter.correct(entry, amount)

    def release(self, hold: Hold) -> None:
        """Give back what was reserved, because the body never started."""
        with self._lock:
            for counter, entry, _unit in self._holds.pop(hold.id, ()):
                counter.correct(entry, Decimal(0))

    def forget_parent(self) -> None:
        """In a forked child: another thread of the parent may have held the lock. What the parent had counted stands."""
        self._lock = threading.Lock()


def _after_fork(facts: weakref.ref[MemoryFacts]) -> None:
    def forget() -> None:
        if (alive := facts()) is not None:
            alive.forget_parent()

    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=forget)
