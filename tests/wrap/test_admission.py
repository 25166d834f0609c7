"""Admission: the body runs only after an allow; any doubt is a refusal with a reason."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import pytest
from opentelemetry.sdk.trace import SpanProcessor

import otel_runtime as rt
from otel_runtime.runtime.runtime import Runtime
from otel_runtime.wrap.active import use_active

RAN: list[Any] = []


@pytest.fixture(autouse=True)
def _nothing_ran() -> None:
    RAN.clear()


@rt.tool
def refund(order: str, amount: int) -> str:
    """Pay back."""
    RAN.append((order, amount))
    return f"refunded {amount}"


@rt.tool
def nuke() -> None:
    """Never allowed."""
    RAN.append("nuke")


@rt.tool
async def fetch(url: str) -> str:
    """Read something untrusted."""
    return url


@rt.tool
def mail(to: str, body: str) -> None:
    """Send a mail."""
    RAN.append(to)


@rt.tool(retry=True)
def limited(n: int) -> int:
    """Rate-limited; tries again."""
    return n


def ticking() -> Callable[[], datetime]:
    """A clock that goes on by a part of the short window each time somebody looks at it, however long the machine takes."""
    looks = count()
    return lambda: datetime(2026, 11, 20, 12, tzinfo=UTC) + next(looks) * timedelta(milliseconds=30)


def active_of(runtime: Runtime) -> Any:
    """The parts of a runtime, to break one of them."""
    return runtime._active


class TestAllow:
    """Calls that a rule allows."""

    def test_runs_with_the_callers_own_objects(self, world: Any) -> None:
        """The function gets the originals, not the snapshot."""

        @rt.tool
        def plain(items: list[int]) -> list[int]:
            return items

        items = [1]
        assert plain(items) is items

    def test_the_decision_rides_on_the_span(self, world: Any) -> None:
        """An allowed call has one span, with rule and policy digest."""
        assert refund("o1", 50) == "refunded 50"
        span = world.one("execute_tool refund")
        assert world.names() == ["execute_tool refund"]
        assert (span.attributes["otel_runtime.policy.decision"], span.attributes["otel_runtime.policy.rule"]) == ("allow", "small")


class TestDeny:
    """Calls that are refused."""

    def test_the_default_denies(self, world: Any) -> None:
        """A tool no rule allows does not run, leaves a decision span and no execute_tool span."""
        with pytest.raises(rt.PolicyDenied) as caught:
            nuke()
        assert (RAN, world.names()) == ([], ["policy deny nuke"])
        span = world.one("policy deny nuke")
        assert span.status.status_code.name == "UNSET"
        assert not {"gen_ai.operation.name", "gen_ai.tool.name"} & set(span.attributes)
        assert json.loads(caught.value.as_tool_result()) == {
            "error": "policy_denied",
            "tool": "nuke",
            "reason": caught.value.reason,
            "retryable": False,
        }

    @pytest.mark.parametrize(
        "args", [{"order": "o", "amount": "50"}, {"order": "o", "amount": True}, {"order": "o"}, {"order": "o", "amount": 5, "x": 1}]
    )
    def test_arguments_that_do_not_fit_are_denied_before_any_rule(self, world: Any, args: dict[str, Any]) -> None:
        """A model's mistyped, missing or extra arguments never reach a rule, nor a person."""
        with pytest.raises(rt.PolicyDenied, match="do not fit"):
            rt.run_tool(refund, args)
        assert RAN == []

    def test_a_denial_that_ends_the_run_marks_the_agent(self, world: Any) -> None:
        """The agent's span is an error of type policy_denied."""

        @rt.agent
        def helper() -> None:
            nuke()

        with pytest.raises(rt.PolicyDenied):
            helper()
        assert world.one("invoke_agent helper").attributes["error.type"] == "policy_denied"

    def test_is_recorded_where_nobody_can_edit_it(self, world: Any) -> None:
        """The audit log has the refusal, and verifies."""
        with pytest.raises(rt.PolicyDenied), rt.session("s1", user="carla"):
            nuke()
        (event,) = [event for event in world.approvals.audit.events() if event.kind == "decision"]
        assert (event.subject, (payload := json.loads(event.payload))["decision"], payload["user"]) == ("nuke", "deny", "carla")
        assert world.approvals.audit.verify().sound

    def test_after_untrusted_content(self, world: Any) -> None:
        """A label that one tool puts on the session closes another."""
        with rt.session("s1"):
            mail("a@corp.example", "hi")
            asyncio.run(fetch("http://x"))
            with pytest.raises(rt.PolicyDenied, match="untrusted"):
                mail("b@corp.example", "hi")
        assert RAN == ["a@corp.example"]

    def test_without_a_session_its_facts_are_unknown(self, world: Any) -> None:
        """A deny that asks for a session label binds where there is no session."""
        with pytest.raises(rt.PolicyDenied):
            mail("a@corp.example", "hi")
        assert RAN == []

    def test_on_refusal_turns_it_into_a_value(self, world: Any) -> None:
        """The tool's own function answers instead of an exception."""

        @rt.tool("nuke", on_refusal=lambda error: f"refused: {type(error).__name__}")
        def nuke_politely() -> str:
            return "boom"

        @rt.tool("nuke", on_refusal=lambda error: iter(["refused"]))
        def nuke_in_steps() -> Iterator[str]:
            yield "boom"

        @rt.tool("nuke", on_refusal=lambda error: "refused")
        async def nuke_later() -> str:
            return "boom"

        assert (nuke_politely(), list(nuke_in_steps()), asyncio.run(nuke_later())) == ("refused: PolicyDenied", ["refused"], "refused")


