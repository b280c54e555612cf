"""Clears the system's file caches before a run and reports whether that succeeded.

If the dataset is in the page cache, a run reads it faster than a first run would.
Linux drops the cache on a write to /proc/sys/vm/drop_caches, which requires root.
It drops only clean pages. The pages of the prepared dataset are clean, because it was
synced when it was written. We do not `sync` the whole system first: that would wait
for other programs' writes, and the run reads none of their pages.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import NamedTuple

DROP_CACHES = Path("/proc/sys/vm/drop_caches")
# Page cache, directory entries and inodes (Linux, Documentation/admin-guide/sysctl/vm).
_DROP_ALL = b"3\n"
_SUDO_TIMEOUT_S = 60


class ClearResult(NamedTuple):
    """The outcome of an attempt to clear the caches.

    Attributes:
      done: Whether the caches were cleared.
      reason: How they were cleared, or why not, in a few words.
    """

    done: bool
    reason: str


def clear(mode: str, drop_caches: Path = DROP_CACHES) -> ClearResult:
    """Clears the caches according to `--clear_caches`.

    Never raises: the caller decides whether a failure matters.

    Args:
      mode: "auto", "require" or "skip".
      drop_caches: The kernel's file that drops the caches when written.
    """
    if mode == "skip":
        return ClearResult(False, "skipped by --clear_caches=skip")
    if not drop_caches.exists():
        return ClearResult(False, "this system has no drop_caches")
    try:
        drop_caches.write_bytes(_DROP_ALL)
        return ClearResult(True, "drop_caches")
    except OSError as error:
        refused = error.strerror or "refused"
    if _clear_with_sudo(drop_caches):
        return ClearResult(True, "drop_caches by sudo")
    return ClearResult(False, f"drop_caches: {refused.lower()}")


def can_clear(drop_caches: Path = DROP_CACHES) -> ClearResult:
    """Says whether `clear` would clear the caches; clears nothing."""
    if not drop_caches.exists():
        return ClearResult(False, "this system has no drop_caches")
    if os.access(drop_caches, os.W_OK):
        return ClearResult(True, "drop_caches")
    try:  # asks sudo what it permits, without a password
        done = subprocess.run(
            ["sudo", "-n", "-l", "tee", str(drop_caches)], stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=_SUDO_TIMEOUT_S,
        )  # fmt: skip
        is_permitted = done.returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        is_permitted = False
    if is_permitted:
        return ClearResult(True, "drop_caches by sudo")
    return ClearResult(False, "drop_caches: not permitted")


def _clear_with_sudo(drop_caches: Path) -> bool:
    """Writes to `drop_caches` with `sudo -n`, which never asks for a password."""
    try:
        done = subprocess.run(
            ["sudo", "-n", "tee", str(drop_caches)],
            input=_DROP_ALL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=_SUDO_TIMEOUT_S,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0
