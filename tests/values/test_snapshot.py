"""Snapshots: plain copies within bounds, whatever the caller passes."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import PurePosixPath
from typing import Any

import pytest
from pydantic import BaseModel

from otel_runtime.values.action import Unreadable
from otel_runtime.values.snapshot import MAX_BYTES, MAX_DEPTH, MAX_NODES, same_data, snapshot_arguments


def take(value: object) -> object:
    """The snapshot of one argument."""
    return snapshot_arguments({"x": value})[0]["x"]


class Colour(enum.Enum):
    """An enumeration of a caller's."""

    RED = "red"


class Level(enum.IntEnum):
    """An enumeration that is an int."""

    HIGH = 3


@dataclass
class Order:
    """A caller's dataclass."""

    id: str
    lines: list[int]


class Customer(BaseModel):
    """A caller's pydantic model."""

    name: str
    tags: list[str] = []


class Text(str):
    """A text that lies about itself."""

    __slots__ = ()

    def __str__(self) -> str:
        return "something else"


class Plain(str):
    """A text of another type that is nothing but its characters."""

    __slots__ = ()


class Number(int):
    """A number that is greater than everything."""

    def __gt__(self, other: object) -> bool:
        return True


class TestPlainData:
    """What is plain stays what it is."""

    @pytest.mark.parametrize(
        "value",
        [
            None,
            True,
            0,
            -5,
            1.5,
            "text",
            "Grüße",
            b"raw",
            Decimal("1.10"),
            datetime(2026, 1, 1, tzinfo=UTC),
            [1, [2]],
            (1, 2),
            {"a": {"b": 1}},
        ],
    )
    def test_is_copied_as_it_is(self, value: object) -> None:
        """A plain value is equal to its snapshot, types included."""
        assert same_data(take(value), value)

    @pytest.mark.parametrize(
        ("value", "expected"),
        [
            (Colour.RED, "red"),
            (Level.HIGH, 3),
            (PurePosixPath("/a/b"), "/a/b"),
            (bytearray(b"x"), b"x"),
            (Order("o1", [1]), {"id": "o1", "lines": [1]}),
            (Customer(name="Ada"), {"name": "Ada", "tags": []}),
            (Plain("honest"), "honest"),
        ],
    )
    def test_objects_become_their_plain_form(self, value: object, expected: object) -> None:
        """Enumerations, paths, dataclasses and models are read as the data they hold."""
        assert same_data(take(value), expected)

    def test_is_a_copy(self) -> None:
        """A change of the original does not reach the snapshot."""
        original: dict[str, Any] = {"lines": [1]}
        copy = take(original)
        original["lines"].append(2)
        assert copy == {"lines": [1]}


