"""A starter policy for tools nobody has written rules for yet: everything asks a person, and what looks harmless is proposed, never allowed.

A name is what an author wanted a tool to be called, and no promise: a proposal stands in a comment until a person has read the tool.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from otel_runtime.policy.argtypes import split_type
from otel_runtime.values.action import Parameter, ToolSignature

__all__ = ["is_reading", "sample_arguments", "starter"]

_READING: Final = frozenset(
    "check count describe fetch find get has is list load lookup peek preview query read search select show status summarize view".split()
)
_BRINGING_IN: Final = frozenset("browse crawl download fetch read scrape search".split())
_OUTSIDE: Final = frozenset("email feed inbox mail page site url web webpage website".split())
_FINAL: Final = frozenset("delete destroy drop erase purge remove revoke terminate truncate wipe".split())
_MONEY: Final = frozenset("amount cost price sum total value".split())
_NUMBERS: Final = frozenset({"int", "float", "number"})
_PLAIN: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
_YAML_WORDS: Final = frozenset("yes no on off true false null y n".split())
_SAMPLES: Final[Mapping[str, str]] = {
    "str": "x",
    "int": "1",
    "float": "1.5",
    "number": "1",
    "bool": "true",
    "dict": "{}",
    "list": "[]",
    "any": "x",
}


def starter(module: str, tools: Mapping[str, ToolSignature]) -> str:
    """The text of a policy that can be used at once.

    Args:
        module: Where the tools come from.
        tools: Their signatures by name.

    Raises:
        ValueError: There are no tools.
    """
    if not tools:
        raise ValueError("expected at least one tool")
    names = sorted(tools)
    lines = [
        "# yaml-language-server: $schema=schema.json",
        f"# Begun from the decorated tools of `{module}`. Everything asks the person the agent works for until a rule says otherwise.",
        "#",
        f"#   otel-runtime policy check FILE --app {module}",
        "#   otel-runtime policy test FILE --require-coverage",
        "version: 1",
        f"name: {_word(re.sub(r'[^A-Za-z0-9_-]', '-', module))}",
        "default: require-approval",
        "approval: {approvers: [acting-user], expires: 30min}",
        "",
        *_catalogue(names),
        "rules:",
        "  # A loop that went wrong stops by itself. Where your program opens sessions, `by: session` is fairer.",
        "  - id: pace",
        '    tool: "*"',
        "    over: {calls: 300, by: all, per: 1h}",
        "    decision: retryable-failure",
        "    retry: {after: 1min, max_attempts: 3}",
        f"    match: [{{tool: {_word(names[0])}{_args(tools[names[0]])}, used: 300}}]",
        f"    no_match: [{{tool: {_word(names[0])}{_args(tools[names[0]])}, used: 299}}]",
    ]
    for name in names:
        lines += ["", *_about(name, tools[name])]
    lines += ["", "cases:", *(f"  - {{call: {{tool: {_word(name)}{_args(tools[name])}}}, expect: require-approval}}" for name in names)]
    return "\n".join(lines) + "\n"


def is_reading(name: str) -> bool:
    """True when a name begins like reading; a hint for a person, never a permission."""
    return _words(name)[0] in _READING and not _FINAL.intersection(_words(name))


def sample_arguments(signature: ToolSignature) -> dict[str, str]:
    """For each required argument a value of its type, as YAML spells it."""
    return {parameter.name: _sample(parameter.type) for parameter in signature.parameters if parameter.required}


def _words(name: str) -> list[str]:
    """The words of a tool's own name, without what it belongs to."""
    last = re.split(r"[.:]", name)[-1]
    parted = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", last)
    return [word.lower() for word in re.split(r"[_-]+", parted) if word] or [""]


def _catalogue(names: Sequence[str]) -> Iterator[str]:
    outside = [name for name in names if _brings_in(name)]
    if outside:
        yield "# These seem to bring in text that strangers wrote, which may carry orders for the model. If they do, take the marks away:"
        yield "# from then on the session carries the label, and rules can ask for it with `after: {label: untrusted}`."
        yield "# tools:"
        yield from (f"#   {_word(name)}: {{adds: [untrusted]}}" for name in outside)
        yield ""


