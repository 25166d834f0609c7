from __future__ import annotations

from decimal import Decimal

import pytest

from otel_runtime.policy.addresses import domain_of
from otel_runtime.policy.argtypes import parse_type
from otel_runtime.policy.catalogue import Shape
from otel_runtime.values.action import Parameter, ToolSignature, Unreadable


class TestTypes:
    @pytest.mark.parametrize(
        ("text", "fits", "misfits"),
        [
            ("str", ["", "a"], [1, None, b"a", True, ["a"]]),
            ("int", [0, -5], [True, 1.0, "1", Decimal(1)]),
            ("float", [1.5, 1], [True, "1.5", float("nan"), float("-inf")]),
            ("number", [1, 1.5, Decimal("1.5")], [True, "1", float("inf"), Decimal("NaN"), Decimal("sNaN"), complex(50, 0)]),
            ("bool", [True, False], [0, 1, "true"]),
            ("dict", [{}, {"a": 1}], [[], "a"]),
            ("list", [[], [1, "a"], (1,)], [{}, "ab"]),
            ("list[str]", [[], ["a"]], [["a", 1], "a"]),
            ("list[int|str]", [[1, "a"]], [[1.5]]),
            ("list[list[int]]", [[[1], []]], [[1]]),
            ("str|int", ["a", 1], [1.5, None]),
            ("any", ["a", 1, {}, [1.5]], [float("nan"), Unreadable("float", "nan")]),
        ],
    )
    def test_strict(self, text: str, fits: list[object], misfits: list[object]) -> None:
        """A value fits its declared type exactly; nothing is converted and NaN is no number."""
        check = parse_type(text).check
        assert [True] * len(fits) == [check(value) for value in fits]
        assert [False] * len(misfits) == [check(value) for value in misfits]

    def test_unreadable(self) -> None:
        """What is too large or opaque may be of the type; what was read and refused is not."""
        check = parse_type("str").check
        assert [None, None, False] == [check(Unreadable("str", "cap")), check(Unreadable("X", "opaque")), check(Unreadable("X", "type"))]

    def test_optional(self) -> None:
        """A question mark makes an argument optional."""
        assert (True, False, "list[str]") == (parse_type("list[str]?").optional, parse_type("str").optional, parse_type("list[str]?").text)

    @pytest.mark.parametrize("text", ["string", "", "list[", "list[]", "str|", "dict[str]", "str??", "x" * 300])
    def test_refused(self, text: str) -> None:
        """A type that is not in the grammar is refused."""
        with pytest.raises(ValueError, match="type"):
            parse_type(text)


class TestShape:
    shape = Shape(ToolSignature((Parameter("amount", "number"), Parameter("note", "str", required=False, nullable=True))))

    @pytest.mark.parametrize(
        ("args", "said"),
        [
            ({"amount": 1}, ""),
            ({"amount": 1, "note": None}, ""),
            ({}, "`amount` is missing"),
            ({"Amount": 5, "amount": 1}, "`Amount` is not one it takes"),
            ({"amount": None}, "not null"),
            ({"amount": "1"}, "must be `number`"),
            ({"amount": True}, "must be `number`"),
            ({"amount": 1, "self": Unreadable("Shop", "opaque")}, ""),
            ({"amount": 1, "self": Unreadable("Shop", "type")}, "`self` is not one it takes"),
            ({"amount": Unreadable("builtins.float", "nan")}, "`amount` holds NaN or infinity, which can be neither compared, shown"),
            ({"amount": 1, "note": Unreadable("builtins.list", "cycle")}, "`note` holds itself"),
            ({"amount": 1, "note": Unreadable("builtins.dict", "key")}, "keys are not text"),
        ],
    )
    def test_misfit(self, args: dict[str, object], said: str) -> None:
        """Missing, extra and mistyped arguments are named; a method's receiver is none of them."""
        misfit = self.shape.misfit(args)
        assert (said in misfit, bool(said)) == (True, bool(misfit))

    def test_open(self) -> None:
        """An open signature takes undeclared names."""
        assert Shape(ToolSignature((), open=True)).misfit({"x": 1}) == ""


class TestAddresses:
    @pytest.mark.parametrize("text", ["a@corp.example", "A.b+c@Corp.Example", "x_y@CORP.EXAMPLE"])
    def test_plain(self, text: str) -> None:
        """One plain address gives its domain in lower case."""
        assert domain_of(text) == "corp.example"

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "corp.example",
            "@corp.example",
            "a@",
            "a@corp.example, x@evil.com",
            "Bob <a@corp.example>",
            "x@evil.com@corp.example",
            "x%evil.com@corp.example",
            "evil.com!x@corp.example",
            '"x y"@corp.example',
            "a@corp.example\r\nBcc: y@evil.com",
            "a@corp.example\n",
            "x@corp.example%0aevil",
            "a@corp.example.",
            "a@[127.0.0.1]",
            "a@127.0.0.1",
            "a@cörp.example",
            "a@corp\u200b.example",
            ".a@corp.example",
            "a(comment)@corp.example",
            "a" * 300 + "@corp.example",
        ],
    )
    def test_not_one_plain_address(self, text: str) -> None:
        """Whatever a mail server could read differently has no domain."""
        assert domain_of(text) is None
