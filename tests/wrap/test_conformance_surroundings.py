"""Nothing can tell, part two: decorated code among the things that code lives with. Each program must observe the same undecorated.

Written from the promises alone, by somebody who had not seen the other table; what that one has already is left out.
"""

from __future__ import annotations

import abc
import asyncio
import concurrent.futures
import contextlib
import contextvars
import dataclasses
import functools
import gc
import inspect
import itertools
import json
import operator
import pickle
import signal
import time
import types
import typing
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Annotated, Any, Literal, Protocol, runtime_checkable
from unittest import mock

import pytest

import otel_runtime as rt

Decorator = Callable[[Any], Any]
Program = Callable[[Decorator], object]
PROGRAMS: dict[str, Program] = {}


def program(promise: str) -> Callable[[Program], Program]:
    def add(run: Program) -> Program:
        PROGRAMS[promise] = run
        return run

    return add


def outcome(run: Callable[[], object]) -> tuple[object, ...]:
    """What came of a call: its value, or everything one can ask of its exception."""
    try:
        return ("value", run())
    except BaseException as error:  # noqa: BLE001  # every kind of ending is compared
        notes = getattr(error, "__notes__", None)
        return type(error), error.args, notes, repr(error.__context__), repr(error.__cause__), error.__suppress_context__


# --- what reads a function to learn what it takes ------------------------------------------------------------------------------------


@program("signature, hints and source, also with eval_str")
def introspection(d: Decorator) -> object:
    @d
    def search(query: Annotated[str, "what"], k: int = 3, *, lang: Literal["en", "de"] = "en") -> list[str]:
        """Search."""
        return [query] * k

    hints = {name: str(hint) for name, hint in typing.get_type_hints(search, include_extras=True).items()}
    return inspect.signature(search, eval_str=True), hints, inspect.getsource(search), inspect.getdoc(search), search("q", k=1)


@program("the kinds of everything that is decorated")
def kinds(d: Decorator) -> object:
    def plain() -> None: ...
    async def later() -> None: ...
    def items() -> Iterator[int]:
        yield 1

    async def later_items() -> AsyncIterator[int]:
        yield 1

    asked = (inspect.isfunction, inspect.isroutine, inspect.iscoroutinefunction, inspect.isgeneratorfunction, inspect.isasyncgenfunction)
    return [[ask(d(fn)) for ask in asked] for fn in (plain, later, items, later_items)]


@program("pydantic: validate_call above, schema, validators and computed fields")
def pydantic_models(d: Decorator) -> object:
    import pydantic

    def take(a: int, *, b: str = "x") -> int:
        return a

    above = pydantic.validate_call(d(take))

    def doubled(cls: object, value: int) -> int:
        return value * 2

    validator: Any = pydantic.field_validator("a")(classmethod(d(doubled)))
    computed: Any = pydantic.computed_field(return_type=int)(property(d(lambda self: self.a + 1)))
    model = pydantic.create_model("M", a=(int, ...), __validators__={"doubled": validator})
    more: Any = type("More", (model,), {"c": computed, "__module__": __name__})
    schema = json.dumps(pydantic.TypeAdapter(d(take)).json_schema(), sort_keys=True)
    bad = outcome(lambda: above("x"))[0]
    return above("3"), bad, schema, more(a=1).model_dump()


@program("click and typer commands")
def commands(d: Decorator) -> object:
    click: Any = pytest.importorskip("click", reason="click is missing, so its commands were not tried; pip install click")
    testing: Any = pytest.importorskip("click.testing")

    def said(n: int) -> None:
        """Say it."""
        click.echo(n)

    command = click.command("said")(click.option("--n", type=int)(d(said)))
    run = testing.CliRunner().invoke
    return run(command, ["--n", "3"]).output, "Say it" in run(command, ["--help"]).output, run(command, ["--n", "x"]).exit_code


