"""Functions shared by the processes of all peers: job, timing, memory use, answer.

This module is imported in every peer's environment, so it uses the standard library only.
"""

from __future__ import annotations

import json
import os
import platform
import re
import sys
import time
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Callable

from scripts.peers.jobs import Job

# Number of first steps excluded from a rate over a first epoch, because they trace and compile.
WARM_UP_STEPS = 50

_PACKAGES = (
    "tensorflow-cpu", "tensorflow", "keras", "tf-keras", "tf-models-official", "numpy",
    "pandas",
)  # fmt: skip


def answer_job(measure: Callable[[Job], dict[str, Any]]) -> None:
    """Reads the job from standard input, measures, prints one JSON line, ends the process.

    Args:
      measure: Returns the measured values of a job, by the names used in `summary`.
    """
    # Redirect the output of libraries to standard error, so that standard output contains
    # only the JSON line.
    sys.stdout.flush()
    out = os.dup(1)
    os.dup2(2, 1)
    job = Job.from_json(sys.stdin.read())
    measured = measure(job)
    line = {
        "peer": job.peer,
        "setting": job.setting,
        "batch_size": job.batch_size,
        "eval_batch_size": job.eval_batch_size,
        "seed": job.seed,
        "versions": package_versions(),
        **measured,
    }
    os.write(out, (json.dumps(line, allow_nan=False) + "\n").encode())
    sys.stdout.flush()
    sys.stderr.flush()
    # Exit instead of return: a background thread of a peer must not keep the process alive.
    os._exit(0)


def package_versions() -> dict[str, str]:
    """Returns the versions of Python and of the installed packages that affect speed."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


@dataclass
class Rate:
    """A count of examples, pairs or scores and the seconds that they took.

    Attributes:
      count: The total count.
      seconds: The total time in seconds.
    """

    count: int = 0
    seconds: float = 0.0

    def add(self, count: int, seconds: float) -> None:
        """Adds a count and its seconds."""
        self.count += count
        self.seconds += seconds

    def time_call(self, call: Callable[[], Any], count: Callable[[Any], int]) -> Any:
        """Calls a function and adds the elapsed time.

        Args:
          call: The function.
          count: Computes the count from the function's result.

        Returns:
          The result of the function.
        """
        start = time.perf_counter()
        result = call()
        self.add(count(result), time.perf_counter() - start)
        return result

    @property
    def per_second(self) -> float | None:
        """The rate; None before anything has been added."""
        return self.count / self.seconds if self.seconds > 0 else None


def memory_use() -> dict[str, float | None]:
    """Returns the peak memory of this process and the current private memory of its children."""
    return {"peak_mib": _peak_mib(), "children_mib": _children_mib()}


def _peak_mib() -> float | None:
    """Returns the peak resident memory of this process in MiB; None if it is unknown."""
    match = re.search(r"^VmHWM:\s*(\d+) kB", _read("/proc/self/status"), re.MULTILINE)
    if match:
        return int(match.group(1)) / 1024
    # Not Linux.
    try:
        import resource
    except ImportError:
        return None
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # macOS counts bytes, other systems KiB.
    return used / (2**20 if sys.platform == "darwin" else 2**10)


def _children_mib() -> float:
    """Returns the private memory of all descendants in MiB; other pages are shared with us."""
    total_kib, pids = 0, [os.getpid()]
    while pids:
        pid = pids.pop()
        for task in Path(f"/proc/{pid}/task").glob("*/children"):
            pids += [int(child) for child in _read(str(task)).split()]
        if pid != os.getpid():
            rollup = _read(f"/proc/{pid}/smaps_rollup")
            sizes = re.findall(r"^Private_\w+:\s*(\d+) kB", rollup, re.MULTILINE)
            total_kib += sum(map(int, sizes))
    return total_kib / 1024


def _read(path: str) -> str:
    """Returns the text of a file; empty if it is unreadable, for example of an ended process."""
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
