"""Which facts store stands behind the protocol, from the settings."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING

from otel_runtime.errors import ConfigError
from otel_runtime.policy.facts_memory import MemoryFacts

if TYPE_CHECKING:
    from otel_runtime.policy.facts_sql import SqlFacts
    from otel_runtime.policy.loading import LoadedPolicy
    from otel_runtime.settings.model import Settings
    from otel_runtime.storage.sqlite import Database
    from otel_runtime.storage.transactions import Transactions

__all__ = ["describe_facts", "facts_kind", "open_facts", "shared_facts"]

_POSTGRES = ("postgresql://", "postgres://")


def facts_kind(settings: Settings, policy: LoadedPolicy | None) -> str:
    """`memory`, `sqlite` or `postgresql`: what `auto` means for this policy, and what else is what it says.

    A question to a person outlives the process that asked, and so must what the decision on it reads: its counters, and the labels of
    its session. A policy that may be reloaded, and one in another language, may ask at any time.

    Raises:
        ConfigError: The setting names a database that is neither.
    """
    if settings.facts.startswith(_POSTGRES):
        return "postgresql"
    if settings.facts in {"memory", "sqlite"}:
        return settings.facts
    if settings.facts != "auto":
        scheme = settings.facts.partition("://")[0] if "://" in settings.facts else ""
        got = f"a URL of `{scheme}`" if scheme.isalnum() else "something else"
        raise ConfigError.of(
            "S001", f"setting `facts`: expected `auto`, `memory`, `sqlite` or postgresql://USER@HOST/DATABASE, got {got}", ""
        )
    asks = policy is None or settings.policy_reload or bool(settings.cedar or settings.opa) or _asks_people(policy)
    return "sqlite" if asks else "memory"


def open_facts(
    settings: Settings,
    policy: LoadedPolicy | None,
    clock: Callable[[], datetime],
    soon: Callable[[Callable[[], None]], None],
    database: Database,
) -> MemoryFacts | SqlFacts:
    """The configured facts store, ready to use.

    Args:
        settings: The settings.
        policy: Rules of our own; None without.
        clock: Current time in UTC, for a store that has no clock of its own.
        soon: Runs something soon on another thread.
        database: The state database, which a reservation and a claim then share.

    Raises:
        ConfigError: The setting `facts` names no store.
        StoreError: The database cannot be used.
    """
    kind = facts_kind(settings, policy)
    if kind == "memory":
        return MemoryFacts()
    facts = shared_facts(settings, kind, clock, soon, database)
    facts.open()
    return facts


def shared_facts(
    settings: Settings,
    kind: str,
    clock: Callable[[], datetime] | None = None,
    soon: Callable[[Callable[[], None]], None] | None = None,
    database: Database | None = None,
) -> SqlFacts:
    """The store in a database, not opened yet.

    Args:
        settings: The settings.
        kind: `sqlite` or `postgresql`.
        clock: As for `open_facts`.
        soon: As for `open_facts`.
        database: As for `open_facts`; None opens the file by itself.

    Raises:
        StoreError: psycopg is missing, or the URL cannot be understood.
    """
    from otel_runtime.policy.facts_schema import FACTS  # programs whose facts stay in memory load no database
    from otel_runtime.policy.facts_sql import SqlFacts

    store: Transactions
    if kind == "postgresql":
        from otel_runtime.storage.postgres import PostgresTransactions

        store = PostgresTransactions(settings.facts, [FACTS], timeout_s=settings.facts_timeout)
    else:
        from otel_runtime.storage.sqlite import Database
        from otel_runtime.storage.sqlite_transactions import SqliteTransactions

        shared = database is not None
        store = SqliteTransactions(database or Database(settings.state, [FACTS]), wait_s=settings.facts_timeout, shared=shared)
    return SqlFacts(store, clock=clock, soon=soon, timeout_s=settings.facts_timeout)


def describe_facts(settings: Settings, policy: LoadedPolicy | None) -> str:
    """Where facts are kept and how many there are, for people.

    Raises:
        ConfigError: The setting `facts` names no store.
        StoreError: The database cannot be used.
    """
    kind = facts_kind(settings, policy)
    why = " (`facts: auto`)" if settings.facts == "auto" else ""
    if kind == "memory":
        return f"in memory, of each process for itself{why}"
    if kind == "sqlite" and not settings.state.exists():
        return f"in {settings.state}, made at the first start{why}"
    facts = shared_facts(settings, kind)
    facts.open()
    try:
        size = facts.size()
        return (
            f"in {facts.place}{why}: {size['counters']} counters, {size['sessions']} sessions, {size['holds']} calls under way or cut off"
        )
    finally:
        facts.close()


def _asks_people(policy: LoadedPolicy) -> bool:
    compiled = policy.engine.policy
    return compiled.defaults.verdict == "require-approval" or any(rule.verdict == "require-approval" for rule in compiled.rules)
