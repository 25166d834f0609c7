"""Operands that are small shapes of their own: what is asked of a URL, of a shell command and of a query."""

from __future__ import annotations

import re
from typing import Annotated, Any, ClassVar, Final

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from otel_runtime.policy.operands import one_or_many, plain_texts, refusal, shown
from otel_runtime.policy.queries import dialects
from otel_runtime.policy.shell_programs import LAUNCHERS
from otel_runtime.policy.shell_reading import READERS
from otel_runtime.policy.urls import is_host_pattern
from otel_runtime.settings.nearest import did_you_mean

__all__ = ["OriginTest", "Origins", "Programs", "Readers", "Runnable", "SqlTerms", "SqlTest", "UrlParts", "UrlTest"]

_PROGRAM: Final = re.compile(r"[A-Za-z0-9_.+/-]+")


def _schemes(value: object) -> tuple[str, ...]:
    texts = plain_texts(value)
    for at, text in enumerate(texts):
        if not text.replace("+", "a").replace("-", "a").replace(".", "a").isalnum() or text != text.lower() or not text.isascii():
            raise refusal("P016", f"expected a scheme such as `https`, got `{text}`", at)
    return texts


def _hosts(value: object) -> tuple[str, ...]:
    texts = plain_texts(value)
    for at, text in enumerate(texts):
        if not is_host_pattern(text):
            raise refusal("P016", f"expected a host such as `api.example.com`, or `*.example.com` for the names below it, got `{text}`", at)
    return texts


def _ports(value: object) -> tuple[int, ...]:
    ports = tuple(value) if isinstance(value, list) else (value,)
    if not ports:
        raise refusal("P016", f"expected a port from 1 to 65535 or a list of them, got {shown(value)}")
    for at, port in enumerate(ports):
        if type(port) is not int or not 0 < port <= 0xFFFF:
            raise refusal("P016", f"expected a port from 1 to 65535 or a list of them, got {shown(port)}", at)
    return ports


def _url_paths(value: object) -> tuple[str, ...]:
    texts = plain_texts(value)
    for at, text in enumerate(texts):
        if not text.startswith("/") or "*" in text.removesuffix("/*") or "?" in text or "//" in text:
            raise refusal("P016", f"expected a path such as `/v1/orders`, or `/v1/*` for everything below it, got `{text}`", at)
    return texts


