"""Nobody is inside of RE2 when the interpreter is taken down."""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest

from otel_runtime.values.re2_gate import through

BUSY = """
import sys, threading, time
from otel_runtime.policy.regexes import compile_regex
from otel_runtime.telemetry.redaction import Redactor
found, mask, text = compile_regex("(a|b)*c$"), Redactor().mask, "ab" * 20_000
def work():
    while True:
        found.search(text)
        mask("password=" + text[:2000])
for _ in range(6):
    threading.Thread(target=work, daemon=True).start()
time.sleep(0.2)
"""


class TestExit:
    def test_daemon_threads_do_not_abort_the_process(self) -> None:
        """A program that ends while daemon threads match expressions ends as it would without them: code 0, nothing said."""
        for _ in range(5):
            done = subprocess.run([sys.executable, "-c", BUSY], capture_output=True, text=True, check=False, timeout=60)
            assert (0, "") == (done.returncode, done.stderr)

    def test_what_is_flushed_at_exit_passes(self) -> None:
        """Work that the application registered for its exit is decided and masked as before, on the main thread and on one of its own."""
        program = """
import atexit, threading
import otel_runtime as rt
from otel_runtime.telemetry.redaction import Redactor
def last():
    print(Redactor().mask("password=hunter2hunter2"))
    begin.set()
    thread.join(60)
def work():
    begin.wait()
    print(found("password=hunter2hunter2"))
runtime = rt.configure(otlp="off")
found, begin = Redactor().mask, threading.Event()
# Started now: from Python 3.12 on none may start at exit.
thread = threading.Thread(target=work, daemon=True)
thread.start()
atexit.register(last)
"""
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)
        assert (0, 2) == (done.returncode, done.stdout.count("password=[redacted]")), done.stderr


class TestThrough:
    def test_result_and_error_are_those_of_the_call(self) -> None:
        """The gate adds nothing: the value comes back, an error comes out, and the thread may go in again, also from the inside."""
        assert 3 == through(lambda: through(int, "3"))
        with pytest.raises(ValueError, match="three"):
            through(int, "three")
        assert 4 == through(int, "4")

    def test_threads_do_not_wait_for_one_another(self) -> None:
        """Two threads are inside at the same time."""
        both = threading.Barrier(2, timeout=60)
        threads = [threading.Thread(target=through, args=(both.wait,)) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(70)
        assert not both.broken
