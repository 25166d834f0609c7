"""Cedar policies from files: one by one, so that each mistake has its place, with our annotations read and checked.

A file holds policies that end in `;`. They are cut apart here (strings and comments are Cedar's only places where a `;` means nothing) and
parsed by cedarpy. Templates are refused: nothing here fills their slots.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Final, NoReturn

from otel_runtime.errors import ConfigError, Fault
from otel_runtime.policy.engine_outside import ASKED, shortened
from otel_runtime.policy.engine_terms import approval_from, retry_from, verdict_from
from otel_runtime.policy.names import NAME_HINT, is_name
from otel_runtime.policy.rules import CompiledRule
from otel_runtime.settings.nearest import did_you_mean
from otel_runtime.values.decision import Verdict

__all__ = ["CedarPolicy", "cedar_files", "cedarpy", "read_policies"]

_MAX_BYTES: Final = 4 << 20
_MAX_POLICIES: Final = 10_000
# What stands between policies, a comment included, and the two places where a semicolon does not end one.
_TOKEN: Final = re.compile(r'//[^\n]*|"(?:[^"\\]|\\.)*"|;|[^/";]+|.', re.DOTALL)
_APPROVAL: Final = ("approvers", "quorum", "expires", "use_within", "edit")
_RETRY: Final = ("after", "max_attempts", "class")
_KNOWN: Final = ("id", "decision", "mode", "reason", *_APPROVAL, *_RETRY)
_SAYS: Final[Mapping[str, tuple[Verdict, ...]]] = {
    "permit": ("allow", "require-approval"),
    "forbid": ("deny", "require-approval", "retryable-failure"),
}


@dataclass(frozen=True, slots=True)
class CedarPolicy:
    """One policy.

    Args:
        rule: What follows when it holds.
        body: Its JSON form, as cedarpy gives it.
    """

    rule: CompiledRule
    body: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class _Piece:
    text: str
    line: int
    column: int


def cedarpy() -> ModuleType:
    """The library.

    Raises:
        ConfigError: It is not installed.
    """
    try:
        import cedarpy as library
    except ImportError:
        raise ConfigError.of(
            "C001", "Cedar policies need cedarpy, which is not installed; pip install 'otel-runtime[cedar]'", "cedar"
        ) from None
    found: ModuleType = library
    return found


def cedar_files(paths: Sequence[Path]) -> list[Path]:
    """The `.cedar` files that paths mean; a folder is every one below it, in the order of their names.

    Raises:
        ConfigError: A folder holds none, or cannot be looked into.
    """
    files: list[Path] = []
    for path in paths:
        try:
            found = sorted(_below(path)) if path.is_dir() else [path]
        except OSError as error:
            raise _unreadable(Path(error.filename or path), error) from None
        if not found:
            raise ConfigError.of("C002", "expected at least one `*.cedar` file in this folder, found none", str(path))
        files += found
    return list(dict.fromkeys(files))


def _below(folder: Path) -> Iterator[Path]:
    """Every Cedar file below a folder, in any case: one that is passed over could hold the policy that forbids."""

    def stop(error: OSError) -> NoReturn:
        raise error

    for home, _, names in os.walk(folder, onerror=stop):
        yield from (Path(home) / name for name in names if name.lower().endswith(".cedar"))


def read_policies(files: Sequence[Path]) -> tuple[CedarPolicy, ...]:
    """Every policy of these files.

    Raises:
        ConfigError: All mistakes at once, each with its place.
    """
    library = cedarpy()
    policies: list[CedarPolicy] = []
    faults: list[Fault] = []
    taken: dict[str, str] = {}
    for path in files:
        pieces, left = _cut(_read(path))
        for number, piece in enumerate(pieces):
            try:
                policy = _policy(library, piece, path, number, len(policies))
            except ValueError as error:
                faults.append(_fault(path, piece, str(error)))
                continue
            if policy.rule.id in taken:
                faults.append(_fault(path, piece, f"the id `{policy.rule.id}` is taken by the policy at {taken[policy.rule.id]}"))
            taken[policy.rule.id] = policy.rule.place
            policies.append(policy)
        if left is not None:
            faults.append(_fault(path, left, "expected a policy that ends in `;`, got the end of the file"))
    if faults:
        raise ConfigError(faults)
    if not policies or len(policies) > _MAX_POLICIES:
        message = f"expected from one to {_MAX_POLICIES} policies, got {len(policies)}; to forbid everything write one `forbid`"
        raise ConfigError.of("C002", message, ", ".join(map(str, files)))
    return tuple(policies)


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            raw = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise _unreadable(path, error) from None
    if len(raw) > _MAX_BYTES:
        raise ConfigError.of("C002", f"the file is larger than {_MAX_BYTES >> 20} MiB", str(path))
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise ConfigError.of("C002", "the file is not UTF-8 text; save it as UTF-8", str(path)) from None


def _unreadable(path: Path, error: OSError) -> ConfigError:
    reason = (error.strerror or str(error)).lower()
    return ConfigError.of("C002", f"cannot read the Cedar policy: {reason}; check the path and its permissions", str(path))


def _cut(text: str) -> tuple[list[_Piece], _Piece | None]:
    """The policies of a text, and what is left when the last one does not end."""
    pieces: list[_Piece] = []
    start: int | None = None
    for token in _TOKEN.finditer(text):
        got = token.group()
        if start is None and got.strip() and not got.startswith("//"):
            start = token.start() + len(got) - len(got.lstrip())
        if got == ";" and start is not None:
            pieces.append(_piece(text, start, token.end()))
            start = None
    return pieces, None if start is None else _piece(text, start, len(text))


def _piece(text: str, start: int, end: int) -> _Piece:
    line_start = text.rfind("\n", 0, start) + 1
    return _Piece(text[start:end], text.count("\n", 0, start) + 1, start - line_start + 1)


def _fault(path: Path, piece: _Piece, message: str) -> Fault:
    return Fault("C003", message, str(path), piece.line, piece.column, piece.text.split("\n", 1)[0][:200])


def _policy(library: ModuleType, piece: _Piece, path: Path, number: int, order: int) -> CedarPolicy:
    try:
        written = json.loads(library.policies_to_json_str(piece.text))
    except ValueError as error:
        raise ValueError(f"not a Cedar policy: {shortened(str(error))}") from None
    if written["templates"] or len(written["staticPolicies"]) != 1:
        raise ValueError("expected one policy without `?principal` and `?resource`: nothing here fills the slots of a template")
    (body,) = written["staticPolicies"].values()
    notes: dict[str, str] = {name: value or "" for name, value in body.get("annotations", {}).items()}
    name = notes.get("id") or f"{path.stem}:{number}"
    if not is_name(name):
        raise ValueError(f"`@id({name[:60]})` is not a name; expected {NAME_HINT}")
    return CedarPolicy(_rule(name, body["effect"], notes, f"{path}:{piece.line}", order), body)


def _rule(name: str, effect: str, notes: Mapping[str, str], place: str, order: int) -> CompiledRule:
    plain: Verdict = "allow" if effect == "permit" else "deny"
    verdict = verdict_from(notes["decision"]) if "decision" in notes else plain
    if verdict not in _SAYS[effect]:
        expected = " or ".join(f"`{one}`" for one in _SAYS[effect])
        raise ValueError(f'`@decision("{verdict}")` on a `{effect}`; expected {expected}')
    _check_notes(notes, verdict)
    reason = notes.get("reason", "")
    return CompiledRule(
        name,
        "tool",
        verdict,
        ASKED,
        order,
        reason=reason,
        place=place,
        shadow=_shadow(notes),
        approval=approval_from(name, _terms(notes, _APPROVAL), reason) if verdict == "require-approval" else None,
        retry=retry_from(_terms(notes, _RETRY)) if verdict == "retryable-failure" else None,
    )


def _shadow(notes: Mapping[str, str]) -> bool:
    mode = notes.get("mode", "enforce")
    if mode not in {"enforce", "shadow"}:
        raise ValueError(f'`@mode("{mode[:60]}")`: expected `enforce` or `shadow`{did_you_mean(mode, ("enforce", "shadow"))}')
    return mode == "shadow"


def _check_notes(notes: Mapping[str, str], verdict: Verdict) -> None:
    """Annotations may be anybody's; where ours have a meaning, a misspelt one must not be taken for somebody else's."""
    mine = _APPROVAL if verdict == "require-approval" else _RETRY if verdict == "retryable-failure" else ()
    for name in notes:
        if name in {"id", "decision", "mode", "reason", *mine}:
            continue
        if name in _KNOWN:
            raise ValueError(f"`@{name}` has no meaning for a policy that says `{verdict}`; write `@decision` beside it, or remove it")
        if mine or did_you_mean(name, ("decision",)):
            raise ValueError(f"unknown annotation `@{name}`{did_you_mean(name, _KNOWN)}; known: {', '.join(_KNOWN)}")


def _terms(notes: Mapping[str, str], names: Sequence[str]) -> dict[str, object]:
    """Annotations are text: numbers are read, lists are split at commas."""
    terms: dict[str, object] = {name: notes[name] for name in names if name in notes}
    for name in ("approvers", "edit"):
        if name in terms:
            terms[name] = list(_split(notes[name]))
    for name in ("quorum", "max_attempts"):
        if name in terms and notes[name].isascii() and notes[name].isdigit():
            terms[name] = int(notes[name][:9])
    return terms


def _split(text: str) -> Iterator[str]:
    return (part.strip() for part in text.split(",") if part.strip())
