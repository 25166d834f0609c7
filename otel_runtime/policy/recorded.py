"""A decided call as a trace tells it: what is known of it, and what is not and why.

Captured content is short and redacted, so it is not always what was decided on. Whatever is not as it was becomes `Unreadable`: every condition
on it is then unknown, and nobody takes a mark such as `…(5000 characters)` for a value.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Final, Literal, cast

from otel_runtime.values.action import Kind, Unreadable
from otel_runtime.values.decision import Verdict

__all__ = [
    "CONTEXT_CUT",
    "CUT",
    "NOT_CAPTURED",
    "NOT_DATA",
    "NOT_JSON",
    "REDACTED",
    "Caller",
    "RecordedCall",
    "Seen",
    "Untold",
    "read_captured",
]

NOT_CAPTURED: Final = "arguments not captured"
CUT: Final = "arguments cut"
REDACTED: Final = "arguments redacted"
NOT_DATA: Final = "arguments hold what is no plain data"
NOT_JSON: Final = "arguments cannot be read"
CONTEXT_CUT: Final = "context cut or redacted"

_MASK: Final = "[redacted]"
_CUT_TEXT: Final = re.compile(r"…\(\d+ characters\)\Z")
_CUT_LIST: Final = re.compile(r"…|…\(\d+ items\)")
# What capture writes in place of a value that is no JSON: `<12 bytes>`, `<cycle>`, `<nan>`, `<decimal.Context>`, `<list: too large>`.
_STAND_IN: Final = re.compile(r"<(?:\d+ bytes|cycle|-?inf|nan|int of \d+ bits|[\w.]+(?:: (?:deeper than \d+|not captured|too large))?)>")
_WHYS: Final = frozenset({"opaque", "type", "cycle", "cap", "nan", "text", "key"})


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asked, as a decision span tells it.

    Args:
        user: The acting person; None when there was none.
        roles: That person's roles; None when they were not known.
        tenant: The tenant.
        tags: Words the decorator put on the tool.
        context: Facts of the application.
        around: Sessions out of which the call's session was opened.
    """

    user: str | None = None
    roles: frozenset[str] | None = None
    tenant: str | None = None
    tags: frozenset[str] = frozenset()
    context: Mapping[str, object] = field(default_factory=dict)
    around: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RecordedCall:
    """One call that was decided, or that ran unguarded.

    Args:
        kind: What was called.
        name: Its name.
        at: When it was decided.
        args: Arguments by name; None when they were not captured.
        gaps: Why arguments or the context are not as they were; empty when they are.
        caller: Who asked; None when the trace does not tell.
        agents: Chain of agents, outermost first; None when the trace does not tell.
        session: Session id; None when there was none.
        registered: False when nobody had declared the tool.
        decided: What was decided; None when nothing guarded the call.
        digest: Digest of the rules that decided; empty when unknown.
        attempt: Which attempt it was, starts at 1.
        ran: True when the body ran.
        approvers: Who could answer when people were asked.
        usd: What it cost; None when unknown.
        tokens: What it used; None when unknown.
        place: Trace and span, for people.
    """

    kind: Kind
    name: str
    at: datetime
    args: Mapping[str, object] | None = None
    gaps: frozenset[str] = frozenset()
    caller: Caller | None = None
    agents: tuple[str, ...] | None = None
    session: str | None = None
    registered: bool = True
    decided: Verdict | None = None
    digest: str = ""
    attempt: int = 1
    ran: bool = False
    approvers: tuple[str, ...] = ()
    usd: Decimal | None = None
    tokens: int | None = None
    place: str = ""


@dataclass(frozen=True, slots=True)
class Seen:
    """Something that a session saw: what its user said, what a tool gave back, what the application supplied.

    Args:
        session: Session id.
        source: `user`, `config` or `tool:NAME`.
        at: When.
        value: What it was.
        whole: False when the trace does not tell all of it.
    """

    session: str
    source: str
    at: datetime
    value: object
    whole: bool = True


class Untold(Mapping[str, object]):
    """The arguments of a call whose arguments nobody captured: each may be there, none can be read."""

    def __getitem__(self, name: str) -> object:
        return Unreadable("unknown", "text")

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


def read_captured(text: object) -> tuple[object, frozenset[str]]:
    """A captured value, and why it is not as it was.

    Args:
        text: JSON as capture writes it.

    Returns:
        The value, with `Unreadable` in place of what is lost, and the reasons; None and a reason where nothing can be read.
    """
    if not isinstance(text, str):
        return None, frozenset({NOT_CAPTURED})
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        # A back end that cuts attribute values leaves half a document; what nests this deep was written by nobody's capture.
        return None, frozenset({NOT_JSON})
    gaps: set[str] = set()
    return _restored(found, gaps), frozenset(gaps)


def _restored(node: object, gaps: set[str]) -> object:
    if isinstance(node, str):
        return _text(node, gaps)
    if isinstance(node, list):
        return _list(node, gaps)
    return _mapping(node, gaps) if isinstance(node, dict) else node


def _text(node: str, gaps: set[str]) -> object:
    if _MASK in node:
        gaps.add(REDACTED)
    elif node == "…" or _CUT_TEXT.search(node):
        gaps.add(CUT)
    elif _STAND_IN.fullmatch(node):
        gaps.add(NOT_DATA)
    else:
        return node
    return Unreadable("str", "text")


def _list(node: list[object], gaps: set[str]) -> object:
    if node and isinstance(node[-1], str) and _CUT_LIST.fullmatch(node[-1]):
        gaps.add(CUT)
        return Unreadable("list", "cap")
    return [_restored(item, gaps) for item in node]


def _mapping(node: dict[str, object], gaps: set[str]) -> object:
    if node.keys() == {"type_name", "why"} and node["why"] in _WHYS:
        # It could not be read when it was decided either: nothing is lost.
        return Unreadable(str(node["type_name"]), cast("Literal['opaque', 'type', 'cycle', 'cap', 'nan', 'text', 'key']", node["why"]))
    if "…" in node:
        gaps.add(CUT)
        return Unreadable("dict", "cap")
    return {key: _restored(value, gaps) for key, value in node.items()}
