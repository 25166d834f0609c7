"""Nothing can tell: each row is a program that runs undecorated and decorated, must observe the same, and leaves these spans.

Rows run guarded, traced only and off. A span is written as `name STATUS`, with its outcome and exception events where it has them.
"""

from __future__ import annotations

import asyncio
import builtins
import contextlib
import contextvars
import copy
import dataclasses
import functools
import gc
import inspect
import pickle
import traceback
import types
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import pytest
from opentelemetry.sdk.trace import ReadableSpan

import otel_runtime as rt

POLICY = """
version: 1
name: conformance
default: deny
rules:
  - {id: tools, tool: "*", decision: allow}
"""
Decorator = Callable[[Any], Any]
seen: contextvars.ContextVar[str] = contextvars.ContextVar("seen", default="nothing")


@dataclass(frozen=True)
class Row:
    """One promise.

    Args:
        promise: What must hold.
        program: Takes the decorator and returns what it observed.
        spans: What it leaves.
    """

    promise: str
    program: Callable[[Decorator], object]
    spans: tuple[str, ...]


ROWS: list[Row] = []


def row(promise: str, *spans: str) -> Callable[[Callable[[Decorator], object]], Callable[[Decorator], object]]:
    """Add a program to the table."""

    def add(program: Callable[[Decorator], object]) -> Callable[[Decorator], object]:
        ROWS.append(Row(promise, program, spans))
        return program

    return add


def told(span: ReadableSpan) -> str:
    """One span in words."""
    words = [span.name.removeprefix("execute_tool "), span.status.status_code.name]
    outcome = (span.attributes or {}).get("otel_runtime.outcome")
    words += [str(outcome)] if outcome is not None else []
    return " ".join([*words, *(event.name for event in span.events)])


def raised(run: Callable[[], object]) -> tuple[object, ...]:
    """What a call raised: its type, text, context, and the frames of this file."""
    try:
        run()
    except BaseException as error:  # noqa: BLE001  # every kind of ending is compared
        frames = [frame.name for frame in traceback.extract_tb(error.__traceback__) if frame.filename == __file__]
        return type(error), error.args, repr(error.__context__), repr(error.__cause__), frames
    return ("nothing",)


# --- every kind of callable -----------------------------------------------------------------------------------------------------------


@row("a function", "f UNSET")
def function(tool: Decorator) -> object:
    @tool
    def f(a: int, /, b: int = 2, *rest: int, c: int = 3, **more: int) -> object:
        """Say what it got."""
        return a, b, rest, c, more

    return f(1, 5, 6, c=7, d=8), str(inspect.signature(f)), f.__doc__, f.__name__, f.__qualname__, f.__module__, f.__annotations__


@row("a coroutine function", "f UNSET")
def coroutine_function(tool: Decorator) -> object:
    @tool
    async def f(a: int) -> int:
        await asyncio.sleep(0)
        return a

    return asyncio.run(f(1)), inspect.iscoroutinefunction(f), asyncio.iscoroutinefunction(f), str(inspect.signature(f))


@row("a generator function", "f UNSET")
def generator_function(tool: Decorator) -> object:
    @tool
    def f(n: int) -> Iterator[int]:
        yield from range(n)

    return list(f(3)), inspect.isgeneratorfunction(f), inspect.isgenerator(f(1)), str(inspect.signature(f))


@row("an async generator function", "f UNSET")
def async_generator_function(tool: Decorator) -> object:
    @tool
    async def f(n: int) -> AsyncIterator[int]:
        for number in range(n):
            yield number

    return asyncio.run(collect(f(3))), inspect.isasyncgenfunction(f), inspect.isasyncgen(f(1)), str(inspect.signature(f))


@row("a lambda", "lambda UNSET")
def a_lambda(tool: Decorator) -> object:
    f = tool(lambda a: a + 1)
    return f(1), f.__name__, inspect.isfunction(f)


@row("a function that closes over another's variables", "f UNSET")
def closure(tool: Decorator) -> object:
    count = 0

    @tool
    def f() -> int:
        nonlocal count
        count += 1
        return count

    return f(), count, f.__closure__ is not None


