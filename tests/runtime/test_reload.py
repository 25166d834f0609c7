"""Hot reload: real files, changed the way editors, deployments and Kubernetes change them, under real threads and processes."""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

import otel_runtime as rt
from otel_runtime.policy.facts_memory import MemoryFacts
from otel_runtime.policy.live import LiveEngine, in_force
from otel_runtime.policy.loading import load_policy_text
from otel_runtime.policy.protocol import FactsView, Needs
from otel_runtime.runtime import configuring
from otel_runtime.wrap.active import reset_slot

pytest.importorskip("watchfiles", reason="watchfiles is missing: pip install 'otel-runtime[reload]'")
FORK = multiprocessing.get_context("fork")
# Newer Pythons warn about exactly what is tried here.
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
ALLOW = "version: 1\nname: t\ndefault: deny\nrules:\n  - {id: a, tool: [ok, pay], decision: allow}\n"
DENY = "version: 1\nname: t\ndefault: deny\nrules:\n  - {id: a, tool: [xy, xyz], decision: allow}\n"
ASK = (
    "version: 1\nname: t\ndefault: deny\nrules:\n"
    "  - {id: a, tool: ok, decision: allow}\n  - {id: p, tool: pay, decision: require-approval, approval: {approvers: [anyone]}}\n"
)
BROKEN = "version: 1\ndefault: deny\nrules:\n  - {id: a, tool: ok, decision: alow}\n"


@rt.tool
def ok() -> int:
    """Allowed at first."""
    return 1


