"""Makes frozen values as fast as others: the constructor of a frozen dataclass pays a call for every field it sets.

A value is made as an object of a twin class with the same slots, which is not frozen, and turned into what it is once all fields are set.
Nobody but the constructor ever sees the twin.
"""

from __future__ import annotations

import dataclasses
from typing import Any, TypeVar

__all__ = ["quickly_made"]

T = TypeVar("T")
_INIT = """
def __init__(self, {parameters}):
    if type(self) is not _own:
        return _slowly(self, {arguments})
    _turn(self, "__class__", _twin)
{fields}
    self.__class__ = _own
"""


def quickly_made(cls: type[T]) -> type[T]:
    """Give a frozen dataclass with slots, of plain fields and no base, a constructor that sets them at once; signature and meaning stay.

    Raises:
        TypeError: It is no such class.
    """
    fields = dataclasses.fields(cls)  # type: ignore[arg-type]  # raises TypeError for anything else
    names = [field.name for field in fields]
    if cls.__mro__ != (cls, object) or list(vars(cls).get("__slots__", [None])) != names or hasattr(cls, "__post_init__"):
        raise TypeError(f"`{cls.__name__}`: expected a dataclass with slots=True, without base class and __post_init__")
    known: dict[str, Any] = {"_own": cls, "_twin": type(cls.__name__, (), {"__slots__": names}), "_turn": object.__setattr__}
    slowly: Any = cls.__init__
    known["_slowly"] = slowly
    # What the dataclass put there: for a field that is made anew each time, a mark.
    defaults = dict(zip(reversed(names), reversed(slowly.__defaults__ or ()), strict=False))
    known.update({f"_default_{name}": default for name, default in defaults.items()})
    values: dict[str, str] = {name: name for name in names}
    for field in fields:
        if field.default_factory is not dataclasses.MISSING:
            known[f"_make_{field.name}"] = field.default_factory
            values[field.name] = f"_make_{field.name}() if {field.name} is _default_{field.name} else {field.name}"
    text = _INIT.format(
        parameters=", ".join(f"{name}=_default_{name}" if name in defaults else name for name in names),
        arguments=", ".join(names),
        fields="\n".join(f"    self.{name} = {value}" for name, value in values.items()),
    )
    exec(text, known)  # noqa: S102  # as the dataclass made the one that this replaces: of its field names, nothing else
    made = known["__init__"]
    made.__qualname__, made.__module__, made.__annotations__ = f"{cls.__qualname__}.__init__", cls.__module__, slowly.__annotations__
    replaced: Any = cls
    replaced.__init__ = made
    return cls
