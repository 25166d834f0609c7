"""What the policy commands open alike: the policy, the application whose tools it guards, JSON given as an option."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from otel_runtime.errors import ConfigError

if TYPE_CHECKING:
    from otel_runtime.policy.loading import LoadedPolicy
    from otel_runtime.settings.model import Settings
    from otel_runtime.values.action import ToolSignature

__all__ = [
    "FAILED",
    "OK",
    "UNUSABLE",
    "add_app",
    "add_json",
    "add_paths",
    "configured_engines",
    "counted",
    "json_object",
    "known_tools",
    "look_beside",
    "open_policy",
    "read_json",
]

OK: Final = 0
FAILED: Final = 1
UNUSABLE: Final = 2


def add_paths(parser: argparse.ArgumentParser) -> None:
    """The policy as positional words."""
    parser.add_argument(
        "paths",
        metavar="FILE|DIR|pack:NAME",
        type=Path,
        nargs="*",
        help="all together are one policy; the configured one, else `policy/`, when left out",
    )


def add_app(parser: argparse.ArgumentParser) -> None:
    """The program whose decorated tools bring their signatures."""
    parser.add_argument("--app", metavar="MODULE", help="module to import, so that decorated tools give their signatures")


def add_json(parser: argparse.ArgumentParser) -> None:
    """Output for machines."""
    parser.add_argument("--json", action="store_true", help="print JSON")


def counted(number: int, what: str) -> str:
    """`1 rule`, `2 rules`."""
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"


def open_policy(paths: Sequence[Path], app: str | None) -> LoadedPolicy:
    """Load the policy that was named, else the configured one.

    Raises:
        ConfigError: It cannot be used, or there is none.
    """
    from otel_runtime.policy.loading import load_policy

    known = known_tools(app)
    found, roles = (list(paths), None) if paths else _configured()
    return load_policy(found, known, roles)


def _configured() -> tuple[list[Path], frozenset[str] | None]:
    from otel_runtime.settings.loading import load_settings

    settings = load_settings()
    roles = frozenset(role for person in settings.people.values() for role in person.roles) if settings.people else None
    if settings.policy:
        return list(settings.policy), roles
    beside = Path("policy")
    if beside.is_dir():
        return [beside], roles
    hint = (
        "name a file or directory, or begin one with `otel-runtime policy init MODULE` or `otel-runtime policy pack copy careful-default`"
    )
    raise ConfigError.of("P001", f"no policy is configured and there is no directory `policy/` here; {hint}", "policy")


def configured_engines() -> Settings | None:
    """The settings, when they name policies in other languages; None when rules of our own are all there is."""
    from otel_runtime.settings.loading import load_settings

    settings = load_settings()
    return settings if settings.cedar or settings.opa is not None else None


def known_tools(app: str | None) -> Mapping[str, ToolSignature]:
    """Signatures of the tools that an application decorates; none without one.

    Raises:
        ConfigError: It cannot be imported.
    """
    if app is None:
        return {}
    import importlib

    from otel_runtime.wrap.registry import known_signatures

    look_beside()
    try:
        importlib.import_module(app)
    except (Exception, SystemExit) as error:  # noqa: BLE001  # importing runs anything; one that leaves must not leave for us, with its code
        raise ConfigError.of("P001", f"cannot import `{app}`: {type(error).__name__}: {error}", "--app") from None
    return known_signatures()


def look_beside() -> None:
    """Find modules of the working directory: a console script does not have it on its path; `python -m` does."""
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))


def json_object(text: str, option: str) -> dict[str, object]:
    """An option's JSON object, read as strictly as a policy: no key twice, no NaN.

    Raises:
        ConfigError: It is none.
    """
    from otel_runtime.settings.documents import read_document

    plain = read_document(text, option).plain()
    if not isinstance(plain, dict):
        raise ConfigError.of("P005", 'expected a JSON object such as `{"amount": 250}`', option)
    return plain


def read_json(path: Path, known: frozenset[str]) -> dict[str, object]:
    """A JSON object from a file, with none but known keys.

    Raises:
        ConfigError: It cannot be read, is none, or has another key.
    """
    from otel_runtime.settings.nearest import did_you_mean

    try:
        told = json_object(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror.lower() if isinstance(error, OSError) and error.strerror else "it is not UTF-8 text"
        raise ConfigError.of("P001", f"cannot read the facts: {why}; check the path and its permissions", str(path)) from None
    for key in told:
        if key not in known:
            hint = did_you_mean(key, known) or f"; known keys: {', '.join(sorted(known))}"
            raise ConfigError.of("P003", f"unknown key `{key}`{hint}", str(path))
    return told
