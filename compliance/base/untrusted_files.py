"""Reads files that anybody may have made, within bounds, and replaces files as a whole."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path


def write_text(path: Path, text: str) -> None:
    """Replaces a file by the text, as a whole: a reader never sees a part of it.

    Args:
      path: The file; its folder must exist.
      text: The content, written in UTF-8 (surrogates as backslash escapes).

    Raises:
      OSError: The file could not be written; the old one is unchanged, and no temporary
        file is left.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "w", encoding="utf-8", errors="backslashreplace") as stream:
            stream.write(text)
            stream.flush()
            # The content must be on the disk before the new name is.
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


class TooLarge(OSError):
    """A file that is larger than any honest file of its kind."""


def read_bounded(path: Path, max_bytes: int) -> bytes:
    """Reads a regular file that may have at most a given size.

    Args:
      path: The file.
      max_bytes: The largest size allowed.

    Raises:
      TooLarge: The file is larger.
      OSError: The file cannot be read, or is a pipe or a device, which may have no end.
    """
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise OSError(errno.EINVAL, "is no regular file", str(path))
    with open(path, "rb") as stream:
        # One byte more than allowed tells whether the file is too large.
        data = stream.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise TooLarge(errno.EFBIG, f"is larger than {max_bytes} bytes", str(path))
    return data


def unsafe_path_reason(path: Path) -> str | None:
    """Says why a file found in a folder must not be read as a part of that folder.

    Anybody may have made the folder: a link in it would choose a file elsewhere, and
    reading a pipe or a device might never end.

    Args:
      path: The path of a file, as found in its folder.

    Returns:
      The reason, to follow the file's name in a message; None if the file may be read.
    """
    if os.path.dirname(os.path.realpath(path)) != os.path.realpath(path.parent):
        return "is a link that leads out of its folder"
    return None if path.is_file() else "is no regular file"