class TestWrongCalls:
    """Calls that Python itself would refuse."""

    def test_keep_pythons_words(self, world: Any) -> None:
        """A missing argument is the function's own TypeError, and nothing ran."""
        with pytest.raises(TypeError, match=r"refund\(\) missing 1 required positional argument: 'amount'"):
            refund("o1")  # type: ignore[call-arg]  # the mistake under test
        assert RAN == []

    def test_a_signature_that_lies_does_not_open_a_door(self, world: Any) -> None:
        """Where the shown signature is not the real one, a call that does not fit it never runs."""

        def hidden(*args: Any, **kwargs: Any) -> None:
            RAN.append(args)

        hidden.__signature__ = __import__("inspect").signature(lambda a: None)  # type: ignore[attr-defined]  # the lie under test
        guarded = rt.tool("plain")(hidden)
        with pytest.raises(TypeError):
            guarded(1, 2, 3)
        assert RAN == []

    def test_defaults_changed_later_do_not_open_a_door(self, world: Any) -> None:
        """A function whose defaults were changed after decoration is not run undecided."""

        def changing(a: int) -> None:
            RAN.append(a)

        guarded = rt.tool("plain")(changing)
        changing.__defaults__ = (5,)
        with pytest.raises(TypeError):
            guarded()  # type: ignore[call-arg]  # the mistake under test
        assert RAN == []


class TestRetry:
    """Retryable failures."""

    def test_waits_and_runs(self, make_world: Any) -> None:
        """A tool with retry=True waits as the rule says and then runs, with an event per attempt."""
        world = make_world(clock=ticking())
        with rt.session("s1"):
            assert [limited(1), limited(2)] == [1, 2]
        second = world.spans()[-1]
        assert second.name == "execute_tool limited"
        assert "otel_runtime.attempt" in [event.name for event in second.events]

    def test_on_an_event_loop(self, make_world: Any) -> None:
        """An asynchronous tool waits without blocking the loop."""
        make_world(clock=ticking())

        @rt.tool("limited", retry=True)
        async def limited_later(n: int) -> int:
            return n

        async def program() -> list[int]:
            with rt.session("s2"):
                return [await limited_later(1), await limited_later(2)]

        assert asyncio.run(program()) == [1, 2]

    def test_a_blocking_tool_on_an_event_loop_fails_at_once(self, make_world: Any) -> None:
        """A synchronous call never blocks a running loop."""
        make_world(ONCE)

        async def program() -> None:
            with rt.session("s3"):
                limited(1)
                limited(2)

        with pytest.raises(rt.RetryableFailure) as caught:
            asyncio.run(program())
        assert (caught.value.attempt, caught.value.retry_class, caught.value.retryable) == (1, "rate", True)

    def test_without_retry_the_caller_is_told(self, make_world: Any) -> None:
        """A tool that does not ask for retries raises the failure with its wait."""
        make_world(ONCE)

        @rt.tool("limited")
        def limited_once(n: int) -> int:
            return n

        with rt.session("s4"):
            limited_once(1)
            with pytest.raises(rt.RetryableFailure) as caught:
                limited_once(2)
        assert json.loads(caught.value.as_tool_result())["retry_after_s"] == 0.1

    def test_the_tools_own_retryable_failures_are_retried_in_one_span(self, traced: Any) -> None:
        """A body that says retryable-failure runs again, under one span with an event per attempt."""

        @rt.tool(retry=True)
        def flaky() -> str:
            RAN.append(1)
            if len(RAN) < 3:
                raise rt.RetryableFailure("the dependency is down", retry_after_s=0.001, max_attempts=5)
            return "ok"

        assert flaky() == "ok"
        span = traced.one("execute_tool flaky")
        assert [event.attributes["otel_runtime.attempt.number"] for event in span.events] == [1, 2]

    def test_attempts_are_bounded(self, traced: Any) -> None:
        """The last attempt's error reaches the caller."""

        @rt.tool(retry=True)
        async def flaky() -> None:
            RAN.append(1)
            raise rt.RetryableFailure("down", retry_after_s=0.001, max_attempts=3)

        with pytest.raises(rt.RetryableFailure):
            asyncio.run(flaky())
        assert len(RAN) == 3


