"""The JSON Schema of policy files, for editors: from the models that load them, so that the two cannot drift apart."""

from __future__ import annotations

import json
from typing import Any

from otel_runtime.policy.model import PolicyFile

__all__ = ["policy_schema", "schema_text"]


def policy_schema() -> dict[str, Any]:
    """The schema as JSON data."""
    schema = _tidied(PolicyFile.model_json_schema(by_alias=True))
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "otel-runtime policy", **schema}


def schema_text() -> str:
    """The schema as the text of `policy/schema.json`."""
    return json.dumps(policy_schema(), indent=2, ensure_ascii=False) + "\n"


def _tidied(node: Any) -> Any:  # JSON data of any shape
    """Drop what pydantic notes for itself: titles, and null as the default of keys that may be left out but never be null."""
    if isinstance(node, list):
        return [_tidied(item) for item in node]
    if not isinstance(node, dict):
        return node
    kept = {key: _tidied(value) for key, value in node.items() if not (key == "title" and isinstance(value, str))}
    if "default" in kept and kept["default"] is None:
        del kept["default"]
        kept = _without_null(kept)
    return kept


def _without_null(node: dict[str, Any]) -> dict[str, Any]:
    options = [option for option in node.get("anyOf", []) if option != {"type": "null"}]
    if "anyOf" not in node:
        return node
    rest = {key: value for key, value in node.items() if key != "anyOf"}
    return {**options[0], **rest} if len(options) == 1 else {"anyOf": options, **rest}
