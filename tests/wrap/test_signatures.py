"""What a function declares of its arguments: nothing its own annotations and defaults take is refused as mistyped."""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import enum
import inspect
import types
import typing
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, NewType, Optional, TypedDict, TypeVar, Union
from uuid import UUID

import pydantic
import pytest

from otel_runtime.policy.catalogue import Shape
from otel_runtime.values.snapshot import snapshot_arguments
from otel_runtime.wrap.signatures import tool_signature


class Colour(enum.Enum):
    RED = "red"


class Level(enum.StrEnum):
    HIGH = "high"


class Size(enum.IntEnum):
    SMALL = 1


class Order(pydantic.BaseModel):
    id: int = 1
    inner: Order | None = None


@dataclasses.dataclass
class Point:
    x: int = 1


class Row(TypedDict):
    a: int


class Pair(NamedTuple):
    a: int = 1
    b: str = ""


UserId = NewType("UserId", int)
Words = TypeVar("Words", bound=str)

LEVEL: Any = str
for _ in range(40):
    LEVEL = types.GenericAlias(list, (LEVEL | int,))

FITTING: list[tuple[Any, Any]] = [
    # No catalogue has so long a type.
    (LEVEL, [1, [2]]),
    (typing.List, [1, None, "a"]),  # noqa: UP006  # as older programs write it
    (typing.Dict, {"a": 1}),  # noqa: UP006
    (typing.Tuple, (1, 2)),  # noqa: UP006
    (list, (1, 2)),
    (list[int], (1, 2)),
    (list[float], [1, 2.5]),
    (list[str | None], ["a", None]),
    (list[Optional[int]], [None, 1]),  # noqa: UP045
    (list[list[int | None]], [[None]]),
    (list[str | None] | None, None),
    (list[Annotated[int | None, "at most 5"]], [None]),
    (list[Literal["a", "b"]], ["a"]),
    (list[Literal["a"] | None], [None]),
    (list[Any], [1, None]),
    (list[Order], [Order(), {"id": 1}]),
    (list[Row], [{"a": 1}]),
    (tuple[int, str], [1, "a"]),
    (tuple[int, ...], (1, 2)),
    (set[str], {"a"}),
    (dict, OrderedDict(a=1)),
    (dict[str, list[int] | None], {"a": None}),
    (Mapping[str, int], {"a": 1}),
    (Sequence[str], ("a",)),
    (Iterable[int], range(3)),
    (Callable[[int], int], abs),
    (float, 1),
    (float, decimal.Decimal("1.5")),
    (decimal.Decimal, 1.5),
    (complex, 1j),
    (int, Size.SMALL),
    (int, 2**70),
    (str, Level.HIGH),
    (str, Path("a")),
    (Path, "a"),
    (bytes, bytearray(b"x")),
    (Colour, Colour.RED),
    (Colour, "red"),
    (Literal["a", 1, None], None),  # noqa: PYI061
    (Literal[Colour.RED], Colour.RED),
    (int | None, None),
    (Union[list[str], str], "a"),  # noqa: UP007
    (Union[list[int], dict[str, Any], None], {"a": 1}),  # noqa: UP007
    (Annotated[str | None, pydantic.Field(description="x")], None),
    (Order, Order(inner=Order())),
    (Order, {"id": 1}),
    (Order | str, "x"),
    (Point, Point()),
    (Row, {"a": 1}),
    (Pair, Pair()),
    (UserId, 1),
    (Words, "x"),
    (object, None),
    (dt.datetime, dt.datetime.now(dt.UTC)),
    (dt.date, "2026-01-01"),
    (UUID, UUID(int=1)),
    (pydantic.SecretStr, pydantic.SecretStr("x")),
    ("Undefined", 1),
    (types.GenericAlias(tuple, ([],)), ()),
    ([int], 1),
]
# Defaults their authors annotated otherwise.
ODD_DEFAULTS: list[tuple[Any, Any]] = [
    (int, "any"),
    (bool, "false"),
    (str, 0),
    (str, False),
    (str, None),
    (list[str], ""),
    (list[int], ["all"]),
    (dict, []),
    (dict[str, int], ()),
    (str, b""),
    (int, 1.5),
    (Literal["a"], 0),
    (str | None, 0),
    (float, True),
]


def misfit(hint: Any, default: Any, **given: Any) -> str:
    """What is wrong with a call of a function whose parameter `x` is annotated and has a default (`...`: none)."""

    def find(x: Any = default) -> None: ...

    find.__annotations__ = {"x": hint}
    signature = inspect.signature(find)
    if default is ...:
        signature = signature.replace(parameters=[signature.parameters["x"].replace(default=inspect.Parameter.empty)])
    arguments = given if given or default is ... else {"x": default}
    return Shape(tool_signature(find, signature, skip_first=False)).misfit(snapshot_arguments(arguments)[0])


class TestToolSignature:
    @pytest.mark.parametrize(("hint", "value"), FITTING, ids=lambda one: repr(one)[:40])
    def test_takes_what_is_annotated(self, hint: Any, value: Any) -> None:
        """A value that its annotation describes fits, given and as a default."""
        assert ("", "") == (misfit(hint, ..., x=value), misfit(hint, value))

    @pytest.mark.parametrize(("hint", "default"), ODD_DEFAULTS, ids=lambda one: repr(one)[:40])
    def test_takes_its_own_default(self, hint: Any, default: Any) -> None:
        """A call that leaves an argument out is not refused for the default its author chose, and one that gives it spelled out neither."""
        assert ("", "") == (misfit(hint, default), misfit(hint, default, x=default))

    def test_other_kinds_stay_refused(self) -> None:
        """A default of another kind opens the parameter to that kind and to no third one."""
        assert ["", "", "argument `x` must be `int|str`"] == [misfit(int, "any", x=value) for value in (2000, "2000", [2000])]

    @pytest.mark.parametrize(
        ("hint", "value"), [(int, "1"), (int, True), (bool, 1), (list[int], ["1"]), (list[int], [None]), (str, None), (dict, [])]
    )
    def test_refuses_other_types(self, hint: Any, value: Any) -> None:
        """What the annotation does not describe is refused."""
        assert "argument `x` must be" in misfit(hint, ..., x=value)
