"""Approvals in calls: ask, wait, suspend, resume, exactly once."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import otel_runtime as rt
from otel_runtime.runtime.redeciding import redecide_with

RAN: list[Any] = []


@pytest.fixture(autouse=True)
def _nothing_ran() -> None:
    RAN.clear()


@rt.tool
def refund(order: str, amount: int) -> str:
    """Pay back."""
    RAN.append((order, amount))
    return f"refunded {amount}"


@rt.tool("refund")
async def refund_later(order: str, amount: int) -> str:
    """Pay back."""
    RAN.append((order, amount))
    return f"refunded {amount}"


def answer_when_asked(
    world: Any, *, approved: bool = True, edits: dict[str, object] | None = None, before: Callable[[], None] | None = None
) -> threading.Thread:
    """A second person, who answers the next request."""

    def answer() -> None:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            for request in world.approvals.list(["awaiting-approval"]):
                if before is not None:
                    before()
                redecide = redecide_with(world.runtime.policy.engine, world.runtime._active.clock)
                world.approvals.answer(request.id, approver="os:alice", approved=approved, reason="seen", edits=edits, redecide=redecide)
                return
            time.sleep(0.01)

    thread = threading.Thread(target=answer)
    thread.start()
    return thread


@pytest.fixture
def patient(make_world: Any) -> Any:
    """A runtime whose calls wait for longer than any answer takes."""
    return make_world(wait_at_most=100)


def pending(world: Any, amount: int = 500, call_id: str | None = None) -> rt.ApprovalPending:
    """A refund that nobody has answered."""
    with rt.session("s1", user="carla"), pytest.raises(rt.ApprovalPending) as caught:
        rt.run_tool(refund, {"order": "o1", "amount": amount}, call_id=call_id)
    return caught.value


def approve(world: Any, request_id: str) -> None:
    """Alice says yes."""
    world.approvals.answer(request_id, approver="os:alice", approved=True)


class TestWait:
    """A call that waits for its answer."""

    def test_an_approved_call_runs(self, patient: Any) -> None:
        """The body runs once, and the trace tells the story."""
        person = answer_when_asked(patient)
        with rt.session("s1", user="carla"):
            assert refund("o1", 500) == "refunded 500"
        person.join()
        (request,) = patient.approvals.list()
        assert (RAN, request.state) == ([("o1", 500)], "completed")
        # Viewers sort by start.
        assert patient.names() == [
            "policy require-approval refund",
            "approval requested refund",
            "approval approved refund",
            "execute_tool refund",
        ]
        resolved, requested = patient.one("approval approved refund"), patient.one("approval requested refund")
        assert [link.context.span_id for link in resolved.links] == [requested.context.span_id]
        assert [link.context.span_id for link in patient.one("execute_tool refund").links] == [resolved.context.span_id]

    def test_an_approved_coroutine_runs(self, patient: Any) -> None:
        """An asynchronous call waits without blocking its loop."""
        ticked = threading.Semaphore(0)

        async def program() -> str:
            async def tick() -> None:
                while True:
                    ticked.release()
                    await asyncio.sleep(0.005)

            ticking = asyncio.create_task(tick())
            with rt.session("s1", user="carla"):
                result = await refund_later("o1", 500)
            ticking.cancel()
            return result

        def watch() -> None:
            # What ticked before the question does not count.
            while ticked.acquire(blocking=False):
                pass
            turned.extend(ticked.acquire(timeout=60) for _ in range(5))

        turned: list[bool] = []
        person = answer_when_asked(patient, before=watch)
        result = asyncio.run(program())
        person.join()
        assert (result, turned) == ("refunded 500", [True] * 5)

    def test_a_generator_asks_at_its_first_item(self, patient: Any) -> None:
        """Making the generator asks nobody; iterating it does."""

        @rt.tool("refund")
        def refund_in_steps(order: str, amount: int) -> Iterator[int]:
            yield amount

        steps = refund_in_steps("o1", 500)
        assert patient.approvals.list() == []
        person = answer_when_asked(patient)
        assert list(steps) == [500]
        person.join()

    def test_a_denied_call_does_not_run(self, patient: Any) -> None:
        """The error names who said no, and why."""
        person = answer_when_asked(patient, approved=False)
        with pytest.raises(rt.ApprovalDenied, match="seen") as caught:
            refund("o1", 500)
        person.join()
        assert (RAN, caught.value.approver, caught.value.error_type) == ([], "os:alice", "approval_denied")
        assert "execute_tool refund" not in patient.names()

    def test_one_of_three_parallel_calls_rejected(self, make_world: Any) -> None:
        """The others go on."""
        world = make_world(wait_at_most=100)

        def person() -> None:
            answered: set[str] = set()
            deadline = time.monotonic() + 60
            while len(answered) < 3 and time.monotonic() < deadline:
                for request in world.approvals.list(["awaiting-approval"]):
                    world.approvals.answer(request.id, approver="os:alice", approved=request.input["amount"] != 600)
                    answered.add(request.id)
                time.sleep(0.01)

        async def program() -> list[Any]:
            with rt.session("s1", user="carla"):
                return await asyncio.gather(*(refund_later("o1", amount) for amount in (500, 600, 700)), return_exceptions=True)

        thread = threading.Thread(target=person)
        thread.start()
        results = asyncio.run(program())
        thread.join()
        assert [type(result).__name__ for result in results] == ["str", "ApprovalDenied", "str"]

    def test_an_edit_reaches_the_function(self, patient: Any) -> None:
        """The approver lowers the amount; the function gets what was approved."""
        person = answer_when_asked(patient, edits={"amount": 400})
        assert refund("o1", 500) == "refunded 400"
        person.join()
        assert RAN == [("o1", 400)]

    def test_an_argument_mutated_while_waiting(self, patient: Any) -> None:
        """An approval covers exactly the arguments that were shown."""

        @rt.tool("refund", opaque=[])
        def refund_lines(order: list[str], amount: int) -> None:
            RAN.append(order)

        order = ["o1"]
        person = answer_when_asked(patient, before=lambda: order.append("o2"))
        with pytest.raises(rt.ArgumentsChanged):
            refund_lines(order, 500)
        person.join()
        assert RAN == []

    def test_hooks_are_told(self, patient: Any) -> None:
        """The approval hook gets the request with its context."""
        seen: list[Any] = []
        patient.runtime.on("approval")(lambda request, ctx: seen.append((request.capability, ctx.session)))
        person = answer_when_asked(patient)
        with rt.session("s1", user="carla"):
            refund("o1", 500)
        person.join()
        assert seen == [("refund", "s1")]


class TestSuspend:
    """A call that no longer waits."""

    def test_raises_with_the_request(self, world: Any) -> None:
        """After its time the call raises ApprovalPending and the request stays open."""
        error = pending(world)
        assert world.approvals.get(error.request_id).state == "awaiting-approval"
        assert (RAN, error.tool) == ([], "refund")

    def test_a_synchronous_call_never_blocks_a_loop(self, patient: Any) -> None:
        """On a running event loop it suspends at once."""

        async def program() -> float:
            before = time.monotonic()
            with pytest.raises(rt.ApprovalPending):
                refund("o1", 500)
            return time.monotonic() - before

        # It would have waited for a hundred.
        assert asyncio.run(program()) < 50

    def test_the_same_call_of_a_restarted_run_finds_its_request(self, make_world: Any) -> None:
        """The provider's call id, or the position in the run, names the call."""
        world = make_world(wait_at_most=0)
        first, second = pending(world, call_id="c1"), pending(world, call_id="c1")
        third, fourth = pending(world), pending(world)
        assert (first.request_id, third.request_id) == (second.request_id, fourth.request_id)
        assert first.request_id != third.request_id
        approve(world, first.request_id)
        with rt.session("s1", user="carla"):
            assert rt.run_tool(refund, {"order": "o1", "amount": 500}, call_id="c1") == "refunded 500"
        assert len(RAN) == 1

    def test_a_used_approval_is_not_used_again(self, make_world: Any) -> None:
        """The same call after its execution is a new question."""
        world = make_world(wait_at_most=0)
        first = pending(world, call_id="c1")
        approve(world, first.request_id)
        with rt.session("s1", user="carla"):
            rt.run_tool(refund, {"order": "o1", "amount": 500}, call_id="c1")
        assert pending(world, call_id="c1").request_id != first.request_id
        assert len(RAN) == 1

    def test_other_arguments_are_another_question(self, make_world: Any) -> None:
        """Approving one call says nothing of another under the same call id."""
        world = make_world(wait_at_most=0)
        first = pending(world, 500, call_id="c1")
        approve(world, first.request_id)
        assert pending(world, 501, call_id="c1").request_id != first.request_id
        assert RAN == []

    def test_what_cannot_be_shown_cannot_be_approved(self, world: Any) -> None:
        """An argument without a plain form is refused, with the mend."""

        @rt.tool("refund")
        def refund_thing(thing: object, amount: int) -> None:
            RAN.append(thing)

        with pytest.raises(rt.PolicyDenied, match="opaque"):
            refund_thing(object(), 500)
        assert world.approvals.list() == []


