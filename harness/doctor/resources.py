"""What a run would use: software, processors, memory, disk, caches."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from harness.base import machine, page_cache
from harness.base.system_files import available_memory, cpu_quota
from harness.config.run_config import RunConfig
from harness.doctor.findings import NOT_FIT, NOTE, OK, UNKNOWN, Finding

# Peak memory of a run on a CPU: docs/scaling.md.
_PROCESS_BYTES, _BYTES_PER_POSITIVE, _BYTES_PER_USER = 0.8 * 2**30, 16.3, 8_000
# Less free space than this does not hold the data of a small track, and its logs.
_LEAST_DISK, _LITTLE_DISK = 100 << 20, 1 << 30
_SHOWN_VERSIONS = ("python", "tensorflow", "tensorflow-cpu", "tensorflow-tpu", "keras", "jax",
                   "numpy")  # fmt: skip


def examine_resources(config: RunConfig, root: Path = Path("/")) -> list[Finding]:
    """Returns the findings about software, processors, memory, disk and caches.

    Args:
      config: The settings of the run.
      root: The folder that contains proc/ and sys/.
    """
    return [_versions(), *_threads(config, root), _memory(config, root), *_disk(config),
            _caches(config, root)]  # fmt: skip


def _versions() -> Finding:
    versions = machine.versions()
    shown = [f"{name} {versions[name]}" for name in _SHOWN_VERSIONS if name in versions]
    return Finding(OK, "versions", ", ".join(shown))


def _threads(config: RunConfig, root: Path) -> list[Finding]:
    usable = machine.usable_cpus()
    wanted = config.intra_op_threads
    total = os.cpu_count() or usable
    text = f"{machine.cpu_model()}: {usable} of {total} CPUs"
    text += f", {wanted} threads (--intra_op_threads)" if wanted else ", a thread for each"
    findings = [Finding(OK, "threads", text)]
    if wanted and wanted > usable:
        findings = [Finding(NOTE, "threads", f"{text}: more threads than CPUs",
                            f"--intra_op_threads={usable}, or without that flag")]  # fmt: skip
    quota = cpu_quota(root)
    if quota is not None and quota < min(wanted or usable, usable):
        findings.append(Finding(
            NOT_FIT, "CPU quota", f"the container gets the time of {quota:g} CPUs for more "
            "threads, and stops them when it is used up",
            f"raise the quota, or pin the container to CPUs (docker run --cpuset-cpus=0-"
            f"{max(int(quota) - 1, 0)})"))  # fmt: skip
    return findings


def _memory(config: RunConfig, root: Path) -> Finding:
    available = available_memory(root)
    if available is None:
        return Finding(UNKNOWN, "memory", "this system does not tell how much is available")
    dataset = config.track.dataset
    needed = (_PROCESS_BYTES + _BYTES_PER_POSITIVE * (dataset.num_positives or 0)
              + _BYTES_PER_USER * (dataset.num_users or 0))  # fmt: skip
    text = f"{available / 2**30:.1f} GiB available; a run of {config.track_name} on a CPU takes " \
           f"about {needed / 2**30:.1f} GiB"  # fmt: skip
    if available < needed:
        return Finding(NOT_FIT, "memory", text, "stop programs that use memory, or use a machine "
                       "with more of it")  # fmt: skip
    return Finding(OK, "memory", text)


def _disk(config: RunConfig) -> list[Finding]:
    findings, seen = [], set()
    for flag, folder in (("data_dir", config.data_dir), ("results_dir", config.results_dir)):
        path = Path(folder)
        while not path.exists():  # it is created by the first run
            path = path.parent
        try:
            free, device = shutil.disk_usage(path).free, path.stat().st_dev
        except OSError as error:
            findings.append(Finding(UNKNOWN, "disk", f"{path}: {error.strerror}"))
            continue
        if device in seen:
            continue
        seen.add(device)
        state = NOT_FIT if free < _LEAST_DISK else NOTE if free < _LITTLE_DISK else OK
        fix = "" if state == OK else f"free space, or use another --{flag}"
        findings.append(Finding(state, "disk", f"{free / 2**30:.1f} GiB free for {folder}", fix))
    return findings


def _caches(config: RunConfig, root: Path) -> Finding:
    if config.clear_caches == "skip":
        return Finding(NOTE, "caches", "not cleared before a run (--clear_caches=skip)",
                       "without that flag they are cleared if possible")  # fmt: skip
    possible = page_cache.can_clear(root / page_cache.DROP_CACHES.relative_to("/"))
    if possible.done:
        return Finding(OK, "caches", f"can be cleared before a run ({possible.reason})")
    is_required = config.clear_caches == "require"
    return Finding(NOT_FIT if is_required else NOTE, "caches",
                   f"cannot be cleared before a run ({possible.reason}); check will warn",
                   "run as root, or allow sudo tee /proc/sys/vm/drop_caches")  # fmt: skip
