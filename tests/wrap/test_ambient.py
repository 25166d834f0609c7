"""What code inside a run may ask of the runtime."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future
from typing import Any

import pytest

import otel_runtime as rt


@rt.tool
def refund(order: str, amount: int = 5) -> str:
    """Pay back."""
    return f"{order}:{amount}"


@rt.tool
def read_by_name(item: str) -> str:
    """Give it back."""
    return item


@rt.tool
async def slow(a: int) -> int:
    """Give it back."""
    return a


class TestRunTool:
    """The guarded call for one's own tool loop."""

    def test_a_decorated_function_by_itself_or_by_name(self, world: Any) -> None:
        """Either way there is one span, with the provider's call id."""
        assert rt.run_tool(refund, {"order": "o1", "amount": 7}, call_id="c1") == "o1:7"
        assert rt.run_tool("read_by_name", {"item": "x"}) == "x"
        assert [span.attributes.get("gen_ai.tool.call.id") for span in world.spans()] == ["c1", None]

    def test_a_plain_function(self, world: Any) -> None:
        """A function nobody decorated is guarded and traced under its name."""

        def plain(a: int) -> int:
            return a

        def secret() -> None:
            raise AssertionError("ran")

        assert rt.run_tool(plain, {"a": 1}) == 1
        with pytest.raises(rt.PolicyDenied):
            rt.run_tool(secret, {})

    def test_a_name_a_model_made_up(self, world: Any) -> None:
        """There is nothing to run; the model is told so."""
        with pytest.raises(rt.PolicyDenied) as caught:
            rt.run_tool("delete_everything", {})
        assert "no tool of that name exists" in caught.value.as_tool_result()

    def test_async(self, world: Any) -> None:
        """arun_tool awaits coroutines and runs plain functions in place; run_tool refuses coroutines."""

        async def program() -> list[Any]:
            return [await rt.arun_tool(slow, {"a": 1}), await rt.arun_tool(refund, {"order": "o1"})]

        assert asyncio.run(program()) == [1, "o1:5"]
        with pytest.raises(TypeError, match="arun_tool"):
            _ = rt.run_tool(slow, {"a": 1})

    def test_a_bound_method(self, world: Any) -> None:
        """Methods run on their object."""

        class Shop:
            @rt.tool
            def read(self, item: str) -> str:
                return f"{type(self).__name__}:{item}"

        assert rt.run_tool(Shop().read, {"item": "x"}) == "Shop:x"
        assert world.names() == ["execute_tool read"]

    def test_unconfigured(self) -> None:
        """Without a runtime it is the plain call."""
        assert rt.run_tool(refund, {"order": "o1"}) == "o1:5"


class TestDecide:
    """Asking without doing."""

    @pytest.mark.parametrize(("amount", "value", "rule"), [(5, "allow", "small"), (500, "require-approval", "large"), (-1, "deny", None)])
    def test_says_what_would_happen(self, world: Any, amount: int, value: str, rule: str | None) -> None:
        """The decision names its rule; nothing runs, nobody is asked."""
        decision = rt.decide(refund, {"order": "o1", "amount": amount})
        assert (decision.value, decision.rule, len(decision.input_digest), world.names(), world.approvals.list()) == (
            value,
            rule,
            64,
            [],
            [],
        )

    def test_reserves_nothing(self, world: Any) -> None:
        """Asking many times does not use up a limit."""

        def limited(n: int) -> int:
            return n

        with rt.session("s1"):
            assert {rt.decide(limited, {"n": 1}).value for _ in range(5)} == {"allow"}

    def test_an_unknown_tool_is_denied(self, world: Any) -> None:
        """A name nobody registered has no rules."""
        assert (rt.decide("made_up", {}).value, rt.decide("made_up", {}).code) == ("deny", "policy.unregistered")

    def test_unconfigured(self) -> None:
        """Without a policy everything is allowed, and the code says why."""
        assert rt.decide("anything").code == "policy.none"


class TestCapability:
    """Named things the host hands out."""

    def test_policy_is_asked(self, make_world: Any) -> None:
        """A handle needs an allow; the default denies."""
        make_world(capabilities={"vault": {"url": "x"}, "printer": 5})
        handle = rt.capability("vault")
        assert (handle.kind, handle.name, handle.value) == ("dict", "vault", {"url": "x"})
        with pytest.raises(rt.PolicyDenied):
            rt.capability("printer")

    def test_a_missing_one_has_its_code(self, world: Any) -> None:
        """Nothing of that name was registered."""
        with pytest.raises(rt.CapabilityNotFound) as caught:
            rt.capability("nothing")
        assert (caught.value.code, caught.value.name) == ("CAPABILITY_NOT_FOUND", "nothing")


class TestEvents:
    """The application's own events."""

    def test_publish_takes_the_session_of_the_running_code(self, traced: Any) -> None:
        """Subscribers get the envelope with its session."""
        seen: list[rt.EventEnvelope] = []
        traced.runtime.on_event("myapp.*")(seen.append)
        with rt.session("s1"):
            rt.publish("myapp.report", {"id": 1})
        assert [(event.kind, event.session_id, event.payload) for event in seen] == [("myapp.report", "s1", {"id": 1})]

    def test_reserved_kinds_are_refused_with_and_without_a_runtime(self, traced: Any) -> None:
        """turn.* belongs to the runtime."""
        with pytest.raises(rt.ReservedKind):
            rt.publish("turn.completed")

    def test_notify_reaches_the_operator(self, traced: Any) -> None:
        """Notifications are events of their own kind."""
        seen: list[Any] = []
        traced.runtime.on_event("operator.notification")(lambda event: seen.append(event.payload))
        rt.notify("Look at this", level="warning", ticket=5)
        assert seen == [{"message": "Look at this", "level": "warning", "ticket": 5}]
        with pytest.raises(ValueError, match="expected level"):
            rt.notify("x", level="loud")


class TestWaitUntil:
    """Work that must be finished before shutdown."""

    def test_is_finished_by_the_flush(self, traced: Any) -> None:
        """A flush returns after the work."""
        done: list[int] = []

        async def work() -> None:
            await asyncio.sleep(0.01)
            done.append(1)

        rt.wait_until(work())
        assert traced.runtime.flush(60) is True
        assert done == [1]

    def test_shutdown_is_bounded(self, traced: Any) -> None:
        """Work that never ends is given up and said so."""
        rt.wait_until(Future())
        assert traced.runtime.shutdown(0.1) is False

    def test_needs_a_runtime(self) -> None:
        """Nobody would wait."""
        with pytest.raises(rt.RuntimeStateError):
            rt.wait_until(Future())


class TestRecordUsage:
    """Usage by hand."""

    def test_outside_of_an_operation_counts_for_the_runtime(self, traced: Any) -> None:
        """Cost is exact and estimated from the price table."""
        record = rt.record_usage({"id": "r", "model": "gpt-4o-mini", "usage": {"prompt_tokens": 1000, "completion_tokens": 100}})
        assert record is not None
        assert record.cost is not None
        assert (str(record.cost.amount), record.cost.estimated, traced.runtime.totals().cost) == (
            "0.00021",
            True,
            {"USD": record.cost.amount},
        )

    @pytest.mark.parametrize("response", [None, 5, "text", {}, object(), {"usage": "x"}])
    def test_what_has_no_usage_is_none(self, traced: Any, response: object) -> None:
        """Nothing is invented."""
        assert rt.record_usage(response) is None