@row("a method of each kind, the decorator above and below", *(f"{name} UNSET" for name in ("m", "c1", "c2", "s1", "s2", "p1", "p2", "k")))
def methods(tool: Decorator) -> object:
    class Shop:
        stock = 3

        @tool
        def m(self, item: str) -> object:
            return item, self.stock

        @tool
        @classmethod
        def c1(cls, item: str) -> object:
            return item, cls.stock

        @classmethod
        @tool
        def c2(cls, item: str) -> object:
            return item, cls.stock

        @tool
        @staticmethod
        def s1(item: str) -> object:
            return item

        @staticmethod
        @tool
        def s2(item: str) -> object:
            return item

        @tool  # type: ignore[prop-decorator]  # mypy knows no decorator above a property
        @property
        def p1(self) -> object:
            """Documented."""
            return self.stock

        @property
        @tool
        def p2(self) -> object:
            return self.stock

        @tool  # type: ignore[prop-decorator]  # as above
        @functools.cached_property
        def k(self) -> object:
            return self.stock

    shop = Shop()
    kinds = [type(Shop.__dict__[name]) for name in ("m", "c1", "c2", "s1", "s2", "p1", "p2", "k")]
    calls = (shop.m("a"), Shop.c1("b"), shop.c2("c"), Shop.s1("d"), shop.s2("e"), shop.p1, shop.p2, shop.k, shop.k)
    return calls, kinds, Shop.p1.__doc__, str(inspect.signature(shop.m)), inspect.ismethod(shop.m), inspect.ismethod(Shop.c1)


@row("an asynchronous method", "m UNSET")
def async_method(tool: Decorator) -> object:
    class Shop:
        @tool
        async def m(self, item: str) -> str:
            return item

    return asyncio.run(Shop().m("a")), inspect.iscoroutinefunction(Shop().m)


@row("functools.partialmethod", "base UNSET")
def partial_method(tool: Decorator) -> object:
    class Shop:
        def base(self, a: int, b: int) -> object:
            return a, b

        m = tool(functools.partialmethod(base, 1))

    return Shop().m(2), type(Shop.__dict__["m"])


@row("functools.partial of a function and of a coroutine function", "f UNSET", "g UNSET")
def partials(tool: Decorator) -> object:
    def f(a: int, b: int) -> object:
        return a, b

    async def g(a: int, b: int) -> object:
        return a, b

    sync, later = tool(functools.partial(f, 1, b=2)), tool(functools.partial(g, 1))
    kinds = isinstance(sync, functools.partial), sync.func is f, sync.args, sync.keywords, inspect.iscoroutinefunction(later)
    return sync(), asyncio.run(later(b=3)), kinds, str(inspect.signature(sync))


class Adder:
    """A callable object with state."""

    kind: ClassVar[str] = "adder"

    def __init__(self, by: int) -> None:
        self.by = by

    def __call__(self, a: int) -> int:
        return a + self.by

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Adder) and other.by == self.by

    def __hash__(self) -> int:
        return hash(self.by)


class SlowAdder(Adder):
    """One whose call is asynchronous."""

    async def __call__(self, a: int) -> int:  # type: ignore[override]  # asynchronous on purpose
        await asyncio.sleep(0)
        return a + self.by


class CountingAdder(Adder):
    """One whose call is a generator."""

    def __call__(self, a: int) -> Iterator[int]:  # type: ignore[override]  # a generator on purpose
        yield a + self.by


@row("an object with __call__", "Adder UNSET")
def callable_object(tool: Decorator) -> object:
    add = tool(Adder(2))
    add.by = 3
    same = add == Adder(3), hash(add) == hash(Adder(3)), isinstance(add, Adder), add.kind, callable(add), inspect.isfunction(add)
    return add(1), same, str(inspect.signature(add))


@row("an object with async __call__, and one whose __call__ is a generator", "SlowAdder UNSET", "CountingAdder UNSET")
def async_callable_object(tool: Decorator) -> object:
    add, count = tool(SlowAdder(2)), tool(CountingAdder(2))
    kinds = inspect.iscoroutinefunction(add), inspect.iscoroutinefunction(add.__call__), inspect.isgeneratorfunction(count.__call__)
    return asyncio.run(add(1)), list(count(1)), kinds


@row("copies and pickles of a callable object", "Adder UNSET", "Adder UNSET", "Adder UNSET")
def copied_object(tool: Decorator) -> object:
    add = tool(Adder(2))
    return copy.copy(add)(1), copy.deepcopy(add)(1), pickle.loads(pickle.dumps(add))(1)


