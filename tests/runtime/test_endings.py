"""Every ordinary ending of a process flushes: real processes against a receiver on loopback."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from otel_runtime.errors import RuntimeStateError
from otel_runtime.runtime import endings
from otel_runtime.testing.receiver import OtlpReceiver

HEAD = """
import os, signal, sys, threading, time, multiprocessing
import otel_runtime as rt
from otel_runtime.runtime.endings import flush_all, handle_sigterm

@rt.tool
def parent(): return os.getpid()

@rt.tool
def child(*a): return os.getpid()

@rt.agent
def outer(body): return body()
"""
CONFIGURE = "runtime = rt.configure(otlp='on')\n"


@pytest.fixture(autouse=True)
def in_a_project(here: Path) -> None:
    """No settings file of this repository reaches the programs."""


def environ(extra: Mapping[str, str]) -> dict[str, str]:
    # What a busy machine makes of two seconds is not what is tried here; programs that try the bound set it themselves.
    patience = {"OTEL_RUNTIME_FLUSH_TIMEOUT": "60s"}
    return {**os.environ, "OTEL_METRICS_EXPORTER": "none", "OTEL_BSP_SCHEDULE_DELAY": "60000", **patience, **extra}


def start(program: str, here: Path, extra: Mapping[str, str]) -> subprocess.Popen[str]:
    file = here / "program.py"
    file.write_text(program)
    return subprocess.Popen(
        [sys.executable, str(file)], cwd=here, env=environ(extra), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def run(program: str, here: Path, receiver: OtlpReceiver, *, quiet: bool = False) -> tuple[int, str]:
    process = start(HEAD + program, here, receiver.environ)
    out, err = process.communicate(timeout=60)
    return process.returncode, out if quiet else out + err


class TestOrdinary:
    """Endings that run Python's own clean-up."""

    @pytest.mark.parametrize(
        ("ending", "code"),
        [
            ("", 0),
            ("sys.exit(3)", 3),
            ("raise ValueError('x')", 1),
            ("os.kill(os.getpid(), signal.SIGINT); time.sleep(9)", -signal.SIGINT),
            ("threading.Thread(target=parent).start()", 0),
        ],
        ids=["normal", "exit", "exception", "interrupt", "thread"],
    )
    def test_sends_what_is_buffered(self, here: Path, receiver: OtlpReceiver, ending: str, code: int) -> None:
        """The span arrives and the exit code is Python's own."""
        got = run(f"{CONFIGURE}parent()\n{ending}\n", here, receiver)
        expected = ["execute_tool parent"] * (2 if "Thread" in ending else 1)
        assert (code, expected) == (got[0], receiver.names()), got[1]

    @pytest.mark.parametrize("when", ["parent()", "atexit.register(parent)"], ids=["before", "then"])
    def test_without_new_threads(self, here: Path, receiver: OtlpReceiver, when: str) -> None:
        """From Python 3.12 on no thread starts while the interpreter ends: spans and measurements leave all the same."""
        refuse = "def refuse(thread): raise RuntimeError('no new thread at interpreter shutdown')\n"
        program = f"{HEAD}import atexit\n{refuse}{CONFIGURE}{when}\natexit.register(setattr, threading.Thread, 'start', refuse)\n"
        process = start(program, here, {**receiver.environ, "OTEL_METRICS_EXPORTER": "console"})
        out, err = process.communicate(timeout=60)
        assert (0, True, ["execute_tool parent"]) == (process.returncode, "gen_ai.execute_tool.duration" in out, receiver.names()), err

    def test_several_runtimes_share_one_budget(self, here: Path) -> None:
        """Five runtimes of a collector that never answers do not add up their timeouts: what the first has used is not the next one's."""
        program = HEAD + (
            "import socket\nserver = socket.socket(); server.bind(('127.0.0.1', 0)); server.listen()\n"
            "os.environ['OTEL_EXPORTER_OTLP_ENDPOINT'] = f'http://127.0.0.1:{server.getsockname()[1]}'\n"
            "for i in range(5):\n"
            "    with rt.configure(name=f'r{i}', otlp='on', flush_timeout='3s').use(): parent()\n"
            "given, shutdown = [], rt.Runtime.shutdown\n"
            "def noted(runtime, timeout=None): given.append(timeout); return shutdown(runtime, timeout)\n"
            "rt.Runtime.shutdown = noted\n"
            "sys.modules['otel_runtime.runtime.endings'].shutdown_all(); print(len(given), sum(given) < 6)\n"
        )
        process = start(program, here, {})
        out, err = process.communicate(timeout=60)
        assert (0, "5 True\n") == (process.returncode, out), err

    def test_waits_for_a_shutdown_in_another_thread(self, here: Path) -> None:
        """Whoever shuts down second comes back when the first is done, so that the process does not end in between."""
        program = HEAD + (
            "runtime = rt.configure(otlp='off', flush_timeout='20s')\n"
            "began, go, stop = threading.Event(), threading.Event(), runtime._active.tracing.shutdown\n"
            "def slow(timeout): began.set(); go.wait(); print('stopped', flush=True); return stop(timeout)\n"
            "object.__setattr__(runtime._active.tracing, 'shutdown', slow)\n"
            "threading.Thread(target=runtime.shutdown, daemon=True).start(); began.wait()\n"
            "threading.Timer(0.3, go.set).start(); runtime.shutdown(); print('second', flush=True)\n"
        )
        out, err = start(program, here, {}).communicate(timeout=60)
        assert "stopped\nsecond\n" == out, err

    def test_a_flush_after_the_shutdown(self, here: Path, receiver: OtlpReceiver) -> None:
        """Everything was sent already: it does not wait for threads that are gone."""
        code, said = run(f"{CONFIGURE}parent(); runtime.shutdown(); print(runtime.flush(), flush_all())", here, receiver, quiet=True)
        assert (0, "True True\n", ["execute_tool parent"]) == (code, said, receiver.names())


