"""Span, session and runtime reach the threads that work is handed to."""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from opentelemetry import trace

import otel_runtime as rt
from otel_runtime.wrap.scope import current_scope
from otel_runtime.wrap.threads import install_thread_propagation, propagate, uninstall_thread_propagation

Tree = dict[str, Any]
TWO: Tree = {"execute_tool inside": {}, "execute_tool inside #2": {}}


@rt.tool
def inside(n: int) -> tuple[int, str | None, str]:
    """Say where it runs."""
    return n, current_scope().session, threading.current_thread().name


@rt.tool
async def inside_slowly(n: int) -> str | None:
    """Say where it runs."""
    await asyncio.sleep(0)
    return current_scope().session


class TestPropagate:
    """One function, carried by hand."""

    def test_into_an_executor(self, traced: Any) -> None:
        """Several threads at once run under the span and session of the place that handed them over."""

        @rt.agent(session="who")
        def spread(who: str) -> list[Any]:
            with ThreadPoolExecutor(2) as pool:
                return [found[:2] for found in pool.map(propagate(inside), range(2))]

        assert spread("s1") == [(0, "s1"), (1, "s1")]
        assert traced.tree() == {"invoke_agent spread": TWO}

    def test_into_a_thread_and_back(self, traced: Any) -> None:
        """The thread's own surroundings are as before when the function has returned."""
        after: list[object] = []

        def work(carried: Callable[[], object]) -> None:
            carried()
            after.append((current_scope().session, trace.get_current_span().get_span_context().is_valid))

        with rt.session("s1"), rt.agent("x"):
            carried: Callable[[], object] = propagate(functools.partial(inside, 1))
            thread = threading.Thread(target=work, args=[carried])
            thread.start()
            thread.join()
        assert (after, traced.tree()) == ([(None, False)], {"invoke_agent x": {"execute_tool inside": {}}})

    def test_coroutine_functions(self, traced: Any) -> None:
        """A coroutine function runs elsewhere, say on another thread's event loop, as if it were called here."""
        with rt.session("s1"), rt.agent("x"):
            carried = propagate(inside_slowly)
            with ThreadPoolExecutor(1) as pool:
                assert pool.submit(lambda: asyncio.run(carried(1))).result() == "s1"
        assert traced.tree() == {"invoke_agent x": {"execute_tool inside_slowly": {}}}

    def test_the_guard_comes_along(self, make_world: Any) -> None:
        """A runtime named by the context decides in the thread, too."""
        make_world()
        with ThreadPoolExecutor(1) as pool, pytest.raises(rt.PolicyDenied):
            pool.submit(propagate(lambda: inside(1))).result()

    def test_generators_are_refused(self) -> None:
        """Their code runs elsewhere than where they are called."""

        def items() -> Iterator[int]:
            yield 1

        with pytest.raises(TypeError, match="`items` is a generator"):
            propagate(items)

    def test_it_keeps_its_names(self) -> None:
        """Name, signature and result are the function's own."""
        assert (propagate(inside).__name__, propagate(lambda a: a + 1)(1)) == ("inside", 2)


@pytest.fixture
def installed() -> Iterator[None]:
    """The patch, taken back afterwards."""
    install_thread_propagation()
    yield
    uninstall_thread_propagation()


@pytest.mark.usefixtures("installed")
class TestInstalled:
    """Every executor and thread."""

    def test_executors_and_threads(self, traced: Any) -> None:
        """Nothing in the program says so, and yet the spans are right."""

        class Worker(threading.Thread):
            def run(self) -> None:
                inside(1)

        with rt.agent("x"):
            with ThreadPoolExecutor(1) as pool:
                assert pool.submit(inside, n=0).result()[0] == 0
            worker = Worker()
            worker.start()
            worker.join()
        assert traced.tree() == {"invoke_agent x": TWO}
        assert "run" not in worker.__dict__

    def test_a_worker_does_not_keep_what_it_was_started_under(self, traced: Any) -> None:
        """A thread of a pool serves whoever hands it work, each under its own span."""
        with ThreadPoolExecutor(1) as pool:
            with rt.agent("first"):
                pool.submit(inside, 1).result()
            pool.submit(inside, 2).result()
            with rt.agent("second"):
                pool.submit(inside, 3).result()
        child: Tree = {"execute_tool inside": {}}
        assert traced.tree() == {"invoke_agent first": child, "execute_tool inside": {}, "invoke_agent second": child}

    def test_service_threads_stay_out(self) -> None:
        """A thread of OpenTelemetry's, which exports for everybody, does not live under the span that was current when it started."""
        found: list[str | None] = []

        def work() -> None:
            found.append(current_scope().session)

        def export() -> None:
            found.append(current_scope().session)

        export.__module__ = "opentelemetry.sdk.trace.export"
        with rt.session("s1"):
            for target in (work, export):
                thread = threading.Thread(target=target)
                thread.start()
                thread.join()
        assert found == ["s1", None]

    def test_a_thread_starts_once(self) -> None:
        """Python's own error is kept."""
        thread = threading.Thread(target=lambda: None)
        thread.start()
        with pytest.raises(RuntimeError, match="threads can only be started once"):
            thread.start()
        thread.join()


class TestUninstalled:
    """Off by default, and off again."""

    def test_nothing_remains(self) -> None:
        """The classes are as they were; doing either twice does nothing more."""
        before = ThreadPoolExecutor.submit, threading.Thread.start
        install_thread_propagation()
        install_thread_propagation()
        assert ThreadPoolExecutor.submit is not before[0]
        uninstall_thread_propagation()
        uninstall_thread_propagation()
        assert (ThreadPoolExecutor.submit, threading.Thread.start) == before

    def test_a_patch_on_top_stays(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Somebody else's patch above ours is left alone, and ours below it does nothing."""
        install_thread_propagation()
        ours, submit = threading.Thread.start, ThreadPoolExecutor.submit

        def theirs(self: threading.Thread) -> None:
            ours(self)

        def their_submit(self: Any, fn: Any) -> Any:
            return submit(self, fn)

        monkeypatch.setattr(threading.Thread, "start", theirs)
        monkeypatch.setattr(ThreadPoolExecutor, "submit", their_submit)
        uninstall_thread_propagation()
        found: list[str | None] = []
        with rt.session("s1"), ThreadPoolExecutor(1) as pool:
            thread = threading.Thread(target=lambda: found.append(current_scope().session))
            thread.start()
            thread.join()
            pool.submit(lambda: found.append(current_scope().session)).result()
        current: list[Any] = [threading.Thread.start, ThreadPoolExecutor.submit, found]
        assert current == [theirs, their_submit, [None, None]]
        monkeypatch.undo()
        ThreadPoolExecutor.submit = submit.__wrapped__  # type: ignore[method-assign, attr-defined]  # as below
        threading.Thread.start = ours.__wrapped__  # type: ignore[method-assign, attr-defined]  # what pytest put back is ours
