"""Facts in SQLite or PostgreSQL: shared by processes and hosts, exact, durable, bounded.

Theory of operation:

- `begin` is one transaction: it locks every counter of the decision, looks at all limits, and only then takes anything. So no number of
  processes passes a limit together, and a refused start leaves no trace.
- What was taken stands until it is settled with the real figure, or released because the body never started. A process that dies in
  between leaves it standing: a limit may be reached early, never passed.
- Reading fails closed: a store that does not answer in time is a view with `failure`, in which nothing is known.
- Sightings, and ends of calls while the store is away, are queued and written before the next reading (`facts_owed`).
"""

from __future__ import annotations

import logging
import os
import secrets
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from typing import Final

from otel_runtime.errors import StoreError
from otel_runtime.policy import facts_marks, facts_sums
from otel_runtime.policy.budgets import passes
from otel_runtime.policy.facts_owed import Owed
from otel_runtime.policy.facts_sums import from_us, row_of, to_us
from otel_runtime.policy.protocol import CounterKey, FactsView, Hold, Needs, Spent, Start
from otel_runtime.policy.provenance import Sightings, glean
from otel_runtime.storage.transactions import CommitUnknown, Statements, Transactions

__all__ = ["SqlFacts"]

_log = logging.getLogger(__name__)
_REPLAYS: Final = 64
_DEAF: Final = 10_000


class _Refused(Exception):
    """A limit was reached: undoes the transaction, and never leaves this module."""


class _Depth(threading.local):
    """How many blocks of `together` this thread is in."""

    depth: int = 0


