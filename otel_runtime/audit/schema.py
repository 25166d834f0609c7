"""The audit room's tables."""

from __future__ import annotations

from otel_runtime.storage.migrations import Migration

__all__ = ["AUDIT"]

AUDIT = Migration(
    room="audit",
    steps=(
        (
            """CREATE TABLE audit_events (seq INTEGER PRIMARY KEY, at_us INTEGER NOT NULL, kind TEXT NOT NULL, subject TEXT NOT NULL,
               payload TEXT NOT NULL, mac BLOB NOT NULL)""",
            "CREATE INDEX audit_events_by_subject ON audit_events (subject, kind)",
            # The head says how long the record is, so that events missing at its end are noticed.
            "CREATE TABLE audit_head (id INTEGER PRIMARY KEY CHECK (id = 1), seq INTEGER NOT NULL, mac BLOB NOT NULL, seal BLOB NOT NULL)",
            "CREATE TRIGGER audit_events_stay BEFORE UPDATE ON audit_events BEGIN SELECT RAISE(ABORT, 'audit events never change'); END",
            "CREATE TRIGGER audit_events_last BEFORE DELETE ON audit_events BEGIN SELECT RAISE(ABORT, 'audit events are never deleted'); END",
        ),
    ),
)
