"""Import time and memory of fresh interpreters."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Mapping

__all__ = ["STARTS", "startup"]

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
