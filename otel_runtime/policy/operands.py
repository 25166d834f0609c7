"""The right-hand sides of operators and the small shapes of a policy file, as pydantic types with one clear message each."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Annotated, Any, Final, Literal, get_args

from pydantic import AfterValidator, BeforeValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

from otel_runtime.policy.budgets import MAX_SECONDS
from otel_runtime.policy.names import NAME_HINT, is_name
from otel_runtime.policy.regexes import compile_regex
from otel_runtime.policy.terms import Ref
from otel_runtime.settings.durations import parse_duration

__all__ = [
    "SESSION_FIELDS",
    "Amount",
    "Approver",
    "Domains",
    "Duration",
    "FileNames",
    "Folders",
    "FreeGlobOrMany",
    "GlobOrMany",
    "Lasting",
    "Name",
    "NameOrMany",
    "Number",
    "Patterns",
    "Scalar",
    "Scalars",
    "SessionField",
    "SomeTexts",
    "Text",
    "TextOrMany",
    "Texts",
    "amount",
    "one_or_many",
    "plain_texts",
    "refusal",
    "shown",
]

# Amounts in quotes keep every digit; other digits than these, grouping and exponents mean different things to different readers.
_DIGITS: Final = re.compile(r"[0-9]{1,30}(\.[0-9]{1,30})?")
SessionField = Literal["id", "user", "tenant", "run", "call_id"]
SESSION_FIELDS: tuple[str, ...] = get_args(SessionField)
_ROOTS = ("args", "session", "context")
_REF_HINT = "`{ref: args.NAME}`, `{ref: session.user}` or `{ref: context.NAME}`"
_REF_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"ref": {"type": "string", "pattern": r"^(args|session|context)\..+"}},
    "required": ["ref"],
    "additionalProperties": False,
    "description": "Another value of the same call.",
}
_SCALAR_SCHEMA: dict[str, Any] = {"anyOf": [{"type": ["string", "number", "boolean"]}, _REF_SCHEMA]}


def refusal(code: str, message: str, at: int | None = None) -> PydanticCustomError:
    """A mistake in an operand, with its code.

    Args:
        code: Stable code.
        message: As in `Fault`.
        at: Which item of a list it is; None for the operand itself.
    """
    # Braces are pydantic's template syntax; the text is already complete.
    return PydanticCustomError("policy", "{text}", {"code": code, "text": message, **({} if at is None else {"at": at})})


def shown(value: object) -> str:
    """What was written, short, for a message."""
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if value is None:
        return "nothing"
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list" if value else "an empty list"
    return f'`"{value}"`' if isinstance(value, str) else f"`{value}`"


def _ref(value: dict[str, object]) -> Ref:
    text = value.get("ref")
    if set(value) != {"ref"} or not isinstance(text, str):
        raise refusal("P016", f"expected a plain value or {_REF_HINT}, got a mapping")
    root, _, name = text.partition(".")
    if root not in _ROOTS or not name:
        raise refusal("P016", f"expected {_REF_HINT}, got `{text}`")
    if root == "session" and name not in SESSION_FIELDS:
        raise refusal("P016", f"a session has no `{name}`; known: {', '.join(f'`{field}`' for field in SESSION_FIELDS)}")
    return Ref(root, name)  # type: ignore[arg-type]  # one of _ROOTS, checked above


def _scalar(value: object) -> object:
    if isinstance(value, dict):
        return _ref(value)
    if value is None:
        raise refusal("P016", "expected a value, got nothing; to ask for a missing or null one write `exists: false`")
    if isinstance(value, list):
        raise refusal("P016", "expected one value, got a list; use `in` for several")
    return value


def _number(value: object) -> object:
    if isinstance(value, dict):
        return _ref(value)
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        raise refusal("P016", f"expected a number or {_REF_HINT}, got {shown(value)}; numbers are written without quotes")
    return value


def _text(value: object) -> object:
    if isinstance(value, dict):
        return _ref(value)
    if not isinstance(value, str):
        raise refusal("P016", f"expected text, got {shown(value)}; quote it if it is meant as text")
    return value


def _scalars(value: object) -> object:
    if isinstance(value, dict):
        return _ref(value)
    if not isinstance(value, list) or not value:
        raise refusal("P016", f"expected a list with at least one value, got {shown(value)}")
    return tuple(_each(value, _scalar))


def _texts(value: object) -> object:
    if isinstance(value, dict):
        return (_ref(value),)
    many = value if isinstance(value, list) else [value]
    if not many:
        raise refusal("P016", "expected text or a list of texts, got an empty list, which nothing can satisfy")
    return tuple(_each(many, _text))


def _each(items: list[object], read: Callable[[object], object]) -> Iterator[object]:
    """Every item, read; what is wrong with one is told at its place."""
    for at, item in enumerate(items):
        try:
            yield read(item)
        except PydanticCustomError as error:
            context = error.context or {}
            raise refusal(context["code"], context["text"], at) from None


def plain_texts(value: object) -> tuple[str, ...]:
    """One text or a list of them; empty ones are refused."""
    many = value if isinstance(value, list) else [value]
    if not many:
        raise refusal("P016", f"expected text or a list of texts, got {shown(value)}")
    for at, item in enumerate(many):
        if not isinstance(item, str) or not item:
            raise refusal("P016", f"expected text{'' if isinstance(value, list) else ' or a list of texts'}, got {shown(item)}", at)
    return tuple(many)


def _some_texts(value: object) -> tuple[str, ...]:
    return () if value == [] else plain_texts(value)


def _patterns(value: object) -> tuple[str, ...]:
    texts = plain_texts(value)
    for at, text in enumerate(texts):
        try:
            compile_regex(text)
        except ValueError as error:
            raise refusal("P015", f"`{text}` is {error}", at) from None
    return texts


def _domains(value: object) -> tuple[str, ...]:
    texts = plain_texts(value)
    for at, text in enumerate(texts):
        if "@" in text or "*" in text or not text.isascii() or "." not in text.strip("."):
            raise refusal("P016", f"expected a whole domain such as `corp.example`, got `{text}`", at)
    return tuple(text.lower() for text in texts)


def _folders(value: object) -> tuple[str, ...]:
    texts = plain_texts(value)
    for at, text in enumerate(texts):
        inner = text.removeprefix("workspace:")
        anchored = not inner.startswith("/") if inner != text else text.startswith(("/", "~/"))
        if not anchored or ".." in text.split("/") or "*" in text or any(char < " " for char in text):
            raise refusal(
                "P016", f"expected a folder such as `workspace:data`, `~/notes` or `/srv/data`, without `..` and `*`, got `{text}`", at
            )
    return texts


def _file_names(value: object) -> tuple[str, ...]:
    texts = plain_texts(value)
    for at, text in enumerate(texts):
        if "/" in text or "\\" in text or text in {".", ".."} or not text.strip("*"):
            raise refusal(
                "P016", f"expected the last part of a path such as `.env` or `*.pem`, got `{text}`; folders are asked with `under`", at
            )
    return texts


def _names(value: object) -> tuple[str, ...]:
    texts = plain_texts(value)
    for at, text in enumerate(texts):
        if not is_name(text):
            raise refusal("P016", f"`{text}` is not a name; expected {NAME_HINT}", at)
    return texts


def _globs(value: object) -> tuple[str, ...]:
    texts = plain_texts(value)
    for at, text in enumerate(texts):
        if not is_name(text.replace("*", "x")):
            raise refusal("P016", f"`{text}` is not a name or glob; expected {NAME_HINT}, and `*` for one or more characters", at)
        if "**" in text:
            raise refusal("P016", f"`{text}`: write one `*`; it is one or more characters and never crosses `.` or `:`", at)
    return texts


def _name(value: str) -> str:
    if not is_name(value):
        raise refusal("P016", f"`{value}` is not a name; expected {NAME_HINT}")
    return value


def amount(value: object) -> Decimal:
    """An exact amount of 0 or more."""
    if isinstance(value, str) and _DIGITS.fullmatch(value):
        return Decimal(value)
    if isinstance(value, int | float | Decimal) and not isinstance(value, bool) and value >= 0:
        return Decimal(repr(value)) if isinstance(value, float) else Decimal(value)
    raise refusal("P016", f'expected an amount of 0 or more such as `100` or `"20.00"`, got {shown(value)}')


def _duration(value: object) -> float:
    if not isinstance(value, str):
        raise refusal("P016", f"expected a duration with its unit such as `30s`, `5min`, `4h` or `1d`, got {shown(value)}")
    try:
        seconds = parse_duration(value)
    except ValueError as error:
        raise refusal("P016", str(error)) from None
    if seconds > MAX_SECONDS:
        raise refusal("P016", f"expected at most ten years, `{MAX_SECONDS // 86400}d`, got `{value}`")
    return seconds


def _lasting(value: object) -> float:
    seconds = _duration(value)
    if seconds <= 0:
        raise refusal("P016", f"expected a duration above zero, got `{value}`; nobody could answer in no time")
    return seconds


def _approver(value: str) -> str:
    kind, _, name = value.partition(":")
    if value in {"acting-user", "anyone"} or (kind == "role" and is_name(name)) or (kind == "user" and name):
        return value
    raise refusal("P016", f"expected `role:NAME`, `user:NAME`, `acting-user` or `anyone`, got `{value}`")


def one_or_many(item: str, **more: object) -> WithJsonSchema:
    """The schema of one text or a list of them."""
    text = {"type": "string", **more, "description": item}
    return WithJsonSchema({"anyOf": [text, {"type": "array", "items": text, "minItems": 1}]})


Scalar = Annotated[Any, BeforeValidator(_scalar), WithJsonSchema(_SCALAR_SCHEMA)]
Number = Annotated[Any, BeforeValidator(_number), WithJsonSchema({"anyOf": [{"type": "number"}, _REF_SCHEMA]})]
Text = Annotated[Any, BeforeValidator(_text), WithJsonSchema({"anyOf": [{"type": "string"}, _REF_SCHEMA]})]
Scalars = Annotated[
    Any, BeforeValidator(_scalars), WithJsonSchema({"anyOf": [{"type": "array", "items": _SCALAR_SCHEMA, "minItems": 1}, _REF_SCHEMA]})
]
Texts = Annotated[
    Any,
    BeforeValidator(_texts),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1}, _REF_SCHEMA]}),
]
Patterns = Annotated[Any, BeforeValidator(_patterns), one_or_many("A regular expression of RE2.")]
Domains = Annotated[Any, BeforeValidator(_domains), one_or_many("A whole domain; subdomains are other domains.")]
Folders = Annotated[Any, BeforeValidator(_folders), one_or_many("A folder: workspace:DIR, ~/DIR or absolute.")]
FileNames = Annotated[Any, BeforeValidator(_file_names), one_or_many("A file name, or a glob in which * is any number of characters.")]
NameOrMany = Annotated[Any, BeforeValidator(_names), one_or_many("A name.")]
TextOrMany = Annotated[Any, BeforeValidator(plain_texts), one_or_many("Exact text.")]
GlobOrMany = Annotated[Any, BeforeValidator(_globs), one_or_many("A name, or a glob in which * never crosses . or :")]
SomeTexts = Annotated[
    Any, BeforeValidator(_some_texts), WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]})
]
# Models and agents are named by others: their names may hold any characters.
FreeGlobOrMany = Annotated[Any, BeforeValidator(plain_texts), one_or_many("A name, or a glob in which * never crosses . or :")]
Name = Annotated[str, AfterValidator(_name)]
Amount = Annotated[Any, BeforeValidator(amount), WithJsonSchema({"anyOf": [{"type": "number", "minimum": 0}, {"type": "string"}]})]
_DURATION_SCHEMA: Final = WithJsonSchema({"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)?(ms|s|m|min|h|d)$"})
Duration = Annotated[Any, BeforeValidator(_duration), _DURATION_SCHEMA]
Lasting = Annotated[Any, BeforeValidator(_lasting), _DURATION_SCHEMA]
Approver = Annotated[str, AfterValidator(_approver)]
