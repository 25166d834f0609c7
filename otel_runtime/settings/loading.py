"""Find and combine settings: argument > environment > file > default. Every source is checked on its own, with its own positions."""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from otel_runtime.errors import ConfigError, Fault
from otel_runtime.settings.documents import read_document
from otel_runtime.settings.faults import did_you_mean, validation_faults
from otel_runtime.settings.finding import CONFIG, DEFAULT_STATE, FILE_NAME, PREFIX, TABLE, read_settings_text, settings_file
from otel_runtime.settings.model import Settings

__all__ = ["FILE_NAME", "FoundSettings", "find_settings", "load_settings"]

_PATH_FIELDS = ("state", "trace_file", "spool", "opa_token_file")


@dataclass(frozen=True, slots=True)
class FoundSettings:
    """Settings and where each came from.

    Args:
        settings: The combined settings.
        file: The file that was read, or None.
        origins: Per setting that is not a default: `argument`, the variable's name or the file's path.
    """

    settings: Settings
    file: Path | None
    origins: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class _Layer:
    values: Mapping[str, object]
    base: Path
    origin: Mapping[str, str]


def load_settings(file: Path | None = None, **arguments: object) -> Settings:
    """The settings in force here.

    Args:
        file: Settings file to use instead of searching.
        arguments: Settings given by the program; None counts as not given.

    Raises:
        ConfigError: A source cannot be read, or has an unknown name or a bad value.
    """
    return find_settings(file, **arguments).settings


def find_settings(file: Path | None = None, **arguments: object) -> FoundSettings:
    """Like `load_settings`, and says where every setting came from.

    Raises:
        ConfigError: A source cannot be read, or has an unknown name or a bad value.
    """
    here = Path.cwd()
    given = {name: value for name, value in arguments.items() if value is not None}
    by_argument = _checked(given, here, dict.fromkeys(given, "argument"), "argument of configure()")
    by_variable = _environment_layer(os.environ, here)
    path = settings_file(file, os.environ, here)
    by_file = _file_layer(path) if path is not None else _Layer({}, here, {})
    merged: dict[str, object] = {}
    origins: dict[str, str] = {}
    for layer in (by_file, by_variable, by_argument):
        merged.update(_anchored(layer))
        origins.update(layer.origin)
    if "state" not in merged:
        merged["state"] = by_file.base / DEFAULT_STATE
    return FoundSettings(Settings.model_validate(merged).read_from(path), path, origins)


def _anchored(layer: _Layer) -> dict[str, object]:
    values = dict(layer.values)
    for name in _PATH_FIELDS:
        if isinstance(path := values.get(name), Path):
            values[name] = layer.base / path
    for name in ("policy", "cedar"):
        if isinstance(paths := values.get(name), tuple):
            # `pack:NAME` is a policy that comes with the package and no path.
            values[name] = tuple(path if str(path).startswith("pack:") else layer.base / path for path in paths)
    return values


def _checked(raw: Mapping[str, object], base: Path, origin: Mapping[str, str], source: str) -> _Layer:
    try:
        settings = Settings.model_validate(dict(raw))
    except ValidationError as error:
        raise ConfigError(_plain_faults(error, origin, source)) from None
    return _Layer({name: getattr(settings, name) for name in settings.model_fields_set}, base, origin)


def _plain_faults(error: ValidationError, origin: Mapping[str, str], source: str) -> list[Fault]:
    faults = []
    for detail in error.errors(include_url=False):
        name = str(detail["loc"][0]) if detail["loc"] else ""
        where = origin.get(name, source)
        place = source if where == "argument" else where
        if detail["type"] == "extra_forbidden":
            message = f"unknown setting `{name}`{did_you_mean(name, Settings.model_fields)}"
        else:
            got = "" if isinstance(detail.get("input"), Mapping) else f", got `{detail.get('input')}`"
            message = f"setting `{'.'.join(map(str, detail['loc']))}`: {_lower(detail['msg'])}{got}"
        faults.append(Fault("S001", message, place))
    return faults


def _lower(message: str) -> str:
    message = message.removeprefix("Value error, ")
    return message[:1].lower() + message[1:]


def _environment_layer(environ: Mapping[str, str], base: Path) -> _Layer:
    raw: dict[str, object] = {}
    origin: dict[str, str] = {}
    faults: list[Fault] = []
    for variable in sorted(environ):
        if not variable.startswith(PREFIX) or variable == CONFIG or not environ[variable]:
            continue
        name = variable.removeprefix(PREFIX).lower()
        if name not in Settings.model_fields:
            known = [PREFIX + field.upper() for field in Settings.model_fields] + [CONFIG]
            faults.append(Fault("S002", f"unknown variable `{variable}`{did_you_mean(variable, known)}", variable))
            continue
        origin[name] = variable
        try:
            raw[name] = _variable_value(name, environ[variable])
        except ValueError as error:
            faults.append(Fault("S003", f"{error}, got `{environ[variable]}`", variable))
    if faults:
        raise ConfigError(faults)
    return _checked(raw, base, origin, "environment")


def _variable_value(name: str, text: str) -> object:
    if name in {"policy", "cedar"}:
        # `pack:NAME` is one word, although paths are joined by the same sign.
        return tuple(part for part in re.split(rf"(?<!^pack)(?<!{re.escape(os.pathsep)}pack){re.escape(os.pathsep)}", text) if part)
    if name in {"console", "policy_reload"}:
        if text.lower() not in {"true", "false", "1", "0"}:
            raise ValueError("expected `true` or `false`")
        return text.lower() in {"true", "1"}
    if name in {"instrument", "opa_kinds", "people", "redact_keys", "redact_patterns"}:
        try:
            return json.loads(text)
        except json.JSONDecodeError as error:
            raise ValueError(f"expected JSON ({error.msg} at character {error.pos})") from None
    if name in {"wait_at_most", "flush_timeout", "facts_timeout", "opa_timeout"} and re.fullmatch(r"[0-9.]+", text):
        raise ValueError("expected a duration with its unit such as `30s`")
    return text


def _file_layer(path: Path) -> _Layer:
    text = read_settings_text(path)
    return _toml_layer(path, text) if path.suffix == ".toml" else _yaml_layer(path, text)


def _yaml_layer(path: Path, text: str) -> _Layer:
    document = read_document(text, str(path))
    plain = document.plain()
    if plain is None:
        plain = {}
    if not isinstance(plain, dict):
        raise ConfigError([document.fault((), "S005", "expected settings such as `policy: policy/`, got something else than a mapping")])
    try:
        settings = Settings.model_validate(plain)
    except ValidationError as error:
        raise ConfigError(validation_faults(document, error, "S", Settings)) from None
    origin = dict.fromkeys(plain, str(path))
    return _Layer({name: getattr(settings, name) for name in settings.model_fields_set}, path.absolute().parent, origin)


def _toml_layer(path: Path, text: str) -> _Layer:
    try:
        table = tomllib.loads(text).get("tool", {}).get("otel-runtime", {})
    except tomllib.TOMLDecodeError as error:
        raise ConfigError.of("S006", f"not valid TOML: {error}", str(path)) from None
    # tomllib keeps no positions; the line of a key is found again by its text below the table's head.
    origin = {name: f"{path}:{_line_of(text, name)}" for name in table}
    return _checked(table, path.absolute().parent, origin, str(path))


def _line_of(text: str, name: str) -> int:
    inside = False
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip().startswith("["):
            inside = line.strip().startswith(TABLE.rstrip("]"))
        if inside and re.match(rf'\s*"?{re.escape(name)}"?\s*[=.]', line):
            return number
    return 1
