"""Builds what pytest-benchmark writes, to be compared and to be broken at will."""

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
    """One process's record of one benchmark."""
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
    """A merged file: benchmark name to the medians of processes 1, 2, ...

    A name in `info` gives that benchmark's `extra_info` beside the number.
    """
    entries = [
        entry(name, value, **({"process": number} if numbered else {}), **info.get(name, {}))
        for name, values in times.items()
        for number, value in enumerate(values, start=1)
    ]
    return {"machine_info": machine, "benchmarks": entries, "version": "5.0"}


def write(path: Path, value: Any) -> Path:
    """The value as JSON (bytes and text as they are) in a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(value, bytes):
        path.write_bytes(value)
    else:
        path.write_text(value if isinstance(value, str) else json.dumps(value))
    return path


def around(seconds: float, processes: int = 5, spread: float = 0.01) -> list[float]:
    """Medians that differ by a little, all of them different."""
    return [seconds * (1 + spread * k / processes) for k in range(processes)]
