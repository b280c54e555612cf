"""Describes the machine and the software that produced a set of runs: `system.json`.

The field names are those of MLPerf's system description. A field that this program
cannot determine (cooling, interconnects) is an empty string, which the submitter fills
in. Extra fields contain the environment variables that affect speed, the library
versions, the number of usable CPUs and the state of the source tree.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

PROJECT_ROOT = Path(__file__).resolve().parents[2]

# Environment variables that affect the speed of a run.
_SPEED_VARIABLES = re.compile(
    r"(XLA_FLAGS|TF_\w+|TF2_\w+|OMP_\w+|KMP_\w+|MKL_\w+|NCCL_\w+|CUDA_\w+|KERAS_\w+"
    r"|ONEDNN_\w+|LD_PRELOAD|MALLOC_\w+|TPU_\w+)"
)
# Never published: TF_CONFIG contains addresses; the others are Terraform's, not TensorFlow's,
# and TF_VAR_* often contain passwords.
_PRIVATE_VARIABLES = re.compile(
    r"TF_(CONFIG|VAR_\w+|CLI_\w+|TOKEN_\w+|LOG|DATA_DIR|WORKSPACE|INPUT|PLUGIN\w*)"
)
_PACKAGES = (
    "tensorflow", "tensorflow-cpu", "tensorflow-tpu", "keras", "numpy", "pandas",
    "absl-py", "mlperf-logging", "PyYAML", "h5py", "ml_dtypes", "nvidia-cudnn-cu12", "jax",
    "jaxlib",
    "neumf-bench",
)  # fmt: skip
_COMMAND_TIMEOUT_S = 20


class Gpu(NamedTuple):
    """One GPU as nvidia-smi reports it; all values are strings, with their units."""

    name: str
    memory: str
    driver: str


def command_output(*command: str, cwd: Path | None = None) -> str | None:
    """Returns the standard output of a command; None if it does not exist or fails."""
    if shutil.which(command[0]) is None:
        return None
    try:
        done = subprocess.run(
            command, cwd=cwd, capture_output=True, text=True, errors="replace",
            stdin=subprocess.DEVNULL, timeout=_COMMAND_TIMEOUT_S,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _read_text(path: str) -> str:
    """Returns a file's text; an empty string if it cannot be read."""
    try:
        return Path(path).read_text(errors="replace")
    except OSError:
        return ""


def gpus() -> list[Gpu]:
    """Returns the GPUs that nvidia-smi lists; an empty list if it is missing or fails."""
    text = command_output(
        "nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"
    )
    rows = [line.split(",") for line in (text or "").splitlines()]
    return [Gpu(*(part.strip() for part in row)) for row in rows if len(row) == 3]


def cpu_model() -> str:
    """Returns the processor's model name; "unknown" if the system does not report it."""
    # The field's name in /proc/cpuinfo depends on the architecture (x86, Arm, MIPS).
    for name in ("model name", "Hardware", "cpu model"):
        found = re.search(rf"^{name}\s*:\s*(.+)$", _read_text("/proc/cpuinfo"), re.MULTILINE)
        if found:
            return " ".join(found.group(1).split())
    return platform.processor() or platform.machine() or "unknown"


def cpu_features() -> str:
    """Returns the instruction set extensions of the processor, as the kernel lists them."""
    # x86 has "flags", Arm "Features", RISC-V "isa".
    pattern = r"^(flags|Features|isa)\s*:\s*(.+)$"
    found = re.search(pattern, _read_text("/proc/cpuinfo"), re.MULTILINE)
    return found.group(2) if found else ""


def usable_cpus() -> int:
    """Returns the number of processors this process may use (fewer in some containers)."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not available on every operating system
        return os.cpu_count() or 1


def default_system_name(device: str = "auto") -> str:
    """Returns a folder name for this machine, derived from its GPUs or its processor.

    Args:
      device: The value of `--device`; "cpu" names the processor even if GPUs exist.

    Returns:
      At most 48 lower-case letters, digits, dots and hyphens, such as "amd-epyc-2cpu".
    """
    found = [] if device == "cpu" else gpus()
    if found:
        text = f"{len(found)}x-{found[0].name}"
    else:
        text = f"{cpu_model()}-{usable_cpus()}cpu"
    # Drop trademarks, the word "CPU" and the clock rate ("@ 2.20GHz") from the model name.
    text = re.sub(r"\((r|tm)\)|\bcpu\b|@.*(?=-)", " ", text.lower())
    return re.sub(r"[^a-z0-9.]+", "-", text).strip("-.")[:48] or "machine"


def _cpu_topology() -> tuple[int, int]:
    """Returns (sockets, physical cores) from /proc/cpuinfo; (1, CPUs) if it lacks them."""
    pairs = set()
    # One block per logical processor; logical processors of one core have equal pairs of ids.
    for block in _read_text("/proc/cpuinfo").split("\n\n"):
        found = dict(re.findall(r"^(physical id|core id)\s*:\s*(\d+)$", block, re.MULTILINE))
        if len(found) == 2:
            pairs.add((found["physical id"], found["core id"]))
    if not pairs:
        return 1, os.cpu_count() or 1
    return len({socket for socket, _ in pairs}), len(pairs)


def _lscpu() -> dict[str, str]:
    """Returns the fields of `lscpu` by name; empty if the command is missing."""
    lines = (command_output("lscpu") or "").splitlines()
    pairs = (line.split(":", 1) for line in lines if ":" in line)
    return {key.strip(): value.strip() for key, value in pairs}


def _memory_capacity() -> str:
    """Returns the main memory's size such as "16 GiB"; empty if it is unknown."""
    found = re.search(r"MemTotal:\s*(\d+) kB", _read_text("/proc/meminfo"))
    return f"{int(found.group(1)) / 2**20:.0f} GiB" if found else ""