class UrlParts(BaseModel):
    """What is asked of a URL; every part written here must fit."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid", frozen=True, strict=True)

    scheme: Annotated[Any, BeforeValidator(_schemes), one_or_many("A scheme such as https.")] = Field(
        None, description="The scheme is one of these."
    )
    host: Annotated[Any, BeforeValidator(_hosts), one_or_many("A host, or *.example.com for the names below it.")] = Field(
        None, description="The host is one of these; *.example.com is one or more labels and never example.com itself."
    )
    port: Annotated[
        Any, BeforeValidator(_ports), WithJsonSchema({"anyOf": [{"type": "integer"}, {"type": "array", "items": {"type": "integer"}}]})
    ] = Field(None, description="The port, written or the scheme's own, is one of these.")
    path: Annotated[Any, BeforeValidator(_url_paths), one_or_many("A path, or /v1/* for everything below it.")] = Field(
        None, description="The path is one of these."
    )


def _url(value: object) -> object:
    if not isinstance(value, dict) or not value:
        raise refusal("P016", f"expected parts of a URL such as `{{scheme: https, host: api.example.com}}`, got {shown(value)}")
    return value


UrlTest = Annotated[UrlParts, BeforeValidator(_url)]


def _programs(value: object) -> tuple[str, ...]:
    texts = plain_texts(value)
    for at, text in enumerate(texts):
        if _PROGRAM.fullmatch(text) is None:
            raise refusal("P016", f"expected the name of a program such as `git`, got `{text}`", at)
    return texts


def _runnable(value: object) -> tuple[str, ...]:
    texts = _programs(value)
    for at, text in enumerate(texts):
        if text.rpartition("/")[2] in LAUNCHERS:
            raise refusal(
                "P016", f"`{text}` runs whatever it is given, so listing it lists every program; name the ones that are meant", at
            )
    return texts


def _readers(value: object) -> tuple[str, ...]:
    texts = _programs(value)
    for at, text in enumerate(texts):
        if text not in READERS:
            hint = did_you_mean(text, READERS) or f"; known: {', '.join(sorted(READERS))}"
            raise refusal("P016", f"it is not known with which options `{text}` only reads{hint}", at)
    return texts


Programs = Annotated[Any, BeforeValidator(_programs), one_or_many("The name of a program.")]
Runnable = Annotated[Any, BeforeValidator(_runnable), one_or_many("The name of a program that runs no others.")]
Readers = Annotated[Any, BeforeValidator(_readers), one_or_many("The name of a program whose options are known.")]


def _dialect(value: object) -> object:
    try:
        known = dialects()
    except ValueError as error:
        raise refusal("P024", str(error)) from None
    if not isinstance(value, str) or value not in known:
        raise refusal("P016", f"expected a dialect such as `postgres`, got {shown(value)}{did_you_mean(str(value), known)}")
    return value


def _identifiers(value: object) -> tuple[str, ...]:
    texts = plain_texts(value)
    for at, text in enumerate(texts):
        if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", text) is None:
            raise refusal("P016", f"expected a name such as `app`, without a dot, got `{text}`", at)
    return texts


class SqlTerms(BaseModel):
    """What a query may be: one SELECT on these schemas with these functions."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid", frozen=True, strict=True)

    dialect: Annotated[Any, BeforeValidator(_dialect), WithJsonSchema({"type": "string"})] = Field(
        description="How the database reads it: postgres, mysql, sqlite, bigquery, snowflake, ..."
    )
    schemas: Annotated[Any, BeforeValidator(_identifiers), one_or_many("A schema.")] = Field(
        description="Every table is written with one of these schemas in front."
    )
    functions: Annotated[Any, BeforeValidator(_identifiers), one_or_many("A function.")] = Field(
        None, description="Functions it may call; none when left out."
    )


def _sql(value: object) -> object:
    if not isinstance(value, dict) or not value:
        raise refusal("P016", f"expected terms such as `{{dialect: postgres, schemas: [app], functions: [count]}}`, got {shown(value)}")
    return value


SqlTest = Annotated[SqlTerms, BeforeValidator(_sql)]


_SOURCE: Final = re.compile(
    r"user|config|trusted|unseen|label:[A-Za-z0-9_.:-]{1,128}|tool:[A-Za-z0-9_.:*-]{1,128}(?:/[A-Za-z0-9_.:*-]{1,64})?"
)
_SOURCES_SAID: Final = "user, config, trusted, unseen, label:NAME, tool:NAME or tool:NAME/FIELD."


def _sources(value: object) -> tuple[str, ...]:
    texts = plain_texts(value)
    for at, text in enumerate(texts):
        if _SOURCE.fullmatch(text) is None:
            raise refusal(
                "P016", f"expected `user`, `config`, `trusted`, `unseen`, `label:NAME`, `tool:NAME` or `tool:NAME/FIELD`, got `{text}`", at
            )
    return texts


def _known_sources(value: object) -> tuple[str, ...]:
    texts = _sources(value)
    if "unseen" in texts:
        raise refusal("P016", "`only` asks where the value was seen; `unseen` does not fit")
    if any("/" in text for text in texts):
        raise refusal("P016", "`only` asks for whole sources; a field is one part of what a tool said, so write `tool:NAME`")
    return texts


class Origins(BaseModel):
    """Where a value was seen; everything written here must hold."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid", frozen=True, strict=True)

    any_of: Annotated[Any, BeforeValidator(_sources), one_or_many(_SOURCES_SAID)] = Field(None, description="It was seen at one of these.")
    none_of: Annotated[Any, BeforeValidator(_sources), one_or_many(_SOURCES_SAID)] = Field(
        None, description="It was seen at none of these."
    )
    only: Annotated[Any, BeforeValidator(_known_sources), one_or_many("user, config, trusted, label:NAME or tool:NAME.")] = Field(
        None, description="It was seen, and nowhere but at these."
    )


def _origin(value: object) -> object:
    if isinstance(value, dict) and value:
        return value
    _sources(value)
    return {"any_of": value}


OriginTest = Annotated[Origins, BeforeValidator(_origin)]