@program("mock: autospec of methods, awaited mocks, wraps")
def mocks(d: Decorator) -> object:
    class Shop:
        @d
        def buy(self, item: str, count: int = 1) -> str:
            return item

        @d
        async def wait(self, item: str) -> str:
            return item

        @staticmethod
        @d
        def price(item: str) -> int:
            return 1

    with mock.patch.object(Shop, "buy", autospec=True, return_value="mocked"), mock.patch.object(Shop, "price", autospec=True) as price:
        price.return_value = 7
        said = Shop().buy("a"), outcome(lambda: Shop().buy())[0], Shop.price("a"), outcome(Shop.price)[0]
    spec = mock.create_autospec(Shop)
    awaited = mock.AsyncMock(return_value=4)
    result = asyncio.run(run_all(d(awaited)(1)))
    plain = mock.Mock(return_value=5)
    return said, type(spec.wait).__name__, result, awaited.await_count, d(plain)(1, a=2), plain.call_args, mock.Mock(wraps=Shop().buy)("b")


async def run_all(*awaitables: Any) -> list[object]:
    return [await awaitable for awaitable in awaitables]


# --- classes -------------------------------------------------------------------------------------------------------------------------


@runtime_checkable
class Buys(Protocol):
    def buy(self) -> int: ...


@program("protocols, abstract methods, slots, data classes and special methods")
def classes(d: Decorator) -> object:
    class Base(abc.ABC):
        __slots__ = ("a",)

        @d
        @abc.abstractmethod
        def buy(self) -> int: ...

    class Own(Base):
        def __init__(self) -> None:
            self.a = 1

        @d
        def buy(self) -> int:
            return self.a

        @d
        def __iter__(self) -> Iterator[int]:
            yield self.a

        @d
        def __len__(self) -> int:
            return 3

        @d
        def __enter__(self) -> object:
            return self

        @d
        def __exit__(self, *_: object) -> bool:
            return True

    @dataclasses.dataclass(frozen=True)
    class Data:
        a: int = 1

        @d
        def more(self, b: int = 2) -> int:
            return self.a + b

    own = Own()
    with own as same:
        raise ValueError("swallowed")
    refused = outcome(Base)[0]
    return (
        refused,
        isinstance(own, Buys),
        own.buy(),
        list(own),
        len(own),
        same is own,
        Data(3).more(),
        Data() == Data(),
        Base.__abstractmethods__,
    )


@program("singledispatch, above and below, and single-dispatch methods")
def dispatch(d: Decorator) -> object:
    @d
    @functools.singledispatch
    def below(a: object) -> str:
        return "any"

    below.register(int, lambda a: "int")

    @functools.singledispatch
    @d
    def above(a: object) -> str:
        return "any"

    above.register(int, d(lambda a: "int"))

    class Shop:
        @functools.singledispatchmethod
        @d
        def buy(self, a: object) -> str:
            return "any"

        @buy.register
        @d
        def _buy(self, a: int) -> str:  # type: ignore[misc]  # mypy takes it for a function of its own
            return "int"

    return below(1), below(""), below.dispatch(int)(1), above(1), above(""), Shop().buy(1), Shop().buy("")


@program("descriptors and callables of other makes")
def callables(d: Decorator) -> object:
    class Named:
        def __set_name__(self, owner: type, name: str) -> None:
            self.name = name

        def __get__(self, instance: object, owner: type | None = None) -> Callable[[], str]:
            return lambda: self.name

        def __call__(self) -> str:
            return "called"

    class Holder:
        described = d(Named())

    picker = d(operator.itemgetter(1))
    made = d(operator.methodcaller("upper"))("a"), d(str.upper)("a"), d(dict.fromkeys)("ab"), d([].append)(1)
    return Holder().described(), picker([1, 2]), pickle.loads(pickle.dumps(picker))([1, 2]), made


# --- exceptions ----------------------------------------------------------------------------------------------------------------------


