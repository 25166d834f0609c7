"""Read what a value says: its texts, numbers, what they mention, and which field said what; within caps, and told where they cut.

Caps, for one value: 128 KiB of text, 8,000 numbers and mentions, 8,000 elements, depth 32. What has no room makes the source unknown for
what is not found in the rest.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, datetime, time
from decimal import Decimal
from itertools import islice
from typing import Final
from uuid import UUID

from otel_runtime.policy.mentions import mentioned, spellings
from otel_runtime.policy.numbers import number
from otel_runtime.values.action import Unreadable

__all__ = ["MAX_CHARS", "Gleaned", "glean", "spelled"]

MAX_CHARS: Final = 128 << 10
_MAX_ELEMENTS: Final = 8_000
_MAX_FINDS: Final = 8_000
_MAX_DEPTH: Final = 32
_MAX_JSON: Final = 64 << 10
_MAX_FIELD_VALUE: Final = 512
# What an element costs besides its text, so that a million empty ones have no room either.
_ELEMENT: Final = 16
_FIELD: Final = re.compile(r"[A-Za-z0-9_.:-]{1,64}")
_NUMBER: Final = re.compile(r"(?<![\w.,-])(-?)(?:([0-9]{1,3}(?:,[0-9]{3}){1,9})|([0-9]{1,30}+))(?:[.]([0-9]{1,30}+))?(?![\w]|[.,][0-9])")
# Written without exponent, more would be mostly zeros.
_MAX_ZEROS: Final = 100
_LOST: Final = Unreadable("", "cap")


@dataclass(slots=True)
class Gleaned:
    """What one value says.

    Args:
        text: Its texts, a NUL after each.
        numbers: Its numbers, spelled plainly.
        mentions: Addresses, URLs, paths and account numbers in the one spelling.
        fields: For the whole value of a field, in every spelling of it, the names of such fields.
        chars: How much room it takes.
        lost: True when something was left out.
    """

    text: str = ""
    numbers: set[str] = field(default_factory=set)
    mentions: set[str] = field(default_factory=set)
    fields: dict[str, set[str]] = field(default_factory=dict)
    chars: int = 0
    lost: bool = False


def glean(value: object) -> Gleaned:
    """Read a value, such as a snapshot of a tool's result.

    Args:
        value: Text, number, or lists and mappings of them. Text that is JSON is read as what it says.
    """
    found = Gleaned()
    texts: list[str] = []
    for at, (name, leaf) in enumerate(_elements(value)):
        if at >= _MAX_ELEMENTS:
            found.lost = True
            break
        text = _text_of(leaf)
        exact = None if text is not None or isinstance(leaf, bool) else number(leaf)
        room = MAX_CHARS - found.chars - _ELEMENT
        if leaf is _LOST or room < 0 or (text is None and exact is None and leaf is not None and not isinstance(leaf, bool)):
            found.lost = True
            continue
        if text is not None:
            kept = _within(text, room)
            found.lost = found.lost or len(kept) < len(text)
            texts.append(kept)
            found.chars += len(kept)
        elif exact is not None:
            found.numbers.add(spelled(exact))
        found.chars += _ELEMENT
        _note_field(found, name, text, exact)
    found.text = "".join(f"{text}\x00" for text in texts)
    _read(found, "\n".join(texts))
    return found


def spelled(exact: int | Decimal) -> str:
    """A number in the one spelling: no exponent, no zeros that change nothing."""
    if isinstance(exact, int):
        return str(exact)
    if abs(exact.adjusted()) > _MAX_ZEROS:
        return str(exact)
    text = f"{exact:f}"
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text == "-0" else text


def _within(text: str, room: int) -> str:
    """As much as fits, up to the end of a word: half a word would be another one."""
    return text if len(text) <= room else text[: max(text.rfind(" ", 0, room + 1), text.rfind("\n", 0, room + 1), 0)]


def _note_field(found: Gleaned, name: str | None, text: str | None, exact: int | Decimal | None) -> None:
    if name is None:
        return
    if text is not None:
        if len(text) > _MAX_FIELD_VALUE:
            return
        for spelling in (text, *spellings(text)):
            found.fields.setdefault(spelling, set()).add(name)
    elif exact is not None:
        found.fields.setdefault(f"#{spelled(exact)}", set()).add(name)


def _read(found: Gleaned, text: str) -> None:
    numbers = [_plain(match) for match in islice(_NUMBER.finditer(text), _MAX_FINDS)]
    mentions = list(islice(mentioned(text), _MAX_FINDS))
    # A text with more is not read to its end.
    found.lost = found.lost or _MAX_FINDS in (len(numbers), len(mentions))
    found.numbers.update(numbers)
    found.mentions.update(mentions)


def _plain(match: re.Match[str]) -> str:
    """A number of a text as `spelled` spells it."""
    sign, grouped, whole, part = match.groups()
    before = (grouped.replace(",", "") if grouped is not None else whole).lstrip("0") or "0"
    after = (part or "").rstrip("0")
    spelled = f"{before}.{after}" if after else before
    return f"-{spelled}" if sign and spelled != "0" else spelled


def _text_of(leaf: object) -> str | None:
    if isinstance(leaf, str):
        return leaf
    if isinstance(leaf, datetime | date | time | UUID):
        return str(leaf)
    if isinstance(leaf, bytes):
        try:
            return leaf.decode()
        except UnicodeDecodeError:
            return None
    return None


def _elements(value: object) -> Iterator[tuple[str | None, object]]:
    """Every single value with the name of the field it stands in, names of fields themselves as values of none; in order."""
    todo: list[tuple[str | None, object, int]] = [(None, value, 0)]
    while todo:
        name, node, depth = todo.pop()
        if isinstance(node, str) and node[:1] in ("{", "[") and len(node) <= _MAX_JSON and depth < _MAX_DEPTH:
            node = _parsed(node)
        if not isinstance(node, dict | list | tuple):
            yield name, node
            continue
        if depth >= _MAX_DEPTH or len(node) > _MAX_ELEMENTS:
            yield None, _LOST
        if depth >= _MAX_DEPTH:
            continue
        if isinstance(node, dict):
            for key, part in reversed(list(islice(node.items(), _MAX_ELEMENTS))):
                todo.append((key if isinstance(key, str) and _FIELD.fullmatch(key) is not None else None, part, depth + 1))
                todo.append((None, key, depth + 1))
        else:
            todo.extend((name, part, depth + 1) for part in reversed(node[:_MAX_ELEMENTS]))
        if len(todo) > 4 * _MAX_ELEMENTS:
            yield None, _LOST
            del todo[: 2 * _MAX_ELEMENTS]


def _parsed(text: str) -> object:
    try:
        read = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return read if isinstance(read, dict | list) else text
