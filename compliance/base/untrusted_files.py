"""Files: written as a whole, read within bounds."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path


def write_text(path: Path, text: str) -> None:
    """Replaces `path` by `text` (UTF-8).  Raises OSError; leaves no temporary file."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "w", encoding="utf-8", errors="backslashreplace") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


class TooLarge(OSError):
    """A file that is larger than anything of its kind."""


def read_bounded(path: Path, most: int) -> bytes:
    """The bytes of a regular file of at most `most` bytes.

    Raises TooLarge, and OSError for a pipe or a device too, which may have no end.
    """
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise OSError(errno.EINVAL, "is no regular file", str(path))
    with open(path, "rb") as stream:
        data = stream.read(most + 1)
    if len(data) > most:
        raise TooLarge(errno.EFBIG, f"is larger than {most} bytes", str(path))
    return data


def why_no_member(path: Path) -> str | None:
    """Why a file that a folder holds is not to be read as a part of it; None: it may be.

    A folder may come from anybody: a link in it would choose a file elsewhere.
    """
    if os.path.dirname(os.path.realpath(path)) != os.path.realpath(path.parent):
        return "is a link that leads out of its folder"
    return None if path.is_file() else "is no regular file"
