from __future__ import annotations

from decimal import Decimal

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, ValidationError

from otel_runtime.errors import ConfigError, Fault
from otel_runtime.settings import documents
from otel_runtime.settings.documents import MAX_BYTES, read_document
from otel_runtime.settings.faults import did_you_mean, validation_faults


def refusal(text: str | bytes) -> Fault:
    with pytest.raises(ConfigError) as caught:
        read_document(text, "file.yaml")
    (fault,) = caught.value.faults
    return fault


def is_plain(data: object) -> bool:
    if isinstance(data, dict):
        return all(isinstance(key, str) and is_plain(value) for key, value in data.items())
    if isinstance(data, list):
        return all(is_plain(item) for item in data)
    return data is None or isinstance(data, str | bool | int | float | Decimal)


class TestPlainData:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("a: 1", {"a": 1}),
            ("a: -0.5", {"a": -0.5}),
            ("a: 20.00", {"a": 20.0}),
            ("a: 0.1234567890123456789", {"a": Decimal("0.1234567890123456789")}),
            ("a: 1e5", {"a": 1e5}),
            ("a: true\nb: false\nc: null\nd: ~\ne:", {"a": True, "b": False, "c": None, "d": None, "e": None}),
            ("a: 30m", {"a": "30m"}),
            ("a: [x, 'y', \"z\"]", {"a": ["x", "y", "z"]}),
            ("a: |\n  one\n  two\n", {"a": "one\ntwo\n"}),
            ("'yes': \"no\"", {"yes": "no"}),
            ("a: '2026-11-20'", {"a": "2026-11-20"}),
            ('{"a": [1, 2.5, true, null, "x"]}', {"a": [1, 2.5, True, None, "x"]}),
            ("---\na: 1\n", {"a": 1}),
            ("a: mcp:server:tool", {"a": "mcp:server:tool"}),
            ("a: -", None),
            ("", None),
            ("# only a comment\n", None),
        ],
    )
    def test_reads_plain_values(self, text: str, expected: object) -> None:
        """Text, numbers, booleans, null, lists and mappings come out as plain Python data."""
        if text == "a: -":
            assert refusal(text).code == "Y001"
            return
        assert expected == read_document(text, "f").plain()

    def test_pure_parser_reads_the_same(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Without libyaml the pure parser gives the same data and positions."""
        text = "a:\n  - b: 1\n    c: [x, 'y']\n"
        fast = read_document(text, "f")
        monkeypatch.setattr(documents, "_LOADER", yaml.SafeLoader)
        slow = read_document(text, "f")
        assert (fast.plain(), fast.locate(("a", 0, "c", 1))) == (slow.plain(), slow.locate(("a", 0, "c", 1)))


class TestRefusals:
    @pytest.mark.parametrize(
        ("text", "code", "line", "column"),
        [
            ("a: 1\na: 2", "Y003", 2, 1),
            ("a: &x 1", "Y004", 1, 4),
            ("a: 1\nb: *x", "Y004", 2, 4),
            ("<<: {a: 1}", "Y004", 1, 1),
            ("a: !!str 1", "Y005", 1, 4),
            ("!!python/object/apply:os.system ['id']", "Y005", 1, 1),
            ("%YAML 1.1\n---\na: 1", "Y006", 1, 1),
            ("a: 1\n---\nb: 2", "Y007", 2, 1),
            ("a: no", "Y008", 1, 4),
            ("a: On", "Y008", 1, 4),
            ("a: TRUE", "Y008", 1, 4),
            ("a: 010", "Y008", 1, 4),
            ("a: 0x1F", "Y008", 1, 4),
            ("a: 0o17", "Y008", 1, 4),
            ("a: 1_000", "Y008", 1, 4),
            ("a: 1:30", "Y008", 1, 4),
            ("a: .inf", "Y008", 1, 4),
            ("a: -.INF", "Y008", 1, 4),
            ("a: .nan", "Y008", 1, 4),
            ("a: .5", "Y008", 1, 4),
            ("a: +5", "Y008", 1, 4),
            ("a: 2026-11-20", "Y008", 1, 4),
            ("a: 2026-11-20T10:00:00Z", "Y008", 1, 4),
            ("yes: 1", "Y008", 1, 1),
            ("1: x", "Y009", 1, 1),
            ("? [a]\n: 1", "Y009", 1, 3),
            ("a: [1", "Y001", 1, 6),
            ("a: 1\n\tb: 2", "Y001", 2, 1),
            ("a: " + "9" * 50, "Y008", 1, 4),
        ],
    )
    def test_names_the_place(self, text: str, code: str, line: int, column: int) -> None:
        """What readers of YAML understand differently is refused at its line and column."""
        fault = refusal(text)
        assert (code, line, column) == (fault.code, fault.line, fault.column)

    @pytest.mark.parametrize(
        ("data", "line"),
        [
            (b"\xef\xbb\xbfa: 1", 1),
            (b"\xff\xfea\x00", 1),
            (b"a: 1\nb: \xff", 2),
            (b"a: 1\nb: \x1b[2J", 2),
            ("a: \u202etxt".encode(), 1),
            ("a: 1\nb: x\u2028y".encode(), 2),
            (b"a: \xed\xa0\x80", 1),
        ],
    )
    def test_encoding(self, data: bytes, line: int) -> None:
        """Marks, foreign encodings and control characters are refused, and never reach the terminal."""
        fault = refusal(data)
        assert ("Y002", line) == (fault.code, fault.line)
        assert str(fault).replace("\n", "").isprintable()

    def test_hint_says_how_to_write_it(self) -> None:
        """A refused word comes with the spelling that is accepted."""
        assert 'write `false`, or quote it: "no"' in refusal("default: no").message

    def test_depth_is_cut_while_reading(self) -> None:
        """Nesting beyond the cap stops the reader at that place, however long the rest is."""
        fault = refusal("[" * 100_000)
        assert ("Y010", 34) == (fault.code, fault.column)

    def test_size_is_cut_before_reading(self) -> None:
        """A document above 4 MiB is not parsed."""
        assert refusal(b"#" * (MAX_BYTES + 1)).code == "Y010"

    @example("a: [x, {b: 1.5}, ~, yes please]\n")
    @example("a: &b [*b]")
    @given(st.text(max_size=200) | st.text(alphabet="ab:-[]{}&*!|>'\"%#,? \n\t01.~<", max_size=60) | st.binary(max_size=100))
    def test_arbitrary_input(self, text: str | bytes) -> None:
        """Whatever the input, there is plain data or a ConfigError that says where."""
        try:
            outcome = is_plain(read_document(text, "f").plain())
        except ConfigError as refused:
            outcome = bool(refused.faults) and all(fault.source == "f" and fault.message for fault in refused.faults)
        assert outcome


class TestPositions:
    text = "rules:\n  - id: a\n    args: {amount: {gt: 5}}\n"

    @pytest.mark.parametrize(
        ("path", "key", "value"),
        [
            (("rules",), (1, 1), (2, 3)),
            (("rules", 0), (2, 5), (2, 5)),
            (("rules", 0, "id"), (2, 5), (2, 9)),
            (("rules", 0, "args", "amount", "gt"), (3, 21), (3, 25)),
            (("rules", 0, "args", "missing"), (3, 5), (3, 11)),
            (("rules", 0, "union-tag", "id"), (2, 5), (2, 9)),
        ],
    )
    def test_locate(self, path: tuple[str | int, ...], key: tuple[int, int], value: tuple[int, int]) -> None:
        """Keys and values are found by path; what is missing is placed at what should hold it."""
        document = read_document(self.text, "f")
        assert (key, value) == (document.locate(path, on="key")[:2], document.locate(path)[:2])

    def test_fault_shows_line_and_caret(self) -> None:
        """A fault prints file, line, column, the line itself and a caret below the place."""
        fault = read_document(self.text, "f.yaml").fault(("rules", 0, "args"), "P001", "bad", on="key")
        assert "f.yaml:3:5: error[P001]: bad\n        args: {amount: {gt: 5}}\n        ^" == str(fault)

    def test_crlf_and_non_ascii_columns(self) -> None:
        """Columns count characters, and CRLF does not shift lines."""
        assert (2, 8, "ü: {é: x}") == read_document("a: 1\r\nü: {é: x}\r\n", "f").locate(("ü", "é"))


class _Inner(BaseModel):
    model_config = ConfigDict(extra="forbid")
    amount: int = 0


class _Outer(BaseModel):
    model_config = ConfigDict(extra="forbid")
    items: list[_Inner] = []
    mode: str = ""


class TestValidationFaults:
    def test_every_mistake_at_its_place(self) -> None:
        """All mistakes come at once, in the order of the document, with the nearest known key."""
        document = read_document("items:\n  - {amuont: 1}\n  - {amount: x}\nmodee: y\n", "f")
        with pytest.raises(ValidationError) as caught:
            _Outer.model_validate(document.plain())
        faults = validation_faults(document, caught.value, "S", _Outer)
        assert [("S003", 2, 6), ("S005", 3, 14), ("S003", 4, 1)] == [(fault.code, fault.line, fault.column) for fault in faults]
        assert "unknown key `amuont`; did you mean `amount`?" == faults[0].message
        assert "unknown key `modee`; did you mean `mode`?" == faults[2].message

    def test_did_you_mean(self) -> None:
        """The nearest known word is named whatever its case, and nothing when none is near."""
        assert ["; did you mean `deny`?", ""] == [did_you_mean("Deny", ["allow", "deny"]), did_you_mean("zzz", ["allow", "deny"])]
