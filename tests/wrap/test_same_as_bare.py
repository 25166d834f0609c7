"""Small programs, undecorated and decorated: both observe the same, and the spans are those that are named."""

from __future__ import annotations

import asyncio
import contextlib
import decimal
import doctest
import gc
import pydoc
import sys
import threading
import typing
import unittest
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import anyio
import pytest

import otel_runtime as rt

Decorate = Callable[[Any], Any]


class Thing:
    """Something that can be held."""


def history(error: BaseException | None) -> list[str]:
    """An exception and what it came from, by type."""
    return [] if error is None else [type(error).__name__, *history(error.__cause__ or error.__context__)]


def raised_by(call: Callable[[], object]) -> list[str]:
    """The history of what the call raises."""
    try:
        call()
    except BaseException as error:  # noqa: BLE001  # whatever comes is compared
        return history(error)
    return []


def hooks_of_classes(decorate: Decorate) -> object:
    seen: list[object] = []

    class Base:
        @decorate
        def __init_subclass__(cls, **options: object) -> None:
            seen.append((cls.__name__, options))

        @decorate
        def __class_getitem__(cls, key: object) -> object:
            return cls.__name__, key

    class Below(Base, tag=3):
        pass

    return seen, Below[int]  # type: ignore[misc]  # as above


def private_names(decorate: Decorate) -> object:
    class Own:
        @decorate
        def __hidden(self, value: int) -> int:
            return value

        def shown(self) -> int:
            return typing.cast("int", self.__hidden(4))

    return Own().shown(), Own._Own__hidden.__qualname__.rpartition(".")[2]  # type: ignore[attr-defined]  # as Python names it


def documentation(decorate: Decorate) -> object:
    def add(left: int, right: int = 1) -> int:
        """Add.

        >>> 1 + 1
        2
        """
        return left + right

    made = decorate(add)
    tests = doctest.DocTestFinder(exclude_empty=True).find(made, "add", module=sys.modules[__name__], globs={})
    return [(test.name, len(test.examples)) for test in tests], pydoc.plain(pydoc.render_doc(made))


def called_while_handling(decorate: Decorate) -> object:
    @decorate
    def handled() -> object:
        return sys.exc_info()[0]

    @decorate
    def again() -> None:
        raise  # noqa: PLE0704  # what the caller handles

    @decorate
    def fails() -> None:
        raise ValueError

    @decorate
    async def fails_later() -> None:
        await asyncio.sleep(0)
        raise ValueError

    @decorate
    def stream() -> Iterator[object]:
        yield sys.exc_info()[0]
        raise ValueError

    try:
        raise KeyError  # noqa: TRY301  # handled where it is raised, as in the programs this stands for
    except KeyError:
        items = stream()
        return (
            handled(),
            raised_by(again),
            raised_by(fails),
            raised_by(lambda: asyncio.run(fails_later())),
            next(items),
            raised_by(items.__next__),
        )


def let_go_of(decorate: Decorate) -> object:
    @decorate
    def takes(thing: object) -> None: ...

    @decorate
    def gives() -> object:
        return Thing()

    @decorate
    def fails(thing: object) -> None:
        raise ValueError

    @decorate
    def stream(thing: object) -> Iterator[int]:
        yield 1

    def kept(use: Callable[[Thing], object]) -> bool:
        thing = Thing()
        alive = weakref.ref(thing)
        with contextlib.suppress(ValueError):
            use(thing)
        del thing
        return alive() is not None

    gc.disable()
    try:
        return kept(takes), kept(fails), kept(lambda thing: list(stream(thing))), weakref.ref(gives())() is None
    finally:
        gc.enable()


def from_another_thread(decorate: Decorate) -> object:
    @decorate
    async def work() -> int:
        return 5

    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        return asyncio.run_coroutine_threadsafe(work(), loop).result()
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def context_of_decimals(decorate: Decorate) -> object:
    @decorate
    def thirds() -> Iterator[decimal.Decimal]:
        with decimal.localcontext() as context:
            context.prec = 3
            yield decimal.Decimal(1) / 3

    return list(thirds()), decimal.getcontext().prec


def left_by_aclosing(decorate: Decorate) -> object:
    done: list[str] = []

    @decorate
    async def stream() -> AsyncIterator[int]:
        try:
            yield 1
            yield 2
        finally:
            await asyncio.sleep(0)
            done.append("closed")

    async def read() -> list[str]:
        async with contextlib.aclosing(stream()) as items:
            async for _ in items:
                break
        return done

    return asyncio.run(read())


def cancelled_across_a_yield(decorate: Decorate) -> object:
    @decorate
    async def stream() -> AsyncIterator[object]:
        with anyio.CancelScope() as scope:
            yield 1
            scope.cancel()
            await anyio.sleep(10)
        yield scope.cancelled_caught

    async def read() -> list[object]:
        return [item async for item in stream()]

    return asyncio.run(read())


def groups_taken_apart(decorate: Decorate) -> object:
    seen: list[object] = []

    @decorate
    def fails() -> None:
        raise ExceptionGroup("two", [ValueError("a"), ExceptionGroup("inner", [KeyError("b")])])

    try:
        fails()
    except* KeyError as group:
        seen.append(repr(group))
    except* ValueError as group:
        seen.append(repr(group))
    return seen


def cases_of_unittest(decorate: Decorate) -> object:
    class Case(unittest.IsolatedAsyncioTestCase):
        @decorate
        async def test_it(self) -> None:
            await asyncio.sleep(0)

    result = unittest.TestResult()
    unittest.defaultTestLoader.loadTestsFromTestCase(Case).run(result)
    return result.testsRun, result.errors, result.failures


# With what each decorated call comes to: nothing, an early close, or an error.
PROGRAMS: tuple[tuple[Callable[[Decorate], object], list[str]], ...] = (
    (hooks_of_classes, ["", ""]),
    (private_names, [""]),
    (documentation, []),
    (called_while_handling, ["", "KeyError", "ValueError", "ValueError", "ValueError"]),
    (let_go_of, ["", "ValueError", "", ""]),
    (from_another_thread, [""]),
    (context_of_decimals, [""]),
    (left_by_aclosing, ["closed"]),
    (cancelled_across_a_yield, [""]),
    (groups_taken_apart, ["ExceptionGroup"]),
    (cases_of_unittest, [""]),
)


@pytest.mark.parametrize("kind", ["tool", "agent", "model", "workflow"])
@pytest.mark.parametrize(("program", "came_to"), PROGRAMS, ids=lambda given: getattr(given, "__name__", ""))
def test_the_same(make_world: Any, program: Callable[[Decorate], object], came_to: list[str], kind: str) -> None:
    """What a program observes does not depend on the decorator, and each of its calls has left its span."""
    world = make_world(policy=None, capture="SPAN_AND_EVENT")
    bare = program(lambda fn: fn)
    assert [] == world.spans()
    assert bare == program(getattr(rt, kind))
    ends = [span.attributes or {} for span in world.spans()]
    assert came_to == [end.get("error.type") or end.get("otel_runtime.outcome") or "" for end in ends]
