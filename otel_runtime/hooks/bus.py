"""The event bus: publish and subscribe by kind, in the shape of the Dreadnode runtime page.

Handlers run in the order of registration where the event is published; a failing one is isolated and counted. Asynchronous handlers
are handed to `Background`. The last events are kept for replay.
"""

from __future__ import annotations

import inspect
import itertools
import logging
import threading
import uuid
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from otel_runtime.hooks.kinds import check_custom_kind
from otel_runtime.values.trace import EventEnvelope

if TYPE_CHECKING:
    from otel_runtime.hooks.background import Background

__all__ = ["EventBus", "Handler", "Subscriptions"]

Handler = Callable[[EventEnvelope], object]
_log = logging.getLogger("otel_runtime.hooks")
_TERMINAL = frozenset({"turn.completed", "turn.failed", "turn.cancelled"})


class Subscriptions:
    """Handlers by kind pattern: an exact kind, `prefix.*`, or `*`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._all: tuple[tuple[str, Handler], ...] = ()

    def add(self, pattern: str, handler: Handler) -> None:
        """Register a handler.

        Raises:
            ValueError: The pattern is empty or has a `*` anywhere but at its end.
            TypeError: The handler cannot be called.
        """
        if (
            not isinstance(pattern, str)
            or not pattern
            or "*" in pattern[:-1]
            or (pattern.endswith("*") and pattern != "*" and not pattern.endswith(".*"))
        ):
            raise ValueError(f"expected an event kind, `prefix.*` or `*`, got `{pattern}`")
        if not callable(handler):
            raise TypeError(f"expected a function for event kind `{pattern}`, got `{type(handler).__name__}`")
        with self._lock:
            self._all = (*self._all, (pattern, handler))

    def matching(self, kind: str) -> list[Handler]:
        """Handlers of a kind, in the order of registration."""
        return [handler for pattern, handler in self._all if _fits(pattern, kind)]


class EventBus:
    """The bus of one runtime.

    Args:
        everywhere: Subscriptions made with `rt.on_event`.
        own: Subscriptions of this runtime.
        background: Where coroutines of asynchronous handlers go.
        keep: Number of past events kept for replay.
    """

    def __init__(self, everywhere: Subscriptions, own: Subscriptions, background: Background, keep: int = 1_024) -> None:
        self._everywhere = everywhere
        self._own = own
        self._background = background
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self._past: deque[EventEnvelope] = deque(maxlen=keep)
        self.errors: Counter[str] = Counter()

    def publish(self, kind: str, payload: Mapping[str, object] | None = None, *, session_id: str | None = None) -> EventEnvelope:
        """Publish an event of the application's own.

        Args:
            kind: Dotted kind outside the reserved namespaces.
            payload: Plain data.
            session_id: The session it belongs to; None for the runtime as a whole.

        Raises:
            ReservedKind: The kind belongs to the runtime.
            ValueError: The kind is malformed.
        """
        check_custom_kind(kind)
        return self.emit(kind, payload, session_id=session_id)

    def emit(
        self, kind: str, payload: Mapping[str, object] | None = None, *, session_id: str | None = None, turn_id: str | None = None
    ) -> EventEnvelope:
        """Publish an event of the runtime itself; reserved kinds are allowed."""
        with self._lock:
            envelope = EventEnvelope(
                kind=kind,
                payload=dict(payload or {}),
                event_id=uuid.uuid4().hex,
                seq=next(self._numbers),
                timestamp=datetime.now(UTC),
                session_id=session_id,
                turn_id=turn_id,
                terminal=kind in _TERMINAL,
            )
            self._past.append(envelope)
        self._deliver(envelope)
        return envelope

    def replay(self, handler: Handler, *, after_seq: int = 0, kind: str = "*") -> int:
        """Hand past events to a handler again, marked as replay.

        Args:
            handler: Takes each envelope; its failures are raised here, because the caller asked.
            after_seq: Only events with a higher number.
            kind: Kind, `prefix.*` or `*`.

        Returns:
            How many were handed over; events older than the buffer are gone.
        """
        with self._lock:
            past = [item for item in self._past if item.seq > after_seq and _fits(kind, item.kind)]
        for item in past:
            handler(replace(item, replay=True))
        return len(past)

    def _deliver(self, envelope: EventEnvelope) -> None:
        for handler in (*self._everywhere.matching(envelope.kind), *self._own.matching(envelope.kind)):
            try:
                result = handler(envelope)
                if inspect.isawaitable(result):
                    self._background.add(self._guarded(envelope.kind, result))
            except Exception as error:  # noqa: BLE001  # a handler may raise anything; the publisher must not notice
                self._count(envelope.kind, error)

    async def _guarded(self, kind: str, result: Awaitable[object]) -> None:
        try:
            await result
        except Exception as error:  # noqa: BLE001  # as above
            self._count(kind, error)

    def _count(self, kind: str, error: Exception) -> None:
        self.errors[kind] += 1
        if self.errors[kind] == 1:
            _log.warning("a handler of event kind `%s` failed; later failures are only counted", kind, exc_info=error)


def _fits(pattern: str, kind: str) -> bool:
    return pattern in ("*", kind) or (pattern.endswith(".*") and kind.startswith(pattern[:-1]))
