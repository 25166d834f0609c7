"""What runs in the garbage collector while an operation on a context variable is under way."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from typing import Any

import pytest

import otel_runtime as rt

VARIABLE: ContextVar[object] = ContextVar("test_collecting")


@rt.tool
def stream() -> Iterator[int]:
    """A stream that is dropped half read."""
    yield 1
    yield 2


@rt.tool
def clean_up() -> None:
    """Called by a finaliser."""


class Handle:
    """Something that cleans up when it is collected."""

    def __del__(self) -> None:
        clean_up()


def dropped_stream() -> object:
    """A stream, half read."""
    half_read = stream()
    next(half_read)
    return half_read


def drop_in_cycles(garbage: Callable[[], object]) -> None:
    """Leave some for the collector to find."""
    for _ in range(3):
        cycle = [garbage()]
        cycle.append(cycle)


@contextmanager
def collecting_after(allocations: int) -> Iterator[None]:
    """The garbage is collected in the block, when so many more objects were allocated."""
    before = gc.get_threshold()
    gc.set_threshold(gc.get_count()[0] + allocations)
    gc.enable()
    try:
        yield
    finally:
        gc.disable()
        gc.set_threshold(*before)


class TestCollectionsInsideOfContextVariables:
    """A collection that starts inside of `set` or `reset` leaves the context as it was."""

    # Half a dozen objects are made by the longest of these operations.
    @pytest.mark.parametrize("allocations", range(8))
    @pytest.mark.parametrize("garbage", [dropped_stream, Handle])
    @pytest.mark.usefixtures("traced")
    def test_the_context_survives(self, garbage: Callable[[], object], allocations: int) -> None:
        """A context holds what was set and not what was reset, whenever a stream is collected or a finaliser calls a tool."""

        def run() -> list[tuple[int, int, bool, object]]:
            seen = []

            def look() -> None:
                context = copy_context()
                seen.append((len(context), sum(1 for _ in context), VARIABLE in context, VARIABLE.get(None)))

            drop_in_cycles(garbage)
            with collecting_after(allocations):
                token = VARIABLE.set("value")
            look()
            drop_in_cycles(garbage)
            VARIABLE.get()
            with collecting_after(allocations):
                VARIABLE.reset(token)
            look()
            return seen

        was_enabled = gc.isenabled()
        gc.collect()
        gc.disable()
        context = copy_context()
        held = len(context)
        try:
            assert context.run(run) == [(held + 1, held + 1, True, "value"), (held, held, False, None)]
        finally:
            if was_enabled:
                gc.enable()


class TestCollectionsAfterShutdown:
    """A stream may outlive its runtime."""

    @pytest.mark.parametrize("used", [False, True])
    def test_nothing_is_started_for_it(self, traced: Any, *, used: bool) -> None:
        """A stream that is dropped after `shutdown` starts no thread, whether the runtime ever needed one or not."""
        if used:
            stream_that_ends = dropped_stream()
            del stream_that_ends
        half_read = dropped_stream()
        traced.runtime.shutdown()
        del half_read
        gc.collect()
        ending = [thread for thread in threading.enumerate() if thread.name.endswith("-later")]
        for thread in ending:
            thread.join(60)
        assert not [thread for thread in ending if thread.is_alive()]
