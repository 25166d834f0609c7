r"""Shell commands, read so narrowly that sh, bash, dash and zsh cannot read them differently. Anything else is not understood.

The language: plain words, '...' and "..." without expansions, joined by `&&`, `||`, `|`, `;` and newlines. Everything that could run, write
or expand something else has a character of its own or stands in command position, so it is refused by what is *allowed*, not by a list of
what is dangerous: `$ ` \\ < > & ( ) { } [ ] * ? ! # ^` and `~` at the start of a word, assignments, reserved words, control characters. Only
in "..." a backslash may stand in front of what it does not escape (POSIX, 2.2.3): there it is one, such as in "a\|b".

A grammar such as tree-sitter-bash would parse more, only for us to refuse it: every node beyond this language means "unknown" anyway.
"""

from __future__ import annotations

import re
from typing import Final, TypeAlias

__all__ = ["MAX_COMMAND", "Command", "read_commands"]

Command: TypeAlias = tuple[str, ...]

MAX_COMMAND: Final = 16 << 10
# One token at a time; what none of them takes is not understood. `~` only inside of a word such as HEAD~1, where no shell expands it.
_TOKEN: Final = re.compile(
    r"""(?P<blank>[ \t]+)|(?P<next>&&|\|\|(?!\|)|\|(?![&|])|;(?!;)|\n)"""
    r"""|(?P<plain>(?:[A-Za-z0-9_@%+=:,./-]|(?<=[A-Za-z0-9])~(?=[0-9]))+)|'(?P<single>[^']*)'|"(?P<double>(?:[^"$`\\!]|\\[^"$`\\!\n])*)\""""
)
_CONTROL: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]")
# In command position these begin something else than a command, or change what later words mean.
_RESERVED: Final = frozenset(
    "if then elif else fi for while until do done case esac in select function time coproc repeat foreach end nocorrect noglob".split()
)


def read_commands(text: str) -> tuple[Command, ...] | None:
    """The words of every command that would run; None when one of them cannot be told for sure."""
    if len(text) > MAX_COMMAND or _CONTROL.search(text) is not None:
        return None
    reader = _Reader()
    at = 0
    while at < len(text):
        token = _TOKEN.match(text, at)
        if token is None or not reader.take(token):
            return None
        at = token.end()
    return reader.done()


class _Reader:
    """Words and commands on their way."""

    __slots__ = ("_commands", "_operator", "_word", "_words")

    def __init__(self) -> None:
        self._commands: list[Command] = []
        self._words: list[str] = []
        self._word: str | None = None
        self._operator = ""

    def take(self, token: re.Match[str]) -> bool:
        """Take one token; False when it makes no sense here."""
        kind = token.lastgroup
        if kind == "blank":
            return self._ended()
        if kind == "next":
            return self._ended() and self._next(token.group())
        text = token.group(str(kind))
        if kind == "plain" and self._word is None and text.startswith("="):
            # zsh replaces =name by the path of a program.
            return False
        self._word = (self._word or "") + text
        return True

    def _ended(self) -> bool:
        word, self._word = self._word, None
        if word is None:
            return True
        self._words.append(word)
        # Quoted ones mean a program of that strange name; that is not understood either.
        return len(self._words) > 1 or not ("=" in word or word in _RESERVED or not word)

    def _next(self, operator: str) -> bool:
        if not self._words:
            # An empty line, or one that goes on after `&&`.
            return operator == "\n"
        self._commands.append(tuple(self._words))
        self._words = []
        self._operator = operator
        return True

    def done(self) -> tuple[Command, ...] | None:
        """All commands; None when there is none, or the last one is not complete."""
        if not self._ended():
            return None
        if self._words:
            self._commands.append(tuple(self._words))
        elif self._operator in {"&&", "||", "|"}:
            return None
        return tuple(self._commands) or None
