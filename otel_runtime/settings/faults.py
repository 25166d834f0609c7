"""Turn what pydantic says about a document into faults with positions and hints."""

from __future__ import annotations

import typing
from collections.abc import Mapping, Sequence
from typing import Literal, TypeAlias

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from otel_runtime.errors import Fault
from otel_runtime.settings.documents import Document
from otel_runtime.settings.nearest import did_you_mean

__all__ = ["did_you_mean", "validation_faults"]

Path: TypeAlias = tuple[int | str, ...]

_MISSING = "missing"
_UNKNOWN = "extra_forbidden"
_NUMBERS = {_UNKNOWN: "003", _MISSING: "004"}


def validation_faults(
    document: Document,
    error: ValidationError,
    code_prefix: str,
    model: type[BaseModel] | None = None,
    hints: Mapping[str, str] | None = None,
    base: tuple[str | int, ...] = (),
) -> list[Fault]:
    """One fault per mistake, in the order of the document.

    Args:
        document: What was validated.
        error: What pydantic found.
        code_prefix: Letter of the codes: `003` unknown key, `004` missing key, `005` wrong value.
        model: The model, for "did you mean" on unknown keys.
        hints: Own messages for some unknown keys.
        base: Path of the validated part inside the document.
    """
    details = error.errors(include_url=False)
    meant = _meant(details, model, hints or {})
    faults = [
        _fault(document, detail, code_prefix, model, hints or {}, base)
        for detail in details
        if detail["type"] != _MISSING or detail["loc"] not in meant
    ]
    return sorted(set(faults), key=lambda fault: (fault.line, fault.column, fault.code, fault.message))


def _meant(details: Sequence[ErrorDetails], model: type[BaseModel] | None, hints: Mapping[str, str]) -> set[Path]:
    """Paths of keys that unknown ones suggest: a misspelt key is one mistake, not also a missing key."""
    found: set[Path] = set()
    lacking = {detail["loc"][:-1] for detail in details if detail["type"] == _MISSING}
    for detail in details:
        if detail["type"] == _UNKNOWN and detail["loc"][:-1] in lacking:
            *outer, last = detail["loc"]
            said = hints.get(str(last)) or _suggestion(str(last), model, tuple(outer))
            found |= {(*outer, word.partition(":")[0]) for word in _quoted(said) if "known keys" not in said}
    return found


def _fault(
    document: Document,
    detail: ErrorDetails,
    prefix: str,
    model: type[BaseModel] | None,
    hints: Mapping[str, str],
    base: tuple[str | int, ...],
) -> Fault:
    kind, loc = detail["type"], detail["loc"]
    # pydantic marks a mapping's key that is itself wrong so.
    wrong_key = bool(loc) and loc[-1] == "[key]"
    loc = loc[:-1] if wrong_key else loc
    on: Literal["key", "value"] = "key" if wrong_key or kind in _NUMBERS else "value"
    context = detail.get("ctx") or {}
    custom = context.get("code")
    # Which item of a list it is; the document passes over it where one item stands without a list.
    loc = (*loc, context["at"]) if isinstance(context.get("at"), int) else loc
    if kind == _UNKNOWN and model is not None:
        custom = _word(model, loc)[0]
    code = str(custom) if custom else prefix + _NUMBERS.get(kind, "005")
    return document.fault((*base, *loc), code, _message(detail, model, hints), on)


def _message(detail: ErrorDetails, model: type[BaseModel] | None, hints: Mapping[str, str]) -> str:
    last = str(detail["loc"][-1]) if detail["loc"] else ""
    kind = detail["type"]
    if kind == _UNKNOWN:
        word = _word(model, detail["loc"])[1] if model is not None else "key"
        return hints.get(last) or f"unknown {word} `{last}`{_suggestion(last, model, detail['loc'][:-1])}"
    if kind == _MISSING:
        return f"`{last}` is missing here; add it"
    if kind == "literal_error":
        expected = str((detail.get("ctx") or {}).get("expected", "")).replace("'", "`")
        got = detail["input"]
        return f"expected {expected}, got {_shown(got)}{did_you_mean(str(got), _quoted(expected))}"
    text = detail["msg"].removeprefix("Value error, ")
    if kind in {"value_error", "assertion_error"} or (detail.get("ctx") or {}).get("code"):
        return text
    expected = _expected(kind, detail, model) or (text[:1].lower() + text[1:]).replace("input should be", "expected")
    return f"{expected}, got {_shown(detail['input'])}"


def _expected(kind: str, detail: ErrorDetails, model: type[BaseModel] | None) -> str:
    """Our words where pydantic speaks of Python; empty elsewhere."""
    if kind in {"list_type", "tuple_type"}:
        return "expected a list"
    if kind in {"model_type", "model_attributes_type", "dict_type"}:
        example = "" if model is None or kind == "dict_type" else getattr(_model_at(model, detail["loc"]), "example", "")
        return f"expected a mapping such as `{example}`" if example else "expected a mapping of names to values"
    context = detail.get("ctx") or {}
    words = {
        "too_short": "expected at least {min_length} entry",
        "string_too_short": "expected text",
        "string_type": "expected text",
        "string_too_long": "expected at most {max_length} characters",
        "int_type": "expected a whole number",
        "int_from_float": "expected a whole number",
        "bool_type": "expected `true` or `false`",
        "greater_than_equal": "expected {ge} or more",
        "less_than_equal": "expected {le} or less",
    }
    return words.get(kind, "").format_map(context)


def _quoted(text: str) -> list[str]:
    return text.split("`")[1::2]


def _shown(value: object) -> str:
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list" if value else "an empty list"
    if value is None or value == "":
        return "nothing"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f"`{str(value)[:80]}`" + (" (text)" if isinstance(value, str) and _looks_like_more(value) else "")


def _looks_like_more(text: str) -> bool:
    return text in {"true", "false"} or text.replace(".", "", 1).removeprefix("-").isdigit()


def _suggestion(got: str, model: type[BaseModel] | None, loc: tuple[str | int, ...]) -> str:
    if model is None:
        return ""
    names = [field.alias or name for name, field in _model_at(model, loc).model_fields.items()]
    return did_you_mean(got, names) or f"; known keys: {', '.join(f'`{name}`' for name in names)}"


def _word(model: type[BaseModel], loc: tuple[str | int, ...]) -> tuple[str, str]:
    """Code and word for an unknown key: a model may say in `unknown_key` what its keys are called."""
    found: tuple[str, str] = getattr(_model_at(model, loc[:-1]), "unknown_key", ("", "key"))
    return found


def _model_at(model: type[BaseModel], loc: tuple[str | int, ...]) -> type[BaseModel]:
    """The model at a location; list positions, keys of mappings and union tags name no field and are passed over."""
    current = model
    for part in loc:
        fields = {field.alias or name: field.annotation for name, field in current.model_fields.items()}
        if isinstance(part, str) and part in fields:
            current = _inner_model(fields[part]) or current
    return current


def _inner_model(annotation: object) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in typing.get_args(annotation):
        found = _inner_model(argument)
        if found is not None:
            return found
    return None
