"""Where values were seen: the texts of one session by source, bounded, and searched word by word.

A value counts as seen in a text when it stands there whole: `bob@corp.example` is not in `evilbob@corp.example`, and 25 is not in 250. Values
that were encoded, joined or translated are unseen. The user's words are never given up for others; a source whose texts were dropped is
unknown from then on, not empty.
"""

from __future__ import annotations

import itertools
import re
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from decimal import Decimal, InvalidOperation
from typing import Final

from otel_runtime.policy.numbers import number
from otel_runtime.policy.truth import Tri

__all__ = ["LOST", "MAX_ASKED", "TOO_MUCH", "Sightings", "key_of", "leaves"]

# Put before the name of a source whose texts were dropped.
LOST: Final = "lost:"
TOO_MUCH: Final = object()
MAX_ASKED: Final = 100
_MIN_LENGTH: Final = 4
_MAX_KEY: Final = 4096
_MAX_LEAVES: Final = 10_000
_MAX_DEPTH: Final = 32
_MAX_CHARS: Final = 256 << 10
_MAX_SOURCES: Final = 500
_MAX_NUMBERS: Final = 10_000
_MAX_HITS: Final = 64
_NUMBER_SIZE: Final = 16
# What belongs to a word, an address, a path or an account number: with one of these beside it, it is a part of another one.
_BEFORE: Final = re.compile(r"[\w.%+@/-]")
_AFTER: Final = re.compile(r"[\w%+@/-]|[.](?=\w)")
_NUMBER: Final = re.compile(r"(?<![\w.,-])-?[0-9]{1,30}(?:[.][0-9]{1,30})?(?![\w]|[.,][0-9])")


def key_of(value: object) -> str | None:
    """How a value is asked for; None for what cannot be told apart: short texts, booleans and what is no single value."""
    exact = number(value)
    if exact is not None and not isinstance(value, bool):
        return f"#{Decimal(exact).normalize():f}"
    return value if isinstance(value, str) and len(value.strip()) >= _MIN_LENGTH and len(value) <= _MAX_KEY else None


def leaves(value: object) -> Iterator[object]:
    """The texts and numbers inside of a value, keys of mappings included; bounded, and `TOO_MUCH` where something was left out."""
    todo: list[tuple[object, int]] = [(value, 0)]
    for _ in range(_MAX_LEAVES):
        if not todo:
            return
        node, depth = todo.pop()
        if not isinstance(node, Mapping | list | tuple):
            yield node
        elif depth >= _MAX_DEPTH:
            yield TOO_MUCH
        else:
            parts = (part for pair in node.items() for part in pair) if isinstance(node, Mapping) else node
            todo.extend((part, depth + 1) for part in itertools.islice(parts, _MAX_LEAVES + 1))
    if todo:
        yield TOO_MUCH


class _Source:
    """What came from one source: its texts in one, and its numbers."""

    __slots__ = ("chars", "lost", "numbers", "text")

    def __init__(self) -> None:
        self.text: str = ""
        self.numbers: set[str] = set()
        self.chars: int = 0
        self.lost: bool = False

    def add(self, value: object, room: int) -> int:
        """Keep the texts and numbers of a value as far as there is room; how much it took."""
        texts: list[str] = []
        before = self.chars
        for leaf in leaves(value):
            size = len(leaf) + 1 if isinstance(leaf, str) else _NUMBER_SIZE
            if leaf is TOO_MUCH or self.chars - before + size > room:
                # What is not kept may have been the value that is asked for.
                self.lost = True
                break
            self.chars += size
            if isinstance(leaf, str):
                texts.append(leaf)
                found = list(itertools.islice(_numbers(leaf), _MAX_NUMBERS))
                # A text with more is not read to its end.
                self.lost = self.lost or len(found) == _MAX_NUMBERS
                self.numbers.update(found)
            elif (key := key_of(leaf)) is not None:
                self.numbers.add(key)
        self.text += "".join(f"{text}\x00" for text in texts)
        return self.chars - before

    def has(self, key: str) -> Tri:
        """Whether it was seen here, whole."""
        return True if key in self.numbers else _stands(key, self.text)


def _numbers(text: str) -> Iterator[str]:
    for found in _NUMBER.finditer(text):
        try:
            yield f"#{Decimal(found.group()).normalize():f}"
        except InvalidOperation:  # more digits than the context takes; then it is not asked for either
            continue


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
        if source == "user":
            self._user.add(value, _MAX_CHARS - self._user.chars)
            return
        if source not in self._sources and len(self._sources) >= _MAX_SOURCES:
            self._crowded = True
            return
        self._sources.setdefault(source, _Source()).add(value, _MAX_CHARS)
        self._sources.move_to_end(source)
        self._make_room()

    def _make_room(self) -> None:
        total = sum(kept.chars for kept in self._sources.values())
        for name, kept in list(self._sources.items()):
            if total <= _MAX_CHARS:
                return
            total -= kept.chars
            self._sources[name] = _Source()
            self._sources[name].lost = True

    def of(self, key: str) -> frozenset[str]:
        """The sources it was seen in, and, marked, those of which it cannot be told."""
        found: set[str] = {f"{LOST}*"} if self._crowded else set()
        for name, kept in (("user", self._user), *self._sources.items()):
            seen = kept.has(key)
            if seen:
                found.add(name)
            elif seen is None or kept.lost:
                found.add(f"{LOST}{name}")
        return frozenset(found)
