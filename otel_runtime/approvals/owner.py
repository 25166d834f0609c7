"""Which process claimed a request, and whether it still lives."""

from __future__ import annotations

import json
import os
import socket
from dataclasses import asdict, dataclass
from pathlib import Path

__all__ = ["Owner", "gone", "owner_text", "this_process"]

_PROC = Path("/proc")
_DEAD = frozenset("ZXx")


@dataclass(frozen=True, slots=True)
class Owner:
    """A process, named so that a later one with the same number is not mistaken for it.

    Args:
        host: Host name.
        boot: Id of the host's boot; empty where the system has none.
        space: The process-number space (container); empty where the system has none.
        pid: Process number.
        started: Start time in the system's own unit; empty where it cannot be read.
    """

    host: str
    boot: str
    space: str
    pid: int
    started: str


def this_process() -> Owner:
    """The calling process."""
    pid = os.getpid()
    return Owner(socket.gethostname(), _boot(), _space(), pid, _status(pid)[1])


def owner_text(owner: Owner) -> str:
    """An owner as stored text."""
    return json.dumps(asdict(owner), sort_keys=True)


def gone(text: str, here: Owner) -> bool:
    """True when the owner is certainly dead; of other hosts and containers nothing is known.

    Args:
        text: From `owner_text`.
        here: The calling process.
    """
    owner = Owner(**json.loads(text))
    if owner.host != here.host:
        return False
    if owner.boot != here.boot:
        return True
    return owner.space == here.space and not _alive(owner)


def _alive(owner: Owner) -> bool:
    if not owner.started:
        return _answers(owner.pid)
    state, started = _status(owner.pid)
    return started == owner.started and state not in _DEAD


def _answers(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        # It lives, under another user.
        return True
    return True


def _status(pid: int) -> tuple[str, str]:
    try:
        text = (_PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return "", ""
    # proc(5): the name stands in parentheses and may hold any character; state is field 3, start time field 22.
    fields = text.rpartition(")")[2].split()
    return fields[0], fields[19]


def _boot() -> str:
    try:
        return (_PROC / "sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _space() -> str:
    try:
        return str((_PROC / "self/ns/pid").readlink())
    except OSError:
        return ""