class SqlFacts:
    """A facts store in a database.

    Args:
        store: The database, made with the migration `FACTS`.
        clock: Current time in UTC, read when the lock is held; None takes the caller's. A database with a clock of its own needs neither.
        soon: Runs something soon on another thread, for what must not block an event loop.
        timeout_s: Seconds to wait for what another thread is writing.
    """

    def __init__(
        self,
        store: Transactions,
        *,
        clock: Callable[[], datetime] | None = None,
        soon: Callable[[Callable[[], None]], None] | None = None,
        timeout_s: float = 1.0,
    ) -> None:
        self._store = store
        self._clock = clock
        self._owed = Owed(soon, timeout_s)
        self._joined = _Depth()
        self._replays: OrderedDict[str, tuple[int, Sightings]] = OrderedDict()
        self._replaying = threading.Lock()
        # Sessions of which something was lost before it could be written: unknown from then on.
        self._deaf: set[str] | None = set()
        # What the other processes still have to be told of that, with its source.
        self._untold: dict[tuple[str, str], None] = {}
        _after_fork(weakref.ref(self))

    @property
    def blocking(self) -> bool:
        """True: there is a disk or a network behind it."""
        return True

    @property
    def place(self) -> str:
        """Where it is, without a password."""
        return self._store.place

    def open(self) -> None:
        """Connect and make the tables now.

        Raises:
            StoreError: The database cannot be used.
        """
        self._store.open()

    def close(self) -> None:
        """Write what is queued and close the database."""
        try:
            self._written()
        finally:
            self._store.close()

    def size(self) -> Mapping[str, int]:
        """How many counters, open holds and sessions there are.

        Raises:
            StoreError: The database failed.
        """
        tables = {"counters": "facts_counters", "holds": "facts_holds", "sessions": "facts_sessions"}
        with self._store.reading() as statements:
            return {name: int(statements.rows(f"SELECT count(*) FROM {table}")[0][0]) for name, table in tables.items()}  # noqa: S608 - ours

    def peek(self, needs: Needs, now: datetime) -> FactsView:
        """Read, reserve nothing; a failure is a view with `failure` set."""
        try:
            self._written()
            with self._store.reading() as statements:
                now_us = self._now_us(statements, now)
                counters = self._counters(statements, needs.counters, now_us)
                return self._session_view(statements, needs, counters)
        except StoreError as error:
            return FactsView(failure=str(error))
        except Exception as error:  # noqa: BLE001  # rows that something else changed may hold anything; then nothing is known
            _log.exception("facts: what `%s` holds cannot be read", self._store.place)
            return FactsView(failure=f"the facts in `{self._store.place}` cannot be read ({type(error).__name__})")

    def begin(self, start: Start, now: datetime) -> Hold | None:
        """Record the start of a body, all or nothing; None when a limit was reached meanwhile.

        Raises:
            StoreError: The database failed; the body must not run.
        """
        if not self._joined.depth:
            self._owed.write()
        hold = Hold(secrets.token_hex(16), start)
        try:
            with self._store.writing() as statements:
                now_us = self._now_us(statements, now)
                if start.reservations:
                    now_us = self._take(statements, hold, now, from_us(now_us))
                facts_marks.mark(statements, start, now_us)
                facts_sums.prune(statements, now_us, self._store.skip_locked)
                facts_marks.forget_idle(statements, now_us, self._store.skip_locked)
        except _Refused:
            return None
        except (CommitUnknown, KeyboardInterrupt, SystemExit):
            # It may be stored all the same, for a body that never starts.
            self.release(hold)
            raise
        return hold

    @contextmanager
    def together(self) -> Iterator[None]:
        """One transaction for `begin` and whatever else this thread writes to the same database inside.

        Raises:
            StoreError: The database failed; nothing of the block was stored.
        """
        # What is queued must not be undone with the block.
        self._owed.write()
        with self._store.together():
            self._joined.depth += 1
            try:
                yield
            finally:
                self._joined.depth -= 1

    def settle(self, hold: Hold, spent: Spent, now: datetime) -> None:
        """Replace reserved amounts by the real ones; calls and sums stand as they are.

        While the database is away this waits in memory, and the reserved amounts stand.
        """
        if not hold.start.reservations:
            return
        real = {"usd": spent.usd, "tokens": None if spent.tokens is None else Decimal(spent.tokens)}
        self._owed.add(lambda: self._correct(hold, real, None), what=f"what a call really used (hold {hold.id})")

    def release(self, hold: Hold) -> None:
        """Give back what was reserved, because the body never started; waits in memory while the database is away."""
        if hold.start.reservations:
            self._owed.add(lambda: self._correct(hold, {"attempts": None}, Decimal(0)), what=f"what a call gave back (hold {hold.id})")

    def declassify(self, session: str, label: str, now: datetime) -> frozenset[str]:
        """Take one label off one session.

        Raises:
            StoreError: The labels of the session were dropped, or the database failed.
        """
        with self._store.writing() as statements:
            known = facts_marks.touched(statements, (session,), self._now_us(statements, now))
            if not known:
                raise StoreError(f"the labels of session `{session}` are not known any more, so none can be taken off; begin a new session")
            return facts_marks.unmark(statements, known[0], label)

    def saw(self, session: str, source: str, value: object) -> None:
        """Note what a session saw, so that `origin` can tell; never blocks an event loop."""
        gleaned = glean(value)
        body = facts_marks.body_of(gleaned)
        if not body:
            return
        self._owed.add(
            lambda: self._append(session, source, body, gleaned.chars),
            what=f"what session `{session}` saw",
            chars=len(body),
            lost=lambda: self._missed(session, source),
        )

    def _written(self) -> None:
        """Write what is queued, and of what was lost that it was.

        Raises:
            StoreError: The store failed; what was not written stays.
        """
        self._owed.write()
        for session, source in list(self._untold):
            self._append(session, source, facts_marks.NOTHING_BUT_LOST, 0)
            self._untold.pop((session, source), None)

    def _missed(self, session: str, source: str) -> None:
        if len(self._untold) < _DEAF:
            self._untold[session, source] = None
        if self._deaf is not None:
            self._deaf.add(session)
            if len(self._deaf) > _DEAF:
                # Too many to tell apart: all are.
                self._deaf = None

    def _now_us(self, statements: Statements, now: datetime) -> int:
        if self._clock is not None:
            now = max(now, self._clock())
        return statements.now_us(to_us(now))

    def _counters(self, statements: Statements, keys: Sequence[CounterKey], now_us: int) -> dict[CounterKey, Decimal]:
        rows = {key: row_of(key, from_us(now_us)) if self._store.own_clock else row_of(key, None) for key in keys}
        facts_sums.read(statements, list(rows.values()))
        return {key: facts_sums.total_at(statements, row, now_us) for key, row in rows.items()}

    def _take(self, statements: Statements, hold: Hold, now: datetime, began: datetime) -> int:
        moment = began if self._store.own_clock else None
        pairs = [(reservation, row_of(reservation.key, moment)) for reservation in hold.start.reservations]
        facts_sums.locked(statements, [row for _, row in pairs])
        # Waiting for the locks takes time.
        now_us = self._now_us(statements, now)
        for reservation, row in pairs:
            if passes(facts_sums.total_at(statements, row, now_us), reservation.amount, reservation.limit):
                raise _Refused
        for reservation, row in pairs:
            facts_sums.add(statements, row, hold.id, now_us, reservation.amount, reservation.unit)
        return now_us

    def _correct(self, hold: Hold, real: dict[str, Decimal | None], otherwise: Decimal | None) -> None:
        with self._store.writing() as statements:
            facts_sums.correct(statements, hold.id, real, otherwise)

    def _append(self, session: str, source: str, body: str, size: int) -> None:
        with self._store.writing() as statements:
            now_us = self._now_us(statements, datetime.now(UTC))
            for key in facts_marks.touched(statements, (session,), now_us):
                facts_marks.append(statements, key, source, body, size)

    def _session_view(self, statements: Statements, needs: Needs, counters: Mapping[CounterKey, Decimal]) -> FactsView:
        if needs.session is None:
            return FactsView(counters)
        names = tuple(dict.fromkeys((needs.session, *needs.around)))
        keys = tuple(map(facts_marks.session_key, names))
        if facts_marks.forgotten(statements, keys):
            return FactsView(counters)
        labels, history = facts_marks.marks_of(statements, keys)
        return FactsView(counters, labels, history, origins=self._origins(statements, needs, names, keys))

    def _origins(
        self, statements: Statements, needs: Needs, names: tuple[str, ...], keys: tuple[str, ...]
    ) -> Mapping[str, frozenset[str]] | None:
        if not needs.values or self._deaf is None or not self._deaf.isdisjoint(names):
            return None
        with self._replaying:
            found = [self._replay(statements, key) for key in keys]
            return {value: frozenset[str]().union(*(sightings.of(value) for sightings in found)) for value in needs.values}

    def _replay(self, statements: Statements, key: str) -> Sightings:
        last, sightings = self._replays.pop(key, (0, None))
        sightings = sightings or Sightings()
        for n, source, gleaned in facts_marks.replayed(statements, key, last):
            sightings.keep(source, gleaned)
            last = n
        self._replays[key] = (last, sightings)
        while len(self._replays) > _REPLAYS:
            self._replays.popitem(last=False)
        return sightings

    def forget_parent(self) -> None:
        """In a forked child: locks that another thread held, and writes that the parent does, are not ours."""
        self._owed.forget()
        self._untold = {}
        self._replaying = threading.Lock()
        self._replays = OrderedDict()


def _after_fork(facts: weakref.ref[SqlFacts]) -> None:
    def forget() -> None:
        if (alive := facts()) is not None:
            alive.forget_parent()

    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=forget)
