"""The JSON Schema of policy files, for editors: from the models that load them, so that the two cannot drift apart.

Draft 07, because that is what the language servers behind VS Code and IntelliJ read in full. There `$ref` hides what stands beside it, so a
reference with a description is written as `allOf`.
"""

from __future__ import annotations

import json
from typing import Any, Final

from otel_runtime.policy.model import PolicyFile

__all__ = ["DRAFT", "policy_schema", "schema_text"]

DRAFT: Final = "http://json-schema.org/draft-07/schema#"
_NAME: Final = "^[A-Za-z0-9_.:-]{1,128}$"
_APPROVER: Final = "^(acting-user|anyone|role:[A-Za-z0-9_.:-]{1,128}|user:.+)$"
_WINDOW: Final = "^([0-9]{1,9}(\\.[0-9]{1,3})?(ms|s|min|m|h|d)|day|month)$"
# Blocks of conditions that would hold for everything when empty.
_FILLED: Final = ("Conditions", "Test", "After", "UrlParts", "Origins")


def policy_schema() -> dict[str, Any]:
    """The schema as JSON data."""
    schema = _tidied(PolicyFile.model_json_schema(by_alias=True, ref_template="#/definitions/{model}"))
    definitions = schema.pop("$defs")
    _complete(schema, definitions)
    head = {"$schema": DRAFT, "title": "otel-runtime policy"}
    return {**head, **_referring(schema), "definitions": _referring(definitions)}


def schema_text() -> str:
    """The schema as the text of `policy/schema.json`."""
    return json.dumps(policy_schema(), indent=2, ensure_ascii=False) + "\n"


def _complete(schema: dict[str, Any], definitions: dict[str, Any]) -> None:
    """Say what the loader says in code: short forms it takes, and keys that need each other."""
    for name in _FILLED:
        definitions[name]["minProperties"] = 1
    test, rule, over = definitions["Test"]["properties"], definitions["Rule"], definitions["Over"]
    test["length"] = _either(test["length"], {"type": "integer", "minimum": 0})
    source = {"type": "string", "minLength": 1}
    test["origin"] = _either(test["origin"], source, {"type": "array", "items": source, "minItems": 1})
    rule["properties"]["id"]["pattern"] = _NAME
    definitions["Approval"]["properties"]["approvers"]["items"]["pattern"] = _APPROVER
    over["properties"]["per"]["pattern"] = _WINDOW
    over["oneOf"] = [{"required": [counted]} for counted in ("calls", "attempts", "tokens", "usd", "sum")]
    over["dependencies"] = {"sum": ["max"], "max": ["sum"], "reserve": {"anyOf": [{"required": ["usd"]}, {"required": ["tokens"]}]}}
    rule["allOf"] = [
        _only_with("approval", {"decision": {"const": "require-approval"}}, needed=True),
        _only_with("retry", {"decision": {"const": "retryable-failure"}}, needed=False),
    ]
    definitions["FileCase"]["allOf"] = [
        _only_with("approval", {"expect": {"const": "require-approval"}}, needed=False),
        _only_with("retry", {"expect": {"const": "retryable-failure"}}, needed=False),
    ]
    definitions["Asked"]["properties"]["approvers"]["items"]["pattern"] = _APPROVER
    schema["allOf"] = [_only_with("approval", {"default": {"const": "require-approval"}}, needed=True)]
    schema["properties"]["tools"]["propertyNames"] = {"pattern": _NAME}


def _either(reference: dict[str, Any], *others: dict[str, Any]) -> dict[str, Any]:
    described = {key: value for key, value in reference.items() if key != "$ref"}
    return {"anyOf": [*others, {"$ref": reference["$ref"]}], **described}


def _only_with(key: str, condition: dict[str, Any], *, needed: bool) -> dict[str, Any]:
    """A key that belongs to one value of another."""
    test = {"properties": condition, "required": list(condition)}
    then = {"required": [key]} if needed else {}
    return {"if": test, "then": then, "else": {"not": {"required": [key]}}}


def _referring(node: Any) -> Any:  # JSON data of any shape
    if isinstance(node, list):
        return [_referring(item) for item in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node and len(node) > 1:
        return {"allOf": [{"$ref": node["$ref"]}], **{key: _referring(value) for key, value in node.items() if key != "$ref"}}
    return {key: _referring(value) for key, value in node.items()}


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
