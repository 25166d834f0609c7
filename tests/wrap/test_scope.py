"""Sessions, users, facts and call ids around calls."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import otel_runtime as rt
from otel_runtime.wrap.scope import current_scope


class TestSession:
    """`rt.session(...)`."""

    def test_says_who_acts(self) -> None:
        """Id, user, roles and facts are those given, inside only."""
        with rt.session("s1", user="carla", roles=["support"], tenant="t1", risk="high"):
            scope = current_scope()
            assert (scope.session, scope.user, scope.roles, scope.tenant, dict(scope.context)) == (
                "s1",
                "carla",
                frozenset({"support"}),
                "t1",
                {"risk": "high"},
            )
        assert current_scope().session is None

    def test_nested_ones_add_facts_and_keep_the_user(self) -> None:
        """What is not given anew is inherited."""
        with rt.session("s1", user="carla", roles=["support"], risk="low", region="eu"), rt.session("s2", risk="high"):
            scope = current_scope()
            assert (scope.session, scope.user, scope.roles, dict(scope.context)) == (
                "s2",
                "carla",
                frozenset({"support"}),
                {"risk": "high", "region": "eu"},
            )

    def test_another_user_does_not_inherit_roles(self) -> None:
        """Roles belong to a person."""
        with rt.session("s1", user="carla", roles=["admin"]), rt.session("s1", user="bob"):
            assert current_scope().roles is None

    def test_async(self) -> None:
        """Works in `async with` and does not leak into other tasks."""

        async def inside(name: str) -> str | None:
            async with rt.session(name):
                await asyncio.sleep(0)
                return current_scope().session

        async def program() -> list[str | None]:
            return [*await asyncio.gather(inside("a"), inside("b")), current_scope().session]

        assert asyncio.run(program()) == ["a", "b", None]

    @pytest.mark.parametrize("wrong", ["", None, 5])
    def test_needs_an_id(self, wrong: Any) -> None:
        """An empty session is no session."""
        with pytest.raises(TypeError, match="expected a session id"):
            rt.session(wrong)

    def test_roles_are_no_text(self) -> None:
        """roles="admin" would be five roles of one letter."""
        with pytest.raises(TypeError, match="expected a collection of role names"):
            rt.session("s", roles="admin")

    def test_becomes_the_conversation_id(self, traced: Any) -> None:
        """Spans carry it only when there is one."""

        @rt.agent
        def helper() -> None: ...

        helper()
        with rt.session("s1"):
            helper()
        first, second = traced.spans()
        assert ("gen_ai.conversation.id" in first.attributes, second.attributes["gen_ai.conversation.id"]) == (False, "s1")

    def test_from_an_argument(self, traced: Any) -> None:
        """An agent's argument can be the session and the user."""

        @rt.agent(session="conversation_id", user="who")
        def helper(conversation_id: str, who: str) -> tuple[str | None, str | None]:
            return current_scope().session, current_scope().user

        assert helper("c1", who="carla") == ("c1", "carla")
        assert traced.one("invoke_agent helper").attributes["gen_ai.conversation.id"] == "c1"


class TestCall:
    """`rt.call(id=...)`."""

    def test_reaches_the_span_of_the_next_call_only(self, traced: Any) -> None:
        """The provider's id is on the tool it is for, not on tools inside it."""

        @rt.tool
        def inner() -> None: ...

        @rt.tool
        def outer() -> None:
            inner()

        with rt.call(id="call_1"):
            outer()
        ids = {span.name: span.attributes.get("gen_ai.tool.call.id") for span in traced.spans()}
        assert ids == {"execute_tool outer": "call_1", "execute_tool inner": None}


class TestRun:
    """The run around agents."""

    def test_hooks_see_one_request_and_one_finish_per_run(self, traced: Any) -> None:
        """Nested agents belong to the run of the outermost."""
        seen: list[tuple[str, str]] = []
        for name in ("request", "finish"):
            traced.runtime.on(name)(lambda ctx, name=name: seen.append((name, ctx.request)))

        @rt.agent
        def inner() -> None: ...

        @rt.agent
        def outer() -> None:
            inner()

        outer()
        assert seen == [("request", "agent outer"), ("finish", "agent outer")]

    def test_a_failed_run_calls_error_and_finish(self, traced: Any) -> None:
        """The error hook gets the exception itself; the run still finishes."""
        seen: list[Any] = []
        traced.runtime.on("error")(lambda error, ctx: seen.append(error))
        traced.runtime.on("finish")(lambda ctx: seen.append(ctx.request))
        raised = ValueError("boom")

        @rt.agent
        def helper() -> None:
            raise raised

        with pytest.raises(ValueError, match="boom"):
            helper()
        assert seen == [raised, "agent helper"]

    def test_the_memo_lives_as_long_as_the_run(self, traced: Any) -> None:
        """Hooks can keep their own things between request and finish."""
        traced.runtime.on("request")(lambda ctx: ctx.memo.update(started=True))
        seen: list[Any] = []
        traced.runtime.on("finish")(lambda ctx: seen.append(dict(ctx.memo)))

        @rt.agent
        def helper() -> None: ...

        helper()
        helper()
        assert seen == [{"started": True}, {"started": True}]

    def test_trace_observers_see_native_work(self, world: Any) -> None:
        """Decorated calls, decisions and runs reach the trace hook as TraceEvents."""
        seen: list[tuple[str, str]] = []
        world.runtime.on("trace")(lambda event, ctx: seen.append((event.name, event.type)))

        @rt.tool
        def nuke() -> None: ...

        @rt.agent
        def helper() -> None:
            with pytest.raises(rt.PolicyDenied):
                nuke()

        helper()
        assert seen == [("agent.start", "run"), ("policy.decision", "policy"), ("agent.finish", "run")]

    def test_usage_is_told_right_before_the_finish(self, traced: Any) -> None:
        """The Agent Usage Record of a run comes once, when there is one."""
        seen: list[Any] = []
        traced.runtime.on("trace")(lambda event, ctx: seen.append((event.name, event.attributes.get("usage.total.input_tokens"))))
        with rt.agent("helper"):
            rt.record_usage({"id": "r", "usage": {"prompt_tokens": 7, "completion_tokens": 1}})
        assert seen == [("agent.start", None), ("usage.summary", 7), ("agent.finish", None)]

    def test_usage_of_an_agent_inside_of_a_run_is_told_with_the_run(self, traced: Any) -> None:
        """Whoever adds up the records of a run counts no token twice."""
        seen: list[Any] = []
        traced.runtime.on("trace")(lambda event, ctx: seen.append((event.name, event.attributes.get("usage.total.input_tokens"))))
        with rt.agent("outer"):
            rt.record_usage({"id": "r1", "usage": {"prompt_tokens": 7, "completion_tokens": 1}})
            with rt.agent("inner"):
                rt.record_usage({"id": "r2", "usage": {"prompt_tokens": 5, "completion_tokens": 1}})
        told = [("agent.start", None), ("agent.start", None), ("agent.finish", None), ("usage.summary", 12), ("agent.finish", None)]
        assert told == seen

    def test_a_raising_hook_changes_nothing(self, traced: Any) -> None:
        """Observers never change a call."""

        def fail(*args: Any) -> None:
            raise RuntimeError("observer")

        for name in ("request", "trace", "finish"):
            traced.runtime.on(name)(fail)

        @rt.agent
        def helper() -> int:
            return 5

        assert helper() == 5
        assert traced.runtime.report()["hook_errors"]["finish"] == 1
