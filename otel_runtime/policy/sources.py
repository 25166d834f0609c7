"""The files of a policy, read: their documents and models, with everything wrong in them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from pydantic import ValidationError

from otel_runtime.errors import Fault
from otel_runtime.policy.checks import Finding
from otel_runtime.policy.model import PolicyFile, rule_terms
from otel_runtime.policy.terms import Rule
from otel_runtime.policy.walk import Path
from otel_runtime.settings.documents import Document, read_document
from otel_runtime.settings.faults import validation_faults

__all__ = ["SourceFile", "parse_source"]

MAX_RULES: Final = 10_000
_MOST: Final = {"rules": (MAX_RULES, "P002", f"more than {MAX_RULES} rules; write patterns instead of one rule per value")}
_NEVER: Final = {
    "on_expiry": "there is no `on_expiry`: what nobody approves in time never runs; remove it",
    "scope": "there is no `scope`: an approval covers one execution; remove it",
}
_HINTS: Final = {
    **_NEVER,
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
        written: The rules of the model, as they are compiled.
    """

    document: Document
    model: PolicyFile | None
    places: tuple[int, ...]
    faults: tuple[Fault, ...]
    broken: frozenset[str] = frozenset()
    written: tuple[Rule, ...] = field(init=False)

    def __post_init__(self) -> None:
        """Make the rules ready once; they are gone through several times."""
        rules = () if self.model is None else tuple(rule_terms(rule) for rule in self.model.rules)
        object.__setattr__(self, "written", rules)

    def rules(self) -> Iterator[tuple[Rule, Path]]:
        """The rules that were understood, with their paths."""
        for place, rule in zip(self.places, self.written, strict=True):
            yield rule, ("rules", place)

    def fault(self, finding: Finding, *, warning: bool = False) -> Fault:
        """A finding at its place in this file."""
        severity = "warning" if warning else "error"
        return self.document.fault(finding.path, finding.code, finding.message, finding.on, severity)  # type: ignore[arg-type]  # mypy widens the conditional to str


def parse_source(text: str | bytes, source: str) -> SourceFile:
    """Read one file of a policy.

    Raises:
        ConfigError: It is no document at all (a syntax fault).
    """
    document = read_document(text, source, _MOST)
    plain = document.plain()
    if not isinstance(plain, dict):
        got = "an empty file" if plain is None else "a list" if isinstance(plain, list) else "one value"
        fault = document.fault((), "P002", f"expected a policy with `version`, `default` and `rules`, got {got}")
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
