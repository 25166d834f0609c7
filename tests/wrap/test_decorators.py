"""Decorated functions behave as undecorated ones."""

from __future__ import annotations

import asyncio
import copy
import functools
import inspect
import pickle
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, Self

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

import otel_runtime as rt
from otel_runtime.runtime.build import build_runtime
from otel_runtime.settings.model import Settings
from otel_runtime.wrap.active import Unavailable, use_active
from otel_runtime.wrap.binding import Binder
from otel_runtime.wrap.plan import plan_of


@rt.tool
def plain(a: int, /, b: int = 2, *rest: int, c: int = 3, **more: int) -> tuple[Any, ...]:
    """Give back what it got."""
    return (a, b, rest, c, more)


@rt.tool
async def slow(a: int) -> int:
    """Give it back later."""
    await asyncio.sleep(0)
    return a


@rt.tool
def listing(n: int) -> Iterator[int]:
    """Count."""
    yield from range(n)


@rt.tool
async def listing_slowly(n: int) -> AsyncIterator[int]:
    """Count."""
    for number in range(n):
        yield number


class Shop:
    """A class with tools as methods."""

    def __init__(self) -> None:
        self.stock = 3

    @rt.tool
    def read(self, item: str) -> str:
        """Read."""
        return f"{item}:{self.stock}"

    @classmethod
    @rt.tool
    def read_class(cls, item: str) -> str:
        """Read."""
        return f"{cls.__name__}:{item}"

    @rt.tool
    @classmethod
    def read_class_too(cls, item: str) -> str:
        """Read."""
        return f"{cls.__name__}:{item}"

    @staticmethod
    @rt.tool
    def read_static(item: str) -> str:
        """Read."""
        return item

    @rt.tool
    @staticmethod
    def read_static_too(item: str) -> str:
        """Read."""
        return item


class lazy(property):
    """A property that is computed once, as many libraries have one: a constructor of its own, and a name to keep the answer under."""

    def __init__(self, fget: Callable[[Any], Any], slot: str | None = None) -> None:
        super().__init__(fget)
        self.slot = slot or f"_{fget.__name__}"

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        """The answer that is kept."""
        if self.slot not in vars(instance):
            vars(instance)[self.slot] = super().__get__(instance, owner)
        return vars(instance)[self.slot]


class Named(functools.cached_property[Any]):
    """A cached property whose constructor takes more than the function."""

    def __init__(self, func: Callable[[Any], Any], label: str) -> None:
        super().__init__(func)
        self.label = label


class TestUnconfigured:
    """Without a runtime, a decorated function is the function."""

    def test_values_pass_through(self) -> None:
        """Arguments and results are the caller's own."""
        assert plain(1, 5, 6, c=7, d=8) == (1, 5, (6,), 7, {"d": 8})
        assert asyncio.run(slow(4)) == 4
        assert list(listing(3)) == [0, 1, 2]

    def test_a_wrong_call_fails_in_pythons_own_words(self) -> None:
        """The TypeError is the undecorated function's."""
        with pytest.raises(TypeError, match=r"plain\(\) missing 1 required positional argument: 'a'"):
            plain()  # type: ignore[call-arg]  # the mistake under test

    def test_a_policy_in_the_environment_blocks_until_configured(self) -> None:
        """OTEL_RUNTIME_POLICY without configure() means that nothing guarded runs."""
        program = "import otel_runtime as rt\n@rt.tool\ndef f(): return 1\ntry: print(f())\nexcept rt.PolicyUnavailable as e: print('blocked', e.reason)"
        out = subprocess.run(
            [sys.executable, "-c", program],
            capture_output=True,
            text=True,
            check=True,
            env={"OTEL_RUNTIME_POLICY": "policy.yaml", "PATH": ""},
        )
        assert out.stdout.startswith("blocked OTEL_RUNTIME_POLICY is set")

    def test_guard_required_blocks(self) -> None:
        """A tool that must be guarded does not run where nothing guards."""

        @rt.tool(guard="required")
        def careful() -> int:
            return 1

        with pytest.raises(rt.PolicyUnavailable, match="guard=`required`"):
            careful()

    def test_guard_required_blocks_where_there_is_no_policy(self, traced: Any) -> None:
        """A runtime that only traces does not satisfy it either."""

        @rt.tool(guard="required")
        def careful() -> int:
            return 1

        with pytest.raises(rt.PolicyUnavailable, match="no policy is configured"):
            careful()


