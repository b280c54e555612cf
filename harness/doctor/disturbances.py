"""What would disturb a run: load, steal, frequency, swap, clock, an edited checkout."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path
from typing import NamedTuple

from harness.base import machine
from harness.base.machine_load import MachineLoad
from harness.base.system_files import meminfo, read_int, read_text, usable_cpu_folders
from harness.config.run_config import RunConfig
from harness.doctor.findings import NOT_FIT, NOTE, OK, UNKNOWN, Finding
from harness.logs.provenance import clock_source

# Shares of the usable processors' time that others take: a remark, and not fit. A run that uses all
# processors loses about that share of its speed.
_OTHERS_NOTE, _OTHERS_UNFIT = 0.03, 0.1
_STEAL_NOTE, _STEAL_UNFIT = 0.01, 0.05
# Clock sources that are read by a system call of about a microsecond or more.
_SLOW_CLOCKS = ("hpet", "acpi_pm", "jiffies", "pit")
_SHOWN_PROGRAMS = 3


class SystemState(NamedTuple):
    """Counters of the system at one time.

    Attributes:
      monotonic: Seconds of the monotonic clock.
      cpu_seconds: (name of the program, CPU seconds) of each process, by its id.
      swapped: Pages that were swapped in or out so far; None if unknown.
    """

    monotonic: float
    cpu_seconds: dict[int, tuple[str, float]]
    swapped: int | None


def read_state(root: Path = Path("/")) -> SystemState:
    """Reads the counters."""
    vmstat = read_text(root / "proc/vmstat") or ""
    pages = re.findall(r"^pswp(?:in|out) (\d+)$", vmstat, re.MULTILINE)
    return SystemState(
        time.monotonic(), _cpu_seconds_of_processes(root), sum(map(int, pages)) if pages else None
    )


def examine_disturbances(
    config: RunConfig, load: MachineLoad, before: SystemState, root: Path = Path("/")
) -> list[Finding]:
    """Returns the findings.

    Args:
      config: The settings of the run.
      load: The load during the measurement.
      before: The counters before the measurement.
      root: The folder that contains proc/ and sys/.
    """
    after = read_state(root)
    return [
        _load(load, _busiest(before, after)), _steal(load), _governor(root), _turbo(root),
        _swap(before, after, root), _clock(), _checkout(config),
    ]  # fmt: skip


def _load(load: MachineLoad, programs: str) -> Finding:
    minute = "" if load.load_1min is None else f"; load average {load.load_1min:.2f}"
    if load.other_cpus is None:
        return Finding(UNKNOWN, "load", "this system does not tell what other programs use"
                       + minute)  # fmt: skip
    text = f"other programs use {load.other_cpus:.2f} of {load.cpus} CPUs{minute}"
    share = load.other_cpus / load.cpus
    if share < _OTHERS_NOTE:
        return Finding(OK, "load", text)
    fix = f"stop them: {programs}" if programs else \
        "stop them; they belong to the host or to another container"  # fmt: skip
    return Finding(NOT_FIT if share >= _OTHERS_UNFIT else NOTE, "load", text, fix)


def _cpu_seconds_of_processes(root: Path) -> dict[int, tuple[str, float]]:
    """Returns (name, CPU seconds) of each process that can be seen, by its id."""
    found = {}
    try:
        folders = [path for path in (root / "proc").iterdir() if path.name.isdigit()]
        ticks = os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, AttributeError):
        return {}
    for folder in folders:
        # "pid (name) state ...": the name may contain spaces and parentheses (proc_pid_stat(5)).
        parsed = re.match(r"\d+ \((.*)\) (.*)", read_text(folder / "stat") or "", re.DOTALL)
        fields = parsed[2].split() if parsed else []
        if len(fields) > 12 and fields[11].isdigit() and fields[12].isdigit():
            seconds = (int(fields[11]) + int(fields[12])) / ticks
            found[int(folder.name)] = (parsed[1], seconds)
    return found


def _busiest(before: SystemState, after: SystemState) -> str:
    """Names the other programs that used most CPU time between two states."""
    elapsed = max(after.monotonic - before.monotonic, 1e-9)
    used = []
    for process, (name, seconds) in after.cpu_seconds.items():
        earlier = before.cpu_seconds.get(process, (name, 0.0))[1]
        if process != os.getpid() and seconds - earlier >= 0.02 * elapsed:
            used.append(((seconds - earlier) / elapsed, name, process))
    used.sort(reverse=True)
    return ", ".join(f"{name} (process {process}, {cpus:.2f} CPUs)"
                     for cpus, name, process in used[:_SHOWN_PROGRAMS])  # fmt: skip


def _steal(load: MachineLoad) -> Finding:
    if load.steal_share is None:
        return Finding(UNKNOWN, "steal", "this system does not count time that a hypervisor takes")
    text = f"the hypervisor took {load.steal_share:.1%} of the CPUs' time for other machines"
    if load.steal_share < _STEAL_NOTE:
        return Finding(OK, "steal", text)
    state = NOT_FIT if load.steal_share >= _STEAL_UNFIT else NOTE
    return Finding(state, "steal", text, "use a virtual machine with dedicated CPUs, or a host of "
                   "your own")  # fmt: skip


def _governor(root: Path) -> Finding:
    texts = {read_text(cpu / "cpufreq/scaling_governor") for cpu in usable_cpu_folders(root)}
    governors = sorted(text for text in texts if text)
    if not governors:
        return Finding(UNKNOWN, "governor", "this system does not show the frequency governor")
    text = f"frequency governor: {', '.join(governors)}"
    if governors == ["performance"]:
        return Finding(OK, "governor", text)
    return Finding(NOTE, "governor", text, "sudo cpupower frequency-set --governor performance")


def _turbo(root: Path) -> Finding:
    folder = root / "sys/devices/system/cpu"
    for name, value_if_on in (("intel_pstate/no_turbo", 0), ("cpufreq/boost", 1)):
        value = read_int(folder / name)
        if value is None:
            continue
        if value != value_if_on:
            return Finding(OK, "turbo", "turbo frequencies are off")
        return Finding(
            NOTE, "turbo", "turbo frequencies are on: the speed depends on temperature and on the "
            "number of busy cores",
            f"for comparisons: echo {1 - value_if_on} | sudo tee "
            f"/{(folder / name).relative_to(root)}",
        )  # fmt: skip
    return Finding(UNKNOWN, "turbo", "this system does not show whether the frequency is fixed")


def _swap(before: SystemState, after: SystemState, root: Path) -> Finding:
    memory = meminfo(root)
    if "SwapTotal" not in memory or "SwapFree" not in memory:
        return Finding(UNKNOWN, "swap", "this system does not show how much is swapped")
    used = memory["SwapTotal"] - memory["SwapFree"]
    if before.swapped is not None and after.swapped is not None and after.swapped > before.swapped:
        return Finding(NOT_FIT, "swap", f"{after.swapped - before.swapped} pages were swapped "
                       "during the measurement", "stop programs that use memory")  # fmt: skip
    if used:
        return Finding(NOTE, "swap", f"{used / 2**20:.0f} MiB are swapped out, but none now",
                       "sudo swapoff --all, if memory is free")  # fmt: skip
    return Finding(OK, "swap", "not in use")


def _clock() -> Finding:
    source = clock_source()
    if source == "unknown":
        return Finding(UNKNOWN, "clock", "this system does not show its clock source")
    if source in _SLOW_CLOCKS:
        return Finding(NOTE, "clock", f"clock source {source}, which is slow to read",
                       "boot with clocksource=tsc, if the processor's is reliable")  # fmt: skip
    return Finding(OK, "clock", f"clock source {source}")


def _checkout(config: RunConfig) -> Finding:
    state = machine.source_state(config.system_dir)
    if state["dirty"] is None:
        return Finding(UNKNOWN, "checkout", "not a git checkout, or git is missing")
    commit = str(state["commit"])[:12]
    if state["dirty"]:
        return Finding(NOTE, "checkout", f"commit {commit} with uncommitted changes; every log "
                       "says so", "commit or stash them")  # fmt: skip
    return Finding(OK, "checkout", f"commit {commit}, no uncommitted changes")
