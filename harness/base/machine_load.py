"""Measures what else uses the processors of this machine.

Linux counts the time of each processor in /proc/stat: in programs, idle, and stolen by the
hypervisor for other virtual machines. The time in programs without that of this process is the
time of other programs. A container shows the counters of its host. On a system without them the
values are None.
"""

from __future__ import annotations

import os
import re
import time
from pathlib import Path
from typing import Any, NamedTuple

from harness.base.machine import usable_cpus

_STAT = Path("/proc/stat")
# Positions in a line "cpu0 user nice system idle iowait irq softirq steal ..." (proc_stat(5)).
_BUSY, _STEAL, _ALL = (0, 1, 2, 5, 6), 7, range(8)


class MachineLoad(NamedTuple):
    """The load of the processors that this process may use, over some time.

    Attributes:
      seconds: The time.
      cpus: The number of processors.
      load_1min: Mean number of runnable threads of the machine in the last minute, this
        process's included; None if the system does not count them.
      other_cpus: Mean number of processors that other programs used; None if unknown.
      steal_share: Share of the processors' time that the hypervisor gave to other machines;
        None if unknown.
    """

    seconds: float
    cpus: int
    load_1min: float | None
    other_cpus: float | None
    steal_share: float | None

    def as_json(self) -> dict[str, Any]:
        """Returns the value of the log record `machine_load`."""
        return {name: round(value, 4) if isinstance(value, float) else value
                for name, value in self._asdict().items()}


class LoadMeter:
    """Measures the load from its creation, or the last `measure`, to the next `measure`.

    Args:
      stat: The kernel's file with the times of the processors.
    """

    def __init__(self, stat: Path = _STAT):
        self._stat = stat
        self._last = self._read()

    def measure(self) -> MachineLoad:
        """Returns the load since the last call, and begins the next measurement."""
        (then, used_then, ticks_then), self._last = self._last, self._read()
        now, used, ticks = self._last
        seconds = max(now - then, 1e-9)
        other = steal = None
        # A container runtime may show the file with zeros only.
        if ticks is not None and ticks_then is not None and ticks != ticks_then:
            busy, stolen, total = (new - old for new, old in zip(ticks, ticks_then))
            if total > 0:
                other = max(0.0, busy / os.sysconf("SC_CLK_TCK") - (used - used_then)) / seconds
                steal = max(0.0, stolen / total)
        return MachineLoad(seconds, usable_cpus(), _load_1min(), other, steal)

    def _read(self) -> tuple[float, float, tuple[int, int, int] | None]:
        """Returns (seconds, this process's processor seconds, (busy, stolen, all) ticks)."""
        times = os.times()
        used = times.user + times.system + times.children_user + times.children_system
        return time.monotonic(), used, self._read_ticks()

    def _read_ticks(self) -> tuple[int, int, int] | None:
        try:
            text = self._stat.read_text(errors="replace")
            usable = os.sched_getaffinity(0)
        except (OSError, AttributeError):
            return None
        rows = [[int(n) for n in row.split()] for cpu, row in
                re.findall(r"^cpu(\d+)((?: \d+){8,})", text, re.MULTILINE) if int(cpu) in usable]
        if not rows:
            return None
        return (sum(row[i] for row in rows for i in _BUSY), sum(row[_STEAL] for row in rows),
                sum(row[i] for row in rows for i in _ALL))


def _load_1min() -> float | None:
    try:
        return round(os.getloadavg()[0], 2)
    except (OSError, AttributeError):
        return None
