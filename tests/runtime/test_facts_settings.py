"""Which facts store the settings choose, and whole programs that share one."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import otel_runtime as rt
from otel_runtime.errors import StoreError
from otel_runtime.policy.facts_memory import MemoryFacts
from otel_runtime.policy.facts_sql import SqlFacts
from otel_runtime.runtime import configuring
from otel_runtime.settings.loading import load_settings
from otel_runtime.wrap.active import reset_slot

# Newer Pythons warn about exactly what is tried here.
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
HEAD = "version: 1\nname: t\ndefault: allow\nrules:\n"
LIMIT = "  - {id: l, tool: [pay, apay], over: {calls: 3, by: all, per: 1h}, decision: deny}\n"
ASK = "  - {id: p, tool: ask_first, decision: require-approval, approval: {approvers: [anyone]}}\n"
ORIGIN = "  - {id: o, tool: mail, args: {to: {origin: {none_of: [user]}}}, decision: deny}\n"


@rt.tool
def pay(amount: int) -> int:
    """Counted."""
    return amount


@rt.tool
async def apay(amount: int) -> int:
    """Counted."""
    return amount


@rt.tool
async def mail(to: str) -> str:
    """Only to whom the person named."""
    return to


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty project; whatever was configured is shut down."""
    (tmp_path / ".git").mkdir()
    (tmp_path / "policy.yaml").write_text(HEAD + LIMIT)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OTEL_RUNTIME_OTLP", "off")
    # A busy machine or a slow disk is no store that is away; tests of those set a short time themselves.
    for bound in ("OTEL_RUNTIME_FACTS_TIMEOUT", "OTEL_RUNTIME_FLUSH_TIMEOUT"):
        monkeypatch.setenv(bound, "60s")
    yield tmp_path
    for _, _, runtime in configuring._configured.values():
        runtime.shutdown()
    configuring._configured.clear()
    reset_slot()


def facts_of(runtime: rt.Runtime) -> object:
    return runtime._facts


def doctor(here: Path, *words: str) -> dict[str, str]:
    done = subprocess.run(
        [sys.executable, "-m", "otel_runtime", "doctor", "--json", *words], capture_output=True, text=True, check=False, cwd=here
    )
    assert "s3cret" not in done.stdout + done.stderr
    return {finding["what"]: f"{finding['state']}: {finding['detail']}" for finding in json.loads(done.stdout)}


