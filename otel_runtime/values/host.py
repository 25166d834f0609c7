"""What a lifecycle hook is told about the work around it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from otel_runtime.values.trace import TraceRef

__all__ = ["CapabilityHandle", "HostContext"]

_EMPTY: Mapping[str, object] = MappingProxyType({})


def _no_wait_until(_task: Awaitable[object] | Future[Any]) -> None:
    raise RuntimeError("this context belongs to no runtime: wait_until has nobody to wait")


@dataclass(frozen=True, slots=True)
class CapabilityHandle:
    """A named thing the host hands to an agent. Holding it is no permission: policy is asked each time it is fetched.

    Args:
        kind: What sort of thing it is, such as `database` or `queue`.
        name: Its registered name.
        value: The thing itself.
    """

    kind: str
    name: str
    value: object


@dataclass(frozen=True, slots=True)
class HostContext:
    """The run a hook is called for.

    Args:
        runtime: Name of the runtime.
        request: What the run was asked to do: kind and name of the outermost operation.
        session: Session id, or None.
        user: The acting person, or None.
        attributes: Facts the application supplied.
        wait_until: Give it a future or awaitable that must finish before shutdown.
        memo: A dictionary that lives as long as the run, for hooks to keep their own things in.
        capabilities: Names that `rt.capability()` knows.
        trace: Where the run stands in its trace; None when nothing is recorded.
        run: Id of the run.
    """

    runtime: str
    request: str = ""
    session: str | None = None
    user: str | None = None
    attributes: Mapping[str, object] = field(default_factory=lambda: _EMPTY)
    wait_until: Callable[[Awaitable[object] | Future[Any]], None] = _no_wait_until
    memo: dict[str, object] = field(default_factory=dict)
    capabilities: tuple[str, ...] = ()
    trace: TraceRef | None = None
    run: str | None = None