@rt.tool
def pay(amount: int) -> int:
    """Costs money."""
    return amount


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty project with a policy; whatever was configured is shut down."""
    (tmp_path / ".git").mkdir()
    (tmp_path / "policy").mkdir()
    (tmp_path / "policy" / "main.yaml").write_text(ALLOW)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OTEL_RUNTIME_OTLP", "off")
    yield tmp_path
    for _, _, runtime in configuring._configured.values():
        runtime.shutdown()
    configuring._configured.clear()
    reset_slot()


def put(path: Path, text: str) -> None:
    """Replace a file in one step: whoever looks at it meanwhile never finds it empty, which would be one more reload."""
    beside = path.with_name(".written")
    beside.write_text(text)
    beside.replace(path)


def runs(call: Callable[[], object] = ok) -> bool:
    try:
        call()
    except rt.Blocked:
        return False
    return True


def until(holds: Callable[[], bool], what: str = "it") -> None:
    """Wait for something that must come; the time is only a way to give up."""
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline, f"{what} never happened"
        time.sleep(0.02)


def report(runtime: rt.Runtime) -> Any:
    return runtime.report()["policy"]


def watching(path: str = "policy", **more: Any) -> rt.Runtime:
    return rt.configure(policy=path, policy_reload=True, **more)


class TestFilesThatChange:
    def test_written_in_place(self, here: Path) -> None:
        """A file that is written anew is in force soon after."""
        runtime = watching()
        assert runs()
        with (here / "policy" / "main.yaml").open("r+") as file:
            # As long as what it was: at no moment is it a file of another length.
            assert len(DENY) == file.write(DENY) == len(ALLOW)
        until(lambda: not runs())
        # It is counted when everybody was told, which is after it is in force.
        until(lambda: report(runtime)["loaded"] == 1, "the count")
        assert (1, 0, runtime.policy and runtime.policy.engine.digest) == (
            report(runtime)["loaded"],
            report(runtime)["rejected"],
            report(runtime)["digest"],
        )

    def test_renamed_over(self, here: Path) -> None:
        """Editors write beside the file and rename; every such save is seen."""
        watching("policy/main.yaml")
        for text, expected in ((DENY, False), (ALLOW, True), (DENY, False)):
            (here / "policy" / ".main.yaml.swp").write_text(text)
            (here / "policy" / ".main.yaml.swp").replace(here / "policy" / "main.yaml")
            until(lambda expected=expected: runs() is expected)  # type: ignore[misc]  # mypy cannot type the default

    def test_a_file_more(self, here: Path) -> None:
        """A directory is one policy: a file that comes or goes changes it."""
        watching()
        more = here / "policy" / "more.yaml"
        more.write_text("version: 1\nrules:\n  - {id: never, tool: ok, decision: deny}\n")
        until(lambda: not runs())
        more.unlink()
        until(runs)

    def test_config_map(self, here: Path) -> None:
        """Kubernetes swaps the link `..data` of a mounted ConfigMap."""
        mount = here / "mount"
        for version, text in (("v1", ALLOW), ("v2", DENY), ("v3", ALLOW)):
            (mount / f"..{version}").mkdir(parents=True)
            (mount / f"..{version}" / "policy.yaml").write_text(text)
        (mount / "..data").symlink_to("..v1")
        (mount / "policy.yaml").symlink_to("..data/policy.yaml")
        watching("mount")
        for version, expected in (("v2", False), ("v3", True)):
            (mount / "..next").symlink_to(f"..{version}")
            (mount / "..next").replace(mount / "..data")
            until(lambda expected=expected: runs() is expected)  # type: ignore[misc]  # as above

    def test_directory_replaced_in_one_step(self, here: Path) -> None:
        """A deployment that links another directory changes the whole policy at once."""
        for version, text in (("v1", ALLOW), ("v2", DENY)):
            (here / version).mkdir()
            (here / version / "p.yaml").write_text(text)
        (here / "live").symlink_to("v1")
        watching("live")
        assert runs()
        (here / "next").symlink_to("v2")
        (here / "next").replace(here / "live")
        until(lambda: not runs())


class TestCedar:
    def test_a_folder_below(self, here: Path) -> None:
        """Cedar policies are read from every folder below theirs, so each is watched: one that is new, and one that is made later."""
        pytest.importorskip("cedarpy", reason="pip install 'otel-runtime[cedar]'")
        (here / "rules" / "old").mkdir(parents=True)
        (here / "rules" / "a.cedar").write_text("permit (principal, action, resource);")
        (here / "rules" / "old" / "b.cedar").write_text('forbid (principal, action, resource == Tool::"pay");')
        runtime = rt.configure(cedar=["rules"], policy_reload=True)
        assert runs()
        (here / "rules" / "old" / "b.cedar").write_text('forbid (principal, action, resource == Tool::"ok");')
        until(lambda: not runs())
        (here / "rules" / "old" / "b.cedar").unlink()
        until(runs)
        (here / "rules" / "new" / "deep").mkdir(parents=True)
        (here / "rules" / "new" / "deep" / "c.cedar").write_text('forbid (principal, action, resource == Tool::"ok");')
        until(lambda: not runs())
        runtime.shutdown()


class TestFaults:
    def test_the_last_good_set_stays(self, here: Path, caplog: pytest.LogCaptureFixture) -> None:
        """A faulty file changes nothing and is said with its place; the next edit is in force."""
        runtime = watching()
        path = here / "policy" / "main.yaml"
        for number in (1, 2):
            put(path, BROKEN + "#\n" * number)
            until(lambda number=number: report(runtime)["rejected"] == number)  # type: ignore[misc]  # as above
            assert runs()
        assert "main.yaml:4:" in report(runtime)["last_fault"]
        assert any("keeps its last good policy" in record.message and record.levelno == logging.ERROR for record in caplog.records)
        put(path, DENY)
        until(lambda: not runs())
        until(lambda: report(runtime)["last_fault"] == "", "the fault forgotten")

    def test_its_own_cases(self, here: Path) -> None:
        """A policy that fails its own cases is refused."""
        runtime = watching()
        put(here / "policy" / "main.yaml", DENY + "cases:\n  - {call: {tool: xy, args: {}}, expect: deny}\n")
        until(lambda: report(runtime)["rejected"] == 1)
        assert runs()

    def test_deleted(self, here: Path) -> None:
        """A deleted file, and then a deleted directory, leave the last good set; what comes back is in force."""
        runtime = watching()
        (here / "policy" / "main.yaml").unlink()
        until(lambda: report(runtime)["rejected"] == 1)
        (here / "policy").rmdir()
        until(lambda: report(runtime)["rejected"] == 2)
        assert runs()
        (here / "policy").mkdir()
        put(here / "policy" / "main.yaml", DENY)
        until(lambda: not runs())

    def test_half_written(self, here: Path) -> None:
        """A file that breaks off in the middle of a line is refused, although what is there is a policy."""
        runtime = watching()
        whole = ALLOW + "  - {id: never, tool: ok, decision: deny}\n"
        half = whole.index("  - {id: never") - 1
        put(here / "policy" / "main.yaml", whole[:half])
        until(lambda: report(runtime)["rejected"] == 1)
        assert ("no line break" in report(runtime)["last_fault"], 0) == (True, report(runtime)["loaded"])
        with (here / "policy" / "main.yaml").open("a") as file:
            file.write(whole[half:])
        until(lambda: not runs())


class TestByHand:
    def test_by_who_is_told_of_a_reload(self, here: Path) -> None:
        """A subscriber that reads the policy once more, such as one that has just repaired it, is not held up by the reload it hears of."""
        runtime = rt.configure(policy="policy")
        told: list[str] = []

        @runtime.on_event("component.policy.rejected")
        def repair(_: rt.EventEnvelope) -> None:
            told.append("rejected")
            put(here / "policy" / "main.yaml", DENY)
            runtime.reload_policy()

        put(here / "policy" / "main.yaml", BROKEN)

        def reload() -> None:
            with pytest.raises(rt.ConfigError):
                runtime.reload_policy()

        trying = threading.Thread(target=reload, daemon=True)
        trying.start()
        trying.join(30)
        assert (["rejected"], False, False) == (told, trying.is_alive(), runs())

    def test_reload(self, here: Path) -> None:
        """Without watching, a policy is read again when the program says so; a faulty one is raised and changes nothing."""
        runtime = rt.configure(policy="policy")
        path = here / "policy" / "main.yaml"
        put(path, DENY)
        time.sleep(0.5)
        assert runs()
        runtime.reload_policy()
        assert not runs()
        put(path, BROKEN)
        with pytest.raises(rt.ConfigError, match=r"main\.yaml:4:"):
            runtime.reload_policy()
        assert (False, {"loaded": 1, "rejected": 1}) == (runs(), {name: report(runtime)[name] for name in ("loaded", "rejected")})

    def test_origin_was_not_noted(self, here: Path) -> None:
        """A policy that asks where values were seen is refused by a runtime that has not noted it: everything would be unseen."""
        runtime = rt.configure(policy="policy")
        asks = "  - {id: o, tool: pay, args: {amount: {origin: {none_of: [user]}}}, decision: deny}\n"
        put(here / "policy" / "main.yaml", ALLOW + asks)
        with pytest.raises(rt.ConfigError, match="policy_reload: true"):
            runtime.reload_policy()

    def test_nothing_to_reload(self) -> None:
        """A runtime without a policy, or after its end, says so."""
        with pytest.raises(rt.RuntimeStateError, match="has no policy"):
            rt.configure(name="x").reload_policy()
        runtime = rt.configure(policy="policy")
        runtime.shutdown()
        with pytest.raises(rt.RuntimeStateError, match="was shut down"):
            runtime.reload_policy()

    def test_signals_are_left_alone(self) -> None:
        """SIGHUP belongs to the application."""
        before = signal.getsignal(signal.SIGHUP)
        watching()
        assert before == signal.getsignal(signal.SIGHUP)


class TestLife:
    def test_the_thread_ends(self) -> None:
        """Shutdown ends the thread; without the setting there is none."""
        runtime = watching()
        assert (True, True) == (report(runtime)["watching"], any(thread.name.endswith("-policy") for thread in threading.enumerate()))
        runtime.shutdown()
        until(lambda: not any(thread.name.endswith("-policy") for thread in threading.enumerate()))
        assert not report(rt.configure(name="other", policy="policy"))["watching"]

    def test_a_change_while_starting(self, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """What changes between reading and watching is seen."""
        from otel_runtime.runtime import build

        load = build.load_configured_policy

        def slow(settings: Any) -> Any:
            loaded = load(settings)
            put(here / "policy" / "main.yaml", DENY)
            return loaded

        monkeypatch.setattr(build, "load_configured_policy", slow)
        watching()
        until(lambda: not runs())

    def test_a_forked_child_watches(self, here: Path) -> None:
        """A child of a fork sees changes by itself."""
        watching()

        def child() -> None:
            (here / "ready").touch()
            try:
                until(lambda: not runs())
            except AssertionError:
                os._exit(3)
            os._exit(0)

        process = FORK.Process(target=child)
        process.start()
        until((here / "ready").exists)
        put(here / "policy" / "main.yaml", DENY)
        process.join(90)
        assert 0 == process.exitcode
        until(lambda: not runs())

    def test_many_processes(self, here: Path) -> None:
        """Processes of their own all follow, and the program ends by itself."""
        program = (
            "import sys, time, otel_runtime as rt\n"
            "@rt.tool\ndef ok(): return 1\n"
            "runtime = rt.configure(policy='policy', policy_reload=True, otlp='off')\n"
            "ok(); print('ready', flush=True)\n"
            "while True:\n"
            "    try: ok()\n"
            "    except rt.PolicyDenied: break\n"
            "    time.sleep(0.02)\n"
        )
        started = [subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) for _ in range(2)]
        for process in started:
            assert process.stdout is not None
            assert "ready\n" == process.stdout.readline()
        put(here / "policy" / "main.yaml", DENY)
        assert [0, 0] == [process.wait(60) for process in started]
        for process in started:
            assert process.stdout is not None
            process.stdout.close()

    def test_without_notifications(self, here: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
        """Where the system gives no more notifications, the files are looked at all the same, and that is said."""

        def refuses(*_: object, **__: object) -> None:
            raise OSError("OS file watch limit reached")

        monkeypatch.setattr("watchfiles.watch", refuses)
        watching()
        put(here / "policy" / "main.yaml", DENY)
        until(lambda: not runs())
        until(lambda: any("cannot be watched" in record.message for record in caplog.records))

    def test_missing_package(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Without watchfiles the setting is refused with the line that installs it."""
        monkeypatch.setitem(sys.modules, "watchfiles", None)
        with pytest.raises(rt.RuntimeStateError, match=r"pip install 'otel-runtime\[reload\]'"):
            watching()


