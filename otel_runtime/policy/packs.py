"""The policies that come with the package, named `pack:NAME` wherever a policy is named.

In a wheel they lie beside this module; in a checkout, also an editable install, they are the files of the top-level folder `policy/`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from otel_runtime.errors import ConfigError
from otel_runtime.settings.nearest import did_you_mean

__all__ = ["PREFIX", "Pack", "pack", "packs", "resolved", "schema_beside", "schema_file"]

PREFIX: Final = "pack:"
_FOLDER: Final = "pack_files"
_SCHEMA_HEAD: Final = 1000
_MODELINE: Final = "# yaml-language-server:"


@dataclass(frozen=True, slots=True)
class Pack:
    """A policy that comes with the package.

    Args:
        name: What stands behind `pack:`.
        path: Its file.
        about: Its first sentence.
    """

    name: str
    path: Path
    about: str

    @property
    def text(self) -> str:
        """The file's text."""
        return self.path.read_text(encoding="utf-8")


def packs() -> tuple[Pack, ...]:
    """Every pack, by name."""
    return tuple(_read(path) for path in sorted(_folder().glob("*.yaml")))


def pack(name: str) -> Pack:
    """One pack.

    Raises:
        ConfigError: There is none of that name.
    """
    path = _folder() / f"{name}.yaml"
    known = [one.stem for one in sorted(_folder().glob("*.yaml"))]
    if name not in known:
        hint = did_you_mean(name, known) or f"; there are {', '.join(f'`{one}`' for one in known)}"
        raise ConfigError.of("P001", f"no policy pack `{name}`{hint}", f"{PREFIX}{name}")
    return _read(path)


def resolved(path: Path) -> Path:
    """The file that a path means: `pack:NAME` is a pack, anything else itself.

    Raises:
        ConfigError: There is no such pack.
    """
    text = str(path)
    return pack(text.removeprefix(PREFIX)).path if text.startswith(PREFIX) else path


def schema_file() -> Path:
    """The JSON Schema of policy files, which belongs beside a copy."""
    return _folder() / "schema.json"


def schema_beside(folder: Path, *, force: bool) -> Path:
    """Where the schema of policies in this folder goes.

    Args:
        folder: The folder.
        force: Write over whatever has that name.

    Raises:
        ConfigError: A file of that name is there and is another schema.
    """
    place = folder / schema_file().name
    try:
        # Whatever version wrote it.
        taken = not force and place.exists() and b'"title": "otel-runtime policy"' not in place.read_bytes()[:_SCHEMA_HEAD]
    except OSError:
        taken = True
    if taken:
        message = "a file of this name is there already, and policies have their schema there; choose another folder, such as `policy/`"
        raise ConfigError.of("P001", message, str(place))
    return place


def _folder() -> Path:
    inside = Path(__file__).with_name(_FOLDER)
    return inside if inside.is_dir() else Path(__file__).parents[2] / "policy"


def _read(path: Path) -> Pack:
    about = ""
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("#") and not line.startswith(_MODELINE):
            about = f"{about} {line.lstrip('# ')}".strip()
        if ". " in about or about.endswith(".") or not line.startswith("#"):
            break
    return Pack(path.stem, path, about.partition(". ")[0].rstrip("."))
