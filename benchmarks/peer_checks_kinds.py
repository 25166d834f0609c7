"""Every kind of callable, and what still runs when it has returned."""

from __future__ import annotations

import asyncio
import copy
import functools
import inspect
import pickle
from collections.abc import AsyncIterator, Iterator
from typing import Any

from benchmarks.peer_checks import Tools, check, collect, named


def module_function(a: int) -> int:
    """Found by pickle under this name."""
    return a


@check("a function keeps values, signature, names, annotations", "ok")
def _(t: Tools) -> object:
    @t.wrap
    def f(a: int, /, b: int = 2, *rest: int, c: int = 3, **more: int) -> object:
        """Say."""
        return a, b, rest, c, more

    return f(1, 5, 6, c=7, d=8), named(f), inspect.isfunction(f)


@check("a coroutine function stays one", "ok")
def _(t: Tools) -> object:
    @t.wrap
    async def f(a: int) -> int:
        await asyncio.sleep(0)
        return a

    return asyncio.run(f(1)), inspect.iscoroutinefunction(f), named(f)


@check("a generator function stays one", "ok")
def _(t: Tools) -> object:
    @t.wrap
    def f(n: int) -> Iterator[int]:
        yield from range(n)

    return list(f(3)), inspect.isgeneratorfunction(f), named(f)


@check("an async generator function stays one", "ok")
def _(t: Tools) -> object:
    @t.wrap
    async def f(n: int) -> AsyncIterator[int]:
        for number in range(n):
            yield number

    return asyncio.run(collect(f(3))), inspect.isasyncgenfunction(f), named(f)


@check("a lambda", "ok")
def _(t: Tools) -> object:
    return t.wrap(lambda a: a + 1)(1)


class Shop:
    """Has methods of every kind."""

    stock = 3

    def m(self, item: str) -> object:
        """One of an instance."""
        return item, self.stock

    async def am(self, item: str) -> object:
        """The same, asynchronous."""
        return item, self.stock

    @classmethod
    def c(cls, item: str) -> object:
        """One of the class."""
        return item, cls.stock

    @staticmethod
    def s(item: str) -> object:
        """One of nobody."""
        return item


def shop(**attributes: Any) -> Any:
    """A new class with these attributes."""
    return type("Shop", (), {"stock": 3, **attributes})


@check("a method", "ok")
def _(t: Tools) -> object:
    made = shop(m=t.wrap(Shop.m))
    return made().m("a"), str(inspect.signature(made().m)), inspect.ismethod(made().m)


@check("an async method", "ok")
def _(t: Tools) -> object:
    made = shop(m=t.wrap(Shop.am))
    return asyncio.run(made().m("a")), inspect.iscoroutinefunction(made().m)


@check("below @classmethod", "ok")
def _(t: Tools) -> object:
    made = shop(c=classmethod(t.wrap(Shop.__dict__["c"].__func__)))
    return made.c("a"), inspect.ismethod(made.c)


@check("above @classmethod", "ok")
def _(t: Tools) -> object:
    made = shop(c=t.wrap(classmethod(Shop.__dict__["c"].__func__)))
    return made.c("a"), made().stock


@check("below @staticmethod", "ok")
def _(t: Tools) -> object:
    return shop(s=staticmethod(t.wrap(Shop.s)))().s("a")


@check("above @staticmethod", "ok")
def _(t: Tools) -> object:
    return shop(s=t.wrap(staticmethod(Shop.s)))().s("a")


@check("below @property", "ok")
def _(t: Tools) -> object:
    return shop(p=property(t.wrap(lambda self: self.stock)))().p


@check("above @property", "ok")
def _(t: Tools) -> object:
    return shop(p=t.wrap(property(lambda self: self.stock)))().p


@check("functools.partial", "ok")
def _(t: Tools) -> object:
    def f(a: int, b: int) -> object:
        return a, b

    made = t.wrap(functools.partial(f, 1))
    return made(2), str(inspect.signature(made))


@check("functools.partial of a coroutine function", "ok")
def _(t: Tools) -> object:
    async def f(a: int, b: int) -> object:
        return a, b

    made = t.wrap(functools.partial(f, 1))
    return asyncio.run(made(2)), inspect.iscoroutinefunction(made)


class Adder:
    """A callable object with state."""

    def __init__(self, by: int) -> None:
        self.by = by

    def __call__(self, a: int) -> int:
        """Add."""
        return a + self.by


class SlowAdder(Adder):
    """One whose call is asynchronous."""

    async def __call__(self, a: int) -> int:  # type: ignore[override]  # asynchronous on purpose
        """Add later."""
        await asyncio.sleep(0)
        return a + self.by


@check("an object with `__call__` stays itself", "ok")
def _(t: Tools) -> object:
    made = t.wrap(Adder(2))
    return made(1), isinstance(made, Adder), made.by


@check("an object with async `__call__`, the span as long as it runs", "ok")
def _(t: Tools) -> object:
    made = t.wrap(SlowAdder(2))

    async def program() -> object:
        waiting = made(1)
        return t.lasts(), await waiting

    return asyncio.run(program()), isinstance(made, SlowAdder), made.by


@check("a bound method", "ok")
def _(t: Tools) -> object:
    made = Shop()
    method = t.wrap(made.m)
    return method("a"), inspect.ismethod(method), str(inspect.signature(method))


@check("a builtin", "ok")
def _(t: Tools) -> object:
    return t.wrap(max)(1, 3, 2)


@check("a function under functools.lru_cache keeps its cache", "ok", "ok")
def _(t: Tools) -> object:
    made = t.wrap(functools.lru_cache(lambda a: a))
    return made(1), made(1), made.cache_info().hits


@check("a class stays a class", "ok")
def _(t: Tools) -> object:
    @t.wrap
    class Made:
        def __init__(self, a: int) -> None:
            self.a = a

    one = Made(1)
    return one.a, inspect.isclass(Made), isinstance(Made, type) and isinstance(one, Made)


@check("a subclass of a decorated class", "ok")
def _(t: Tools) -> object:
    @t.wrap
    class Base:
        def __init__(self, a: int) -> None:
            self.a = a

    class Sub(Base):
        pass

    return Sub(5).a, issubclass(Sub, Base)


@check("pickled by name", "ok")
def _(t: Tools) -> object:
    kept = module_function
    globals()["module_function"] = t.wrap(kept)
    try:
        return pickle.loads(pickle.dumps(globals()["module_function"]))(4)  # noqa: S301  # our own
    finally:
        globals()["module_function"] = kept


@check("deep copies", "ok")
def _(t: Tools) -> object:
    return copy.deepcopy(t.wrap(module_function))(4)


@check("decorated twice is one span", "ok")
def _(t: Tools) -> object:
    return t.wrap(t.wrap(lambda: 1))()
