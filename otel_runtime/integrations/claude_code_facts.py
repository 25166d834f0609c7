"""Counters, labels and history that hold across the hook processes of a project: a journal of what was let run, read again each time.

It is read only for rules that ask for such facts, and under a lock until the decision is written, so two tools at once cannot both take
the last of a budget.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from otel_runtime.errors import StoreError
from otel_runtime.policy.answering import answered
from otel_runtime.policy.protocol import CounterKey, Engine, Reservation, Ruling, Start
from otel_runtime.values.action import Action

if TYPE_CHECKING:
    from otel_runtime.policy.facts_memory import MemoryFacts

__all__ = ["decide_with_facts"]

_MAX_BYTES: Final = 16 << 20
_COMPACT_BYTES: Final = 1 << 20
# Longer than the longest window, a month.
_KEEP_S: Final = 35 * 86400.0
_NO_LIMIT: Final = Decimal(10) ** 30


def decide_with_facts(engine: Engine, action: Action, now: datetime, journal: Path) -> Ruling:
    """Decide a call by a policy and by what earlier hook processes let run, and write down what this one does.

    Args:
        engine: The rules.
        action: The call.
        now: Time of the decision, in UTC.
        journal: The file that keeps the facts.

    Raises:
        StoreError: The facts cannot be read or written: nothing may run then.
    """
    needs = engine.needs(action, now)
    if needs is None:
        ruling = engine.decide(action, None, now)
        if ruling.start is None:
            return ruling
    with _opened(journal) as file:
        facts = file.facts()
        ruling = engine.decide(action, None if needs is None else answered(needs, facts.peek(needs, now)), now)
        # Attempts count also where the tool does not run.
        start = ruling.start or ruling.tried
        if start is not None:
            if facts.begin(start, now) is None:
                raise StoreError("a limit was reached between the decision and its record; try again", path=str(journal))
            file.append(start, now)
    return ruling


@dataclass(slots=True)
class _Journal:
    """The open file, locked.

    Args:
        path: Its path, for messages.
        handle: Its descriptor.
        end: Where its last complete line ends.
    """

    path: Path
    handle: int
    end: int = 0

    def facts(self) -> MemoryFacts:
        """Everything in it, as a store that can be asked."""
        # Most rules ask for no facts.
        from otel_runtime.policy.facts_memory import MemoryFacts

        facts = MemoryFacts()
        for entry in self._entries():
            facts.begin(_start(entry), datetime.fromtimestamp(entry["at"], UTC))
        return facts

    def append(self, start: Start, now: datetime) -> None:
        """Write one start down, on the disk before the tool runs."""
        if self.end > _COMPACT_BYTES:
            self._compact(now)
        if self.end > _MAX_BYTES:
            raise StoreError(
                f"the facts of the hooks in `{self.path}` have grown beyond {_MAX_BYTES} bytes; remove it", path=str(self.path)
            )
        os.ftruncate(self.handle, self.end)
        _write_through(self.handle, json.dumps(_entry(start, now)).encode() + b"\n", self.end)

    def _entries(self) -> list[dict[str, Any]]:
        content = os.pread(self.handle, os.fstat(self.handle).st_size, 0)
        # Who was killed in the middle of a line has let nothing run: the answer is given when the line is on the disk.
        self.end = content.rfind(b"\n") + 1
        content = content[: self.end]
        try:
            return [json.loads(line) for line in content.splitlines()]
        except ValueError:
            raise StoreError(f"the facts of the hooks in `{self.path}` are damaged; remove it to count anew", path=str(self.path)) from None

    def _compact(self, now: datetime) -> None:
        """Put a shorter file in the place of this one, as a whole, locked before it is there."""
        kept = [entry for entry in self._entries() if now.timestamp() - entry["at"] < _KEEP_S]
        content = b"".join(json.dumps(entry).encode() + b"\n" for entry in kept)
        aside = self.path.with_name(f".{self.path.name}.new")
        # Left by one that was killed here.
        aside.unlink(missing_ok=True)
        handle = _locked(aside, os.O_EXCL)
        try:
            _write_through(handle, content, 0)
            aside.replace(self.path)
        except BaseException:
            os.close(handle)
            raise
        os.close(self.handle)
        self.handle, self.end = handle, len(content)


@contextmanager
def _opened(path: Path) -> Iterator[_Journal]:
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        journal = _Journal(path, _locked_there(path))
        try:
            yield journal
        finally:
            os.close(journal.handle)
    except OSError as error:
        raise StoreError(f"the facts of the hooks in `{path}` cannot be used: {error.strerror or error}", path=str(path)) from error


def _locked(path: Path, more: int = 0) -> int:
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | more, 0o600)
    fcntl.flock(handle, fcntl.LOCK_EX)
    return handle


def _locked_there(path: Path) -> int:
    while not _is_still(path, handle := _locked(path)):
        os.close(handle)
    return handle


def _is_still(path: Path, handle: int) -> bool:
    # While the lock was waited for, its holder may have put a shorter file there.
    try:
        return path.stat().st_ino == os.fstat(handle).st_ino
    except FileNotFoundError:
        return False


def _write_through(handle: int, content: bytes, at: int) -> None:
    """Write all of it, to the disk."""
    left = memoryview(content)
    while left:
        written = os.pwrite(handle, left, at)
        left, at = left[written:], at + written
    os.fsync(handle)


def _entry(start: Start, now: datetime) -> dict[str, Any]:
    held = [[item.key.name, item.key.scope, item.key.window, str(item.amount), item.unit] for item in start.reservations]
    return {"at": now.timestamp(), "session": start.session, "tool": start.tool, "labels": sorted(start.labels), "held": held}


def _start(entry: dict[str, Any]) -> Start:
    held = tuple(
        Reservation(CounterKey(name, scope, window), Decimal(amount), _NO_LIMIT, unit)
        for name, scope, window, amount, unit in entry["held"]
    )
    return Start(held, entry["session"], entry["tool"], frozenset(entry["labels"]))