class TestSigterm:
    """The handler one may ask for."""

    def ended(self, here: Path, receiver: OtlpReceiver, setup: str) -> tuple[int, str]:
        process = start(f"{HEAD}{CONFIGURE}{setup}\nparent()\nprint('in', flush=True)\ntime.sleep(90)\n", here, receiver.environ)
        assert process.stdout is not None
        assert process.stdout.readline() == "in\n"
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=60)
        return process.returncode, out + err

    def test_without_it_python_loses_the_spans(self, here: Path, receiver: OtlpReceiver) -> None:
        """Why it exists: by default SIGTERM runs nothing."""
        assert -signal.SIGTERM == self.ended(here, receiver, "os.environ['x'] = 'y'")[0]
        assert [] == receiver.names()

    def test_flushes_and_ends_by_the_signal(self, here: Path, receiver: OtlpReceiver) -> None:
        """The parent of the process sees the same ending as before."""
        code, said = self.ended(here, receiver, "handle_sigterm()")
        assert (-signal.SIGTERM, ["execute_tool parent"]) == (code, receiver.names()), said

    def test_calls_the_handler_before_it(self, here: Path, receiver: OtlpReceiver) -> None:
        """The application's own handler decides what happens then."""
        setup = "signal.signal(signal.SIGTERM, lambda *_: (parent(), sys.exit(7)))\nhandle_sigterm()"
        code, said = self.ended(here, receiver, setup)
        assert (7, ["execute_tool parent"] * 2) == (code, receiver.names()), said

    def test_a_process_that_ignores_it_goes_on(self, here: Path, receiver: OtlpReceiver) -> None:
        """Ignored before is ignored after, with the spans sent."""
        ignored = "signal.signal(signal.SIGTERM, signal.SIG_IGN)\nhandle_sigterm(); parent(); os.kill(os.getpid(), signal.SIGTERM)"
        code, said = run(f"{CONFIGURE}{ignored}; parent(); sys.exit(4)", here, receiver)
        assert (4, ["execute_tool parent"] * 2) == (code, receiver.names()), said

    def test_a_held_lock_does_not_hold_it_up(self, here: Path) -> None:
        """Interrupted while the main thread holds what a flush needs, it gives up after its bound."""
        program = (
            f"{HEAD}runtime = rt.configure(otlp='off', flush_timeout='300ms')\nhandle_sigterm()\n"
            "with runtime._active.background._lock:\n    print('in', flush=True)\n    time.sleep(90)\n"
        )
        process = start(program, here, {})
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
        assert -signal.SIGTERM == process.returncode

    def test_in_the_middle_of_a_shutdown(self, here: Path, receiver: OtlpReceiver) -> None:
        """It waits for the flush that is under way, then ends the process by the signal."""
        program = (
            f"{CONFIGURE}handle_sigterm(); parent()\n"
            "stop = runtime._active.tracing.shutdown\n"
            "def slow(timeout): os.kill(os.getpid(), signal.SIGTERM); time.sleep(0.1); return stop(timeout)\n"
            "object.__setattr__(runtime._active.tracing, 'shutdown', slow)\n"
            "runtime.shutdown(); print('never')\n"
        )
        assert (-signal.SIGTERM, "", ["execute_tool parent"]) == (*run(program, here, receiver, quiet=True), receiver.names())

    def test_where_nobody_may_wait(self, here: Path, receiver: OtlpReceiver) -> None:
        """Inside of gevent's hub a thread cannot be waited for: the process ends by the signal all the same, and not by our error."""
        refuse = (
            "join, main = threading.Thread.join, threading.main_thread()\n"
            "def refused(thread, timeout=None):\n"
            "    if threading.current_thread() is main: raise AssertionError('nobody may wait here')\n"
            "    return join(thread, timeout)\n"
            "threading.Thread.join = refused"
        )
        code, said = self.ended(here, receiver, f"handle_sigterm()\n{refuse}")
        assert (-signal.SIGTERM, False) == (code, "nobody may wait" in said), said

    def test_can_be_taken_back(self) -> None:
        """The function it returns restores the earlier handler, unless somebody came after."""
        before = signal.getsignal(signal.SIGTERM)
        restore = endings.handle_sigterm()
        assert before is not signal.getsignal(signal.SIGTERM)
        restore()
        assert before is signal.getsignal(signal.SIGTERM)

    def test_only_in_the_main_thread(self) -> None:
        """Elsewhere Python cannot install it, and that is said."""
        import threading

        said: list[str] = []

        def ask() -> None:
            try:
                endings.handle_sigterm()
            except RuntimeStateError as error:
                said.append(str(error))

        thread = threading.Thread(target=ask)
        thread.start()
        thread.join()
        assert ["handle_sigterm() was called outside of the main thread; Python takes signal handlers there only"] == said


