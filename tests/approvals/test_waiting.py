"""Waiting for an answer, in threads and in event loops."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from otel_runtime.approvals.protocol import Ask
from otel_runtime.approvals.service import ApprovalService
from otel_runtime.errors import StoreError

MakeAsk = Callable[..., Ask]


class TestThread:
    def test_answered_by_another_service(self, house: Any, make_ask: MakeAsk) -> None:
        """A waiter sees an answer that came through the store alone."""
        service, other = house.service(), house.service()
        request, _ = service.open(make_ask())
        thread = threading.Timer(0.05, lambda: other.answer(request.id, approver="os:alice", approved=False))
        thread.start()
        assert "denied" == service.wait(request.id, 60).state
        thread.join(60)

    def test_time_is_up(self, service: ApprovalService, make_ask: MakeAsk) -> None:
        """When the time is up the open request comes back."""
        request, _ = service.open(make_ask())
        assert ("awaiting-approval", "awaiting-approval") == (service.wait(request.id, 0).state, service.wait(request.id, 0.03).state)

    def test_expiry_ends_the_wait(self, service: ApprovalService, make_ask: MakeAsk, clock: Any) -> None:
        """A request that expires while somebody waits comes back expired."""
        request, _ = service.open(make_ask())
        thread = threading.Timer(0.05, lambda: clock.step(hours=1))
        thread.start()
        assert "expired" == service.wait(request.id, 60).state
        thread.join(60)

    def test_missing(self, service: ApprovalService) -> None:
        """There is nothing to wait for."""
        with pytest.raises(StoreError, match="no approval request"):
            service.wait("0" * 32, 60)


class TestLoop:
    def test_hundreds_share_one_task(self, house: Any, make_ask: MakeAsk) -> None:
        """Three hundred waiters on ten requests need one task beside their own and one thread, and all hear their answers."""
        service, other = house.service(), house.service()
        requests = [service.open(make_ask())[0] for _ in range(10)]

        async def run() -> tuple[int, list[str]]:
            waiters = [asyncio.create_task(service.wait_async(requests[number % 10].id, 60)) for number in range(300)]
            await asyncio.sleep(0.1)
            extra = len(asyncio.all_tasks()) - len(waiters) - 1
            for number, request in enumerate(requests):
                await asyncio.to_thread(other.answer, request.id, approver="os:alice", approved=number % 2 == 0)
            return extra, [request.state for request in await asyncio.gather(*waiters)]

        extra, states = asyncio.run(run())
        threads = [thread for thread in threading.enumerate() if thread.name.startswith("otel-runtime approvals")]
        assert (1, ["approved", "denied"] * 150, 1) == (extra, states, len(threads))

    def test_answer_in_the_same_loop(self, service: ApprovalService, make_ask: MakeAsk) -> None:
        """An answer given on the loop itself wakes its waiters, and the poller ends when nobody is left."""
        request, _ = service.open(make_ask())

        async def run() -> tuple[str, int]:
            waiter = asyncio.create_task(service.wait_async(request.id, 60))
            await asyncio.sleep(0.05)
            service.answer(request.id, approver="os:alice", approved=True)
            state = (await waiter).state
            for _ in range(6000):
                if len(asyncio.all_tasks()) == 1:
                    break
                await asyncio.sleep(0.01)
            return state, len(asyncio.all_tasks())

        assert ("approved", 1) == asyncio.run(run())

    def test_time_is_up(self, service: ApprovalService, make_ask: MakeAsk) -> None:
        """Waiters of one request with different patience come back each at their own time."""
        request, _ = service.open(make_ask())

        async def run() -> tuple[str, bool, str]:
            patient = asyncio.create_task(service.wait_async(request.id, 60))
            first = await service.wait_async(request.id, 0.03)
            still = not patient.done()
            service.answer(request.id, approver="os:alice", approved=True)
            return first.state, still, (await patient).state

        assert ("awaiting-approval", True, "approved") == asyncio.run(run())

    def test_cancelled_waiter(self, service: ApprovalService, make_ask: MakeAsk) -> None:
        """Cancelling a waiter leaves the request open and other waiters waiting."""
        request, _ = service.open(make_ask())

        async def run() -> tuple[bool, str]:
            one, other = (asyncio.create_task(service.wait_async(request.id, 60)) for _ in range(2))
            await asyncio.sleep(0.05)
            one.cancel()
            with pytest.raises(asyncio.CancelledError):
                await one
            still_open = service.get(request.id)
            service.answer(request.id, approver="os:alice", approved=True)
            return still_open is not None and still_open.state == "awaiting-approval", (await other).state

        assert (True, "approved") == asyncio.run(run())

    def test_the_loop_ends_while_waiting(self, service: ApprovalService, make_ask: MakeAsk) -> None:
        """A loop that is closed with waiters in it leaves nothing behind, and the next loop waits anew."""
        request, _ = service.open(make_ask())

        async def leave() -> None:
            task = asyncio.create_task(service.wait_async(request.id, 60))
            await asyncio.sleep(0.05)
            assert not task.done()

        asyncio.run(leave())
        service.answer(request.id, approver="os:alice", approved=True)
        assert "approved" == asyncio.run(service.wait_async(request.id, 60)).state

    def test_two_loops(self, service: ApprovalService, make_ask: MakeAsk) -> None:
        """Loops of several threads wait side by side."""
        request, _ = service.open(make_ask())
        found: list[str] = []
        threads = [threading.Thread(target=lambda: found.append(asyncio.run(service.wait_async(request.id, 60)).state)) for _ in range(3)]
        for thread in threads:
            thread.start()
        service.answer(request.id, approver="os:alice", approved=True)
        for thread in threads:
            thread.join(60)
        assert ["approved"] * 3 == found

    def test_missing(self, service: ApprovalService, make_ask: MakeAsk) -> None:
        """A request that does not exist fails its own waiter only."""
        request, _ = service.open(make_ask())

        async def run() -> str:
            good = asyncio.create_task(service.wait_async(request.id, 60))
            with pytest.raises(StoreError, match="no approval request"):
                await service.wait_async("0" * 32, 60)
            service.answer(request.id, approver="os:alice", approved=True)
            return (await good).state

        assert "approved" == asyncio.run(run())

    def test_a_broken_store_is_heard(self, service: ApprovalService, make_ask: MakeAsk) -> None:
        """When the store fails, waiters get the error instead of waiting for ever."""
        request, _ = service.open(make_ask())

        async def run() -> None:
            waiter = asyncio.create_task(service.wait_async(request.id, 60))
            await asyncio.sleep(0.05)
            service.database.close()
            await waiter

        with pytest.raises(StoreError, match="was closed"):
            asyncio.run(run())
