"""The typed canonical form: equal for the same call, different for every other."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import combinations
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_runtime.values.action import Action, Parameter, ToolSignature, Unreadable
from otel_runtime.values.digest import Undigestible, call_digest, canonical_bytes, digest_of
from otel_runtime.values.snapshot import same_data

DIFFERENT: list[Any] = [
    None, True, False, 1, 0, 1.0, 0.0, -0.0, "1", "", b"1", Decimal(1), Decimal("1.0"), [], [None], (), {}, {"1": 1}, [1], (1,), "n", "t",
    [[1], 2], [1, [2]], [[1, 2]], {"a": {"b": 1}}, {"a": 1, "b": 1}, {"ab": 1}, date(2026, 1, 1), datetime(2026, 1, 1, tzinfo=UTC),
    datetime(2026, 1, 1),  # noqa: DTZ001  # naive on purpose
    timedelta(1), UUID(int=1), Unreadable("x.Y", "opaque"), Unreadable("x.Z", "opaque"),
]  # fmt: skip
plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8"))
    | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=5), inner, max_size=4),
    max_leaves=12,
)
ACTION = Action(
    "tool", "refund", {"order": "o1", "amount": 5}, ToolSignature((Parameter("order", "str"), Parameter("amount", "int"))), user="carla"
)


class TestCanonicalForm:
    """No two different values share a form."""

    def test_every_pair_differs(self) -> None:
        """Values that look alike have different forms."""
        forms = [canonical_bytes(value) for value in DIFFERENT]
        same = [(DIFFERENT[a], DIFFERENT[b]) for a, b in combinations(range(len(forms)), 2) if forms[a] == forms[b]]
        assert same == []

    @given(plain, plain)
    def test_equal_forms_mean_equal_data(self, left: object, right: object) -> None:
        """Two values have one form exactly when they are the same data."""
        assert (canonical_bytes(left) == canonical_bytes(right)) == (
            (same_data(left, right) and repr(left) == repr(right)) or _same_but_order(left, right)
        )

    def test_key_order_does_not_matter(self) -> None:
        """A mapping is its keys and values."""
        assert canonical_bytes({"a": 1, "b": 2}) == canonical_bytes({"b": 2, "a": 1})

    @pytest.mark.parametrize("value", [float("nan"), float("inf"), {1: 2}, {"x": object()}, "\ud800", Unreadable("x", "cycle"), {1, 2}])
    def test_doubt_is_refused(self, value: object) -> None:
        """What has no form raises and says where it stands."""
        with pytest.raises(Undigestible, match=r"`args`|`args\.x`"):
            canonical_bytes(value, "args")


def _same_but_order(left: object, right: object) -> bool:
    return same_data(left, right) and "-0.0" not in repr((left, right))


class TestCallDigest:
    """What a call's digest depends on."""

    def test_is_stable(self) -> None:
        """The digest of a call never changes between releases of the same form."""
        assert call_digest(ACTION) == call_digest(replace(ACTION, args={name: ACTION.args[name] for name in reversed(list(ACTION.args))}))
        assert len(call_digest(ACTION)) == 64

    @pytest.mark.parametrize(
        "other",
        [
            replace(ACTION, args={"order": "o1", "amount": 5.0}),
            replace(ACTION, args={"order": "o1", "amount": True}),
            replace(ACTION, args={"order": "o1"}),
            replace(ACTION, args={"order": "o1", "amount": None}),
            replace(ACTION, name="refund2"),
            replace(ACTION, kind="capability"),
            replace(ACTION, user="bob"),
            replace(ACTION, agents=("helper",)),
            replace(ACTION, receiver="shop.Shop"),
            replace(ACTION, signature=ToolSignature((Parameter("order", "str"), Parameter("amount", "int")), description="new")),
        ],
    )
    def test_covers_tool_definition_arguments_and_requester(self, other: Action) -> None:
        """Another tool, definition, argument or requester is another call."""
        assert call_digest(other) != call_digest(ACTION)

    @pytest.mark.parametrize(
        "other",
        [replace(ACTION, session="s"), replace(ACTION, call_id="c"), replace(ACTION, run="r"), replace(ACTION, roles=frozenset("x"))],
    )
    def test_does_not_cover_where_it_was_made(self, other: Action) -> None:
        """The same call of a restarted run has the same digest."""
        assert call_digest(other) == call_digest(ACTION)

    def test_domains_never_meet(self) -> None:
        """Digests of different things differ even for equal content."""
        assert digest_of("a", 1) != digest_of("b", 1)
