"""docs/telemetry.md lists exactly what is emitted."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest

from otel_runtime.telemetry import conventions, event_attributes

PAGE = Path(__file__).parents[2] / "docs" / "telemetry.md"


def section(title: str) -> list[str]:
    """First column of the section's table, without backticks."""
    body = re.split(r"^## ", PAGE.read_text("utf-8"), flags=re.MULTILINE)
    (found,) = (part for part in body if part.startswith(title + "\n"))
    return [row.split("|")[1].strip().strip("`") for row in found.splitlines() if row.startswith("| `")]


class TestPage:
    @pytest.mark.parametrize(
        ("title", "table"),
        [
            ("Spans", conventions.SPANS),
            ("Attributes", conventions.ATTRIBUTES),
            ("Events", conventions.EVENTS),
            ("Metrics", conventions.METRICS),
            ("Values of error.type", conventions.ERROR_TYPES),
        ],
    )
    def test_table(self, title: str, table: Mapping[str, object]) -> None:
        """Every name of the table in code stands on the page, in order, and nothing else."""
        assert list(table) == section(title)

    def test_every_constant_is_listed(self) -> None:
        """No attribute, event or metric label is emitted that the tables do not list."""
        modules = {**vars(event_attributes), **vars(conventions)}
        constants = {value for name, value in modules.items() if name.isupper() and isinstance(value, str) and "." in value}
        listed: Iterable[str] = (*conventions.ATTRIBUTES, *conventions.EVENTS, conventions.VERSION)
        # Foreign attributes are listed as a family, `otel_runtime.attr.{key}`.
        assert {name for name in constants if not name.startswith("otel_runtime.attr.")} <= set(listed)
        assert {label for metric in conventions.METRICS.values() for label in metric.labels} <= set(conventions.ATTRIBUTES)