class TestDoubt:
    """What cannot be read safely is unreadable, with the reason."""

    @pytest.mark.parametrize(
        ("value", "why"),
        [
            (float("nan"), "nan"),
            (float("inf"), "nan"),
            (Decimal("NaN"), "nan"),
            ("\ud800", "text"),
            (1 << 10_000, "cap"),
            (object(), "type"),
            (Text("/data/report.txt"), "type"),
            (Number(5), "type"),
            ({1: "x"}, "key"),
            ({1, 2}, "type"),
            ("x" * (MAX_BYTES + 1), "cap"),
            (list(range(MAX_NODES + 1)), "cap"),
        ],
    )
    def test_is_named(self, value: object, why: str) -> None:
        """The kind of doubt is kept, so that a refusal can say it."""
        found = take(value)
        assert isinstance(found, Unreadable)
        assert found.why == why

    def test_cycles_end(self) -> None:
        """A list that holds itself is seen, not followed."""
        cycle: list[object] = []
        cycle.append(cycle)
        assert take(cycle) == [Unreadable("builtins.list", "cycle")]

    def test_depth_is_bounded(self) -> None:
        """A value deeper than the cap is unreadable as a whole."""
        deep: object = 1
        for _ in range(MAX_DEPTH + 1):
            deep = [deep]
        assert take(deep) == Unreadable("builtins.list", "cap")

    def test_ten_thousand_levels_do_not_overflow(self) -> None:
        """A list nested far beyond the recursion limit is unreadable, not a crash."""
        deep: object = 1
        for _ in range(10_000):
            deep = [deep]
        assert take(deep) == Unreadable("builtins.list", "cap")

    def test_iterators_are_not_consumed(self) -> None:
        """A generator argument keeps its items."""
        items = (number for number in (1, 2))
        assert isinstance(take(items), Unreadable)
        assert list(items) == [1, 2]

    def test_a_property_that_raises_is_contained(self) -> None:
        """A failing read makes the value unreadable and nothing else."""

        @dataclass
        class Hostile:
            a: int = 1

            def __getattribute__(self, name: str) -> Any:
                raise RuntimeError("no")

        assert take(Hostile()) == Unreadable(f"{__name__}.{Hostile.__qualname__}", "type")

    @pytest.mark.parametrize("inside", [False, True])
    def test_a_hostile_metaclass(self, inside: bool) -> None:
        """A class that can be neither hashed, compared nor asked for its name is opaque like any other object."""

        class Meta(type):
            def __hash__(cls) -> int:
                raise RuntimeError("hash")

            def __eq__(cls, other: object) -> bool:
                raise RuntimeError("eq")

            def __getattribute__(cls, name: str) -> Any:
                if name in ("__module__", "__qualname__", "__name__"):
                    raise RuntimeError(name)
                return super().__getattribute__(name)

        class Odd(metaclass=Meta):
            pass

        found = Unreadable(f"{__name__}.TestDoubt.test_a_hostile_metaclass.<locals>.Odd", "type")
        assert take([Odd()] if inside else Odd()) == ([found] if inside else found)

    def test_a_class_with_another_module(self) -> None:
        """What a class body put where its module's name belongs is never asked for a text."""

        class Loud:
            def __str__(self) -> str:
                raise RuntimeError("str")

            __repr__ = __format__ = __str__  # type: ignore[assignment]  # that is the point

        odd = type("Odd", (), {"__module__": Loud()})()
        assert take(odd) == Unreadable("Odd", "type")

    def test_containers_are_read_as_what_they_are(self) -> None:
        """A list or dict subclass cannot show other items to the decision than it holds."""

        class Hiding(list[int]):
            def __iter__(self) -> Any:
                return iter([0])

        class Posing(dict[str, int]):
            def items(self) -> Any:
                return {"a": 0}.items()

        assert (take(Hiding([5])), take(Posing(a=5))) == ([5], {"a": 5})

    def test_opaque_parameters_enter_by_type_only(self) -> None:
        """An opaque argument is not even looked at."""
        copy, _ = snapshot_arguments({"db": {"password": "x"}}, frozenset({"db"}))
        assert copy == {"db": Unreadable("builtins.dict", "opaque")}

    def test_one_argument_over_the_cap_leaves_the_earlier_ones(self) -> None:
        """The budget is shared, and what came before stays readable."""
        copy, _ = snapshot_arguments({"a": 1, "b": "x" * (MAX_BYTES + 1)})
        assert copy == {"a": 1, "b": Unreadable("builtins.str", "cap")}


class TestFixed:
    """Whether the arguments could change behind the snapshot's back."""

    def test_scalars_cannot(self) -> None:
        """Immutable scalars need no second look."""
        assert snapshot_arguments({"a": 1, "b": "x", "c": None})[1] is True

    @pytest.mark.parametrize("value", [[1], {"a": 1}, (1,), Plain("x")])
    def test_everything_else_could(self, value: object) -> None:
        """Containers and subclasses are taken again."""
        assert snapshot_arguments({"a": value})[1] is False


class TestSameData:
    """Equality with types."""

    @pytest.mark.parametrize(("left", "right"), [(1, True), (1, 1.0), ([1], (1,)), ({"a": 1}, {"a": True}), ("1", 1), ([1], [1, 1])])
    def test_tells_types_apart(self, left: object, right: object) -> None:
        """Values that Python calls equal and a reader does not are different."""
        assert not same_data(left, right)
