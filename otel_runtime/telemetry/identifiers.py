"""Trace and span ids that do not depend on the application's `random.seed()`."""

from __future__ import annotations

import os
import random
import weakref

from opentelemetry.sdk.trace import Tracer as SdkTracer
from opentelemetry.sdk.trace.id_generator import IdGenerator, RandomIdGenerator
from opentelemetry.trace import Tracer

__all__ = ["OwnIds", "with_own_ids"]


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


def with_own_ids(tracer: Tracer) -> Tracer:
    """The tracer, off the generator that the application shares: it would repeat ids after a `random.seed()`, and every span would draw a
    number that the application's own sequence then lacks. A generator of the application's making stays.

    Args:
        tracer: The one that this package alone uses.
    """
    if isinstance(tracer, SdkTracer) and type(tracer.id_generator) is RandomIdGenerator:
        tracer.id_generator = OwnIds()
    return tracer
