"""The approvals room's tables, and every migration an approvals database needs."""

from __future__ import annotations

from otel_runtime.audit.schema import AUDIT
from otel_runtime.storage.migrations import Migration

__all__ = ["APPROVALS", "MIGRATIONS"]

APPROVALS = Migration(
    room="approvals",
    steps=(
        (
            # `question` is the sealed document; the columns beside it exist to search and to change state, and are checked against it.
            # `due_us`: until when it may be answered, then until when it may be used. `dedupe` is a hash.
            """CREATE TABLE approval_requests (
                 id TEXT PRIMARY KEY, state TEXT NOT NULL, revision INTEGER NOT NULL, call_digest TEXT NOT NULL, dedupe TEXT,
                 supersedes TEXT, requested_us INTEGER NOT NULL, due_us INTEGER NOT NULL, decided_us INTEGER, owner TEXT,
                 trace TEXT, question TEXT NOT NULL, question_mac BLOB NOT NULL, state_mac BLOB NOT NULL)""",
            """CREATE UNIQUE INDEX approval_requests_open ON approval_requests (dedupe)
                 WHERE dedupe IS NOT NULL AND state IN ('awaiting-approval', 'approved')""",
            "CREATE INDEX approval_requests_by_dedupe ON approval_requests (dedupe)",
            "CREATE INDEX approval_requests_by_due ON approval_requests (state, due_us)",
            "CREATE INDEX approval_requests_by_time ON approval_requests (requested_us)",
            "CREATE INDEX approval_requests_by_origin ON approval_requests (supersedes)",
            """CREATE TABLE approval_votes (
                 number INTEGER PRIMARY KEY, request TEXT NOT NULL, revision INTEGER NOT NULL, vote TEXT NOT NULL, mac BLOB NOT NULL)""",
            "CREATE INDEX approval_votes_by_request ON approval_votes (request, revision)",
        ),
    ),
)
MIGRATIONS = (AUDIT, APPROVALS)
