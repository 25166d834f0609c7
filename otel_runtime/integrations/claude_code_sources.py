"""What the rules of a project are made of, as seen by one process: settings, environment, policy files, and the code that reads them.

Only the standard library is loaded: two processes that see the same fingerprint would read the same rules, so the second need not.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import otel_runtime
from otel_runtime._version import __version__
from otel_runtime.errors import ConfigError
from otel_runtime.policy.files import files_of, read_file
from otel_runtime.settings.finding import PREFIX, settings_file, state_of

__all__ = ["Sources", "policy_files", "sources_of"]

_FORMAT: Final = "1"
# Folders of this package whose code reads and checks rules; a checkout may change without its version.
_READERS: Final = ("policy", "settings", "values")
# It says what no rule can open, which is kept with the rules.
_PROTECTING: Final = "runtime/protected.py"
# Somebody who may change the settings file still cannot say another policy than this variable does.
_PINNED: Final = "OTEL_RUNTIME_POLICY"


@dataclass(frozen=True, slots=True)
class Sources:
    """What the settings of a project are made of.

    Args:
        fingerprint: Hex SHA-256 of all of it.
        state: The state database they lead to.
    """

    fingerprint: str
    state: Path


def sources_of(given: Path | None) -> Sources | None:
    """What this process sees; None where nothing may be kept.

    Something may be kept where keeping lets nobody decide who could not before: this user may write the settings file, and the state lies
    below the folder of that file, so whoever could forge what is kept could say the policy itself.

    Args:
        given: The settings file that was named; None searches.
    """
    try:
        here = Path.cwd()
        file = settings_file(given, os.environ, here)
        text = None if file is None else file.read_text(encoding="utf-8")
        if file is None or text is None or os.environ.get(_PINNED) or not os.access(file, os.W_OK):
            return None
        state = state_of(file, text, os.environ, here)
        if state is None or not _below(state, file.absolute().parent):
            return None
        seen = [_FORMAT, __version__, sys.version, str(here), os.environ.get("HOME", ""), str(file.absolute()), text, *_code_stamps()]
    except (OSError, ValueError, ConfigError):
        return None
    seen += [f"{name}={value}" for name, value in sorted(os.environ.items()) if name.startswith(PREFIX)]
    return Sources(hashlib.sha256(json.dumps(seen).encode("utf-8", "surrogateescape")).hexdigest(), state)


def policy_files(paths: Sequence[Path]) -> list[list[str]]:
    """Every file of a policy with the hex SHA-256 of its content, in the order in which they are read.

    Raises:
        ConfigError: One is missing or cannot be read.
    """
    return [[str(file), hashlib.sha256(read_file(file)).hexdigest()] for file in files_of(paths)]


def _below(state: Path, folder: Path) -> bool:
    real, top = os.path.realpath(state), os.path.realpath(folder)
    return real.startswith(f"{top.rstrip('/')}/")


def _code_stamps() -> Iterable[str]:
    """Name, size and time of every module that reads rules or says what they cannot open."""
    top = Path(otel_runtime.__file__).parent
    yield _stamp(str(top / _PROTECTING), (top / _PROTECTING).stat())
    for room in _READERS:
        with os.scandir(top / room) as found:
            for entry in sorted(found, key=lambda one: one.name):
                if entry.name.endswith(".py") and stat.S_ISREG((seen := entry.stat()).st_mode):
                    yield _stamp(entry.path, seen)


def _stamp(path: str, seen: os.stat_result) -> str:
    return f"{path} {seen.st_size} {seen.st_mtime_ns}"
