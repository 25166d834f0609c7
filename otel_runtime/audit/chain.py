"""The chain: each event's code covers the event and the code before it, so nothing in between can change unseen. Pure."""

from __future__ import annotations

import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

__all__ = ["GENESIS", "Event", "code", "from_microseconds", "microseconds", "payload_text", "plain_text"]

GENESIS = b"\x00" * 32
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Event:
    """One event of the record.

    Args:
        seq: Position, starts at 1, without gaps.
        at: When, in UTC.
        kind: Dotted kind, such as `approval.requested` or `decision`.
        subject: What it is about: a request id, a tool name.
        payload: JSON text, exactly as authenticated.
        mac: HMAC-SHA256 over everything above and the code of the event before.
    """

    seq: int
    at: datetime
    kind: str
    subject: str
    payload: str
    mac: bytes


def code(key: bytes, previous: bytes, seq: int, at_us: int, kind: str, subject: str, payload: str) -> bytes:
    """The code of an event.

    Args:
        key: A key derived for the chain.
        previous: Code of the event before, `GENESIS` for the first.
        seq: Position, starts at 1.
        at_us: Microseconds since 1970 in UTC.
        kind: Kind of the event.
        subject: What it is about.
        payload: JSON text.
    """
    # JSON keeps the fields apart: no two different events have the same text.
    text = json.dumps([previous.hex(), seq, at_us, kind, subject, payload])
    return hmac.digest(key, text.encode(), "sha256")


def payload_text(payload: Mapping[str, object]) -> str:
    """Canonical JSON of a payload, plain ASCII.

    Raises:
        ValueError: A number is not finite.
        TypeError: A value is no JSON data.
    """
    return json.dumps(payload, sort_keys=True, separators=(",", ":"), allow_nan=False)


def plain_text(text: str) -> str:
    """Text that a database takes: lone surrogates as visible escapes."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def microseconds(moment: datetime) -> int:
    """Microseconds since 1970 of an aware time, exact."""
    return (moment - _EPOCH) // timedelta(microseconds=1)


def from_microseconds(count: int) -> datetime:
    """The time in UTC for microseconds since 1970, exact."""
    return _EPOCH + timedelta(microseconds=count)
