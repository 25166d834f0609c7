"""Foreign event streams into hooks and spans."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterable, Iterable

from otel_runtime.errors import RuntimeStateError
from otel_runtime.sources.protocol import Source
from otel_runtime.sources.registry import source as source_named
from otel_runtime.values.host import HostContext
from otel_runtime.values.trace import TraceEvent
from otel_runtime.wrap.active import Active, current_active

__all__ = ["aingest", "aingest_into", "ingest", "ingest_into"]

_log = logging.getLogger("otel_runtime.sources")


def ingest(events: Iterable[object], *, source: str) -> int:
    """Turn a foreign stream of events into spans of the runtime in force.

    Args:
        events: Raw events, in order.
        source: `vitehub`, `a3s` or `dreadnode`.

    Returns:
        How many events were read.

    Raises:
        ConfigError: The source is unknown.
        RuntimeStateError: No runtime is configured.
    """
    return ingest_into(_active(), events, source)


async def aingest(events: AsyncIterable[object], *, source: str) -> int:
    """`ingest` for asynchronous streams.

    Raises:
        ConfigError: The source is unknown.
        RuntimeStateError: No runtime is configured.
    """
    return await aingest_into(_active(), events, source)


def ingest_into(active: Active, events: Iterable[object], source: str) -> int:
    """`ingest` for one runtime's parts."""
    translator = source_named(source)
    count = 0
    for raw in events:
        _observe(active, translator.translate(raw))
        count += 1
    _say_what_was_malformed(translator)
    return count


async def aingest_into(active: Active, events: AsyncIterable[object], source: str) -> int:
    """`aingest` for one runtime's parts."""
    translator = source_named(source)
    count = 0
    async for raw in events:
        _observe(active, translator.translate(raw))
        count += 1
    _say_what_was_malformed(translator)
    return count


def _say_what_was_malformed(translator: Source) -> None:
    if translator.malformed:
        reasons = ", ".join(f"{reason}: {count}" for reason, count in sorted(translator.malformed.items()))
        _log.warning("events of `%s` that could not be read: %s", translator.name, reasons)


def _observe(active: Active, events: Iterable[TraceEvent]) -> None:
    for event in events:
        if active.hooks.wants("trace"):
            active.hooks.trace(event, HostContext(runtime=active.name, wait_until=active.wait_until, trace=event.trace))
        active.tracing.observe(event)


def _active() -> Active:
    active = current_active()
    if not isinstance(active, Active):
        raise RuntimeStateError("no runtime is configured to take events; call `otel_runtime.configure()` at start")
    return active
