"""The helper for the `a3s-code` SDK: on objects of its shape, and on the real ones in an environment of their own."""

from __future__ import annotations

import functools
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from otel_runtime.integrations.a3s import awatch, responder, watch, wire
from otel_runtime.runtime.build import build_runtime
from otel_runtime.settings.model import Settings
from otel_runtime.sources.asking import Question
from otel_runtime.sources.registry import source

HOW = "make foreign"
PROGRAM = Path(__file__).parent / "a3s_bridge.py"
POLICY = """version: 1
default: allow
rules:
  - id: no-rm
    tool: bash
    args: {command: {starts_with: "rm "}}
    decision: deny
    reason: nothing is removed
"""


@functools.cache
def bridged(folder: Path, package: Path) -> dict[str, Any]:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    told = os.environ.get("OTEL_RUNTIME_FOREIGN")
    where = Path(told) if told else cache / "otel-runtime" / "foreign"
    if not (where / ".complete-1").is_file():
        pytest.skip(f"the package `a3s-code` is not in {where}: run `{HOW}`")
    (folder / "a3s.yaml").write_text(POLICY, encoding="utf-8")
    words: list[str | Path] = [where / "bin" / "python", PROGRAM, folder / "a3s.yaml", folder / "a3s.db"]
    environ = {**os.environ, "PYTHONPATH": str(package), "HOME": str(folder)}
    done = subprocess.run(words, env=environ, cwd=folder, capture_output=True, text=True, check=False, timeout=170)
    found = [line.removeprefix("BRIDGED ") for line in done.stdout.splitlines() if line.startswith("BRIDGED ")]
    assert found, done.stderr[-3000:]
    result: dict[str, Any] = json.loads(found[0])
    return result


@pytest.fixture
def live(tmp_path_factory: pytest.TempPathFactory, package_alone: Path) -> dict[str, Any]:
    """Two real sessions: one whose command our policy allows, one whose it refuses."""
    return bridged(tmp_path_factory.getbasetemp(), package_alone)


class TestLive:
    def test_our_policy_answers_their_confirmations(self, live: dict[str, Any]) -> None:
        """The allowed command ran and gave output, the refused one did not run."""
        assert (True, False) == ("tool_output_delta" in live["allowed"], "tool_output_delta" in live["refused"])
        names = [(span["name"], span["parent"]) for span in live["spans"]]
        expected = {"approval approved bash", "approval denied bash", "policy deny bash"}
        assert {(name, "execute_tool bash") for name in expected} <= set(names)

    def test_the_trees_are_whole(self, live: dict[str, Any]) -> None:
        """Each session is a run with its turns, its context and its tool, which is an error where it was refused."""
        tools = [span["status"] for span in live["spans"] if span["name"] == "execute_tool bash"]
        assert ["ERROR", "UNSET"] == sorted(tools)
        count = sum(span["name"] == "turn" for span in live["spans"])
        assert (4, 2) == (count, sum(span["parent"] is None for span in live["spans"]))

    def test_what_was_recorded_there_gives_the_same_tree(self, live: dict[str, Any]) -> None:
        """`run_events` spells its starts and ends otherwise, and has numbers and times; a first run read again is the same."""
        first = [(span["name"], span["parent"]) for span in live["spans"]]
        again = [(span["name"], span["parent"]) for span in live["replayed"]]
        assert sorted(again) == sorted(first[: len(again)])


def thing(kind: str, **fields: object) -> SimpleNamespace:
    """An event with every attribute of the SDK's."""
    names = "data error exit_code prompt text tool_id tool_name tool_output total_tokens turn verification_summary_json".split()
    return SimpleNamespace(event_type=kind, **{name: fields.get(name) for name in names})


