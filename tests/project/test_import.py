"""`import otel_runtime` starts nothing and loads nothing heavy."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TypedDict

import pytest

PROBE = Path(__file__).with_name("probe_import.py")

# Names of the public face that are, or belong to, the built runtime; everything else must stay light when touched.
HEAVY_NAMES = ["Runtime", "Settings", "UsageTotals", "configure"]


class Report(TypedDict):
    """What the probe prints."""

    effects: list[str]
    environment: list[str]
    threads: list[str]
    heavy: list[str]
    touched: int


def probe(*words: str, env: dict[str, str] | None = None) -> Report:
    """Run the probe in a fresh interpreter."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("OTEL_", "COV_"))}
    # -B: writing its own bytecode is the interpreter's doing, not the package's.
    command = [sys.executable, "-B", str(PROBE), *words]
    done = subprocess.run(command, env=clean | (env or {}), capture_output=True, text=True, check=False)
    assert (0, "") == (done.returncode, done.stderr)
    report: Report = json.loads(done.stdout)
    return report


@pytest.fixture(scope="module")
def untouched() -> Report:
    return probe()


@pytest.fixture(scope="module")
def touched() -> Report:
    return probe("touch", *HEAVY_NAMES)


class TestImport:
    def test_opens_no_file_socket_or_process(self, untouched: Report) -> None:
        """Importing opens nothing but modules: no file, no socket, no process, no thread."""
        assert ([], []) == (untouched["effects"], untouched["threads"])

    def test_reads_no_environment(self, untouched: Report) -> None:
        """Importing reads no environment variable: settings are read by `configure`."""
        assert [] == untouched["environment"]

    def test_loads_no_sdk_and_no_parser(self, untouched: Report) -> None:
        """Importing loads neither OpenTelemetry nor pydantic, yaml, rich or any other package of ours to install."""
        assert [] == untouched["heavy"]

    def test_survives_bad_otel_variables(self) -> None:
        """A bad OTEL_* value, at which the SDK raises on import, does not reach us."""
        report = probe(env={"OTEL_PROPAGATORS": "nonsense", "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT": "nonsense", "OTEL_TRACES_SAMPLER_ARG": "x"})
        assert [] == report["heavy"]


class TestPublicNames:
    def test_touching_them_starts_nothing(self, touched: Report) -> None:
        """Naming every public name but those of the built runtime starts nothing either."""
        assert ([], [], []) == (touched["effects"], touched["threads"], touched["environment"])

    def test_touching_them_loads_nothing_heavy(self, touched: Report) -> None:
        """Naming every public name but those of the built runtime loads no heavy package."""
        assert touched["touched"] > 10
        assert [] == touched["heavy"]


class TestProbe:
    """The instrument itself: a probe that sees nothing proves nothing."""

    def test_sees_what_it_must_see(self, tmp_path: Path) -> None:
        """A package that opens a file, reads the environment, starts a thread and imports a parser is caught at each."""
        package = tmp_path / "otel_runtime"
        package.mkdir()
        (package / "__init__.py").write_text(
            "import os, threading, socket, time, yaml\n"
            "open(os.devnull).close()\n"
            "os.getenv('HOME')\n"
            "socket.socket().close()\n"
            "threading.Thread(target=time.sleep, args=(60,), daemon=True, name='mine').start()\n"
            "__all__ = []\n"
        )
        report = probe(env={"PYTHONPATH": str(tmp_path)})
        assert (["HOME"], ["mine"], ["yaml"]) == (report["environment"], report["threads"], report["heavy"])
        assert {"open", "socket.__new__"} == {effect.split(" ")[0] for effect in report["effects"]}
