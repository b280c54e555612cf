"""Clearing the system's file caches before a run, and saying honestly whether.

A run that finds its dataset in the page cache reads faster than a first run
would. Linux drops the cache on a write to /proc/sys/vm/drop_caches, which only
root may do. It drops clean pages only; the prepared dataset is clean, since it was
synced when it was written. A sync of the whole system would wait for whatever
else the machine is writing, for no page that the run reads.
"""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import NamedTuple

DROP_CACHES = Path("/proc/sys/vm/drop_caches")
# Page cache, directory entries and inodes (Linux, Documentation/admin-guide/sysctl/vm).
_DROP_ALL = b"3\n"
_SUDO_TIMEOUT_S = 60


class Cleared(NamedTuple):
    """Whether the caches were cleared, and how or why not, in a few words."""

    done: bool
    reason: str


def clear(mode: str, drop_caches: Path = DROP_CACHES) -> Cleared:
    """Clears the caches as `--clear_caches` (auto, require, skip) says.

    Never raises: whether a refusal matters is the caller's to decide.
    """
    if mode == "skip":
        return Cleared(False, "skipped by --clear_caches=skip")
    if not drop_caches.exists():
        return Cleared(False, "this system has no drop_caches")
    try:
        drop_caches.write_bytes(_DROP_ALL)
        return Cleared(True, "drop_caches")
    except OSError as error:
        refused = error.strerror or "refused"
    if _sudo(drop_caches):
        return Cleared(True, "drop_caches by sudo")
    return Cleared(False, f"drop_caches: {refused.lower()}")


def _sudo(drop_caches: Path) -> bool:
    """Tries the same by `sudo -n`, which never asks for a password."""
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
