"""Reads an OTLP-JSON trace file back into spans."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["Span", "read_spans"]


@dataclass(frozen=True, slots=True)
class Span:
    """One finished span.

    Args:
        name, trace, id: As in the file; ids in hex.
        parent: Id of the span above it; empty at a root.
        attributes: Plain values.
        events: Names of its events.
        links: Ids of the spans it links to.
        start, end: Nanoseconds since 1970.
    """

    name: str
    trace: str
    id: str
    parent: str
    attributes: Mapping[str, object]
    events: tuple[str, ...]
    links: tuple[str, ...]
    start: int
    end: int


def read_spans(path: Path) -> list[Span]:
    """All spans of a file, by start time.

    Args:
        path: One OTLP-JSON document, or one per line.
    """
    return sorted((span for document in _documents(path) for span in _spans(document)), key=lambda span: span.start)


def _documents(path: Path) -> Iterator[dict[str, Any]]:
    text = path.read_text(encoding="utf-8")
    try:
        yield json.loads(text)
    except ValueError:
        # Not one document: then each line is one.
        yield from (json.loads(line) for line in text.splitlines() if line.strip())


def _spans(document: dict[str, Any]) -> Iterator[Span]:
    for resource in document.get("resourceSpans", []):
        for scope in resource.get("scopeSpans", []):
            yield from (_span(raw) for raw in scope.get("spans", []))


def _span(raw: dict[str, Any]) -> Span:
    return Span(
        name=raw["name"],
        trace=raw["traceId"],
        id=raw["spanId"],
        parent=raw.get("parentSpanId", ""),
        attributes={item["key"]: _plain(item["value"]) for item in raw.get("attributes", [])},
        events=tuple(event["name"] for event in raw.get("events", [])),
        links=tuple(link["spanId"] for link in raw.get("links", [])),
        start=int(raw["startTimeUnixNano"]),
        end=int(raw["endTimeUnixNano"]),
    )


def _plain(value: dict[str, Any]) -> object:
    if "intValue" in value:
        # 64-bit integers are strings in OTLP JSON.
        return int(value["intValue"])
    if "arrayValue" in value:
        return [_plain(item) for item in value["arrayValue"].get("values", [])]
    return next(iter(value.values()), None)
