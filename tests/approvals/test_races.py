"""Many hands at once, and hands that are cut off: threads, processes, kill -9, full disks."""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from otel_runtime.approvals.answers import AnswerRefused
from otel_runtime.approvals.owner import gone, owner_text, this_process
from otel_runtime.approvals.protocol import Ask, Claim
from otel_runtime.approvals.service import ApprovalService
from otel_runtime.errors import StoreError
from otel_runtime.values.approval import ApprovalRequest

MakeAsk = Callable[..., Ask]
FORK = multiprocessing.get_context("fork")
# Newer Pythons warn about exactly what is tried here.
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
TERMINAL_OR_APPROVED = {"approved", "denied", "expired", "cancelled"}


def opened(service: ApprovalService, ask: Ask) -> ApprovalRequest:
    return service.open(ask)[0]


def claim(service: ApprovalService, request: ApprovalRequest) -> bool:
    return isinstance(service.claim(request.id, request.call_digest, request.requirement_digest), Claim)


def approved(service: ApprovalService, ask: Ask) -> ApprovalRequest:
    request = opened(service, ask)
    return service.answer(request.id, approver="os:alice", approved=True).request


def together(*acts: Callable[[], None]) -> None:
    """Run in threads that start at the same moment."""
    barrier = threading.Barrier(len(acts))

    def run(act: Callable[[], None]) -> None:
        barrier.wait(60)
        act()

    threads = [threading.Thread(target=run, args=(act,)) for act in acts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)


class TestClaims:
    def test_threads(self, house: Any, make_ask: MakeAsk) -> None:
        """Of two threads that claim at once, in many rounds, exactly one runs each time."""
        services = [house.service(), house.service()]
        for _ in range(60):
            request = approved(services[0], make_ask())
            won: list[bool] = []
            together(*(lambda who=who, request=request, won=won: won.append(claim(who, request)) for who in services))
            assert [False, True] == sorted(won)

    def test_processes(self, house: Any, make_ask: MakeAsk) -> None:
        """Four processes that claim the same requests at once run each of them once."""
        service = house.service()
        requests = [approved(service, make_ask()) for _ in range(150)]
        barrier, won = FORK.Barrier(4), FORK.Queue()

        def worker() -> None:
            mine = house.service()
            mine.database.open()
            barrier.wait(60)
            won.put([request.id for request in requests if claim(mine, request)])

        workers = [FORK.Process(target=worker) for _ in range(4)]
        for process in workers:
            process.start()
        claimed = [request_id for _ in workers for request_id in won.get(timeout=120)]
        for process in workers:
            process.join(60)
        assert sorted(request.id for request in requests) == sorted(claimed)
        assert service.audit.verify().sound


class TestOneDecision:
    def test_approve_deny_cancel_expire(self, house: Any, make_ask: MakeAsk) -> None:
        """Whatever happens at once, a request gets exactly one decision, and everybody sees the same one."""
        services = [house.service() for _ in range(4)]
        for number in range(40):
            request = opened(services[0], make_ask(expires_s=1))
            accepted: list[str] = []

            def answer(
                service: ApprovalService, who: str, yes: bool, request: ApprovalRequest = request, accepted: list[str] = accepted
            ) -> None:
                try:
                    accepted.append(service.answer(request.id, approver=who, approved=yes).request.state)
                except AnswerRefused:
                    return

            def cancel(request: ApprovalRequest = request, accepted: list[str] = accepted) -> None:
                found = services[2].cancel(request.id, "race")
                if found is not None and found.state == "cancelled":
                    accepted.append("cancelled")

            def expire(request: ApprovalRequest = request, number: int = number) -> None:
                if number % 2:
                    house.clock.step(seconds=2)
                services[3].get(request.id)

            together(
                lambda answer=answer: answer(services[0], "os:alice", True),  # type: ignore[misc]
                lambda answer=answer: answer(services[1], "os:bob", False),  # type: ignore[misc]
                cancel,
                expire,
            )
            final = {found.state for service in services if (found := service.get(request.id))}
            kinds = [event.kind.removeprefix("approval.") for event in services[0].audit.events(request.id)]
            decided = [kind for kind in kinds if kind in TERMINAL_OR_APPROVED]
            # An approval that its time then ran out on is a second step of the same life, not a second decision.
            assert decided in ([decided[0]], ["approved", "expired"])
            assert {decided[-1]} == final
            assert accepted in ([], [decided[0]])

    def test_the_same_question_at_once(self, house: Any, make_ask: MakeAsk) -> None:
        """Processes that ask the same question at once share one request."""
        barrier, found = FORK.Barrier(4), FORK.Queue()

        def worker() -> None:
            service = house.service()
            barrier.wait(60)
            found.put([service.open(make_ask(key=f"k{number}"))[0].id for number in range(10)])

        workers = [FORK.Process(target=worker) for _ in range(4)]
        for process in workers:
            process.start()
        answers = [tuple(found.get(timeout=60)) for _ in workers]
        for process in workers:
            process.join(60)
        assert 1 == len(set(answers))


