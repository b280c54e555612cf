"""What machine and software a set of runs was made on: `system.json`.

The field names are those of MLPerf's system description; what this program cannot
know (cooling, interconnects) is an empty string for the submitter to fill in.
Extra fields carry the environment variables that change speed, library versions,
threads and the state of the source tree.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

from compliance.base import untrusted_files

PROJECT_ROOT = Path(__file__).resolve().parents[2]

_ENVIRONMENT = re.compile(
    r"(XLA_FLAGS|TF_\w+|TF2_\w+|OMP_\w+|KMP_\w+|MKL_\w+|NCCL_\w+|CUDA_\w+|KERAS_\w+"
    r"|ONEDNN_\w+|LD_PRELOAD|MALLOC_\w+|TPU_\w+)"
)
# Terraform's, not TensorFlow's; TF_VAR_* often hold passwords. TF_CONFIG is addresses.
_NOT_OURS = re.compile(
    r"TF_(CONFIG|VAR_\w+|CLI_\w+|TOKEN_\w+|LOG|DATA_DIR|WORKSPACE|INPUT|PLUGIN\w*)"
)
_PACKAGES = (
    "tensorflow", "tensorflow-cpu", "tensorflow-tpu", "keras", "numpy", "pandas",
    "absl-py", "mlperf-logging", "PyYAML", "h5py", "ml_dtypes", "nvidia-cudnn-cu12",
    "neumf-bench",
)  # fmt: skip
_COMMAND_TIMEOUT_S = 20


class Gpu(NamedTuple):
    name: str
    memory: str
    driver: str


def _output(*command: str, cwd: Path | None = None) -> str | None:
    """Standard output of a command; None if it is not there or fails."""
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


def _read(path: str) -> str:
    try:
        return Path(path).read_text(errors="replace")
    except OSError:
        return ""


def gpus() -> list[Gpu]:
    """The NVIDIA GPUs that answer; empty where nvidia-smi is not there or fails."""
    text = _output(
        "nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"
    )
    rows = [line.split(",") for line in (text or "").splitlines()]
    return [Gpu(*(part.strip() for part in row)) for row in rows if len(row) == 3]


def cpu_model() -> str:
    for name in ("model name", "Hardware", "cpu model"):
        found = re.search(rf"^{name}\s*:\s*(.+)$", _read("/proc/cpuinfo"), re.MULTILINE)
        if found:
            return " ".join(found.group(1).split())
    return platform.processor() or platform.machine() or "unknown"


def usable_cpus() -> int:
    """Processors this process may run on (containers may have fewer)."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on every system
        return os.cpu_count() or 1


def default_name(device: str = "auto") -> str:
    """A folder name for this machine: its processor, or its GPUs where used."""
    found = [] if device == "cpu" else gpus()
    if found:
        text = f"{len(found)}x-{found[0].name}"
    else:
        text = f"{cpu_model()}-{usable_cpus()}cpu"
    text = re.sub(r"\((r|tm)\)|\bcpu\b|@.*(?=-)", " ", text.lower())
    return re.sub(r"[^a-z0-9.]+", "-", text).strip("-.")[:48] or "machine"


def _topology() -> tuple[int, int]:
    """(sockets, physical cores) from /proc/cpuinfo; falls back to one socket."""
    pairs = set()
    for block in _read("/proc/cpuinfo").split("\n\n"):
        found = dict(re.findall(r"^(physical id|core id)\s*:\s*(\d+)$", block, re.MULTILINE))
        if len(found) == 2:
            pairs.add((found["physical id"], found["core id"]))
    if not pairs:
        return 1, os.cpu_count() or 1
    return len({socket for socket, _ in pairs}), len(pairs)


def _lscpu() -> dict[str, str]:
    lines = (_output("lscpu") or "").splitlines()
    pairs = (line.split(":", 1) for line in lines if ":" in line)
    return {key.strip(): value.strip() for key, value in pairs}


def _memory() -> str:
    found = re.search(r"MemTotal:\s*(\d+) kB", _read("/proc/meminfo"))
    return f"{int(found.group(1)) / 2**20:.0f} GiB" if found else ""


def _operating_system() -> str:
    found = re.search(r'^PRETTY_NAME="?(.*?)"?$', _read("/etc/os-release"), re.MULTILINE)
    name = found.group(1) if found else platform.system()
    return f"{name}, {platform.system()} {platform.release()}"


def versions() -> dict[str, str]:
    """Installed versions of the libraries that matter, without importing them."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def environment() -> dict[str, str]:
    """The environment variables that change speed, by name."""
    names = (name for name in sorted(os.environ) if _ENVIRONMENT.fullmatch(name))
    return {name: os.environ[name] for name in names if not _NOT_OURS.fullmatch(name)}


def source_state(results_dir: Path | None = None) -> dict[str, Any]:
    """Commit of the source tree and whether it has changes of its own.

    Generated results are no change: neither the ignored ones nor `results_dir`.
    Null where the source is not a git checkout.
    """
    commit = _output("git", "rev-parse", "HEAD", cwd=PROJECT_ROOT)
    top = _output("git", "rev-parse", "--show-toplevel", cwd=PROJECT_ROOT)
    if top is None or Path(top).resolve() != PROJECT_ROOT:
        return {"commit": None, "dirty": None}
    paths = ["."]  # .gitignore leaves out results/ but for results/example_*
    if results_dir is not None and PROJECT_ROOT in Path(results_dir).resolve().parents:
        relative = Path(results_dir).resolve().relative_to(PROJECT_ROOT)
        paths.append(f":!{relative.as_posix()}")
    changes = _output("git", "status", "--porcelain", "--", *paths, cwd=PROJECT_ROOT)
    return {"commit": commit, "dirty": None if changes is None else bool(changes)}


def _host_fields() -> dict[str, Any]:
    sockets, cores = _topology()
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
        "host_memory_capacity": _memory(),
        "host_memory_configuration": "",
        "host_storage_type": "",
        "host_storage_capacity": f"{shutil.disk_usage('/').total / 2**30:.0f} GiB",
        "host_networking": "",
        "host_networking_topology": "",
    }


def _accelerator_fields(found: list[Gpu]) -> dict[str, Any]:
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
    """The system description as JSON values, of this machine and, where there are several
    nodes, of the others too, since all must be alike. Imports no TensorFlow."""
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


def write_json(path: Path, value: Any) -> None:
    """Writes a JSON file so that a reader sees the old one or the new one."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False, sort_keys=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """The same for text; makes the folder if need be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    untrusted_files.write_text(path, text)