class TestOneSnapshot:
    def test_per_decision(self) -> None:
        """A set that is replaced between the question for facts and the decision is used by the next decision."""
        limit = (
            ALLOW.replace("default: deny", "default: allow") + "  - {id: l, tool: ok, over: {calls: 5, by: all, per: 1h}, decision: deny}\n"
        )
        old, new = (load_policy_text(text).engine for text in (limit, DENY))
        live = LiveEngine(old)

        class Replacing(MemoryFacts):
            def peek(self, needs: Needs, now: datetime) -> FactsView:
                live.replace(new)
                return super().peek(needs, now)

        from otel_runtime.wrap.active import Guard

        runtime = rt.configure(policy="policy")
        guard = runtime._active.guard
        assert guard is not None
        seen: list[str] = []
        object.__setattr__(runtime._active, "guard", Guard(live, Replacing(), guard.approvals, guard.decisions))
        object.__setattr__(runtime._active, "tracing", Recording(runtime._active.tracing, seen))
        ok()
        with pytest.raises(rt.PolicyDenied):
            ok()
        assert [old.digest, new.digest] == seen
        assert new is in_force(live)

    def test_calls_go_on(self, here: Path) -> None:
        """While the policy is replaced thirty times, every call is decided by one of the two sets."""
        runtime, stop, kinds = watching(), threading.Event(), set[str]()

        def calls() -> None:
            while not stop.is_set():
                try:
                    kinds.add(str(ok()))
                except rt.Blocked as error:
                    kinds.add(type(error).__name__)

        with ThreadPoolExecutor(4) as pool:
            found = [pool.submit(calls) for _ in range(4)]
            try:
                until(lambda: "1" in kinds)
                for number in range(30):
                    put(here / "policy" / "main.yaml", DENY if number % 2 else ALLOW)
                    runtime.reload_policy()
                until(lambda: "PolicyDenied" in kinds)
            finally:
                stop.set()
            assert [None] * 4 == [each.result() for each in found]
        assert {"1", "PolicyDenied"} == kinds