RUNNING = """
import asyncio
ready = threading.Semaphore(0)

@rt.tool
def deep(): ready.release(); time.sleep(60)

@rt.agent
def threaded(): return deep()

@rt.tool
async def adeep(): ready.release(); await asyncio.sleep(60)

@rt.agent
async def tasked(): return await adeep()

@rt.model("m")
def streamed():
    yield {"usage": {"prompt_tokens": 3, "completion_tokens": 4}}
    ready.release(); time.sleep(60)

def go(work): threading.Thread(target=work, daemon=True).start(); ready.acquire()
go(threaded); go(lambda: asyncio.run(tasked())); go(lambda: list(streamed()))
block = rt.workflow("block"); block.__enter__()
"""
INTERRUPTED = {
    "invoke_workflow block": (None, "interrupted"),
    "invoke_agent threaded": (None, "interrupted"),
    "execute_tool deep": ("invoke_agent threaded", "interrupted"),
    "invoke_agent tasked": (None, "interrupted"),
    "execute_tool adeep": ("invoke_agent tasked", "interrupted"),
    "chat m": (None, "interrupted"),
}


def told(receiver: OtlpReceiver) -> dict[str, tuple[str | None, object]]:
    """Parent and outcome of each span that came."""
    names = {span.span_id: span.name for span in receiver.spans()}
    return {span.name: (names.get(span.parent_id), span.attributes.get("otel_runtime.outcome")) for span in receiver.spans()}


