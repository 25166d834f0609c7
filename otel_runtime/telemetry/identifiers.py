"""Trace and span ids that do not depend on the application's `random.seed()`."""

from __future__ import annotations

import os
import random
import weakref

from opentelemetry.sdk.trace.id_generator import IdGenerator

__all__ = ["OwnIds"]


class OwnIds(IdGenerator):
    """Ids from a generator of our own, seeded by the system and again in every forked child."""

    def __init__(self) -> None:
        # Not for secrets; the module's shared generator is the one an application seeds to make its tests repeatable.
        self._random = random.Random(os.urandom(32))  # noqa: S311
        reference = weakref.WeakMethod(self._reseed)
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=lambda: (method := reference()) is not None and method())

    def generate_span_id(self) -> int:
        """64 random bits, never zero."""
        return self._random.getrandbits(64) or self.generate_span_id()

    def generate_trace_id(self) -> int:
        """128 random bits, never zero."""
        return self._random.getrandbits(128) or self.generate_trace_id()

    def is_trace_id_random(self) -> bool:
        """True: samplers may rely on it."""
        return True

    def _reseed(self) -> None:
        self._random.seed(os.urandom(32))