def _brings_in(name: str) -> bool:
    words = _words(name)
    return bool(_BRINGING_IN.intersection(words) and _OUTSIDE.intersection(words)) or words[0] in {"browse", "crawl", "scrape"}


def _about(name: str, signature: ToolSignature) -> Iterator[str]:
    said = f": {signature.description.splitlines()[0].strip()}" if signature.description.strip() else ""
    yield f"  # --- {_call(name, signature)}{_one_line(said)}"
    words = _words(name)
    if is_reading(name):
        yield f"  # Its name begins with `{words[0]}`, as reading does. If it changes nothing and shows nothing it should not, take the marks away,"
        yield "  # and the line of `cases` below that expects a question:"
        yield from _commented(_rule(name, signature, "read", "allow"))
    elif _FINAL.intersection(words):
        yield "  # It looks like something that cannot be taken back. If no agent should ever do it, take the marks away, and its line of `cases`:"
        yield from _commented(
            [*_rule(name, signature, "never", "deny"), '  reason: "This cannot be taken back; a person does it, not an agent."']
        )
    elif (amount := _amount_of(signature)) is not None:
        yield "  # It moves an amount. To let small ones run, and to keep many small ones from making a large one, take the marks away"
        yield "  # and put in your own figures:"
        yield from _commented(_limits(name, signature, amount))
    else:
        yield "  # Asked each time. Write here under which conditions it may run, or never."


def _rule(name: str, signature: ToolSignature, what: str, decision: str) -> list[str]:
    return [f"- id: {what}.{_id(name)}", f"  tool: {_word(name)}", f"  decision: {decision}", f"  match: [{{{_inner(signature)}}}]"]


def _limits(name: str, signature: ToolSignature, amount: str) -> list[str]:
    small, large = (_inner(signature, {amount: figure}) for figure in ("50", "500"))
    return [
        f"- id: small.{_id(name)}",
        f"  tool: {_word(name)}",
        f"  args: {{{_word(amount)}: {{gt: 0, lte: 100}}}}",
        "  decision: allow",
        f"  match: [{{{small}}}]",
        f"  no_match: [{{{large}}}]",
        f"- id: together.{_id(name)}",
        f"  tool: {_word(name)}",
        f"  over: {{sum: args.{amount}, max: 300, by: user, per: day, tz: UTC}}",
        "  decision: require-approval",
        "  approval: {approvers: [acting-user], expires: 30min}",
        f"  match: [{{{small}, used: 300}}]",
        f"  no_match: [{{{small}, used: 100}}]",
    ]


def _amount_of(signature: ToolSignature) -> str | None:
    found = (
        one.name for one in signature.parameters if _MONEY.intersection(_words(one.name)) and _NUMBERS.intersection(one.type.split("|"))
    )
    return next(found, None)


def _commented(lines: Iterable[str]) -> Iterator[str]:
    return (f"  # {line}" for line in lines)


def _call(name: str, signature: ToolSignature) -> str:
    return f"{name}({', '.join([*map(_parameter, signature.parameters), *(['...'] if signature.open else [])])})"


def _parameter(parameter: Parameter) -> str:
    return f"{parameter.name}: {parameter.type}{'' if parameter.required else '?'}"


def _args(signature: ToolSignature) -> str:
    inner = _inner(signature)
    return f", {inner}" if inner else ""


def _inner(signature: ToolSignature, given: Mapping[str, str] | None = None) -> str:
    values = {**sample_arguments(signature), **(given or {})}
    return f"args: {{{', '.join(f'{_word(key)}: {value}' for key, value in values.items())}}}" if values else ""


def _sample(kind: str) -> str:
    first = split_type(kind)[0]
    if first.startswith("list[") and first.endswith("]"):
        return f"[{_sample(first[5:-1])}]"
    return _SAMPLES.get(first, "x")


def _id(name: str) -> str:
    return name.replace(":", ".")


def _word(text: str) -> str:
    """A YAML word, in quotes where it could be read as something else."""
    return text if _PLAIN.fullmatch(text) and text.lower() not in _YAML_WORDS else json.dumps(text)


def _one_line(text: str) -> str:
    return "".join(char if char.isprintable() else " " for char in text)
