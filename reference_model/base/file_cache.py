"""A bounded cache of small files, each of which is verified when it is read.

Files belong to groups. A group's name is a digest of everything that determines its files, so a
file never has to be compared with its origin. Several processes may use one cache: a file is
complete when it appears, and a missing file is made again.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from pathlib import Path

from reference_model.base.atomic_files import StorageError, atomic_write

_DIGEST_BYTES = hashlib.sha256().digest_size


class FileCache:
    """Files in `folder/<group>/<name>`; each starts with a SHA-256 of group, name and contents.

    An error of the disk is never raised: a cache only saves time.
    """

    def __init__(self, folder: Path, max_bytes: int):
        """Stores its arguments.

        Args:
          folder: created at the first write.
          max_bytes: size limit; above it, the least recently used groups are removed.
        """
        self._folder, self._max_bytes = folder, max_bytes

    def names(self, group: str) -> list[str]:
        """Returns the names of a group's files."""
        with contextlib.suppress(OSError):
            return sorted(p.name for p in (self._folder / group).iterdir() if p.suffix != ".part")
        return []

    def read(self, group: str, name: str) -> bytes | None:
        """Returns the contents of a file; None if it is missing.

        If the digest differs, the file was damaged or moved. It is removed and counts as missing.
        """
        path = self._folder / group / name
        with contextlib.suppress(OSError):
            content = path.read_bytes()
            data = content[_DIGEST_BYTES:]
            if _digest(group, name, data) == content[:_DIGEST_BYTES]:
                os.utime(path.parent)  # the time of the last use
                return data
            path.unlink()
        return None

    def write(self, group: str, name: str, data: bytes) -> None:
        """Writes a file, then removes the least recently used groups beyond the size limit."""
        with contextlib.suppress(StorageError, OSError):
            with atomic_write(self._folder / group / name) as stream:
                stream.write(_digest(group, name, data) + data)
            self._remove_old_groups(keep=group)

    def _remove_old_groups(self, keep: str) -> None:
        groups = [path for path in self._folder.iterdir() if path.is_dir()]
        sizes = {path: _size(path) for path in groups}
        excess = sum(sizes.values()) - self._max_bytes
        for path in sorted(groups, key=_last_use):
            if excess <= 0:
                return
            if path.name != keep:
                shutil.rmtree(path, ignore_errors=True)
                excess -= sizes[path]


def _digest(group: str, name: str, data: bytes) -> bytes:
    return hashlib.sha256(f"{group}/{name}\0".encode() + data).digest()


def _size(folder: Path) -> int:
    """Returns the bytes of a group; another process may be removing it."""
    size = 0
    for path in folder.iterdir() if folder.is_dir() else ():
        with contextlib.suppress(OSError):
            size += path.stat().st_size
    return size


def _last_use(folder: Path) -> float:
    try:
        return folder.stat().st_mtime
    except OSError:
        return 0.0