class TestChoice:
    def test_memory_by_default(self) -> None:
        """Limits of a policy that asks nobody are counted in memory."""
        assert isinstance(facts_of(rt.configure(policy="policy.yaml")), MemoryFacts)

    @pytest.mark.parametrize("more", ["asks", "asks by default", "reloads", "says so"])
    def test_durable_where_approvals_are(self, here: Path, more: str) -> None:
        """Facts lie beside the approvals where the policy can ask people, may be reloaded, or the setting says so."""
        text = HEAD + LIMIT + (ASK if more == "asks" else "")
        if more == "asks by default":
            text = text.replace("default: allow", "default: require-approval\napproval: {approvers: [anyone]}")
        (here / "policy.yaml").write_text(text)
        runtime = rt.configure(policy="policy.yaml", policy_reload=more == "reloads", facts="sqlite" if more == "says so" else None)
        facts = facts_of(runtime)
        assert isinstance(facts, SqlFacts)
        assert runtime.approvals is not None
        assert Path(facts.place) == runtime.approvals.database.path

    def test_memory_when_told_so(self, here: Path) -> None:
        """The setting wins over what the policy would need."""
        (here / "policy.yaml").write_text(HEAD + ASK)
        assert isinstance(facts_of(rt.configure(policy="policy.yaml", facts="memory")), MemoryFacts)

    def test_postgresql(self, postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """A URL names a database for many hosts; a variable may hold it."""
        monkeypatch.setenv("OTEL_RUNTIME_FACTS", postgres_url)
        facts = facts_of(rt.configure(policy="policy.yaml"))
        assert isinstance(facts, SqlFacts)
        assert facts.place.startswith("postgresql://127.0.0.1:")

    def test_nothing_to_keep(self, here: Path) -> None:
        """Without a policy no store is opened, whatever the setting says."""
        assert facts_of(rt.configure(facts="sqlite")) is None
        assert not (here / ".otel-runtime").exists()


class TestPasswords:
    URL = "postgresql://u:s3cret@127.0.0.1:1/x"

    def test_settings_do_not_show_it(self) -> None:
        """Settings in a traceback or log hold no password."""
        assert "s3cret" not in repr(load_settings(facts=self.URL)) + str(load_settings(facts=self.URL))

    @pytest.mark.parametrize("url", [URL, "mysql://u:s3cret@h/x", "postgresql//u:s3cret@h/x", "u:s3cret@h"])
    @pytest.mark.parametrize("by", ["argument", "variable", "file"])
    def test_errors_do_not_show_it(self, here: Path, monkeypatch: pytest.MonkeyPatch, url: str, by: str) -> None:
        """A URL that cannot be used is refused with what is expected, wherever it stands, and not repeated."""
        if by == "variable":
            monkeypatch.setenv("OTEL_RUNTIME_FACTS", url)
        if by == "file":
            (here / "otel-runtime.yaml").write_text(f"facts: {url}\n")
        with pytest.raises((rt.ConfigError, StoreError)) as caught:
            rt.configure(policy="policy.yaml", facts=url if by == "argument" else None)
        assert "s3cret" not in str(caught.value) + repr(caught.value) + repr(caught.value.__cause__) + repr(caught.value.__context__)
        assert "postgresql://" in str(caught.value)
        with pytest.raises(rt.PolicyUnavailable):
            pay(1)

    def test_word(self) -> None:
        """A word that is none of the stores is refused with what is expected."""
        with pytest.raises(rt.ConfigError, match=r"expected `auto`, `memory`, `sqlite` or postgresql://.*got `redis`"):
            rt.configure(policy="policy.yaml", facts="redis")


class TestDoctor:
    def test_stores(self, here: Path, postgres_url: str) -> None:
        """Doctor says where facts are, whether they can be reached, and how many there are."""
        settings = here / "otel-runtime.yaml"
        settings.write_text("policy: policy.yaml\n")
        assert doctor(here)["facts"].startswith("ok: in memory")
        settings.write_text("policy: policy.yaml\nfacts: sqlite\n")
        assert "made at the first start" in doctor(here)["facts"]
        runtime = rt.configure()
        pay(1)
        runtime.shutdown()
        assert "1 counters, 0 sessions, 0 calls" in doctor(here)["facts"]
        settings.write_text(f"policy: policy.yaml\nfacts: {postgres_url}\n")
        assert doctor(here)["facts"].startswith("ok: in postgresql://127.0.0.1:")
        settings.write_text("policy: policy.yaml\nfacts: postgresql://u:s3cret@127.0.0.1:1/x\n")
        assert doctor(here)["facts"].startswith("fault: the database `postgresql://127.0.0.1:1/x` cannot be reached")


PROGRAM = """
import sys, otel_runtime as rt
@rt.tool
def pay(amount): return amount
with rt.configure(policy="policy.yaml", facts=sys.argv[1], otlp="off"):
    for _ in range(2):
        try:
            pay(1); print("ran")
        except rt.PolicyDenied:
            print("denied")
"""


class TestShared:
    @pytest.mark.parametrize("kind", ["sqlite", "postgres"])
    def test_programs_share_a_limit(self, here: Path, request: pytest.FixtureRequest, kind: str) -> None:
        """Programs that run one after the other, or at once, together stay within a limit."""
        place = "sqlite" if kind == "sqlite" else request.getfixturevalue("postgres_url")
        started = [subprocess.Popen([sys.executable, "-c", PROGRAM, place], stdout=subprocess.PIPE, text=True, cwd=here) for _ in range(3)]
        said = [process.communicate(timeout=120)[0].split() for process in started]
        assert [0, 0, 0] == [process.returncode for process in started]
        assert ["denied"] * 3 + ["ran"] * 3 == sorted(word for words in said for word in words)
        runtime = rt.configure(policy="policy.yaml", facts=place)
        with pytest.raises(rt.PolicyDenied):
            pay(1)
        assert runtime.shutdown()

    def test_a_budget_of_money(self, here: Path) -> None:
        """The real cost of a call is what the next process finds."""
        (here / "policy.yaml").write_text(
            HEAD + '  - {id: m, kind: model, over: {usd: "1.00", by: all, per: 1h, reserve: "0.10"}, decision: deny}\n'
        )

        @rt.model(provider="openai")
        def ask(model: str, cost: str) -> rt.UsageRecord:
            from decimal import Decimal

            from otel_runtime.values.usage import Cost, TokenUsage

            return rt.UsageRecord(TokenUsage(1, 1), model=model, provider="openai", cost=Cost(Decimal(cost), "USD"))

        runtime = rt.configure(policy="policy.yaml", facts="sqlite")
        ask("gpt-4o", "0.95")
        runtime.shutdown()
        rt.configure(policy="policy.yaml", facts="sqlite")
        with pytest.raises(rt.PolicyDenied):
            ask("gpt-4o", "0.01")


class TestAway:
    def test_refused_at_start(self) -> None:
        """A store that cannot be reached at the start is an error of `configure`, and nothing runs unguarded."""
        with pytest.raises(StoreError, match="cannot be reached"):
            rt.configure(policy="policy.yaml", facts="postgresql://127.0.0.1:1/x")
        with pytest.raises(rt.PolicyUnavailable):
            pay(1)

    def test_fails_closed_in_time(self, here: Path) -> None:
        """While the store does not answer, calls that need facts are refused within the timeout; others run."""
        rt.configure(policy="policy.yaml", facts="sqlite", facts_timeout="0.2s")
        other = sqlite3.connect(here / ".otel-runtime" / "state.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(rt.PolicyUnavailable, match="locked"):
            pay(1)
        other.execute("ROLLBACK")
        other.close()
        assert 1 == pay(1)

    def test_server_gone(self, here: Path, postgres: object, postgres_url: str) -> None:
        """A server that stands still while calls run refuses them; when it is back they run."""
        # A busy machine may need more than one try: so many calls are within the limit.
        (here / "policy.yaml").write_text(HEAD + LIMIT.replace("calls: 3", "calls: 100000"))
        rt.configure(policy="policy.yaml", facts=postgres_url, facts_timeout="0.5s")
        self.until_it_runs()
        postgres.freeze(frozen=True)  # type: ignore[attr-defined]  # the fixture's class cannot be imported
        try:
            with pytest.raises(rt.Blocked):
                pay(2)
        finally:
            postgres.freeze(frozen=False)  # type: ignore[attr-defined]  # as above
        self.until_it_runs()

    def until_it_runs(self) -> None:
        deadline = time.monotonic() + 60
        while True:
            try:
                assert 3 == pay(3)
                return
            except rt.Blocked:
                assert time.monotonic() < deadline
                time.sleep(0.1)


class TestEventLoop:
    def test_goes_on_while_the_store_waits(self, here: Path) -> None:
        """Asynchronous calls that wait for a locked store do not hold up the loop."""
        rt.configure(policy="policy.yaml", facts="sqlite", facts_timeout="60s")
        path, turns = here / ".otel-runtime" / "state.db", [0]

        async def main() -> int:
            other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            other.execute("BEGIN IMMEDIATE")
            waiting = asyncio.create_task(apay(7))
            # The call waits for the lock, and the loop keeps turning; only then is the lock given up.
            for _ in range(50):
                await asyncio.sleep(0.005)
                turns[0] += 1
            assert not waiting.done()
            other.execute("ROLLBACK")
            other.close()
            return await waiting

        assert (7, 50) == (asyncio.run(main()), turns[0])

    def test_words_of_the_person(self, here: Path) -> None:
        """What an asynchronous agent was told is known to the very next call, by way of a database."""
        (here / "policy.yaml").write_text(HEAD + ORIGIN)
        rt.configure(policy="policy.yaml", facts="sqlite")

        @rt.agent(session="session")
        async def agent(session: str, words: str) -> tuple[str, str]:
            sent = await mail("bob@corp.example")
            try:
                await mail("eve@evil.example")
            except rt.PolicyDenied:
                return sent, "denied"
            return sent, "sent"

        assert ("bob@corp.example", "denied") == asyncio.run(agent("s", "mail bob@corp.example please"))

    def test_threads(self) -> None:
        """Fifty calls of fifty threads together stay within the limit."""
        rt.configure(policy="policy.yaml", facts="sqlite", facts_timeout="60s")
        ran: list[int] = []

        def call() -> None:
            try:
                ran.append(pay(1))
            except rt.PolicyDenied:
                return

        threads = [threading.Thread(target=call) for _ in range(50)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(120)
        assert [1, 1, 1] == ran


class TestKill:
    def test_a_killed_call_stays_counted(self, here: Path) -> None:
        """A program killed inside a body has used its share; the next program finds it used, once."""
        program = PROGRAM.replace("def pay(amount): return amount", "def pay(amount): import os; os.kill(os.getpid(), 9)")
        for _ in range(2):
            assert -9 == subprocess.run([sys.executable, "-c", program, "sqlite"], check=False, cwd=here).returncode
        done = subprocess.run([sys.executable, "-c", PROGRAM, "sqlite"], check=False, cwd=here, capture_output=True, text=True)
        assert ["ran", "denied"] == done.stdout.split()


class TestClaims:
    """A reservation and the claim of an approval."""

    POLICY = HEAD + "  - {id: p, tool: pay, decision: require-approval, approval: {approvers: [anyone]}}\n" + LIMIT

    def approved(self, here: Path, facts: str) -> tuple[rt.Runtime, str]:
        (here / "policy.yaml").write_text(self.POLICY)
        runtime = rt.configure(policy="policy.yaml", wait_at_most="0s", facts=facts)
        with pytest.raises(rt.ApprovalPending) as pending:
            pay(1)
        assert runtime.approvals is not None
        runtime.approvals.answer(pending.value.request_id, approver="os:alice", approved=True)
        return runtime, pending.value.request_id

    def counted(self, runtime: rt.Runtime) -> int:
        from datetime import UTC, datetime

        from otel_runtime.policy.protocol import CounterKey, Needs

        key = CounterKey("l:calls", "all", "sliding:3600")
        facts = facts_of(runtime)
        assert isinstance(facts, SqlFacts)
        return int(facts.peek(Needs((key,)), datetime.now(UTC)).counters[key])

    @pytest.mark.parametrize("kind", ["sqlite", "postgres"])
    def test_killed_between_them(self, here: Path, request: pytest.FixtureRequest, kind: str) -> None:
        """Killed between the two, a call is neither counted nor claimed where one database keeps both, and at most counted elsewhere."""
        place = "sqlite" if kind == "sqlite" else request.getfixturevalue("postgres_url")
        runtime, request_id = self.approved(here, place)
        runtime.shutdown()

        def killed() -> None:
            child = rt.configure(policy="policy.yaml", wait_at_most="0s", facts=place)
            approvals = child.approvals
            approvals.claim = lambda *_: os.kill(os.getpid(), signal.SIGKILL)  # type: ignore[method-assign, union-attr]  # the kill
            child.resume(request_id)

        process = multiprocessing.get_context("fork").Process(target=killed)
        process.start()
        process.join(90)
        assert -signal.SIGKILL == process.exitcode
        runtime = rt.configure(policy="policy.yaml", wait_at_most="0s", facts=place)
        before = 0 if kind == "sqlite" else 1
        assert before == self.counted(runtime)
        assert 1 == runtime.resume(request_id)
        assert before + 1 == self.counted(runtime)

    @pytest.mark.parametrize("kind", ["sqlite", "postgres"])
    def test_a_lost_claim_costs_nothing(self, here: Path, request: pytest.FixtureRequest, kind: str) -> None:
        """Of two that claim one approval, the loser has reserved nothing."""
        runtime, request_id = self.approved(here, "sqlite" if kind == "sqlite" else request.getfixturevalue("postgres_url"))
        approvals = runtime.approvals
        assert approvals is not None
        claim = approvals.claim

        def second(request_id: str, call_digest: str, requirement_digest: str) -> object:
            claim(request_id, call_digest, requirement_digest)
            return claim(request_id, call_digest, requirement_digest)

        approvals.claim = second  # type: ignore[method-assign, assignment]  # another process is first
        with pytest.raises(rt.Blocked):
            runtime.resume(request_id)
        assert 0 == self.counted(runtime)
