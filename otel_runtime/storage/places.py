"""Where a state file may lie: a private file in a private directory on a disk of this machine."""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path

from otel_runtime.errors import StoreError

__all__ = ["create_private", "file_system", "prepare", "prepare_directory"]

# File systems on which locks or shared memory do not hold between hosts. 9p and virtiofs are left out: sandboxes and virtual machines
# mount their only disk with them, and there one host writes.
_NETWORK = frozenset(
    {
        "afs",
        "beegfs",
        "ceph",
        "cifs",
        "davfs",
        "gfs2",
        "glusterfs",
        "gpfs",
        "lustre",
        "ncpfs",
        "nfs",
        "nfs4",
        "ocfs2",
        "smb",
        "smb2",
        "smb3",
        "smbfs",
        "fuse.ceph",
        "fuse.davfs2",
        "fuse.gcsfuse",
        "fuse.glusterfs",
        "fuse.rclone",
        "fuse.s3fs",
        "fuse.sshfs",
    }
)
_MOUNTS = Path("/proc/mounts")
_OCTAL = re.compile(r"\\([0-7]{3})")


def file_system(path: Path, mounts: str) -> tuple[str, str]:
    """Mount point and type of the file system that holds a path.

    Args:
        path: Absolute, without symlinks.
        mounts: Text in the format of /proc/mounts.

    Returns:
        Two empty strings when the table names none.
    """
    found = ("", "")
    for line in mounts.splitlines():
        fields = line.split(" ")
        if len(fields) < 3:
            continue
        point = _OCTAL.sub(lambda code: chr(int(code.group(1), 8)), fields[1])
        # A later line covers an earlier one on the same mount point.
        if len(point) >= len(found[0]) and path.is_relative_to(point):
            found = (point, fields[2])
    return found


def prepare(path: Path) -> Path:
    """Make the place of a database ready: directory 0700 and file 0600 where they are missing.

    Returns:
        The file's real path.

    Raises:
        StoreError: It is a directory, lies on a network file system, or cannot be created.
    """
    real = Path(os.path.realpath(path))
    if real.is_dir():
        raise StoreError(f"state database `{path}` is a directory; expected a file, such as `{path / 'state.db'}`", path=str(path))
    try:
        prepare_directory(real.parent)
        _refuse_network(path, real)
        create_private(real, b"")
    except OSError as error:
        raise _unusable(path, error) from error
    if not os.access(real, os.R_OK | os.W_OK):
        raise StoreError(
            f"state database `{path}` cannot be read and written by this user; mend its permissions, or set `state` to another path",
            path=str(path),
        )
    return real


def create_private(path: Path, content: bytes) -> bool:
    """Create a file with mode 0600 that appears with its whole content or not at all; False when it exists already.

    Raises:
        OSError: It cannot be written.
    """
    # INVARIANT: an existing file is never opened here. Closing any descriptor of a database drops every POSIX lock that this process
    # holds on it, also those of other threads' connections.
    if path.exists():
        return False
    draft = path.with_name(f".{path.name}.{os.urandom(8).hex()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0), 0o600)
    try:
        _write_through(descriptor, content)
        return _publish(draft, path)
    finally:
        draft.unlink(missing_ok=True)


def _write_through(descriptor: int, content: bytes) -> None:
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _publish(draft: Path, path: Path) -> bool:
    try:
        os.link(draft, path)
    except FileExistsError:
        return False
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        # Without it a power cut may leave the database and lose the key beside it.
        os.fsync(directory)
    finally:
        os.close(directory)
    return True


def prepare_directory(directory: Path) -> None:
    """Create a directory with mode 0700 when it is missing; an existing one stays as it is.

    Raises:
        OSError: It cannot be created.
    """
    if directory.is_dir():
        return
    directory.parent.mkdir(parents=True, exist_ok=True)
    directory.mkdir(mode=0o700, exist_ok=True)


def _refuse_network(path: Path, real: Path) -> None:
    if not _MOUNTS.exists():
        return
    point, kind = file_system(real.parent, _MOUNTS.read_text(encoding="utf-8", errors="surrogateescape"))
    if kind in _NETWORK:
        raise StoreError(
            f"state database `{path}` lies on the network file system `{kind}` mounted at `{point}`, where SQLite's locks do not hold; "
            "set `state` to a path on a local disk",
            path=str(path),
        )


def _unusable(path: Path, error: OSError) -> StoreError:
    mend = "free some space, then try again" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "check the path and its permissions"
    return StoreError(
        f"state database `{path}` cannot be created: {error.strerror or error}; {mend}, or set `state` to another path", path=str(path)
    )