def killed_after(child: Callable[[int], None]) -> bytes:
    """Fork, let the child write to a pipe, kill -9 it once it has written enough, and return what it wrote."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            child(writing)
        finally:
            os._exit(1)
    os.close(writing)
    written = os.read(reading, 4096)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    while more := os.read(reading, 4096):
        written += more
    os.close(reading)
    return written


class TestKilled:
    def test_between_claim_and_finish(self, house: Any, make_ask: MakeAsk) -> None:
        """A request whose process was killed in the middle becomes `unknown`, is reported once, and never runs again."""
        service = house.service()
        request, alive = approved(service, make_ask()), approved(service, make_ask())
        assert claim(service, alive)

        def child(out: int) -> None:
            mine = house.service()
            os.write(out, b"claimed" if claim(mine, request) else b"refused")
            time.sleep(60)

        assert b"claimed" == killed_after(child)
        assert [(request.id, "unknown")] == [(each.id, each.state) for each in service.sweep()]
        assert ([], False, True) == (service.sweep(), claim(service, request), service.audit.verify().sound)
        found = service.get(alive.id)
        assert found is not None
        assert "executing" == found.state

    def test_a_zombie_is_dead(self) -> None:
        """A killed process that nobody has waited for yet counts as gone, a living one does not."""
        reading, writing = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.write(writing, owner_text(this_process()).encode())
            time.sleep(60)
            os._exit(0)
        text = os.read(reading, 4096).decode()
        alive = gone(text, this_process())
        os.kill(pid, signal.SIGKILL)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        dead = gone(text, this_process())
        os.waitpid(pid, 0)
        for end in (reading, writing):
            os.close(end)
        assert (False, True, True) == (alive, dead, gone(text, this_process()))

    def test_other_hosts_are_not_judged(self) -> None:
        """Of another host or container nothing is known; an earlier boot of this host is over."""
        here = this_process()
        elsewhere = [replace(here, host="other", pid=1), replace(here, space="other", pid=1), replace(here, boot="earlier")]
        assert [False, False, True] == [gone(owner_text(owner), here) for owner in elsewhere]

    def test_an_acknowledged_answer_survives(self, house: Any, make_ask: MakeAsk) -> None:
        """Every answer that was acknowledged before kill -9 is there afterwards, and the record stays whole."""
        service = house.service()
        for _ in range(24):
            requests = [opened(service, make_ask()) for _ in range(5)]

            def child(out: int, requests: list[ApprovalRequest] = requests) -> None:
                mine = house.service()
                for request in requests:
                    mine.answer(request.id, approver="os:alice", approved=True)
                    # The journal outside: written only after the answer was acknowledged.
                    os.write(out, request.id.encode())

            written = killed_after(child).decode()
            acknowledged = {written[start : start + 32] for start in range(0, len(written), 32)}
            states = {found.id: found.state for request in requests if (found := service.get(request.id))}
            assert acknowledged
            assert {"approved"} == {states[request_id] for request_id in acknowledged}
        assert service.audit.verify().sound


class TestFork:
    def test_while_another_thread_waits(self, house: Any, make_ask: MakeAsk) -> None:
        """A fork while a thread waits leaves both sides working: the child answers, the parent's waiter hears it."""
        service = house.service()
        request = opened(service, make_ask())
        found: list[str] = []
        waiter = threading.Thread(target=lambda: found.append(service.wait(request.id, 60).state))
        waiter.start()
        while not service._waiters._bell._listeners:
            time.sleep(0.005)
        process = FORK.Process(target=lambda: service.answer(request.id, approver="os:alice", approved=True))
        process.start()
        process.join(60)
        waiter.join(60)
        assert (0, ["approved"]) == (process.exitcode, found)


