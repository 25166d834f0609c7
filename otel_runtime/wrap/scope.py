"""Who acts, in which session and run: carried in one context variable, read by every guarded call.

`session` and `call` set it by hand; agents and workflows set it around their bodies.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Collection, Mapping
from contextvars import ContextVar, Token
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Self

from otel_runtime.wrap.collecting import collection

if TYPE_CHECKING:
    from otel_runtime.wrap.call import Call

__all__ = ["ROOT", "RunState", "Scope", "call", "current_scope", "enter_scope", "leave_scope", "session"]


class RunState:
    """What lives as long as a run.

    Args:
        id: Id of the run.
    """

    __slots__ = ("_lock", "_seen", "id", "memo")

    def __init__(self, id: str) -> None:
        self.id: str = id
        self.memo: dict[str, object] = {}
        self._seen: Counter[str] = Counter()
        self._lock = threading.Lock()

    def occurrence(self, digest: str) -> int:
        """How often this very call was asked about in this run, this time included."""
        with self._lock:
            self._seen[digest] += 1
            return self._seen[digest]


class Scope:
    """The surroundings of a call. Never changed, only replaced.

    Args:
        session: Session id.
        user: The acting person.
        roles: The acting person's roles; None when unknown.
        tenant: The tenant.
        context: Facts the application supplies.
        agents: Names of the agents around, outermost first.
        run: State of the run; None outside of one.
        call_id: The provider's tool-call id for the calls inside.
        operation: The innermost call around; None outside of one.
        around: Sessions out of which this one was opened by a running operation, outermost first.
    """

    __slots__ = ("agents", "around", "call_id", "context", "operation", "roles", "run", "session", "tenant", "user")

    def __init__(
        self,
        session: str | None = None,
        user: str | None = None,
        roles: frozenset[str] | None = None,
        tenant: str | None = None,
        context: Mapping[str, object] = MappingProxyType({}),
        agents: tuple[str, ...] = (),
        run: RunState | None = None,
        call_id: str | None = None,
        operation: Call | None = None,
        around: tuple[str, ...] = (),
    ) -> None:
        self.session: str | None = session
        self.user: str | None = user
        self.roles: frozenset[str] | None = roles
        self.tenant: str | None = tenant
        self.context: Mapping[str, object] = context
        self.agents: tuple[str, ...] = agents
        self.run: RunState | None = run
        self.call_id: str | None = call_id
        self.operation: Call | None = operation
        self.around: tuple[str, ...] = around

    def inside(self, operation: Call, *, agent: str | None = None, run: RunState | None = None) -> Scope:
        """The scope of an operation's body; a provider's call id belongs to one call and does not go further in."""
        agents = self.agents if agent is None else (*self.agents, agent)
        return Scope(self.session, self.user, self.roles, self.tenant, self.context, agents, run or self.run, None, operation, self.around)

    def for_call(self, call_id: str) -> Scope:
        """The same surroundings with a provider's call id."""
        return self._with(self.agents, self.run, call_id, self.operation)

    def for_run(self, run: RunState) -> Scope:
        """The same surroundings in a run."""
        return self._with(self.agents, run, self.call_id, self.operation)

    def around_session(self, session: str | None) -> tuple[str, ...]:
        """The sessions around one that is opened here: what a running operation opens stands in the session of that operation."""
        if session is None or session == self.session:
            return self.around
        if self.operation is None or self.session is None:
            return ()
        return tuple(name for name in dict.fromkeys((*self.around, self.session)) if name != session)

    def _with(self, agents: tuple[str, ...], run: RunState | None, call_id: str | None, operation: Call | None) -> Scope:
        return Scope(self.session, self.user, self.roles, self.tenant, self.context, agents, run, call_id, operation, self.around)


ROOT = Scope()
_current: ContextVar[Scope] = ContextVar("otel_runtime_scope", default=ROOT)


def current_scope() -> Scope:
    """The scope of the running code."""
    return _current.get()


def enter_scope(scope: Scope) -> Token[Scope]:
    """Make a scope current; returns the token for `leave_scope`."""
    if collection.thread:
        collection.hold()
    return _current.set(scope)


def leave_scope(token: Token[Scope]) -> None:
    """Make current what was current before."""
    try:
        _current.reset(token)
    except ValueError:
        # A generator was finished in another context than the one it was stepped in; that context never saw our scope.
        return


class _Scoped(ABC):
    """A context manager, sync and async, that makes one scope current. Reusable and reentrant."""

    def __init__(self) -> None:
        self._tokens: list[Token[Scope]] = []

    @abstractmethod
    def _scope(self, outer: Scope) -> Scope: ...

    def __enter__(self) -> Self:
        self._tokens.append(enter_scope(self._scope(current_scope())))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        leave_scope(self._tokens.pop())

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.__exit__(kind, error, trace)


