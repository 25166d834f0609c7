"""The wire shapes: the tables, the models, the published schemas, and what really came over the wire."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from otel_runtime.sources import wire_a3s, wire_dreadnode, wire_vitehub
from otel_runtime.sources.a3s import VARIANTS
from otel_runtime.sources.dreadnode import KINDS
from otel_runtime.sources.registry import source
from otel_runtime.sources.schemas import schema_texts
from otel_runtime.sources.vitehub import FAMILIES

PUBLISHED = Path(__file__).parents[2] / "docs" / "schemas"


class TestTables:
    def test_every_variant_has_a_shape(self) -> None:
        """The translator's tables and the wire's name the same kinds, in the same order."""
        assert list(VARIANTS) == list(wire_a3s.FIELDS)
        assert {*KINDS, "turn.event"} == set(wire_dreadnode.PAYLOADS)
        assert list(FAMILIES) == list(wire_vitehub.FAMILY_FIELDS)

    @pytest.mark.parametrize("model", wire_a3s.models(), ids=lambda model: model.__name__)
    def test_an_example_of_each_variant_is_read(self, model: type[wire_a3s.Subscribed]) -> None:
        """A value that fits the model is no malformed event."""
        examples = {str: "x", int: 1, bool: True, float: 0.5}
        tag = model.model_fields["type"].annotation.__args__[0]  # type: ignore[union-attr]  # a Literal
        kinds = {name: getattr(kind, "__origin__", kind) for name, kind in wire_a3s.FIELDS[tag].items()}
        raw = {"type": tag} | {
            name: [] if kind is list else examples.get(kind, {}) for name, kind in kinds.items() if "None" not in str(kind)
        }
        reader = source("a3s")
        reader.translate(model.model_validate(raw).model_dump(exclude_none=True))
        assert {} == dict(reader.malformed)

    def test_a_missing_field_does_not_fit(self) -> None:
        """Models are strict where the page is."""
        with pytest.raises(ValidationError, match="exit_code"):
            wire_a3s.models()[5].model_validate({"type": "tool_end", "id": "c", "name": "n", "output": ""})


class TestSchemas:
    def test_published_ones_are_up_to_date(self) -> None:
        """`python -m otel_runtime.sources.schemas docs/schemas` would change nothing."""
        assert schema_texts() == {path.name: path.read_text(encoding="utf-8") for path in sorted(PUBLISHED.glob("*.json"))}


class TestRecordings:
    def test_recorded_envelopes_fit(self, recordings: Path) -> None:
        """Every envelope and agent event of the real system fits its model, which keeps it whole."""
        envelopes = {model.model_fields["kind"].annotation.__args__[0]: model for model in wire_dreadnode.models()}  # type: ignore[union-attr]
        raws = [json.loads(line) for path in sorted(recordings.glob("*.jsonl")) for line in path.read_text(encoding="utf-8").splitlines()]
        for raw in raws:
            model = envelopes[raw["kind"]] if "kind" in raw else wire_dreadnode.AgentEvent
            assert raw == model.model_validate(raw).model_dump(exclude_unset=True, mode="json")
        assert {True, False} == {"kind" in raw for raw in raws}
