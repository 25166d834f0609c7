"""Exceptions of every kind, and arguments that nobody should touch."""

from __future__ import annotations

import asyncio
import random
from typing import Any

from benchmarks.peer_checks import Tools, check, listening


def _ending(t: Tools, error: BaseException) -> object:
    def f() -> None:
        raise error

    caught: list[bool] = []
    try:
        t.wrap(f)()
    except BaseException as found:  # noqa: BLE001  # every kind
        caught.append(found is error)
    return caught, error.__cause__, error.__context__


@check("an exception is the same object, with one record of it", "error")
def _(t: Tools) -> object:
    return _ending(t, ValueError("x"))


@check("StopIteration leaves a function unchanged", "error")
def _(t: Tools) -> object:
    return _ending(t, StopIteration(5))


@check("KeyboardInterrupt ends the span", "error")
def _(t: Tools) -> object:
    return _ending(t, KeyboardInterrupt())


@check("cancellation of a coroutine ends the span, not as an error", "ok")
def _(t: Tools) -> object:
    @t.wrap
    async def f() -> None:
        await asyncio.sleep(30)

    async def program() -> object:
        task = asyncio.ensure_future(f())
        await asyncio.sleep(0.02)
        task.cancel("why")
        return [found.args for found in await asyncio.gather(task, return_exceptions=True)]

    return asyncio.run(program())


@check("a wrong call gives Python's own words and an error span", "error")
def _(t: Tools) -> object:
    def f(a: int) -> None: ...

    try:
        t.wrap(f)()
    except TypeError as error:
        return str(error)
    return "no error"


class Mute(Exception):
    """Cannot be shown."""

    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__


@check("an exception that cannot be shown", "error")
def _(t: Tools) -> object:
    return _ending(t, Mute())


class Broken:
    """Everything that may be asked of it raises."""

    def _no(self, *_: object) -> Any:
        raise RuntimeError("touched")

    __repr__ = __str__ = __len__ = __iter__ = __bool__ = __eq__ = __hash__ = __getattr__ = _no


def _passed(t: Tools, value: Any) -> bool:
    given: list[Any] = []

    def take(value: Any) -> None:
        given.append(value)

    with listening() as said:
        t.wrap(take)(value)
    return given[0] is value and not said


@check("an argument whose every method raises", "ok")
def _(t: Tools) -> object:
    return _passed(t, Broken())


@check("a list that holds itself, and one ten thousand levels deep", "ok", "ok")
def _(t: Tools) -> object:
    cycle: list[Any] = []
    cycle.append(cycle)
    deep: list[Any] = []
    for _ in range(10_000):
        deep = [deep]
    return _passed(t, cycle), _passed(t, deep)


@check("a lone surrogate and an integer of ten thousand digits", "ok", "ok")
def _(t: Tools) -> object:
    return _passed(t, "a\ud800"), _passed(t, 10**10_000)


@check("an iterator as an argument is not read", "ok")
def _(t: Tools) -> object:
    source = iter([1, 2, 3])
    t.wrap(lambda _values: None)(source)
    return list(source)


@check("random.seed() repeats no trace, and no number is drawn from it", "ok", "ok", distinct=True)
def _(t: Tools) -> object:
    drawn = []
    for _ in range(2):
        random.seed(7)
        t.wrap(lambda: None)()
        drawn.append(random.random())  # noqa: S311  # no secret
    return drawn
