"""Operations as `with` blocks, sync and async."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import otel_runtime as rt


class TestTool:
    """A guarded block."""

    def test_runs_when_allowed(self, world: Any) -> None:
        """The block names its arguments, which the rules read."""
        with rt.tool("refund", args={"amount": 50}) as call:
            call.set_result("done")
            assert call.trace is not None
        assert world.names() == ["execute_tool refund"]

    def test_does_not_run_when_denied(self, world: Any) -> None:
        """The refusal is raised by the `with` line; the block is never entered."""
        ran = []
        with pytest.raises(rt.PolicyDenied), rt.tool("nuke", args={}):
            ran.append(1)
        assert (ran, world.names()) == ([], ["policy deny nuke"])

    def test_async(self, world: Any) -> None:
        """The same with `async with`."""

        async def program() -> None:
            async with rt.tool("refund", args={"amount": 50}):
                await asyncio.sleep(0)
            with pytest.raises(rt.PolicyDenied):
                async with rt.tool("nuke", args={}):
                    raise AssertionError("entered")

        asyncio.run(program())
        assert world.names() == ["execute_tool refund", "policy deny nuke"]

    def test_finds_its_approval_again(self, make_world: Any) -> None:
        """A block that suspended is entered when the same run makes the same call after the answer."""
        world = make_world(wait_at_most=0)
        with rt.session("s1", user="carla"), pytest.raises(rt.ApprovalPending) as caught, rt.tool("refund", args={"amount": 500}):
            raise AssertionError("entered")
        world.approvals.answer(caught.value.request_id, approver="os:alice", approved=True)
        with rt.session("s1", user="carla"), rt.tool("refund", args={"amount": 500}) as call:
            assert call.approval_id == caught.value.request_id
        assert world.approvals.get(caught.value.request_id).state == "completed"

    def test_an_error_inside_is_recorded_and_raised(self, world: Any) -> None:
        """The block's own exception passes through."""
        with pytest.raises(ValueError, match="boom"), rt.tool("refund", args={"amount": 50}):
            raise ValueError("boom")
        assert world.one("execute_tool refund").attributes["error.type"] == "ValueError"

    @pytest.mark.parametrize("options", [{"retry": True}, {"on_refusal": str}])
    def test_what_a_block_cannot_do_is_refused(self, options: dict[str, Any]) -> None:
        """A block can neither be repeated nor replaced by a value."""
        with pytest.raises(TypeError, match="use a decorated function"), rt.tool("x", **options):
            raise AssertionError("entered")

    def test_needs_a_name(self) -> None:
        """A block has no function to take a name from."""
        with pytest.raises(TypeError, match="needs a name"), rt.tool():
            raise AssertionError("entered")

    def test_passes_through_unconfigured(self) -> None:
        """Without a runtime the block just runs."""
        with rt.tool("x", args={"a": 1}) as call:
            call.set_result(1)
        assert call.trace is None


class TestOthers:
    """Agents, workflows and models as blocks."""

    def test_nest(self, traced: Any) -> None:
        """Blocks and decorated functions make one tree."""

        @rt.tool
        def look() -> None: ...

        with rt.workflow("nightly"), rt.agent("helper"), rt.model("gpt-4o-mini", provider="openai") as call:
            record = call.record_usage({"id": "r", "usage": {"prompt_tokens": 5, "completion_tokens": 1}})
            look()
        assert record is not None
        assert traced.tree() == {"invoke_workflow nightly": {"invoke_agent helper": {"chat gpt-4o-mini": {"execute_tool look": {}}}}}
        assert traced.one("invoke_agent helper").attributes["gen_ai.usage.input_tokens"] == 5

    def test_totals_flow_to_every_agent_around_and_are_counted_once(self, traced: Any) -> None:
        """A sub-agent's usage is in its own sums, its caller's and the runtime's."""

        def use(tokens: int) -> None:
            with rt.model("m"):
                rt.record_usage({"id": f"r{tokens}", "usage": {"prompt_tokens": tokens, "completion_tokens": 1}})

        with rt.agent("outer"):
            use(5)
            with rt.agent("inner"):
                use(7)
                rt.record_usage({"id": "r7", "usage": {"prompt_tokens": 7, "completion_tokens": 1}})
        sums = {name: traced.one(f"invoke_agent {name}").attributes["gen_ai.usage.input_tokens"] for name in ("outer", "inner")}
        assert (sums, traced.runtime.totals().input_tokens) == ({"outer": 12, "inner": 7}, 12)
