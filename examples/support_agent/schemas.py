"""The tools as the model is told about them, in the OpenAI format."""

from __future__ import annotations

from collections.abc import Callable

import tools
from openai.types.chat import ChatCompletionToolParam

__all__ = ["SCHEMAS", "TOOLS"]

TOOLS: dict[str, Callable[..., object]] = {name: getattr(tools, name) for name in tools.__all__}

_TEXT = {"type": "string"}
_PARAMETERS: dict[str, dict[str, object]] = {
    "check_stock": {"sku": _TEXT},
    "find_customers": {"limit": {"type": "integer"}},
    "find_orders": {"email": _TEXT},
    "get_order": {"order_id": {"type": "integer"}},
    "refund": {"order_id": {"type": "integer"}, "amount": {"type": "number", "description": "in EUR"}, "reason": _TEXT},
    "send_email": {"to": {"type": "array", "items": _TEXT}, "subject": _TEXT, "body": _TEXT},
    "web_fetch": {"url": _TEXT},
}
_OPTIONAL = {"find_customers": {"limit"}}


def _schema(name: str, properties: dict[str, object]) -> ChatCompletionToolParam:
    required = [key for key in properties if key not in _OPTIONAL.get(name, set())]
    parameters: dict[str, object] = {"type": "object", "properties": properties, "required": required, "additionalProperties": False}
    return {"type": "function", "function": {"name": name, "description": TOOLS[name].__doc__ or "", "parameters": parameters}}


SCHEMAS: list[ChatCompletionToolParam] = [_schema(name, properties) for name, properties in _PARAMETERS.items()]
