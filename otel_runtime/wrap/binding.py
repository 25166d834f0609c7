"""Arguments by name, as the function will see them. The common case costs two dictionary passes; the rest goes to `inspect`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["NO_RECEIVER", "Binder", "has_receiver"]

_PLAIN_DEFAULTS = (type(None), bool, int, float, str, bytes, list, tuple, dict)
# What `Binder.bind` gives in place of a receiver when the function is no method.
NO_RECEIVER: object = object()


def has_receiver(fn: Callable[..., Any], signature: inspect.Signature) -> bool:
    """True when the first parameter is a method's `self` or `cls`."""
    owner = getattr(fn, "__qualname__", "").rpartition(".")[0]
    first = next(iter(signature.parameters), None)
    return first in ("self", "cls") and bool(owner) and not owner.endswith("<locals>")


class Binder:
    """Binds calls of one function.

    Args:
        signature: The function's signature.
        receiver: True when the first parameter is `self` or `cls`; it is bound apart from the arguments.
    """

    __slots__ = (
        "_defaults", "_exact", "_known", "_names", "_places", "_receiver", "_required", "_simple", "_variadic", "keywords", "signature",
    )  # fmt: skip

    def __init__(self, signature: inspect.Signature, *, receiver: bool) -> None:
        parameters = list(signature.parameters.values())
        self.signature: inspect.Signature = signature
        self._receiver = receiver
        self._simple = all(p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY) for p in parameters)
        self._names = tuple(p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD)
        self._places = {p.name: place for place, p in enumerate(parameters) if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)}
        self._known = frozenset(p.name for p in parameters)
        self._required = frozenset(p.name for p in parameters if p.default is p.empty)
        # A default that is not plain data (a sentinel object) says "not given": it never enters a decision.
        self._defaults = {p.name: p.default for p in parameters if isinstance(p.default, _PLAIN_DEFAULTS)}
        # So many positional arguments leave nothing open.
        self._exact = len(parameters) if self._simple and len(self._names) == len(parameters) else -1
        self._variadic = next((p.name for p in parameters if p.kind is p.VAR_POSITIONAL), None)
        self.keywords: str | None = next((p.name for p in parameters if p.kind is p.VAR_KEYWORD), None)

    def bind(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[dict[str, Any], object]:
        """Arguments by name with defaults, and the receiver (`NO_RECEIVER` when there is none).

        Raises:
            TypeError: The arguments do not fit the signature.
        """
        if not self._simple or len(args) > len(self._names):
            return self._bind_slowly(args, kwargs)
        bound = dict(zip(self._names, args, strict=False))
        if len(args) == self._exact and not kwargs:
            return bound, bound.pop(self._names[0]) if self._receiver else NO_RECEIVER
        if kwargs:
            if not self._known.issuperset(kwargs) or not bound.keys().isdisjoint(kwargs):
                return self._bind_slowly(args, kwargs)
            bound.update(kwargs)
        if not self._required <= bound.keys():
            return self._bind_slowly(args, kwargs)
        receiver = bound.pop(self._names[0]) if self._receiver else NO_RECEIVER
        return {**self._defaults, **bound}, receiver

    def value_of(self, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """One argument without binding the rest; its default, or None, when it was not given."""
        place = self._places.get(name, len(args))
        return args[place] if place < len(args) else kwargs.get(name, self._defaults.get(name))

    def unbind(self, bound: Mapping[str, Any], receiver: object) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The other way: positional and keyword arguments that bind to the given ones."""
        args: list[Any] = [] if receiver is NO_RECEIVER else [receiver]
        kwargs = dict(bound)
        skip = 1 if self._receiver else 0
        for parameter in list(self.signature.parameters.values())[skip:]:
            if parameter.kind is parameter.VAR_POSITIONAL:
                args.extend(kwargs.pop(parameter.name, ()))
            elif parameter.kind is parameter.POSITIONAL_ONLY or (
                self._variadic is not None and parameter.kind is parameter.POSITIONAL_OR_KEYWORD
            ):
                if parameter.name not in kwargs:
                    break
                args.append(kwargs.pop(parameter.name))
        return tuple(args), kwargs

    def with_defaults(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Arguments a model named, completed by the defaults; they need not fit the signature, policy says so if they do not."""
        skipped = self._names[:1] if self._receiver else ()
        return {**{name: value for name, value in self._defaults.items() if name not in skipped}, **given}

    def _bind_slowly(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[dict[str, Any], object]:
        found = self.signature.bind(*args, **kwargs).arguments
        receiver = found.pop(next(iter(self.signature.parameters))) if self._receiver else NO_RECEIVER
        extra = found.pop(self.keywords, {}) if self.keywords is not None else {}
        return {**self._defaults, **found, **extra}, receiver