@row("a bound method", "m UNSET")
def bound_method(tool: Decorator) -> object:
    class Shop:
        def m(self, a: int) -> int:
            return a

    shop = Shop()
    method = tool(shop.m)
    return method(1), inspect.ismethod(method), method.__self__ is shop, method == shop.m, str(inspect.signature(method))


@row("builtins, with a signature and without", "sum UNSET", "max UNSET")
def builtin(tool: Decorator) -> object:
    add, most = tool(sum), tool(max)
    return add([1, 2]), most(1, 3, 2), inspect.isbuiltin(add), add.__name__, add == builtins.sum


@row("a function under functools.lru_cache, also as a method", "f UNSET", "f UNSET", "m UNSET")
def cached(tool: Decorator) -> object:
    ran: list[int] = []

    @tool
    @functools.lru_cache
    def f(a: int) -> int:
        ran.append(a)
        return a

    class Shop:
        @tool
        @functools.lru_cache  # noqa: B019  # a short life
        def m(self, a: int) -> int:
            return a

    return f(1), f(1), ran, f.cache_info(), Shop().m(2)


@row("a function that another decorator has wrapped", "f UNSET")
def already_wrapped(tool: Decorator) -> object:
    def doubled(fn: Callable[[int], int]) -> Callable[[int], int]:
        @functools.wraps(fn)
        def run(*args: Any, **kwargs: Any) -> int:
            return fn(*args, **kwargs) * 2

        return run

    @tool
    @doubled
    def f(a: int) -> int:
        return a

    return f(2), str(inspect.signature(f)), f.__name__


@row("functools.singledispatch keeps its registry", "f UNSET", "f UNSET")
def single_dispatch(tool: Decorator) -> object:
    @tool
    @functools.singledispatch
    def f(a: object) -> str:
        return "object"

    @f.register  # type: ignore[untyped-decorator]  # `tool` is any decorator here
    def _(a: int) -> str:
        return "int"

    return f(1), f("a"), sorted(kind.__name__ for kind in f.registry)


@row("a generator-based coroutine", "f UNSET")
def old_coroutine(tool: Decorator) -> object:
    @tool
    @types.coroutine
    def f() -> Any:
        yield from asyncio.sleep(0).__await__()
        return 5

    async def program() -> object:
        return await f()

    return asyncio.run(program())


# --- classes ---------------------------------------------------------------------------------------------------------------------------


class Plain:
    """Looked up by pickle under this name."""

    def __init__(self, a: int, b: int = 2) -> None:
        self.a, self.b = a, b


@row("a class: making one is the call", "Plain UNSET")
def a_class(tool: Decorator) -> object:
    init = Plain.__init__
    try:
        decorated = tool(Plain)
        made = decorated(1)
        same = (
            decorated is Plain,
            type(made) is Plain,
            isinstance(made, Plain),
            str(inspect.signature(decorated)),
            inspect.isclass(decorated),
        )
        return made.a, same, pickle.loads(pickle.dumps(made)).b, copy.deepcopy(made).a
    finally:
        Plain.__init__ = init  # type: ignore[method-assign]  # the next row decorates it anew


@row("a subclass of a decorated class", "Base UNSET")
def subclass(tool: Decorator) -> object:
    @tool
    class Base:
        def __init__(self, a: int) -> None:
            self.a = a

    class Sub(Base):
        def __init__(self) -> None:
            super().__init__(5)

    return Sub().a, issubclass(Sub, Base), [cls.__name__ for cls in Sub.__mro__]


@row("a class without a constructor, a data class, a tuple", "Bare UNSET", "Data UNSET", "Pair UNSET", "Bare ERROR exception")
def other_classes(tool: Decorator) -> object:
    @tool
    class Bare:
        pass

    @tool
    @dataclasses.dataclass(frozen=True, slots=True)
    class Data:
        a: int

    @tool
    class Pair(tuple[int, int]):
        __slots__ = ()

        def __new__(cls, a: int, b: int) -> Self:
            return super().__new__(cls, (a, b))

    made = type(Bare()).__name__, Data(1), Pair(1, 2), str(inspect.signature(Bare)), str(inspect.signature(Data))
    return repr(made), raised(lambda: Bare(*[1]))[:2]


