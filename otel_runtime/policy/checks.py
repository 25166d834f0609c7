"""What the shape of a file cannot say: keys that need or exclude each other, names that must exist."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from otel_runtime.policy.budgets import window_of
from otel_runtime.policy.names import is_glob
from otel_runtime.policy.places import WORKSPACE
from otel_runtime.policy.predicates import load_predicate
from otel_runtime.policy.terms import Approval, Conditions, Over, Rule, Test
from otel_runtime.policy.walk import Path, blocks, refs, subjects, tests
from otel_runtime.settings.nearest import did_you_mean
from otel_runtime.values.action import ToolSignature

__all__ = ["Finding", "Known", "check_approval", "check_rule"]

_NEVER_ASKED = frozenset({"model", "agent", "workflow"})
_COUNTED = ("calls", "attempts", "tokens", "usd", "sum")
_OF_LISTS = frozenset({"some", "every", "none", "length", "all_of", "any_of", "not_"})


@dataclass(frozen=True, slots=True)
class Finding:
    """A mistake or a doubt at a path of one file.

    Args:
        path: Where.
        code: Stable code.
        message: As in `Fault`.
        on: Whether the key or the value is meant.
    """

    path: Path
    code: str
    message: str
    on: Literal["key", "value"] = "value"


@dataclass(frozen=True, slots=True)
class Known:
    """What rules may refer to.

    Args:
        context: Declared facts of the application.
        signatures: Tools whose arguments are declared, by the policy or by a decorator.
        workspace: True when a file says what `workspace:` stands for.
    """

    context: frozenset[str]
    signatures: Mapping[str, ToolSignature]
    workspace: bool = True


def check_rule(rule: Rule, path: Path, known: Known) -> Iterator[Finding]:
    """Everything wrong with one rule."""
    yield from _decision(rule, path)
    if rule.over is not None:
        yield from _over(rule, rule.over, (*path, "over"))
        if rule.over.sum is not None:
            # What no tool has would never be summed up, and the limit never reached.
            yield from _declared(rule, (rule.over.sum.removeprefix("args."),), (*path, "over", "sum"), known, "value")
    for nth, name in enumerate(rule.approval.edit if rule.approval is not None else ()):
        yield from _declared(rule, (name,), (*path, "approval", "edit", nth), known, "value")
    for block, at in blocks(rule, path):
        yield from _block(rule, block, at, known, top=block is rule)


def _decision(rule: Rule, path: Path) -> Iterator[Finding]:
    asks = rule.decision == "require-approval"
    if asks and rule.kind in _NEVER_ASKED:
        message = f"calls of kind `{rule.kind}` are never sent to approval; use `deny` or `retryable-failure`, or guard the tools it calls"
        yield Finding((*path, "decision"), "P021", message)
    if asks and rule.approval is None:
        yield Finding((*path, "decision"), "P013", '`require-approval` needs `approval`, such as `approval: {approvers: ["role:finance"]}`')
    if not asks and rule.approval is not None:
        yield Finding((*path, "approval"), "P013", f"`approval` belongs to `require-approval`; this rule says `{rule.decision}`", "key")
    if rule.retry is not None and rule.decision != "retryable-failure":
        yield Finding((*path, "retry"), "P013", f"`retry` belongs to `retryable-failure`; this rule says `{rule.decision}`", "key")
    if rule.approval is not None:
        yield from check_approval(rule.approval, (*path, "approval"))


def check_approval(approval: Approval, path: Path) -> Iterator[Finding]:
    """Terms that nobody could ever meet."""
    people = set(approval.approvers)
    single = all(approver == "acting-user" or approver.startswith("user:") for approver in people)
    if single and approval.quorum > len(people):
        message = f"`quorum: {approval.quorum}` can never be reached: `approvers` names {len(people)} person; add people or a role"
        yield Finding((*path, "quorum"), "P013", message)


def _over(rule: Rule, over: Over, path: Path) -> Iterator[Finding]:
    counted = [name for name in _COUNTED if name in over.written]
    if rule.decision == "allow":
        message = "an `allow` cannot hang on a passed limit; write the limit as `deny`, `retryable-failure` or `require-approval`"
        yield Finding(path, "P022", message, "key")
    if len(counted) != 1:
        yield Finding(path, "P022", f"expected exactly one of `calls`, `attempts`, `tokens`, `usd` and `sum`, got {len(counted)}", "key")
    if ("sum" in counted) != ("max" in over.written):
        yield Finding(path, "P022", "`sum` and `max` belong together, such as `{sum: args.amount, max: 100, ...}`", "key")
    if "reserve" in over.written and not {"usd", "tokens"} & set(counted):
        yield Finding((*path, "reserve"), "P022", "`reserve` belongs to `usd` and `tokens`", "key")
    elif "tokens" in counted and over.reserve is not None and over.reserve != int(over.reserve):
        yield Finding((*path, "reserve"), "P022", f"expected a whole number of tokens, got `{over.reserve}`")
    try:
        window_of(over.per, over.tz)
    except ValueError as error:
        of_zone = over.tz is not None and ("zone" in str(error) or "`tz`" in str(error))
        yield Finding((*path, "tz" if of_zone else "per"), "P022", str(error))


def _block(rule: Rule, block: Conditions, path: Path, known: Known, *, top: bool) -> Iterator[Finding]:
    if not top and not block.written:
        yield Finding(path, "P013", "an empty block of conditions holds for everything; write a condition or remove it")
    if "name" in block.written and rule.kind == "tool":
        yield Finding((*path, "name"), "P013", "`name` does not fit a rule of kind `tool`; write `tool`", "key")
    elif {"name", "tool"} <= block.written:
        yield Finding((*path, "tool"), "P013", f"`tool` and `name` both name the {rule.kind}; write one of them", "key")
    if block.when is not None:
        yield from _refused((*path, "when"), "P019", load_predicate, block.when)
    if "after" in block.written and block.after is not None and not block.after.written:
        yield Finding((*path, "after"), "P013", "expected `label`, `tool` or both")
    yield from _values(rule, block, path, known)


def _refused(path: Path, code: str, attempt: Callable[[str], object], text: str) -> Iterator[Finding]:
    try:
        attempt(text)
    except ValueError as error:
        yield Finding(path, code, str(error))


def _values(rule: Rule, block: Conditions, path: Path, known: Known) -> Iterator[Finding]:
    for root, name, test, at in subjects(block, path):
        if root == "context":
            yield from _context(name, known, at, "key")
        if root == "args":
            yield from _argument(rule, name, test, at, known)
        yield from _tests(test, at, known)
        for ref, where in refs(test, at):
            if ref.root == "context":
                yield from _context(ref.name, known, where, "value")
            if ref.root == "args":
                yield from _declared(rule, (ref.name,), where, known, "value")


def _tests(test: Test, path: Path, known: Known) -> Iterator[Finding]:
    for part, at in tests(test, path):
        if not known.workspace and any(root.startswith(WORKSPACE) for root in part.under or ()):
            message = "no file of this policy says what `workspace:` stands for; add `workspace: DIR` at the top, such as `workspace: .`"
            yield Finding((*at, "under"), "P023", message)
        if not part.written:
            yield Finding(at, "P013", "an empty condition holds for everything; write an operator such as `{exists: true}`")


def _context(name: str, known: Known, path: Path, on: Literal["key", "value"]) -> Iterator[Finding]:
    if name not in known.context:
        hint = did_you_mean(name, known.context) or f"; declare it, such as `context: {{{name}: str}}`"
        yield Finding(path, "P017", f"`{name}` is not declared under `context`{hint}", on)


def _argument(rule: Rule, name: str, test: Test, path: Path, known: Known) -> Iterator[Finding]:
    names = tuple(name.split("|"))
    if not all(names) or len(set(names)) != len(names) or any(part != part.strip() for part in names):
        yield Finding(path, "P016", f'expected argument names such as `to` or `"to|cc|bcc"`, got `{name}`', "key")
        return
    yield from _declared(rule, names, path, known, "key")
    if len(names) > 1:
        yield from _pooled(test, path)


def _pooled(test: Test, path: Path) -> Iterator[Finding]:
    """Pooled arguments are a list, so only questions about lists make sense, at every level that asks the pool itself."""
    wrong = sorted(name.rstrip("_") for name in test.written - _OF_LISTS - {"contains"})
    if wrong:
        message = f"several arguments together are a list; ask it with `some`, `every`, `none`, `length` or `contains`, not `{wrong[0]}`"
        yield Finding((*path, wrong[0]), "P016", message, "key")
    inner = [*(test.all_of or ()), *(test.any_of or ()), *([test.not_] if test.not_ is not None else [])]
    for part in inner:
        yield from _pooled(part, path)


def _declared(rule: Rule, names: tuple[str, ...], path: Path, known: Known, on: Literal["key", "value"]) -> Iterator[Finding]:
    """An argument that none of the rule's tools has: the condition could never hold."""
    if rule.kind != "tool" or rule.tool is None or any(is_glob(pattern) or pattern not in known.signatures for pattern in rule.tool):
        return
    signatures = [known.signatures[name] for name in rule.tool]
    declared = {parameter.name for signature in signatures for parameter in signature.parameters}
    declared |= {signature.variadic for signature in signatures if signature.variadic is not None}
    if any(signature.open for signature in signatures):
        return
    unknown = [name for name in names if name not in declared]
    # Of several pooled names one that the tool lacks adds nothing, as long as it is no slip of the pen.
    spare = declared.difference(names)
    slips = unknown if len(unknown) == len(names) else [name for name in unknown if did_you_mean(name, spare)]
    for name in slips:
        hint = did_you_mean(name, spare) or f"; it has {', '.join(f'`{one}`' for one in sorted(declared)) or 'none'}"
        yield Finding(path, "P018", f"`{'`, `'.join(rule.tool)}` has no argument `{name}`{hint}", on)