def _operating_system() -> str:
    """Returns the distribution's name and the kernel's release."""
    found = re.search(r'^PRETTY_NAME="?(.*?)"?$', _read_text("/etc/os-release"), re.MULTILINE)
    name = found.group(1) if found else platform.system()
    return f"{name}, {platform.system()} {platform.release()}"


def versions() -> dict[str, str]:
    """Returns the installed versions of the relevant libraries; imports none of them."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def environment() -> dict[str, str]:
    """Returns the environment variables that affect speed, by name."""
    names = (name for name in sorted(os.environ) if _SPEED_VARIABLES.fullmatch(name))
    return {name: os.environ[name] for name in names if not _PRIVATE_VARIABLES.fullmatch(name)}


def source_state(results_dir: Path | None = None) -> dict[str, Any]:
    """Returns the commit of the source tree and whether it has uncommitted changes.

    Args:
      results_dir: Folder of results; they do not count as changes, nor do files that git
        ignores.

    Returns:
      {"commit": hash, "dirty": bool}; both None if the source is not a git checkout.
    """
    commit = command_output("git", "rev-parse", "HEAD", cwd=PROJECT_ROOT)
    top = command_output("git", "rev-parse", "--show-toplevel", cwd=PROJECT_ROOT)
    # A project that was unpacked inside another repository must not report its commit.
    if top is None or Path(top).resolve() != PROJECT_ROOT:
        return {"commit": None, "dirty": None}
    paths = ["."]  # .gitignore excludes results/ except results/example_*
    if results_dir is not None and PROJECT_ROOT in Path(results_dir).resolve().parents:
        relative = Path(results_dir).resolve().relative_to(PROJECT_ROOT)
        paths.append(f":!{relative.as_posix()}")
    changes = command_output(
        # Without the lock, the command does not write git's index.
        "git", "--no-optional-locks", "status", "--porcelain", "--", *paths, cwd=PROJECT_ROOT
    )
    return {"commit": commit, "dirty": None if changes is None else bool(changes)}


def _host_fields() -> dict[str, Any]:
    """Returns the fields about processor, memory and storage."""
    sockets, cores = _cpu_topology()
    cpu = _lscpu()
    caches = [f"{level} {cpu[f'{level} cache']}" for level in ("L1d", "L1i", "L2", "L3")
              if f"{level} cache" in cpu]  # fmt: skip
    frequency = cpu.get("CPU max MHz", "")
    return {
        "host_processors_per_node": str(sockets),
        "host_processor_model_name": cpu_model(),
        "host_processor_core_count": str(cores),
        "host_processor_vcpu_count": str(os.cpu_count() or 1),
        "host_processor_frequency": f"{frequency} MHz" if frequency else "",
        "host_processor_caches": ", ".join(caches),
        "host_processor_interconnect": "",
        "host_memory_capacity": _memory_capacity(),
        "host_memory_configuration": "",
        "host_storage_type": "",
        "host_storage_capacity": f"{shutil.disk_usage('/').total / 2**30:.0f} GiB",
        "host_networking": "",
        "host_networking_topology": "",
    }


def _accelerator_fields(found: list[Gpu]) -> dict[str, Any]:
    """Returns the fields about accelerators; "N/A" if there are none."""
    first = found[0] if found else None
    return {
        "accelerators_per_node": str(len(found)),
        "accelerator_model_name": first.name if first else "N/A",
        "accelerator_memory_capacity": first.memory if first else "N/A",
        "accelerator_memory_configuration": "",
        "accelerator_on-chip_memories": "",
        "accelerator_frequency": "",
        "accelerator_host_interconnect": "",
        "accelerator_interconnect": "",
        "accelerator_interconnect_topology": "",
    }


def describe(
    name: str, org: str, division: str, device: str = "auto", results_dir: Path | None = None,
    nodes: int = 1,
) -> dict[str, Any]:  # fmt: skip
    """Describes this machine and its software; does not import TensorFlow.

    Args:
      name: Name of the system, `--system`.
      org: The submitter, `--org`.
      division: "closed" or "open".
      device: The value of `--device`; "cpu" omits GPUs.
      results_dir: Folder of results, which do not count as changes of the source.
      nodes: Number of machines that train together. They must be identical, since this
        machine's description is used for all of them.

    Returns:
      JSON values by field name: the fields of MLPerf's system description and a few more.
    """
    found = [] if device == "cpu" else gpus()
    packages = versions()
    tensorflow = next((p for p in _PACKAGES[:3] if p in packages), None)
    stack = [f"Python {packages['python']}"]
    stack += [f"{p} {packages[p]}" for p in ("keras", "numpy") if p in packages]
    if found:
        stack.append(f"NVIDIA driver {found[0].driver}")
    return {
        "submitter": org,
        "division": division,
        "status": "Available on-premise",
        "system_name": name,
        **_host_fields(),
        "number_of_nodes": str(nodes),
        **_accelerator_fields(found),
        "cooling": "",
        "hw_notes": "",
        "framework": f"{tensorflow} {packages[tensorflow]}" if tensorflow else "unknown",
        "other_software_stack": ", ".join(stack),
        "operating_system": _operating_system(),
        "sw_notes": "",
        "usable_cpus": usable_cpus(),
        "python": {"version": packages["python"], "executable": Path(sys.executable).name},
        "versions": packages,
        "environment": environment(),
        "source": source_state(results_dir),
    }
