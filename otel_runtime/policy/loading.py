"""Load a policy: files -> models -> checks -> closures -> cases -> lints. Whatever is wrong is told at once, and nothing half loads."""

from __future__ import annotations

import gc
import hashlib
import json
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Final, Literal

from otel_runtime.errors import ConfigError, Fault
from otel_runtime.policy.argtypes import parse_type
from otel_runtime.policy.cases import UNTRIED, Coverage, Trial, check_file_cases, check_rule_cases
from otel_runtime.policy.catalogue import ToolEntry
from otel_runtime.policy.checks import Finding, Known, check_approval, check_rule
from otel_runtime.policy.decide import CompiledPolicy
from otel_runtime.policy.engine import PolicyEngine
from otel_runtime.policy.files import files_of, folders_beside, read_file, writable_by_all
from otel_runtime.policy.lints import Surroundings, lint_rule, lint_rules
from otel_runtime.policy.model import Approval, PolicyFile, Tool, approval_terms
from otel_runtime.policy.ruleset import RuleSet
from otel_runtime.policy.sources import SourceFile, parse_source
from otel_runtime.values.action import Parameter, ToolSignature
from otel_runtime.values.decision import Verdict

__all__ = ["LoadedPolicy", "load_policy", "load_policy_text"]

_NO_TOOLS: Final[Mapping[str, ToolSignature]] = MappingProxyType({})
_UNWRITTEN: Final = {"match", "no_match"}


@dataclass(frozen=True, slots=True)
class LoadedPolicy:
    """A policy that can decide.

    Args:
        engine: Decides.
        warnings: Doubts about the rules.
        files: Where it was read from.
        rules: How many rules there are.
        tools_catalogue: Tools the policy declares.
        mode: `shadow` records and blocks nothing.
        ruleset: What was loaded, as plain data.
        name: Name for people; empty when none was written.
        cases: How many cases were tried.
        coverage: How well they try each rule.
    """

    engine: PolicyEngine
    warnings: tuple[Fault, ...]
    files: tuple[str, ...]
    rules: int
    tools_catalogue: Mapping[str, ToolEntry]
    mode: Literal["enforce", "shadow"]
    ruleset: RuleSet
    name: str = ""
    cases: int = 0
    coverage: tuple[Coverage, ...] = ()


def load_policy(
    paths: Sequence[Path],
    known_tools: Mapping[str, ToolSignature] = _NO_TOOLS,
    roles: Collection[str] | None = None,
    protected: Iterable[Path] = (),
) -> LoadedPolicy:
    """Load policy files; a directory is one policy, and so are all paths together.

    Args:
        paths: Files or directories.
        known_tools: Signatures of decorated tools, for checking arguments and cases.
        roles: Roles the settings give to people, for warnings; None compares nothing.
        protected: Stores, keys and settings that no rule can open, beside the policy itself.

    Raises:
        ConfigError: One syntax fault, or every other mistake at once.
    """
    files = files_of(paths)
    with _collecting_later():
        sources = [parse_source(read_file(path), str(path)) for path in files]
        doubts = [
            Fault("P109", "every user of this machine may rewrite this policy; chmod o-w it", str(path), severity="warning")
            for path in files
            if writable_by_all(path)
        ]
        doubts += [
            Fault(
                "P117",
                "the policy files in this folder are not read: only those directly in the folder that was named",
                str(path),
                severity="warning",
            )
            for path in folders_beside(paths)
        ]
        return _Loader(sources, known_tools, roles, [*paths, *files, *protected]).load(doubts)


def load_policy_text(
    text: str | bytes,
    source: str = "policy",
    known_tools: Mapping[str, ToolSignature] = _NO_TOOLS,
    roles: Collection[str] | None = None,
    protected: Iterable[Path] = (),
) -> LoadedPolicy:
    """Load one policy from its text; as `load_policy`.

    Raises:
        ConfigError: One syntax fault, or every other mistake at once.
    """
    with _collecting_later():
        return _Loader([parse_source(text, source)], known_tools, roles, protected).load([])


