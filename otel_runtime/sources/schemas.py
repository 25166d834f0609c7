"""JSON Schemas of the wire shapes: `python -m otel_runtime.sources.schemas docs/schemas` writes them."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Union

from pydantic import BaseModel, TypeAdapter

from otel_runtime.sources import wire_a3s, wire_dreadnode, wire_vitehub

__all__ = ["schema_texts", "write"]


def schema_texts() -> dict[str, str]:
    """File name -> JSON text."""
    return {
        "a3s-agent-event.json": _text("a3s AgentEvent", wire_a3s.models()),
        "dreadnode-agent-event.json": _text("Dreadnode agent event", (wire_dreadnode.AgentEvent,)),
        "dreadnode-envelope.json": _text("Dreadnode EventEnvelope", wire_dreadnode.models()),
        "vitehub-event.json": _text("ViteHub TraceEvent or agent stream event", wire_vitehub.models()),
    }


def write(folder: Path) -> None:
    """Write every schema.

    Args:
        folder: Made when it does not exist.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in schema_texts().items():
        (folder / name).write_text(text, encoding="utf-8")


def _text(title: str, models: tuple[type[BaseModel], ...]) -> str:
    union: Any = Union[models]  # noqa: UP007 - Any: a type made at run time
    schema = TypeAdapter[Any](union).json_schema()
    return json.dumps({"$schema": "https://json-schema.org/draft/2020-12/schema", "title": title} | schema, indent=1, sort_keys=True) + "\n"


if __name__ == "__main__":
    write(Path(sys.argv[1]))
