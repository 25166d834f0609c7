"""Values with the fast constructor are the frozen dataclasses they were."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import pickle
from dataclasses import FrozenInstanceError, dataclass, field
from decimal import Decimal

import pytest

from otel_runtime.values.action import Action
from otel_runtime.values.making import quickly_made
from otel_runtime.values.usage import Cost, ResponseFacts, RunRef, TokenUsage, UsageRecord


@dataclass(frozen=True, slots=True)
class Slow:
    """As the standard library makes it."""

    a: int
    b: str = "x"
    c: list[int] = field(default_factory=list)


@quickly_made
@dataclass(frozen=True, slots=True)
class Quick:
    """The same."""

    a: int
    b: str = "x"
    c: list[int] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Below(Quick):
    """One that adds a field."""

    d: int = 4


class TestQuicklyMade:
    def test_like_the_standard_library(self) -> None:
        """Signature, defaults, equality, hash, text, replacement and copies are those of the plain dataclass."""
        assert str(inspect.signature(Slow)) == str(inspect.signature(Quick))
        for given in ((1,), (1, "y"), (1, "y", [2])):
            slow, quick = Slow(*given), Quick(*given)
            assert dataclasses.astuple(slow) == dataclasses.astuple(quick)
            assert repr(slow).replace("Slow", "Quick") == repr(quick)
            assert quick == Quick(*given) == copy.deepcopy(quick) == pickle.loads(pickle.dumps(quick))
            assert Quick is type(quick)
        assert Quick(7, c=[1]) == dataclasses.replace(Quick(1, c=[1]), a=7)
        assert hash(RunRef("r")) == hash(RunRef("r"))

    def test_made_anew(self) -> None:
        """A list by default belongs to one value only."""
        assert Quick(1).c is not Quick(1).c

    def test_frozen(self) -> None:
        """It cannot be changed, and takes no other field."""
        made = Quick(1)
        for name in ("a", "new"):
            with pytest.raises((FrozenInstanceError, TypeError, AttributeError)):
                setattr(made, name, 2)
        assert 1 == made.a

    @pytest.mark.parametrize(("given", "named"), [((), {}), ((1, "x", [], 4), {}), ((1,), {"a": 2}), ((1,), {"z": 2})])
    def test_wrong_arguments(self, given: tuple[object, ...], named: dict[str, object]) -> None:
        """Wrong arguments are refused in the words of the class."""
        with pytest.raises(TypeError, match=r"Quick.__init__\(\)"):
            Quick(*given, **named)  # type: ignore[arg-type]  # that is the point

    def test_a_class_below(self) -> None:
        """A class that inherits it is made as ever."""
        assert (1, "x", [], 4) == dataclasses.astuple(Below(1))

    @pytest.mark.parametrize("wrong", [Below, dataclass(frozen=True)(type("Loose", (), {})), int])
    def test_other_classes(self, wrong: type) -> None:
        """A class for which it would not work is refused."""
        with pytest.raises(TypeError):
            quickly_made(wrong)

    @pytest.mark.parametrize("value", [Action("tool", "a"), TokenUsage(), UsageRecord(), Cost(Decimal(1)), ResponseFacts(), RunRef()])
    def test_ours(self, value: object) -> None:
        """The values that calls are made of stay frozen, slotted and of their own class."""
        assert (False, True) == (hasattr(value, "__dict__"), dataclasses.is_dataclass(value))
        with pytest.raises(FrozenInstanceError):
            setattr(value, dataclasses.fields(value)[0].name, None)  # type: ignore[arg-type]  # a dataclass, as was just seen
