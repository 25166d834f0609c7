"""Functions that the program wraps and our own exporters use too."""

from __future__ import annotations

import contextvars
import os
import subprocess
import sys
from pathlib import Path

import pytest

import otel_runtime as rt
from otel_runtime.testing.receiver import OtlpReceiver
from otel_runtime.wrap.active import begin_own_thread

POLICY = "version: 1\nname: t\ndefault: deny\nrules:\n  - {id: a, tool: greet, decision: allow}\n"
PROGRAM = """
import requests
import otel_runtime as rt

policy = {policy!r}
runtime = rt.configure(
    otlp="on", instrument=["requests.sessions:Session.send", "requests.api:get"], state="state.db", **({{"policy": policy}} if policy else {{}})
)

@rt.tool
def greet():
    return "hello"

greet()
print(runtime.flush(60))
try:
    requests.get("http://127.0.0.1:9/")
except (rt.PolicyDenied, requests.ConnectionError) as error:
    print(type(error).__name__)
print(runtime.shutdown(60), runtime.report()["telemetry"]["lost"], runtime.report()["telemetry"]["problems"])
"""


class TestWrappedHttpClients:
    """A program that wraps the HTTP client its exporter uses."""

    @pytest.mark.parametrize("guarded", [False, True])
    def test_what_is_exported_is_no_call_of_the_program(self, tmp_path: Path, receiver: OtlpReceiver, *, guarded: bool) -> None:
        """Spans and metrics leave, whatever the policy says of such a call, and sending them makes no spans; the program's own calls do."""
        (tmp_path / "policy.yaml").write_text(POLICY)
        program = PROGRAM.format(policy="policy.yaml" if guarded else None)
        # Not through a proxy that the machine may have.
        environ = {**os.environ, **receiver.environ, "NO_PROXY": "*"}
        done = subprocess.run(
            [sys.executable, "-c", program], cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=120, check=True
        )
        refused = "PolicyDenied" if guarded else "ConnectionError"
        assert done.stdout.splitlines() == ["True", refused, "True {} {}"]
        calls = ["policy deny get"] if guarded else ["execute_tool get", "execute_tool send"]
        assert receiver.names() == sorted(["execute_tool greet", *calls])

    def test_what_must_be_guarded_is_refused_there(self) -> None:
        """A tool that may never run undecided does not run in such a thread either; nobody decides there."""

        def in_own_thread() -> tuple[str, list[str]]:
            begin_own_thread()
            with pytest.raises(rt.PolicyUnavailable, match="the runtime's own"):
                rt.tool(guard="required")(lambda: ran.append("required"))()
            return rt.tool(lambda: "passed")(), ran

        ran: list[str] = []
        assert contextvars.copy_context().run(in_own_thread) == ("passed", [])
