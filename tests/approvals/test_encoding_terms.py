"""The pure parts: stored text, and whose vote counts for what."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_runtime.approvals.encoding import CannotEncode, decode, encode
from otel_runtime.approvals.terms import entitled_rules, plain_name, requirement_digest
from otel_runtime.values.action import Unreadable
from otel_runtime.values.decision import ApprovalTerms, Requirement

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(categories=None))
    | st.binary()
    | st.decimals(allow_nan=False, allow_infinity=False)
    | st.datetimes(timezones=st.none() | st.just(timezone(timedelta(hours=2))))
    | st.dates()
    | st.times()
    | st.timedeltas()
    | st.uuids()
    | st.builds(Unreadable, st.text(), st.sampled_from(["opaque", "cap"]))
)
NAMES = st.text() | st.sampled_from(["$tuple", "$dict", "$", "$int"])
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner) | st.lists(inner).map(tuple) | st.dictionaries(NAMES, inner, max_size=3), max_leaves=10
)


def typed(value: Any) -> Any:
    """A value with every type spelled out, because 1 == True in Python."""
    if isinstance(value, list | tuple):
        return [type(value).__name__, [typed(item) for item in value]]
    if isinstance(value, dict):
        return {key: typed(item) for key, item in value.items()}
    return (type(value).__name__, repr(value))


class TestEncoding:
    @given(VALUES)
    def test_there_and_back(self, value: Any) -> None:
        """Every value comes back with the same types and in the same order."""
        text = encode(value)
        assert text.isascii()
        assert typed(value) == typed(decode(text))

    def test_long_integers(self) -> None:
        """An integer longer than Python reads as decimal text comes back."""
        assert -(10**6000) == decode(encode(-(10**6000)))

    @pytest.mark.parametrize(
        "value", [math.nan, math.inf, Decimal("NaN"), Decimal("-Infinity"), object(), {1: 2}, {"a": {b"k": 1}}, {1, 2}, 1j]
    )
    def test_what_has_no_exact_form(self, value: object) -> None:
        """Numbers that are not finite, other types and other keys are refused."""
        with pytest.raises(CannotEncode):
            encode(value)

    def test_subclasses(self) -> None:
        """A subclass would come back as its base, so it is refused."""

        class Name(str):
            __slots__ = ()

        with pytest.raises(CannotEncode, match="Name"):
            encode(Name("x"))

    def test_cycles(self) -> None:
        """A value that contains itself is refused with a sentence, not a crash."""
        loop: list[object] = []
        loop.append(loop)
        with pytest.raises(CannotEncode, match="contains itself"):
            encode(loop)

    @pytest.mark.parametrize("text", ["", "{", '{"$pickle":"x"}', '{"$decimal":"x"}', '{"$bytes":"*"}', '{"$tuple":5}', "[" * 100_000])
    def test_foreign_text(self, text: str) -> None:
        """Text that we did not write is refused, whatever it is."""
        with pytest.raises(CannotEncode):
            decode(text)

    def test_the_types(self) -> None:
        """One of each, by hand, as a guard for the generator above."""
        values = [
            date(2026, 1, 2),
            time(1, 2),
            timedelta(days=-1, microseconds=1),
            datetime(2026, 1, 1, tzinfo=UTC),
            UUID(int=5),
            frozenset({"a", "b"}),
        ]
        assert values == decode(encode(values))


class TestRequirementDigest:
    BASE = ApprovalTerms(
        (Requirement("a", ("role:x", "user:y"), 1, "why"), Requirement("b", ("anyone",), 2)), 60, None, frozenset({"s", "t"})
    )

    def test_words_and_order_do_not_matter(self) -> None:
        """A reworded reason, another order or a repeated approver ask the same."""
        same = ApprovalTerms(
            (Requirement("b", ("anyone",), 2, "words"), Requirement("a", ("user:y", "role:x", "role:x"), 1)),
            60.0,
            None,
            frozenset({"t", "s"}),
        )
        assert requirement_digest(self.BASE) == requirement_digest(same)

    @pytest.mark.parametrize(
        "other",
        [
            ApprovalTerms((*BASE.requirements[:1],), 60, None, BASE.edit),
            ApprovalTerms((Requirement("a", ("role:x", "user:y"), 2), BASE.requirements[1]), 60, None, BASE.edit),
            ApprovalTerms((Requirement("a", ("role:x",), 1), BASE.requirements[1]), 60, None, BASE.edit),
            ApprovalTerms(BASE.requirements, 61, None, BASE.edit),
            ApprovalTerms(BASE.requirements, 60, 60, BASE.edit),
            ApprovalTerms(BASE.requirements, 60, None, frozenset({"s"})),
        ],
    )
    def test_what_is_asked_matters(self, other: ApprovalTerms) -> None:
        """Other approvers, quorum, times or editable fields are other terms."""
        assert requirement_digest(self.BASE) != requirement_digest(other)


class TestEntitled:
    def test_plain_names(self) -> None:
        """The surface in front of a name is taken off once."""
        assert ["alice", "alice", "", "a:b"] == [plain_name(identity) for identity in ("os:alice", "alice", "os:", "oidc:a:b")]

    @pytest.mark.parametrize(
        ("approvers", "expected"),
        [
            (("role:lead",), True),
            (("role:Lead",), False),
            (("role:",), False),
            (("user:bob",), True),
            (("user:bo",), False),
            (("anyone",), True),
            (("acting-user",), False),
            (("bob",), False),
            ((), False),
        ],
    )
    def test_entries(self, approvers: tuple[str, ...], expected: bool) -> None:
        """Each entry means exactly what it says; an unknown one means nobody."""
        terms = ApprovalTerms((Requirement("r", approvers),), 60)
        assert (("r",) if expected else ()) == entitled_rules(terms, "os:bob", "carla", {"bob": frozenset({"lead"})})