class TestFailClosed:
    """Whatever breaks, a guarded body does not run."""

    @pytest.mark.parametrize("part", ["governs", "needs", "decide"])
    def test_an_engine_that_raises(self, world: Any, part: str) -> None:
        """A failing engine refuses with PolicyUnavailable and its cause."""
        active = active_of(world.runtime)
        real = active.guard.engine

        class Broken:
            digest = ""
            governs = real.governs
            needs = real.needs
            decide = real.decide

        def broken(*args: Any, **kwargs: Any) -> Any:
            raise ZeroDivisionError("engine")

        engine = Broken()
        setattr(engine, part, broken)
        with use_active(replace(active, guard=replace(active.guard, engine=engine))), pytest.raises(rt.PolicyUnavailable) as caught:
            refund("o1", 5)
        assert isinstance(caught.value.__cause__, ZeroDivisionError)
        assert RAN == []

    def test_an_audit_that_fails_does_not_let_a_denied_call_run(self, world: Any) -> None:
        """The refusal stands even when it cannot be recorded."""
        world.approvals.database.close()
        with pytest.raises(rt.PolicyDenied):
            nuke()
        assert RAN == []

    def test_a_store_that_fails_does_not_let_an_unapproved_call_run(self, world: Any) -> None:
        """Without the store nobody can approve, so nothing runs."""
        world.approvals.database.close()
        with pytest.raises(rt.PolicyUnavailable):
            refund("o1", 500)
        assert RAN == []

    @pytest.mark.parametrize("when", ["on_start", "on_end"])
    def test_broken_telemetry_does_not_touch_the_decision(self, world: Any, when: str) -> None:
        """A span processor that raises changes neither results nor refusals."""
        called: list[str] = []

        class Raising(SpanProcessor):
            def on_start(self, span: Any, parent_context: Any = None) -> None:
                self.fail("on_start")

            def on_end(self, span: Any) -> None:
                self.fail("on_end")

            def fail(self, where: str) -> None:
                called.append(where)
                if where == when:
                    raise RuntimeError("processor")

        world.provider.add_span_processor(Raising())
        assert refund("o1", 50) == "refunded 50"
        with pytest.raises(rt.PolicyDenied):
            nuke()
        assert [("o1", 50)] == RAN
        assert when in called

    def test_arguments_changed_between_decision_and_body(self, world: Any) -> None:
        """A list that another thread changes after the decision stops the call."""
        active = active_of(world.runtime)
        items = [1]

        @rt.tool
        def plain(items: list[int]) -> None:
            RAN.append(items)

        class Meddling:
            digest = ""
            governs = active.guard.engine.governs
            needs = active.guard.engine.needs

            def decide(self, *args: Any, **kwargs: Any) -> Any:
                ruling = active.guard.engine.decide(*args, **kwargs)
                items.append(2)
                return ruling

        with use_active(replace(active, guard=replace(active.guard, engine=Meddling()))), pytest.raises(rt.ArgumentsChanged):
            plain(items)
        assert RAN == []


ONCE = """
version: 1
name: once
default: deny
rules:
  - {id: rate, tool: limited, over: {calls: 1, by: session, per: 1h}, decision: retryable-failure, retry: {after: 100ms, max_attempts: 9}}
  - {id: limited, tool: limited, decision: allow}
"""


class TestBudgets:
    """Limits over calls and money."""

    def test_parallel_calls_never_jointly_pass_a_limit(self, make_world: Any) -> None:
        """Of fifty threads at once, as many run as the limit allows."""
        allowed: list[int] = []
        gate = threading.Barrier(50)
        world = make_world(ONCE)

        @rt.tool("limited")
        def limited_once(n: int) -> None:
            allowed.append(n)

        def work(n: int) -> None:
            with world.runtime.use(), rt.session("shared"):
                gate.wait()
                try:
                    limited_once(n)
                except rt.RetryableFailure:
                    return

        threads = [threading.Thread(target=work, args=(n,)) for n in range(50)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(allowed) == 1

    def test_a_models_cost_is_settled_and_the_next_call_denied(self, world: Any) -> None:
        """The reserve is replaced by the real cost; a spent budget denies."""

        @rt.model("gpt-4o-mini", provider="openai")
        def think() -> dict[str, Any]:
            return {"id": "r", "model": "gpt-4o-mini", "choices": [], "usage": {"prompt_tokens": 1000, "completion_tokens": 100}}

        with rt.session("s5"):
            think()
            with pytest.raises(rt.PolicyDenied, match="budget"):
                think()