class TestStillRunning:
    """Calls that are in the middle of their body when the process ends."""

    def test_at_a_normal_end(self, here: Path, receiver: OtlpReceiver) -> None:
        """In daemon threads, in tasks of other loops, in a block that was never left: each span is sent, under its parent, as interrupted."""
        code, said = run(CONFIGURE + RUNNING, here, receiver)
        # Streams are closed at exit, with the usage they had told.
        assert (0, {**INTERRUPTED, "chat m": (None, "closed")}) == (code, told(receiver)), said

    def test_at_sigterm(self, here: Path, receiver: OtlpReceiver) -> None:
        """The same, and the call that the main thread is in; a stream's usage so far is on its span, and no child ends after its parent."""
        main = "@rt.agent\ndef main(): os.kill(os.getpid(), signal.SIGTERM); time.sleep(60)\nmain()\n"
        code, said = run(f"{CONFIGURE}handle_sigterm()\n{RUNNING}\n{main}", here, receiver)
        expected = {**INTERRUPTED, "invoke_agent main": ("invoke_workflow block", "interrupted")}
        assert (-signal.SIGTERM, expected) == (code, told(receiver)), said
        by_id = {span.span_id: span for span in receiver.spans()}
        assert [3] == [span.attributes["gen_ai.usage.input_tokens"] for span in by_id.values() if span.name == "chat m"]
        assert [] == [span.name for span in by_id.values() if span.parent_id in by_id and span.end_ns > by_id[span.parent_id].end_ns]

    def test_what_other_threads_just_begin(self, here: Path, receiver: OtlpReceiver) -> None:
        """A call that is only half made and streams that are opened while the open ones are gone through keep nothing from being sent."""
        program = (
            f"{CONFIGURE}parent()\nimport atexit\nfrom otel_runtime.wrap.call import Call\nhalf, kept = Call.__new__(Call), []\n"
            "@rt.tool\ndef items(): yield 1; yield 2\n"
            "def begin(): kept.append(items()); next(kept[-1])\n"
            # What another thread may do between any two steps of a loop over the open streams.
            "def meanwhile(frame, event, arg):\n"
            "    if 'weakref' in frame.f_code.co_filename: begin()\n"
            "    return meanwhile\n"
            "begin(); begin(); atexit.register(sys.settrace, meanwhile)\n"
        )
        code, said = run(program, here, receiver)
        assert (0, False) == (code, "Traceback" in said), said
        assert {"execute_tool parent", "execute_tool items"} == set(receiver.names())

    def test_a_process_that_goes_on(self, here: Path, receiver: OtlpReceiver) -> None:
        """Where a handler of the application's own comes after ours, a running call ends in its own way."""
        program = (
            f"{CONFIGURE}stop = threading.Event(); signal.signal(signal.SIGTERM, lambda *_: stop.set()); handle_sigterm()\n"
            "def body(): os.kill(os.getpid(), signal.SIGTERM); return stop.wait(60)\n"
            "sys.exit(0 if outer(body) else 1)\n"
        )
        code, said = run(program, here, receiver)
        assert (0, {"invoke_agent outer": (None, None)}) == (code, told(receiver)), said

    def test_sys_exit_in_another_thread(self, here: Path, receiver: OtlpReceiver) -> None:
        """It ends that thread and its span only."""
        program = f"{CONFIGURE}thread = threading.Thread(target=outer, args=(sys.exit,)); thread.start(); thread.join(); parent()\n"
        code, said = run(program, here, receiver)
        assert (0, ["execute_tool parent", "invoke_agent outer"]) == (code, receiver.names()), said
        assert {"SystemExit", None} == {span.attributes.get("error.type") for span in receiver.spans()}

    def test_a_forked_child_leaves_them_to_the_parent(self, here: Path, receiver: OtlpReceiver) -> None:
        """Calls that ran in the parent's threads are not the child's to end."""
        program = f"{CONFIGURE}{RUNNING}\nif os.fork() == 0:\n    child(); sys.exit(0)\nos.wait()\n"
        code, said = run(program, here, receiver)
        assert 0 == code, said
        assert sorted([*INTERRUPTED, "execute_tool child"]) == receiver.names()

    def test_a_held_span_does_not_keep_the_others(self, here: Path, receiver: OtlpReceiver) -> None:
        """Interrupted in the middle of its own span's work, the main thread's call is given up; the rest is sent."""
        program = (
            # A quarter of it is spent on the span that is held.
            f"runtime = rt.configure(otlp='on', flush_timeout='10s')\nhandle_sigterm()\n{RUNNING}\nfrom opentelemetry import trace\n"
            "@rt.agent\ndef main():\n"
            "    with trace.get_current_span()._lock: os.kill(os.getpid(), signal.SIGTERM); time.sleep(60)\n"
            "parent(); main()\n"
        )
        code, said = run(program, here, receiver)
        assert (-signal.SIGTERM, True) == (code, "execute_tool parent" in receiver.names()), said

    def test_what_the_policy_recorded_says_unknown(self, here: Path, receiver: OtlpReceiver) -> None:
        """An approved call that was cut off is not settled by its span's end: the next process reports it as unknown."""
        (here / "policy.yaml").write_text(
            "version: 1\ndefault: deny\nrules:\n"
            "  - {id: ask, tool: pay, decision: require-approval, approval: {approvers: [anyone], expires: 1h}}\n"
        )
        program = (
            "runtime = rt.configure(otlp='on', policy='policy.yaml', wait_at_most=0); handle_sigterm()\n"
            "@rt.tool\ndef pay(): os.kill(os.getpid(), signal.SIGTERM); time.sleep(60)\n"
            "try: pay()\nexcept rt.ApprovalPending as pending: asked = pending.request_id\n"
            "runtime.approvals.answer(asked, approver='anyone', approved=True)\n"
            "runtime.resume(asked)\n"
        )
        code, said = run(program, here, receiver)
        assert (-signal.SIGTERM, "interrupted") == (code, told(receiver)["execute_tool pay"][1]), said
        code, said = run("rt.configure(otlp='on', policy='policy.yaml')\n", here, receiver)
        assert (0, True) == (code, "is now `unknown`" in said), said


