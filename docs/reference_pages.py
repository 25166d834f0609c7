"""Writes the pages of the reference from the package itself: public names, settings, commands, the policy file."""

from __future__ import annotations

import argparse
import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import otel_runtime
from otel_runtime.cli.main import build_parser
from otel_runtime.policy.schema import policy_schema
from otel_runtime.settings.model import Person, Settings, Target

__all__ = ["pages", "write"]

_ROOMS_OF_MODULES = ("integrations", "testing")
_ATTRIBUTE = re.compile(r"^    (\w+): (.*(?:\n        .*)*)", re.MULTILINE)


def write(folder: Path) -> None:
    """Write each page that is not there as it should be; an unchanged one keeps its time, so that a second build is quick.

    Args:
        folder: Where they go; made if need be.
    """
    folder.mkdir(exist_ok=True)
    for name, text in pages().items():
        path = folder / name
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


def pages() -> dict[str, str]:
    """Each page's text by its file name."""
    return {
        "python.rst": "\n".join(_python()),
        "modules.rst": "\n".join(_modules()),
        "settings.md": "\n".join(_settings()),
        "commands.md": "\n".join(_commands()),
        "policy-file.md": "\n".join(_policy_file()),
    }


def _python() -> Iterator[str]:
    yield from ("Python", "======", "", "Everything that ``import otel_runtime as rt`` offers.", "")
    groups: dict[str, list[str]] = {"Functions and decorators": [], "Values": [], "Errors": []}
    for name in otel_runtime.__all__:
        found = getattr(otel_runtime, name)
        if inspect.isclass(found):
            groups["Errors" if issubclass(found, Exception) else "Values"].append(f".. autoclass:: otel_runtime.{name}\n   :members:")
        elif callable(found):
            groups["Functions and decorators"].append(f".. autofunction:: otel_runtime.{name}")
    for title, entries in groups.items():
        yield from (title, "-" * len(title), "")
        yield from (f"{entry}\n" for entry in entries)


def _modules() -> Iterator[str]:
    yield from ("Integrations and testing", "========================", "", "Imported only when you ask for them.", "")
    for room in _ROOMS_OF_MODULES:
        package = importlib.import_module(f"otel_runtime.{room}")
        for info in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
            yield from (info.name, "-" * len(info.name), "", f".. automodule:: {info.name}\n   :members:\n")


def _settings() -> Iterator[str]:
    yield "# Settings\n"
    yield f"{_summary(Settings)}\n"
    yield "The variable of a setting is its name in capitals after `OTEL_RUNTIME_`, such as `OTEL_RUNTIME_WAIT_AT_MOST`.\n"
    yield "| setting | default | meaning |\n|---|---|---|"
    told = _attributes(Settings)
    for name, field in Settings.model_fields.items():
        yield f"| `{name}` | {_default(field.get_default(call_default_factory=True))} | {told[name]} |"
    for model in (Person, Target):
        yield f"\n## One entry of `{'people' if model is Person else 'instrument'}`\n\n{_summary(model)}\n"
        yield "| key | meaning |\n|---|---|"
        yield from (f"| `{name}` | {text} |" for name, text in _attributes(model).items())


def _summary(model: type) -> str:
    return str(inspect.getdoc(model)).partition("Attributes:")[0].strip()


def _default(value: object) -> str:
    if value in (None, (), {}):
        return ""
    return ", ".join(f"`{one}`" for one in value) if isinstance(value, tuple) else f"`{value}`"


def _attributes(model: type) -> dict[str, str]:
    found = _ATTRIBUTE.findall(str(inspect.getdoc(model)).partition("Attributes:\n")[2])
    return {name: " ".join(text.split()).replace("|", "\\|") for name, text in found}


def _commands() -> Iterator[str]:
    yield "# Commands\n"
    yield from _command(build_parser(), 2)


def _command(parser: argparse.ArgumentParser, level: int) -> Iterator[str]:
    yield f"{'#' * level} {parser.prog}\n"
    yield f"```text\n{parser.format_help()}```\n"
    for action in parser._actions:  # noqa: SLF001 - argparse has no other way to its subcommands
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001 - same
            for inner in dict.fromkeys(action.choices.values()):
                yield from _command(inner, min(level + 1, 4))


def _policy_file() -> Iterator[str]:
    schema = policy_schema()
    yield f"# The policy file, key by key\n\n{schema.get('description', '')}\n"
    yield "[Writing policy](../writing-policy.md) explains it by examples.\n"
    yield from _keys(schema)
    for name, definition in schema["definitions"].items():
        if "properties" in definition:
            yield f"\n## {name}\n\n{definition.get('description', '')}\n"
            yield from _keys(definition)


def _keys(definition: Mapping[str, Any]) -> Iterator[str]:
    required = set(definition.get("required", ()))
    yield "| key | takes | meaning |\n|---|---|---|"
    for name, shape in definition["properties"].items():
        mark = " (required)" if name in required else ""
        yield f"| `{name}`{mark} | {_takes(shape)} | {shape.get('description', '').replace('|', chr(92) + '|')} |"


def _takes(shape: Mapping[str, Any] | bool) -> str:
    if isinstance(shape, bool):
        return "anything"
    if "$ref" in shape:
        name = shape["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    for several in ("anyOf", "oneOf", "allOf"):
        if several in shape:
            return " or ".join(dict.fromkeys(_takes(one) for one in shape[several]))
    if "enum" in shape or "const" in shape:
        return ", ".join(f"`{value}`" for value in shape.get("enum", [shape.get("const")]))
    if shape.get("type") == "array":
        return f"list of {_takes(shape.get('items', True))}"
    if shape.get("type") == "object" and isinstance(shape.get("additionalProperties"), dict):
        return f"mapping to {_takes(shape['additionalProperties'])}"
    return {"string": "text", "object": "mapping", "boolean": "true or false", "null": "null"}.get(
        str(shape.get("type", "")), "number" if "type" in shape else "anything"
    )
