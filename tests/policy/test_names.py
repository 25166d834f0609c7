from __future__ import annotations

import pytest

from otel_runtime.policy.names import Globs, compile_glob, is_name
from otel_runtime.policy.regexes import MAX_INPUT, compile_regex


class TestNames:
    @pytest.mark.parametrize("name", ["refund", "mcp:crm:get-customer", "fs.read_file", "A1", "x" * 128])
    def test_in_the_grammar(self, name: str) -> None:
        """Letters, digits and four marks, up to 128 characters."""
        assert is_name(name)

    @pytest.mark.parametrize(
        "name", ["", "x" * 129, " a", "a ", "a\n", "a\u200b", "\uff44elete", "a\u00adb", "a/b", "a*", None, ["a"], {"name": "a"}]
    )
    def test_not_in_the_grammar(self, name: object) -> None:
        """Invisible, look-alike and other characters make another name, or none."""
        assert not is_name(name)


class TestGlob:
    @pytest.mark.parametrize(
        ("pattern", "text", "expected"),
        [
            ("get_*", "get_order", True),
            ("get_*", "get_", False),
            ("get_*", "target_user", False),
            ("get_*", "get_a.b", False),
            ("get_*", "get_a:b", False),
            ("crm.*", "crm.read", True),
            ("crm.*", "crm.read.all", False),
            ("mcp:*:read", "mcp:fs:read", True),
            ("mcp:*:read", "mcp:fs:x:read", False),
            ("*", "anything.at:all", True),
            ("a.b", "axb", False),
            ("*_file", "delete_file", True),
            ("a*c", "aXc", True),
            ("a*c", "ac", False),
            ("Get_*", "get_x", False),
        ],
    )
    def test_star(self, pattern: str, text: str, expected: bool) -> None:
        """A star is one or more characters and never a dot or colon; alone it is everything."""
        assert expected is compile_glob(pattern)(text)

    def test_several(self) -> None:
        """One fitting pattern is enough, and plain names are told apart from globs."""
        globs = Globs(["a", "b_*"])
        assert [True, True, False] == [globs.fits("a"), globs.fits("b_x"), globs.fits("c")]
        assert (frozenset({"a"}), False) == (globs.exact, globs.only_exact)


class TestRegex:
    def test_full_and_search(self) -> None:
        """`full` asks the whole text, `search` a part of it; a final newline counts."""
        regex = compile_regex("a+")
        assert [True, False, False, True] == [regex.full("aa"), regex.full("aab"), regex.full("aa\n"), regex.search("xay")]

    def test_cap(self) -> None:
        """Text above 64 KiB of UTF-8, and text that is not Unicode, is unknown."""
        regex = compile_regex(".*")
        assert [None, None, None] == [regex.full("a" * (MAX_INPUT + 1)), regex.full("é" * MAX_INPUT), regex.full("\ud800")]

    def test_catastrophic_pattern_is_harmless(self) -> None:
        """A pattern that backtracking engines cannot finish comes back."""
        assert compile_regex("^(a+)+$").full("a" * 60_000 + "b") is False

    @pytest.mark.parametrize("pattern", ["a(b", r"(?=x)", r"(a)\1", "a{2000}{2000}"])
    def test_refused(self, pattern: str) -> None:
        """What RE2 does not take is refused with its reason; there is no other engine."""
        with pytest.raises(ValueError, match="RE2"):
            compile_regex(pattern)