class Recording:
    """Tracing that also notes by which rules calls were decided."""

    def __init__(self, inner: Any, seen: list[str]) -> None:
        self._inner, self._seen = inner, seen

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def decided(self, action: Any, decision: Any, *rest: Any, **more: Any) -> None:
        self._seen.append(decision.policy_digest)
        self._inner.decided(action, decision, *rest, **more)


class TestPendingApprovals:
    def test_decided_again_by_the_new_policy(self, here: Path) -> None:
        """A call that waits for a person is refused after the yes when the policy was tightened meanwhile."""
        put(here / "policy" / "main.yaml", ASK)
        runtime = watching(wait_at_most="150s")
        assert runtime.approvals is not None
        results: list[object] = []

        def call() -> None:
            try:
                results.append(pay(5))
            except rt.Blocked as error:
                results.append(type(error).__name__)

        thread = threading.Thread(target=call)
        thread.start()
        until(lambda: bool(runtime.approvals and runtime.approvals.list(["awaiting-approval"])))
        put(here / "policy" / "main.yaml", DENY)
        until(lambda: not runs())
        runtime.approvals.answer(runtime.approvals.list(["awaiting-approval"])[0].id, approver="os:alice", approved=True)
        thread.join(60)
        assert ["PolicyDenied"] == results


