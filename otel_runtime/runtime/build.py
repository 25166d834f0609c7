"""Join the parts. The one place where settings become adapters."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from otel_runtime.approvals.answers import Redecide
from otel_runtime.approvals.schema import MIGRATIONS
from otel_runtime.approvals.service import ApprovalService
from otel_runtime.audit.decisions import DecisionLog
from otel_runtime.audit.key import load_or_create_key
from otel_runtime.errors import ConfigError, RuntimeStateError
from otel_runtime.hooks.background import Background
from otel_runtime.hooks.bus import EventBus, Subscriptions
from otel_runtime.hooks.lifecycle import Hooks, Observers
from otel_runtime.policy.facts_memory import MemoryFacts
from otel_runtime.policy.facts_schema import FACTS
from otel_runtime.policy.live import LiveEngine
from otel_runtime.policy.loading import LoadedPolicy, load_policy
from otel_runtime.runtime.engines import configured_engine
from otel_runtime.runtime.facts import facts_kind, open_facts
from otel_runtime.runtime.later import Later
from otel_runtime.runtime.noting import LiveWitness
from otel_runtime.runtime.protected import protected_paths
from otel_runtime.runtime.redeciding import redecide_with
from otel_runtime.runtime.reloading import Loaded, Reloader, require_watchfiles
from otel_runtime.runtime.runtime import Runtime
from otel_runtime.runtime.telling import tell_reload
from otel_runtime.runtime.watched import Watched
from otel_runtime.settings.model import Settings
from otel_runtime.storage.sqlite import Database
from otel_runtime.telemetry.provider import build_tracing
from otel_runtime.telemetry.worker import thread_begins
from otel_runtime.usage.extract import extract
from otel_runtime.usage.pricing import price
from otel_runtime.usage.stream import StreamUsage
from otel_runtime.usage.totals import Totals
from otel_runtime.values.host import CapabilityHandle
from otel_runtime.values.usage import UsageRecord
from otel_runtime.wrap.active import Active, Guard, Sums, begin_own_thread
from otel_runtime.wrap.ambient import OBSERVERS, SUBSCRIPTIONS
from otel_runtime.wrap.registry import known_signatures

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider

    from otel_runtime.policy.facts_sql import SqlFacts

__all__ = ["build_runtime", "load_configured_policy", "open_approvals", "redecider", "roles_of"]

_log = logging.getLogger("otel_runtime")
thread_begins.append(begin_own_thread)


def build_runtime(
    settings: Settings,
    *,
    tracer_provider: TracerProvider | None = None,
    meter_provider: MeterProvider | None = None,
    capabilities: Mapping[str, object] | None = None,
    clock: Callable[[], datetime] | None = None,
) -> Runtime:
    """Build a runtime; it is not in force until it is registered or used.

    Args:
        settings: The settings.
        tracer_provider: The application's own; None builds or finds one.
        meter_provider: The application's own; None builds or finds one.
        capabilities: Values or `CapabilityHandle`s by name.
        clock: Current time in UTC; the system's when None.

    Raises:
        ConfigError: The policy or an exporter that was configured cannot be used.
        StoreError: The state database cannot be used.
    """
    clock = clock or _utc_now
    if settings.policy_reload:
        require_watchfiles()
    watched = Watched(settings.policy, deep=settings.cedar)
    # Before they are read: what changes from here on is seen as a change.
    seen = watched.marks()
    policy = load_configured_policy(settings)
    engine = configured_engine(settings, policy)
    later = Later(settings.name)
    approvals = None if engine is None else open_approvals(settings, clock)
    facts = None if approvals is None else _open_facts(settings, policy, approvals, clock, later)
    live = None if engine is None else LiveEngine(engine)
    guard = None if live is None or approvals is None or facts is None else _guard(settings, live, policy, approvals, facts)
    tracing = build_tracing(settings, tracer_provider=tracer_provider, meter_provider=meter_provider)
    if approvals is not None:
        tracing.questions_wait(approvals.waits)
    own_observers, own_subscriptions = Observers(), Subscriptions()
    background, sums = Background(settings.name), Totals()
    active = Active(
        name=settings.name,
        tracing=tracing,
        guard=guard,
        hooks=Hooks(OBSERVERS, own_observers, background),
        bus=EventBus(SUBSCRIPTIONS, own_subscriptions, background),
        background=background,
        later=later.add,
        clock=clock,
        usage_of=_usage_of,
        stream_meter=StreamUsage,
        sums_within=_sums_within,
        sums=sums,
        wait_at_most=settings.wait_at_most,
        resume_trace=settings.resume_trace,
        capabilities=_handles(capabilities or {}),
    )
    reloader = None
    if guard is not None and live is not None:
        later.start()
        reloader = _reloader(settings, active, guard, live, policy, watched)
        if settings.policy_reload:
            reloader.watch(seen)
    return Runtime(settings, active, reloader, approvals, facts, later, own_observers, own_subscriptions, sums)


def load_configured_policy(settings: Settings) -> LoadedPolicy | None:
    """The rules of our own that settings name; None when they name none.

    Raises:
        ConfigError: It cannot be loaded.
    """
    if not settings.policy:
        return None
    return load_policy(settings.policy, known_tools=known_signatures(), roles=roles_of(settings), protected=protected_paths(settings))


def open_approvals(settings: Settings, clock: Callable[[], datetime] | None = None) -> ApprovalService:
    """The approvals service on the configured state database, which is created when it does not exist.

    Raises:
        StoreError: The database or its key cannot be used.
    """
    path = Path(settings.state)
    key = load_or_create_key(path)
    # Counters and labels lie beside the approvals, so that a reservation and a claim are one transaction.
    database = Database(path, (*MIGRATIONS, FACTS))
    database.open()
    people = {name: frozenset(person.roles) for name, person in settings.people.items()}
    service = ApprovalService(database, key, people, clock or _utc_now)
    for request in service.sweep():
        _log.warning(
            "approval %s (`%s`) was interrupted while it ran and is now `unknown`: it is not repeated; find out whether it took effect",
            request.id,
            request.capability,
        )
    return service


def redecider(settings: Settings) -> Redecide | None:
    """Decides a call that an approver edited, by the configured policy and the facts stored with the question; None without a policy.

    Raises:
        ConfigError: The policy cannot be loaded.
    """
    engine = configured_engine(settings, load_configured_policy(settings))
    return None if engine is None else redecide_with(engine, _utc_now)


def _open_facts(
    settings: Settings, policy: LoadedPolicy | None, approvals: ApprovalService, clock: Callable[[], datetime], later: Later
) -> MemoryFacts | SqlFacts:
    try:
        return open_facts(settings, policy, clock, later.add, approvals.database)
    except BaseException:
        approvals.close()
        approvals.database.close()
        raise


def _guard(
    settings: Settings, live: LiveEngine, policy: LoadedPolicy | None, approvals: ApprovalService, facts: MemoryFacts | SqlFacts
) -> Guard:
    decisions = DecisionLog(approvals.database, approvals.audit)
    # A policy that is reloaded may ask where values were seen, also those of before.
    watches = policy is not None and policy.engine.watches_values
    witness = LiveWitness(facts, policy) if settings.policy_reload else facts if watches else None
    return Guard(live, facts, approvals, decisions, witness)


def _reloader(
    settings: Settings, active: Active, guard: Guard, live: LiveEngine, policy: LoadedPolicy | None, watched: Watched
) -> Reloader:
    def load() -> Loaded:
        changed = load_configured_policy(settings)
        engine = configured_engine(settings, changed)
        if engine is None:
            raise RuntimeStateError("the settings name no policy any more")
        if guard.witness is None and changed is not None and changed.engine.watches_values:
            raise ConfigError.of(
                "S001",
                "the changed policy asks for the `origin` of values, which this runtime has not noted so far; "
                "set `policy_reload: true`, or start it anew with this policy",
                "policy",
            )
        if not guard.facts.blocking and settings.facts == "auto" and facts_kind(settings, changed) != "memory":
            _log.warning("the changed policy asks people, and facts stay in memory until the next start: set `facts: sqlite`")
        if isinstance(guard.witness, LiveWitness):
            guard.witness.follow(changed)
        return changed, engine

    return Reloader(settings.name, live, policy, load, watched, partial(tell_reload, active, guard))


def roles_of(settings: Settings) -> frozenset[str] | None:
    """Roles that people have; None when the settings name nobody."""
    return frozenset(role for person in settings.people.values() for role in person.roles) if settings.people else None


def _usage_of(response: object) -> UsageRecord | None:
    try:
        record = response if isinstance(response, UsageRecord) else extract(response)
    except Exception:  # noqa: BLE001  # an object that fails while it is looked at has no usage to read
        return None
    return None if record is None else price(record)


def _sums_within(parent: Sums) -> Sums:
    return Totals(parent if isinstance(parent, Totals) else None)


def _handles(capabilities: Mapping[str, object]) -> dict[str, CapabilityHandle]:
    return {
        name: value if isinstance(value, CapabilityHandle) else CapabilityHandle(type(value).__name__, name, value)
        for name, value in capabilities.items()
    }


def _utc_now() -> datetime:
    return datetime.now(UTC)
