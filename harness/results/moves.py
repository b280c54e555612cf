"""Helpers to move whole sets: exchange two folders, find the set identifier of a folder."""

from __future__ import annotations

import ctypes
import os
import re
from pathlib import Path

from harness.logs.run_log import read_outcome
from harness.results.set_folder import runs_in

_AT_FDCWD, _RENAME_EXCHANGE = -100, 2  # fcntl.h and linux/fs.h
_SET_ID = re.compile(r"\w+")


def exchange_folders(first: Path, second: Path) -> bool:
    """Exchanges two folders atomically.

    Args:
      first: An existing folder.
      second: Another existing folder on the same file system.

    Returns:
      Whether they were exchanged; not every system and file system supports it (renameat2(2)).
    """
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):
        return False
    return rename(_AT_FDCWD, os.fsencode(first), _AT_FDCWD, os.fsencode(second),
                  _RENAME_EXCHANGE) == 0  # fmt: skip


def set_id_in_logs(folder: Path) -> str | None:
    """Returns the identifier of the set in a folder, from the first log of the folder.

    Returns:
      The identifier; "unknown" if the log contains no valid one; None if there is no log.
    """
    log = next(iter(runs_in(folder).values()), None)
    if log is None:
        return None
    attempt = read_outcome(log).attempt
    is_name = attempt is not None and _SET_ID.fullmatch(attempt[0])
    return attempt[0] if is_name else "unknown"