@program("exceptions keep object, notes, context, cause and group")
def exceptions(d: Decorator) -> object:
    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no")

    seen = []
    for error in (ValueError("a"), StopIteration(3), MemoryError(), Mute(), ExceptionGroup("g", [ValueError(1)]), SystemExit(3)):
        error.add_note("noted")

        @d
        def fails(error: BaseException = error) -> None:
            raise error

        try:
            fails()
        except BaseException as caught:  # noqa: BLE001  # as above
            seen.append((caught is error, caught.__notes__, caught.__context__, caught.__cause__))

    @d
    def chained() -> None:
        try:
            operator.itemgetter("low")({})
        except KeyError as error:
            raise ValueError("high") from error

    def around() -> None:
        try:
            operator.itemgetter("outer")({})
        except KeyError:
            chained()

    return seen, outcome(chained), outcome(around)


@program("a generator that will not be closed, or fails while it is")
def bad_closing(d: Decorator) -> object:
    @d
    def stays() -> Iterator[int]:
        try:
            yield 1
        except GeneratorExit:
            yield 2

    @d
    def fails() -> Iterator[int]:
        try:
            yield 1
        finally:
            operator.itemgetter("in finally")({})

    @d
    async def stays_later() -> AsyncIterator[int]:
        try:
            yield 1
        except GeneratorExit:
            yield 2

    def closed(made: Any) -> tuple[object, ...]:
        next(made)
        return outcome(made.close)

    async def closed_later(made: Any) -> None:
        await anext(made)
        await made.aclose()

    return closed(stays()), closed(fails()), outcome(lambda: asyncio.run(closed_later(stays_later())))


@program("a signal handler raises inside")
def alarmed(d: Decorator) -> object:
    def ring(*_: object) -> None:
        raise InterruptedError("rung")

    @d
    def sleeper() -> None:
        # Only here: on a busy machine it would ring before the body runs.
        signal.setitimer(signal.ITIMER_REAL, 0.02)
        time.sleep(30)

    before = signal.signal(signal.SIGALRM, ring)
    try:
        return outcome(sleeper)
    finally:
        signal.signal(signal.SIGALRM, before)


# --- hostile values ------------------------------------------------------------------------------------------------------------------


class Broken:
    """Fails in everything one may do to it."""

    def _fail(self, *_: object) -> Any:
        raise RuntimeError("touched")

    __repr__ = __str__ = __eq__ = __hash__ = __bool__ = __len__ = __iter__ = __getattr__ = _fail
    __copy__ = __deepcopy__ = __reduce_ex__ = _fail


class BrokenMeta(type):
    def __hash__(cls) -> int:
        raise RuntimeError("hashed")

    def __eq__(cls, other: object) -> bool:
        raise RuntimeError("compared")

    def __getattr__(cls, name: str) -> Any:
        raise RuntimeError(name)


class OfBrokenMeta(metaclass=BrokenMeta):
    """Its class cannot be looked up in a dict."""


def hostile() -> list[Any]:
    cycle: list[Any] = []
    cycle.append(cycle)
    deep: list[Any] = []
    for _ in range(10_000):
        deep = [deep]
    return [Broken(), cycle, deep, "x" * 5_000_000, 10**5_000, "\ud800", float("nan"), b"\xff", inspect, iter([1]), memoryview(b"1")]


@program("hostile arguments and results are handed through untouched")
def hostile_values(d: Decorator) -> object:
    @d
    def back(value: Any) -> Any:
        return value

    @d
    async def later(value: Any) -> Any:
        return value

    @d
    def given(*values: Any, **named: Any) -> int:
        return len(values) + len(named)

    values = hostile()
    # One after the other: an iterator is a stream to those who follow one, and stays one.
    same = [back(value) is value for value in values if not hasattr(type(value), "__next__")]
    same_later = [asyncio.run(run_all(later(value)))[0] is value for value in values[:3]]
    return same, same_later, given(*values, a=values[0])


class NamelessMeta(type):
    def __getattribute__(cls, name: str) -> Any:
        if name in ("__module__", "__qualname__", "__name__"):
            raise RuntimeError(name)
        return super().__getattribute__(name)


class OfNamelessMeta(metaclass=NamelessMeta):
    """Its class does not say what it is called."""


