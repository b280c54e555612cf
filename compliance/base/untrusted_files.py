"""Reads untrusted files within size limits, and replaces files atomically."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path


def write_text(path: Path, text: str) -> None:
    """Replaces a file's content atomically: a reader never sees a part of the text.

    Args:
      path: The file; its folder must exist.
      text: The content, written in UTF-8 (surrogates as backslash escapes).

    Raises:
      OSError: The file could not be written. The old file is unchanged, and no temporary
        file is left.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "w", encoding="utf-8", errors="backslashreplace") as stream:
            stream.write(text)
            stream.flush()
            # The content must be on the disk before the rename.
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


class TooLarge(OSError):
    """A file that is larger than the limit for its kind."""


def read_bounded(path: Path, max_bytes: int) -> bytes:
    """Reads a regular file of at most a given size.

    Args:
      path: The file.
      max_bytes: The largest size allowed.

    Raises:
      TooLarge: The file is larger.
      OSError: The file cannot be read, or is a pipe or a device, which may never end.
    """
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise OSError(errno.EINVAL, "is not a regular file", str(path))
    with open(path, "rb") as stream:
        # Reading one byte more than allowed detects a file that is too large.
        data = stream.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise TooLarge(errno.EFBIG, f"is larger than {max_bytes} bytes", str(path))
    return data


def unsafe_path_reason(path: Path) -> str | None:
    """Returns the reason why a file found in a folder must not be read.

    The folder is untrusted: a link in it may point to a file elsewhere, and reading a pipe or
    a device may never end.

    Args:
      path: The path of a file, as found in its folder.

    Returns:
      The reason, which follows the file's name in a message; None if the file may be read.
    """
    if os.path.dirname(os.path.realpath(path)) != os.path.realpath(path.parent):
        return "is a link to a file outside its folder"
    return None if path.is_file() else "is not a regular file"
