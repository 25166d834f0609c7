"""Import time and memory of fresh interpreters, and how long a host program waits for a hook process.

`python -m benchmarks.startup` prints the second alone.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

__all__ = ["HOOKS", "STARTS", "hooks", "render_hooks", "startup"]

# Resident memory is read from /proc where there is one: on Linux, ru_maxrss of a child starts with what its parent had.
PROBE = """
import os, sys, time
start = time.process_time()
{code}
spent = time.process_time() - start
try:
    with open("/proc/self/statm") as statm:
        memory = int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
except OSError:
    import resource
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
import json
print(json.dumps({{"ms": spent * 1e3, "mib": memory / 2**20}}))
"""

CONFIGURE = """
import otel_runtime, tempfile
otel_runtime.configure(otlp="off", state=tempfile.mkdtemp() + "/state.db")
"""

STARTS: Mapping[str, str] = {
    "bare interpreter": "pass",
    "import opentelemetry.sdk.trace": "import opentelemetry.sdk.trace",
    "import otel_runtime": "import otel_runtime",
    "import otel_runtime, configure": CONFIGURE.strip(),
}


def _start(code: str) -> dict[str, float]:
    done = subprocess.run([sys.executable, "-c", PROBE.format(code=code)], capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def startup(rounds: int) -> dict[str, dict[str, float]]:
    """Median CPU milliseconds and resident MiB, by the name of the start; rounds are interleaved."""
    for code in STARTS.values():
        # The first start of each writes bytecode.
        _start(code)
    found: dict[str, list[dict[str, float]]] = {name: [] for name in STARTS}
    for _ in range(rounds):
        for name, code in STARTS.items():
            found[name].append(_start(code))
    return {name: {unit: statistics.median(one[unit] for one in rows) for unit in ("ms", "mib")} for name, rows in found.items()}


@dataclass(frozen=True, slots=True)
class Hook:
    """A hook process to wait for.

    Args:
        event: What it is told; None for a bare interpreter, the reference.
        words: More words of its command line.
        rules: How many more rules its policy has, all about other tools.
        aim: Milliseconds the design allows; 0 for none.
        rest_s: Seconds to wait until the process that sends its spans is over.
    """

    event: Mapping[str, object] | None
    words: tuple[str, ...] = ()
    rules: int = 0
    aim: int = 0
    rest_s: float = 0.0


def _tool(command: str) -> Mapping[str, object]:
    return {"hook_event_name": "PreToolUse", "tool_name": "Bash", "tool_input": {"command": command}, "tool_use_id": "toolu_1"}


HOOKS: Mapping[str, Hook] = {
    "python -c pass": Hook(None),
    "SessionStart": Hook({"hook_event_name": "SessionStart", "source": "startup"}),
    "PreToolUse, allow": Hook(_tool("ls -la"), aim=150),
    "PreToolUse, deny (recorded)": Hook(_tool("rm -rf /"), aim=150, rest_s=1.0),
    "PreToolUse, allow, 1,000 more rules": Hook(_tool("ls -la"), rules=1000),
    "PreToolUse, allow, read anew": Hook(_tool("ls -la"), words=("--no-cache",)),
    "PreToolUse, 1,000 more, read anew": Hook(_tool("ls -la"), words=("--no-cache",), rules=1000),
}
POLICY = """version: 1
default: deny
rules:
  - {id: look, tool: Bash, args: {command: {regex: "ls( .*)?"}}, decision: allow}
  - {id: no-rm, tool: Bash, args: {command: {search: "rm -rf"}}, decision: deny, reason: nothing is removed here}
"""
# As the console script does.
_RUN = "import sys; from otel_runtime.cli.main import main; sys.exit(main())"


def hooks(rounds: int) -> dict[str, dict[str, float]]:
    """Milliseconds from the start of a process to its end, medians of interleaved rounds, and the least of them; CPU beside it."""
    found: dict[str, list[dict[str, float]]] = {name: [] for name in HOOKS}
    with tempfile.TemporaryDirectory() as top:
        projects = {name: _project(Path(top) / str(at), hook) for at, (name, hook) in enumerate(HOOKS.items())}
        for name, hook in HOOKS.items():
            # The first writes bytecode, and keeps the rules it found sound.
            _waited(hook, projects[name])
        for _ in range(rounds):
            for name, hook in HOOKS.items():
                found[name].append(_waited(hook, projects[name]))
    return {
        name: {
            "ms": statistics.median(row["ms"] for row in rows),
            "least_ms": min(row["ms"] for row in rows),
            "cpu_ms": statistics.median(row["cpu_ms"] for row in rows),
        }
        for name, rows in found.items()
    }


def _project(folder: Path, hook: Hook) -> Path:
    (folder / ".git").mkdir(parents=True)
    more = (f"  - {{id: r{at}, tool: tool_{at}, args: {{x: {{regex: 'a{at}.*'}}}}, decision: allow}}\n" for at in range(hook.rules))
    (folder / "policy.yaml").write_text(POLICY + "".join(more))
    (folder / "otel-runtime.yaml").write_text('policy: policy.yaml\notlp: "off"\n')
    return folder


def _waited(hook: Hook, project: Path) -> dict[str, float]:
    code = "pass" if hook.event is None else _RUN
    words = [sys.executable, "-c", code, *(() if hook.event is None else ("hook", "claude-code", *hook.words))]
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"} | {"OTEL_METRICS_EXPORTER": "none"}
    given = b"" if hook.event is None else json.dumps({"session_id": "s", "cwd": str(project), **hook.event}).encode()
    start = time.perf_counter()
    process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=project, env=environ)
    if process.stdin is None or process.stdout is None:
        raise RuntimeError("expected two pipes")
    process.stdin.write(given)
    process.stdin.close()
    answer = process.stdout.read()
    process.stdout.close()
    _, status, used = os.wait4(process.pid, 0)
    spent = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode or bool(answer) != (hook.event is not None and "tool_name" in hook.event):
        sys.exit(f"benchmarks: a hook process ended with {process.returncode} and said {answer!r}")
    time.sleep(hook.rest_s)
    return {"ms": spent * 1e3, "cpu_ms": (used.ru_utime + used.ru_stime) * 1e3}


def render_hooks(found: Mapping[str, Mapping[str, float]]) -> str:
    """The table.

    Args:
        found: What `hooks` measured.
    """
    bare = found["python -c pass"]["ms"]
    lines = ["", "What a host program waits for a hook process, beside a bare interpreter; wall clock", ""]
    lines += [f"{'':<38}{'median':>10}{'least':>10}{'CPU':>10}{'ratio':>9}   aim"]
    for name, row in found.items():
        aim = f"< {HOOKS[name].aim} ms" if HOOKS[name].aim else "the reference" if HOOKS[name].event is None else ""
        times = "".join(f"{row[unit]:>7.1f} ms" for unit in ("ms", "least_ms", "cpu_ms"))
        lines.append(f"{name:<38}{times}{row['ms'] / bare:>8.1f}x   {aim}")
    return "\n".join(lines)


if __name__ == "__main__":
    print(render_hooks(hooks(int(sys.argv[1]) if len(sys.argv) > 1 else 11)))
