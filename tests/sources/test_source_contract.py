"""What every source promises, whatever it is fed."""

from __future__ import annotations

import ast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_runtime.errors import ConfigError
from otel_runtime.sources.reading import CONTROL
from otel_runtime.sources.registry import known_sources, source
from otel_runtime.values.trace import TraceEvent

SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.binary(max_size=5)
KINDS = st.sampled_from(
    ["tool-call", "tool_start", "turn.event", "turn.failed", "prompt.required", "usage", "turn_end", "toolstart", "error"]
)
VALUES = st.recursive(
    SCALARS | KINDS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3), max_leaves=8
)
FIELDS = st.sampled_from(
    [
        "type",
        "kind",
        "name",
        "payload",
        "raw_event",
        "data",
        "tool_call",
        "usage",
        "id",
        "toolCallId",
        "tool_id",
        "trace",
        "timestamp",
        "turn",
        "error",
    ]
)
RAWS = VALUES | st.dictionaries(FIELDS, VALUES | KINDS, max_size=6)


class Hostile(dict[str, object]):
    def __getitem__(self, key: str) -> object:
        raise RuntimeError(key)


class TestRegistry:
    def test_an_unknown_name_is_refused_with_the_known_ones(self) -> None:
        """The error names what there is."""
        with pytest.raises(ConfigError, match="unknown event source `nope`, expected one of `a3s`, `dreadnode`, `vitehub`"):
            source("nope")

    @pytest.mark.parametrize("name", known_sources())
    def test_streams_do_not_share_runs(self, name: str) -> None:
        """Two streams that name no run are two runs."""
        raw = {"type": "agentstart"} if name == "dreadnode" else {"type": "text-delta" if name == "vitehub" else "start"}
        assert source(name).translate(raw)[0].attributes["run.id"] != source(name).translate(raw)[0].attributes["run.id"]


@pytest.mark.parametrize("name", known_sources())
class TestMalformed:
    @given(raws=st.lists(RAWS, max_size=5))
    def test_nothing_raises(self, name: str, raws: list[object]) -> None:
        """Whatever comes in, TraceEvents or a count come out."""
        reader = source(name)
        for raw in raws:
            before = sum(reader.malformed.values())
            events = reader.translate(raw)
            assert all(isinstance(event, TraceEvent) for event in events)
            assert events or sum(reader.malformed.values()) == before + 1

    @pytest.mark.parametrize(
        "raw", [None, 5, "x", [], {}, {"type": 5}, {"kind": None}, Hostile(type="x"), {"type": "toolstart", "data": 7}]
    )
    def test_what_cannot_be_read_is_counted(self, name: str, raw: object) -> None:
        """It is reported, not raised."""
        reader = source(name)
        seen = reader.translate(raw)
        assert 1 == len(seen) + sum(reader.malformed.values())

    def test_a_value_that_cannot_be_compared(self, name: str) -> None:
        """Not even after a delta, whose likes are recognised by comparison."""

        class Broken:
            def __eq__(self, other: object) -> bool:
                raise RuntimeError

            __hash__ = None  # type: ignore[assignment]  # as broken classes are

        reader = source(name)
        for kind in ("text_delta", "text-delta"):
            for raw in ({"type": kind, "text": "a"}, {"type": Broken(), "text": "a"}, {"type": [], "text": "a"}):
                before = sum(reader.malformed.values())
                assert 1 == len(reader.translate(raw)) + sum(reader.malformed.values()) - before

    def test_reasons_are_bounded(self, name: str) -> None:
        """Ever new rubbish does not make the report grow."""
        reader = source(name)
        for number in range(500):
            reader.translate(
                {f"key{number}": number} if name == "a3s" else {"type": "tool-result", "toolCallId": str(number), "data": number}
            )
        assert len(reader.malformed) <= 65


class TestForgery:
    @pytest.mark.parametrize(
        ("name", "raw"),
        [
            ("vitehub", {"name": "note", "type": "run", "attributes": {"run.id": "r", "SPOOF": True}}),
            ("a3s", {"type": "memory_stored", "SPOOF": True}),
            ("dreadnode", {"kind": "myapp.note", "payload": {"SPOOF": True}}),
        ],
    )
    @pytest.mark.parametrize("spoof", sorted(CONTROL - {"event.source", "run.announced", "event.capped"}))
    def test_what_a_source_says_nobody_else_can_say(self, name: str, raw: dict[str, object], spoof: str) -> None:
        """A foreign attribute with one of the projector's own names changes nothing there."""
        text = repr(raw).replace("SPOOF", spoof)
        (event,) = source(name).translate(ast.literal_eval(text))
        assert event.attributes.get(spoof) is not True

    def test_a_payload_cannot_move_an_event_to_another_run(self) -> None:
        """Ids are taken from their own fields only."""
        (event,) = source("dreadnode").translate(
            {"kind": "turn.started", "turn_id": "t1", "payload": {"run.id": "other", "session.id": "x"}}
        )
        assert ("t1", None) == (event.attributes["run.id"], event.attributes.get("session.id"))
