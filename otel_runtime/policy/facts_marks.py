"""Labels, history and sightings of sessions in tables, run inside the transaction of whoever calls.

What a session saw is a log: each row is what one `saw` brought, and every process replays it into the same `Sightings`, so that what counts as
seen is decided in one place. The log is bounded: beyond its caps a source gets one row that says that something of it is missing.

INVARIANT: whoever writes has locked the session's row (`touched`), and several in the order of their keys.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from otel_runtime.policy.facts_sums import digest_of, readable
from otel_runtime.policy.protocol import Start
from otel_runtime.policy.provenance import Gleaned
from otel_runtime.storage.transactions import Statements

__all__ = [
    "NOTHING_BUT_LOST",
    "append",
    "body_of",
    "forget_idle",
    "forgotten",
    "mark",
    "marks_of",
    "replayed",
    "session_key",
    "touched",
    "unmark",
]

_MAX_CHARS: Final = 256 << 10
_MAX_ROWS: Final = 4096
_DAY_US: Final = 86_400_000_000
# What a session saw and did is dropped when it was idle for so long; then it is unknown, not clean.
_IDLE_US: Final = 90 * _DAY_US
_FORGOTTEN_AT_ONCE: Final = 5
_LOST: Final = "lost"
NOTHING_BUT_LOST: Final = '{"lost": true}'


def session_key(session: str) -> str:
    """The key of a session."""
    return digest_of("session", session)


def touched(statements: Statements, sessions: Iterable[str], now_us: int) -> list[str]:
    """Lock sessions, making those that are new; the keys of those whose marks are known."""
    names = {session_key(session): session for session in sessions}
    for key, session in sorted(names.items()):
        statements.run(
            "INSERT INTO facts_sessions VALUES (?, ?, ?, 0, 0, 0, 0, 0) "
            "ON CONFLICT (id) DO UPDATE SET touched_us = CASE WHEN facts_sessions.touched_us > excluded.touched_us "
            "THEN facts_sessions.touched_us ELSE excluded.touched_us END",
            (key, readable(session), now_us),
        )
    # Marks of a session that was forgotten would look as if they were all it ever had.
    gone = forgotten(statements, tuple(names))
    return [key for key in sorted(names) if key not in gone]


def forgotten(statements: Statements, keys: Sequence[str]) -> frozenset[str]:
    """Those of the sessions whose marks were dropped."""
    query = f"SELECT id FROM facts_sessions WHERE forgotten = 1 AND id IN ({', '.join('?' * len(keys))})"  # noqa: S608 - only marks
    return frozenset(key for (key,) in statements.rows(query, tuple(keys)))


def mark(statements: Statements, start: Start, now_us: int) -> None:
    """Put a start's name and labels on its session and those around it."""
    if start.session is None or (start.tool is None and not start.labels):
        return
    source = json.dumps(start.tool or "unknown")
    added = [("label", json.dumps(label), source) for label in sorted(start.labels)]
    if start.tool is not None:
        added.append(("tool", source, ""))
    for key in touched(statements, (start.session, *start.around), now_us):
        for kind, name, origin in added:
            statements.run("INSERT INTO facts_marks VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING", (key, kind, name, origin))


def marks_of(statements: Statements, keys: Sequence[str]) -> tuple[Mapping[str, frozenset[str]], frozenset[str]]:
    """Labels with their sources, and history, of several sessions together."""
    labels: dict[str, frozenset[str]] = {}
    history: set[str] = set()
    query = f"SELECT kind, name, source FROM facts_marks WHERE session IN ({', '.join('?' * len(keys))})"  # noqa: S608 - only marks
    for kind, name, source in statements.rows(query, tuple(keys)):
        if kind == "tool":
            history.add(json.loads(name))
        else:
            label = json.loads(name)
            labels[label] = labels.get(label, frozenset()) | {json.loads(source)}
    return labels, frozenset(history)


def unmark(statements: Statements, key: str, label: str) -> frozenset[str]:
    """Take one label off a locked session; the sources that had added it."""
    which = (key, json.dumps(label))
    sources = statements.rows("SELECT source FROM facts_marks WHERE session = ? AND kind = 'label' AND name = ?", which)
    statements.run("DELETE FROM facts_marks WHERE session = ? AND kind = 'label' AND name = ?", which)
    return frozenset(json.loads(source) for (source,) in sources)


