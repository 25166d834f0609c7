"""Every setting, its type and its default. One frozen object; a bad value is refused, never ignored."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PrivateAttr, field_validator, model_validator

from otel_runtime.settings.durations import parse_duration
from otel_runtime.settings.finding import DEFAULT_STATE

__all__ = ["Person", "Settings", "Target"]

Seconds = Annotated[float, BeforeValidator(parse_duration)]


class Person(BaseModel):
    """Someone who may answer approvals.

    Attributes:
        roles: Role names, as rules write them after `role:`.
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="forbid")

    roles: tuple[str, ...] = ()


_ONLY_FOR = {
    "provider": ("model",),
    "model_from": ("model",),
    "session": ("agent", "workflow"),
    "user": ("agent", "workflow"),
    "tags": ("tool",),
    "guard": ("tool",),
}


_PLACE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:([A-Za-z_]\w*\.)*[\w*?\[\]!-]+")


def _place_of_a_function(text: str) -> str:
    if _PLACE.fullmatch(text) is None:
        module, _, name = text.rpartition(".")
        meant = f"{module}:{name}"
        hint = f"; did you mean `{meant}`?" if ":" not in text and _PLACE.fullmatch(meant) else ""
        raise ValueError(
            f"expected `package.module:function`, `package.module:Class.method` or a glob such as `module:send_*`, got `{text}`{hint}"
        )
    return text