class TestOrigins:
    ASKS = ALLOW + "  - {id: o, tool: pay, args: {amount: {origin: {any_of: ['tool:ok']}}}, decision: deny}\n"

    def test_a_policy_that_begins_to_ask(self, here: Path) -> None:
        """In a session from before it is unknown what tools had returned, and what depends on it is refused; later sessions are known."""
        runtime = watching()

        @rt.agent(session="session")
        def agent(session: str, *, reads: bool) -> bool:
            if reads:
                ok()
            return runs(lambda: pay(1))

        assert agent("before", reads=True)
        put(here / "policy" / "main.yaml", self.ASKS)
        until(lambda: report(runtime)["loaded"] == 1)
        assert (False, False, True) == (agent("before", reads=False), agent("reads", reads=True), agent("new", reads=False))


class TestSeen:
    def test_events_audit_and_doctor(self, here: Path) -> None:
        """Subscribers, the audit and `doctor` tell of what was put in force and what was refused, with digests and the fault."""
        runtime = watching()
        told: list[Any] = []
        runtime.on_event("component.policy.*")(told.append)
        path = here / "policy" / "main.yaml"
        put(path, DENY)
        until(lambda: report(runtime)["loaded"] == 1)
        put(path, BROKEN)
        until(lambda: report(runtime)["rejected"] == 1)
        put(path, DENY)
        until(lambda: len(told) > 1)
        assert ["component.policy.loaded", "component.policy.rejected"] == [event.kind for event in told[:2]]
        assert told[0].payload["digest"] == told[1].payload["digest"] != told[0].payload["before"]
        until(lambda: report(runtime)["loaded"] == 2)
        put(path, BROKEN + "#\n")
        until(lambda: report(runtime)["rejected"] == 2)
        (here / "otel-runtime.yaml").write_text("policy: policy\n")
        assert "refused by process" in self.doctor()["policy reload"]
        put(path, DENY)
        until(lambda: report(runtime)["loaded"] == 3)
        assert runtime.approvals is not None
        assert runtime.approvals.audit.verify().sound
        kinds = [event.kind for event in runtime.approvals.audit.events("policy of otel-runtime")]
        assert ["policy.loaded", "policy.rejected"] * 2 + ["policy.loaded"] == kinds
        assert "put in force by process" in self.doctor()["policy reload"]

    def doctor(self) -> dict[str, str]:
        done = subprocess.run([sys.executable, "-m", "otel_runtime", "doctor", "--json"], capture_output=True, text=True, check=False)
        assert done.stdout, done.stderr
        return {finding["what"]: finding["detail"] for finding in json.loads(done.stdout)}

    def test_metric(self, here: Path) -> None:
        """Reloads are counted by what became of them."""
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.metrics.export import InMemoryMetricReader
        from opentelemetry.sdk.trace import TracerProvider

        reader = InMemoryMetricReader()
        runtime = watching(tracer_provider=TracerProvider(), meter_provider=MeterProvider([reader]))
        path = here / "policy" / "main.yaml"
        put(path, DENY)
        until(lambda: report(runtime)["loaded"] == 1)
        put(path, BROKEN)
        until(lambda: report(runtime)["rejected"] == 1)
        runtime.flush()
        data = reader.get_metrics_data()
        points = {
            point.attributes["otel_runtime.policy.reload"]: point.value  # type: ignore[union-attr, index]  # counters have values
            for resource in (data.resource_metrics if data else ())
            for scope in resource.scope_metrics
            for metric in scope.metrics
            if metric.name == "otel_runtime.policy.reloads"
            for point in metric.data.data_points
        }
        assert {"loaded": 1, "rejected": 1} == points
