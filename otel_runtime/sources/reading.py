"""Reading fields of foreign events: each reader returns plain data or raises `Malformed` with a countable reason."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from functools import cache
from types import MappingProxyType
from typing import NamedTuple

from otel_runtime.values.trace import TraceEvent

__all__ = ["CONTROL", "Malformed", "Reader", "flag", "instant", "integer", "mapping", "optional_text", "present", "text"]

# A source that meets ever new kinds of rubbish must not grow: further reasons are counted together.
_REASONS = 64
_ID_LENGTH = 256
_TEXTS = frozenset({"text", "delta", "textDelta", "content"})
# What a source says to the projector, and no foreign event may say for it.
CONTROL = frozenset(
    {
        "approval.answer",
        "approval.asked_as",
        "approval.asked_id",
        "component.capability",
        "component.kind",
        "component.name",
        "component.status",
        "event.capped",
        "event.often",
        "event.seq",
        "event.source",
        "log.level",
        "parent.run.id",
        "run.announced",
        "run.perhaps_child",
        "run.tentative",
        "session.ended",
        "stream.ended",
        "stream.log",
        "stream.lost",
    }
)
# Fields that deltas of one unit have in common.
_ALIKE = frozenset({"type", "id", "name", "toolCallId", "runId", "session_id"})


class Malformed(Exception):
    """One raw event cannot be read.

    Args:
        reason: Low-cardinality reason, made of field names only, never of values.
    """

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


def mapping(value: object, field: str) -> Mapping[str, object]:
    """The value as a mapping with text keys; keys that are no text are left out."""
    if type(value) is dict:
        # Whoever reads a field asks for its type; what is passed on whole is checked key by key.
        return value
    if not isinstance(value, Mapping):
        raise Malformed(f"{field}: expected an object")
    return {key: value[key] for key in value if isinstance(key, str)}


def optional_text(raw: Mapping[str, object], name: str, *others: str) -> str | None:
    """The first non-empty text among the fields, cut to 256 characters; None when there is none."""
    value = raw.get(name)
    if type(value) is str and 0 < len(value) <= _ID_LENGTH:
        return value
    if value and isinstance(value, str):
        return value[:_ID_LENGTH]
    return optional_text(raw, *others) if others else None


def text(raw: Mapping[str, object], name: str, *others: str) -> str:
    """The first non-empty text among the fields."""
    value = raw.get(name)
    if type(value) is str and 0 < len(value) <= _ID_LENGTH:
        return value
    found = optional_text(raw, name, *others)
    if found is None:
        raise Malformed(f"{name}: expected a text")
    return found


def integer(raw: Mapping[str, object], *names: str) -> int | None:
    """The first whole number among the fields; a bool is no number, NaN and infinity are none either."""
    for name in names:
        value = raw.get(name)
        if isinstance(value, bool):
            continue
        if isinstance(value, int):
            return value
        if isinstance(value, float) and math.isfinite(value) and value.is_integer():
            return int(value)
    return None


def flag(raw: Mapping[str, object], name: str) -> bool | None:
    """The field when it is a bool, else None."""
    value = raw.get(name)
    return value if isinstance(value, bool) else None


def instant(value: object) -> datetime | None:
    """A time as UTC: a datetime, ISO 8601 text, or milliseconds since 1970; a naive one is taken as UTC; None when it is no time."""
    if value is None:
        return None
    try:
        moment = datetime.fromisoformat(value) if type(value) is str else _moment(value)
        if moment is None or moment.tzinfo is UTC:
            return moment
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError, OSError):
        # Not a time, or one at the edge of the calendar that falls off it in UTC: the projector then uses the time of arrival.
        return None


def _moment(value: object) -> datetime | None:
    if isinstance(value, datetime):
        return value
    if isinstance(value, str):
        return datetime.fromisoformat(str.__str__(value))
    if isinstance(value, int | float) and not isinstance(value, bool):
        return datetime.fromtimestamp(value / 1000, UTC)
    return None


def present(**fields: object) -> dict[str, object]:
    """The fields that are not None, `__` in names written as a dot; absent stays absent."""
    return {_dotted(name): value for name, value in fields.items() if value is not None}


@cache
def _dotted(name: str) -> str:
    # Bounded: the names are those that this package writes.
    return name.replace("__", ".")


class _Tick(NamedTuple):
    """A delta that may come again.

    Args:
        size: How many fields it has.
        fixed: All of them but its text.
        events: What it was translated to.
    """

    size: int
    fixed: tuple[tuple[str, object], ...]
    events: tuple[TraceEvent, ...]


def _tick(raw: dict[str, object], events: tuple[TraceEvent, ...]) -> _Tick | None:
    """None when something but the text tells one delta from the next, such as a time."""
    fixed = tuple((key, value) for key, value in raw.items() if key not in _TEXTS)
    plain = len(fixed) == len(raw) - 1 and all(key in _ALIKE and type(value) is str for key, value in fixed)
    return _Tick(len(raw), fixed, events) if plain else None


class Reader:
    """The never-raising shell around a vocabulary's `read`: what cannot be read is counted, by reason."""

    name = ""
    # Kinds whose events are all alike but for their text: the same TraceEvent again costs the projector one comparison.
    tickable: frozenset[str] = frozenset()

    def __init__(self, stream: str) -> None:
        self._stream = stream
        self._malformed: Counter[str] = Counter()
        self._tick: _Tick | None = None

    @property
    def malformed(self) -> Mapping[str, int]:
        """How many events could not be read, by reason."""
        return MappingProxyType(self._malformed)

    def translate(self, raw: object) -> tuple[TraceEvent, ...]:
        """The TraceEvents of one raw event; none when it is malformed. Never raises."""
        try:
            tick = self._tick
            if tick is not None and type(raw) is dict and len(raw) == tick.size and all(raw.get(key) == value for key, value in tick.fixed):
                return tick.events
            self._tick = None
            found = self.read(raw if type(raw) is dict else mapping(raw, "event"))
            events = found if type(found) is tuple else tuple(found)
            if self.tickable and type(raw) is dict and type(kind := raw.get("type")) is str and kind in self.tickable:
                self._tick = _tick(raw, events)
        except Malformed as problem:
            self._count(problem.reason)
            return ()
        except Exception as problem:  # noqa: BLE001 - see the next line
            # Telemetry fails open: a hostile object (a broken __getitem__, a cycle) is the stream's problem, not the agent's.
            self._count(f"unreadable: {type(problem).__name__}")
            return ()
        return events

    def read(self, raw: Mapping[str, object]) -> Iterable[TraceEvent]:
        """What the vocabulary makes of one event.

        Raises:
            Malformed: The event cannot be read.
        """
        raise Malformed(f"{self.name}: reads nothing")

    def _count(self, reason: str) -> None:
        known = reason in self._malformed or len(self._malformed) < _REASONS
        self._malformed[reason if known else "other"] += 1