class TestIdentity:
    """What introspection sees."""

    @pytest.mark.parametrize(
        ("fn", "check"),
        [
            (slow, inspect.iscoroutinefunction),
            (listing, inspect.isgeneratorfunction),
            (listing_slowly, inspect.isasyncgenfunction),
            (plain, inspect.isfunction),
        ],
    )
    def test_the_kind_is_kept(self, fn: Any, check: Any) -> None:
        """Frameworks that look at a function's kind see the original's."""
        assert check(fn)

    def test_names_and_signature_are_kept(self) -> None:
        """Name, documentation, module and signature are the function's own."""
        assert (plain.__name__, plain.__doc__, plain.__module__) == ("plain", "Give back what it got.", __name__)
        assert str(inspect.signature(plain)).startswith("(a: 'int', /, b: 'int' = 2, *rest: 'int', c: 'int' = 3, **more: 'int')")

    def test_pickle_and_copy_go_by_reference(self) -> None:
        """A decorated function can be sent to a worker process."""
        assert copy.deepcopy(plain) is plain
        assert pickle.loads(pickle.dumps(plain)) is plain


class TestMethods:
    """Methods of all kinds."""

    @pytest.mark.parametrize("policy", [True, False])
    def test_bind_as_before(self, make_world: Any, policy: bool) -> None:
        """Instance, class and static methods work on either side of the decorator."""
        world = make_world() if policy else make_world(policy=None)
        shop = Shop()
        got = [shop.read("a"), Shop.read_class("b"), shop.read_class_too("c"), Shop.read_static("d"), shop.read_static_too("e")]
        assert got == ["a:3", "Shop:b", "Shop:c", "d", "e"]
        assert world.names() == [
            "execute_tool read",
            "execute_tool read_class",
            "execute_tool read_class_too",
            "execute_tool read_static",
            "execute_tool read_static_too",
        ]


class TestDescriptors:
    """Callables that bind in their own way."""

    def test_what_a_descriptor_gives_is_called_under_the_policy(self, world: Any) -> None:
        """Neither a builtin method nor what an application's own descriptor made of itself gets past the rules."""
        ran: list[Any] = []

        class Partial:
            def __get__(self, instance: object, owner: type | None = None) -> Any:
                return functools.partial(self, instance)

            def __call__(self, *args: Any) -> int:
                ran.append(args)
                return len(args)

        class Function(Partial):
            def __get__(self, instance: object, owner: type | None = None) -> Any:
                return lambda *args: self(instance, *args)

        class Text(str):  # noqa: SLOT000  # as an application writes it
            upper = rt.tool(name="nuke")(str.upper)
            lower = rt.tool(name="plain")(str.lower)
            partial = rt.tool(name="nuke")(Partial())
            function = rt.tool(name="nuke")(Function())
            allowed = rt.tool(name="plain")(Partial())

        for call in (Text("A").upper, Text("A").partial, Text.partial, Text("A").function):
            with pytest.raises(rt.PolicyDenied, match="nuke"):
                call()
        assert [] == ran
        assert ("a", 2) == (Text("A").lower(), Text("A").allowed(5))
        assert [("A", 5)] == ran

    def test_what_it_gives_that_cannot_be_called_is_itself(self, world: Any) -> None:
        """A descriptor may give anything."""

        class Value:
            def __get__(self, instance: object, owner: type | None = None) -> Any:
                return 7

            def __call__(self) -> None: ...

        class Holder:
            value = rt.tool(name="nuke")(Value())

        assert 7 == Holder().value