@program("a class whose metaclass cannot be hashed, compared or asked for a name")
def hostile_class(d: Decorator) -> object:
    back = d(lambda value: value)
    # By a test of our own: pytest would ask the classes for their names.
    return [back(made) is made for made in (OfBrokenMeta(), OfNamelessMeta(), [OfBrokenMeta()], {"a": OfNamelessMeta()})]


@program("nothing is kept: arguments, results and locals die when they would")
def nothing_kept(d: Decorator) -> object:
    class Thing: ...

    dead = []

    @d
    def takes(thing: object) -> int:
        return 1

    @d
    def gives() -> object:
        return Thing()

    @d
    def yields(thing: object) -> Iterator[int]:
        yield 1

    @d
    def fails(thing: object) -> None:
        raise ValueError("x")

    def watched(use: Callable[[Any], object]) -> None:
        thing = Thing()
        dead.append(weakref.ref(thing))
        use(thing)

    def early(thing: object) -> None:
        stream = yields(thing)
        next(stream)
        stream.close()

    for use in (takes, early, lambda thing: outcome(lambda: fails(thing)) and None):
        watched(use)
    result = gives()
    dead.append(weakref.ref(result))
    del result
    return [reference() is None for reference in dead]


# --- tasks, threads, contexts --------------------------------------------------------------------------------------------------------


@program("context variables cross in both directions, of functions, coroutines and streams")
def variables(d: Decorator) -> object:
    seen: contextvars.ContextVar[int] = contextvars.ContextVar("seen", default=0)

    def up() -> int:
        seen.set(seen.get() + 1)
        return seen.get()

    plain, later = d(up), d(coroutine_of(up))

    @d
    def items() -> Iterator[int]:
        yield up()
        yield up()

    async def main() -> list[int]:
        found = [plain(), seen.get(), await later(), seen.get()]
        for item in items():
            found += [item, seen.get()]
            seen.set(seen.get() + 10)
        return found

    return asyncio.run(main()), contextvars.copy_context().run(plain), seen.get()


def coroutine_of(run: Callable[[], int]) -> Callable[[], Any]:
    async def later() -> int:
        return run()

    return later


@program("task groups, timeouts, cancellation with its message, cancellation that is swallowed")
def tasks(d: Decorator) -> object:
    log: list[object] = []

    @d
    async def sleeps(number: int = 0) -> None:
        if number:
            raise ValueError(number)
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError as error:
            log.append(error.args)
            raise

    @d
    async def swallows() -> str:
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            return "kept"
        return "never"

    async def grouped() -> None:
        async with asyncio.TaskGroup() as group:
            for number in range(2):
                group.create_task(sleeps(number))

    async def cancelled() -> object:
        first, second = asyncio.create_task(sleeps()), asyncio.create_task(swallows())
        await asyncio.sleep(0)
        first.cancel("why")
        second.cancel()
        await asyncio.wait([first, second])
        return first.cancelled(), second.result()

    group = outcome(lambda: asyncio.run(grouped()))[0]
    return group, outcome(lambda: asyncio.run(asyncio.wait_for(sleeps(), 0.01)))[0], asyncio.run(cancelled()), sorted(map(str, log))


@program("anyio: groups inside functions and streams, cancel scopes")
def anyio_inside(d: Decorator) -> object:
    import anyio.lowlevel

    @d
    async def child(number: int) -> int:
        await anyio.lowlevel.checkpoint()
        return number

    @d
    async def items() -> AsyncIterator[int]:
        async with anyio.create_task_group() as group:
            group.start_soon(child, 1)
            yield 1

    @d
    async def parent() -> object:
        with anyio.move_on_after(0.01) as scope:
            await anyio.sleep(30)
        return [item async for item in items()], scope.cancelled_caught, await child(3)

    return anyio.run(parent)


@program("trio")
def trio_inside(d: Decorator) -> object:
    trio = pytest.importorskip("trio", reason="trio is missing, so its loop was not tried; pip install trio")

    @d
    async def slow() -> int:
        await trio.sleep(0)
        return 1

    @d
    async def items() -> AsyncIterator[int]:
        yield await slow()

    async def main() -> object:
        return [item async for item in items()], await slow()

    return trio.run(main)