class TestResume:
    """Going on after the answer."""

    def test_runs_once(self, world: Any) -> None:
        """The first resume runs the body, the second is refused."""
        error = pending(world)
        with pytest.raises(rt.ApprovalPending):
            world.runtime.resume(error.request_id)
        approve(world, error.request_id)
        assert world.runtime.resume(error.request_id) == "refunded 500"
        with pytest.raises(rt.ApprovalDenied, match="already completed"):
            world.runtime.resume(error.request_id)
        assert RAN == [("o1", 500)]

    def test_many_at_once_run_once(self, world: Any) -> None:
        """Of eight threads that resume together, one runs the body."""
        error = pending(world)
        approve(world, error.request_id)
        gate = threading.Barrier(8)

        def work() -> str:
            gate.wait()
            try:
                return str(world.runtime.resume(error.request_id))
            except rt.ApprovalDenied:
                return "refused"

        with ThreadPoolExecutor(8) as pool:
            results = [task.result() for task in [pool.submit(work) for _ in range(8)]]
        assert (min(results), results.count("refused"), len(RAN)) == ("refunded 500", 7, 1)

    def test_stays_in_its_trace(self, world: Any) -> None:
        """The resumed execution has the original caller as parent."""

        @rt.agent
        def helper() -> None:
            refund("o1", 500)

        with rt.session("s1", user="carla"), pytest.raises(rt.ApprovalPending) as caught:
            helper()
        approve(world, caught.value.request_id)
        world.runtime.resume(caught.value.request_id)
        agent, tool = world.one("invoke_agent helper"), world.one("execute_tool refund")
        assert (tool.context.trace_id, tool.parent.span_id) == (agent.context.trace_id, agent.context.span_id)

    def test_requirements_changed_meanwhile_ask_again(self, make_world: Any) -> None:
        """New terms make a new, linked request; the old answer is void."""
        world = make_world(wait_at_most=0)
        error = pending(world)
        approve(world, error.request_id)
        text = Path(world.runtime.settings.policy[0]).read_text().replace("expires: 1h, edit: [amount]", "quorum: 2, expires: 1h")
        stricter = make_world(policy=text, wait_at_most=0)
        with pytest.raises(rt.ApprovalPending) as caught:
            stricter.runtime.resume(error.request_id)
        old, new = stricter.approvals.get(error.request_id), stricter.approvals.get(caught.value.request_id)
        assert (old.state, new.state, new.supersedes, RAN) == ("superseded", "awaiting-approval", old.id, [])

    def test_a_comment_in_the_policy_voids_nothing(self, make_world: Any) -> None:
        """Only rules and terms count."""
        world = make_world()
        error = pending(world)
        approve(world, error.request_id)
        commented = make_world(policy=Path(world.runtime.settings.policy[0]).read_text() + "\n# a comment\n")
        assert commented.runtime.resume(error.request_id) == "refunded 500"

    def test_a_denial_by_the_new_policy_leaves_the_call_unrun(self, make_world: Any) -> None:
        """Policy tightened in between: deny wins over an approval."""
        world = make_world()
        error = pending(world)
        approve(world, error.request_id)
        text = Path(world.runtime.settings.policy[0]).read_text() + "  - {id: stop, tool: refund, decision: deny, reason: Closed.}\n"
        closed = make_world(policy=text)
        with pytest.raises(rt.PolicyDenied, match="Closed"):
            closed.runtime.resume(error.request_id)
        assert RAN == []

    def test_unknown_requests_and_functions_teach(self, world: Any) -> None:
        """A wrong id and a closure say what to do."""
        with pytest.raises(rt.OtelRuntimeError, match="no approval request `ff`"):
            world.runtime.resume("ff")

        @rt.tool("refund")
        def refund_here(note: str, amount: int) -> None:
            RAN.append(note)

        with pytest.raises(rt.ApprovalPending) as caught:
            refund_here("x", 500)
        with pytest.raises(rt.OtelRuntimeError, match=r"refund_here` of tool `refund`, which approval .* is not to be found here"):
            world.runtime.resume(caught.value.request_id)

    def test_a_coroutine_is_resumed_with_await(self, world: Any) -> None:
        """Aresume runs asynchronous functions; resume says so."""

        async def ask() -> None:
            with rt.session("s1", user="carla"):
                await refund_later("o1", 500)

        with pytest.raises(rt.ApprovalPending) as caught:
            asyncio.run(ask())
        approve(world, caught.value.request_id)
        with pytest.raises(rt.OtelRuntimeError, match="aresume"):
            world.runtime.resume(caught.value.request_id)
        assert asyncio.run(world.runtime.aresume(caught.value.request_id)) == "refunded 500"


