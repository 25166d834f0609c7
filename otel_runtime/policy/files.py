"""Policy files on disk: which ones belong to a policy, and their content."""

from __future__ import annotations

import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from otel_runtime.errors import ConfigError, Fault
from otel_runtime.policy.packs import resolved

__all__ = ["files_of", "folders_beside", "read_file", "writable_by_all"]

# As `settings.documents.MAX_BYTES`, whose module is not needed to name files; a test compares them.
_MAX_BYTES: Final = 4 << 20
_SUFFIXES: Final = frozenset({".yaml", ".yml", ".json"})


def files_of(paths: Sequence[Path]) -> list[Path]:
    """The files of a policy; a directory stands for the YAML and JSON files in it, `pack:NAME` for one that comes with the package.

    Raises:
        ConfigError: A path is missing or holds no policy.
    """
    found: list[Path] = []
    faults: list[Fault] = []
    for path in map(resolved, paths):
        try:
            files, wrong = _files_at(path)
        except OSError as error:
            # A folder that may not be entered, or a name that is too long.
            files, wrong = [], [_unreadable(path, error)]
        found.extend(files)
        faults.extend(wrong)
    if not paths:
        faults.append(Fault("P001", "no policy file was named", "policy"))
    if faults:
        raise ConfigError(faults)
    return list(dict.fromkeys(found))


def _files_at(path: Path) -> tuple[list[Path], list[Fault]]:
    """The files that one path stands for, and what is wrong with it."""
    if path.is_dir():
        inside, odd = _inside(path)
        if not inside and not odd:
            return [], [Fault("P001", "the policy directory holds no *.yaml file; a policy needs at least one rule", str(path))]
        # A rule that is not read could be the one that denies.
        return inside, [Fault("P001", f"{_oddity(one)}; mend or remove it", str(one)) for one in odd]
    if path.is_fifo() or path.is_socket():
        # To open one may wait for ever.
        return [], [Fault("P001", f"{_oddity(path)}; write it into a file", str(path))]
    if path.exists():
        return [path], []
    if path.is_symlink():
        return [], [Fault("P001", f"{_oddity(path)}; mend it", str(path))]
    return [], [Fault("P001", "no such policy file or directory; check the path", str(path))]


def _inside(folder: Path) -> tuple[list[Path], list[Path]]:
    """Files of a folder that is a policy, and what is named like one and cannot be read as one."""
    named = sorted(one for one in folder.iterdir() if _named_so(one) and not one.name.endswith("schema.json") and not one.is_dir())
    # Editors lay hidden links beside what they edit, which lead nowhere.
    odd = [one for one in named if not one.is_file() and not one.name.startswith(".")]
    return [one for one in named if one.is_file()], odd


def _named_so(path: Path) -> bool:
    # In any case: a file that is passed over could hold the rule that denies.
    return path.suffix.lower() in _SUFFIXES


def _oddity(path: Path) -> str:
    return (
        "this link leads nowhere" if path.is_symlink() and not path.exists() else "this is no plain file, so it cannot be read as a policy"
    )


def folders_beside(paths: Sequence[Path]) -> list[Path]:
    """Folders inside of policy folders that hold files named like policies; those are not read."""
    found: list[Path] = []
    for folder in (path for path in map(resolved, paths) if path.is_dir()):
        found += [
            one
            for one in sorted(folder.iterdir())
            if not one.name.startswith(".") and one.is_dir() and not one.is_symlink() and _holds(one)
        ]
    return found


def _holds(folder: Path) -> bool:
    try:
        return any(_named_so(one) for one in folder.iterdir())
    except OSError:
        return True


def read_file(path: Path) -> bytes:
    """The content of a policy file.

    Raises:
        ConfigError: It cannot be read.
    """
    try:
        with path.open("rb") as file:
            # One byte more than a document may have is enough to refuse it; a file without an end has no last byte.
            return file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError([_unreadable(path, error)]) from None


def _unreadable(path: Path, error: OSError) -> Fault:
    reason = (error.strerror or str(error)).lower()
    return Fault("P001", f"cannot read the policy: {reason}; check the path and its permissions", str(path))


def writable_by_all(path: Path) -> bool:
    """True when any user of the machine may rewrite the file."""
    return bool(path.stat().st_mode & stat.S_IWOTH)
