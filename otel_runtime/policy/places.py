"""Where a path really leads, asked of the file system when a call is decided.

INVARIANT: the answer is a snapshot of the world at decision time; a link that is swapped before the tool opens the path is outside of what a
decision can promise. Roots and protected files are resolved once, when the policy is loaded: whoever replaces a root by a link gains nothing.
Bounded: at most 4 KiB of text, 512 steps and 40 links.
"""

from __future__ import annotations

import os
import stat
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["MAX_PATH", "WORKSPACE", "Places", "absolute", "folded", "inside", "places_for", "resolve", "same_file"]

WORKSPACE: Final = "workspace:"
MAX_PATH: Final = 4096
_MAX_STEPS: Final = 512
_MAX_LINKS: Final = 40
# What stands below is not a file but a view of some process, often of the one that asks.
_VIEWS: Final = frozenset({"/proc", "/dev/fd"})


@dataclass(frozen=True, slots=True)
class Places:
    """What paths are compared with.

    Args:
        roots: Operand of `under` to the real, absolute path it means.
        protected: Real paths of policy files, stores and keys; nothing at or below them is under anything.
        inodes: Device and inode of protected files, which other names may lead to.
    """

    roots: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    protected: frozenset[str] = frozenset()
    inodes: frozenset[tuple[int, int]] = frozenset()

    def guarded(self, real: str) -> bool:
        """True when a real path is protected, or is a folder that holds something protected and is no root itself."""
        if not self.protected:
            return False
        plain = folded(real)
        for path in self.protected:
            other = folded(path)
            # `state.db-wal` and `state.db-journal` belong to `state.db`.
            if inside(plain, other) or plain.startswith(f"{other}-") or (inside(other, plain) and real not in self.roots.values()):
                return True
        return bool(self.inodes) and _inode(real) in self.inodes


def places_for(roots: Iterable[str], workspace: str | None, protected: Iterable[Path]) -> Places:
    """Resolve what a policy names.

    Args:
        roots: Operands of `under`: `workspace:DIR`, `~/DIR` or absolute.
        workspace: Folder that `workspace:` stands for, read from the current directory; None when the policy names none.
        protected: Files and folders nothing may open.
    """
    base = os.path.realpath(Path(workspace).expanduser()) if workspace is not None else None
    known = {root: os.path.realpath(_spelled(root, base)) for root in dict.fromkeys(roots)}
    kept = [os.path.realpath(path) for path in protected]
    inodes = {inode for path in kept if (inode := _inode(path)) is not None and not Path(path).is_dir()}
    return Places(MappingProxyType(known), frozenset(kept), frozenset(inodes))


def _spelled(root: str, base: str | None) -> str:
    if root.startswith(WORKSPACE):
        if base is None:
            raise ValueError(f"`{root}` needs `workspace: DIR` at the top of the policy")
        return str(Path(base) / root.removeprefix(WORKSPACE))
    return str(Path(root).expanduser())


def same_file(path: str, other: str) -> bool:
    """True for a second name (a hard link) of a file; folders have none."""
    try:
        found = os.lstat(path)
    except OSError:
        return False
    return found.st_nlink > 1 and stat.S_ISREG(found.st_mode) and _inode(other) == (found.st_dev, found.st_ino)


def _inode(path: str) -> tuple[int, int] | None:
    try:
        found = Path(path).stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def absolute(text: str) -> str | None:
    """The path as an in-process `open` would take it; None when another reader could take it differently."""
    if os.name != "posix" or not text or _strange(text):
        return None
    if text.startswith("/"):
        return text
    try:
        return f"{Path.cwd()}/{text}"
    except OSError:
        return None


def _strange(text: str) -> bool:
    if len(text) > MAX_PATH or "\\" in text or text.startswith("~") or any(_invisible(char) for char in text):
        return True
    try:
        if len(text.encode()) > MAX_PATH:
            return True
    except UnicodeEncodeError:
        return True
    return _expandable(text) or _changes_shape(text)


def _invisible(char: str) -> bool:
    return unicodedata.category(char) in {"Cc", "Cf", "Zl", "Zp", "Cs"} if not char.isascii() else char < " " or char == "\x7f"


def _expandable(text: str) -> bool:
    """Shells and `expandvars` replace `$HOME` and `%HOME%`; a scheme or drive makes it no path of this file system."""
    head, colon, _ = text.partition(":")
    if colon and head.isascii() and head[:1].isalpha() and head.replace("+", "a").replace("-", "a").replace(".", "a").isalnum():
        return True
    after = text.split("$")[1:]
    return text.count("%") > 1 or any(part[:1] in "{(_" or part[:1].isalnum() for part in after if part)


def _changes_shape(text: str) -> bool:
    """Full-width dots and slashes become real ones in programs that normalise."""
    if text.isascii():
        return False
    plain = unicodedata.normalize("NFKC", text)
    dots = [sum(part in {".", ".."} for part in one.split("/")) for one in (text, plain)]
    return plain.count("/") != text.count("/") or "\\" in plain or dots[0] != dots[1]


def resolve(path: str) -> tuple[str | None, int]:
    """The real path of the deepest existing part and the rest as written, None where it cannot be known; and the steps it took.

    Args:
        path: Absolute.
    """
    walk = _Walk(path.split("/")[::-1])
    for steps in range(_MAX_STEPS):
        if not walk.todo:
            return walk.real or "/", steps
        if not walk.step():
            return None, steps
    return None, _MAX_STEPS


class _Walk:
    """One path on its way through the file system, part by part, as the kernel goes."""

    __slots__ = ("links", "missing", "real", "todo")

    def __init__(self, todo: list[str]) -> None:
        self.todo = todo
        self.real = ""
        self.missing = False
        self.links = 0

    def step(self) -> bool:
        """Take the next part; False where it cannot be known what it is."""
        part = self.todo.pop()
        if part in {"", "."}:
            return True
        if part == "..":
            self.real = self.real.rpartition("/")[0]
            # Below what does not exist yet, the folder that exists by then decides what this means.
            return not self.missing
        self.real = f"{self.real}/{part}"
        return self.real not in _VIEWS and (self.missing or self._followed())

    def _followed(self) -> bool:
        try:
            target = _link(self.real)
        except (FileNotFoundError, NotADirectoryError):
            # Below a file, such as the `.git` of a git worktree, nothing can be until a folder stands there.
            self.missing = True
            return True
        except OSError:
            return False
        if target is not None:
            self.links += 1
            self.real = "" if target.startswith("/") else self.real.rpartition("/")[0]
            self.todo.extend(target.split("/")[::-1])
        return self.links <= _MAX_LINKS


def _link(path: str) -> str | None:
    if not stat.S_ISLNK(os.lstat(path).st_mode):
        return None
    return os.readlink(path)  # noqa: PTH115  # a Path would normalise what the kernel does not


def inside(path: str, root: str) -> bool:
    """True for the root itself and what stands below it; whole names are compared, never prefixes of them."""
    return root in (path, "/") or path.startswith(f"{root}/")


def folded(path: str) -> str:
    """The path as a file system that ignores case, compatibility forms, trailing dots and spaces, and streams would take it."""
    if path.isascii() and ":" not in path and ". " not in path and " /" not in path and "./" not in path and path[-1:] not in {".", " "}:
        return path.lower()
    plain = unicodedata.normalize("NFKC", path).casefold()
    return "/".join(part.partition(":")[0].rstrip(". ") for part in plain.split("/"))