@row("a class without a constructor keeps the one beside it", "Mixin UNSET")
def beside(tool: Decorator) -> object:
    @tool
    class Mixin:
        pass

    class Other:
        def __init__(self, a: int) -> None:
            self.a = a

    class Both(Mixin, Other):
        pass

    return Both(3).a


# --- decorated twice -------------------------------------------------------------------------------------------------------------------


@row("decorated twice is one span", "f UNSET", "g UNSET", "m UNSET")
def twice(tool: Decorator) -> object:
    @tool
    @tool
    def f() -> int:
        return 1

    @tool
    @tool
    async def g() -> int:
        return 2

    class Shop:
        @tool
        def m(self) -> int:
            return 3

    return f(), asyncio.run(g()), tool(Shop().m)()


@row("decorated twice with another decorator between is one span", "f UNSET")
def twice_around(tool: Decorator) -> object:
    def doubled(fn: Callable[[], int]) -> Callable[[], int]:
        @functools.wraps(fn)
        def run() -> int:
            return fn() * 2

        return run

    @tool
    @doubled
    @tool
    def f() -> int:
        return 1

    return f()


# --- what still runs when the function has returned -------------------------------------------------------------------------------------


async def collect(source: Any) -> list[Any]:
    """Every item."""
    return [item async for item in source]


async def later(value: object) -> object:
    """A coroutine."""
    await asyncio.sleep(0)
    return value


@row("a sync function that returns a coroutine", "f UNSET", "f ERROR exception", "f UNSET cancelled")
def returns_coroutine(tool: Decorator) -> object:
    async def failing() -> None:
        await asyncio.sleep(0)
        raise ValueError("x")

    @tool
    def f(source: Any) -> Any:
        return source()

    async def program() -> object:
        one = f(lambda: later(1))
        kinds = inspect.iscoroutine(one), one.__name__, one.__qualname__
        value = await one
        found: tuple[object, ...] = ()
        try:
            await f(failing)
        except ValueError as error:
            found = error.args
        task = asyncio.ensure_future(f(lambda: asyncio.sleep(30)))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        return kinds, value, found, task.cancelled()

    return asyncio.run(program())


@row("a sync function that returns a task or a future: the same object", "f UNSET", "f UNSET cancelled", "f ERROR exception")
def returns_task(tool: Decorator) -> object:
    @tool
    def f(made: Any) -> Any:
        return made

    async def program() -> object:
        task = asyncio.ensure_future(later(1))
        value = f(task) is task, await task
        waiting = asyncio.get_running_loop().create_future()
        f(waiting).cancel()
        await asyncio.sleep(0)
        return value

    future: Future[int] = Future()
    observed = asyncio.run(program()), f(future) is future
    future.set_exception(ValueError("x"))
    return observed, repr(future.exception())


class Answer:
    """An awaitable that is no coroutine."""

    def __init__(self, value: object) -> None:
        self.value = value

    def __await__(self) -> Any:
        yield from asyncio.sleep(0).__await__()
        return self.value


@row("a sync function that returns an awaitable object", "f UNSET")
def returns_awaitable(tool: Decorator) -> object:
    @tool
    def f() -> Any:
        return Answer(3)

    async def program() -> object:
        answer = f()
        return isinstance(answer, Answer), answer.value, inspect.isawaitable(answer), inspect.iscoroutine(answer), await answer

    return asyncio.run(program())


@row("a function, sync or async, that returns a generator or an async generator", "f UNSET", "g UNSET", "f UNSET", "g UNSET")
def returns_generators(tool: Decorator) -> object:
    def counted() -> Any:
        got = yield 1
        return got

    async def counted_later() -> Any:
        yield 1

    @tool
    def f(source: Any) -> Any:
        return source()

    @tool
    async def g(source: Any) -> Any:
        return source()

    async def program() -> object:
        one = await g(counted)
        items = [next(one), raised(lambda: one.send("sent"))[:2]]
        two, three = f(counted_later), await g(counted_later)
        return items, inspect.isgenerator(one), inspect.isasyncgen(two), two.__name__, await collect(two), await collect(three)

    return list(f(counted)), asyncio.run(program())


@row("results are handed back as they are", *["f UNSET"] * 6)
def returns_results(tool: Decorator) -> object:
    @tool
    def f(value: Any) -> Any:
        return value

    with Path(__file__).open() as file:
        values: list[Any] = [[1], {"a": 1}, "text", file, map(str, [1]), object()]
        return [f(value) is value for value in values]