class TestProperties:
    """Properties of the application's own classes, decorated above, and in a class that is finished already."""

    @pytest.mark.parametrize("late", [False, True])
    @pytest.mark.parametrize("make", [functools.cached_property, lazy, lambda fn: Named(fn, "label")], ids=["cached", "lazy", "named"])
    def test_they_keep_their_class_and_what_it_was_given(self, traced: Any, make: Callable[[Any], Any], *, late: bool) -> None:
        """Its constructor is not asked again, its documentation and attributes stay, and reading it is a call."""

        def stock(self: Any) -> int:
            """What is there."""
            return 5

        plain = make(stock)
        shop = type("Shop", (), {"stock": plain if late else rt.tool(plain)})
        if late:
            shop.stock = rt.tool(shop.__dict__["stock"])  # type: ignore[attr-defined]  # the class is made at run time
        found = shop.__dict__["stock"]
        attributes = {name: value for name, value in vars(plain).items() if value is not stock and name != "attrname"}
        assert (type(found), found.__doc__) == (type(plain), "What is there.")
        assert attributes.items() <= vars(found).items()
        seen = shop()
        assert (seen.stock, seen.stock) == (5, 5)
        # Every one of them keeps the first answer.
        assert [span.name for span in traced.spans()] == ["execute_tool stock"]


class TestSpans:
    """What a call leaves in the trace."""

    def test_one_tree_for_a_run(self, traced: Any) -> None:
        """Workflow, agent, model and tool nest as they were called."""

        @rt.model("gpt-4o-mini", provider="openai")
        def think() -> dict[str, Any]:
            return {"id": "r", "model": "gpt-4o-mini", "choices": [], "usage": {"prompt_tokens": 10, "completion_tokens": 5}}

        @rt.agent
        def helper() -> None:
            think()
            plain(1)

        @rt.workflow("nightly")
        def work() -> None:
            helper()

        work()
        assert traced.tree() == {"invoke_workflow nightly": {"invoke_agent helper": {"chat gpt-4o-mini": {}, "execute_tool plain": {}}}}

    def test_an_error_keeps_its_object_and_is_recorded_once(self, traced: Any) -> None:
        """The caller gets the very exception; the span has one exception event and its type."""
        raised = ValueError("boom")

        @rt.tool
        def failing() -> None:
            raise raised

        with pytest.raises(ValueError, match="boom") as caught:
            failing()
        span = traced.one("execute_tool failing")
        assert caught.value is raised
        assert [event.name for event in span.events] == ["exception"]
        assert (span.status.status_code.name, span.attributes["error.type"]) == ("ERROR", "ValueError")

    @pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
    def test_the_end_of_the_program_ends_the_span(self, traced: Any, kind: type[BaseException]) -> None:
        """KeyboardInterrupt and SystemExit pass through and the span ends as an error."""

        @rt.tool
        def stopping() -> None:
            raise kind

        with pytest.raises(kind):
            stopping()
        assert traced.one("execute_tool stopping").status.status_code.name == "ERROR"

    def test_cancellation_is_no_error(self, traced: Any) -> None:
        """A cancelled task ends its span with outcome cancelled and no error status."""

        @rt.tool
        async def waiting() -> None:
            begun.set()
            await asyncio.sleep(60)

        begun = asyncio.Event()

        async def program() -> None:
            task = asyncio.ensure_future(waiting())
            await begun.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

        asyncio.run(program())
        span = traced.one("execute_tool waiting")
        assert (span.status.status_code.name, span.attributes["otel_runtime.outcome"]) == ("UNSET", "cancelled")

    def test_parallel_tasks_do_not_mix(self, traced: Any) -> None:
        """Tools called in parallel are siblings under the agent."""

        @rt.agent
        async def busy() -> None:
            await asyncio.gather(slow(1), slow(2), slow(3))

        asyncio.run(busy())
        assert traced.tree() == {"invoke_agent busy": {"execute_tool slow": {}, "execute_tool slow #2": {}, "execute_tool slow #3": {}}}


