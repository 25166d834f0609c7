"""Lifecycle hooks: ordered, isolated, counted."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from otel_runtime.hooks.background import Background
from otel_runtime.hooks.lifecycle import Hooks, Observers
from otel_runtime.values.host import HostContext

CONTEXT = HostContext(runtime="test")


@pytest.fixture
def background() -> Iterator[Background]:
    """A loop for asynchronous observers."""
    made = Background("test")
    yield made
    made.stop()


@pytest.fixture
def own() -> Observers:
    """Observers of one runtime."""
    return Observers()


@pytest.fixture
def hooks(own: Observers, background: Background) -> Hooks:
    """Hooks without observers."""
    return Hooks(Observers(), own, background)


class TestObservers:
    """Who is called, and when."""

    def test_are_called_in_order(self, hooks: Hooks, own: Observers) -> None:
        """Observers see an event in the order of their registration."""
        seen: list[str] = []
        own.add("request", lambda ctx: seen.append("first"))
        own.add("request", lambda ctx: seen.append("second"))
        hooks.request(CONTEXT)
        assert seen == ["first", "second"]

    def test_a_failing_one_is_isolated_and_counted(self, hooks: Hooks, own: Observers, caplog: pytest.LogCaptureFixture) -> None:
        """The next observer still runs; the failure is logged once and counted each time."""
        seen: list[HostContext] = []

        def fail(ctx: HostContext) -> None:
            raise ValueError("observer")

        own.add("finish", fail)
        own.add("finish", seen.append)
        with caplog.at_level(logging.WARNING, "otel_runtime.hooks"):
            hooks.finish(CONTEXT)
            hooks.finish(CONTEXT)
        assert (len(seen), hooks.errors["finish"], len(caplog.records)) == (2, 2, 1)

    def test_asynchronous_ones_run_before_a_flush_returns(self, hooks: Hooks, own: Observers, background: Background) -> None:
        """A coroutine of an observer is finished by the flush, also where no loop runs."""
        seen: list[str] = []

        async def observe(ctx: HostContext) -> None:
            seen.append(ctx.runtime)

        own.add("request", observe)
        hooks.request(CONTEXT)
        assert background.flush(60) is True
        assert seen == ["test"]

    def test_a_failing_asynchronous_one_is_counted(self, hooks: Hooks, own: Observers, background: Background) -> None:
        """A coroutine that raises hurts nobody, not even the flush."""

        async def observe(ctx: HostContext) -> None:
            raise ValueError("observer")

        own.add("request", observe)
        hooks.request(CONTEXT)
        background.flush(60)
        assert hooks.errors["request"] == 1

    def test_an_unknown_hook_is_refused(self, own: Observers) -> None:
        """A misspelt hook would never be called."""
        with pytest.raises(ValueError, match="unknown hook `finnish`"):
            own.add("finnish", print)

    def test_nobody_listens(self, hooks: Hooks, own: Observers) -> None:
        """The caller can tell whether building an event is worth it."""
        assert hooks.wants("trace") is False
        own.add("trace", print)
        assert hooks.wants("trace") is True
