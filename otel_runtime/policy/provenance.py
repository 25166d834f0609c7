"""Where values were seen: the texts of one session by source, bounded, and searched word by word.

A value counts as seen in a text when it stands there whole: `bob@corp.example` is not in `evilbob@corp.example`, and 25 is not in 250.
Addresses, URLs, paths and account numbers are compared by their parts (`mentions`). Values that were encoded, joined or translated are
unseen. What a source said in a field of its own is told apart from what stood in the middle of a text: whoever writes a note does not
choose who sent it. The user's words are never given up for others; a source whose texts were dropped is unknown from then on, not empty.
"""

from __future__ import annotations

import itertools
import re
from collections import OrderedDict
from collections.abc import Iterator
from typing import Final

from otel_runtime.policy.gleaning import MAX_CHARS, Gleaned, glean, spelled
from otel_runtime.policy.mentions import spellings
from otel_runtime.policy.numbers import number
from otel_runtime.policy.truth import Tri

__all__ = ["LOST", "MAX_ASKED", "Gleaned", "Sightings", "glean", "key_of", "leaves"]

# Put before the name of a source whose texts were dropped.
LOST: Final = "lost:"
# So many searches through all texts take less than 50 ms, whatever stands in them (see docs/writing-policy.md, `origin`).
MAX_ASKED: Final = 40
_MIN_LENGTH: Final = 4
_MAX_KEY: Final = 4096
_MAX_LEAVES: Final = 10_000
_MAX_DEPTH: Final = 32
_MAX_SOURCES: Final = 250
_MAX_HITS: Final = 64
# What belongs to a word, an address, a path or an account number: with one of these beside it, it is a part of another one.
_BEFORE: Final = re.compile(r"[\w.%+@/-]")
_AFTER: Final = re.compile(r"[\w%+@/-]|[.](?=\w)")
# Before the key of a number: no text of that spelling means the number.
_NUMBER: Final = "\x1f#"


def key_of(value: object) -> str | None:
    """How a value is asked for; None for what cannot be told apart: short texts, booleans and what is no single value."""
    exact = number(value)
    if exact is not None and not isinstance(value, bool):
        return f"{_NUMBER}{spelled(exact)}"
    return value if isinstance(value, str) and len(value.strip()) >= _MIN_LENGTH and len(value) <= _MAX_KEY else None


def leaves(value: object) -> Iterator[object]:
    """The texts and numbers inside of a value, keys of mappings included; what is beyond the caps is left out."""
    todo: list[tuple[object, int]] = [(value, 0)]
    for _ in range(_MAX_LEAVES):
        if not todo:
            return
        node, depth = todo.pop()
        if not isinstance(node, dict | list | tuple):
            yield node
        elif depth < _MAX_DEPTH:
            parts = (part for pair in node.items() for part in pair) if isinstance(node, dict) else node
            todo.extend((part, depth + 1) for part in itertools.islice(parts, _MAX_LEAVES + 1))


class _Source:
    """What came from one source: its texts in one, and what they say."""

    __slots__ = ("chars", "fields", "lost", "mentions", "numbers", "text")

    def __init__(self, *, lost: bool = False) -> None:
        self.text: str = ""
        self.numbers: set[str] = set()
        self.mentions: set[str] = set()
        self.fields: dict[str, set[str]] = {}
        self.chars: int = 0
        self.lost: bool = lost

    def keep(self, gleaned: Gleaned) -> None:
        """Add what a value said."""
        self.text += gleaned.text
        self.numbers |= gleaned.numbers
        self.mentions |= gleaned.mentions
        for spelling, names in gleaned.fields.items():
            self.fields.setdefault(spelling, set()).update(names)
        self.chars += gleaned.chars
        self.lost = self.lost or gleaned.lost

    def has(self, asked: _Asked) -> Tri:
        """Whether it was seen here, whole."""
        if asked.number is not None:
            return asked.number in self.numbers
        if any(spelling in self.mentions for spelling in asked.spellings):
            return True
        return False if asked.only_by_parts else _stands(asked.key, self.text)

    def fields_of(self, asked: _Asked) -> set[str]:
        """The fields whose whole value it was."""
        return {name for spelling in asked.whole for name in self.fields.get(spelling, ())}


class _Asked:
    """A value that is asked for, with the ways in which it may be written."""

    __slots__ = ("key", "number", "only_by_parts", "spellings", "whole")

    def __init__(self, key: str) -> None:
        self.key: str = key
        self.number: str | None = key.removeprefix(_NUMBER) if key.startswith(_NUMBER) else None
        self.spellings: tuple[str, ...] = () if self.number is not None else spellings(key)
        # Half of a number in groups stands between spaces, too, and is another number.
        grouped = bool(self.spellings) and self.spellings[0].startswith("account:")
        self.only_by_parts: bool = grouped and (" " in key or "-" in key)
        self.whole: tuple[str, ...] = (f"#{self.number}",) if self.number is not None else (key, *self.spellings)


def _stands(key: str, text: str) -> Tri:
    at = -1
    for _ in range(_MAX_HITS):
        at = text.find(key, at + 1)
        if at < 0:
            return False
        end = at + len(key)
        if (at == 0 or _BEFORE.match(text[at - 1]) is None) and _AFTER.match(text[end : end + 2]) is None:
            return True
    return None


class Sightings:
    """What one session saw, by source."""

    __slots__ = ("_crowded", "_sources", "_user")

    def __init__(self) -> None:
        self._user: _Source = _Source()
        self._sources: OrderedDict[str, _Source] = OrderedDict()
        self._crowded: bool = False

    def add(self, source: str, value: object) -> None:
        """Note a value under its source."""
        self.keep(source, glean(value))

    def keep(self, source: str, gleaned: Gleaned) -> None:
        """Note what a value says under its source; `glean` reads it, which needs no lock.

        Args:
            source: `user`, `config` or `tool:NAME`.
            gleaned: What was read in it.
        """
        if source == "user":
            if self._user.chars + gleaned.chars > MAX_CHARS:
                self._user.lost = True
            else:
                self._user.keep(gleaned)
            return
        if source not in self._sources and len(self._sources) >= _MAX_SOURCES:
            self._crowded = True
            return
        known = self._sources.pop(source, None) or _Source()
        if known.chars + gleaned.chars > MAX_CHARS:
            known = _Source(lost=True)
        known.keep(gleaned)
        self._sources[source] = known
        self._make_room()

    def _make_room(self) -> None:
        total = sum(kept.chars for kept in self._sources.values())
        for name, kept in list(self._sources.items()):
            if total <= MAX_CHARS:
                return
            if kept.chars:
                total -= kept.chars
                self._sources[name] = _Source(lost=True)

    def of(self, key: str) -> frozenset[str]:
        """The sources it was seen in, with `/FIELD` after a source where it was the whole of a field, and, marked, those that cannot tell."""
        asked = _Asked(key)
        found: set[str] = {f"{LOST}*"} if self._crowded else set()
        for name, kept in (("user", self._user), *self._sources.items()):
            seen = kept.has(asked)
            fields = kept.fields_of(asked)
            found.update(f"{name}/{field}" for field in fields)
            if seen or fields:
                found.add(name)
            if kept.lost or (seen is None and not fields):
                found.add(f"{LOST}{name}")
        return frozenset(found)