class TestAcrossProcesses:
    """One process asks and dies, another answers, a third goes on."""

    def test_killed_while_waiting_and_resumed_elsewhere(self, tmp_path: Path) -> None:
        """Kill -9 of the waiting process loses nothing; the refund happens exactly once."""
        (tmp_path / "policy.yaml").write_text(
            "version: 1\nname: p\ndefault: deny\nrules:\n"
            "  - {id: large, tool: refund, decision: require-approval, approval: {approvers: [anyone], expires: 1h}}\n"
        )
        (tmp_path / "shop.py").write_text(
            "import sys, otel_runtime as rt\n"
            "runtime = rt.configure(policy='policy.yaml', state='state/s.db', wait_at_most='150s', otlp='off')\n"
            "@rt.tool\n"
            "def refund(order: str, amount: int) -> str:\n"
            "    with open('done', 'a') as out: out.write(f'{order} {amount}\\n')\n"
            "    return 'ok'\n"
            "if __name__ == '__main__':\n"
            "    with rt.session('s1', user='carla'):\n"
            "        print('asking', flush=True); refund('o1', 500)\n"
        )
        asking = subprocess.Popen([sys.executable, "shop.py"], cwd=tmp_path, stdout=subprocess.PIPE, text=True)
        command = [sys.executable, "-m", "otel_runtime", "approvals"]
        request_id = _wait_for_request(command, tmp_path)
        asking.kill()
        asking.wait()
        assert asking.stdout is not None
        asking.stdout.close()
        answered = subprocess.run(
            [*command, "approve", request_id, "--yes", "--state-file", "state/s.db"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert answered.returncode == 0, answered.stderr
        program = f"import shop\nfor _ in range(2):\n  try: print(shop.runtime.resume('{request_id}'))\n  except shop.rt.Blocked as e: print(type(e).__name__)"
        resumed = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True)
        assert resumed.stdout.split() == ["ok", "ApprovalDenied"]
        assert (tmp_path / "done").read_text() == "o1 500\n"


def _wait_for_request(command: list[str], directory: Path) -> str:
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        if (directory / "state" / "s.db").exists():
            out = subprocess.run(
                [*command, "list", "--json", "--state-file", "state/s.db"], cwd=directory, capture_output=True, text=True, check=False
            )
            found = json.loads(out.stdout or "[]")
            if found:
                return str(found[0]["id"])
        time.sleep(0.1)
    raise AssertionError("no request appeared")
