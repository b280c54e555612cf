"""What every peer's process does alike: read its job, time, count memory, answer.

Imported in every peer's environment, so the standard library only.
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

# Steps of a first epoch that a rate over steps leaves out: tracing, compilation.
WARM_UP_STEPS = 50

_PACKAGES = (
    "tensorflow-cpu", "tensorflow", "keras", "tf-keras", "tf-models-official", "numpy",
    "pandas",
)  # fmt: skip


def answer(measure: Callable[[Job], dict[str, Any]]) -> None:
    """Reads the job, measures, prints one JSON line and ends the process.

    Whatever a library prints goes to standard error, so that the line is alone.
    """
    sys.stdout.flush()
    out = os.dup(1)
    os.dup2(2, 1)
    job = Job.from_json(sys.stdin.read())
    figures = measure(job)
    line = {
        "peer": job.peer,
        "setting": job.setting,
        "batch_size": job.batch_size,
        "eval_batch_size": job.eval_batch_size,
        "seed": job.seed,
        "versions": versions(),
        **figures,
    }
    os.write(out, (json.dumps(line, allow_nan=False) + "\n").encode())
    sys.stdout.flush()
    sys.stderr.flush()
    # Not by returning: a background thread of a peer must not keep the process.
    os._exit(0)


def versions() -> dict[str, str]:
    """Installed versions of the packages that matter."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


@dataclass
class Rate:
    """Things done and the seconds they took."""

    count: int = 0
    seconds: float = 0.0

    def add(self, count: int, seconds: float) -> None:
        self.count += count
        self.seconds += seconds

    def timed(self, call: Callable[[], Any], count: Callable[[Any], int]) -> Any:
        """Calls, and adds the time that it took; `count` of its result is what it did."""
        start = time.perf_counter()
        result = call()
        self.add(count(result), time.perf_counter() - start)
        return result

    @property
    def per_second(self) -> float | None:
        return self.count / self.seconds if self.seconds > 0 else None


def memory() -> dict[str, float | None]:
    """MiB: this process's peak, and what its children hold that it does not."""
    return {"peak_mib": _peak_mib(), "children_mib": _children_mib()}


def _peak_mib() -> float | None:
    found = re.search(r"^VmHWM:\s*(\d+) kB", _read("/proc/self/status"), re.MULTILINE)
    if found:
        return int(found.group(1)) / 1024
    try:
        import resource
    except ImportError:
        return None
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used / (2**20 if sys.platform == "darwin" else 2**10)


def _children_mib() -> float:
    """Private pages of all children now: a forked child shares the others with us."""
    total, waiting = 0, [os.getpid()]
    while waiting:
        pid = waiting.pop()
        for task in Path(f"/proc/{pid}/task").glob("*/children"):
            waiting += [int(child) for child in _read(str(task)).split()]
        if pid != os.getpid():
            rollup = _read(f"/proc/{pid}/smaps_rollup")
            total += sum(map(int, re.findall(r"^Private_\w+:\s*(\d+) kB", rollup, re.MULTILINE)))
    return total / 1024


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
