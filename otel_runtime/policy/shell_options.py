"""Read a program's words against the options it may be given; an option that is not listed is not understood.

GNU programs take any unambiguous abbreviation of a long option (`--outp=f`), so only whole, listed names are taken. Options may stand after
operands, short ones may be joined (`-rn`), and the value of one may be joined to it (`-n5`) or be the next word. A value that looks like an
option is refused: on another system the first may take none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Options", "Parsed", "is_option"]


@dataclass(frozen=True, slots=True)
class Parsed:
    """What was given.

    Args:
        operands: Words that are no options, in order.
        values: Options that take a value, and theirs.
        given: Options without a value.
    """

    operands: tuple[str, ...]
    values: tuple[tuple[str, str], ...] = ()
    given: frozenset[str] = frozenset()

    def all(self, *names: str) -> list[str]:
        """The values of these options."""
        return [value for name, value in self.values if name in names]


@dataclass(frozen=True, slots=True)
class Options:
    """The options of a program that neither write nor run anything.

    Args:
        flags: Short ones without a value, as letters.
        valued: Short ones with a value.
        long: Long ones without a value, without their dashes; `name=` may be given a value behind `=`.
        long_valued: Long ones with a value.
        operands: Most words that are no options.
        number: True where `-5` is an option.
    """

    flags: str = ""
    valued: str = ""
    long: frozenset[str] = frozenset()
    long_valued: frozenset[str] = frozenset()
    operands: int = 1 << 16
    number: bool = False

    def parse(self, words: Sequence[str]) -> Parsed | None:
        """Read the words after the program's name; None when one of them is not understood."""
        operands: list[str] = []
        values: list[tuple[str, str]] = []
        given: set[str] = set()
        rest = list(words)[::-1]
        while rest:
            word = rest.pop()
            if word == "--":
                operands += rest[::-1]
                break
            if word == "-" or not word.startswith("-"):
                operands.append(word)
            elif not (self._long(word[2:], rest, values, given) if word.startswith("--") else self._short(word[1:], rest, values, given)):
                return None
        return Parsed(tuple(operands), tuple(values), frozenset(given)) if len(operands) <= self.operands else None

    def _long(self, word: str, rest: list[str], values: list[tuple[str, str]], given: set[str]) -> bool:
        name, equals, value = word.partition("=")
        if name in self.long_valued:
            return _noted(values, name, value if equals else None, rest)
        given.add(name)
        return f"{name}=" in self.long if equals else name in self.long or f"{name}=" in self.long

    def _short(self, letters: str, rest: list[str], values: list[tuple[str, str]], given: set[str]) -> bool:
        if self.number and letters.isascii() and letters.isdigit():
            return True
        for at, letter in enumerate(letters):
            if letter in self.valued:
                return _noted(values, letter, letters[at + 1 :] or None, rest)
            if letter not in self.flags:
                return False
            given.add(letter)
        return True


def _noted(values: list[tuple[str, str]], name: str, joined: str | None, rest: list[str]) -> bool:
    if joined is None and (not rest or is_option(rest[-1])):
        return False
    values.append((name, rest.pop() if joined is None else joined))
    return True


def is_option(word: str) -> bool:
    """True for a word that begins as options do; negative numbers and a lone dash do not."""
    return word.startswith("-") and not word[1:2].isdigit() and word != "-"
