"""The tables of shared facts, the same in SQLite and PostgreSQL.

Keys are hashes, so that a session or user id may be of any length and hold any character; readable names stand beside them for whoever
looks. Amounts are decimal text, because neither floats nor SQLite's numbers are exact. Times are microseconds since 1970.
"""

from __future__ import annotations

from otel_runtime.storage.migrations import Migration

__all__ = ["FACTS"]

FACTS = Migration(
    room="facts",
    steps=(
        (
            # `total` is the sum of entries after `floor_us`; those up to it have left the window.
            """CREATE TABLE facts_counters (
                 id TEXT PRIMARY KEY, name TEXT NOT NULL, scope TEXT NOT NULL, span TEXT NOT NULL, total TEXT NOT NULL,
                 floor_us BIGINT NOT NULL, last_us BIGINT NOT NULL, entries BIGINT NOT NULL, gone_us BIGINT NOT NULL)""",
            "CREATE INDEX facts_counters_by_end ON facts_counters (gone_us)",
            """CREATE TABLE facts_entries (
                 counter TEXT NOT NULL, at_us BIGINT NOT NULL, id TEXT NOT NULL, amount TEXT NOT NULL, PRIMARY KEY (counter, at_us, id))""",
            # What `begin` took and nobody has settled yet. An entry of '' is a calendar counter's.
            """CREATE TABLE facts_holds (
                 hold TEXT NOT NULL, counter TEXT NOT NULL, entry TEXT NOT NULL, at_us BIGINT NOT NULL, unit TEXT NOT NULL,
                 amount TEXT NOT NULL, PRIMARY KEY (hold, counter))""",
            "CREATE INDEX facts_holds_by_entry ON facts_holds (counter, at_us)",
            # A session whose marks were dropped keeps its row: it is unknown from then on, not clean.
            """CREATE TABLE facts_sessions (
                 id TEXT PRIMARY KEY, name TEXT NOT NULL, touched_us BIGINT NOT NULL, forgotten BIGINT NOT NULL,
                 seen BIGINT NOT NULL, kept BIGINT NOT NULL, user_size BIGINT NOT NULL, other_size BIGINT NOT NULL)""",
            "CREATE INDEX facts_sessions_by_age ON facts_sessions (forgotten, touched_us)",
            """CREATE TABLE facts_marks (
                 session TEXT NOT NULL, kind TEXT NOT NULL, name TEXT NOT NULL, source TEXT NOT NULL,
                 PRIMARY KEY (session, kind, name, source))""",
            # What a session saw, in order. Every process replays it; what is beyond the caps is one row per source that says so.
            """CREATE TABLE facts_seen (
                 session TEXT NOT NULL, n BIGINT NOT NULL, source TEXT NOT NULL, digest TEXT NOT NULL, size BIGINT NOT NULL,
                 body TEXT NOT NULL, PRIMARY KEY (session, n))""",
            "CREATE UNIQUE INDEX facts_seen_once ON facts_seen (session, source, digest)",
        ),
    ),
)
