"""What one call is: its plan, its arguments, who makes it. Everything a decision and an approval read comes from here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from otel_runtime.values.action import Action, ToolSignature
from otel_runtime.values.snapshot import same_data, snapshot_arguments, type_name
from otel_runtime.wrap.active import Active
from otel_runtime.wrap.binding import NO_RECEIVER
from otel_runtime.wrap.plan import CallPlan
from otel_runtime.wrap.scope import RunState, Scope

__all__ = ["Invocation"]


class Invocation:
    """One call as data; `Call` makes it and says what its arguments are."""

    __slots__ = ("_fixed", "_receiver", "active", "args", "bound", "kwargs", "plan", "registered", "scope")

    _fixed: bool
    _receiver: object
    active: Active
    args: tuple[Any, ...]
    bound: dict[str, Any] | None
    kwargs: dict[str, Any]
    plan: CallPlan
    registered: bool
    scope: Scope

    @property
    def name(self) -> str:
        """Registered name; for a model the requested model."""
        return self.plan.name if self.plan.kind != "model" else self.requested_model() or self.plan.name

    @property
    def signature(self) -> ToolSignature | None:
        """Declared parameters of tools; other kinds declare none that a catalogue checks."""
        return self.plan.signature if self.plan.kind == "tool" else None

    def arguments(self) -> dict[str, Any]:
        """The caller's own objects by name, without `self`.

        Raises:
            TypeError: They do not fit the signature.
        """
        if self.bound is None:
            if self.plan.binder is None:
                self.bound = {}
            else:
                self.bound, self._receiver = self.plan.binder.bind(self.args, self.kwargs)
        return self.bound

    def action(self) -> Action:
        """A snapshot of the call for deciding.

        Raises:
            TypeError: The arguments do not fit the signature.
        """
        plan, scope = self.plan, self.scope
        arguments = self.arguments() if self.bound is None else self.bound
        args, self._fixed = snapshot_arguments(arguments, plan.options.opaque)
        return Action(
            plan.kind,
            self.name,
            args,
            plan.signature if plan.kind == "tool" else None,
            self.registered,
            plan.options.tags,
            (*scope.agents, plan.name) if plan.kind == "agent" else scope.agents,
            scope.session,
            scope.user,
            scope.roles,
            scope.tenant,
            scope.context,
            scope.run.id if scope.run is not None else None,
            scope.call_id,
            None if self._receiver is NO_RECEIVER else self._receiver_name(),
            scope.around,
        )

    def changed(self, decided: Action) -> bool:
        """True when the arguments are no longer those of the snapshot that was decided."""
        return not self._fixed and not same_data(dict(self.action().args), dict(decided.args))

    def replace_arguments(self, edited: Mapping[str, object]) -> None:
        """Take over what an approver changed; the function gets the new values."""
        self.bound = {**self.arguments(), **edited}
        if self.plan.binder is not None:
            self.args, self.kwargs = self.plan.binder.unbind(self.bound, self._receiver)

    def requested_model(self) -> str | None:
        """The model that was asked for; None when it is not known."""
        options = self.plan.options
        if options.model is not None or self.plan.kind != "model":
            return options.model
        if self.bound is not None:
            return _text(self.bound.get(options.model_from))
        # Not bound for this: a call that nothing guards and nobody records binds nothing.
        binder = self.plan.binder
        return None if binder is None else _text(binder.value_of(options.model_from, self.args, self.kwargs))

    def _adopt_names(self) -> None:
        """Session and user that the decorator takes from arguments."""
        options, outer = self.plan.options, self.scope
        try:
            bound = self.arguments()
        except TypeError:
            return  # the call itself will say what is wrong with it
        session = _text(bound.get(options.session)) if options.session else None
        user = _text(bound.get(options.user)) if options.user else None
        self.scope = Scope(
            session or outer.session,
            user or outer.user,
            outer.roles if user in (None, outer.user) else None,
            outer.tenant,
            outer.context,
            outer.agents,
            outer.run or (RunState(session) if session else None),
            outer.call_id,
            outer.operation,
            outer.around_session(session),
        )

    def _receiver_name(self) -> str:
        receiver = self._receiver
        return f"{receiver.__module__}.{receiver.__qualname__}" if isinstance(receiver, type) else type_name(receiver)


def _text(value: object) -> str | None:
    # Asked of its type, and read as `str` reads it: the application's own object may answer anything, also by raising.
    return (str.__str__(value) or None) if issubclass(type(value), str) else None