class TestUnavailable:
    """A policy should decide and none can."""

    def test_nothing_runs(self) -> None:
        """Every kind of decorated function is refused."""
        ran: list[int] = []

        @rt.tool
        def work() -> None:
            ran.append(1)

        @rt.agent
        async def agent() -> None:
            ran.append(2)

        with use_active(Unavailable("it was shut down")):
            with pytest.raises(rt.PolicyUnavailable, match="it was shut down"):
                work()
            with pytest.raises(rt.PolicyUnavailable):
                asyncio.run(agent())
            with pytest.raises(rt.PolicyUnavailable), rt.tool("x"):
                ran.append(3)
        assert ran == []

    def test_a_shut_down_guarded_runtime_refuses(self, world: Any) -> None:
        """After shutdown the guarded tools of that runtime do not run unguarded."""
        world.runtime.shutdown()
        with world.runtime.use(), pytest.raises(rt.PolicyUnavailable, match="was shut down"):
            plain(1)


class TestTwice:
    """Decorated twice is one call."""

    def test_options_of_both_count(self, traced: Any) -> None:
        """Name from one, tags and attributes from both."""

        @rt.tool(tags=["b"], attributes={"x": 1})
        @rt.tool("named", tags=["a"], attributes={"y": 2})
        def f() -> None: ...

        f()
        span = traced.one("execute_tool named")
        plan = plan_of(f)
        assert plan is not None
        assert (plan.options.tags, span.attributes["x"], span.attributes["y"]) == (frozenset({"a", "b"}), 1, 2)

    def test_options_that_contradict_are_refused(self) -> None:
        """Nobody can say which of two names was meant."""
        with pytest.raises(TypeError, match=r"`one` is decorated twice, with name=`one` and name=`two`; keep one of the two"):
            rt.tool("two")(rt.tool("one")(lambda: None))

    def test_options_above_another_decorator_are_refused(self) -> None:
        """The decorator inside cannot learn them any more."""

        @rt.tool
        def f() -> None: ...

        @functools.wraps(f)
        def around() -> None:
            return f()

        assert rt.tool(around) is around
        with pytest.raises(TypeError, match="with another decorator between; give all options to one of the two"):
            rt.tool(tags=["a"])(around)

    def test_two_kinds_are_two_spans(self, traced: Any) -> None:
        """An agent that is also a tool is both."""
        rt.agent("a")(rt.tool("t")(lambda: None))()
        assert traced.tree() == {"invoke_agent a": {"execute_tool t": {}}}

    def test_another_decorator_above_is_not_passed_by(self, traced: Any) -> None:
        """The guarded call by name or function runs what it was given, not only what is inside."""
        ran: list[str] = []

        @rt.tool
        def f() -> None:
            ran.append("inside")

        @functools.wraps(f)
        def around() -> None:
            ran.append("around")
            f()

        rt.run_tool(around, {})
        assert ran == ["around", "inside"]


