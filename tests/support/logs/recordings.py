"""Builds files in the format of pytest-benchmark, for the tests of `regress`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Sequence

MACHINE = {
    "node": "host",
    "machine": "x86_64",
    "system": "Linux",
    "python_implementation": "CPython",
    "python_version": "3.11.7",
    "cpu": {"brand_raw": "Some CPU", "count": 2, "arch": "X86_64"},
}


def entry(name: str, seconds: Any, **extra: Any) -> dict[str, Any]:
    """Returns the entry of one benchmark in one process, with this median in seconds."""
    return {
        "group": None,
        "name": name,
        "fullname": f"tests/benchmarks/test_x.py::{name}",
        "extra_info": extra,
        "stats": {"median": seconds, "rounds": 3, "iqr": 0.0},
    }


def document(
    times: dict[str, Sequence[float]], numbered: bool = True, machine: Any = MACHINE, **info: Any
) -> dict[str, Any]:
    """Returns the content of a merged file.

    Args:
      times: For each benchmark the medians of processes 1, 2, ... in seconds.
      numbered: Whether each entry records the number of its process.
      machine: The description of the machine.
      **info: More `extra_info`, by the name of the benchmark. Benchmarks whose names begin with
        "calibration" are marked as calibrations.
    """
    marks = {name: {"calibration": True} for name in times if name.startswith("calibration")}
    entries = [
        entry(name, value, **({"process": number} if numbered else {}),
              **{**marks.get(name, {}), **info.get(name, {})})
        for name, values in times.items()
        for number, value in enumerate(values, start=1)
    ]
    return {"machine_info": machine, "benchmarks": entries, "version": "5.0"}


def write(path: Path, value: Any) -> Path:
    """Writes the value as JSON, or bytes and text unchanged; returns the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(value, bytes):
        path.write_bytes(value)
    else:
        path.write_text(value if isinstance(value, str) else json.dumps(value))
    return path


def around(seconds: float, processes: int = 5, spread: float = 0.01) -> list[float]:
    """Returns different medians, from `seconds` to `spread` above it."""
    return [seconds * (1 + spread * k / processes) for k in range(processes)]