class TestFork:
    """Children of os.fork()."""

    def test_a_child_sends_its_own_and_never_the_parents(self, here: Path, receiver: OtlpReceiver) -> None:
        """What the parent had buffered arrives once; so does what each child did, on connections of their own."""
        program = (
            f"{CONFIGURE}parent(); runtime.flush(); parent()\n"
            "pids = []\n"
            "for _ in range(3):\n"
            "    pid = os.fork()\n"
            "    if pid == 0:\n"
            "        child(); sys.exit(0)\n"
            "    pids.append(pid)\n"
            "for _ in range(20): parent(); runtime.flush()\n"
            "sys.exit(sum(os.waitpid(pid, 0)[1] for pid in pids))\n"
        )
        code, said = run(program, here, receiver)
        assert (0, ["execute_tool child"] * 3 + ["execute_tool parent"] * 22) == (code, receiver.names()), said
        assert 25 == len({span.span_id for span in receiver.spans()})

    def test_with_an_open_span(self, here: Path, receiver: OtlpReceiver) -> None:
        """The child neither ends nor sends the parent's span; what it does itself hangs under it."""
        program = (
            f"{CONFIGURE}"
            "def body():\n"
            "    pid = os.fork()\n"
            "    child() if pid == 0 else os.waitpid(pid, 0)\n"
            "    return pid\n"
            "sys.exit(0 if outer(body) else 0)\n"
        )
        code, said = run(program, here, receiver)
        assert (0, ["execute_tool child", "invoke_agent outer"]) == (code, receiver.names()), said
        by_name = {span.name: span for span in receiver.spans()}
        assert by_name["execute_tool child"].parent_id == by_name["invoke_agent outer"].span_id

    def test_an_exporter_imports_nothing_with_its_first_span(self, here: Path, receiver: OtlpReceiver) -> None:
        """What it needs was imported by `configure`, so a fork at that moment meets no import."""
        program = f"{CONFIGURE}before = {{*sys.modules}}\nparent(); runtime.flush(); print({{*sys.modules}} - before)\n"
        assert (0, "set()\n") == run(program, here, receiver, quiet=True)

    def test_while_an_exporter_is_importing(self, here: Path) -> None:
        """A module that another thread imports at the moment of the fork can be imported in the child."""
        (here / "grpc.py").write_text("import time\ntime.sleep(0.5)\n")
        program = (
            f"{HEAD}import importlib\nrt.configure(otlp='off')\n"
            "threading.Thread(target=importlib.import_module, args=('grpc',)).start()\n"
            "while 'grpc' not in sys.modules: time.sleep(0.001)\n"
            "if os.fork() == 0:\n"
            "    signal.alarm(50); import grpc; sys.exit(0)\n"
            "sys.exit(os.wait()[1])\n"
        )
        process = start(program, here, {})
        _, err = process.communicate(timeout=60)
        assert 0 == process.returncode, err