class TestClasses:
    """What a decorated class cannot do is said when it is decorated."""

    def test_a_constructor_returns_no_value(self) -> None:
        """on_refusal= has nothing to put its value into."""
        with pytest.raises(TypeError, match="a constructor cannot return the value of on_refusal="):

            @rt.tool(on_refusal=str)
            class Shop: ...

    def test_builtin_classes_stay_as_they_are(self) -> None:
        """Nobody can change how a dict is made."""
        with pytest.raises(TypeError, match=r"`dict` cannot be decorated: .*; decorate a function that makes the object"):
            rt.tool(dict)

    def test_in_a_tool_loop_it_is_one_call(self, traced: Any) -> None:
        """The guarded call of a decorated class is the call that the class makes anyway, with the provider's id on it."""

        @rt.tool
        class Shop:
            def __init__(self, name: str) -> None:
                self.name = name

        assert (rt.run_tool(Shop, {"name": "a"}, call_id="c1").name, asyncio.run(rt.arun_tool(Shop, {"name": "b"})).name) == ("a", "b")
        assert [span.attributes.get("gen_ai.tool.call.id") for span in traced.spans()] == ["c1", None]

    def test_a_name_is_not_enough(self, traced: Any) -> None:
        """Of which object a method is does not follow from its name; that is said before anything runs."""

        @rt.tool("only_here")
        class Shop:
            def __init__(self, name: str) -> None:
                self.name = name

        with pytest.raises(TypeError, match="`only_here` is a method or a class"):
            rt.run_tool("only_here", {"name": "a"})
        assert traced.names() == []

    def test_a_refused_one_is_not_made(self, world: Any) -> None:
        """No code of the constructor runs before the decision."""
        ran: list[str] = []

        @rt.tool("forbidden")
        class Shop:
            def __new__(cls) -> Self:
                ran.append("new")
                return super().__new__(cls)

            def __init__(self) -> None:
                ran.append("init")

        with pytest.raises(rt.PolicyDenied):
            Shop()
        assert ran == []


class TestRefusedStreams:
    """The decision falls before any code of the function's own."""

    def test_what_returns_something_that_runs(self, world: Any) -> None:
        """At the call for functions, at the await for coroutines, at the first item for generators."""
        ran: list[str] = []

        def returning() -> Any:
            ran.append("sync")
            return later()

        async def later() -> Any:
            ran.append("async")
            return items()

        async def items() -> AsyncIterator[int]:
            ran.append("items")
            yield 1

        def counted() -> Iterator[int]:
            ran.append("counted")
            yield 1

        async def first(source: AsyncIterator[int]) -> int:
            return await anext(source)

        calls: list[Any] = [
            rt.tool("forbidden")(returning),
            lambda: asyncio.run(rt.tool("forbidden")(later)()),
            lambda: asyncio.run(first(rt.tool("forbidden")(items)())),
            lambda: next(rt.tool("forbidden")(counted)()),
            rt.tool("forbidden")(functools.partial(returning)),
        ]
        for call in calls:
            with pytest.raises(rt.PolicyDenied):
                call()
        assert ran == []


class TestUnrecorded:
    """What nobody will see costs nothing."""

    def test_nothing_is_bound(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A call that nothing guards and the sampler drops binds no arguments, whatever its kind."""

        def refuse(*_: object) -> None:
            raise AssertionError

        provider = TracerProvider(sampler=ALWAYS_OFF)
        runtime = build_runtime(Settings(), tracer_provider=provider)
        calls: list[Any] = [decorator(lambda model, text=1: model) for decorator in (rt.tool, rt.model, rt.agent, rt.workflow)]
        monkeypatch.setattr(Binder, "bind", refuse)
        with runtime.use(), runtime:
            assert [call("m") for call in calls] == ["m"] * 4


class TestOptions:
    """Mistakes in a decorator are found when the module loads."""

    def test_unknown_parameters_are_refused(self) -> None:
        """opaque, session and user must name parameters."""
        with pytest.raises(TypeError, match="opaque=`db` names no parameter; the function has `a`"):

            @rt.tool(opaque=["db"])
            def wrong(a: int) -> None: ...

        with pytest.raises(TypeError, match="session=`conversation` names no parameter"):

            @rt.agent(session="conversation")
            def wrong_too(a: int) -> None: ...

    def test_text_is_no_collection(self) -> None:
        """tags="x" would be read as letters."""
        with pytest.raises(TypeError, match=r"tags=\['sends-out'\]"):
            rt.tool(tags="sends-out")

    def test_other_things_are_not_decorated(self) -> None:
        """A number is no function."""
        with pytest.raises(TypeError, match="expected a function to decorate"):
            rt.tool(5)  # type: ignore[call-overload]  # the mistake under test
