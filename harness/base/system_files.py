"""Reads files of /proc and /sys; containers and other systems lack some of them."""

from __future__ import annotations

import os
import re
from pathlib import Path

_LIMIT = 1 << 20


def read_text(path: str | Path) -> str | None:
    """Returns the text of a file, without white space at its ends; None if it cannot be read."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(_LIMIT).strip()
    except OSError:
        return None


def read_int(path: str | Path) -> int | None:
    """Returns the whole number in a file; None if there is none."""
    text = read_text(path)
    return int(text) if text is not None and re.fullmatch(r"-?\d{1,20}", text) else None


def meminfo(root: Path = Path("/")) -> dict[str, int]:
    """Returns the fields of /proc/meminfo in bytes; empty if the file cannot be read."""
    text = read_text(root / "proc/meminfo") or ""
    found = re.findall(r"^(\w+):\s+(\d+) kB$", text, re.MULTILINE)
    return {name: int(kib) << 10 for name, kib in found}


def usable_cpu_folders(root: Path = Path("/")) -> list[Path]:
    """Returns /sys/devices/system/cpu/cpuN of each processor that this process may use."""
    folder = root / "sys/devices/system/cpu"
    try:
        numbers = sorted(os.sched_getaffinity(0))
    except AttributeError:
        numbers = list(range(os.cpu_count() or 1))
    return [path for path in (folder / f"cpu{number}" for number in numbers) if path.is_dir()]


def cpu_quota(root: Path = Path("/")) -> float | None:
    """Returns the processors that the control group of a container grants; None for no limit."""
    folder = root / "sys/fs/cgroup"
    text = read_text(folder / "cpu.max")  # version 2: "150000 100000" or "max 100000"
    if text is not None:
        found = re.fullmatch(r"(\d+) (\d+)", text)
        quota, period = (int(found[1]), int(found[2])) if found else (None, None)
    else:
        quota = read_int(folder / "cpu/cpu.cfs_quota_us")
        period = read_int(folder / "cpu/cpu.cfs_period_us")
    return quota / period if quota and period and quota > 0 else None


def memory_limit(root: Path = Path("/")) -> int | None:
    """Returns the free bytes below the memory limit of the control group; None for no limit."""
    folder = root / "sys/fs/cgroup"
    limit, used = read_int(folder / "memory.max"), read_int(folder / "memory.current")
    if limit is None:
        limit = read_int(folder / "memory/memory.limit_in_bytes")
        used = read_int(folder / "memory/memory.usage_in_bytes")
    # Version 1 writes a number near 2^63 for no limit.
    if limit is None or used is None or limit > 1 << 60:
        return None
    return max(0, limit - used)


def available_memory(root: Path = Path("/")) -> int | None:
    """Returns the bytes that a new process can have: the system's or the container's; or None."""
    known = (meminfo(root).get("MemAvailable"), memory_limit(root))
    return min((value for value in known if value is not None), default=None)
