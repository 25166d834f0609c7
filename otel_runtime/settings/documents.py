"""Read a YAML or JSON document strictly, and remember where everything stood.

The document is built from the events of PyYAML's C parser: they carry positions, and they show anchors, tags and directives before
anything is built from them. What two readers could understand differently is refused with a hint, and the caps abort while reading.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, Literal

import yaml

from otel_runtime.errors import ConfigError, Fault
from otel_runtime.settings.scalars import Ambiguous, plain_scalar
from otel_runtime.settings.syntax import syntax_mistake

__all__ = ["MAX_BYTES", "MAX_DEPTH", "Document", "read_document"]

MAX_BYTES = 4 << 20
MAX_DEPTH = 32
# libyaml in C where PyYAML was built with it (0.3 s for 10,000 rules), else the same events from pure Python.
_LOADER: type = getattr(yaml, "CLoader", yaml.SafeLoader)
# Everything YAML calls unprintable, other line breaks than \n and \r\n (they shift every later position), and marks that reorder what
# a reader sees.
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff\ufffe\uffff\ud800-\udfff]|\r(?!\n)")

Path = tuple[str | int, ...]
_NO_CAPS: Final[Mapping[str, tuple[int, str, str]]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class _Node:
    """One value: a scalar, a list of nodes, or a dict of (key line, key column, node)."""

    value: object
    line: int
    column: int
    items: tuple[_Node, ...] | None = None
    entries: dict[str, tuple[int, int, _Node]] | None = None

    def plain(self) -> object:
        if self.entries is not None:
            return {key: node.plain() for key, (_, _, node) in self.entries.items()}
        if self.items is not None:
            return [node.plain() for node in self.items]
        return self.value


@dataclass(frozen=True, slots=True)
class Document:
    """A document and the place of every key and value in it.

    Args:
        source: File name or another name for messages.
        lines: The text, line by line.
        root: The outermost node; private to this module.
    """

    source: str
    lines: tuple[str, ...]
    root: _Node = field(repr=False)

    def plain(self) -> object:
        """The document as dicts, lists, str, int, float, Decimal (digits a float would lose), bool and None."""
        return self.root.plain()

    def locate(self, path: Path, on: Literal["key", "value"] = "value") -> tuple[int, int, str]:
        """Where a value or its key stands.

        Args:
            path: Keys and list positions from the outside in; parts the document does not have are passed over, so that the place of
                something missing is the place of what should hold it.
            on: Whether the last part's key or its value is meant.

        Returns:
            Line and column, both starting at 1, and the text of the line.
        """
        node, line, column = self.root, self.root.line, self.root.column
        for part in path:
            step = _step(node, part)
            if step is None:
                continue
            key_line, key_column, node = step
            line, column = (key_line, key_column) if on == "key" else (node.line, node.column)
        return line, column, self.lines[line - 1] if 0 < line <= len(self.lines) else ""

    def fault(
        self,
        path: Path,
        code: str,
        message: str,
        on: Literal["key", "value"] = "value",
        severity: Literal["error", "warning"] = "error",
    ) -> Fault:
        """A fault that points at a key or value of this document."""
        line, column, text = self.locate(path, on)
        return Fault(code, message, self.source, line, column, text, severity)


def _step(node: _Node, part: str | int) -> tuple[int, int, _Node] | None:
    if node.entries is not None and isinstance(part, str):
        return node.entries.get(part)
    if node.items is not None and isinstance(part, int) and 0 <= part < len(node.items):
        item = node.items[part]
        return item.line, item.column, item
    return None


def read_document(text: str | bytes, source: str, most: Mapping[str, tuple[int, str, str]] = _NO_CAPS) -> Document:
    """Read one document.

    Args:
        text: The file's content; bytes must be UTF-8 without a byte order mark.
        source: Name for messages.
        most: For lists under keys of the top: how many items they may have, and code and message of the fault at the first one more.

    Raises:
        ConfigError: One fault, `Y###`, at the first place that cannot be read.
    """
    decoded = _decoded(text, source)
    lines = tuple(decoded.replace("\r\n", "\n").split("\n"))
    found = _CONTROL.search(decoded)
    if found is not None:
        raise _control_fault(decoded, lines, found.start(), source)
    return Document(source, lines, _Builder(source, lines, most).build(decoded))


def _decoded(text: str | bytes, source: str) -> str:
    if len(text) > MAX_BYTES:
        raise ConfigError.of("Y010", f"the document is larger than {MAX_BYTES >> 20} MiB; split it into several files", source)
    if isinstance(text, str):
        return text
    if text.startswith((b"\xff\xfe", b"\xfe\xff", b"\xef\xbb\xbf")):
        raise ConfigError([Fault("Y002", "the file begins with a byte order mark; save it as UTF-8 without one", source, 1, 1)])
    try:
        return text.decode("utf-8")
    except UnicodeDecodeError as error:
        line = text.count(b"\n", 0, error.start) + 1
        column = error.start - (text.rfind(b"\n", 0, error.start) + 1) + 1
        message = f"byte 0x{text[error.start]:02x} is not UTF-8; save the file as UTF-8"
        raise ConfigError([Fault("Y002", message, source, line, column)]) from None


def _control_fault(text: str, lines: tuple[str, ...], at: int, source: str) -> ConfigError:
    line = text.count("\n", 0, at) + 1
    column = at - (text.rfind("\n", 0, at) + 1) + 1
    code = f"U+{ord(text[at]):04X}"
    message = f"invisible or control character {code}; remove it, or write it as an escape inside double quotes"
    # The raw line could reorder or clear the reader's terminal.
    shown = _CONTROL.sub("?", lines[line - 1])
    return ConfigError([Fault("Y002", message, source, line, column, shown)])


class _Builder:
    """Turns the parser's events into nodes, refusing whatever is not plain data."""

    def __init__(self, source: str, lines: tuple[str, ...], most: Mapping[str, tuple[int, str, str]]) -> None:
        self._most = most
        self._source = source
        self._lines = lines
        self._events: Iterator[yaml.Event] = iter(())

    def build(self, text: str) -> _Node:
        parse: Callable[..., Iterator[yaml.Event]] = yaml.parse
        self._events = parse(text, Loader=_LOADER)
        try:
            next(self._events)
            root = self._document(next(self._events))
            extra = next(self._events, None)
            if isinstance(extra, yaml.DocumentStartEvent):
                raise self._fault("Y007", "a second document; put it into a file of its own", extra)
        except yaml.MarkedYAMLError as error:
            raise self._syntax(error) from None
        except yaml.YAMLError as error:
            raise ConfigError.of("Y001", f"not valid YAML: {error}", self._source) from None
        return root

    def _document(self, start: yaml.Event) -> _Node:
        if not isinstance(start, yaml.DocumentStartEvent):
            return _Node(None, 1, 1)
        if start.version or start.tags:
            raise self._fault("Y006", "directives (`%...`) are not accepted; remove the line", start)
        root = self._node(next(self._events), 0)
        next(self._events)
        return root

    def _node(self, event: yaml.Event, depth: int) -> _Node:
        if isinstance(event, yaml.AliasEvent):
            raise self._fault("Y004", f"alias `*{event.anchor}` is not accepted; write the value out, or quote it if it is text", event)
        if not isinstance(event, yaml.ScalarEvent | yaml.MappingStartEvent | yaml.SequenceStartEvent):
            raise self._fault("Y001", "expected a value", event)
        if event.anchor is not None:
            message = f"anchor `&{event.anchor}` is not accepted; write the value out where it is needed, or quote it if it is text"
            raise self._fault("Y004", message, event)
        if event.tag is not None:
            raise self._fault(
                "Y005", f"tag `{event.tag}` is not accepted; values are plain data, and text that begins with `!` is quoted", event
            )
        if depth > MAX_DEPTH:
            raise self._fault("Y010", f"nested deeper than {MAX_DEPTH} levels", event)
        if isinstance(event, yaml.ScalarEvent):
            return self._scalar(event)
        if isinstance(event, yaml.SequenceStartEvent):
            return self._sequence(event, depth)
        return self._mapping(event, depth)

    def _scalar(self, event: yaml.ScalarEvent) -> _Node:
        value: object = event.value
        # Quoted and block scalars are text; only plain ones are read for what they look like.
        if not event.style:
            try:
                value = plain_scalar(event.value)
            except Ambiguous as error:
                raise self._fault("Y008", str(error), event) from None
        return _Node(value, *self._place(event))

    def _capped(self, name: str, event: yaml.Event, depth: int) -> _Node:
        """The value of a key; a list of the top that is too long ends where it becomes so."""
        cap = self._most.get(name) if depth == 0 else None
        plain = isinstance(event, yaml.SequenceStartEvent) and event.anchor is None and event.tag is None
        return self._sequence(event, depth + 1, cap) if cap is not None and plain else self._node(event, depth + 1)

    def _sequence(self, start: yaml.Event, depth: int, cap: tuple[int, str, str] | None = None) -> _Node:
        items: list[_Node] = []
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            if cap is not None and len(items) >= cap[0]:
                raise self._fault(cap[1], cap[2], event)
            items.append(self._node(event, depth + 1))
        return _Node(None, *self._place(start), items=tuple(items))

    def _mapping(self, start: yaml.Event, depth: int) -> _Node:
        entries: dict[str, tuple[int, int, _Node]] = {}
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            key = self._node(event, depth + 1)
            name = self._key(key, event)
            if name in entries:
                raise self._fault("Y003", f"key `{name}` stands here a second time; the first is in line {entries[name][0]}", event)
            entries[name] = (key.line, key.column, self._capped(name, next(self._events), depth))
        return _Node(None, *self._place(start), entries=entries)

    def _key(self, key: _Node, event: yaml.Event) -> str:
        if isinstance(key.value, str):
            if key.value == "<<" and isinstance(event, yaml.ScalarEvent) and not event.style:
                raise self._fault("Y004", "merge key `<<` is not accepted; write the keys out", event)
            return key.value
        shown = getattr(event, "value", None)
        hint = f'expected text, got `{shown}`; quote it: "{shown}"' if shown else "expected text"
        raise self._fault("Y009", f"a key must be text: {hint}", event)

    def _place(self, event: yaml.Event) -> tuple[int, int]:
        mark = event.start_mark
        return (1, 1) if mark is None else (mark.line + 1, mark.column + 1)

    def _fault(self, code: str, message: str, event: yaml.Event) -> ConfigError:
        line, column = self._place(event)
        return self._at(code, message, line, column)

    def _at(self, code: str, message: str, line: int, column: int) -> ConfigError:
        text = self._lines[line - 1] if 0 < line <= len(self._lines) else ""
        return ConfigError([Fault(code, message, self._source, line, column, text)])

    def _syntax(self, error: yaml.MarkedYAMLError) -> ConfigError:
        return self._at("Y001", *syntax_mistake(error, self._lines))
