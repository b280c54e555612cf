"""Clears the system's file caches before a run and reports whether that succeeded.

A run that finds its dataset in the page cache reads it faster than a first run would.
Linux drops the cache on a write to /proc/sys/vm/drop_caches, which only root may do.
It drops clean pages only. The prepared dataset is clean, because it was synced when it
was written. No `sync` of the whole system comes first: it would wait for writes of
other programs, and the run reads none of those pages.
"""

from __future__ import annotations

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
    """Clears the caches as `--clear_caches` says.

    Never raises: the caller decides whether a refusal matters.

    Args:
      mode: "auto", "require" or "skip".
      drop_caches: The file of the kernel that drops the caches.
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