class Target(BaseModel):
    """A function that is wrapped without touching its code.

    Attributes:
        target: `package.module:function` or `package.module:Class.method`; the last name may be a glob such as `*` or `send_*`.
        kind: Which decorator it gets.
        name: Name in rules and spans; for a model the requested model. The function's own name when None.
        capture: False keeps arguments and results out of spans even when content is captured.
        provider: Model provider in the conventions' spelling, for `kind: model`.
        model_from: Name of the argument that is the requested model, for `kind: model`.
        session: Name of the argument that is the session id, for `kind: agent` and `workflow`.
        user: Name of the argument that is the acting person, for `kind: agent` and `workflow`.
        tags: Words that rules match, for `kind: tool`.
        guard: `required` refuses to run where no policy decides, for `kind: tool`.
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="forbid")

    target: Annotated[str, AfterValidator(_place_of_a_function)]
    kind: Literal["tool", "agent", "model", "workflow"] = "tool"
    name: str | None = Field(default=None, min_length=1)
    capture: bool = True
    provider: str | None = None
    model_from: str = "model"
    session: str | None = None
    user: str | None = None
    tags: tuple[str, ...] = ()
    guard: Literal["policy", "required"] = "policy"

    @model_validator(mode="before")
    @classmethod
    def _alone(cls, value: object) -> object:
        if isinstance(value, str):
            return {"target": value}
        if not isinstance(value, Mapping | cls):
            # As below.
            raise ValueError(f"expected `package.module:function`, or a mapping such as {{target: ..., kind: tool}}, got `{value}`")  # noqa: TRY004
        return value

    @model_validator(mode="after")
    def _belongs_to_the_kind(self) -> Self:
        for name, kinds in _ONLY_FOR.items():
            if name in self.model_fields_set and self.kind not in kinds:
                raise ValueError(f"`{name}` belongs to kind {' and '.join(f'`{kind}`' for kind in kinds)}, got kind `{self.kind}`")
        if self.name is not None and not self.target.rpartition(":")[2].replace(".", "").isidentifier():
            raise ValueError(f"`name` names one function, and `{self.target}` may fit several; leave it out, or name one function")
        return self


def _facts_place(text: str) -> str:
    # What may be a URL is looked at where it is opened: an error about it there does not repeat a password.
    if text not in {"auto", "memory", "sqlite"} and "://" not in text and "@" not in text:
        raise ValueError(f"expected `auto`, `memory`, `sqlite` or postgresql://USER@HOST/DATABASE, got `{text}`")
    return text


def _page_of_a_trace(text: str) -> str:
    if not text.startswith(("http://", "https://")) or "{trace_id}" not in text:
        raise ValueError(f"expected an address with {{trace_id}} in it, such as https://jaeger.example/trace/{{trace_id}}, got `{text}`")
    return text


class Settings(BaseModel):
    """The settings of one runtime.

    Order: argument of `configure` > `OTEL_RUNTIME_*` variable > `otel-runtime.yaml` or `[tool.otel-runtime]` in pyproject.toml > default.
    Relative paths of a file are relative to the file, others to the working directory.

    Attributes:
        name: Name of the runtime, shown to hooks and in `doctor`; also `service.name`, unless `OTEL_SERVICE_NAME` gives it.
        policy: Policy files or directories; empty means that nothing is guarded.
        cedar: Cedar policies, files or directories of `*.cedar`; they decide beside `policy`, and the strictest counts.
        cedar_mode: `enforce`, or `shadow`: what the Cedar policies say is recorded and never enforced.
        opa: URL of a decision in OPA's data API, such as http://127.0.0.1:8181/v1/data/agent/decision; it decides beside the others.
        opa_kinds: What OPA is asked about.
        opa_mode: `enforce`, or `shadow`: what OPA says is recorded and never enforced.
        opa_timeout: Seconds one question to OPA may take in all; then the call is denied.
        opa_token_file: File with the bearer token for OPA, or None.
        state: SQLite file that keeps approvals and the audit log.
        wait_at_most: Seconds a call waits for an approval before it suspends (`ApprovalPending`).
        people: Who may answer approvals, by the name the surface establishes (an OS user on the command line).
        otlp: `auto` sends to the configured OTEL_EXPORTER_OTLP_ENDPOINT, else to a collector on this machine if one listens; `on`, `off`.
        console: Print each finished run as a tree.
        trace_file: OTLP-JSON file to write, or None. `{pid}` and `{time}` in the name are filled in.
        trace_url: Page of a trace, with `{trace_id}` and perhaps `{span_id}`, such as https://jaeger.example/trace/{trace_id}; it is shown with
            approvals and in logs.
        decision_spans: `non-allow` makes spans of refusals only, `all` of every decision.
        metric_names: Which generation of GenAI metric names is recorded.
        resume_trace: Whether a resumed call stays in its trace: `auto` under an hour, else a new trace with a link.
        capture: Content on spans: None follows OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT.
        redact_keys: More key names whose values never leave.
        redact_patterns: More regular expressions (RE2) whose matches never leave.
        flush_timeout: Seconds that a flush at exit may take.
        facts: Where counters, labels and what sessions saw are kept: `memory` of this process, `sqlite` in the file of `state`, or the URL of a
            PostgreSQL database for many hosts. `auto` is `sqlite` where the policy can ask people or may be reloaded, else `memory`.
        facts_timeout: Seconds a facts store may take to answer; then facts are unknown, and what depends on them does not run.
        policy_reload: Watch the policy files and put a changed policy in force while the program runs (extra `reload`).
        queue_spans: Most spans that wait for export; None follows OTEL_BSP_MAX_QUEUE_SIZE, else a default of our own.
        queue_bytes: Most bytes that they may take; None is a default of our own.
        spool: Directory that keeps spans which cannot be sent, through outages and kill -9; None keeps them in memory only.
        instrument: Functions that are wrapped without touching their code.
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(default="otel-runtime", min_length=1, max_length=128)
    policy: tuple[Path, ...] = ()
    cedar: tuple[Path, ...] = ()
    cedar_mode: Literal["enforce", "shadow"] = "enforce"
    opa: str | None = Field(default=None, min_length=1)
    opa_kinds: tuple[Literal["tool", "capability", "model", "agent", "workflow"], ...] = Field(default=("tool", "capability"), min_length=1)
    opa_mode: Literal["enforce", "shadow"] = "enforce"
    opa_timeout: Annotated[Seconds, Field(gt=0)] = 1.0
    opa_token_file: Path | None = None
    state: Path = Path(DEFAULT_STATE)
    wait_at_most: Seconds = 60.0
    people: dict[str, Person] = Field(default_factory=dict)
    otlp: Literal["auto", "on", "off"] = "auto"
    console: bool = False
    trace_file: Path | None = None
    trace_url: Annotated[str, AfterValidator(_page_of_a_trace)] | None = None
    decision_spans: Literal["non-allow", "all"] = "non-allow"
    metric_names: Literal["both", "legacy", "latest"] = "both"
    resume_trace: Literal["auto", "same", "new"] = "auto"
    capture: Literal["NO_CONTENT", "SPAN_ONLY", "EVENT_ONLY", "SPAN_AND_EVENT"] | None = None
    redact_keys: tuple[str, ...] = ()
    redact_patterns: tuple[str, ...] = ()
    flush_timeout: Seconds = 2.0
    # Never shown: a URL may hold a password.
    facts: Annotated[str, AfterValidator(_facts_place)] = Field(default="auto", repr=False)
    facts_timeout: Annotated[Seconds, Field(gt=0)] = 1.0
    policy_reload: bool = False
    queue_spans: int | None = Field(default=None, gt=0)
    queue_bytes: int | None = Field(default=None, gt=0)
    spool: Path | None = None
    instrument: tuple[Target, ...] = ()

    # Where they were read; part of no file, so no setting.
    _file: Path | None = PrivateAttr(default=None)

    @property
    def file(self) -> Path | None:
        """The settings file these were read from; None without one."""
        return self._file

    def read_from(self, file: Path | None) -> Self:
        """The same settings, which remember their file."""
        copy = self.model_copy()
        copy._file = file  # noqa: SLF001  # its own, on the copy
        return copy

    @field_validator("policy", "cedar", mode="before")
    @classmethod
    def _one_or_many(cls, value: object) -> object:
        return (value,) if isinstance(value, str | Path) else value

    @field_validator("instrument", mode="before")
    @classmethod
    def _targets(cls, value: object) -> object:
        if not isinstance(value, list | tuple):
            # pydantic would ask for a tuple, which no YAML has. A TypeError would not become a fault with its place.
            raise ValueError(f"expected a list of targets such as `- package.module:function`, got `{value}`")  # noqa: TRY004
        return value