def forget_idle(statements: Statements, now_us: int, skip_locked: str) -> int:
    """Drop what a few sessions did and saw that nobody touched for long; how many."""
    query = "SELECT id FROM facts_sessions WHERE forgotten = 0 AND touched_us < ? ORDER BY touched_us LIMIT ?"
    idle = statements.rows(query + skip_locked, (now_us - _IDLE_US, _FORGOTTEN_AT_ONCE))
    for (key,) in idle:
        statements.run("DELETE FROM facts_marks WHERE session = ?", (key,))
        statements.run("DELETE FROM facts_seen WHERE session = ?", (key,))
        statements.run("UPDATE facts_sessions SET forgotten = 1 WHERE id = ?", (key,))
    return len(idle)


def body_of(gleaned: Gleaned) -> str:
    """What is kept of a value, as JSON in plain ASCII; empty when it said nothing."""
    kept: dict[str, object] = {
        "text": gleaned.text,
        "numbers": sorted(gleaned.numbers),
        "mentions": sorted(gleaned.mentions),
        "fields": {spelled: sorted(names) for spelled, names in gleaned.fields.items()},
        "lost": gleaned.lost,
    }
    said = {name: part for name, part in kept.items() if part}
    return json.dumps({**said, "chars": gleaned.chars}) if said else ""


def append(statements: Statements, key: str, source: str, body: str, size: int) -> None:
    """Add what a locked session saw, once however often it sees it."""
    (seen, kept, user_size, other_size) = statements.rows(
        "SELECT seen, kept, user_size, other_size FROM facts_sessions WHERE id = ?", (key,)
    )[0]
    user = source == "user"
    full = user and (user_size + size > _MAX_CHARS or kept >= _MAX_ROWS)
    if full:
        # The person's words are never given up for later ones.
        body, size = NOTHING_BUT_LOST, 0
    digest = _LOST if body == NOTHING_BUT_LOST else hashlib.sha256(body.encode()).hexdigest()
    row = (key, seen + 1, json.dumps(source), digest, size, body)
    if not statements.run("INSERT INTO facts_seen VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (session, source, digest) DO NOTHING", row):
        return
    user_size, other_size = user_size + size * user, other_size + size * (not user)
    sizes = (seen + 1, kept + 1, user_size, other_size)
    if other_size > 2 * _MAX_CHARS or kept >= _MAX_ROWS:
        sizes = _compacted(statements, key, sizes)
    statements.run("UPDATE facts_sessions SET seen = ?, kept = ?, user_size = ?, other_size = ? WHERE id = ?", (*sizes, key))


def _compacted(statements: Statements, key: str, sizes: tuple[int, int, int, int]) -> tuple[int, int, int, int]:
    """Drop the oldest half of what was not the person's, and say of which sources."""
    seen, kept, user_size, other_size = sizes
    rows = statements.rows(
        "SELECT n, source, size FROM facts_seen WHERE session = ? AND source <> ? AND digest <> ? ORDER BY n",
        (key, json.dumps("user"), _LOST),
    )
    dropped: dict[str, int] = {}
    left = len(rows)
    for n, source, size in rows:
        if other_size <= _MAX_CHARS and left <= _MAX_ROWS // 2:
            break
        statements.run("DELETE FROM facts_seen WHERE session = ? AND n = ?", (key, n))
        dropped.setdefault(source, n)
        other_size, left, kept = other_size - size, left - 1, kept - 1
    for source, n in dropped.items():
        kept += statements.run(
            "INSERT INTO facts_seen VALUES (?, ?, ?, ?, 0, ?) ON CONFLICT (session, source, digest) DO NOTHING",
            (key, n, source, _LOST, NOTHING_BUT_LOST),
        )
    return seen, kept, user_size, other_size


def replayed(statements: Statements, key: str, after: int) -> Iterator[tuple[int, str, Gleaned]]:
    """What a session saw after a row, in order: number, source, what was read."""
    rows = statements.rows("SELECT n, source, body FROM facts_seen WHERE session = ? AND n > ? ORDER BY n", (key, after))
    for n, source, body in rows:
        kept = json.loads(body)
        fields = {spelled: set(names) for spelled, names in kept.get("fields", {}).items()}
        numbers, mentions = set(kept.get("numbers", ())), set(kept.get("mentions", ()))
        yield n, json.loads(source), Gleaned(kept.get("text", ""), numbers, mentions, fields, kept.get("chars", 0), kept.get("lost", False))