class TestMultiprocessing:
    """Processes and pools of the standard library."""

    @pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
    def test_a_process(self, here: Path, receiver: OtlpReceiver, method: str) -> None:
        """A forked child has the runtime; any other gets it from what the parent hands over."""
        program = (
            "def work(setup=None):\n"
            "    if setup: setup()\n"
            "    child()\n"
            "if __name__ == '__main__':\n"
            f"    {CONFIGURE}"
            f"    context = multiprocessing.get_context('{method}')\n"
            f"    process = context.Process(target=work, args=() if '{method}' == 'fork' else (runtime.worker_setup(),))\n"
            "    parent(); process.start(); process.join(); sys.exit(process.exitcode)\n"
        )
        code, said = run(program, here, receiver)
        assert (0, ["execute_tool child", "execute_tool parent"]) == (code, receiver.names()), said

    @pytest.mark.parametrize("method", ["fork", "spawn"])
    @pytest.mark.parametrize("ending", ["terminate", "close"])
    def test_a_pool(self, here: Path, receiver: OtlpReceiver, method: str, ending: str) -> None:
        """Workers send what they did, whether the pool is closed or, as leaving `with` does, terminated."""
        program = (
            "if __name__ == '__main__':\n"
            f"    {CONFIGURE}"
            f"    pool = multiprocessing.get_context('{method}').Pool(2, initializer=runtime.worker_setup())\n"
            "    pool.map(child, range(4)); pool.ENDING(); pool.join()\n"
        ).replace("ENDING", ending)
        code, said = run(program, here, receiver)
        assert (0, ["execute_tool child"] * 4) == (code, receiver.names()), said

    def test_a_worker_that_begins_to_wait(self, here: Path, receiver: OtlpReceiver) -> None:
        """SIGTERM that comes after the last bytecode before a wait inside of C ends the worker all the same, spans sent.

        Here C code sends it and waits; Python has no moment for its handler in between.
        """
        program = (
            f"{CONFIGURE}runtime.worker_setup()(); child()\n"
            "import collections, ctypes, functools, operator\n"
            "lock = multiprocessing.Lock(); lock.acquire()\n"
            "steps = [functools.partial(ctypes.CDLL(None).kill, os.getpid(), int(signal.SIGTERM)), lock.acquire]\n"
            "collections.deque(map(operator.call, steps), 0)\n"
        )
        code, said = run(program, here, receiver)
        assert (-signal.SIGTERM, ["execute_tool child"]) == (code, receiver.names()), said

    @pytest.mark.parametrize("before", ["signal.set_wakeup_fd(theirs)", "import trio"])
    def test_a_worker_with_an_event_loop(self, here: Path, receiver: OtlpReceiver, before: str) -> None:
        """The descriptor that signals are told by stays as it was where somebody has it, or would warn when it is taken."""
        program = (
            "import socket; ends = socket.socketpair(); ends[0].setblocking(False); theirs = ends[0].fileno()\n"
            f"{before}; found = signal.set_wakeup_fd(-1); signal.set_wakeup_fd(found)\n"
            f"{CONFIGURE}runtime.worker_setup()(); child(); sys.exit(signal.set_wakeup_fd(-1) != found)\n"
        )
        code, said = run(program, here, receiver)
        assert (0, ["execute_tool child"]) == (code, receiver.names()), said

    def test_a_child_of_a_worker(self, here: Path, receiver: OtlpReceiver) -> None:
        """A process that a worker forks is told to end; the worker goes on."""
        program = (
            f"{CONFIGURE}runtime.worker_setup()(); child()\n"
            "ready = multiprocessing.get_context('fork').Event()\n"
            "process = multiprocessing.get_context('fork').Process(target=lambda: (child(), ready.set(), time.sleep(90)))\n"
            "process.start(); ready.wait(); process.terminate(); process.join(); child(); time.sleep(0.3); sys.exit(-process.exitcode)\n"
        )
        code, said = run(program, here, receiver)
        assert (signal.SIGTERM, ["execute_tool child"] * 3) == (code, receiver.names()), said

    def test_an_executor(self, here: Path, receiver: OtlpReceiver) -> None:
        """`concurrent.futures` takes the same initializer."""
        program = (
            "if __name__ == '__main__':\n"
            f"    {CONFIGURE}"
            "    from concurrent.futures import ProcessPoolExecutor\n"
            "    with ProcessPoolExecutor(2, initializer=runtime.worker_setup()) as pool: list(pool.map(child, range(4)))\n"
        )
        code, said = run(program, here, receiver)
        assert (0, ["execute_tool child"] * 4) == (code, receiver.names()), said


class TestBound:
    """A collector that does not answer."""

    @pytest.mark.parametrize("ending", ["pass", "os.kill(os.getpid(), signal.SIGTERM); time.sleep(60)"], ids=["normal", "sigterm"])
    def test_holds_no_ending_up(self, here: Path, ending: str) -> None:
        """With a collector that takes connections and never answers, the end comes; a hang would run into the timeout of minutes."""
        program = (
            "import socket\nserver = socket.socket(); server.bind(('127.0.0.1', 0)); server.listen()\n"
            "import os; os.environ['OTEL_EXPORTER_OTLP_ENDPOINT'] = f'http://127.0.0.1:{server.getsockname()[1]}'\n"
            f"{HEAD}rt.configure(otlp='on', flush_timeout='500ms')\nhandle_sigterm()\nparent()\n{ending}\n"
        )
        process = start(program, here, {})
        _, err = process.communicate(timeout=60)
        assert (True, "") == (process.returncode in (0, -signal.SIGTERM), err if "Traceback" in err else "")
