"""Running sums of usage: for a model call's agent, that agent's ancestors, and the whole run."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping
from decimal import Decimal

from otel_runtime.values.usage import TokenUsage, UsageRecord

__all__ = ["Totals"]

_REMEMBERED = 4096
_PARTS = ("input_tokens", "output_tokens", "total_tokens", "cache_read", "cache_write", "reasoning")


class Totals:
    """Sums that also flow into their ancestors; safe from several threads and from a finaliser.

    Args:
        parent: Sums of the agent around this one; None at the outermost.
    """

    __slots__ = ("_cost", "_lock", "_messages", "_parent", "_sums")

    def __init__(self, parent: Totals | None = None) -> None:
        self._parent = parent
        # Re-entrant, because a stream's clean-up may run in the garbage collector while this thread holds the lock.
        self._lock = threading.RLock()
        self._sums: dict[str, int] = {}
        self._cost: dict[str, Decimal] = {}
        self._messages: OrderedDict[str, None] = OrderedDict()

    def add(self, record: UsageRecord) -> bool:
        """Add one usage here and to every ancestor.

        Returns:
            False when its message was counted before, here; an ancestor that counted it through another child skips it too.
        """
        fresh = self._add(record)
        if self._parent is not None:
            self._parent.add(record)
        return fresh

    @property
    def tokens(self) -> TokenUsage:
        """Token sums; None where no record said anything."""
        with self._lock:
            sums = self._sums.get
            return TokenUsage(
                sums("input_tokens"),
                sums("output_tokens"),
                sums("total_tokens"),
                sums("cache_read"),
                sums("cache_write"),
                sums("reasoning"),
            )

    @property
    def cost(self) -> Mapping[str, Decimal]:
        """Money by ISO 4217 code."""
        with self._lock:
            return dict(self._cost)

    def _add(self, record: UsageRecord) -> bool:
        with self._lock:
            if not self._first(record.run.message):
                return False
            for part in _PARTS:
                value = getattr(record.usage, part)
                if value is not None:
                    self._sums[part] = self._sums.get(part, 0) + value
            if record.cost is not None:
                self._cost[record.cost.currency] = self._cost.get(record.cost.currency, Decimal(0)) + record.cost.amount
            return True

    def _first(self, message: str | None) -> bool:
        if message is None:
            return True
        if message in self._messages:
            return False
        self._messages[message] = None
        if len(self._messages) > _REMEMBERED:
            self._messages.popitem(last=False)
        return True
