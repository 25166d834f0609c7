"""Where a state file may lie."""

from __future__ import annotations

from pathlib import Path

import pytest

from otel_runtime.errors import StoreError
from otel_runtime.storage import places

MOUNTS = """/dev/vda / ext4 rw 0 0
server:/home /home nfs4 rw 0 0
tmpfs /home/me/fast tmpfs rw 0 0
//nas/share /mnt/my\\040share cifs rw 0 0
broken
"""


class TestFileSystem:
    @pytest.mark.parametrize(
        ("path", "expected"),
        [
            ("/var/state.db", ("/", "ext4")),
            ("/home/me", ("/home", "nfs4")),
            ("/homes/me", ("/", "ext4")),
            ("/home/me/fast/x", ("/home/me/fast", "tmpfs")),
            ("/mnt/my share/x", ("/mnt/my share", "cifs")),
        ],
    )
    def test_the_deepest_mount_counts(self, path: str, expected: tuple[str, str]) -> None:
        """A path belongs to the deepest mount point above it, by whole names."""
        assert expected == places.file_system(Path(path), MOUNTS)

    def test_network_is_refused(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A database on a network file system is refused before a file is made."""
        table = tmp_path / "mounts"
        table.write_text(f"server:/x {tmp_path} nfs4 rw 0 0\n")
        monkeypatch.setattr(places, "_MOUNTS", table)
        with pytest.raises(StoreError, match="network file system `nfs4`"):
            places.prepare(tmp_path / "state.db")
        assert not (tmp_path / "state.db").exists()


class TestCreatePrivate:
    def test_first_wins(self, tmp_path: Path) -> None:
        """An existing file keeps its content, and no draft stays behind."""
        made = [places.create_private(tmp_path / "key", content) for content in (b"one", b"two")]
        assert ([True, False], b"one", ["key"]) == (made, (tmp_path / "key").read_bytes(), [path.name for path in tmp_path.iterdir()])
