"""Where a project's settings file and its state are; what most projects write is told without a YAML reader."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from otel_runtime.errors import ConfigError

__all__ = ["CONFIG", "DEFAULT_STATE", "FILE_NAME", "PREFIX", "TABLE", "read_settings_text", "settings_file", "state_of"]

FILE_NAME: Final = "otel-runtime.yaml"
PREFIX: Final = "OTEL_RUNTIME_"
TABLE: Final = "[tool.otel-runtime]"
# At the start of a line: a comment may speak of it too.
_HAS_TABLE: Final = re.compile(r"^[ \t]*\[\s*tool\s*\.\s*[\"']?otel-runtime[\"']?\s*[\].]", re.MULTILINE)
CONFIG: Final = "OTEL_RUNTIME_CONFIG"
_STATE: Final = "OTEL_RUNTIME_STATE"
DEFAULT_STATE: Final = ".otel-runtime/state.db"


def settings_file(given: Path | None, environ: Mapping[str, str], start: Path) -> Path | None:
    """The settings file in force; None where there is none.

    Args:
        given: A file that was named; it wins.
        environ: Environment variables.
        start: Folder from which to search, upwards to the top of the repository.

    Raises:
        ConfigError: A `pyproject.toml` on the way cannot be read.
    """
    if given:
        return given
    if environ.get(CONFIG):
        return Path(environ[CONFIG])
    for directory in (start, *start.parents):
        if (directory / FILE_NAME).is_file():
            return directory / FILE_NAME
        pyproject = directory / "pyproject.toml"
        if pyproject.is_file() and _HAS_TABLE.search(read_settings_text(pyproject)):
            return pyproject
        # A repository's top is where a project's settings end; above it lie other people's.
        if (directory / ".git").exists():
            return None
    return None


def read_settings_text(path: Path) -> str:
    """The text of a settings file.

    Raises:
        ConfigError: It cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise ConfigError.of("S004", "the settings file is not UTF-8 text; save it as UTF-8", str(path)) from None
    except OSError as error:
        reason = error.strerror or str(error)
        raise ConfigError.of(
            "S004", f"cannot read the settings file: {reason.lower()}; check the path and its permissions", str(path)
        ) from None


def state_of(file: Path, text: str, environ: Mapping[str, str], here: Path) -> Path | None:
    """The state database that a settings file leads to; None where it says nothing that can be read.

    INVARIANT: it is the one that reading all settings gives, never a guess: a guess could lead to a file that somebody else wrote.

    Args:
        file: The settings file.
        text: Its text.
        environ: Environment variables.
        here: The working directory.
    """
    base = file.absolute().parent
    if environ.get(_STATE):
        return here / environ[_STATE]
    named = _toml_state(text) if file.suffix == ".toml" else _yaml_state(text)
    return base / named if isinstance(named, str) and named else None


def _toml_state(text: str) -> object:
    # Three milliseconds that most projects need not pay.
    import tomllib

    try:
        return tomllib.loads(text).get("tool", {}).get("otel-runtime", {}).get("state", DEFAULT_STATE)
    except (tomllib.TOMLDecodeError, AttributeError):
        return None


def _yaml_state(text: str) -> object:
    # Without the word there is no such key: only an escape could spell it otherwise.
    if "state" not in text and "\\" not in text:
        return DEFAULT_STATE
    from otel_runtime.settings.documents import read_document

    try:
        plain = read_document(text, "").plain()
    except ConfigError:
        return None
    return plain.get("state", DEFAULT_STATE) if isinstance(plain, dict) else None
