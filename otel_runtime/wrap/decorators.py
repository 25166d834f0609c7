"""The public decorators: `tool`, `agent`, `model`, `workflow`. Bare or called, each also a context manager."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any, Literal, TypeVar, overload

from otel_runtime.errors import Blocked
from otel_runtime.telemetry.protocol import AttributeValue
from otel_runtime.wrap.decorating import decorate
from otel_runtime.wrap.operation import Operation
from otel_runtime.wrap.plan import Options

__all__ = ["agent", "model", "tool", "workflow"]

F = TypeVar("F", bound=Callable[..., Any])


@overload
def tool(name: F, /) -> F: ...
@overload
def tool(
    name: str | None = None,
    *,
    args: Mapping[str, object] | None = None,
    tags: Collection[str] = (),
    opaque: Collection[str] = (),
    guard: Literal["policy", "required"] = "policy",
    retry: bool = False,
    on_refusal: Callable[[Blocked], Any] | None = None,
    capture_input: bool = True,
    capture_output: bool = True,
    attributes: Mapping[str, AttributeValue] | None = None,
) -> Operation: ...
def tool(
    name: F | str | None = None,
    *,
    args: Mapping[str, object] | None = None,
    tags: Collection[str] = (),
    opaque: Collection[str] = (),
    guard: Literal["policy", "required"] = "policy",
    retry: bool = False,
    on_refusal: Callable[[Blocked], Any] | None = None,
    capture_input: bool = True,
    capture_output: bool = True,
    attributes: Mapping[str, AttributeValue] | None = None,
) -> F | Operation:
    """A tool: guarded by the policy, shown as `execute_tool {name}`.

    `@rt.tool`, `@rt.tool("refund", retry=True)`, or `with rt.tool("refund", args={"amount": 5}) as call:`.

    Args:
        name: Name that rules and spans use; the function's own name when left out.
        args: Arguments by name, for a `with` block.
        tags: Words that rules match with `tags`.
        opaque: Parameters that enter decisions and approvals by their type name only, such as a database handle.
        guard: `required` refuses to run where no policy decides; `policy` follows the policy when there is one.
        retry: Wait and try again when the policy, or the function by raising `RetryableFailure`, says so.
        on_refusal: Takes the `Blocked` error and gives the value to return instead of raising it.
        capture_input: False keeps arguments out of spans even when content is captured.
        capture_output: False keeps results out of spans.
        attributes: Attributes for every span of this tool.

    Raises:
        Blocked: When called and the policy does not let it run: `PolicyDenied`, `ApprovalDenied`, `ApprovalExpired`, `ApprovalPending`,
            `RetryableFailure`, `PolicyUnavailable` or `ArgumentsChanged`.
    """
    own = {
        "tags": _words("tags", tags),
        "opaque": _words("opaque", opaque),
        "guard": _one_of("guard", guard, ("policy", "required")),
        "retry": retry,
        "on_refusal": on_refusal,
    }
    return _made("tool", name, own, (capture_input, capture_output, attributes), args)


@overload
def agent(name: F, /) -> F: ...
@overload
def agent(
    name: str | None = None,
    *,
    session: str | None = None,
    user: str | None = None,
    model: str | None = None,
    capture_input: bool = True,
    capture_output: bool = True,
    attributes: Mapping[str, AttributeValue] | None = None,
) -> Operation: ...
def agent(
    name: F | str | None = None,
    *,
    session: str | None = None,
    user: str | None = None,
    model: str | None = None,
    capture_input: bool = True,
    capture_output: bool = True,
    attributes: Mapping[str, AttributeValue] | None = None,
) -> F | Operation:
    """An agent run, shown as `invoke_agent {name}`; sums the usage of the model calls inside.

    Args:
        name: Name of the agent; the function's own name when left out.
        session: Name of the argument that is the session id.
        user: Name of the argument that is the acting person.
        model: The one model the agent uses, when it has one.
        capture_input: False keeps arguments out of spans even when content is captured.
        capture_output: False keeps results out of spans.
        attributes: Attributes for every span of this agent.

    Raises:
        Blocked: When called and a rule of kind `agent` does not let it run.
    """
    return _made("agent", name, {"session": session, "user": user, "model": model}, (capture_input, capture_output, attributes))


@overload
def model(name: F, /) -> F: ...
@overload
def model(
    name: str | None = None,
    *,
    provider: str | None = None,
    model_from: str = "model",
    capture_input: bool = True,
    capture_output: bool = True,
    attributes: Mapping[str, AttributeValue] | None = None,
) -> Operation: ...
def model(
    name: F | str | None = None,
    *,
    provider: str | None = None,
    model_from: str = "model",
    capture_input: bool = True,
    capture_output: bool = True,
    attributes: Mapping[str, AttributeValue] | None = None,
) -> F | Operation:
    """A model call, shown as `chat {model}`; usage and cost are read from what the function returns or yields.

    `@rt.model`, `@rt.model("gpt-4o-mini", provider="openai")`, or `with rt.model("gpt-4o-mini") as call: call.record_usage(response)`.

    Args:
        name: The requested model; when left out, the argument named by `model_from` says it.
        provider: Provider in the conventions' spelling, such as `openai`, `anthropic`, `gcp.gemini`.
        model_from: Name of the argument that is the requested model.
        capture_input: False keeps arguments out of spans even when content is captured.
        capture_output: False keeps results out of spans.
        attributes: Attributes for every span of this model.

    Raises:
        Blocked: When called and a rule of kind `model`, such as a budget, does not let it run.
    """
    return _made("model", name, {"model_from": model_from, "provider": provider}, (capture_input, capture_output, attributes))


@overload
def workflow(name: F, /) -> F: ...
@overload
def workflow(
    name: str | None = None,
    *,
    session: str | None = None,
    user: str | None = None,
    capture_input: bool = True,
    capture_output: bool = True,
    attributes: Mapping[str, AttributeValue] | None = None,
) -> Operation: ...
def workflow(
    name: F | str | None = None,
    *,
    session: str | None = None,
    user: str | None = None,
    capture_input: bool = True,
    capture_output: bool = True,
    attributes: Mapping[str, AttributeValue] | None = None,
) -> F | Operation:
    """Several agents or steps that belong together, shown as `invoke_workflow {name}`.

    Args:
        name: Name of the workflow; the function's own name when left out.
        session: Name of the argument that is the session id.
        user: Name of the argument that is the acting person.
        capture_input: False keeps arguments out of spans even when content is captured.
        capture_output: False keeps results out of spans.
        attributes: Attributes for every span of this workflow.

    Raises:
        Blocked: When called and a rule of kind `workflow` does not let it run.
    """
    return _made("workflow", name, {"session": session, "user": user}, (capture_input, capture_output, attributes))


def _made(
    kind: Literal["tool", "agent", "model", "workflow"],
    name: F | str | None,
    own: Mapping[str, Any],
    shown: tuple[bool, bool, Mapping[str, AttributeValue] | None],
    args: Mapping[str, object] | None = None,
) -> F | Operation:
    """The function decorated, or what decorates one.

    Args:
        kind: Which operation.
        name: What the decorator was given: a function, its name, or nothing yet.
        own: Options of this kind.
        shown: Options of every kind: whether arguments and results may be captured, and attributes.
        args: Arguments of a `with` block.
    """
    capture_input, capture_output, attributes = shown
    # Any: the decorators have checked them.
    given: dict[str, Any] = {**own, "model" if kind == "model" else "name": name} if isinstance(name, str) else {**own}
    options = Options(**given, capture_input=capture_input, capture_output=capture_output, attributes=dict(attributes or {}))
    if name is None or isinstance(name, str):
        return Operation(kind, options, args)
    return decorate(kind, options, name)


def _words(what: str, words: Collection[str]) -> frozenset[str]:
    if isinstance(words, str) or not all(isinstance(word, str) and word for word in words):
        raise TypeError(f"{what}: expected a collection of non-empty texts, got `{words!r}`; write {what}=[{words!r}]")
    return frozenset(words)


def _one_of(what: str, value: Any, known: tuple[Any, ...]) -> Any:
    if value not in known:
        raise ValueError(f"{what}: expected one of {', '.join(f'`{item}`' for item in known)}, got `{value}`")
    return value
