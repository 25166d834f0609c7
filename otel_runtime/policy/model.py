"""The policy file as pydantic models: what may be written, with positions for mistakes and a JSON Schema for editors.

Nothing here decides: what was found sound becomes `terms`, of which rules are compiled. A key that was not written is not in
`model_fields_set`; an explicit null is refused like any other wrong value.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, ClassVar, Final, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field
from pydantic_core import PydanticCustomError

from otel_runtime.policy import terms
from otel_runtime.policy.argtypes import parse_type
from otel_runtime.policy.case_model import Case, FileCase
from otel_runtime.policy.operands import (
    Amount,
    Approver,
    Domains,
    Duration,
    FileNames,
    Folders,
    FreeGlobOrMany,
    GlobOrMany,
    Lasting,
    Name,
    NameOrMany,
    Number,
    Patterns,
    Scalar,
    Scalars,
    SessionField,
    TextOrMany,
    Texts,
    refusal,
    shown,
)
from otel_runtime.policy.shapes import Origins, OriginTest, Programs, Readers, Runnable, SqlTerms, SqlTest, UrlParts, UrlTest
from otel_runtime.policy.strict_model import Given, Strict
from otel_runtime.values.action import Kind
from otel_runtime.values.decision import RetryClass, Verdict

__all__ = [
    "After",
    "Approval",
    "Conditions",
    "Over",
    "PolicyFile",
    "Retry",
    "Rule",
    "Test",
    "Tool",
    "approval_terms",
    "rule_terms",
]


_SUMMED: Final = re.compile(r"^args\.[^.|]+$")
_FUNCTION: Final = re.compile(r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")


def _type(text: str) -> str:
    try:
        parse_type(text)
    except ValueError as error:
        raise PydanticCustomError("policy", "{text}", {"code": "P016", "text": str(error)}) from None
    return text


def _length(value: object) -> object:
    if isinstance(value, bool) or not isinstance(value, int | dict) or (isinstance(value, int) and value < 0):
        raise refusal("P016", f"expected a length such as `3` or a condition on it such as `{{lte: 10}}`, got {shown(value)}")
    return {"eq": value} if isinstance(value, int) else value


def _one(value: object) -> object:
    # To Python true and 1.0 are equal to 1.
    if type(value) is not int:
        raise refusal("P005", f"expected 1, got {shown(value)}")
    return value


def _window(value: object) -> object:
    if not isinstance(value, str):
        raise refusal("P016", f"expected a duration with its unit such as `1min`, or `day` or `month`, got {shown(value)}")
    return value


def _summed(value: str) -> str:
    if not _SUMMED.search(value):
        raise refusal("P016", f"expected an argument such as `args.amount`, got `{value}`")
    return value


def _named_function(value: str) -> str:
    if not _FUNCTION.search(value):
        raise refusal("P016", f"expected a function such as `package.module:function`, got `{value}`")
    return value


TypeText = Annotated[str, AfterValidator(_type)]


class Test(Strict):
    """What is asked of one value; all operators written here must hold."""

    # pytest collects classes named Test*; this one is no test.
    __test__ = False
    unknown_key: ClassVar[tuple[str, str]] = ("P014", "operator")
    example: ClassVar[str] = "{eq: EUR}"

    eq: Scalar = Field(None, description='Equal, of the same type; 500 and "500" are not comparable.')
    ne: Scalar = Field(None, description="Not equal, of the same type.")
    in_: Scalars = Field(None, alias="in", description="Equal to one of these.")
    not_in: Scalars = Field(None, description="Equal to none of these.")
    gt: Number = Field(None, description="Greater than, in exact decimals.")
    gte: Number = Field(None, description="Greater than or equal to.")
    lt: Number = Field(None, description="Less than.")
    lte: Number = Field(None, description="Less than or equal to.")
    glob: TextOrMany = Field(None, description="Text in which * is one or more characters other than . and :, alone everything.")
    regex: Patterns = Field(None, description="The whole text fits this RE2 expression.")
    search: Patterns = Field(None, description="A part of the text fits this RE2 expression.")
    contains: Scalar = Field(None, description="The text has this part, or the list this element.")
    starts_with: Texts = Field(None, description="The text begins so.")
    ends_with: Texts = Field(None, description="The text ends so.")
    exists: Given[bool] = Field(None, description="true: given and not null; false: left out or null.")
    length: Given[Annotated[Test, BeforeValidator(_length)]] = Field(None, description="Number of characters, elements or keys.")
    email_domain: Domains = Field(None, description="One plain e-mail address in one of these domains.")
    under: Folders = Field(None, description="The path leads into one of these folders, links followed.")
    file_name: FileNames = Field(None, description="The last part of the path, as written and where links lead.")
    url: Given[UrlTest] = Field(None, description="One plain absolute URL whose scheme, host, port and path fit.")
    runs_only: Runnable = Field(None, description="A shell command that runs these programs and no others.")
    reads_only: Readers = Field(None, description="The same, with options that only read.")
    may_run: Programs = Field(None, description="A shell command that could run one of these programs.")
    sql: Given[SqlTest] = Field(None, description="One query that only reads tables of these schemas.")
    origin: Given[OriginTest] = Field(
        None, description="Where the value was seen: user, config, trusted, label:NAME, tool:NAME, tool:NAME/FIELD or unseen."
    )
    some: Given[Test] = Field(None, description="At least one element fits.")
    every: Given[Test] = Field(None, description="There is at least one element, and all fit.")
    none: Given[Test] = Field(None, description="No element fits.")
    all_of: Given[list[Test]] = Field(None, min_length=1, description="All of these hold.")
    any_of: Given[list[Test]] = Field(None, min_length=1, description="One of these holds.")
    not_: Given[Test] = Field(None, alias="not", description="This does not hold.")


class After(Strict):
    """What happened earlier in the session; both must hold where both are written."""

    example: ClassVar[str] = "{label: untrusted}"

    label: NameOrMany = Field(None, description="One of these labels is on the session.")
    tool: GlobOrMany = Field(None, description="The body of one of these tools started in the session.")


class Over(Strict):
    """A limit this call would pass. Exactly one of calls, attempts, tokens, usd and sum."""

    example: ClassVar[str] = "{calls: 30, by: session, per: 1min}"

    calls: Given[int] = Field(None, ge=0, description="Most calls that run in the window.")
    attempts: Given[int] = Field(None, ge=0, description="Most calls that are asked for in the window, refused ones included.")
    tokens: Given[int] = Field(None, ge=0, description="Most tokens in the window, of input and output together.")
    usd: Amount = Field(None, description="Most money in the window, in US dollars.")
    sum: Given[Annotated[str, AfterValidator(_summed)]] = Field(
        None, json_schema_extra={"pattern": _SUMMED.pattern}, description="Argument that is summed up, such as args.amount; needs max."
    )
    max: Amount = Field(None, description="Most that the sum may reach.")
    by: Literal["session", "user", "agent", "tenant", "all"] = Field(description="Whose calls are counted together.")
    per: Annotated[str, BeforeValidator(_window)] = Field(
        description="Window: a duration such as 1min (sliding), or day or month (calendar, needs tz)."
    )
    tz: Given[str] = Field(None, description="Time zone of a calendar window, such as UTC or Europe/Berlin.")
    reserve: Amount = Field(None, description="Money or tokens held for a call until it is known what it used.")


class Conditions(Strict):
    """What must hold; everything written together must hold."""

    example: ClassVar[str] = "{args: {amount: {gt: 100}}}"

    tool: GlobOrMany = Field(None, description="Tool names or globs, one of which fits.")
    name: FreeGlobOrMany = Field(None, description="The same for another kind than tool, whose names may hold any characters.")
    tags: NameOrMany = Field(None, description="The tool carries one of these tags.")
    agent: FreeGlobOrMany = Field(None, description="Agent names or globs; the whole chain of callers counts.")
    user: TextOrMany = Field(None, description="The acting user is one of these.")
    role: NameOrMany = Field(None, description="The acting user has one of these roles.")
    session: Given[dict[SessionField, Test]] = Field(None, min_length=1, description="Conditions on facts of the session.")
    context: Given[dict[str, Test]] = Field(None, min_length=1, description="Conditions on facts declared under context.")
    args: Given[dict[str, Test]] = Field(None, min_length=1, description='Conditions on arguments; "a|b" pools several into one list.')
    only_args: Given[list[str]] = Field(None, description="Every argument given is one of these.")
    after: Given[After] = Field(None, description="What happened earlier in the session.")
    when: Given[Annotated[str, AfterValidator(_named_function)]] = Field(
        None, json_schema_extra={"pattern": _FUNCTION.pattern}, description="package.module:function(action, facts) -> bool."
    )
    all_of: Given[list[Conditions]] = Field(None, min_length=1, description="All of these hold.")
    any_of: Given[list[Conditions]] = Field(None, min_length=1, description="One of these holds.")
    not_: Given[Conditions] = Field(None, alias="not", description="This does not hold.")
    unless: Given[Conditions] = Field(None, description="The exception: the rule does not apply where this holds.")


class Approval(Strict):
    """Who must agree, how many, and until when."""

    example: ClassVar[str] = '{approvers: ["role:finance"], expires: 4h}'

    approvers: list[Approver] = Field(min_length=1, description="role:NAME, user:NAME, acting-user or anyone.")
    quorum: int = Field(1, ge=1, le=100, description="Distinct people who must agree.")
    expires: Lasting = Field(3600.0, description="Time in which people can answer.")
    use_within: Lasting = Field(None, description="Time in which the call must run once approved.")
    edit: list[str] = Field([], description="Arguments an approver may change.")


class Retry(Strict):
    """When the call may be tried again."""

    example: ClassVar[str] = "{after: 10s, max_attempts: 3}"

    after: Duration = Field(1.0, description="Time to wait.")
    max_attempts: int = Field(3, ge=1, le=1000, description="Attempts in all, the first included.")
    class_: Given[RetryClass] = Field(None, alias="class", description="Why it failed; found out from the rule when left out.")


class Rule(Conditions):
    """One rule. The strictest matching one wins; order and names never matter."""

    example: ClassVar[str] = '{id: read, tool: "get_*", decision: allow}'

    id: Name = Field(description="Unique name, shown in decisions and traces.")
    kind: Kind = Field("tool", description="What the rule is about.")
    decision: Verdict = Field(description="What follows when all conditions hold.")
    mode: Literal["enforce", "shadow"] = Field("enforce", description="shadow: recorded, never enforced.")
    reason: str = Field("", max_length=1000, description="A sentence for people and for the model.")
    over: Given[Over] = Field(None, description="A limit this call would pass.")
    approval: Given[Approval] = Field(None, description="Who must agree; for require-approval.")
    retry: Given[Retry] = Field(None, description="When to try again; for retryable-failure.")
    match: list[Case] = Field(default_factory=list, description="Calls to which the rule plainly applies.")
    no_match: list[Case] = Field(default_factory=list, description="Calls to which it plainly does not.")


class Tool(Strict):
    """One tool of the catalogue."""

    example: ClassVar[str] = "{args: {amount: number}, tags: [pays]}"

    tags: NameOrMany = Field((), description="Words rules can ask for.")
    adds: NameOrMany = Field((), description="Labels that come onto the session when the body starts.")
    trusted_source: bool = Field(False, description="Its results count as known to the person: origin `trusted`.")
    args: Given[dict[str, TypeText]] = Field(None, description="Arguments and their types; a call that does not fit is denied.")


class PolicyFile(Strict):
    """A policy, or one file of a directory that is one policy."""

    version: Annotated[Literal[1], BeforeValidator(_one)] = Field(description="Version of the file format.")
    name: str = Field("", max_length=128, description="Name for people.")
    default: Given[Literal["allow", "deny", "require-approval"]] = Field(None, description="For tools and capabilities no rule matches.")
    approval: Given[Approval] = Field(None, description="Who must agree where the default is require-approval.")
    mode: Given[Literal["enforce", "shadow"]] = Field(None, description="shadow: decide and record, never block.")
    workspace: Given[str] = Field(
        None, min_length=1, description="Folder that `workspace:` stands for in `under`, read from where the program is started."
    )
    tools: dict[Name, Tool] = Field(default_factory=dict, description="The catalogue.")
    context: dict[str, TypeText] = Field(default_factory=dict, description="Facts the application supplies, with types.")
    rules: list[Rule] = Field(default_factory=list, description="The rules.")
    cases: list[FileCase] = Field(default_factory=list, description="Calls and what the whole policy must say.")


_TERMS: Final[Mapping[type[BaseModel], type[terms.Written]]] = {
    Test: terms.Test,
    UrlParts: terms.UrlParts,
    SqlTerms: terms.SqlTerms,
    Origins: terms.Origins,
    After: terms.After,
    Over: terms.Over,
    Conditions: terms.Conditions,
    Approval: terms.Approval,
    Retry: terms.Retry,
    Rule: terms.Rule,
}


def rule_terms(rule: Rule) -> terms.Rule:
    """A rule as it is compiled."""
    return terms.Rule(**_written(rule))


def approval_terms(approval: Approval) -> terms.Approval:
    """Terms of approval as they are compiled."""
    return terms.Approval(**_written(approval))


def _written(model: BaseModel) -> dict[str, object]:
    return {name: _plain(getattr(model, name)) for name in type(model).model_fields if name in model.model_fields_set}


def _plain(value: object) -> object:
    if isinstance(value, BaseModel):
        kind = _TERMS.get(type(value))
        # Cases are tried as they were written and compiled into nothing.
        return value if kind is None else kind(**_written(value))
    if isinstance(value, list | tuple):
        return tuple(_plain(item) for item in value)
    return {key: _plain(item) for key, item in value.items()} if isinstance(value, dict) else value
