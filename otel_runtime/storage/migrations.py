"""Schema changes: each room hands its own numbered steps; processes that start together apply each step once."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from otel_runtime.errors import StoreError

__all__ = ["Migration", "migrate"]

_VERSIONS = "CREATE TABLE IF NOT EXISTS schema_versions (room TEXT PRIMARY KEY, version INTEGER NOT NULL)"
_APPLICATION = 0x4F545254  # "OTRT": tells our file from another program's database


@dataclass(frozen=True, slots=True)
class Migration:
    """The history of one room's tables.

    Args:
        room: Name of the room that owns the tables.
        steps: One tuple of statements per version, oldest first; a published step never changes.
    """

    room: str
    steps: tuple[tuple[str, ...], ...]


def migrate(connection: sqlite3.Connection, migrations: Sequence[Migration], path: Path) -> None:
    """Bring every room's tables up to date, in one transaction, once over all processes.

    Raises:
        StoreError: The database is another program's, or was written by a newer version of this one.
    """
    present = _versions(connection, path)
    if all(present.get(migration.room) == len(migration.steps) for migration in migrations):
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        _apply(connection, migrations, path)
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def _apply(connection: sqlite3.Connection, migrations: Sequence[Migration], path: Path) -> None:
    # Read again under the lock: another process may have been first.
    present = _versions(connection, path)
    connection.execute(f"PRAGMA application_id = {_APPLICATION}")
    connection.execute(_VERSIONS)
    for migration in migrations:
        done = present.get(migration.room, 0)
        if done > len(migration.steps):
            raise _newer(migration.room, done, len(migration.steps), path)
        for step in migration.steps[done:]:
            for statement in step:
                connection.execute(statement)
        connection.execute("INSERT OR REPLACE INTO schema_versions VALUES (?, ?)", (migration.room, len(migration.steps)))


def _versions(connection: sqlite3.Connection, path: Path) -> dict[str, int]:
    tables = {str(name) for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if "schema_versions" in tables:
        return {str(room): int(version) for room, version in connection.execute("SELECT room, version FROM schema_versions")}
    if tables - {"sqlite_sequence"}:
        raise StoreError(
            f"state database `{path}` belongs to another program (it has the table `{min(tables)}`); set `state` to another path",
            path=str(path),
        )
    return {}


def _newer(room: str, found: int, known: int, path: Path) -> StoreError:
    return StoreError(
        f"state database `{path}` was written by a newer otel-runtime: expected version {known} or older of `{room}`, got {found}; "
        "upgrade otel-runtime, or set `state` to another path",
        path=str(path),
    )