# --- generators --------------------------------------------------------------------------------------------------------------------------


def echo(log: list[Any]) -> Any:
    """Log what is sent and thrown."""
    try:
        while len(log) < 4:
            try:
                log.append((yield len(log)))
            except ValueError as error:
                log.append(error.args)
    finally:
        log.append("closed")
    return "returned"


async def echo_later(log: list[Any]) -> Any:
    """The same, asynchronous."""
    try:
        while len(log) < 4:
            try:
                log.append((yield len(log)))
            except ValueError as error:
                log.append(error.args)
            await asyncio.sleep(0)
    finally:
        log.append("closed")


@row("send, throw, close and the return value", "echo UNSET", "echo UNSET closed")
def generator_protocol(tool: Decorator) -> object:
    log: list[Any] = []
    source = tool(echo)(log)
    steps = [next(source), source.send("a"), source.throw(ValueError("in")), next(source)]
    stopped = raised(lambda: source.send("last"))[:2]
    second = tool(echo)([])
    return steps, stopped, log, next(second), second.close(), raised(lambda: next(second))[:2]


@row("asend, athrow and aclose", "echo_later UNSET closed", "echo_later UNSET closed")
def async_generator_protocol(tool: Decorator) -> object:
    async def program() -> object:
        log: list[Any] = []
        source = tool(echo_later)(log)
        steps = [await anext(source), await source.asend("a"), await source.athrow(ValueError("in"))]
        await source.aclose()
        second = tool(echo_later)([])
        return steps, log, await anext(second), await second.aclose(), await collect(second)

    return asyncio.run(program())


@row("never iterated", *())
def never_iterated(tool: Decorator) -> object:
    ran: list[int] = []

    def f() -> Iterator[int]:
        ran.append(1)
        yield 1

    async def g() -> AsyncIterator[int]:
        ran.append(1)
        yield 1

    tool(f)(), tool(g)()
    tool(f)().close()
    gc.collect()
    return ran


@row("a loop that breaks", "f UNSET closed", "g UNSET closed")
def breaks(tool: Decorator) -> object:
    log: list[str] = []

    @tool
    def f() -> Iterator[int]:
        try:
            yield from range(5)
        finally:
            log.append("f")

    @tool
    async def g() -> AsyncIterator[int]:
        try:
            for number in range(5):
                yield number
        finally:
            log.append("g")

    async def program() -> None:
        async for _ in g():
            break
        gc.collect()
        # The loop makes a task of the clean-up at its next turn.
        await asyncio.sleep(0)
        await asyncio.gather(*asyncio.all_tasks() - {asyncio.current_task()})

    for _ in f():
        break
    asyncio.run(program())
    return log


@row(
    "contextlib's decorators above and below", "above UNSET", "below UNSET", "later UNSET", "above ERROR exception", "below ERROR exception"
)
def context_managers(tool: Decorator) -> object:
    @contextlib.contextmanager
    @tool
    def above() -> Iterator[int]:
        yield 1

    @tool
    @contextlib.contextmanager
    def below() -> Iterator[int]:
        yield 2

    @contextlib.asynccontextmanager
    @tool
    async def later() -> AsyncIterator[int]:
        yield 3

    async def program() -> object:
        async with later() as value:
            return value

    def failing(manager: Any) -> None:
        with manager:
            raise KeyError("in")

    with above() as one, below() as two:
        found = [one, two]
    found.append(asyncio.run(program()))
    return sorted(found), raised(lambda: failing(above()))[:2], raised(lambda: failing(below()))[:2]


@row("context variables cross in both directions", "f UNSET", "g UNSET")
def context_variables(tool: Decorator) -> object:
    @tool
    def f() -> Iterator[str]:
        yield seen.get()
        seen.set("set inside")
        yield seen.get()

    @tool
    async def g() -> AsyncIterator[str]:
        yield seen.get()
        seen.set("set inside")
        yield seen.get()

    def sync() -> object:
        found = []
        for item in f():
            found += [item, seen.get()]
            seen.set("set outside")
        return found, seen.get()

    async def program() -> object:
        found = []
        async for item in g():
            found += [item, seen.get()]
            seen.set("set outside")
        return found, seen.get()

    return contextvars.copy_context().run(sync), contextvars.copy_context().run(lambda: asyncio.run(program()))