class TestTrouble:
    def test_full_disk(self, house: Any, make_ask: MakeAsk) -> None:
        """On a full disk an answer is refused as a whole, and earlier ones stay."""
        service = house.service()
        first = approved(service, make_ask())
        waiting = opened(service, make_ask())

        def child() -> None:
            mine = house.service()
            mine.database.open()
            size = Path(f"{house.path}-wal").stat().st_size
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
            try:
                mine.answer(waiting.id, approver="os:alice", approved=True, reason="x" * 20_000)
            except StoreError:
                os._exit(0 if claim_is_refused(mine, waiting) else 3)
            os._exit(4)

        def claim_is_refused(mine: ApprovalService, request: ApprovalRequest) -> bool:
            found = mine.get(request.id)
            return found is not None and found.state == "awaiting-approval"

        process = FORK.Process(target=child)
        process.start()
        process.join(60)
        assert 0 == process.exitcode
        assert claim(service, first)
        assert "approved" == service.answer(waiting.id, approver="os:alice", approved=True).request.state
        assert service.audit.verify().sound

    def test_restart_while_pending(self, house: Any, make_ask: MakeAsk, tmp_path: Path) -> None:
        """A request asked by a process that is gone is answered by a new one and claimed by a third, fresh interpreter."""
        request = opened(house.service(), make_ask(expires_s=1e9))
        house.close()
        program = tmp_path / "claim.py"
        program.write_text(f"""
from pathlib import Path
from otel_runtime.approvals.schema import MIGRATIONS
from otel_runtime.approvals.service import ApprovalService
from otel_runtime.storage.sqlite import Database
service = ApprovalService(Database(Path({str(house.path)!r}), MIGRATIONS), b"k" * 32, {{"alice": frozenset({{"finance"}})}})
service.answer({request.id!r}, approver="os:alice", approved=True)
print(type(service.claim({request.id!r}, {request.call_digest!r}, {request.requirement_digest!r})).__name__)
service.close()
service.database.close()
""")
        for expected in ("Claim", "ClaimRefused"):
            done = subprocess.run([sys.executable, program], capture_output=True, text=True, timeout=60, check=False, env={**os.environ})
            assert (expected, "") == (done.stdout.strip(), done.stderr)

    @pytest.mark.parametrize("approver", ["os:bob", "os:alice"])
    def test_locked(self, house: Any, make_ask: MakeAsk, approver: str) -> None:
        """An answer waits for another writer instead of failing."""
        service, other = house.service(), house.service()
        request = opened(service, make_ask())
        found: list[str] = []
        with other.database.writing():
            writer = threading.Thread(
                target=lambda: found.append(service.answer(request.id, approver=approver, approved=True).request.state)
            )
            writer.start()
            # Long enough that it is waiting in most runs; it must hold either way.
            writer.join(0.2)
            assert [] == found
        writer.join(60)
        assert ["approved"] == found
