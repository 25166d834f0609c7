"""What a hook process loads: the host waits for each of them, so what is not needed is not there. Times are in benchmarks/."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import otel_runtime

ROOT = Path(__file__).parents[2]
EVENTS: list[dict[str, Any]] = [
    json.loads(line) for line in (ROOT / "tests/integrations/data/claude_code/session.jsonl").read_text().splitlines()
]
POLICY = """
version: 1
default: deny
rules:
  - {id: look, tool: Bash, args: {command: {regex: "ls( .*)?"}}, decision: allow}
  - {id: no-rm, tool: Bash, args: {command: {search: "\\\\brm\\\\b"}}, decision: deny, reason: nothing is removed here}
  - {id: writes, tool: Write, args: {file_path: {under: "/srv"}}, decision: require-approval, approval: {approvers: [anyone]}}
  - {id: fetches, tool: WebFetch, args: {url: {url: {host: a.example}}}, decision: allow}
  - {id: asks, tool: Query, args: {text: {sql: {dialect: sqlite, schemas: [main]}}}, decision: allow}
"""
# Reading settings and policies, sending spans, storing approvals, tables of commands, and what they bring.
HEAVY = {
    "pydantic",
    "pydantic_core",
    "annotated_types",
    "yaml",
    "_yaml",
    "tomllib",
    "difflib",
    "opentelemetry",
    "google",
    "requests",
    "wrapt",
    "rich",
    "sqlglot",
    "zoneinfo",
    "asyncio",
    "email",
    "http",
    "socket",
    "tempfile",
}
OURS = {
    "otel_runtime.settings.model",
    "otel_runtime.settings.loading",
    "otel_runtime.settings.documents",
    "otel_runtime.policy.model",
    "otel_runtime.policy.loading",
    "otel_runtime.policy.cases",
    "otel_runtime.policy.explain",
    "otel_runtime.policy.facts_memory",
    "otel_runtime.policy.shell",
    "otel_runtime.policy.urls",
    "otel_runtime.policy.queries",
    "otel_runtime.runtime.runtime",
    "otel_runtime.telemetry.provider",
    "otel_runtime.wrap.decorators",
    "otel_runtime.cli.policy",
}
STORE = {"sqlite3", "otel_runtime.approvals.schema", "otel_runtime.storage.sqlite", "otel_runtime.audit.log"}


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package that nobody edits while the tests run."""
    top = tmp_path_factory.mktemp("package")
    shutil.copytree(Path(otel_runtime.__file__).parent, top / "otel_runtime", ignore=shutil.ignore_patterns("__pycache__"))
    return top


@pytest.fixture
def here(tmp_path: Path) -> Path:
    (tmp_path / ".git").mkdir()
    (tmp_path / "policy.yaml").write_text(POLICY)
    (tmp_path / "otel-runtime.yaml").write_text('policy: policy.yaml\notlp: "off"\n')
    return tmp_path


def event(name: str, at: int = 0, **changes: object) -> dict[str, Any]:
    return {**[item for item in EVENTS if item["hook_event_name"] == name][at], **changes}


def loaded(package: Path, here: Path, given: dict[str, Any], *words: str) -> set[str]:
    """Names of all modules that the process which answers an event has loaded when its answer is out."""
    program = (
        f"import sys; from otel_runtime.cli.main import main; code = main({['hook', 'claude-code', *words]!r});"
        "print('\\n'.join(sys.modules), file=sys.stderr); sys.exit(code)"
    )
    environ = {**os.environ, "PYTHONPATH": str(package), "OTEL_METRICS_EXPORTER": "none"}
    done = subprocess.run(
        [sys.executable, "-c", program], input=json.dumps(given), capture_output=True, text=True, check=True, cwd=here, env=environ
    )
    return set(done.stderr.split())


def tops(modules: set[str]) -> set[str]:
    return {name.partition(".")[0] for name in modules}


class TestDecision:
    """Before a tool, the second time the same rules decide."""

    def test_an_allow(self, package: Path, here: Path) -> None:
        """No reader of policies or settings, no store, no telemetry, and no operator that its rules do not use."""
        loaded(package, here, event("PreToolUse"))
        modules = loaded(package, here, event("PreToolUse"))
        assert set() == tops(modules) & HEAVY
        assert set() == modules & (OURS | STORE)
        assert "otel_runtime.policy.decide" in modules

    @pytest.mark.parametrize("at", [1, 2], ids=["deny", "ask"])
    def test_a_refusal(self, package: Path, here: Path, at: int) -> None:
        """The store that records it, and nothing else more."""
        loaded(package, here, event("PreToolUse", at))
        modules = loaded(package, here, event("PreToolUse", at))
        assert set() == tops(modules) & HEAVY
        assert set() == modules & OURS
        assert STORE <= modules

    def test_of_another_tool(self, package: Path, here: Path) -> None:
        """What was kept for one tool serves all of them; each loads the operators of its own rules."""
        loaded(package, here, event("PreToolUse"))
        modules = loaded(package, here, event("PreToolUse", tool_name="WebFetch", tool_input={"url": "https://a.example/"}))
        assert {"otel_runtime.policy.urls"} == modules & OURS

    def test_read_anew(self, package: Path, here: Path) -> None:
        """The first time, and with `--no-cache`, everything is read: the tests above would see it."""
        assert {"pydantic", "yaml"} <= tops(loaded(package, here, event("PreToolUse"), "--no-cache"))
        assert {"pydantic", "yaml"} <= tops(loaded(package, here, event("PreToolUse")))
        assert {"otel_runtime.settings.model", "otel_runtime.policy.model"} <= loaded(package, here, event("PreToolUse"), "--no-cache")


class TestOtherEvents:
    """Nothing is decided."""

    @pytest.mark.parametrize("name", ["SessionStart", "UserPromptSubmit", "Notification", "PreCompact", "SubagentStart"])
    def test_most_load_next_to_nothing(self, package: Path, here: Path, name: str) -> None:
        """Not even what decides."""
        modules = loaded(package, here, event(name))
        assert set() == tops(modules) & (HEAVY | {"re2"})
        assert {"otel_runtime.policy.decide", "otel_runtime.values.action"} & modules == set()
        assert {name for name in modules if name.startswith("otel_runtime.")} == {
            "otel_runtime._version",
            "otel_runtime.cli",
            "otel_runtime.cli.hook",
            "otel_runtime.cli.main",
            "otel_runtime.errors",
            "otel_runtime.integrations",
            "otel_runtime.integrations.claude_code",
            "otel_runtime.integrations.claude_code_events",
            "otel_runtime.integrations.claude_code_session",
        }