@program("threads of an executor, and a future that is handed back")
def threads(d: Decorator) -> object:
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        found = sorted(pool.map(d(lambda number: number * 2), range(20)))
        future = d(lambda: pool.submit(int, "3"))()
        return found, type(future), future.result()


# --- streams -------------------------------------------------------------------------------------------------------------------------


@program("iterators among the tools of the language")
def iterators(d: Decorator) -> object:
    lines = d(lambda: map(str, range(4)))
    some = lines()
    first = next(some), list(itertools.islice(some, 1)), list(some), list(some)
    return (
        first,
        max(lines()),
        ",".join(lines()),
        set(lines()),
        list(zip(lines(), lines(), strict=True)),
        dict(d(lambda: enumerate("ab"))()),
    )


@program("context managers in a stack, as decorators, and with an error that becomes another")
def managers(d: Decorator) -> object:
    log: list[object] = []

    @contextlib.contextmanager
    @d
    def plain(name: str) -> Iterator[str]:
        log.append(name)
        try:
            yield name
        except ValueError as error:
            raise RuntimeError("other") from error
        finally:
            log.append(f"-{name}")

    @contextlib.asynccontextmanager
    @d
    async def later(name: str) -> AsyncIterator[str]:
        with plain(name) as found:
            yield found

    async def stacked() -> None:
        async with contextlib.AsyncExitStack() as stack:
            for name in ("a", "b"):
                await stack.enter_async_context(later(name))
            raise ValueError("inside")

    decorated: Any = plain("deco")(lambda: "ran")
    return outcome(lambda: asyncio.run(stacked())), decorated(), log


@program("two steps at once of one async stream")
def two_steps(d: Decorator) -> object:
    @d
    async def items() -> AsyncIterator[int]:
        yield await asyncio.sleep(0.01, 1)

    async def main() -> object:
        stream: Any = items()
        first = asyncio.ensure_future(stream.__anext__())
        await asyncio.sleep(0)
        try:
            await stream.__anext__()
        except RuntimeError as error:
            return await first, type(error)
        return "both ran"

    return asyncio.run(main())


@program("objects that generator functions make")
def generator_objects(d: Decorator) -> object:
    @d
    def items() -> Iterator[int]:
        yield 1

    made: Any = items()
    before = made.__name__, isinstance(made, types.GeneratorType), inspect.getgeneratorstate(made), outcome(lambda: items().send(1))
    next(made)
    made.close()
    return before, inspect.getgeneratorstate(made), outcome(lambda: next(made)), outcome(lambda: items().throw(KeyError("early")))


POLICY = 'version: 1\nname: all\ndefault: deny\nrules:\n  - {id: tools, tool: "*", decision: allow}\n'
# Where a policy decides, what cannot be looked at is refused: that is the promise there.
GUARDED = [promise for promise, run in PROGRAMS.items() if run not in (hostile_class, hostile_values)]
CASES = [
    *(("off", promise) for promise in PROGRAMS),
    *(("traced", promise) for promise in PROGRAMS),
    *(("captured", promise) for promise in PROGRAMS),
    *(("guarded", promise) for promise in GUARDED),
]
KINDS: dict[str, Decorator] = {"tool": rt.tool, "agent": rt.agent, "model": rt.model("m")}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("state", "promise"), CASES)
class TestSurroundings:
    """Decorated as undecorated."""

    def test_nothing_can_tell(self, make_world: Any, state: str, promise: str, kind: str) -> None:
        """The program observes what it observes undecorated."""
        if state != "off":
            make_world(POLICY if state == "guarded" else None, capture="SPAN_AND_EVENT" if state == "captured" else "NO_CONTENT")
        run = PROGRAMS[promise]
        expected = repr(run(lambda fn: fn))
        found = repr(run(KINDS[kind]))
        gc.collect()
        assert expected == found
