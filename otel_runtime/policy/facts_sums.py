"""Counters in tables: the statements behind `over`, run inside the transaction of whoever calls.

INVARIANT: whoever touches a counter's entries or holds has locked its row first (`locked`), and several rows in the order of their ids.
In SQLite a writer is alone anyway; in PostgreSQL this is what keeps 50 hosts from passing a limit together, and from deadlock.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Final

from otel_runtime.policy.counters import MAX_ENTRIES, Span, window_at
from otel_runtime.policy.protocol import CounterKey
from otel_runtime.storage.transactions import Statements

__all__ = ["Row", "add", "correct", "digest_of", "free", "from_us", "locked", "prune", "readable", "row_of", "to_us", "total_at"]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_READABLE: Final = 200
# Each start of a body removes a few counters that are over, so that no run of them makes one call slow.
_PRUNED_AT_ONCE: Final = 20
# So many entries of a counter may stay after their window; they go with the counter.
_FEW: Final = 32


def to_us(moment: datetime) -> int:
    """Microseconds since 1970 of an aware time, exact."""
    return (moment - _EPOCH) // timedelta(microseconds=1)


def from_us(count: int) -> datetime:
    """The time in UTC for microseconds since 1970, exact."""
    return _EPOCH + timedelta(microseconds=count)


def digest_of(*parts: str) -> str:
    """A key for texts of any length and with any character."""
    # JSON writes every text in ASCII, and no two lists of texts alike.
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:40]


def readable(text: str) -> str:
    """The text as a database takes it, for people: no NUL, no lone surrogates, not too long."""
    return text[:_READABLE].encode("utf-8", "backslashreplace").decode("utf-8").replace("\x00", "\\x00")


@dataclass(slots=True)
class Row:
    """One counter as it stands in its table.

    Args:
        id: Its key.
        key: What is counted.
        total: Sum of the entries after `floor_us`.
        floor_us: Entries up to this time are in no sum.
        last_us: Time of the latest entry.
        entries: How many there are, those that left the window included.
        gone_us: When nothing of it matters any more.
    """

    id: str
    key: CounterKey
    total: Decimal = Decimal(0)
    floor_us: int = 0
    last_us: int = 0
    entries: int = 0
    gone_us: int = 0
    span: Span = field(init=False)

    def __post_init__(self) -> None:
        """Work out how long its amounts count."""
        self.span = Span.of(self.key.window)

    def cutoff(self, now_us: int) -> int:
        """Entries up to this time have left the window."""
        return now_us - round((self.span.seconds or 0) * 1_000_000)


def row_of(key: CounterKey, now: datetime | None) -> Row:
    """An empty counter, of the window that the given time falls into; None leaves it to the caller's clock."""
    here = key if now is None else CounterKey(key.name, key.scope, window_at(key.window, now))
    return Row(digest_of(here.name, here.scope, here.window), here)


def locked(statements: Statements, rows: Iterable[Row]) -> None:
    """Make sure that counters exist, lock them, and read them as they stand."""
    ordered = sorted(rows, key=lambda row: row.id)
    for row in ordered:
        # The update changes nothing: in PostgreSQL it locks a row that is there already.
        statements.run(
            "INSERT INTO facts_counters VALUES (?, ?, ?, ?, '0', 0, 0, 0, 0) ON CONFLICT (id) DO UPDATE SET entries = facts_counters.entries",
            (row.id, readable(row.key.name), readable(row.key.scope), row.key.window),
        )
    read(statements, ordered)


def read(statements: Statements, rows: Sequence[Row]) -> None:
    """Read counters as they stand; one that is not there stays empty."""
    if not rows:
        return
    by_id = {row.id: row for row in rows}
    marks = ", ".join("?" * len(by_id))
    query = f"SELECT id, total, floor_us, last_us, entries, gone_us FROM facts_counters WHERE id IN ({marks})"  # noqa: S608 - only marks
    for name, total, floor_us, last_us, entries, gone_us in statements.rows(query, tuple(by_id)):
        row = by_id[name]
        row.total, row.floor_us, row.last_us, row.entries, row.gone_us = Decimal(total), floor_us, last_us, entries, gone_us


def total_at(statements: Statements, row: Row, now_us: int) -> Decimal:
    """The sum at a time. The row moves to that time with it: `floor_us` and `total` are what a writer stores."""
    if row.span.seconds is None or not row.entries:
        return row.total
    cutoff = row.cutoff(now_us)
    low, high = sorted((row.floor_us, cutoff))
    between = statements.rows("SELECT amount FROM facts_entries WHERE counter = ? AND at_us > ? AND at_us <= ?", (row.id, low, high))
    moved = sum((Decimal(amount) for (amount,) in between), Decimal(0))
    # A clock that was set back brings back what had left while it was ahead.
    row.total += moved if cutoff < row.floor_us else -moved
    row.floor_us = cutoff
    return row.total


def add(statements: Statements, row: Row, hold: str, now_us: int, amount: Decimal, unit: str) -> None:
    """Add an amount to a locked counter whose total was taken at the same time, and note who holds it."""
    row.total += amount
    entry = ""
    # A clock that was set back must not make entries leave out of order.
    at_us = max(now_us, row.last_us) if row.entries or row.span.seconds is None else now_us
    if row.span.seconds is not None:
        entry = hold
        if not row.entries:
            row.floor_us = row.cutoff(now_us)
        statements.run("INSERT INTO facts_entries VALUES (?, ?, ?, ?)", (row.id, at_us, entry, str(amount)))
        row.entries += 1
    if unit != "attempts":
        # Nobody ever corrects an attempt.
        statements.run("INSERT INTO facts_holds VALUES (?, ?, ?, ?, ?, ?)", (hold, row.id, entry, at_us, unit, str(amount)))
    row.last_us = at_us
    row.gone_us = max(row.gone_us, at_us + round(row.span.keep_s * 1_000_000))
    _trim(statements, row, now_us)
    _store(statements, row)