class session(_Scoped):  # noqa: N801  # used as `with rt.session(...)`
    """Say in which session, for whom and with what facts the calls inside are made.

    Args:
        id: Session id; becomes gen_ai.conversation.id.
        user: The acting person. Inherited from the session around when not given.
        roles: The acting person's roles. Inherited when neither user nor roles are given.
        tenant: The tenant. Inherited when not given.
        run: Id of the run, when the application restarts runs under the same id; the session id otherwise. A restarted run finds its
            own open approval requests by it.
        facts: Values that rules read as `context`. Added to those of the session around.

    Raises:
        TypeError: The id is not a non-empty string.
    """

    def __init__(
        self,
        id: str,
        *,
        user: str | None = None,
        roles: Collection[str] | None = None,
        tenant: str | None = None,
        run: str | None = None,
        **facts: object,
    ) -> None:
        super().__init__()
        _check_id("session id", id)
        if isinstance(roles, str):
            raise TypeError(f"expected a collection of role names, got the text `{roles}`; write roles=[`{roles}`]")
        self.id = id
        self._user = user
        self._roles = None if roles is None else frozenset(roles)
        self._tenant = tenant
        self._run = run
        self._facts = facts

    def __enter__(self) -> Self:
        super().__enter__()
        if self._facts:
            from otel_runtime.wrap.witnessing import saw_config  # it stands above the scope

            saw_config(self.id, self._facts)
        return self

    def user_said(self, text: str) -> None:
        """Note the person's own words, which rules with `origin: user` trust; never what a model wrote.

        Args:
            text: What the person typed or said.

        Raises:
            TypeError: It is no text.
        """
        from otel_runtime.wrap.witnessing import saw_words  # it stands above the scope

        if not isinstance(text, str):
            raise TypeError(f"expected the person's words as text, got `{type(text).__name__}`")
        saw_words(self.id, text)

    def declassify(self, label: str, why: str) -> None:
        """Take a label off this session, because what put it there was checked. Recorded in the audit log before it is done.

        A tool that adds the label puts it on again when it starts. Sessions around this one keep theirs.

        Args:
            label: A label the session carries.
            why: Who checked what, in a sentence of at most 1,000 characters.

        Raises:
            ValueError: There is no reason, or the session does not carry the label.
            RuntimeStateError: No policy is configured.
            PolicyUnavailable: A policy should decide and none can.
            StoreError: It could not be recorded or done; the label stays.
        """
        from otel_runtime.wrap.declassifying import declassify  # it stands above the scope
        from otel_runtime.wrap.effects import drive

        refusal = drive(declassify(self.id, label, why, current_scope()))
        if refusal is not None:
            raise refusal

    async def adeclassify(self, label: str, why: str) -> None:
        """`declassify` for asynchronous code: the event loop does not wait for the disk.

        Args:
            label: A label the session carries.
            why: Who checked what, in a sentence of at most 1,000 characters.

        Raises:
            ValueError: There is no reason, or the session does not carry the label.
            RuntimeStateError: No policy is configured.
            PolicyUnavailable: A policy should decide and none can.
            StoreError: It could not be recorded or done; the label stays.
        """
        from otel_runtime.wrap.declassifying import declassify  # it stands above the scope
        from otel_runtime.wrap.effects import drive_async

        refusal = await drive_async(declassify(self.id, label, why, current_scope()))
        if refusal is not None:
            raise refusal

    def _scope(self, outer: Scope) -> Scope:
        # Roles belong to a person: another user never inherits them.
        inherit = self._user is None or self._user == outer.user
        roles = self._roles if self._roles is not None else outer.roles if inherit else None
        return Scope(
            session=self.id,
            user=self._user or outer.user,
            roles=roles,
            tenant=self._tenant or outer.tenant,
            context=MappingProxyType({**outer.context, **self._facts}),
            agents=outer.agents,
            run=outer.run if outer.agents and self._run is None else RunState(self._run or self.id),
            operation=outer.operation,
            around=outer.around_session(self.id),
        )


class call(_Scoped):  # noqa: N801  # used as `with rt.call(id=...)`
    """Give the calls inside the provider's tool-call id.

    Args:
        id: As the provider sent it, such as `call_abc123`.

    Raises:
        TypeError: The id is not a non-empty string.
    """

    def __init__(self, *, id: str) -> None:
        super().__init__()
        _check_id("call id", id)
        self.id = id

    def _scope(self, outer: Scope) -> Scope:
        return outer.for_call(self.id)


def _check_id(what: str, value: object) -> None:
    if not isinstance(value, str) or not value:
        raise TypeError(f"expected a {what} as non-empty text, got `{value!r}`")