class TestWire:
    @pytest.mark.parametrize(
        ("event", "expected"),
        [
            (thing("start", prompt="p"), {"type": "start", "prompt": "p"}),
            (thing("tool_start", tool_id="c", tool_name="sh"), {"type": "tool_start", "id": "c", "name": "sh"}),
            (
                thing("tool_end", tool_id="c", tool_name="sh", tool_output="o", exit_code=2),
                {"type": "tool_end", "id": "c", "name": "sh", "output": "o", "exit_code": 2},
            ),
            (thing("tool_input_delta", text="{"), {"type": "tool_input_delta", "delta": "{"}),
            (
                thing("confirmation_required", tool_id="c", tool_name="sh", data='{"args": {"x": 1}, "timeout_ms": 5}'),
                {"type": "confirmation_required", "tool_id": "c", "tool_name": "sh", "args": {"x": 1}, "timeout_ms": 5},
            ),
            (thing("turn_end", turn=1, total_tokens=14), {"type": "turn_end", "turn": 1, "usage": {"total_tokens": 14}}),
            (thing("error", error="m"), {"type": "error", "message": "m"}),
            ({"ToolStart": {"id": "c", "name": "sh"}}, {"ToolStart": {"id": "c", "name": "sh"}}),
            (
                {"sequence": 3, "timestamp_ms": 9, "event": {"type": "agent_start", "prompt": "p"}},
                {"type": "agent_start", "prompt": "p", "timestamp": 9, "seq": 3},
            ),
        ],
    )
    def test_each_shape(self, event: object, expected: dict[str, object]) -> None:
        """An object, a mapping in either spelling, a record: the fields of the wire."""
        assert expected == dict(wire(event))
        assert 1 == len(source("a3s", "s").translate(wire(event)))

    @pytest.mark.parametrize("data", ["{", "[1]", '"x"', "9" * 5000, "[" * 50_000])
    def test_data_that_is_no_object(self, data: str) -> None:
        """It is left out, and the event is what its attributes say."""
        (event,) = source("a3s", "s").translate(wire(thing("turn_start", turn=1, data=data)))
        assert ("turn.start", 1) == (event.name, event.attributes["turn"])

    def test_a_hostile_object(self) -> None:
        """Its failure stays with it."""

        class Hostile:
            @property
            def event_type(self) -> str:
                raise RuntimeError("no")

        reader = source("a3s", "s")
        assert ((), 1) == (reader.translate(wire(Hostile())), sum(reader.malformed.values()))

    def test_the_session_is_put_beside_it(self) -> None:
        """Unless the event names one itself."""
        assert "s" == wire(thing("start"), session="s")["session_id"]
        assert "own" == wire({"type": "subagent_start", "session_id": "own"}, session="s")["session_id"]


class TestWatch:
    def test_events_are_handed_on_untouched(self, tmp_path: Path) -> None:
        """The same objects, in order, though the loop is left early; what was open is closed."""
        events = [thing("start", prompt="p"), thing("tool_start", tool_id="c", tool_name="sh"), thing("end")]
        with build_runtime(Settings(trace_file=tmp_path / "t.json", otlp="off")) as runtime, runtime.use():
            seen: Iterator[SimpleNamespace] = watch(events, session=SimpleNamespace(session_id="s1"))
            assert events[:2] == [next(seen), next(seen)]
            seen.close()  # type: ignore[attr-defined]  # a generator
        text = (tmp_path / "t.json").read_text(encoding="utf-8")
        assert ("execute_tool sh" in text, "s1" in text) == (True, True)

    async def collected(self, events: list[SimpleNamespace]) -> list[SimpleNamespace]:
        async def stream() -> Any:
            for event in events:
                yield event

        return [event async for event in awatch(stream())]

    def test_asynchronous_streams(self, tmp_path: Path) -> None:
        """The same for `async for`."""
        import asyncio

        events = [thing("start", prompt="p"), thing("end")]
        with build_runtime(Settings(trace_file=tmp_path / "t.json", otlp="off")) as runtime, runtime.use():
            assert events == asyncio.run(self.collected(events))
        assert "invoke_agent" in (tmp_path / "t.json").read_text(encoding="utf-8")

    def test_answers_name_the_tool(self) -> None:
        """The id of the question is ours, the tool's is theirs."""
        told: list[tuple[object, ...]] = []
        session = SimpleNamespace(confirm_tool_use=lambda *words: told.append(words))
        responder(session)(Question("a3s", "c1", "rm", call_id="c1"), "denied")
        assert [("c1", False, None)] == told