@row("a timeout and a task group inside run in the consumer's own task", "f UNSET", "f ERROR exception")
def structured_concurrency(tool: Decorator) -> object:
    @tool
    async def f(seconds: float) -> AsyncIterator[object]:
        task = asyncio.current_task()
        # Only where it must come it comes soon.
        async with asyncio.timeout(0.05 if seconds else 60), asyncio.TaskGroup() as group:
            one = group.create_task(later(1))
            yield asyncio.current_task() is task, len(asyncio.all_tasks())
            await asyncio.sleep(seconds)
            yield await one

    async def program() -> object:
        try:
            return await collect(f(0)), await collect(f(5))
        except TimeoutError as error:
            return await collect(f.__wrapped__(0) if hasattr(f, "__wrapped__") else f(0)), type(error)

    return asyncio.run(program())


# --- errors ------------------------------------------------------------------------------------------------------------------------------


def _ending(tool: Decorator, error: BaseException) -> object:
    @tool
    def f() -> None:
        raise error

    @tool
    async def g() -> None:
        raise error

    def run_g() -> None:
        g().send(None)

    return raised(f), raised(run_g)[:4], f


for kind, left in {
    ValueError: "ERROR exception",
    StopIteration: "ERROR exception",
    StopAsyncIteration: "ERROR exception",
    KeyboardInterrupt: "ERROR exception",
    SystemExit: "ERROR exception",
    asyncio.CancelledError: "UNSET cancelled",
    GeneratorExit: "UNSET closed",
}.items():

    @row(
        f"{kind.__name__} raised by a function and a coroutine",
        f"f {left}",
        f"g {left if kind is not StopIteration else 'ERROR exception'}",
    )
    def ending(tool: Decorator, kind: type[BaseException] = kind) -> object:
        return _ending(tool, kind("x"))[:2]  # type: ignore[index]  # a tuple


@row("an error from below keeps its frames", "f ERROR exception")
def frames(tool: Decorator) -> object:
    def below() -> None:
        raise KeyError("deep")

    @tool
    def f() -> None:
        below()

    return raised(f)


@row("an error inside a generator and an async generator", "f ERROR exception", "g ERROR exception")
def generator_errors(tool: Decorator) -> object:
    @tool
    def f() -> Iterator[int]:
        yield 1
        raise KeyError("in")

    @tool
    async def g() -> AsyncIterator[int]:
        yield 1
        raise KeyError("in")

    return raised(lambda: list(f())), raised(lambda: asyncio.run(collect(g())))


@row(
    "a call that does not fit",
    "f ERROR exception",
    "g ERROR exception",
    "m ERROR exception",
    "n ERROR exception",
    "Adder ERROR exception",
    "f ERROR exception",
)
def wrong_calls(tool: Decorator) -> object:
    @tool
    def f(a: int) -> None: ...

    @tool
    async def g(a: int) -> None: ...

    class Shop:
        @tool
        def m(self, a: int) -> None: ...

        def n(self, a: int) -> None: ...

    calls: list[Callable[[], object]] = [
        f,
        lambda: asyncio.run(g(b=1)),
        lambda: Shop().m(1, 2),
        tool(Shop().n),
        tool(Adder(1)),
        tool(functools.partial(f.__wrapped__ if hasattr(f, "__wrapped__") else f, b=2)),
    ]
    return [raised(call)[:2] for call in calls]


# --- the table -----------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["guarded", "traced", "off"])
@pytest.mark.parametrize("tried", ROWS, ids=[each.promise for each in ROWS])
class TestConformance:
    """Decorated as undecorated."""

    def test_nothing_can_tell(self, make_world: Any, tried: Row, state: str, caplog: pytest.LogCaptureFixture) -> None:
        """The program observes what it observes undecorated, leaves its spans and logs nothing."""
        world = None if state == "off" else make_world(policy=POLICY if state == "guarded" else None)
        expected = tried.program(lambda fn: fn)
        caplog.clear()
        found = tried.program(rt.tool)
        gc.collect()
        assert expected == found
        assert [record.getMessage() for record in caplog.records] == []
        if world is not None:
            assert sorted(tried.spans) == sorted(told(span) for span in world.spans())
