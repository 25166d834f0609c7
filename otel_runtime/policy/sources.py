"""Policy files on disk: which ones belong to a policy, their documents and models, with everything wrong in them."""

from __future__ import annotations

import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Final

from pydantic import ValidationError

from otel_runtime.errors import ConfigError, Fault
from otel_runtime.policy.checks import Finding
from otel_runtime.policy.model import PolicyFile, Rule
from otel_runtime.policy.walk import Path
from otel_runtime.settings.documents import Document, read_document
from otel_runtime.settings.faults import validation_faults

__all__ = ["SourceFile", "files_of", "parse_source", "read_file", "writable_by_all"]

MAX_RULES: Final = 10_000
_SUFFIXES: Final = frozenset({".yaml", ".yml", ".json"})
_LATER: Final = {name: f"`{name}` is not available in this version" for name in ("on_expiry", "scope")}
_HINTS: Final = {
    **_LATER,
    "effect": "unknown key `effect`; write `decision: allow | deny | require-approval | retryable-failure`",
    "include": "unknown key `include`; put the files into one directory, which is one policy",
}


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One file of a policy.

    Args:
        document: Its text and positions.
        model: What could be understood of it; None when nothing could.
        places: For each rule of the model, its position in the file.
        faults: Everything wrong with its shape.
        broken: Top-level keys that could not be understood.
    """

    document: Document
    model: PolicyFile | None
    places: tuple[int, ...]
    faults: tuple[Fault, ...]
    broken: frozenset[str] = frozenset()

    def rules(self) -> Iterator[tuple[Rule, Path]]:
        """The rules that were understood, with their paths."""
        if self.model is not None:
            for place, rule in zip(self.places, self.model.rules, strict=True):
                yield rule, ("rules", place)

    def fault(self, finding: Finding, *, warning: bool = False) -> Fault:
        """A finding at its place in this file."""
        severity = "warning" if warning else "error"
        return self.document.fault(finding.path, finding.code, finding.message, finding.on, severity)  # type: ignore[arg-type]  # mypy widens the conditional to str


def files_of(paths: Sequence[FilePath]) -> list[FilePath]:
    """The files of a policy; a directory stands for the YAML and JSON files in it.

    Raises:
        ConfigError: A path is missing or holds no policy.
    """
    found: list[FilePath] = []
    faults: list[Fault] = []
    for path in paths:
        if path.is_dir():
            inside = sorted(
                one for one in path.iterdir() if one.suffix in _SUFFIXES and one.is_file() and not one.name.endswith("schema.json")
            )
            if not inside:
                faults.append(Fault("P001", "the policy directory holds no *.yaml file; a policy needs at least one rule", str(path)))
            found.extend(inside)
        elif path.exists():
            found.append(path)
        else:
            faults.append(Fault("P001", "no such policy file or directory; check the path", str(path)))
    if not paths:
        faults.append(Fault("P001", "no policy file was named", "policy"))
    if faults:
        raise ConfigError(faults)
    return list(dict.fromkeys(found))


def read_file(path: FilePath) -> bytes:
    """The content of a policy file.

    Raises:
        ConfigError: It cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise ConfigError.of("P001", f"cannot read the policy: {reason}; check the path and its permissions", str(path)) from None


def writable_by_all(path: FilePath) -> bool:
    """True when any user of the machine may rewrite the file."""
    return bool(path.stat().st_mode & stat.S_IWOTH)


def parse_source(text: str | bytes, source: str) -> SourceFile:
    """Read one file of a policy.

    Raises:
        ConfigError: It is no document at all (a syntax fault).
    """
    document = read_document(text, source)
    plain = document.plain()
    if not isinstance(plain, dict):
        got = "an empty file" if plain is None else "a list" if isinstance(plain, list) else "one value"
        fault = document.fault((), "P002", f"expected a policy with `version`, `default` and `rules`, got {got}")
        return SourceFile(document, None, (), (fault,))
    if isinstance(rules := plain.get("rules"), list) and len(rules) > MAX_RULES:
        fault = document.fault(("rules",), "P002", f"more than {MAX_RULES} rules; write patterns instead of one rule per value", "key")
        return SourceFile(document, None, (), (fault,))
    try:
        model = PolicyFile.model_validate(plain)
    except ValidationError as error:
        return _salvaged(document, plain, error)
    return SourceFile(document, model, tuple(range(len(model.rules))), ())


def _salvaged(document: Document, plain: Mapping[str, object], error: ValidationError) -> SourceFile:
    """Keep what is sound, so that all mistakes of a file are told at once."""
    faults = tuple(validation_faults(document, error, "P", PolicyFile, _HINTS))
    places: list[tuple[int | str, ...]] = [detail["loc"] for detail in error.errors(include_url=False)]
    bad_rules = {loc[1] for loc in places if len(loc) > 1 and loc[0] == "rules"}
    broken = {str(loc[0]) for loc in places if loc and not (len(loc) > 1 and loc[0] == "rules")}
    rules = plain.get("rules")
    kept = [at for at in range(len(rules)) if at not in bad_rules] if isinstance(rules, list) and "rules" not in broken else []
    sound = {key: value for key, value in plain.items() if key not in broken}
    sound |= {"version": 1, "rules": [rules[at] for at in kept] if isinstance(rules, list) else []}
    return SourceFile(document, PolicyFile.model_validate(sound), tuple(kept), faults, frozenset(broken))