def _trim(statements: Statements, row: Row, now_us: int) -> None:
    if row.span.seconds is None or row.entries <= _FEW:
        return
    horizon = now_us - round(row.span.keep_s * 1_000_000)
    oldest = _oldest(statements, row, 2)
    if oldest and oldest[0][0] <= horizon:
        row.entries -= statements.run("DELETE FROM facts_entries WHERE counter = ? AND at_us <= ?", (row.id, horizon))
        statements.run("DELETE FROM facts_holds WHERE counter = ? AND at_us <= ?", (row.id, horizon))
    elif row.entries > MAX_ENTRIES:
        _merge(statements, row, oldest)


def _oldest(statements: Statements, row: Row, count: int) -> list[tuple[int, str, str]]:
    query = "SELECT at_us, id, amount FROM facts_entries WHERE counter = ? ORDER BY at_us, id LIMIT ?"
    return [(at_us, name, amount) for at_us, name, amount in statements.rows(query, (row.id, count))]


def _merge(statements: Statements, row: Row, oldest: Sequence[tuple[int, str, str]]) -> None:
    """Put the oldest entry into the next: it counts a little longer than it must, never shorter."""
    (first_us, first, amount), (next_us, following, more) = oldest
    statements.run("DELETE FROM facts_entries WHERE counter = ? AND at_us = ? AND id = ?", (row.id, first_us, first))
    row.entries -= 1
    if first_us <= row.floor_us < next_us:
        # It has left the window already: in the next it would be back.
        statements.run("DELETE FROM facts_holds WHERE counter = ? AND at_us = ? AND entry = ?", (row.id, first_us, first))
        return
    whole = str(Decimal(amount) + Decimal(more))
    statements.run("UPDATE facts_entries SET amount = ? WHERE counter = ? AND at_us = ? AND id = ?", (whole, row.id, next_us, following))
    statements.run(
        "UPDATE facts_holds SET entry = ?, at_us = ? WHERE counter = ? AND at_us = ? AND entry = ?",
        (following, next_us, row.id, first_us, first),
    )


def _store(statements: Statements, row: Row) -> None:
    statements.run(
        "UPDATE facts_counters SET total = ?, floor_us = ?, last_us = ?, entries = ?, gone_us = ? WHERE id = ?",
        (str(row.total), row.floor_us, row.last_us, row.entries, row.gone_us, row.id),
    )


def correct(statements: Statements, hold: str, real: dict[str, Decimal | None], otherwise: Decimal | None) -> None:
    """Replace what a hold took by the real amounts and forget the hold; once, because it is forgotten with it.

    Args:
        statements: An open write transaction.
        hold: Its id.
        real: Real amounts by unit.
        otherwise: The amount of every other unit; None leaves what was taken.
    """
    counters = sorted(name for (name,) in statements.rows("SELECT counter FROM facts_holds WHERE hold = ?", (hold,)))
    for name in counters:
        # Also locks it. One that was removed meanwhile has nothing left to correct.
        statements.run("UPDATE facts_counters SET entries = entries WHERE id = ?", (name,))
    held = statements.rows("SELECT counter, entry, at_us, unit, amount FROM facts_holds WHERE hold = ?", (hold,))
    for counter, entry, at_us, unit, amount in held:
        wanted = real.get(unit, otherwise)
        if wanted is not None and wanted != Decimal(amount):
            _change(statements, counter, entry, at_us, wanted - Decimal(amount))
    statements.run("DELETE FROM facts_holds WHERE hold = ?", (hold,))


def _change(statements: Statements, counter: str, entry: str, at_us: int, difference: Decimal) -> None:
    found = statements.rows("SELECT total, floor_us FROM facts_counters WHERE id = ?", (counter,))
    if not found:
        return
    total, floor_us = found[0]
    if entry:
        where = (counter, at_us, entry)
        kept = statements.rows("SELECT amount FROM facts_entries WHERE counter = ? AND at_us = ? AND id = ?", where)
        if not kept:
            return
        whole = str(Decimal(kept[0][0]) + difference)
        statements.run("UPDATE facts_entries SET amount = ? WHERE counter = ? AND at_us = ? AND id = ?", (whole, *where))
        # What has left the window is in no sum any more.
        if at_us <= floor_us:
            return
    statements.run("UPDATE facts_counters SET total = ? WHERE id = ?", (str(Decimal(total) + difference), counter))


def prune(statements: Statements, now_us: int, skip_locked: str) -> int:
    """Remove a few counters that are over, with all that hangs on them; how many."""
    query = "SELECT id FROM facts_counters WHERE gone_us < ? ORDER BY gone_us LIMIT ?"
    over = [name for (name,) in statements.rows(query + skip_locked, (now_us, _PRUNED_AT_ONCE))]
    for name in over:
        free(statements, name)
    return len(over)


def free(statements: Statements, counter: str) -> None:
    """Remove one counter that is locked."""
    for table, column in (("facts_holds", "counter"), ("facts_entries", "counter"), ("facts_counters", "id")):
        statements.run(f"DELETE FROM {table} WHERE {column} = ?", (counter,))  # noqa: S608 - our own names