@contextmanager
def _collecting_later() -> Iterator[None]:
    """Nothing that a load makes is garbage before its end, and to look for some took half of the time of ten thousand rules."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


class _Loader:
    """The files of one policy on their way to an engine."""

    def __init__(
        self,
        sources: Sequence[SourceFile],
        known_tools: Mapping[str, ToolSignature],
        roles: Collection[str] | None,
        protected: Iterable[Path],
    ) -> None:
        self._sources = sources
        self._known_tools = known_tools
        self._roles = roles
        self._protected = tuple(protected)
        self._catalogue: dict[str, ToolEntry] = {}
        self._context: dict[str, str] = {}

    def load(self, warnings: list[Fault]) -> LoadedPolicy:
        faults = [fault for source in self._sources for fault in source.faults]
        faults += [*self._pooled(), *self._headed(), *self._checked()]
        if faults:
            raise ConfigError(_in_order(faults, self._sources))
        ruleset = self._sound()
        policy = ruleset.compiled(self._protected)
        # Apart from the one that decides, whose rulings are kept.
        enforced = replace(ruleset, shadow=False).compiled(self._protected) if ruleset.shadow else policy
        failing, coverage, cases = self._tried(enforced, shadow=ruleset.shadow)
        if any(fault.severity == "error" for fault in failing):
            raise ConfigError(_in_order((fault for fault in failing if fault.severity == "error"), self._sources))
        warnings = [*warnings, *failing, *self._linted(frozenset(one.rule for one in coverage if one.hits or one.misses))]
        return LoadedPolicy(
            PolicyEngine(policy),
            tuple(_in_order(warnings, self._sources)),
            tuple(source.document.source for source in self._sources),
            len(policy.rules),
            ruleset.catalogue,
            "shadow" if ruleset.shadow else "enforce",
            ruleset,
            next((model.name for _, model in self._models() if model.name), ""),
            cases,
            coverage,
        )

    def _models(self) -> Iterator[tuple[SourceFile, PolicyFile]]:
        for source in self._sources:
            if source.model is not None:
                yield source, source.model

    def _pooled(self) -> Iterator[Fault]:
        """Pool catalogue and context facts of all files."""
        for source, model in self._models():
            for name, tool in model.tools.items():
                if name in self._catalogue:
                    yield source.fault(Finding(("tools", name), "P010", f"tool `{name}` is declared twice in this policy", "key"))
                self._catalogue[name] = _entry(name, tool)
            for name, kind in model.context.items():
                if self._context.setdefault(name, kind) != kind:
                    message = f"`{name}` is `{self._context[name]}` in another file of this policy and `{kind}` here"
                    yield source.fault(Finding(("context", name), "P010", message))

    def _headed(self) -> Iterator[Fault]:
        """Exactly one file sets default and mode; there is at least one rule."""
        yield from self._once("default", required=True)
        yield from self._once("mode", required=False)
        yield from self._once("workspace", required=False)
        for source, model in self._models():
            asks = model.default == "require-approval"
            if asks and model.approval is None and "approval" not in source.broken:
                message = "`default: require-approval` needs `approval` beside it, such as `approval: {approvers: [acting-user]}`"
                yield source.fault(Finding(("default",), "P013", message))
            if model.approval is not None and not asks and "default" not in source.broken:
                yield source.fault(Finding(("approval",), "P013", "`approval` belongs to `default: require-approval`", "key"))
            if model.approval is not None:
                yield from (source.fault(finding) for finding in check_approval(approval_terms(model.approval), ("approval",)))
        whole = all(source.model is not None and not source.faults for source in self._sources)
        if whole and not any(model.rules for _, model in self._models()):
            source = self._sources[0]
            yield source.fault(Finding(("rules",), "P012", "a policy needs at least one rule; to forbid everything write one deny", "key"))

    def _once(self, key: str, *, required: bool) -> Iterator[Fault]:
        setters = [source for source, model in self._models() if key in model.model_fields_set]
        for source in setters[1:]:
            first = setters[0].document.source
            yield source.fault(Finding((key,), "P011", f"`{key}` is already set in `{first}`; exactly one file of a policy sets it", "key"))
        readable = all(source.model is not None and key not in source.broken for source in self._sources)
        if required and not setters and readable and self._sources:
            message = f"no file of this policy sets `{key}`; write `{key}: deny`, `allow` or `require-approval`"
            yield self._sources[0].fault(Finding((), "P011", message))

    def _checked(self) -> Iterator[Fault]:
        """Rules one by one, and ids over all files."""
        anchored = any("workspace" in model.model_fields_set for _, model in self._models())
        broken = any("workspace" in source.broken for source in self._sources)
        known = Known(frozenset(self._context), self._signatures(), workspace=anchored or broken)
        first: dict[str, str] = {}
        for source in self._sources:
            for rule, path in source.rules():
                place = f"{source.document.source}:{source.document.locate(path)[0]}"
                if (earlier := first.setdefault(rule.id, place)) != place:
                    yield source.fault(Finding((*path, "id"), "P010", f"rule id `{rule.id}` is taken by the rule at {earlier}"))
                for finding in check_rule(rule, path, known):
                    # A context section that is itself wrong declares names we did not read.
                    if finding.code != "P017" or not any("context" in one.broken for one in self._sources):
                        yield source.fault(finding)

    def _signatures(self) -> dict[str, ToolSignature]:
        declared = {name: entry.signature for name, entry in self._catalogue.items() if entry.signature is not None}
        broken = any("tools" in source.broken for source in self._sources)
        return {} if broken else {**self._known_tools, **declared}

    def _sound(self) -> RuleSet:
        default: Verdict = "deny"
        approval: Approval | None = None
        shadow = False
        for _, model in self._models():
            if model.default is not None:
                default, approval = model.default, model.approval
            shadow = shadow or model.mode == "shadow"
        return RuleSet(
            tuple(
                (rule, f"{source.document.source}:{source.document.locate(path)[0]}")
                for source in self._sources
                for rule, path in source.rules()
            ),
            MappingProxyType(self._catalogue),
            MappingProxyType(self._context),
            default,
            None if approval is None else approval_terms(approval),
            shadow,
            next((model.workspace for _, model in self._models() if model.workspace is not None), None),
            self._digest(),
        )

    def _digest(self) -> str:
        """Names what decides, and nothing else: comments, cases, order and files do not change it."""
        rules = [
            rule.model_dump(exclude=_UNWRITTEN, exclude_unset=True, by_alias=True) for _, model in self._models() for rule in model.rules
        ]
        heads = [model.model_dump(include={"default", "approval", "mode", "workspace"}, exclude_unset=True) for _, model in self._models()]
        tools = {name: tool.model_dump(exclude_unset=True) for _, model in self._models() for name, tool in model.tools.items()}
        normal = {
            "rules": sorted(json.dumps(rule, sort_keys=True, default=repr) for rule in rules),
            "heads": sorted(json.dumps(head, sort_keys=True, default=repr) for head in heads if head),
            "tools": tools,
            "context": self._context,
        }
        return hashlib.sha256(json.dumps(normal, sort_keys=True, default=repr).encode()).hexdigest()

    def _tried(self, policy: CompiledPolicy, *, shadow: bool) -> tuple[list[Fault], tuple[Coverage, ...], int]:
        trial = Trial(policy, self._known_tools, shadow)
        faults: list[Fault] = []
        coverage: list[Coverage] = []
        compiled = iter(policy.rules)
        whole = [(source, check_file_cases(model.cases, ("cases",), trial)) for source, model in self._models()]
        every_hit, every_miss = [Counter(report.hits) for _, report in whole], [Counter(report.misses) for _, report in whole]
        for source, _ in self._models():
            for rule, path in source.rules():
                ready = next(compiled)
                own = check_rule_cases(rule, ready, path, trial)
                faults += [source.fault(finding, warning=finding.code == UNTRIED) for finding in own.findings]
                hits, misses = (sum(report[rule.id] for report in reports) for reports in (every_hit, every_miss))
                plain = not rule.conditions
                coverage.append(Coverage(rule.id, ready.place, hits + len(rule.match), misses + len(rule.no_match), plain))
        faults += [source.fault(finding, warning=finding.code == UNTRIED) for source, report in whole for finding in report.findings]
        own_cases = sum(len(rule.match) + len(rule.no_match) for source in self._sources for rule, _ in source.rules())
        return faults, tuple(coverage), own_cases + sum(report.tried for _, report in whole)

    def _linted(self, covered: frozenset[str]) -> Iterator[Fault]:
        labels = frozenset(label for entry in self._catalogue.values() for label in entry.adds)
        tools = frozenset({*self._known_tools, *self._catalogue}) if self._known_tools else frozenset()
        signatures = self._signatures()
        undeclared = frozenset(self._catalogue) - signatures.keys()
        around = Surroundings(labels, tools, signatures, self._roles, covered, undeclared)
        written = [(source, rule, path) for source in self._sources for rule, path in source.rules()]
        default: Verdict = next((model.default for _, model in self._models() if model.default is not None), "deny")
        for source, rule, path in written:
            yield from (source.fault(finding, warning=True) for finding in lint_rule(rule, path, around))
        for at, finding in lint_rules([(rule, path) for _, rule, path in written], default):
            yield written[at][0].fault(finding, warning=True)


def _entry(name: str, tool: Tool) -> ToolEntry:
    signature = None if tool.args is None else ToolSignature(tuple(_parameter(arg, kind) for arg, kind in tool.args.items()))
    return ToolEntry(name, frozenset(tool.tags), frozenset(tool.adds), tool.trusted_source, signature)


def _parameter(name: str, kind: str) -> Parameter:
    parsed = parse_type(kind)
    return Parameter(name, parsed.text, required=not parsed.optional, nullable=parsed.optional)


def _in_order(faults: Iterable[Fault], sources: Sequence[SourceFile]) -> list[Fault]:
    order = {source.document.source: at for at, source in enumerate(sources)}
    return sorted(faults, key=lambda fault: (order.get(fault.source, -1), fault.line, fault.column, fault.code))
